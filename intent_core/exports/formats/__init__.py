"""The formats of an export's rows, one module per format."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from intent_core.exports.annotators import ROW_KEYS, AnswerOrigin, find_annotator
from intent_core.exports.files.json_rows import list_some, refuse_row
from intent_core.exports.formats.alpaca import (
    find_alpaca_answer,
    find_alpaca_utterance,
    is_alpaca_row,
    read_alpaca_row,
)
from intent_core.exports.formats.chat import (
    find_chat_answer,
    find_chat_utterance,
    is_chat_row,
    read_chat_row,
)
from intent_core.exports.formats.doccano import (
    find_doccano_answer,
    find_doccano_origin,
    find_doccano_utterance,
    is_doccano_row,
    read_doccano_row,
)
from intent_core.exports.formats.itag import (
    find_itag_answer,
    find_itag_origin,
    find_itag_utterance,
    is_itag_row,
    read_itag_row,
)
from intent_core.exports.formats.label_studio import (
    find_label_studio_answer,
    find_label_studio_origin,
    find_label_studio_utterance,
    is_label_studio_row,
    read_label_studio_row,
)
from intent_core.exports.formats.predictions import (
    find_predicted_answer,
    find_prompt,
    is_prediction_row,
    read_prediction_row,
)
from intent_core.exports.row_answer import Note, RowAnswer
from intent_core.recipe.config import DataConfig


def _find_row_origin(row: Mapping[str, Any], config: DataConfig) -> AnswerOrigin:
    return AnswerOrigin("", find_annotator(row, ROW_KEYS))


class Format(NamedTuple):
    """A format: how to detect a row of it, and how to read one."""

    name: str
    """As `data.format` names it."""
    detect: Callable[[Mapping[str, Any]], bool]
    """Return whether a row has this format."""
    read: Callable[[Mapping[str, Any], DataConfig, list[Note]], RowAnswer]
    """Read a row and append to the notes. Raises `RowRefused`."""
    find_utterance: Callable[[Mapping[str, Any], DataConfig], object]
    """Return what is to be labelled, whether or not the row has a label. Raises `RowRefused`."""
    find_answer: Callable[[Mapping[str, Any], DataConfig], str]
    """Return the text of an answer that is scored, without repairs. Raises `RowRefused`."""
    find_origin: Callable[[Mapping[str, Any], DataConfig], AnswerOrigin] = _find_row_origin
    """Return who gave the answers, also of a row that is rejected. Raises `RowRefused`."""
    is_prepared: bool = False
    """Whether the rows are from a labelling task, which has its conversations in final form."""


FORMATS = (
    Format(
        "label-studio",
        is_label_studio_row,
        read_label_studio_row,
        find_label_studio_utterance,
        find_label_studio_answer,
        find_label_studio_origin,
        is_prepared=True,
    ),
    Format(
        "itag",
        is_itag_row,
        read_itag_row,
        find_itag_utterance,
        find_itag_answer,
        find_itag_origin,
        is_prepared=True,
    ),
    Format(
        "predictions", is_prediction_row, read_prediction_row, find_prompt, find_predicted_answer
    ),
    Format("alpaca", is_alpaca_row, read_alpaca_row, find_alpaca_utterance, find_alpaca_answer),
    Format("chat", is_chat_row, read_chat_row, find_chat_utterance, find_chat_answer),
    Format(
        "doccano",
        is_doccano_row,
        read_doccano_row,
        find_doccano_utterance,
        find_doccano_answer,
        find_doccano_origin,
    ),
)
"""A row is read with the first format that detects it, unless `data.format` names one."""


_BY_NAME = {known.name: known for known in FORMATS}


def detect_format(row: Mapping[str, Any], config: DataConfig) -> Format:
    """Return the format of a row.

    Args:
        row: one JSON object.
        config: the `data` section of the recipe; `format` names the format, or `auto`.

    Raises:
        RowRefused: the row is not in any of the formats.
    """
    if config.format != "auto":
        return _BY_NAME[config.format]
    if _has_named_keys(row, config):
        return _BY_NAME["alpaca"]
    detected = next((known for known in FORMATS if known.detect(row)), None)
    if detected is None and config.utterance_field in row:
        return _BY_NAME["alpaca"]
    if detected is None:
        refuse_row(
            "no-utterance",
            f"the row has neither 'data' nor 'instruction'; it has {list_some(row) or 'no key'}. "
            "Set data.utterance_field to the key of the utterance, or export the row in a format "
            "that is read",
        )
    return detected


def _has_named_keys(row: Mapping[str, Any], config: DataConfig) -> bool:
    """Whether the keys that the recipe names for utterance and label are the row's own."""
    is_labelled = config.question_title in row or "output" in row
    return is_labelled and config.utterance_field in row and not isinstance(row.get("data"), dict)

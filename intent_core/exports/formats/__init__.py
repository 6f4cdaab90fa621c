"""The formats of an export's rows, one module per format."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from intent_core.exports.formats.alpaca import is_alpaca_row, read_alpaca_row
from intent_core.exports.formats.itag import is_itag_row, read_itag_row
from intent_core.exports.row_answer import Note, RowAnswer
from intent_core.recipe.config import DataConfig


class Format(NamedTuple):
    """A format: how to detect a row of it, and how to read one."""

    name: str
    detect: Callable[[Mapping[str, Any]], bool]
    """Return whether a row has this format."""
    read: Callable[[Mapping[str, Any], DataConfig, list[Note]], RowAnswer]
    """Read a row and append to the notes. Raises `RowRefused`."""


FORMATS = (
    Format("itag", is_itag_row, read_itag_row),
    Format("alpaca", is_alpaca_row, read_alpaca_row),
)
"""A row is read with the first format that detects it; if none does, with the first format."""

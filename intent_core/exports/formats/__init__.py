"""The formats of an export's rows: one table, one module for each."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from intent_core.exports.formats.alpaca import is_alpaca_row, read_alpaca_row
from intent_core.exports.formats.itag import is_itag_row, read_itag_row
from intent_core.exports.row_answer import Note, RowAnswer
from intent_core.recipe.config import DataConfig


class Format(NamedTuple):
    """How a JSON object of some format is told from others, and read."""

    name: str
    detect: Callable[[Mapping[str, Any]], bool]
    """Whether a row is of this format."""
    read: Callable[[Mapping[str, Any], DataConfig, list[Note]], RowAnswer]
    """Read a row, and add to the notes. Raises `RowRefused`."""


FORMATS = (
    Format("itag", is_itag_row, read_itag_row),
    Format("alpaca", is_alpaca_row, read_alpaca_row),
)
"""Each row is read by the first that detects it; by the first of all where none does."""

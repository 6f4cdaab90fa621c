"""JSON values out of a stream of text: an array, or values one after the other, in little memory.

Reads arrays (several, where files were joined) and pretty-printed values. The text held at a time
is bounded by the longest value, and by `MAX_LINE_BYTES`. A value that cannot be parsed becomes a
fault, and reading continues where the next one starts.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO

from intent_core.exports.files.blocks import MAX_LINE_BYTES
from intent_core.exports.files.json_rows import (
    EXPORT_AGAIN,
    MAX_RAW,
    TOO_DEEP,
    ObjectSeeker,
    Row,
    RowFault,
    Slips,
    decode_value,
    may_be_cut,
)

_CHUNK_BYTES = 1 << 17
_BLANKS = re.compile(r"[ \t\r\n\ufeff\u2028\u2029]*")


class _Window:
    """The part of a stream that is being read; positions count from its start."""

    def __init__(self, file: IO[bytes], line: int = 1, offset: int = 0) -> None:
        self.text = ""
        self.at_end = False
        self.num_dropped = 0
        self._file = file
        self._ends_with_cr: bool | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._line, self._offset, self._position = line, offset, 0

    def fill(self, num_bytes: int = _CHUNK_BYTES) -> None:
        """Append some bytes of the stream."""
        content = self._file.read(num_bytes)
        self.at_end = not content
        text = self._decoder.decode(content, final=self.at_end)
        if self._ends_with_cr is None and ("\n" in text or "\r" in text):
            self._ends_with_cr = "\n" not in text
        self.text += text.replace("\r", "\n") if self._ends_with_cr else text

    def skip_blanks(self, position: int) -> int:
        """Return where the next character that is not blank is, or the end of the stream."""
        if "\x20" < self.text[position : position + 1] < "\x7f":
            return position
        while True:
            match = _BLANKS.match(self.text, position)
            position = match.end() if match else position
            if position < len(self.text) or self.at_end:
                return position
            self.fill()

    def locate(self, position: int) -> tuple[int, int]:
        """Return line and byte offset of a position that only moves forward."""
        passed = self.text[self._position : position]
        self._line += passed.count("\n")
        is_ascii = passed.isascii()
        self._offset += len(passed if is_ascii else passed.encode("utf-8", "surrogateescape"))
        self._position = position
        return self._line, self._offset

    def drop(self, position: int) -> int:
        """Forget the text before a position, if it is much; return the position's new value."""
        # Half of the text at least, so that the rest is not copied again and again.
        if position < max(_CHUNK_BYTES, len(self.text) // 2):
            return position
        self.locate(position)
        self.text = self.text[position:]
        self.num_dropped += position
        self._position = 0
        return 0


def iter_values(file: IO[bytes], *, is_array: bool) -> Iterator[Row]:
    """Read the values of an array, or of a sequence of values.

    Args:
        file: the stream, at its start.
        is_array: whether the values are in an array: then commas and brackets are expected.
    """
    text = _Window(file)
    position = text.skip_blanks(0)
    if is_array:
        position = text.skip_blanks(text.text.index("[") + 1)
    slips: Slips = ()
    while position < len(text.text):
        if is_array and text.text[position] in "[]":
            # The end; what follows is another array, where files were joined.
            slips = (("several-objects", "follows the end of an array"),)
            position = text.skip_blanks(position + 1)
            continue
        row, position = _read_value(text, position, slips)
        slips = ()
        if row.fault is None and is_array:
            position, more = _read_separator(text, position)
            row = row._replace(slips=(*row.slips, *more)) if more else row
        elif row.fault is None:
            position = text.skip_blanks(position)
        yield row
        position = text.drop(position)


def _read_value(text: _Window, start: int, slips: Slips) -> tuple[Row, int]:
    """One value and where it ends, or a fault and where the next value starts."""
    line, offset = text.locate(start)
    while True:
        try:
            value, end, repeats = decode_value(text.text, start)
        except json.JSONDecodeError as error:
            is_open = may_be_cut(error) and not text.at_end
            length = len(text.text) - start
            if is_open and length < MAX_LINE_BYTES:
                # As much again: parsing from the start costs twice the value at most.
                text.fill(min(max(_CHUNK_BYTES, length), MAX_LINE_BYTES - length))
                continue
            fault = _fault(error, text, is_open)
        except RecursionError:
            fault = RowFault("not-json", TOO_DEEP)
        else:
            if end == len(text.text) and not text.at_end and not isinstance(value, dict):
                text.fill()  # a number may continue
                continue
            raw = text.text[start : min(end, start + MAX_RAW)]
            return Row(line, offset, raw, value, slips=slips, repeats=repeats), end
        raw = text.text[start : start + MAX_RAW]
        before = text.num_dropped + start
        end = _find_next(text, start)
        return Row(line, offset, raw[: text.num_dropped + end - before], fault=fault), end


def _read_separator(text: _Window, position: int) -> tuple[int, Slips]:
    position = text.skip_blanks(position)
    sign = text.text[position : position + 1]
    if sign == ",":
        position = text.skip_blanks(position + 1)
        if text.text.startswith("]", position):
            return position, (("trailing-comma", "a comma follows the array's last row"),)
    elif sign != "]":
        return position, (("missing-comma", "no comma or ']' follows this row"),)
    return position, ()


def _find_next(text: _Window, start: int) -> int:
    """Where the next value after a broken one starts; the end of the text if there is none."""
    seeker = ObjectSeeker(text.text[start])
    searched = start + 1
    while True:
        position = seeker.find(text.text, searched)
        if position >= 0:
            return position
        searched = text.drop(len(text.text))
        if text.at_end:
            return searched
        text.fill()


def _fault(error: json.JSONDecodeError, text: _Window, is_open: bool) -> RowFault:
    if is_open:
        message = f"the row is longer than {MAX_LINE_BYTES >> 20} MiB: shorten it"
        return RowFault("too-long", message)
    is_cut = error.msg.startswith("Unterminated string") or error.pos >= len(error.doc.rstrip()) - 1
    if text.at_end and is_cut:
        message = f"the file ends inside this row ({error.msg}): export or download it again"
        return RowFault("truncated", message)
    return RowFault("not-json", f"the row is not valid JSON: {error.msg}; {EXPORT_AGAIN}")

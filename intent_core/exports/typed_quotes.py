"""Labels with the quotes that keyboards and word processors type, rewritten with plain ones.

`play_music(“你好，再见”)` means `play_music("你好，再见")`: one value, and the comma in it is not a
separator. A value that only starts with such a character (`'Til I Die`) is left as it is.
"""

import functools
import re

from intent_core.errors import CallSyntaxError

_PAIRS = dict(zip("“‘「『《〈〝„‚«‹﹁﹃❝❛", "”’」』》〉〞“‘»›﹂﹄❞❜", strict=True))
# People also type the opening quote twice, or one of the two as a plain one.
_CLOSERS = _PAIRS | {
    "“": '”“"＂',
    "”": "”",
    "„": '“”"',
    "＂": '＂"',
    "〝": "〞〟",
    "‘": "’‘'",
    "’": "’",
    "‚": "‘’'",
    "'": "'’",
    "＇": "＇'",
    "`": "`´'",
    "´": "´",
    '\\"': '\\"',
}
# One of these alone is an apostrophe, or a mark of feet and inches.
_ALSO_ALONE = frozenset("‘‚❛")
_MAY_BE_TYPED = re.compile(
    rf"""[{"".join({*_PAIRS, *"”’＂＇´＝"})}]|[(（,，=]\s*['`]|\\"|\s"[^"]*[,，;；]"""
)
_INTENT = re.compile(r"[^(（]*[(（]")
_SLOT = re.compile(r"(\s*[^\W\d][\w.\-]*\s*)([=＝])")
_QUOTED = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"\s*(?=[,，)）;；]|$)', re.DOTALL)
_BLANKS = re.compile(r"\s*")
_HALF_PLAIN = re.compile(r'"(?P<inner>[^"“”＂]*)[”＂“]\s*(?=[,，)）]|$)')
_INNER_QUOTE = re.compile(r'(?<=\s)"[^"]*"(?=[\s,，)）]|$)')
_STOP = re.compile(rf'[,，;；()（）"{"".join(_PAIRS)}]')
_APOSTROPHE = re.compile(r"(?<=[^\W\d_])’(?=[^\W\d_])")
_SYNTAX = re.compile(r"[,，;；()（）]")
_CLOSING = {"(": ")", "（": "）"}


def may_have_typed_quotes(text: str) -> bool:
    """Return False, fast, for a label that certainly has no typed quote.

    Args:
        text: the label as the annotator typed it.
    """
    return _MAY_BE_TYPED.search(text) is not None


def rewrite_typed_quotes(text: str) -> str:
    """Replace typed quotes around values by plain ones, and a full-width equals sign by `=`.

    Args:
        text: the label as the annotator typed it.

    Returns:
        The same text if nothing in it is to be read as a quote.

    Raises:
        CallSyntaxError: a quote is opened before a comma and never closed.
    """
    return _Rewriter(text).rewrite() if may_have_typed_quotes(text) else text


class _Rewriter:
    """Copies a label to `_parts`; a position in the text advances."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._parts: list[str] = []
        self._closed_at = _match_pairs(text)
        self._never_closed: set[str] = set()

    def rewrite(self) -> str:
        position = 0
        while head := _INTENT.match(self._text, position):
            self._parts.append(head[0])
            position = self._copy_arguments(head.end())
        self._parts.append(self._text[position:])
        return "".join(self._parts)

    def _copy_arguments(self, position: int) -> int:
        """Copy the arguments of one call, up to and with the parenthesis that closes it."""
        while position < len(self._text):
            slot = _SLOT.match(self._text, position)
            if slot:
                self._parts.append(f"{slot[1]}=")
                position = slot.end()
            position = self._copy_value(position)
            sign = self._text[position : position + 1]
            self._parts.append(sign)
            position += 1
            if sign not in (",", "，"):
                break
        return min(position, len(self._text))

    def _copy_value(self, position: int) -> int:
        """Copy one value; return where the separator after it is."""
        start = _skip_blanks(self._text, position)
        self._parts.append(self._text[position:start])
        if plain := _QUOTED.match(self._text, start):
            self._parts.append(plain[0])
            return plain.end()
        opener = '\\"' if self._text.startswith('\\"', start) else self._text[start : start + 1]
        closer = self._find_closer(start, opener)
        if closer is None:
            return self._copy_plain(start)
        inner = self._text[start + len(opener) : closer]
        self._parts.append(_quote(inner))
        return _skip_blanks(self._text, closer + len(opener))

    def _find_closer(self, start: int, opener: str) -> int | None:
        """Where the quote that opens at `start` closes, if nothing but a separator follows."""
        partner = self._closed_at.get(start)
        if partner is not None:
            return partner if _ends_value(opener).match(self._text, partner) else None
        if opener == '"':
            half = _HALF_PLAIN.match(self._text, start)
            return half.end("inner") if half else None
        if opener not in _CLOSERS or opener in self._never_closed:
            return None
        match = _ends_value(opener).search(self._text, start + len(opener))
        if match is None:
            # Nor is any later one: without this, a long label takes time for each pair of quotes.
            self._never_closed.add(opener)
        return match.start() if match else None

    def _copy_plain(self, start: int) -> int:
        """Copy a value without quotes around it; commas between quotes in it belong to it."""
        open_brackets: list[str] = []
        position, needs_quotes, unclosed = start, False, ""
        while stop := _STOP.search(self._text, position):
            position, sign = stop.start(), stop[0]
            end = self._find_inner_end(position)
            if end is not None:
                inner = self._text[position + 1 : end]
                needs_quotes = needs_quotes or _SYNTAX.search(inner) is not None
                position = end + 1
                continue
            if not open_brackets and sign in ",，)）;；":
                break
            if sign in _CLOSING:
                open_brackets.append(_CLOSING[sign])
            elif open_brackets and sign == open_brackets[-1]:
                open_brackets.pop()
            elif sign in _PAIRS and sign not in _ALSO_ALONE:
                unclosed = unclosed or sign
            position += 1
        else:
            position = len(self._text)
        if unclosed and self._text[position : position + 1] in (",", "，"):
            raise CallSyntaxError(
                f"column {position + 1}: expected a closing {_PAIRS[unclosed]!r} for the quote "
                f"{unclosed!r} before this comma: close it, or remove it"
            )
        value = self._text[start:position]
        self._parts.append(_quote(value.strip()) if needs_quotes else value)
        return position

    def _find_inner_end(self, position: int) -> int | None:
        """Where the quote within a value that opens here closes."""
        if self._text[position] == '"':
            match = _INNER_QUOTE.match(self._text, position)
            return match.end() - 1 if match else None
        return self._closed_at.get(position)


def _match_pairs(text: str) -> dict[int, int]:
    """Where each quote that has an own closing sign closes, with those inside it closed first."""
    closed_at: dict[int, int] = {}
    pending: dict[str, list[int]] = {}
    for position, sign in enumerate(text):
        if sign == "’" and _APOSTROPHE.match(text, position):
            continue
        if pending.get(sign):
            closed_at[pending[sign].pop()] = position
        elif sign in _PAIRS:
            pending.setdefault(_PAIRS[sign], []).append(position)
    return closed_at


@functools.cache
def _ends_value(opener: str) -> re.Pattern[str]:
    closers = _CLOSERS[opener]
    closer = re.escape(closers) if len(opener) > 1 else f"[{re.escape(closers)}]"
    return re.compile(rf"{closer}\s*(?=[,，)）]|$)")


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _skip_blanks(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    return blanks.end() if blanks else position

"""Labels with the quotes that keyboards and word processors type, rewritten with plain ones.

`play_music(“你好，再见”)` means `play_music("你好，再见")`: one value, and the comma in it is not a
separator. A value that only starts with such a character (`'Til I Die`) is left as it is.
"""

import re

# By opening quote: the characters that close it. People also type the opening one twice.
_CLOSERS = {
    "“": '”“"＂',
    "”": "”",
    "‘": "’‘'",
    "’": "’",
    "'": "'’",
    "＂": '＂"',
    "「": "」",
    "『": "』",
    "《": "》",
}
_PAIRS = {"“": "”", "‘": "’", "「": "」", "『": "』", "《": "》"}
_MAY_BE_TYPED = re.compile(r"[“”‘’＂「『《＝]|[(（,，=]\s*'")
_INTENT = re.compile(r"[^(（]*[(（]")
_SLOT = re.compile(r"\s*([^\W\d][\w.\-]*)\s*([=＝])\s*")
_QUOTED = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BLANKS = re.compile(r"\s*")
_SEPARATORS = ",，)）"
_STOP = re.compile(r"[,，;；()（）“‘「『《]")
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
    """
    if not may_have_typed_quotes(text):
        return text
    parts: list[str] = []
    position = 0
    while head := _INTENT.match(text, position):
        parts.append(head[0])
        position = _read_arguments(text, head.end(), parts)
    parts.append(text[position:])
    return "".join(parts)


def _read_arguments(text: str, position: int, parts: list[str]) -> int:
    """Copy the arguments of one call, up to and with the parenthesis that closes it."""
    while position < len(text):
        slot = _SLOT.match(text, position)
        if slot:
            parts.append(f"{slot[1]}=")
            position = slot.end()
        position = _read_value(text, position, parts)
        sign = text[position : position + 1]
        parts.append(sign)
        position += 1
        if sign not in (",", "，"):
            break
    return min(position, len(text))


def _read_value(text: str, position: int, parts: list[str]) -> int:
    """Copy one value; return where the separator after it is."""
    blanks = _BLANKS.match(text, position)
    start = blanks.end() if blanks else position
    plain = _QUOTED.match(text, start)
    if plain:
        parts.append(text[position : plain.end()])
        return _skip_blanks(text, plain.end())
    end = _find_closer(text, start)
    if end is not None:
        parts.append(_quote(text[start + 1 : end]))
        return _skip_blanks(text, end + 1)
    return _read_plain(text, start, parts)


def _find_closer(text: str, start: int) -> int | None:
    """Where the quote that opens at `start` closes, if nothing but a separator follows."""
    closers = _CLOSERS.get(text[start : start + 1], "")
    for position in range(start + 1, len(text)) if closers else ():
        if text[position] in closers:
            following = _skip_blanks(text, position + 1)
            if text[following : following + 1] in tuple(_SEPARATORS):
                return position
    return None


def _read_plain(text: str, start: int, parts: list[str]) -> int:
    """Copy a value without quotes around it; commas between a pair of quotes in it belong to it."""
    open_brackets: list[str] = []
    position, needs_quotes = start, False
    while stop := _STOP.search(text, position):
        position = stop.start()
        sign = stop[0]
        if sign in _PAIRS:
            end = text.find(_PAIRS[sign], position + 1)
            inner = text[position + 1 : max(end, 0)]
            needs_quotes = needs_quotes or bool(_SYNTAX.search(inner))
            position = max(end, position) + 1
        elif not open_brackets and sign in ",，)）;；":
            break
        else:
            if sign in _CLOSING:
                open_brackets.append(_CLOSING[sign])
            elif open_brackets and sign == open_brackets[-1]:
                open_brackets.pop()
            position += 1
    else:
        position = len(text)
    value = text[start:position]
    parts.append(_quote(value.strip()) if needs_quotes else value)
    return position


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _skip_blanks(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    return blanks.end() if blanks else position

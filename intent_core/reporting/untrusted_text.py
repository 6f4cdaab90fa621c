"""Prepares untrusted text for the page: visible, shortened, compared with the expected text.

The template escapes HTML. This module handles the rest: control characters and marks that change
the reading direction are shown as symbols, so that the page shows the same text as the model saw.
"""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

LONGEST_SHOWN = 200
LONGEST_COMPARED = 600
ROOM = 1_500_000
"""Maximum characters of long texts on one page; after that, only their beginnings are shown."""

_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069"
    "\ud800-\udfff\ufeff\ufffe\uffff]"
)
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA_OR_HANGUL = re.compile("[\u3040-\u30ff\uac00-\ud7af]")
# A word, or one character of a script that does not separate words by spaces.
_TOKEN = re.compile("[\u3040-\u30ff\u3400-\u9fff]|[^\\W\u3040-\u30ff\u3400-\u9fff]+|\\W")


@dataclass(frozen=True)
class TextPart:
    """A piece of a text, and whether it differs from the text it is compared with."""

    text: str
    differs: bool


@dataclass(frozen=True)
class Text:
    """A text for the page; if it is long, `parts` have its beginning and `whole` the full text."""

    parts: tuple[TextPart, ...]
    whole: str = ""
    num_left_out: int = 0
    """Number of characters that are missing even in `whole`."""
    language: str = ""


class Texts:
    """Prepares the texts of one page, which share a limit for long texts."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room

    def show(self, text: str, other: str | None = None) -> Text:
        """Return the text with the differences to `other` marked; long texts are shortened.

        A long text is also kept in full while the page's limit allows it.
        """
        language = name_language(text)
        if len(text) <= LONGEST_SHOWN:
            return Text(_compare(text, other), language=language)
        whole = text[: self._room]
        self._room -= len(whole)
        return Text(
            (TextPart(shorten(text, LONGEST_SHOWN), False),),
            whole,
            len(text) - len(whole),
            language,
        )


def visible(text: str) -> str:
    """Replace invisible characters by symbols, except tabs and newlines."""
    return _UNSEEN.sub(_symbol, text.replace("\r\n", "\n").replace("\r", "\n"))


def shorten(text: str, longest: int) -> str:
    """Return at most `longest` characters, with an ellipsis at the end if some are omitted."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def name_language(text: str) -> str:
    """Return `zh` for Chinese, which selects glyphs and line breaking in browsers; else ""."""
    start = text[:LONGEST_SHOWN]
    return "zh" if _HAN.search(start) and not _KANA_OR_HANGUL.search(start) else ""


def _symbol(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"⟨U+{code:04X}⟩"


def _compare(text: str, other: str | None) -> tuple[TextPart, ...]:
    if not text:
        return ()
    if other is None or text == other or len(other) > LONGEST_COMPARED:
        return (TextPart(text, False),)
    mine, theirs = _TOKEN.findall(text), _TOKEN.findall(other)
    matcher = SequenceMatcher(None, theirs, mine, autojunk=False)
    return tuple(
        TextPart("".join(mine[start:end]), kind != "equal")
        for kind, _, _, start, end in matcher.get_opcodes()
        if end > start
    )

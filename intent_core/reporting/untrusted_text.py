"""Foreign text on a page: made visible, shortened, and compared with what was expected.

Escaping is the template's work. Here is what escaping leaves: a control character, or a mark that
turns the reading direction, shows as a symbol, so that nobody is shown another text than the
model saw.
"""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

LONGEST_SHOWN = 200
LONGEST_COMPARED = 600
ROOM = 1_500_000
"""Characters of long texts that one page holds; beyond, only their beginnings."""

_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069"
    "\ud800-\udfff\ufeff\ufffe\uffff]"
)
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA_OR_HANGUL = re.compile("[\u3040-\u30ff\uac00-\ud7af]")
# A word, or one character of a script without blanks between words.
_TOKEN = re.compile("[\u3040-\u30ff\u3400-\u9fff]|[^\\W\u3040-\u30ff\u3400-\u9fff]+|\\W")


@dataclass(frozen=True)
class TextPart:
    """A piece of a text, and whether it differs from the text it is compared with."""

    text: str
    differs: bool


@dataclass(frozen=True)
class Text:
    """A text as the page shows it, in no part when empty; `whole` where `parts` begin it only."""

    parts: tuple[TextPart, ...]
    whole: str = ""
    num_left_out: int = 0
    """Characters that not even `whole` has."""
    language: str = ""


class Texts:
    """The texts of one page, which share its room."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room

    def show(self, text: str, other: str | None = None) -> Text:
        """The text, what differs from `other` marked; shortened, whole while there is room."""
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
    """The text with symbols for what cannot be seen; tabs and line ends stay."""
    return _UNSEEN.sub(_symbol, text.replace("\r\n", "\n").replace("\r", "\n"))


def shorten(text: str, longest: int) -> str:
    """At most so many characters, the last of them an ellipsis where some are missing."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def name_language(text: str) -> str:
    """`zh` for Chinese, by which a browser chooses glyphs and line ends; else nothing."""
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

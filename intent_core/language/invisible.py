"""Characters that print nothing: found, named, and removed where they carry no meaning.

A zero-width space in a label makes a second intent that looks like the first. The characters are
those of Unicode's property Default_Ignorable_Code_Point (UAX #44, DerivedCoreProperties.txt),
without the unassigned ones, the marks of interlinear annotations, and the blank of Braille. Kept
are those that change what a reader sees: joiners and variation selectors in emoji, the non-joiner
between Arabic letters (Persian), joiners at an Indic virama, tags that follow the black flag.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

# All but U+00AD are outside ASCII, and U+00AD is outside ASCII too: `isascii` decides first.
_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_INVISIBLE = re.compile(f"[{_IGNORABLE}]")
_NOT_CONTROL = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# What an emoji is drawn from: pictographs, their skin tones, keycap bases and regional letters.
_EMOJI = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf"
    "\u2934\u2935\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)
_ARABIC = "\u0620-\u06ff\u0750-\u077f\u08a0-\u08ff"
_VIRAMA = "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca"
_MEANINGFUL = re.compile(
    # An emoji's presentation, and the joiner between two.
    rf"(?<=[{_EMOJI}])[\ufe0e\ufe0f]|(?<=[0-9#*])\ufe0f(?=\u20e3)"
    rf"|(?:(?<=[{_EMOJI}])|(?<=[{_EMOJI}]\ufe0f))\u200d(?=[{_EMOJI}])"
    # Subdivision flags: tags after the black flag.
    "|(?<=\U0001f3f4)[\U000e0020-\U000e007e]+\U000e007f"
    # Arabic script: Persian's plural and verbal forms; a letter in the form of a word's start.
    rf"|(?<=[{_ARABIC}])\u200c(?=[{_ARABIC}])|(?<=[{_ARABIC}])\u200d"
    # Indic scripts: how the letters around a virama are joined.
    rf"|(?<=[{_VIRAMA}])[\u200c\u200d]|(?<=[\u0900-\u0dff])\u200d(?=[{_VIRAMA}])"
    # Han: a registered variant of the character before.
    "|(?<=[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])[\U000e0100-\U000e01ef]"
    # Mongolian: the variant of the letter before, and the vowel separator.
    "|(?<=[\u1820-\u18aa])[\u180b-\u180f]"
)
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_NAMES = {"\u180e": "MONGOLIAN VOWEL SEPARATOR"}


def may_have_invisible(text: str) -> bool:
    """Return False, fast, for a text that certainly has no invisible character.

    Args:
        text: any text.
    """
    return not (text.isascii() or (text.isprintable() and not _NOT_CONTROL.search(text)))


def strip_invisible(text: str) -> str:
    """Remove the invisible characters that carry no meaning.

    Args:
        text: any text.
    """
    return replace_invisible(text, lambda character: "")


def replace_invisible(text: str, replace: Callable[[str], str]) -> str:
    """Replace the invisible characters that carry no meaning.

    Args:
        text: any text.
        replace: gives the replacement of a character.
    """
    if not may_have_invisible(text) or not _INVISIBLE.search(text):
        return text
    kept = _find_meaningful(text)
    return _INVISIBLE.sub(
        lambda match: match[0] if match.start() in kept else replace(match[0]), text
    )


def fold_invisible(text: str) -> str:
    """Remove what `strip_invisible` removes, and variation selectors, for a comparison.

    Args:
        text: any text.
    """
    visible = strip_invisible(text)
    return visible if visible.isascii() else _SELECTORS.sub("", visible)


def fold_keys(fields: dict[str, Any]) -> dict[str, Any]:
    """Return an object with keys without invisible characters; unchanged if two would be equal.

    Args:
        fields: a JSON object.
    """
    if not any(map(may_have_invisible, fields)):
        return fields
    folded = {strip_invisible(key): value for key, value in fields.items()}
    return folded if len(folded) == len(fields) else fields


def find_invisible(text: str) -> str:
    """Return the characters that `strip_invisible` removes.

    Args:
        text: any text.
    """
    return "".join(_iter_meaningless(text))


def list_invisible(text: str) -> list[str]:
    """List what `strip_invisible` removes, such as `U+200B ZERO WIDTH SPACE`.

    Args:
        text: any text.

    Returns:
        Each character once, in order of appearance.
    """
    return list(dict.fromkeys(map(name_character, _iter_meaningless(text))))


def _find_meaningful(text: str) -> set[int]:
    return {position for match in _MEANINGFUL.finditer(text) for position in range(*match.span())}


def _iter_meaningless(text: str) -> Iterator[str]:
    if not may_have_invisible(text):
        return
    kept = _find_meaningful(text)
    for match in _INVISIBLE.finditer(text):
        if match.start() not in kept:
            yield match[0]


def name_character(character: str) -> str:
    """Name a character by its code point, as `U+200B ZERO WIDTH SPACE`.

    Args:
        character: one character.
    """
    name = unicodedata.name(character, _NAMES.get(character, ""))
    return f"U+{ord(character):04X} {name}".rstrip()

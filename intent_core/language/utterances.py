"""Normalised utterances, and ids derived from texts."""

import hashlib
import unicodedata
from functools import lru_cache

from intent_core.language.invisible import fold_invisible


def normalise_utterance(utterance: str) -> str:
    """Return an utterance without differences in width, case, whitespace and invisible characters.

    Width and case are folded by NFKC and casefold. Joiners that carry meaning are kept.

    Args:
        utterance: any text; equal results mean the same utterance.
    """
    if utterance.isascii():
        return " ".join(utterance.lower().split())
    # Twice: of what NFKC and casefold write, more can be folded.
    for _ in range(2):
        utterance = fold_invisible(unicodedata.normalize("NFKC", utterance)).casefold()
    return " ".join(unicodedata.normalize("NFKC", utterance).split())


@lru_cache(maxsize=1 << 14)
def squeeze_utterance(utterance: str) -> str:
    """Return a normalised utterance or value without any whitespace.

    Args:
        utterance: any text.
    """
    return normalise_utterance(utterance).replace(" ", "")


def fold_letters(text: str) -> str:
    """Return the normalised letters and digits of a name or value; of signs alone, the signs.

    Args:
        text: any text; equal results differ in width, case, spaces or signs at most.
    """
    folded = normalise_utterance(text)
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LNM") or folded


def normalise_as_typed(utterance: str) -> str:
    """Return an utterance as `normalise_utterance` did before it folded invisible characters.

    Args:
        utterance: any text.
    """
    folded = unicodedata.normalize("NFKC", utterance).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def hash_text(*parts: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of some texts.

    Args:
        parts: the texts, in order.
    """
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

"""When two utterances are the same one, and the names that follow from texts."""

import hashlib
import unicodedata


def normalise_utterance(utterance: str) -> str:
    """What two spellings of one utterance have in common: width, case and blanks are dropped."""
    folded = unicodedata.normalize("NFKC", utterance).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def hash_text(*parts: str) -> str:
    """Sixteen hex digits that name some texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

"""The vocabularies of the served models, which callers can read: intents, slots and values."""

import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from intent_core.language.vocabulary import Vocabulary
from intent_core.language.vocabulary_copy import COPY_FILE

FindVocabulary = Callable[[], Vocabulary | None]

logger = logging.getLogger(__name__)


class Vocabularies:
    """The vocabulary of each model in a folder with a folder per model.

    The name of a model identifies its content, so each vocabulary is read once.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def find(self, model: str) -> Vocabulary | None:
        """Return the vocabulary of a model; None if it is not known."""
        if self._folder is None:
            return None
        try:
            return _read(self._folder / model / COPY_FILE)
        except FileNotFoundError:
            return None  # a model of an earlier version, or a base model
        except (OSError, ValidationError) as error:
            logger.error("cannot read the vocabulary of %s: %s", model, type(error).__name__)
            return None


@lru_cache(maxsize=8)
def _read(path: Path) -> Vocabulary:
    return Vocabulary.model_validate_json(path.read_bytes())

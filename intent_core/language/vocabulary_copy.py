"""The copy of the label vocabulary in a dataset and in a model, as JSON.

It is part of the fingerprint of both, so equal vocabularies give equal bytes. A model whose recipe
has no vocabulary has the intents of its dataset instead. This module is imported inside vLLM too.
"""

from collections.abc import Iterable

from intent_core.language.intent_schema import IntentSchema
from intent_core.language.vocabulary import IntentEntry, SlotEntry, Vocabulary

COPY_FILE = "intents.json"


def write_copy(vocabulary: Vocabulary) -> bytes:
    """Return the content of the file; defaults are left out, so that new keys do not change it.

    Args:
        vocabulary: the label vocabulary.
    """
    text = vocabulary.model_dump_json(indent=1, exclude_defaults=True)
    return f"{text}\n".encode()


def list_vocabulary(schemas: Iterable[IntentSchema]) -> Vocabulary | None:
    """Return the vocabulary that labels imply: their intents, and the slots that they name.

    Args:
        schemas: the intent schema of a dataset; None is returned if it has no intents.
    """
    intents = {
        schema.intent: IntentEntry(slots=tuple(SlotEntry(name=name) for name in schema.slot_names))
        for schema in schemas
    }
    return Vocabulary(intents=intents) if intents else None

"""The label vocabulary: the intents of a project, their slots, and the values these can have.

The file is described in docs/en/labelled-data.md; `recipe/vocabulary_file.py` reads it. This
module is imported inside vLLM too.
"""

from collections import Counter
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from intent_core.language.calls import check_intent_name, check_slot_name
from intent_core.language.utterances import fold_letters

SlotType = Literal["text", "number", "date", "one_of"]


_IntentName = Annotated[str, AfterValidator(check_intent_name)]
_SlotName = Annotated[str, AfterValidator(check_slot_name)]


class _VocabularyPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, tree: Any) -> Any:
        """A key without a value (`slots:`) means the default; an entry may be empty as a whole."""
        if tree is None:
            return {}
        if not isinstance(tree, dict):
            return tree
        return {k: v for k, v in tree.items() if v is not None or k not in cls.model_fields}


class SlotEntry(_VocabularyPart):
    """One slot of an intent."""

    name: _SlotName
    description: str = ""
    type: SlotType = "text"
    values: dict[str, tuple[str, ...]] = {}
    """The synonyms of each value. For `one_of` these are all the values there are."""
    examples: tuple[str, ...] = ()

    @field_validator("values", mode="before")
    @classmethod
    def _read_values(cls, values: Any) -> Any:
        if isinstance(values, list):
            return dict.fromkeys(_check_unique(values), ())
        if isinstance(values, dict):
            return {value: () if known is None else known for value, known in values.items()}
        return values

    @model_validator(mode="after")
    def _values_suit_the_type(self) -> Self:
        if self.type == "one_of" and not self.values:
            raise ValueError("one_of needs values: list them in `values`, or use type text")
        if self.type in ("number", "date") and self.values:
            raise ValueError(f"{self.type} takes no values: remove them, or use type one_of")
        spellings = Counter(s for v, known in self.values.items() for s in {v, *known})
        shared = [spelling for spelling, count in spellings.items() if count > 1]
        if shared:
            raise ValueError(f"{shared[0]!r} represents more than one value: keep it in one place")
        return self

    @cached_property
    def spellings(self) -> dict[str, str]:
        """The value of each spelling: the values themselves, and their synonyms."""
        return {s: value for value, known in self.values.items() for s in (value, *known)}

    @cached_property
    def folded_spellings(self) -> dict[str, str]:
        """The value of each spelling without differences in width, case, spaces and signs."""
        return {fold_letters(spelling): value for spelling, value in self.spellings.items()}


class IntentEntry(_VocabularyPart):
    """One intent of the vocabulary."""

    description: str = ""
    order: Literal["appearance", "fixed"] = "appearance"
    """`fixed`: the first value belongs to the first slot, and so on. Else values are in the order
    of the utterance."""
    examples: tuple[str, ...] = ()
    slots: tuple[SlotEntry, ...] = ()

    @field_validator("slots")
    @classmethod
    def _slot_names_differ(cls, slots: tuple[SlotEntry, ...]) -> tuple[SlotEntry, ...]:
        _check_unique([slot.name for slot in slots])
        return slots


class Vocabulary(_VocabularyPart):
    """The intents of a project by name."""

    intents: dict[_IntentName, IntentEntry] = Field(min_length=1)


def _check_unique(names: list[Any]) -> list[Any]:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"{name!r} occurs twice: keep one")
    return names

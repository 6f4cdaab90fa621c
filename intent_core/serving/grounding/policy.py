"""What the labels of a training split allow an answer to say: intents, arguments, values."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

from pydantic import BaseModel, ConfigDict

from intent_core.language.calls import Argument, Call
from intent_core.language.vocabulary import IntentEntry, Vocabulary
from intent_core.serving.grounding.spans import (
    Bounds,
    SpanReader,
    find_words,
    list_occurrences,
)

POLICY_FILE = "grounding.json"

_LEAST_COPIED = 0.999
"""Share of copied values from which answers are grounded. Grounding corrects few answers in a
hundred, and breaks those with a value that the grammar excludes: these must be far fewer."""
_MOST_LISTED = 64
"""Of different values of an intent that do not occur in their utterances. More are no list."""
_LONGEST_LISTED = 200
_MOST_CUT_WORDS = 64
_MOST_CUT = 0.001
"""Words that values cut, as a share of the values; if more are cut, every word may be."""


_LabelledRows = Sequence[tuple[str, Sequence[Call]]]


class IntentPolicy(BaseModel):
    """What a call of one intent may say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    intent: str
    names: tuple[str, ...] = ()
    """The slot names that labels state: `slot=value`."""
    is_named: bool = False
    """Whether every argument has a name."""
    listed: tuple[str, ...] = ()
    """Other values than those of the utterance that answers can contain."""
    has_values: bool = True
    """Whether its calls have arguments in a label or slots in the vocabulary. Their
    number is not limited: test labels have numbers that no training label has."""
    is_free: bool = False
    """Whether any value is possible, because labels often have other values than the utterance."""


class GroundingPolicy(BaseModel):
    """What answers may say, learned from labels; its size does not grow with their number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    intents: tuple[IntentPolicy, ...]
    num_rows: int
    num_values: int = 0
    num_copied: int = 0
    """Values that occur in their utterance letter by letter."""
    num_unknown: int = 0
    """Values that neither occur there, nor in the vocabulary, nor in another label."""
    num_ordered: int = 0
    """Rows in which the values of each call are in the order of the utterance, without overlap."""
    most_calls: int = 1
    """The largest number of calls in one label."""
    cut_words: tuple[str, ...] = ()
    """Words that a value begins or ends within."""
    cuts_every_word: bool = False
    """Whether values often begin or end within words."""

    @property
    def is_copied(self) -> bool:
        """Whether labels copy values well enough to bind answers to the utterance.

        At least 99.9 % of the values occur in their utterance letter by letter, or can be listed:
        in the vocabulary, or in more than one label. Answers can contain the other values of
        the labels too, but more of these must be expected. True for labels without values.
        """
        is_known = self.num_values - self.num_unknown >= _LEAST_COPIED * self.num_values
        return bool(self.intents) and is_known

    @property
    def keeps_order(self) -> bool:
        """Whether every label keeps the order of the utterance."""
        return self.num_ordered == self.num_rows

    @cached_property
    def reader(self) -> SpanReader:
        """Cuts utterances where values begin and end."""
        return SpanReader(self.cut_words, cuts_every_word=self.cuts_every_word)


def learn_policy(
    rows: Iterable[tuple[str, Sequence[Call]]], vocabulary: Vocabulary | None
) -> GroundingPolicy:
    """Learn what answers may say.

    Args:
        rows: utterances, as the model was trained on them, with their labels.
        vocabulary: the label vocabulary, if the recipe has one.
    """
    rows = list(rows)
    cut_words, cuts_every_word = _find_cut_words(rows)
    reader = SpanReader(cut_words, cuts_every_word=cuts_every_word)
    seen = _see_calls(rows)
    known = vocabulary.intents if vocabulary else {}
    learned = {
        intent: _learn_intent(intent, seen.get(intent), known.get(intent))
        for intent in sorted({*seen, *known})
    }
    return GroundingPolicy(
        intents=tuple(policy for policy, _ in learned.values()),
        num_rows=len(rows),
        num_values=sum(of.num_values for of in seen.values()),
        num_copied=sum(of.num_values - of.others.total() for of in seen.values()),
        num_unknown=sum(num_unknown for _, num_unknown in learned.values()),
        num_ordered=sum(_is_ordered(text, calls, reader) for text, calls in rows),
        most_calls=max((len(calls) for _, calls in rows), default=1),
        cut_words=cut_words,
        cuts_every_word=cuts_every_word,
    )


def write_policy(policy: GroundingPolicy) -> bytes:
    """Return the content of the file, part of a model's digest: equal policies, equal bytes.

    Args:
        policy: what `learn_policy` learned.
    """
    return f"{policy.model_dump_json(indent=1, exclude_defaults=True)}\n".encode()


class _Seen:
    """What labels say with one intent."""

    def __init__(self) -> None:
        self.names: Counter[str | None] = Counter()
        self.others: Counter[str] = Counter()
        """Values that do not occur in their utterances."""

    @property
    def num_values(self) -> int:
        return self.names.total()


def _see_calls(rows: Iterable[tuple[str, Sequence[Call]]]) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    for text, calls in rows:
        for call in calls:
            intent = seen.setdefault(call.intent, _Seen())
            intent.names.update(argument.name for argument in call.arguments)
            intent.others.update(a.value for a in call.arguments if not _occurs(text, a))
    return seen


def _occurs(text: str, argument: Argument) -> bool:
    return any(list_occurrences(text, argument.value))


def _learn_intent(
    intent: str, seen: _Seen | None, entry: IntentEntry | None
) -> tuple[IntentPolicy, int]:
    """Return what an intent may say, and the number of its unknown values."""
    if seen is None:
        seen = _Seen()
    # Labels use these for their synonyms, too.
    known = {value for slot in entry.slots for value in slot.values} if entry else set[str]()
    others = {value: count for value, count in seen.others.items() if value not in known}
    is_free = len(others) > _MOST_LISTED or any(len(v) > _LONGEST_LISTED for v in others)
    unknown = others.values() if is_free else (n for n in others.values() if n == 1)
    policy = IntentPolicy(
        intent=intent,
        names=tuple(sorted(name for name in seen.names if name is not None)),
        is_named=bool(seen.names) and None not in seen.names,
        listed=tuple(sorted(known if is_free else {*known, *others})),
        has_values=bool(seen.names) or bool(entry and entry.slots),
        is_free=is_free,
    )
    return policy, sum(unknown)


def _find_cut_words(rows: _LabelledRows) -> tuple[tuple[str, ...], bool]:
    """Return the words that values cut, and whether they do so often enough to cut every word."""
    reader = SpanReader()
    num_values, words = 0, set[str]()
    for text, calls in rows:
        values = [argument.value for call in calls for argument in call.arguments]
        bounds = reader.list_bounds(text)
        num_values += len(values)
        for value in values:
            places = list(list_occurrences(text, value))
            if places and not any(bounds.hold(place) for place in places):
                words.update(find_words(text, places[0]))
    cuts_every_word = len(words) > min(_MOST_CUT * num_values, _MOST_CUT_WORDS)
    return (() if cuts_every_word else tuple(sorted(words))), cuts_every_word


def _is_ordered(text: str, calls: Iterable[Call], reader: SpanReader) -> bool:
    """Return whether the copied values of each call can be read from left to right."""
    bounds = reader.list_bounds(text)
    return all(_reads_forward(text, call, bounds) for call in calls)


def _reads_forward(text: str, call: Call, bounds: Bounds) -> bool:
    position = 0
    for argument in call.arguments:
        if not _occurs(text, argument):
            continue
        places = list_occurrences(text, argument.value, position)
        place = next(filter(bounds.hold, places), None)
        if place is None:
            return False
        position = place.end
    return True

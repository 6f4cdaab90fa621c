"""Rules of the data check for consistency: repeats, labels, values, splits."""

from collections.abc import Iterable

from intent_core.language.calls import Call
from intent_core.language.intent_schema import list_intents
from intent_core.language.utterances import squeeze_utterance
from intent_core.quality.findings import (
    Corpus,
    RuleResult,
    count_intents,
    describe_intents,
    list_some,
    note,
    warn,
)

RARE = 3
"""A number of values that fewer calls of an intent have is rare for it."""


def check_consistency(corpus: Corpus) -> Iterable[RuleResult]:
    """Yield the findings about contradictions in the data."""
    yield from _check_labels(corpus)
    yield from _check_repeats(corpus)
    yield from _check_values(corpus)
    yield from _check_splits(corpus)


def _check_repeats(corpus: Corpus) -> Iterable[RuleResult]:
    if corpus.duplicates:
        yield note(
            "duplicates",
            f"{len(corpus.duplicates)} row(s) repeat another row",
            "No action needed: one of each is kept, unless data.duplicates is keep.",
            corpus.duplicates,
            num_rows=len(corpus.duplicates),
        )
    num_alike = len(corpus.near_duplicates)
    share = num_alike / max(len(corpus.utterances), 1)
    if num_alike:
        yield note(
            "near-duplicates",
            f"{num_alike} utterance(s) ({share:.1%}) have a near-duplicate",
            "Label other phrasings, or set data.near_duplicates to drop.",
            corpus.near_duplicates,
            num_utterances=num_alike,
            share=share,
        )


def _check_labels(corpus: Corpus) -> Iterable[RuleResult]:
    if corpus.conflicts:
        num_left_out = sum(conflict["kept"] is None for conflict in corpus.conflicts)
        yield warn(
            "conflicts",
            f"{len(corpus.conflicts)} utterance(s) have different labels in different rows; "
            f"{num_left_out} of them are left out of the dataset",
            "Agree on one label for each and correct them in iTAG, or set data.conflicts to latest "
            "or majority.",
            corpus.conflicts,
            num_utterances=len(corpus.conflicts),
            num_left_out=num_left_out,
        )
    if corpus.suspicions:
        listed = list_some(
            f"{corpus.utterances[s.row]!r} is labelled {s.given}, but resembles {s.likely}"
            for s in corpus.suspicions[:3]
        )
        yield warn(
            "label-errors",
            f"{len(corpus.suspicions)} label(s) are probably wrong, e.g. {listed}",
            "Check these rows and correct them in iTAG.",
            [
                corpus.describe(s.row, given=s.given, likely=s.likely, confidence=s.confidence)
                for s in corpus.suspicions
            ],
            num_utterances=len(corpus.suspicions),
        )


def _check_values(corpus: Corpus) -> Iterable[RuleResult]:
    foreign = [
        corpus.describe(row, value=value)
        for row, (utterance, calls) in enumerate(zip(corpus.utterances, corpus.labels, strict=True))
        for value in find_foreign_values(utterance, calls)
    ]
    if foreign:
        listed = list_some(f"{row['value']!r} in {row['utterance']!r}" for row in foreign[:3])
        yield note(
            "foreign-values",
            f"{len(foreign)} value(s) do not occur in their utterance, e.g. {listed}",
            "Label values in the words of the utterance, unless they are translated on purpose.",
            foreign,
            num_values=len(foreign),
        )
    rare = {
        (schema.intent, count): f"{schema.intent} with {count} value(s) in {times} call(s)"
        for schema in list_intents(corpus.labels)
        for count, times in schema.slot_counts.items()
        if times < RARE <= sum(schema.slot_counts.values()) - times
    }
    if rare:
        rows = [
            corpus.describe(row, intent=call.intent, num_values=len(call.arguments))
            for row, calls in enumerate(corpus.labels)
            for call in calls
            if (call.intent, len(call.arguments)) in rare
        ]
        yield note(
            "rare-slot-counts",
            f"some calls have an unusual number of values: {list_some(rare.values())}",
            "Check these labels for a missing value, or for a comma in a value without quotes.",
            rows,
            num_shapes=len(rare),
        )


def _check_splits(corpus: Corpus) -> Iterable[RuleResult]:
    if corpus.left_out:
        grouped = any(row.get("reason") == "group" for row in corpus.left_out)
        reason = "a near-duplicate or their group" if grouped else "a near-duplicate"
        yield note(
            "left-out",
            f"{len(corpus.left_out)} utterance(s) are left out because {reason} is in another "
            "split",
            "No action needed. If they are too many, raise data.near_duplicate_similarity.",
            corpus.left_out,
            num_utterances=len(corpus.left_out),
        )
    if corpus.overlap:
        yield note(
            "test-overlap",
            f"{len(corpus.overlap)} utterance(s) of the fixed test set are also in the export",
            "No action needed: they are not used for training.",
            corpus.overlap,
            num_utterances=len(corpus.overlap),
        )
    if corpus.test is None:
        return
    trained, tested = count_intents(corpus.labels), count_intents(corpus.test)
    if unseen := [intent for intent in tested if intent not in trained]:
        yield warn(
            "unseen-intents",
            f"in the test split, but not in the training split: {list_some(unseen)}",
            "Label more utterances with these intents.",
            [{"intent": intent, "num_tested": tested[intent]} for intent in unseen],
            num_intents=len(unseen),
        )
    if untested := [intent for intent in trained if intent not in tested]:
        yield note(
            "untested-intents",
            f"in the training split, but not in the test split: {list_some(untested)}",
            "Label more utterances with these intents, or raise data.test_fraction.",
            describe_intents(corpus, untested),
            num_intents=len(untested),
        )


def find_foreign_values(utterance: str, calls: Iterable[Call]) -> list[str]:
    """Return the values that do not occur in the utterance, ignoring width, case and whitespace.

    Args:
        utterance: the user's text.
        calls: its label.
    """
    spoken = squeeze_utterance(utterance)
    return [
        a.value
        for call in calls
        for a in call.arguments
        if squeeze_utterance(a.value) not in spoken
    ]

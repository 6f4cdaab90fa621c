"""The data check's rules of consistency: repeats, labels, values, splits."""

from collections.abc import Iterable

from intent_core.language.calls import Call
from intent_core.language.intent_schema import list_intents
from intent_core.language.utterances import normalise_utterance
from intent_core.quality.findings import Corpus, Finding, count_intents, list_some, note, warn

RARE = 3
"""Calls under which a number of values is rare for an intent."""


def check_consistency(corpus: Corpus) -> Iterable[Finding]:
    """What does not fit together in the data."""
    yield from _check_labels(corpus)
    yield from _check_repeats(corpus)
    yield from _check_values(corpus)
    yield from _check_splits(corpus)


def _check_repeats(corpus: Corpus) -> Iterable[Finding]:
    if corpus.num_duplicates:
        yield note(
            "duplicates",
            f"{corpus.num_duplicates} row(s) say what another row says",
            "One of each is kept unless data.duplicates says otherwise.",
            num_rows=corpus.num_duplicates,
        )
    share = corpus.num_near_duplicates / max(len(corpus.utterances), 1)
    if corpus.num_near_duplicates:
        yield note(
            "near-duplicates",
            f"{corpus.num_near_duplicates} utterance(s), {share:.1%}, have a near-duplicate",
            "Label other phrasings, or set data.near_duplicates: drop.",
            num_utterances=corpus.num_near_duplicates,
            share=share,
        )


def _check_labels(corpus: Corpus) -> Iterable[Finding]:
    if corpus.num_conflicts:
        yield warn(
            "conflicts",
            f"{corpus.num_conflicts} utterance(s) are labelled in different ways, "
            f"{corpus.num_unresolved} left out",
            "Agree on one label (conflicts.jsonl lists them), or set data.conflicts.",
            num_utterances=corpus.num_conflicts,
            num_left_out=corpus.num_unresolved,
        )
    if corpus.suspicions:
        listed = list_some(
            f"{corpus.utterances[s.row]!r} is {s.given}, looks like {s.likely}"
            for s in corpus.suspicions[:3]
        )
        yield warn(
            "label-errors",
            f"{len(corpus.suspicions)} label(s) look wrong beside their likes: {listed}",
            "Look at these rows (label_errors.jsonl) and correct them in iTAG.",
            num_utterances=len(corpus.suspicions),
        )


def _check_values(corpus: Corpus) -> Iterable[Finding]:
    foreign = [
        (value, utterance)
        for utterance, calls in zip(corpus.utterances, corpus.labels, strict=True)
        for value in find_foreign_values(utterance, calls)
    ]
    if foreign:
        listed = list_some(f"{value!r} for {utterance!r}" for value, utterance in foreign[:3])
        yield note(
            "foreign-values",
            f"{len(foreign)} value(s) do not occur in their utterance: {listed}",
            "Label values as they are said, unless they are meant to be translated.",
            num_values=len(foreign),
        )
    rare = [
        f"{schema.intent} with {count} value(s) {times}x"
        for schema in list_intents(corpus.labels)
        for count, times in schema.slot_counts.items()
        if times < RARE <= sum(schema.slot_counts.values()) - times
    ]
    if rare:
        yield note(
            "rare-slot-counts",
            f"rare numbers of values: {list_some(rare)}",
            "Check these labels for a forgotten value or a comma that should be in quotes.",
            num_shapes=len(rare),
        )


def _check_splits(corpus: Corpus) -> Iterable[Finding]:
    if corpus.num_left_out:
        yield note(
            "left-out",
            f"{corpus.num_left_out} utterance(s) left out: their like is in another split",
            "Nothing to do: left_out.jsonl lists them (data.near_duplicate_similarity).",
            num_utterances=corpus.num_left_out,
        )
    if corpus.num_overlap:
        yield note(
            "test-overlap",
            f"{corpus.num_overlap} utterance(s) of the fixed test set are in the export",
            "Nothing to do: they never train.",
            num_utterances=corpus.num_overlap,
        )
    if corpus.test is None:
        return
    trained, tested = count_intents(corpus.labels), count_intents(corpus.test)
    if unseen := [intent for intent in tested if intent not in trained]:
        yield warn(
            "unseen-intents",
            f"tested but never trained: {list_some(unseen)}",
            "Label more of these, so that some fall to training.",
            num_intents=len(unseen),
        )
    if untested := [intent for intent in trained if intent not in tested]:
        yield note(
            "untested-intents",
            f"trained but never tested: {list_some(untested)}",
            "Label more of these, or raise data.test_fraction.",
            num_intents=len(untested),
        )


def find_foreign_values(utterance: str, calls: Iterable[Call]) -> list[str]:
    """The values that do not occur in the utterance, whatever their width, case and blanks."""
    said = _squeeze(utterance)
    return [a.value for call in calls for a in call.arguments if _squeeze(a.value) not in said]


def _squeeze(text: str) -> str:
    return normalise_utterance(text).replace(" ", "")

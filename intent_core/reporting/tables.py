"""The tables of the page, limited in length, with the number of omitted rows."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from intent_core.evaluation.report import (
    EvaluationReport,
    Failure,
    FailureReason,
    IntentScore,
    SliceScore,
)
from intent_core.gate.decision import CheckResult
from intent_core.recipe import listing as recipe
from intent_core.recipe.config import PipelineConfig
from intent_core.reporting.review import Review
from intent_core.reporting.summary import intents_of, list_outputs
from intent_core.reporting.untrusted_text import Text, Texts
from intent_core.reporting.vocabulary_changes import describe_changes

MOST_CHANGES = 100
MOST_FAILURES = 200
MOST_SCORES = 200
MOST_FINDINGS = 100
MOST_VOCABULARY_CHANGES = 100
MOST_CULPRITS = 10

REASONS: Mapping[FailureReason, str] = {
    "malformed": "the answer is not a list of calls",
    "missing_prediction": "no answer was received",
    "wrong_intent": "a different intent was predicted",
    "missing_call": "a call is missing",
    "extra_call": "there is an extra call",
    "missing_value": "a value is missing",
    "extra_value": "there is an extra value",
    "wrong_value": "a value is wrong or in the wrong position",
    "wrong_order": "the calls are right, but in the wrong order",
}


@dataclass(frozen=True)
class Change:
    """An utterance that only one model answers correctly; None marks the correct answer."""

    example_id: str
    intents: str
    instruction: Text
    expected: Text
    candidate: Text | None
    champion: Text | None


@dataclass(frozen=True)
class Changes:
    """The first fixed or broken utterances and their total number."""

    rows: tuple[Change, ...]
    total: int


@dataclass(frozen=True)
class FailureGroup:
    """The first failures with one reason and their total number."""

    reason: FailureReason
    explanation: str
    total: int
    rows: tuple[tuple[str, Text, Text, Text], ...]
    """(id, utterance, expected, answer)"""


@dataclass(frozen=True)
class NormalisedRow:
    """An answer that is right only because of some kinds of normalisation."""

    example_id: str
    kinds: str
    instruction: Text
    expected: Text
    answer: Text


@dataclass(frozen=True)
class ScoreRow:
    """The rates of an intent or slice, and the difference in exact match to the champion."""

    label: str
    score: IntentScore | SliceScore
    difference: float | None


@dataclass(frozen=True)
class CheckRow:
    """A check of the gate, and the utterances that caused it to fail."""

    check: CheckResult
    culprits: tuple[Text, ...]


def list_changes(review: Review, texts: Texts) -> tuple[Changes, Changes]:
    """Return the broken and the fixed utterances compared with the champion."""
    comparison = review.decision.comparison
    if comparison is None or review.champion is None:
        return Changes((), 0), Changes((), 0)
    outputs = list_outputs(review)
    mine = _find_failures(review.report, comparison.broken_ids[:MOST_CHANGES])
    theirs = _find_failures(review.champion, comparison.fixed_ids[:MOST_CHANGES])

    def show(ids: Sequence[str]) -> Iterator[Change]:
        for example_id in ids[:MOST_CHANGES]:
            failure = mine.get(example_id) or theirs.get(example_id)
            example = review.utterances.get(example_id)
            expected = outputs.get(example_id, "")
            instruction = example.instruction if example else failure and failure.instruction
            yield Change(
                example_id=example_id,
                intents=" ".join(intents_of(expected)),
                instruction=texts.show(instruction or ""),
                expected=texts.show(expected, failure.predicted if failure else None),
                candidate=_show_answer(mine.get(example_id), texts),
                champion=_show_answer(theirs.get(example_id), texts),
            )

    return (
        Changes(tuple(show(comparison.broken_ids)), len(comparison.broken_ids)),
        Changes(tuple(show(comparison.fixed_ids)), len(comparison.fixed_ids)),
    )


def list_checks(review: Review, texts: Texts) -> list[CheckRow]:
    """Return a row per check of the gate, in order."""
    rows = []
    for check in review.decision.checks:
        ids = () if check.passed else check.utterances[:MOST_CULPRITS]
        known = [review.utterances[i].instruction for i in ids if i in review.utterances]
        rows.append(CheckRow(check, tuple(texts.show(text) for text in known)))
    return rows


def group_failures(report: EvaluationReport, texts: Texts) -> list[FailureGroup]:
    """Return failures by reason, the most frequent first.

    The limit is shared so that a frequent reason does not displace the rows of a rare one.
    """
    groups: defaultdict[FailureReason, list[Failure]] = defaultdict(list)
    for failure in report.failures:
        groups[failure.reason].append(failure)
    room, shown = MOST_FAILURES, {}
    for rank, reason in enumerate(sorted(groups, key=lambda reason: len(groups[reason]))):
        shown[reason] = groups[reason][: room // (len(groups) - rank)]
        room -= len(shown[reason])
    return [
        FailureGroup(
            reason=reason,
            explanation=REASONS[reason],
            total=len(groups[reason]),
            rows=tuple(_show_failure(failure, texts) for failure in shown[reason]),
        )
        for reason in sorted(groups, key=lambda reason: (-len(groups[reason]), reason))
    ]


def list_normalised(report: EvaluationReport, texts: Texts) -> list[NormalisedRow]:
    """Return the first answers that are right only because of normalisation."""
    return [
        NormalisedRow(
            example_id=answer.example_id,
            kinds=", ".join(answer.kinds),
            instruction=texts.show(answer.instruction),
            expected=texts.show(answer.expected, answer.predicted),
            answer=texts.show(answer.predicted, answer.expected),
        )
        for answer in report.normalised[:MOST_FAILURES]
    ]


def list_intents(review: Review) -> list[ScoreRow]:
    """Return a row per intent, the weakest first.

    The order is by the upper end of the interval, so that intents with very few utterances do not
    come first by chance.
    """
    theirs = {s.intent: s for s in review.champion.per_intent} if review.champion else {}
    ordered = sorted(review.report.per_intent, key=lambda s: (s.exact_match.high, s.intent))
    return [
        ScoreRow(score.intent, score, _subtract(score, theirs.get(score.intent)))
        for score in ordered[:MOST_SCORES]
    ]


def list_slices(review: Review) -> list[ScoreRow]:
    """Return a row per slice, in the order of the report."""
    theirs = {(s.name, s.value): s for s in review.champion.slices} if review.champion else {}
    return [
        ScoreRow(
            f"{score.name}={score.value}",
            score,
            _subtract(score, theirs.get((score.name, score.value))),
        )
        for score in review.report.slices[:MOST_SCORES]
    ]


def list_settings(config: PipelineConfig) -> dict[str, list[tuple[str, str, bool]]]:
    """Return the recipe by section as (key, value, whether it differs from the default)."""
    usual = recipe.list_settings(PipelineConfig())
    return {
        section: [
            (name, _show_setting(value), value != usual[section].get(name))
            for name, value in settings.items()
        ]
        for section, settings in recipe.list_settings(config).items()
    }


def list_vocabulary_changes(review: Review) -> list[str] | None:
    """Return how the vocabulary differs from the champion's; None if one is not known."""
    if review.vocabulary is None or review.champion_vocabulary is None:
        return None
    return describe_changes(review.champion_vocabulary, review.vocabulary)


def is_link(url: str) -> bool:
    """Whether a URL is safe as a link: http or https, a host, no characters that need escaping."""
    if re.search(r"[\s\x00-\x1f\x7f\"'<>`\\]", url):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _find_failures(report: EvaluationReport, ids: Iterable[str]) -> dict[str, Failure]:
    wanted = set(ids)
    return {f.example_id: f for f in report.failures if f.example_id in wanted}


def _show_answer(failure: Failure | None, texts: Texts) -> Text | None:
    return texts.show(failure.predicted, failure.expected) if failure else None


def _show_failure(failure: Failure, texts: Texts) -> tuple[str, Text, Text, Text]:
    return (
        failure.example_id,
        texts.show(failure.instruction),
        texts.show(failure.expected, failure.predicted),
        texts.show(failure.predicted, failure.expected),
    )


def _subtract(
    mine: IntentScore | SliceScore, theirs: IntentScore | SliceScore | None
) -> float | None:
    return mine.exact_match.value - theirs.exact_match.value if theirs else None


def _show_setting(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case list():
            return ", ".join(map(str, value)) or "none"
        case dict():
            return ", ".join(f"{name}: {held}" for name, held in value.items()) or "none"
    return str(value)

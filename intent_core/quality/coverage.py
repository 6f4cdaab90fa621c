"""The data check: rules of the PAI guide for training data, and our own, as findings.

A finding states what is wrong, with numbers, and what to do. It stops a run only if `data.stop_on`
lists its rule.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from intent_core.language.calls import Call
from intent_core.language.conversation import begins_with_speaker
from intent_core.language.utterances import normalise_utterance
from intent_core.quality.broken_text import check_broken_text
from intent_core.quality.consistency import check_consistency
from intent_core.quality.findings import (
    Corpus,
    RuleResult,
    count_intents,
    describe_intents,
    list_some,
    note,
    warn,
)
from intent_core.quality.missing_values import check_missing_values
from intent_core.quality.spellings import check_spellings, find_alike
from intent_core.quality.values import check_values
from intent_core.quality.vocabulary_check import check_vocabulary
from intent_core.recipe.batch_size import recommend_batch, recommend_seq_length

# From the PAI guide, except MAX_IMBALANCE and MIN_PHRASINGS, which are our own.
MIN_UTTERANCES_PER_INTENT = 50
GOOD_UTTERANCES_PER_INTENT = 100
MIN_MULTI_SHARE = 0.2
MAX_IMBALANCE = 10
MIN_PHRASINGS = 0.5


def check_quality(corpus: Corpus) -> tuple[RuleResult, ...]:
    """Apply all rules of the data check and return the findings, warnings first, with their rows.

    Args:
        corpus: the utterances and labels to check.
    """
    rules = (
        check_broken_text,
        check_spellings,
        check_consistency,
        check_vocabulary,
        check_values,
        check_missing_values,
        _check_amount,
        _check_balance,
        _check_multi_intent,
        _check_multi_turn,
        _check_phrasings,
        _check_size,
    )
    results = [result for rule in rules for result in rule(corpus)]
    return tuple(sorted(results, key=lambda result: result.finding.severity == "note"))


def _check_amount(corpus: Corpus) -> Iterable[RuleResult]:
    counts = _count_distinct(corpus)
    few = {i: n for i, n in counts.items() if n < MIN_UTTERANCES_PER_INTENT}
    some = {
        i: n
        for i, n in counts.items()
        if MIN_UTTERANCES_PER_INTENT <= n < GOOD_UTTERANCES_PER_INTENT
    }
    if few:
        yield warn(
            "few-utterances",
            f"{_intents(few)} fewer than {MIN_UTTERANCES_PER_INTENT} utterances: "
            f"{_list_counts(few)}",
            f"Label {MIN_UTTERANCES_PER_INTENT} to {GOOD_UTTERANCES_PER_INTENT} utterances for "
            "each intent.",
            describe_intents(corpus, _from_few(few)),
            num_intents=len(few),
            num_missing=sum(MIN_UTTERANCES_PER_INTENT - n for n in few.values()),
        )
    if some:
        yield note(
            "few-for-comfort",
            f"{_intents(some)} fewer than {GOOD_UTTERANCES_PER_INTENT} utterances: "
            f"{_list_counts(some)}",
            "Label more utterances if the accuracy of these intents is low.",
            describe_intents(corpus, _from_few(some)),
            num_intents=len(some),
        )


def _count_distinct(corpus: Corpus) -> dict[str, int]:
    """Return the utterances per intent, without intents that are spelt like a more frequent one."""
    counts = count_intents(corpus.labels)
    alike = {pair.name for pair in find_alike(counts)}
    return {intent: count for intent, count in counts.items() if intent not in alike}


def _check_balance(corpus: Corpus) -> Iterable[RuleResult]:
    counts = _count_distinct(corpus)
    if not counts:
        return
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    ratio = counts[most] / counts[least]
    if ratio > MAX_IMBALANCE:
        yield warn(
            "imbalance",
            f"{most} has {counts[most]} utterances, but {least} only {counts[least]}",
            "Label more utterances of the rare intents: a model prefers the frequent ones.",
            describe_intents(corpus, _from_few(counts)),
            ratio=ratio,
        )


def _check_multi_intent(corpus: Corpus) -> Iterable[RuleResult]:
    rows = [row for row, calls in enumerate(corpus.labels) if len(calls) > 1]
    multi = [corpus.labels[row] for row in rows]
    singles = len(corpus.labels) - len(multi)
    if multi and len(multi) < MIN_MULTI_SHARE * singles:
        yield warn(
            "few-multi-intent",
            f"there are {len(multi)} multi-intent utterances for {singles} single-intent ones",
            f"Label {_missing(len(multi), singles)} more multi-intent utterances; there should be "
            "at least 20 % as many as single-intent ones.",
            [corpus.describe(row) for row in rows],
            share=len(multi) / singles,
        )
    alone = {calls[0].intent for calls in corpus.labels if len(calls) == 1}
    never = sorted({call.intent for calls in multi for call in calls} - alone)
    if never:
        yield warn(
            "never-alone",
            f"occur only together with another intent: {list_some(never)}",
            "Label utterances with only one of these intents.",
            describe_intents(corpus, never),
            num_intents=len(never),
        )


def _check_multi_turn(corpus: Corpus) -> Iterable[RuleResult]:
    # Count the conversations that were not flattened to one instruction.
    rows = [
        row
        for row, text in enumerate(corpus.utterances)
        if "\n" in text or begins_with_speaker(text)
    ]
    turns = len(rows)
    singles = len(corpus.utterances) - turns
    if turns and turns < MIN_MULTI_SHARE * singles:
        yield warn(
            "few-multi-turn",
            f"there are {turns} multi-turn conversations for {singles} single utterances",
            f"Label {_missing(turns, singles)} more conversations, or remove them all.",
            [corpus.describe(row) for row in rows],
            share=turns / singles,
        )


def _check_phrasings(corpus: Corpus) -> Iterable[RuleResult]:
    phrasings = [
        make_template(utterance, calls)
        for utterance, calls in zip(corpus.utterances, corpus.labels, strict=True)
    ]
    templates: defaultdict[str, list[str]] = defaultdict(list)
    for phrasing, calls in zip(phrasings, corpus.labels, strict=True):
        for intent in {call.intent for call in calls}:
            templates[intent].append(phrasing)
    poor = {
        intent: len(set(its)) / len(its)
        for intent, its in templates.items()
        if len(its) >= MIN_PHRASINGS * 20 and len(set(its)) < MIN_PHRASINGS * len(its)
    }
    if poor:
        worst = sorted(poor, key=poor.__getitem__)
        listed = list_some(
            f"{i} {len(set(templates[i]))} for {len(templates[i])} utterances" for i in worst
        )
        yield warn(
            "few-phrasings",
            f"{_intents(poor)} few different phrasings, not counting values: {listed}",
            "Collect other phrasings: more values in the same template improve a model little.",
            [
                corpus.describe(row, intent=intent, phrasing=phrasings[row])
                for row, calls in enumerate(corpus.labels)
                for intent in sorted({call.intent for call in calls} & poor.keys())
            ],
            num_intents=len(poor),
            least_share=min(poor.values()),
        )


def make_template(utterance: str, calls: Iterable[Call]) -> str:
    """Return the phrasing of an utterance: normalised, with `{}` in place of each value.

    Args:
        utterance: the user's text.
        calls: its label.
    """
    template = normalise_utterance(utterance)
    values = {normalise_utterance(a.value) for call in calls for a in call.arguments}
    # Longest first, because a value can contain another one.
    for value in sorted(values - {""}, key=len, reverse=True):
        template = template.replace(value, "{}")
    return template


def _check_size(corpus: Corpus) -> Iterable[RuleResult]:
    num = len(corpus.utterances)
    batch = recommend_batch(num)
    recommended = note(
        "batch-size",
        f"there are {num} utterances",
        f"Recommended: train.global_batch_size {batch}, which gives {-(-num // batch)} steps per "
        "epoch.",
        num_utterances=num,
        recommended=batch,
    )
    yield _set_broken(recommended, False)
    if not corpus.lengths:
        return
    longest, fits = max(corpus.lengths), recommend_seq_length(max(corpus.lengths))
    too_long = sum(length > (corpus.seq_length or fits) for length in corpus.lengths)
    say: Callable[..., RuleResult] = warn if too_long else note
    exceeding = (
        f"; {too_long} are longer than train.seq_length {corpus.seq_length}" if too_long else ""
    )
    length = say(
        "seq-length",
        f"samples have up to {longest} tokens, with a median of "
        f"{statistics.median(corpus.lengths):.0f}{exceeding}",
        f"Recommended: train.seq_length {fits}.",
        longest=longest,
        median=statistics.median(corpus.lengths),
        num_too_long=too_long,
        recommended=fits,
    )
    yield _set_broken(length, too_long > 0)


def _set_broken(result: RuleResult, is_broken: bool) -> RuleResult:
    finding = result.finding.model_copy(update={"is_broken": is_broken})
    return result._replace(finding=finding)


def _missing(some: int, singles: int) -> int:
    return math.ceil(MIN_MULTI_SHARE * singles) - some


def _list_counts(counts: Mapping[str, int]) -> str:
    return list_some(f"{name} {counts[name]}" for name in _from_few(counts))


def _from_few(counts: Mapping[str, int]) -> list[str]:
    return sorted(counts, key=counts.__getitem__)


def _intents(some: Iterable[str]) -> str:
    num = len(list(some))
    return "1 intent has" if num == 1 else f"{num} intents have"

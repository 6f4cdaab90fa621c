"""The data check: each rule with data that breaks it and data that complies, and its numbers."""

from pathlib import Path
from typing import Any

import pytest

from intent_core.errors import DataError
from intent_core.language.calls import Call, parse_calls
from intent_core.language.intent_schema import list_intents
from intent_core.quality.coverage import check_quality
from intent_core.quality.findings import (
    Corpus,
    Finding,
    RuleResult,
    count_intents,
    render_findings,
    stop_on_findings,
)
from intent_core.quality.label_errors import LabelSuspicion
from intent_core.recipe.batch_size import recommend_batch, recommend_seq_length

ROW = {"utterance": "hi", "output": "a()"}
DATA = Path(__file__).parents[2] / "data"


def labels(**counts: int) -> list[tuple[Call, ...]]:
    """Return labels: `a=2, a_b=1` gives two utterances with intent a, one with a and b."""
    return [
        parse_calls(";".join(f"{intent}()" for intent in name.split("_")))
        for name, count in counts.items()
        for _ in range(count)
    ]


def make_corpus(labelled: list[tuple[Call, ...]], **more: Any) -> Corpus:
    """Return a corpus of these labels, each with a unique utterance."""
    return Corpus([f"say {number} it" for number in range(len(labelled))], labelled, **more)


def find(corpus: Corpus) -> dict[str, Finding]:
    """Return findings by rule, without the recommendation that every corpus gets."""
    return {rule: result.finding for rule, result in check(corpus).items()}


def check(corpus: Corpus) -> dict[str, RuleResult]:
    """Return findings with their rows by rule, without the recommendation."""
    results = {result.finding.rule: result for result in check_quality(corpus)}
    del results["batch-size"]
    return results


@pytest.mark.parametrize(
    ("train", "test", "rules"),
    [
        (labels(a=100, b=100), labels(a=1, b=1), []),
        (labels(a=100, b=99), None, ["few-for-comfort"]),
        (labels(a=100, b=49), None, ["few-utterances"]),
        (labels(a=1000, b=100), None, []),
        (labels(a=1001, b=100), None, ["imbalance"]),
        (labels(a=100, b=100, a_b=40), None, []),
        (labels(a=100, b=100, a_b=39), None, ["few-multi-intent"]),
        (labels(a=100, a_b=100), None, ["never-alone"]),
        (labels(a=100), labels(a=1, z=1), ["unseen-intents"]),
        (labels(a=100, b=100), labels(a=1), ["untested-intents"]),
        ([], None, []),
    ],
)
def test_rules_of_amounts(
    train: list[tuple[Call, ...]], test: list[tuple[Call, ...]] | None, rules: list[str]
) -> None:
    assert list(find(make_corpus(train, test=test))) == rules


def test_a_finding_names_the_worst_and_counts_the_rest() -> None:
    train = labels(**{f"i{n}": 12 - n for n in range(12)})
    finding = find(make_corpus(train))["few-utterances"]
    assert str(finding).startswith("warning few-utterances: 12 intents have fewer than 50")
    assert "i11 1, i10 2" in finding.message
    assert finding.message.endswith("and 2 more")
    assert finding.numbers == {"num_intents": 12, "num_missing": 12 * 50 - 78}


def test_warnings_come_first() -> None:
    results = check_quality(make_corpus(labels(a=60, b=3)))
    severities = [result.finding.severity for result in results]
    assert severities == sorted(severities, reverse=True)


def test_many_values_in_one_template_are_few_phrasings() -> None:
    calls = [parse_calls(f"play(song {number})") for number in range(100)]
    same = [f"play song {number}" for number in range(100)]
    finding = find(Corpus(same, calls))["few-phrasings"]
    assert finding.numbers == {"num_intents": 1, "least_share": 0.01}
    assert "play 1 for 100 utterances" in finding.message
    varied = [f"{number} ways to ask for song {number}" for number in range(100)]
    assert "few-phrasings" not in find(Corpus(varied, calls))


def test_values_that_were_not_said() -> None:
    said = Corpus(
        ["weather in Hang Zhou", "查ＡＢＣ"], [parse_calls("w(hangzhou)"), parse_calls("w(abc)")]
    )
    assert "foreign-values" not in find(said)
    finding = find(Corpus(["weather here"], [parse_calls("w(Paris,here)")]))["foreign-values"]
    assert finding.numbers == {"num_values": 1}
    assert "'Paris' in 'weather here'" in finding.message


def test_rare_numbers_of_values() -> None:
    calls = [parse_calls("play(x,y)")] * 50 + [parse_calls("play(x)")] * 2
    finding = find(make_corpus(calls))["rare-slot-counts"]
    assert "play with 1 value(s) in 2 call(s)" in finding.message


def test_conversations_that_were_not_flattened_need_enough_of_them() -> None:
    utterances = [f"utterance {n}" for n in range(100)] + ["User: a\nAssistant: b\nUser: c"] * 3
    corpus = Corpus(utterances, labels(a=103))
    assert find(corpus)["few-multi-turn"].numbers == {"share": 0.03}


def test_what_came_before_and_beside_the_corpus_is_told() -> None:
    found = find(
        make_corpus(
            labels(a=100),
            duplicates=[ROW] * 3,
            near_duplicates=[ROW] * 10,
            conflicts=[{**ROW, "kept": None}, {**ROW, "kept": "a()"}],
            left_out=[ROW] * 4,
            overlap=[ROW] * 5,
            suspicions=[LabelSuspicion(7, "a", "b", 0.99)],
        )
    )
    assert {rule: finding.numbers for rule, finding in found.items()} == {
        "conflicts": {"num_utterances": 2, "num_left_out": 1},
        "label-errors": {"num_utterances": 1},
        "duplicates": {"num_rows": 3},
        "near-duplicates": {"num_utterances": 10, "share": 0.1},
        "left-out": {"num_utterances": 4},
        "test-overlap": {"num_utterances": 5},
    }
    assert "'say 7 it' is labelled a, but resembles b" in found["label-errors"].message


@pytest.mark.parametrize(
    ("longest", "seq_length", "severity", "recommended"),
    [(50, 64, "note", 64), (64, 64, "note", 64), (65, 64, "warning", 128), (200, 256, "note", 256)],
)
def test_sequence_lengths(longest: int, seq_length: int, severity: str, recommended: int) -> None:
    corpus = make_corpus(labels(a=100), lengths=[10] * 99 + [longest], seq_length=seq_length)
    finding = find(corpus)["seq-length"]
    assert finding.severity == severity
    assert finding.numbers["recommended"] == recommended
    assert finding.numbers["longest"] == longest
    assert finding.is_broken is (severity == "warning")


def test_recommendations() -> None:
    # The example in the PAI guide: 64 for a longest sequence of 50.
    assert recommend_seq_length(50) == 64
    assert [recommend_batch(n) for n in (10, 600, 2200, 7680, 10**6)] == [8, 16, 64, 256, 256]


def test_markdown_holds_every_finding() -> None:
    corpus = make_corpus(labels(a=1, b=2), conflicts=[{**ROW, "kept": None}])
    findings = [result.finding for result in check_quality(corpus)]
    text = render_findings(findings, "Data check")
    assert all(f"| {f.severity} | {f.rule} |" in text for f in findings)
    assert "complies with every rule" in render_findings((), "Data check")
    piped = findings[0].model_copy(update={"message": "a|b\nc"})
    assert "a\\|b c" in render_findings([piped], "x")


def test_only_named_rules_stop() -> None:
    findings = [result.finding for result in check_quality(make_corpus(labels(a=1)))]
    stop_on_findings(findings, ["imbalance", "batch-size"])
    with pytest.raises(DataError, match="few-utterances: 1 intent has fewer than 50"):
        stop_on_findings(findings, ["few-utterances"])


def test_an_intent_twice_in_one_utterance_counts_once() -> None:
    assert count_intents([parse_calls("b();a();a(x)")]) == {"a": 1, "b": 1}
    schemas = {schema.intent: schema for schema in list_intents([parse_calls("b();a();a(s=x)")])}
    assert schemas["a"].slot_counts == {0: 1, 1: 1}
    assert schemas["a"].slot_names == {"s": 1}

"""The documents' data preparation rules."""

import pytest

from intent_core.calls import Call, parse_calls
from intent_core.quality import check_quality, count_intents


def labels(**counts: int) -> list[tuple[Call, ...]]:
    """`a=2, a_b=1`: two utterances of intent a, one of a and b together."""
    return [
        parse_calls(";".join(f"{intent}()" for intent in name.split("_")))
        for name, count in counts.items()
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("train", "test", "codes"),
    [
        (labels(a=50, b=50), labels(a=1), []),
        (labels(a=50, b=49), [], ["few-utterances"]),
        (labels(a=500, b=50), [], []),
        (labels(a=501, b=50), [], ["imbalance"]),
        (labels(a=50, b=50, a_b=20), [], []),
        (labels(a=50, b=50, a_b=19), [], ["few-multi-intent"]),
        (labels(a=100, a_b=50), [], ["never-alone"]),
        (labels(a=50), labels(a=1, z=1), ["unseen-intent"]),
        ([], [], []),
    ],
)
def test_rules(
    train: list[tuple[Call, ...]], test: list[tuple[Call, ...]], codes: list[str]
) -> None:
    assert [finding.code for finding in check_quality(train, test)] == codes


def test_a_finding_names_the_worst_and_counts_the_rest() -> None:
    train = labels(**{f"i{n}": 12 - n for n in range(12)})
    (first, *_) = check_quality(train)
    assert str(first).startswith("warning few-utterances: 12 intent(s)")
    assert "i11 1, i10 2" in first.message
    assert first.message.endswith("and 2 more")


def test_an_intent_twice_in_one_utterance_counts_once() -> None:
    assert count_intents([parse_calls("b();a();a(x)")]) == {"a": 1, "b": 1}

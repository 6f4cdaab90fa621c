"""Selection of utterances to label: failures first, then low confidence, no near-duplicates."""

import pytest

from intent_core.datasets.manifest import Example
from intent_core.errors import ConfigError, DataError
from intent_core.evaluation.labeling_candidates import choose_for_labelling, choose_least_certain
from intent_core.evaluation.prediction import Prediction

DISTINCT = ["play some jazz", "weather in Hangzhou", "set an alarm", "turn the lights off"]
DISTINCT += ["who wrote Hamlet", "call my mother"]


def labelled(*instructions: str) -> list[Example]:
    return [
        Example(id=str(i), instruction=text, output="a(x)") for i, text in enumerate(instructions)
    ]


def answers(*texts: str) -> list[Prediction]:
    return [Prediction(example_id=str(i), text=text) for i, text in enumerate(texts)]


def test_wrong_answers_are_labelled_first() -> None:
    predictions = answers("a(x)", " a( x ) ", "a(y)", "a(x", "a(x)")
    predictions[4] = Prediction(example_id="4", text="a(x)", error="timeout")
    chosen = choose_for_labelling(labelled(*DISTINCT), predictions, 10)
    assert chosen == [*DISTINCT[2:], *DISTINCT[:2]]
    assert choose_for_labelling(labelled(*DISTINCT), predictions, 2) == DISTINCT[2:4]


def test_right_answers_follow_the_least_certain_first() -> None:
    certainties = [None, 0.9, 0.1, None, 0.0, 1.0]
    predictions = [
        Prediction(example_id=str(i), text="a(y)" if i == 5 else "a(x)", confidence=certainty)
        for i, certainty in enumerate(certainties)
    ]
    chosen = choose_for_labelling(labelled(*DISTINCT), predictions, 6)
    assert chosen == [DISTINCT[i] for i in (5, 4, 2, 1, 0, 3)]


def test_near_duplicates_are_labelled_once() -> None:
    first, second = "please play some jazz music now", "turn the lights off"
    repeats = ["Please play  some jazz music now", "please play some jazz music now!"]
    examples = labelled(repeats[0], second, first, repeats[1])
    predictions = answers("a(x)", "a(x)", "a(y)", "a(x)")
    assert choose_for_labelling(examples, predictions, 4) == [first, second]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_an_error(limit: int) -> None:
    with pytest.raises(ConfigError, match=f"limit must be at least 1, not {limit}"):
        choose_for_labelling(labelled("a"), answers("a(x)"), limit)


def test_a_similarity_of_none_is_an_error() -> None:
    with pytest.raises(ConfigError, match="similarity"):
        choose_for_labelling(labelled("a"), answers("a(x)"), 1, similarity=0.0)


def test_foreign_predictions_are_an_error() -> None:
    with pytest.raises(DataError, match="predictions for unknown example: '1'"):
        choose_for_labelling(labelled("a"), answers("a(x)", "a(x)"), 1)


def test_unlabelled_utterances_the_least_certain_first() -> None:
    predictions = [
        Prediction(example_id="0", text="a(x)", confidence=0.9),
        Prediction(example_id="1", text="a(x)", confidence=0.2),
        Prediction(example_id="2", text="a(x", error="column 4", confidence=0.99),
        Prediction(example_id="3", text="a(x)", confidence=0.1),
        Prediction(example_id="4", text="a(x)"),
    ]
    utterances = [*DISTINCT[:3], DISTINCT[1] + "!", DISTINCT[4]]
    chosen = choose_least_certain(utterances, predictions, 4)
    assert chosen == [DISTINCT[2], DISTINCT[1] + "!", DISTINCT[0], DISTINCT[4]]
    assert choose_least_certain(utterances, predictions, 1) == [DISTINCT[2]]

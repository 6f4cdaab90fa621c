import math

import pytest

from intent_core.evaluation.prediction import read_answer
from intent_core.serving.answers.confidence import measure_confidence


def test_an_answer_that_does_not_parse_is_kept_with_its_error() -> None:
    good = read_answer("a", " play(x)\n", 12.0)
    assert (good.text, good.error, good.latency_ms) == ("play(x)", None, 12.0)
    bad = read_answer("a", "play(")
    assert bad.text == "play("
    assert bad.error
    assert not bad.is_absent
    assert read_answer("a", " ").is_absent
    assert read_answer("a", "\u200b").is_absent
    assert read_answer("a", "\ufeffplay\u200b(x)").text == "play(x)"


def test_confidence_is_the_probability_of_all_tokens_together() -> None:
    assert measure_confidence([math.log(0.5), math.log(0.5)]) == pytest.approx(0.25)
    assert measure_confidence([]) is None
    assert measure_confidence([0.0, math.nan]) is None
    assert measure_confidence([1e-9]) == 1.0  # a rounding error of the server must not exceed 1

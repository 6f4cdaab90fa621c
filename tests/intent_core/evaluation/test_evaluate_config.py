import unicodedata
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.datasets.manifest import Example
from intent_core.errors import DataError
from intent_core.evaluation.evaluate import evaluate
from intent_core.evaluation.prediction import Prediction
from intent_core.evaluation.report import EvaluationReport
from intent_core.recipe.choices import Normalisation
from intent_core.recipe.config import EvaluateConfig


def examples_of(golds: Mapping[str, str]) -> list[Example]:
    return [Example(id=i, instruction=f"say {i}", output=gold) for i, gold in golds.items()]


def test_the_labelled_order_counts_where_it_is_asked_for() -> None:
    pairs = [("f(a);g(b)", "g(b);f(a)"), ("f(a);f(b)", "f(b);f(a)"), ("f(a);g(b)", "f(a);g(b)")]
    examples = examples_of({str(n): gold for n, (gold, _) in enumerate(pairs)})
    predictions = [Prediction(example_id=str(n), text=text) for n, (_, text) in enumerate(pairs)]
    freely = evaluate(examples, predictions).outcomes
    assert (freely.intents_right, freely.parameters_right, freely.exact) == ("111", "111", "001")
    report = evaluate(examples, predictions, EvaluateConfig(ordered_calls=True))
    strict = report.outcomes
    assert (strict.intents_right, strict.parameters_right, strict.exact) == ("011", "001", "001")
    assert [f.reason for f in report.failures] == ["wrong_order", "wrong_order"]
    assert report.slots.f1 == 1.0


def test_values_are_compared_as_the_recipe_says() -> None:
    example = Example(id="1", instruction="两个人", output="订座(两,ＶＩＰ厅)")
    answer = Prediction(example_id="1", text="订座(2, vip厅)")
    assert evaluate([example], [answer]).parameter_accuracy.value == 0.0
    config = EvaluateConfig(normalise_values=("full-width", "case", "numerals"))
    report = evaluate([example], [answer], config)
    assert report.exact_match.value == report.slots.f1 == 1.0
    assert report.failures == ()
    # the PAI guide's metrics ignore this setting
    assert report.documents.parameter_accuracy == 0.0


def decide_kinds(
    gold: str, answer: str, *kinds: Normalisation, alternatives: tuple[str, ...] = ()
) -> EvaluationReport:
    example = Example(id="1", instruction="x", output=gold, alternatives=alternatives)
    config = EvaluateConfig(normalise_values=kinds)
    return evaluate([example], [Prediction(example_id="1", text=answer)], config)


@pytest.mark.parametrize(
    ("gold", "answer", "kinds", "needed"),
    [
        ("f(5)", "f(5.0)", ("numbers", "case", "nfkc"), ("numbers",)),
        ("f(5,A)", "f(5.0,a)", ("numbers", "case", "nfkc"), ("case", "numbers")),
        ("f(Ａ)", "f(A)", ("nfkc", "full-width"), ("full-width",)),
        ("f(三)", "f(3)", ("numerals", "numbers"), ("numerals",)),
        ("f(八点一刻,後)", "f(8:15,后)", ("traditional", "times"), ("traditional", "times")),
        ("f(5)", "f(5)", ("numbers",), ()),
        ("f(5)", "f(6.0)", ("numbers",), ()),
        ("f(1);f(1.0)", "f(1.0);f(1)", ("numbers",), ("numbers",)),
        ("f(5);g()", "g();f(5.0)", ("numbers",), ("numbers",)),
    ],
)
def test_a_report_names_the_kinds_that_decided(
    gold: str, answer: str, kinds: tuple[Normalisation, ...], needed: tuple[Normalisation, ...]
) -> None:
    report = decide_kinds(gold, answer, *kinds)
    assert [row.kinds for row in report.normalised] == ([needed] if needed else [])
    assert report.normalised_counts == dict.fromkeys(needed, 1)
    assert decide_kinds(gold, answer, *reversed(kinds)) == report


def test_an_alternative_can_need_no_kind() -> None:
    assert not decide_kinds("f(5)", "f(5.0)", "numbers", alternatives=("f(5.0)",)).normalised
    report = decide_kinds("g()", "f(5.0)", "numbers", alternatives=("f(5)",))
    assert report.normalised[0].kinds == ("numbers",)
    assert report.exact_match.value == 1.0


def test_a_report_without_normalised_answers_has_the_fields_of_old_ones() -> None:
    report = decide_kinds("f(5)", "f(5.0)")
    assert report.failures[0].reason == "wrong_value"
    assert "normalised" not in report.model_dump()
    assert EvaluationReport.model_validate_json(report.model_dump_json()) == report
    decided = decide_kinds("f(5)", "f(5.0)", "numbers")
    assert EvaluationReport.model_validate_json(decided.model_dump_json()) == decided


@given(
    st.text(alphabet="ééöñがㄱ각Å\u0323\u0307ṩ한ｶﾞ後a", min_size=1, max_size=6),
    st.sampled_from(["NFC", "NFD"]),
)
def test_composed_and_decomposed_texts_are_equal_without_a_kind(text: str, form: str) -> None:
    other = unicodedata.normalize(form, text)
    report = evaluate(
        [Example(id="1", instruction="x", output=f'in{text}tent("{text}")')],
        [Prediction(example_id="1", text=f'in{other}tent("{other}")')],
        known_intents=[f"in{text}tent"],
    )
    assert report.exact_match.value == 1.0
    assert report.unknown_intent_rate is not None
    assert report.unknown_intent_rate.value == 0.0


def test_compatibility_forms_need_a_kind() -> None:
    assert decide_kinds("f(ｶﾞ)", "f(ガ)").exact_match.value == 0.0
    assert decide_kinds("f(ｶﾞ)", "f(ガ)", "nfkc").exact_match.value == 1.0


def test_an_alternative_is_as_right_as_the_label() -> None:
    example = Example(
        id="1", instruction="放首歌", output="play(a,b)", alternatives=("play()", "sing();f(x)")
    )

    def one(text: str) -> EvaluationReport:
        return evaluate([example], [Prediction(example_id="1", text=text)])

    assert one("play()").exact_match.value == 1.0
    assert one("f(x);sing()").failures[0].reason == "wrong_order"
    assert one("f(x);sing()").parameter_accuracy.value == 1.0
    # the label matches best because one of its slots is right: 1 of 2 expected
    assert one("play(a)").outcomes.slot_hits == (1,)
    assert one("play(a)").outcomes.slots_expected == (2,)
    # nothing is right in any of them, so the label is used
    assert one("stop()").outcomes.slots_expected == (2,)
    assert one("play()").documents.parameter_accuracy == 0.0
    assert [s.intent for s in one("sing();f(x)").per_intent] == ["play"]
    with pytest.raises(DataError, match=r"example '1': the label 'play\('"):
        evaluate([example.model_copy(update={"alternatives": ("play(",)})], [])


def test_intervals_count_sources_where_a_tag_names_them() -> None:
    examples = [
        Example(id=str(n), instruction="say", output="f()", tags={"dialogue": f"d{n // 5}"})
        for n in range(20)
    ]
    # whole dialogues are right or wrong: 2 of 4
    answers = [Prediction(example_id=str(n), text="f()" if n < 10 else "g()") for n in range(20)]
    alone = evaluate(examples, answers).exact_match
    report = evaluate(examples, answers, EvaluateConfig(group_by="dialogue"))
    grouped = report.exact_match
    assert (alone.value, grouped.value, grouped.total) == (0.5, 0.5, 20)
    assert grouped.low < alone.low < alone.high < grouped.high
    assert report.outcomes.groups[4:6] == ("dialogue=d0", "dialogue=d1")
    assert evaluate(examples, answers).outcomes.groups == ()
    # no two examples share a source, so nothing changes
    lone = evaluate(examples[::5], answers[::5], EvaluateConfig(group_by="dialogue"))
    assert lone.outcomes.groups == ()
    one_untagged = [examples[0], examples[1], examples[2].model_copy(update={"tags": {}})]
    groups = evaluate(one_untagged, [], EvaluateConfig(group_by="dialogue")).outcomes.groups
    assert groups == ("dialogue=d0", "dialogue=d0", "#2")

"""Named arguments have no order: everywhere where labels or answers are compared."""

import json
from pathlib import Path
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from intent_core.datasets.build import build_dataset
from intent_core.datasets.deduplicate import deduplicate
from intent_core.datasets.provenance import ExportSource
from intent_core.evaluation.call_matching import slots_of
from intent_core.evaluation.scoring import compare_calls
from intent_core.exports.reader import read_answer
from intent_core.exports.records import Record
from intent_core.exports.row_answer import RowAnswer
from intent_core.language.calls import (
    Argument,
    Call,
    fold_label,
    format_calls,
    parse_calls,
    sort_named,
)
from intent_core.recipe.config import DataConfig
from intent_core.serving.trial.live_comparison import judge_texts

VALUES = st.text("ab=,;\"' 杭（", max_size=3)
NAMES = st.sampled_from(["a", "b", "from", "到"])
ARGUMENTS = st.lists(st.builds(Argument, value=VALUES, name=st.none() | NAMES), max_size=5)
CALLS = st.builds(lambda some: Call(intent="f", arguments=tuple(some)), ARGUMENTS)


def read(*labels: str, config: DataConfig = DataConfig(), check: str = "") -> Any:  # noqa: B008
    results = [{"markTitle": "output", "data": label} for label in labels]
    row: dict[str, Any] = {"data": {"instruction": "x"}, "label-1": {"results": results}}
    if check:
        row["label-1-check"] = {"results": [{"markTitle": "output", "data": check}]}
    return read_answer(row, config)


def record(output: str, line: int, utterance: str = "fly b to c") -> Record:
    return Record(utterance, output, "e", line, line, "label")


@given(CALLS, st.data())
def test_any_order_of_the_named_arguments_is_the_same_call(call: Call, data: st.DataObject) -> None:
    mixed = data.draw(st.permutations(call.arguments))
    positions = iter([argument for argument in call.arguments if argument.name is None])
    kept = tuple(next(positions) if a.name is None else a for a in mixed)
    other = Call(intent="f", arguments=kept)
    assert sort_named([call]) == sort_named([other])
    assert fold_label(format_calls([call])) == fold_label(format_calls([other]))
    comparison = compare_calls([call], [other], ordered=True)
    assert (comparison.exact, comparison.reason) == (True, None)
    assert comparison.slot_hits == comparison.slots_expected == comparison.slots_found


@given(CALLS, CALLS)
def test_calls_are_the_same_exactly_if_their_slots_are(first: Call, second: Call) -> None:
    is_same = slots_of(first) == slots_of(second)
    assert (sort_named([first]) == sort_named([second])) == is_same
    texts = [fold_label(format_calls([call])) for call in (first, second)]
    assert (texts[0] == texts[1]) == is_same
    assert compare_calls([first], [second]).exact == is_same


@given(st.permutations(["a", "b", "c"]))
def test_unnamed_arguments_have_an_order(values: list[str]) -> None:
    assume(values != ["a", "b", "c"])
    assert fold_label(f"f({','.join(values)},x=1)") != fold_label("f(x=1,a,b,c)")


def test_the_order_of_calls_counts_for_exact_match() -> None:
    gold, answer = parse_calls("f(a=1,b=2);g()"), parse_calls("g();f(b=2,a=1)")
    comparison = compare_calls(gold, answer)
    assert (comparison.parameters_right, comparison.exact) == (True, False)
    assert comparison.reason == "wrong_order"


def test_annotators_agree_and_the_first_text_is_used() -> None:
    config = DataConfig(annotators="reject")
    answer = read("f(b=2,a=1)", "f(a=1,b=2)", "f( a=1, b=2 )", config=config)
    assert isinstance(answer, RowAnswer)
    assert (answer.output, answer.notes) == ("f(b=2,a=1)", ())
    majority = read("h(e)", "f(a=1,b=2)", "f(b=2,a=1)")
    assert majority.output == "f(a=1,b=2)"
    assert "'f(a=1,b=2)' x2, 'h(e)' x1" in majority.notes[0].message
    assert read("f(1,2)", "f(2,1)").reason == "annotators-disagree"


def test_stages_agree() -> None:
    assert not read("f(a=1,b=2)", check="f(b=2,a=1)").notes
    assert read("f(a=1,b=2)", check="f(a=2,b=1)").notes[0].kind == "stages-disagree"


def test_repeats_are_duplicates_and_origins_not_conflicts(tmp_path: Path) -> None:
    records = [record("f(b=2,a=1)", 1), record("f(a=1,b=2)", 2), record("g()", 3, "stop")]
    unique = deduplicate(records, DataConfig())
    assert (len(unique.duplicates), unique.conflicts) == (1, [])
    manifest = build_dataset(
        records,
        DataConfig(test_fraction=0.0, validation_fraction=0.0, stop_on=()),
        tmp_path,
        uri="x",
        source=ExportSource(uri="e", sha256="0"),
        rejections={},
        external_test=[record("g()", 9, "stop it")],
    )
    assert (manifest.num_duplicates, manifest.num_conflicts) == (1, 0)
    lines = (tmp_path / manifest.origins).read_text().splitlines()[1:]
    assert [json.loads(line)["line"] for line in lines][:2] == [1, 2]


def test_two_models_give_the_same_answer() -> None:
    first, second = (judge_texts([text], 1.0) for text in ("f(a=1,b=2)", "f(b=2,a=1)"))
    assert first == second
    assert first != judge_texts(["f(b=1,a=2)"], 1.0)


def test_a_composed_letter_is_its_decomposed_form() -> None:
    composed, decomposed = "play(r\u00e9sum\u00e9)", "play(re\u0301sume\u0301)"
    assert composed != decomposed
    assert fold_label(composed) == fold_label(decomposed)

"""A character that prints nothing changes no row: it is removed, and reported with its place."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.datasets.check_export import check_export
from intent_core.datasets.deduplicate import deduplicate
from intent_core.exports.files.json_rows import RowFault
from intent_core.exports.reader import read_answer, read_export
from intent_core.exports.row_answer import RowAnswer
from intent_core.language.invisible import fold_invisible
from intent_core.recipe.config import DataConfig, PipelineConfig, Template
from tests.support.builders.export_rows import row, survey
from tests.support.builders.invisible import INVISIBLE
from tests.support.builders.records import record

CASE = Path(__file__).parents[2] / "data/cases/02-invisible-characters/export.manifest"
ZWSP = "\u200b"
# A registered variant of a Han character is another value.
NOT_VARIANTS = [character for character in INVISIBLE if character < "\U000e0100"]


def read_row(row: Any, **config: Any) -> RowAnswer:
    answer = read_answer(row, DataConfig(**config))
    assert isinstance(answer, RowAnswer), answer
    return answer


def test_the_case_has_its_right_value(tmp_path: Path) -> None:
    reading = read_export(CASE, DataConfig())
    assert [(r.line, r.reason) for r in reading.rejections] == [(5, "empty-utterance")]
    outputs = ["light_on()", "light_off()", "light_off()", "weather_search(杭州)"]
    assert [record.output for record in reading.records] == outputs
    assert [(report.line, report.kind) for report in reading.reports] == [
        (line, "invisible-characters") for line in (2, 3, 4)
    ]
    assert [
        report.message[-len("U+200B ZERO WIDTH SPACE") :] for report in reading.reports[:2]
    ] == ["U+200B ZERO WIDTH SPACE"] * 2
    assert "U+2060 WORD JOINER" in reading.reports[2].message
    unique = deduplicate(reading.records, DataConfig())
    assert [conflict["utterance"] for conflict in unique.conflicts] == ["开灯"]
    config = PipelineConfig(data=DataConfig(max_rejection_rate=0.5, conflicts="latest"))
    checked = check_export(CASE, config, out=tmp_path)
    assert (checked.records, checked.utterances, checked.intents) == (4, 3, 2)


@pytest.mark.parametrize("character", INVISIBLE)
def test_every_position_of_a_row(character: str) -> None:
    c = character
    label = f'{c}a{c}({c}s{c}={c}x,{c}"y{c}, z"{c}{c}){c};{c}b(){c}'
    answer = read_row({"instruction": f"{c}turn it{c} on", "output": label})
    assert (answer.utterance, answer.output) == ("turn it on", 'a(s=x,"y, z");b()')
    notes = [note for note in answer.notes if note.kind == "invisible-characters"]
    assert len(notes) == 2
    assert all(f"U+{ord(c):04X}" in note.message for note in notes)


@pytest.mark.parametrize(
    "row",
    [
        {f"instruction{ZWSP}": "x", f"\ufeffoutput{ZWSP}": "a()"},
        {f"data{ZWSP}": {f"{ZWSP}instruction": "x"}, f"label-1{ZWSP}": survey("a()")},
        row("x", label_1=survey("a()", title=f"output{ZWSP}")),
        row(
            "x",
            label_1={
                "results": [{"MarkResult": {"annotations": [{"labels": {"\u2060output": "a()"}}]}}]
            },
        ),
        row("x", label_1={"results": [{"data": [{"data": f"a{ZWSP}"}]}]}),
        row("x", label_1={"results": [{"data": [{"data": f"a(){ZWSP}"}]}]}),
        {"text": "x", "label": [f"a{ZWSP}"]},
    ],
)
def test_keys_titles_and_choices(row: dict[str, Any]) -> None:
    answer = read_row(row)
    assert (answer.utterance, answer.output) == ("x", "a()")


@pytest.mark.parametrize("intent", ["☀️", "查\U000e0100天气"])
def test_intents_differ_in_what_prints(intent: str) -> None:
    plain = read_row({"instruction": "x", "output": f"{fold_invisible(intent)}()"})
    answer = read_row({"instruction": "x", "output": f"{intent}()"})
    assert (answer.output, [note.kind for note in answer.notes]) == (plain.output, ["rewritten"])


def test_a_variant_of_a_character_is_no_conflict() -> None:
    labels = (("去葛\U000e0100城", "go(葛\U000e0100城)"), ("去葛城", "go(葛城)"))
    unique = deduplicate((record(*label) for label in labels), DataConfig())
    assert (len(unique.kept), unique.conflicts, len(unique.duplicates)) == (1, [], 1)


def test_a_tag_and_a_column(tmp_path: Path) -> None:
    tagged = row("x", label_1=survey("a()"))
    tagged["data"]["channel"] = f"pho{ZWSP}ne"
    assert read_row(tagged, tag_fields=("channel",)).tags == (("channel", "phone"),)
    (tmp_path / "rows.csv").write_text(f"{ZWSP}instruction,out{ZWSP}put\nx,a()\n", "utf-8")
    assert read_export(tmp_path / "rows.csv", DataConfig()).tally.num_records == 1


@pytest.mark.parametrize(
    ("intent", "city", "output"),
    [
        (f"w{ZWSP}", f"杭州{ZWSP}", "w(杭州)"),
        ("w", f"a,b{ZWSP}", 'w("a,b")'),
        ("w", "\U000e0001x", "w(x)"),
        ("w", ZWSP, "w()"),
        (ZWSP, "x", "empty-answer"),
        ("w", "x\ud800", "bad-characters"),
        ("w", "x\0", "bad-characters"),
    ],
)
def test_the_questions_of_a_template(intent: str, city: str, output: str) -> None:
    results = [{"data": intent, "markTitle": "intent"}, {"data": city, "markTitle": "city"}]
    config = DataConfig(template=Template(intent="intent", slots=("city",)))
    answer = read_answer(row("x", label_1={"results": results}), config)
    assert (answer.reason if isinstance(answer, RowFault) else answer.output) == output
    if isinstance(answer, RowAnswer):
        assert [note.kind for note in answer.notes] == ["invisible-characters"]


@pytest.mark.parametrize("text", ["", ZWSP, "\u2060\ufeff", f" {ZWSP} ", "\u3164"])
def test_nothing_to_see_is_empty(text: str) -> None:
    for fields, reason in (
        ({"instruction": text, "output": "a()"}, "empty-utterance"),
        ({"instruction": "x", "output": text}, "empty-answer"),
    ):
        fault = read_answer(fields, DataConfig())
        assert isinstance(fault, RowFault)
        assert fault.reason == reason


def test_an_escape_in_quotes_is_explicit() -> None:
    answer = read_row({"instruction": "x", "output": r'a("x\u200by")'})
    assert (answer.output, answer.notes) == (r'a("x\u200by")', ())


@pytest.mark.parametrize("label", ["a(x\0y)", r'a("\u0000")', "\0a()"])
def test_nul_is_rejected_in_labels_as_in_utterances(label: str) -> None:
    for fields in ({"instruction": "x", "output": label}, {"instruction": "x\0", "output": "a()"}):
        fault = read_answer(fields, DataConfig())
        assert isinstance(fault, RowFault)
        assert fault.reason == "bad-characters"


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(NOT_VARIANTS)), max_size=5),
    st.sampled_from(["a(x,y)", 'play("x, y",b=z);c()', "查天气(杭州)", "play(“x，y”)", "a（x）"]),
)
def test_annotators_and_stages_agree_on_what_prints_alike(
    places: list[tuple[int, str]], label: str
) -> None:
    typed = label
    for position, character in places:
        position %= len(typed) + 1
        typed = typed[:position] + character + typed[position:]
    answer = read_row(row("x", label_1=survey(typed, label), label_1_check=survey(label)))
    assert answer.output == read_row(row("x", label_1=survey(label))).output
    assert not {"annotators-disagree", "stages-disagree"} & {note.kind for note in answer.notes}


def test_json_escapes_are_the_same_characters(tmp_path: Path) -> None:
    text = json.dumps({"instruction": f"开{ZWSP}灯", "output": f"{ZWSP}a()"})
    assert "\\u200b" in text
    (tmp_path / "rows.jsonl").write_text(text)
    (record,) = read_export(tmp_path / "rows.jsonl", DataConfig()).records
    assert (record.utterance, record.output) == ("开灯", "a()")

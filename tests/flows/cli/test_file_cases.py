"""Files of publicly reported problems, through the command line: `tests/data/cases`."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flows.cli.main import app

CASES = Path(__file__).parents[2] / "data" / "cases"
COMMAS, FORMATS = CASES / "04-csv-comma", CASES / "11-not-an-export"
ALTERNATIVES, SHAPES = CASES / "09-score-alternatives", CASES / "10-score-file-shapes"
SPEAKERS = CASES / "17-speakers"
NAMED = CASES / "18-named-order"


def intent(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def label(tmp_path: Path, source: Path, *options: str) -> tuple[list[str], list[Any]]:
    """Return the utterances to label and the rejected lines."""
    out, rejected = tmp_path / "o.manifest", tmp_path / "r.jsonl"
    done = intent("manifest", source, "--out", out, "--rejected", rejected, *options)
    assert done.exit_code == 0, done.output
    rows, lines = (list(map(json.loads, path.read_text().splitlines())) for path in (out, rejected))
    return [row["data"]["instruction"] for row in rows], lines


def score(gold: Path, predictions: Path, *options: str) -> dict[str, Any]:
    done = intent("score", "--gold", gold, "--predictions", predictions, "--json", *options)
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("name", ["a.csv", "b.csv"])
def test_a_row_with_more_cells_than_columns_is_rejected(tmp_path: Path, name: str) -> None:
    utterances, [bad] = label(tmp_path, COMMAS / name)
    assert utterances == ["Turn it off"]
    assert (bad["source"], bad["line"]) == (name, 2)
    assert "cells for" in bad["reason"]


def test_a_column_that_occurs_twice_is_an_error(tmp_path: Path) -> None:
    done = intent("manifest", COMMAS / "c.csv", "--out", tmp_path / "o.manifest")
    assert done.exit_code == 3
    assert "the column 'instruction' occurs 2 times" in " ".join(done.stderr.split())


def test_alternatives_count_as_right_and_are_converted(tmp_path: Path) -> None:
    report = score(ALTERNATIVES / "gold.json", ALTERNATIVES / "pred.json")
    assert (report["num_examples"], report["exact_match"]) == (1, 1.0)
    assert intent("convert", ALTERNATIVES / "gold.json", "--out", tmp_path / "o").exit_code == 0
    [row] = json.loads((tmp_path / "o").read_text())
    assert (row["alternatives"], row["tags"]) == (["volume_up()"], {"channel": "phone"})


@pytest.mark.parametrize(
    ("name", "num_examples", "reports"),
    [
        ("gold_bom.json", 1, {}),
        ("gold_trailing_comma.json", 1, {"trailing-comma": 1}),
        ("gold_slip.json", 1, {"missing-parenthesis": 1}),
        ("gold.jsonl", 2, {}),
        ("generated_predictions.jsonl", 1, {}),
    ],
)
def test_a_test_set_is_read_as_an_export_is(
    name: str, num_examples: int, reports: dict[str, int]
) -> None:
    report = score(SHAPES / name, SHAPES / "pred.json")
    assert report["num_examples"] == num_examples
    assert report["exact_match"] == 1 / num_examples
    assert report["num_missing_predictions"] == num_examples - 1
    assert report["reports"] == reports


def test_answers_of_llama_factory_are_scored() -> None:
    report = score(SHAPES / "pred.json", SHAPES / "generated_predictions.jsonl")
    assert (report["num_examples"], report["exact_match"]) == (1, 1.0)


@pytest.mark.parametrize(
    ("name", "num_rows"),
    [
        *[("admin.zip", 3), ("pretty.json", 3), ("wrapped.json", 3)],
        *[("labels.csv", 1), ("doccano.jsonl", 1), ("chat.jsonl", 1)],
    ],
)
def test_common_formats_are_read(tmp_path: Path, name: str, num_rows: int) -> None:
    out = tmp_path / "o.json"
    assert intent("convert", FORMATS / name, "--out", out).exit_code == 0
    assert len(json.loads(out.read_text())) == num_rows
    utterances, rejected = label(tmp_path, FORMATS / name)
    assert (len(utterances), rejected) == (num_rows, [])
    assert score(FORMATS / name, FORMATS / name)["num_examples"] == num_rows


def test_a_number_is_not_an_utterance(tmp_path: Path) -> None:
    done = intent("convert", FORMATS / "number.jsonl", "--out", tmp_path / "o.json")
    assert done.exit_code == 3
    assert "'instruction' must be text, not a number" in " ".join(done.stderr.split())


def test_the_customers_turns_are_labelled(tmp_path: Path) -> None:
    utterances, rejected = label(tmp_path, SPEAKERS / "calls.txt")
    assert utterances == ["I want my money back", "我要退货", "play jazz"]
    assert not rejected
    assert label(tmp_path, SPEAKERS / "sharegpt.jsonl") == (["play jazz", "stop"], [])


def test_names_of_speakers_are_a_setting(tmp_path: Path) -> None:
    calls = tmp_path / "calls.txt"
    calls.write_text("Kunde: Ich will mein Geld\nBerater: Moment\n\nKunde: Stopp\nBerater: Ja\n")
    done = intent("manifest", calls, "--out", tmp_path / "o.manifest")
    assert done.exit_code == 3
    assert "'Kunde:' looks like a speaker: add it to data.speakers" in " ".join(done.stderr.split())
    names = ["--set", "data.speakers.user=[kunde]", "--set", "data.speakers.agent=[Berater]"]
    assert label(tmp_path, calls, *names) == (["Ich will mein Geld", "Stopp"], [])
    one = ["--set", "data.speakers={user: [Kunde], agent: [Berater, Bot]}"]
    assert label(tmp_path, calls, *one) == (["Ich will mein Geld", "Stopp"], [])


@pytest.mark.parametrize("command", ["convert", "check", "manifest", "score"])
def test_the_format_of_rows_is_an_option(tmp_path: Path, command: str) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "stop", "label": ["stop()"], "instruction": "Classify the text."}\n')
    arguments: list[object] = [command, rows, "--out", tmp_path / "out"]
    if command == "check":
        arguments.append("--no-tokens")
    if command == "score":
        predictions = tmp_path / "p.jsonl"
        predictions.write_text('{"instruction": "stop", "output": "stop()"}\n')
        arguments = [command, "--gold", rows, "--predictions", predictions, "--json"]
    done = intent(*arguments, "--format", "doccano")
    assert done.exit_code == 0, done.output
    if command == "convert":
        assert json.loads((tmp_path / "out").read_text()) == [
            {"instruction": "stop", "output": "stop()"}
        ]
    if command == "manifest":
        assert '"stop"' in (tmp_path / "out").read_text()
    if command == "score":
        assert json.loads(done.stdout)["exact_match"] == 1.0
    assert intent(*arguments, "--format", "excel").exit_code == 2


def test_named_arguments_in_another_order_are_the_same_label(tmp_path: Path) -> None:
    done = intent("convert", NAMED / "annotators.manifest", "--out", tmp_path / "o.json")
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "o.json").read_text())
    assert [row["output"] for row in rows] == ["fly(from=b,to=c)", "fly(from=d,to=e)"]
    done = intent("check", NAMED / "twice.jsonl", "--no-tokens", "--out", tmp_path / "check")
    assert "2 of 2 rows are usable, 1 distinct" in done.output
    assert not (tmp_path / "check/conflicts.jsonl").exists()
    [repeat] = (tmp_path / "check/duplicates.jsonl").read_text().splitlines()
    assert json.loads(repeat)["line"] == 2
    report = score(NAMED / "gold.json", NAMED / "pred.json")
    assert (report["num_examples"], report["exact_match"]) == (1, 1.0)

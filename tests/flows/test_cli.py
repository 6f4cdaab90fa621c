"""The commands that need no server: convert and score, their files and exit codes."""

import json
from pathlib import Path

import pytest
from labelled import labelled_rows, to_itag, write_export
from typer.testing import CliRunner, Result

from flows.cli import app

DIRTY = Path(__file__).parents[1] / "data" / "snips_en" / "export-dirty.manifest"


def intent(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "command", ["up", "down", "run", "convert", "score", "ask", "status", "rollback", "demo"]
)
def test_every_command_has_help(command: str) -> None:
    done = intent(command, "--help")
    assert done.exit_code == 0
    assert len(done.stdout) > 200


def test_convert_writes_the_documents_format(tmp_path: Path) -> None:
    out = tmp_path / "train.json"
    done = intent("convert", write_export(tmp_path / "e.manifest"), "--out", out, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text(encoding="utf-8")) == labelled_rows()
    count = len(labelled_rows())
    assert json.loads(done.stdout) == {"objects": count, "records": count, "rejections": 0}


def test_convert_quarantines_bad_rows_with_their_reasons(tmp_path: Path) -> None:
    out, rejected = tmp_path / "train.json", tmp_path / "rejected.jsonl"
    refused = intent("convert", DIRTY, "--out", out, "--rejected", rejected)
    assert refused.exit_code == 3
    assert "max_rejection_rate" in refused.stderr
    assert not out.exists()
    done = intent(
        *("convert", DIRTY, "--out", out, "--rejected", rejected),
        *("--max-rejection-rate", 1, "--json"),
    )
    assert done.exit_code == 0, done.output
    counts = json.loads(done.stdout)
    rows = [json.loads(line) for line in rejected.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == counts["rejections"] > 0
    assert len(json.loads(out.read_text(encoding="utf-8"))) == counts["records"] > 0
    assert counts["records"] + counts["rejections"] == counts["objects"]
    assert all(row["reason"] and row["line"] for row in rows)


def test_convert_of_what_is_not_there(tmp_path: Path) -> None:
    done = intent("convert", tmp_path / "none", "--out", tmp_path / "out.json")
    assert done.exit_code == 3
    assert "none" in done.stderr


def test_score_counts_by_hand(tmp_path: Path) -> None:
    gold = [
        {"instruction": "a", "output": "play(x)"},
        {"instruction": "b", "output": "play(y)"},
        {"instruction": "c", "output": "stop()"},
        {"instruction": "c", "output": "stop()"},
    ]
    answers = [
        {"instruction": "a", "output": "play(x)"},
        {"instruction": "b", "output": "play(z)"},
        {"instruction": "c", "output": "no call"},
    ]
    files = (write_rows(tmp_path / "g.json", gold), write_rows(tmp_path / "p.json", answers))
    done = intent("score", "--gold", files[0], "--predictions", files[1], "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    # Intent right: a, b. Parameters right: a. Parsed: a, b. The second "c" has no answer.
    assert report["num_examples"] == 4
    assert report["intent_accuracy"] == 2 / 4
    assert report["parameter_accuracy"] == 1 / 4
    assert report["exact_match"] == 1 / 4
    assert report["parse_rate"] == 2 / 4
    assert report["documents"] == {"intent_accuracy": 2 / 4, "parameter_accuracy": 1 / 4}
    assert report["num_missing_predictions"] == 1


def test_score_refuses_answers_to_other_questions(tmp_path: Path) -> None:
    gold = write_rows(tmp_path / "g.json", [{"instruction": "a", "output": "f()"}])
    other = write_rows(tmp_path / "p.json", [{"instruction": "b", "output": "f()"}])
    done = intent("score", "--gold", gold, "--predictions", other)
    assert done.exit_code == 3
    assert "b" in done.stderr


@pytest.mark.parametrize("content", ["", "[", '{"a": 1}', '[{"instruction": "a"}]', "[1]"])
def test_score_names_the_file_that_is_wrong(tmp_path: Path, content: str) -> None:
    gold = tmp_path / "gold-file.json"
    gold.write_text(content)
    done = intent("score", "--gold", gold, "--predictions", gold)
    assert done.exit_code == 3
    assert "gold-file.json" in " ".join(done.stderr.split())


def test_a_misspelt_option_is_a_usage_error(tmp_path: Path) -> None:
    assert intent("convert", tmp_path, "--outt", "x").exit_code == 2
    assert intent("demo", "--gate", "loose").exit_code == 2


def test_an_export_of_one_line_without_newline(tmp_path: Path) -> None:
    path = tmp_path / "one.manifest"
    path.write_text(to_itag({"instruction": "停", "output": "music_exit()"}), encoding="utf-8")
    done = intent("convert", path, "--out", tmp_path / "out.json")
    assert done.exit_code == 0, done.output
    assert "1 of 1 rows" in done.stdout

"""Commands without servers: convert, check, vocabulary, manifest and score."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli.main import app
from intent_core.recipe.loader import load_config
from intent_core.recipe.vocabulary_file import read_vocabulary
from tests.support.builders.labeled_export import labelled_rows, to_itag, write_export

DIRTY = Path(__file__).parents[2] / "data" / "snips_en" / "export-dirty.manifest"


def intent(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "command",
    [
        *("up", "down", "run", "convert", "check", "vocabulary", "manifest", "score"),
        *("ask",),
        *("status", "rollback", "demo", "trace", "forget"),
        *("doctor", "clean", "backup", "restore"),
    ],
)
def test_every_command_has_help(command: str) -> None:
    done = intent(command, "--help")
    assert done.exit_code == 0
    assert len(done.stdout) > 200


def test_convert_writes_the_pai_guides_format(tmp_path: Path) -> None:
    out = tmp_path / "train.json"
    done = intent("convert", write_export(tmp_path / "e.manifest"), "--out", out, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text(encoding="utf-8")) == labelled_rows()
    count = len(labelled_rows())
    assert json.loads(done.stdout) == {
        "objects": count,
        "records": count,
        "rejections": 0,
        "reasons": {},
        "reports": {},
    }


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


def test_convert_reads_as_the_recipe_says(tmp_path: Path) -> None:
    row = {
        "data": {"text": "stop"},
        "label-1": {"results": [{"data": "stop", "markTitle": "意图"}]},
    }
    export, out, reports = (tmp_path / name for name in ("e.manifest", "out.json", "r.jsonl"))
    export.write_text(json.dumps(row), encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data:\n  utterance_field: text\n  question_title: 意图\n", encoding="utf-8")
    refused = intent("convert", export, "--out", out, "--recipe", recipe)
    assert refused.exit_code == 3
    assert "1 x bare-intent, e.g. e.manifest:1: " in refused.stderr
    done = intent(
        *("convert", export, "--out", out, "--recipe", recipe, "--reports", reports),
        *("--set", "data.tolerate=[bare-intent]"),
    )
    assert done.exit_code == 0, done.output
    assert "reported 1 x bare-intent" in done.stdout
    assert json.loads(out.read_text()) == [{"instruction": "stop", "output": "stop()"}]
    assert json.loads(reports.read_text())["kind"] == "bare-intent"
    assert intent("convert", export, "--out", out, "--set", "data.tolerat=[]").exit_code == 2


def test_vocabulary_drafts_what_a_recipe_can_use(tmp_path: Path) -> None:
    export, out = write_export(tmp_path / "e.manifest"), tmp_path / "recipes" / "intents.yaml"
    done = intent("vocabulary", export, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    entries = read_vocabulary(out).intents
    counts = json.loads(done.stdout)
    assert counts["intents"] == len(entries)
    assert counts["slots"] == sum(len(entry.slots) for entry in entries.values()) > 0
    text = out.read_text(encoding="utf-8")
    assert text.count("  # guessed") == counts["guessed"] > 0
    recipe = tmp_path / "recipes" / "music.yaml"
    recipe.write_text("project: music\n", encoding="utf-8")
    assert load_config(recipe).data.vocabulary == read_vocabulary(out)


def test_vocabulary_overwrites_only_with_force(tmp_path: Path) -> None:
    export, out = write_export(tmp_path / "e.manifest"), tmp_path / "intents.yaml"
    out.write_text("mine", encoding="utf-8")
    refused = intent("vocabulary", export, "--out", out)
    assert refused.exit_code == 2
    assert f"{out} exists" in refused.stderr.replace("\n", "") and out.read_text() == "mine"
    done = intent("vocabulary", export, "--out", out, "--force")
    assert done.exit_code == 0, done.output
    assert f"slot(s) written to {out}" in done.stdout.replace("\n", "")
    assert "next: " in done.stdout
    assert read_vocabulary(out)


def test_vocabulary_needs_usable_rows(tmp_path: Path) -> None:
    export, out = write_rows(tmp_path / "e.json", [{"instruction": "a"}]), tmp_path / "intents.yaml"
    assert intent("vocabulary", export, "--out", out).exit_code == 3
    refused = intent("vocabulary", export, "--out", out, "--max-rejection-rate", "1")
    assert refused.exit_code == 3
    assert "no usable rows" in refused.stderr
    assert not out.exists()


def test_check_finds_and_recommends(tmp_path: Path) -> None:
    out = tmp_path / "details"
    done = intent("check", write_export(tmp_path / "e.manifest"), "--json", "--out", out)
    assert done.exit_code == 0, done.output
    check = json.loads(done.stdout)
    assert check["records"] == check["utterances"] == len(labelled_rows())
    found = {finding["rule"]: finding for finding in check["findings"]}
    assert found["few-utterances"]["numbers"]["num_intents"] == 1
    # Tokens of the longest sample, with prompt and end token, for the embedded base model.
    assert found["seq-length"]["numbers"]["longest"] in range(50, 70)
    assert found["seq-length"]["numbers"]["recommended"] == 64
    assert "few-utterances" in (out / "data_check.md").read_text(encoding="utf-8")
    files = {finding["file"] for finding in check["findings"]} - {""}
    assert "few_utterances.jsonl" in files
    files |= {"rejections.jsonl", "reports.jsonl", "data_check.md"}
    assert {path.name for path in out.iterdir()} == files


def test_check_rejects_what_the_training_rejects(tmp_path: Path) -> None:
    export, out = write_export(tmp_path / "e.manifest"), tmp_path / "details"
    long = {"instruction": "play" + " la" * 140, "output": "play_music(la)"}
    with export.open("a", encoding="utf-8") as file:
        file.write(to_itag(long) + "\n")
    done = intent("check", export, "--json", "--out", out)
    assert done.exit_code == 0, done.output
    check, count = json.loads(done.stdout), len(labelled_rows())
    assert (check["objects"], check["records"], check["utterances"]) == (count + 1, count, count)
    assert (check["rejections"], check["reasons"]) == (1, {"too-many-tokens": 1})
    (row,) = (out / "rejections.jsonl").read_text(encoding="utf-8").splitlines()
    rejection = json.loads(row)
    assert (rejection["source"], rejection["line"]) == ("e.manifest", count + 1)
    assert json.loads(rejection["raw"]) == long
    assert "train.seq_length is 128: raise it to 256" in rejection["message"]
    found = {finding["rule"]: finding for finding in check["findings"]}
    assert found["seq-length"]["numbers"]["num_too_long"] == 1
    assert found["seq-length"]["numbers"]["recommended"] == 256
    strict = intent("check", export, "--max-rejection-rate", "0")
    assert strict.exit_code == 3
    assert f"e.manifest:{count + 1}: the sample has " in strict.stderr.replace("\n", " ")
    strictly = ("check", export, "--json", "--max-rejection-rate", "0")
    roomy = intent(*strictly, "--set", "train.seq_length=auto")
    assert roomy.exit_code == 0, roomy.output
    assert json.loads(roomy.stdout)["rejections"] == 0


def test_check_stops_where_the_recipe_says_so(tmp_path: Path) -> None:
    export = write_export(tmp_path / "e.manifest")
    command = ("check", export, "--no-tokens", "--set")
    assert intent(*command, "data.stop_on=[imbalance]").exit_code == 0
    stopped = intent(*command, "data.stop_on=[few-utterances]")
    assert stopped.exit_code == 3
    assert "music_exit 24" in stopped.stdout
    assert "data.stop_on" in stopped.stderr
    misspelt = intent(*command, "data.stop_on=[few-utterence]")
    assert misspelt.exit_code == 2
    assert "few-utterances" in misspelt.stderr
    unknown = intent(
        *command, "gate.minimums={slot_f1: 0.8, slots_f1: 0.8, unknown_intent_rate: 0}"
    )
    assert unknown.exit_code == 2
    message = " ".join(unknown.stderr.split())
    assert "unknown metric: 'slots_f1', 'unknown_intent_rate'" in message
    assert "exact_match, intent_accuracy" in message
    assert intent(*command, "gate.minimums={slot_f1: 0.8, intent_accuracy: 0.9}").exit_code == 0


def test_manifest_of_conversations(tmp_path: Path) -> None:
    source, out = tmp_path / "chats.txt", tmp_path / "input.manifest"
    source.write_text(
        "User: I want to listen to music.\nAssistant: What kind?\nUser: Jazz\n\n停\n\x00\n停\n",
        encoding="utf-8",
    )
    rejected = tmp_path / "rejected.jsonl"
    done = intent("manifest", source, "--out", out, "--rejected", rejected, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"written": 2, "rejected": 1, "repeated": 1}
    assert out.read_text(encoding="utf-8").splitlines() == [
        '{"data":{"instruction":"I want to listen to music. Jazz"}}',
        '{"data":{"instruction":"停"}}',
    ]
    assert json.loads(rejected.read_text())["line"] == 6


def test_manifest_of_an_evaluations_failures_and_doubts(tmp_path: Path) -> None:
    examples, predictions, out = (tmp_path / name for name in ("t.jsonl", "p.jsonl", "out"))
    texts = ["play some jazz", "weather in Hangzhou", "weather in Hangzhou!", "turn it off"]
    answers = [("a(x)", 0.9), ("a(y)", 0.8), ("a(y)", 0.8), ("a(x)", 0.2)]
    examples.write_text(
        "".join(
            json.dumps({"id": str(n), "instruction": text, "output": "a(x)"}) + "\n"
            for n, text in enumerate(texts)
        )
    )
    predictions.write_text(
        "".join(
            json.dumps({"example_id": str(n), "text": text, "confidence": sure}) + "\n"
            for n, (text, sure) in enumerate(answers)
        )
    )
    command = ("manifest", "--from-predictions", predictions, "--out", out)
    done = intent(*command, "--examples", examples, "--limit", 2)
    assert done.exit_code == 0, done.output
    chosen = [json.loads(line)["data"]["instruction"] for line in out.read_text().splitlines()]
    assert chosen == ["weather in Hangzhou", "turn it off"]
    assert intent(*command).exit_code == 2
    assert intent("manifest", "--out", out).exit_code == 2
    wrong = intent("manifest", "--from-predictions", out, "--examples", examples, "--out", out)
    assert wrong.exit_code == 3
    assert "out:1 is not a prediction" in " ".join(wrong.stderr.split())


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

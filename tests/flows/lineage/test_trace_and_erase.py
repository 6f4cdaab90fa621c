"""`intent trace` and `intent forget` on real exports, without any server."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from intent_core.datasets.manifest import DatasetManifest
from tasks.settings import Settings, get_settings
from tasks.storage.step_results import get_store
from tests.support.builders.stored_lineage import CONFIG, DATA, note_model, prepare
from tests.support.scenarios.pipeline_runs import intent

pytestmark = pytest.mark.flow

MODEL, NEWER = "intent-0123456789ab", "intent-ba9876543210"
EXPORT = "exports/music.manifest"

both_languages = pytest.mark.parametrize("dataset", ["snips_en", "crosswoz_zh"], indirect=True)


@pytest.fixture
def settings(tmp_path: Path, closed_port: int) -> Settings:
    """A separate home without servers."""
    os.environ["INTENT_HOME"] = str(tmp_path / "home")
    os.environ["INTENT_MLFLOW_URL"] = f"http://127.0.0.1:{closed_port}"
    get_settings.cache_clear()
    return get_settings()


@pytest.fixture
def dataset(request: pytest.FixtureRequest, settings: Settings) -> DatasetManifest:
    """A dataset in Chinese, unless the test chooses another."""
    export = DATA / getattr(request, "param", "crosswoz_zh") / "export-open-group.manifest"
    get_store(settings).upload(export, EXPORT)
    return prepare(settings, EXPORT)


def refused(code: int, *arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return " ".join(done.stderr.split())


def ask(*arguments: str) -> Any:
    return json.loads(intent(*arguments, "--json"))


def first_of(settings: Settings, dataset: DatasetManifest, split: str) -> dict[str, str]:
    content = get_store(settings).read(f"{dataset.uri}/{split}.jsonl")
    row: dict[str, str] = json.loads(content.splitlines()[0])
    return row


def read_line(number: int, settings: Settings) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(get_store(settings).read(EXPORT).splitlines()[number - 1])
    return row


def texts_below(settings: Settings, prefix: str) -> bytes:
    store = get_store(settings)
    return b"\n".join(store.read(found.key) for found in store.list(prefix))


@both_languages
def test_an_utterance_leads_to_its_row_and_its_models(
    settings: Settings, dataset: DatasetManifest
) -> None:
    note_model(settings, dataset, MODEL)
    said = first_of(settings, dataset, "train")["instruction"]
    told = ask("trace", said.upper())
    row = told["rows"][0]
    line = read_line(row["line"], settings)
    assert line["data"]["instruction"].strip() == said
    assert row["mark_result"] in json.dumps(line)
    assert (row["split"], row["export"]) == ("train", dataset.source)
    assert row["export_etag"] == dataset.source_etag != ""
    assert row["answered"].startswith("202")
    [model] = told["models"]
    assert (model["split"], model["served"]) == ("train", "")
    lineage = model["lineage"]
    assert (lineage["model"], lineage["version"], lineage["mlflow_run"]) == (MODEL, "7", "r1")
    assert (lineage["recipe"], lineage["commit"]) == ("music", "c0ffee")
    assert (lineage["base_model"], lineage["base_model_digest"]) == ("base", "f" * 64)
    assert lineage["config"]["train"]["num_train_epochs"] == 3
    assert (lineage["export_uri"], lineage["export_sha256"]) == (
        *(dataset.source, dataset.source_sha256),
    )
    assert ask("trace", "--row", f"{EXPORT}:{row['line']}")["models"] == told["models"]
    assert ask("trace", "--row", f"{dataset.source}:{row['line']}")["rows"] == told["rows"]
    shown = intent("trace", said)
    for part in (f"{MODEL}, version 7 (trained on it)", "--set train.seed=7", row["mark_result"]):
        assert part in shown


def test_an_answer_leads_to_its_version(settings: Settings, dataset: DatasetManifest) -> None:
    note_model(settings, dataset, MODEL)
    told = ask("trace", f"chatcmpl-{MODEL}-v6-{'0' * 32}")
    [model] = told["models"]
    assert told["kind"] == "response"
    assert (model["lineage"]["model"], model["lineage"]["version"]) == (MODEL, "6")
    assert model["lineage"]["dataset"] == dataset.fingerprint
    assert ask("trace", MODEL)["models"][0]["lineage"]["version"] == "7"


def test_what_cannot_be_traced_says_what_to_do(settings: Settings) -> None:
    assert "does not contain a model name; it was issued by another server" in refused(
        2, "trace", "chatcmpl-1f2e"
    )
    assert "set INTENT_STORE" in refused(3, "trace", f"chatcmpl-{MODEL}-v6-{'0' * 32}")
    assert "give the complete text" in refused(3, "trace", "播放红豆")
    assert "or never prepared" in refused(3, "trace", "--row", f"{EXPORT}:1").replace(",", "")
    assert "expected EXPORT:LINE" in refused(2, "trace", "--row", EXPORT)
    assert "give either an answer's ID" in refused(2, "trace")
    assert "does not contain an utterance" in refused(3, "forget", f"{EXPORT}:1")
    assert "give exactly one of" in refused(2, "forget", "a:1", "--utterance", "b")
    assert "is not a MarkResultId" in refused(3, "forget", "--mark-result", "../x")


def test_mlflow_down_is_said_where_only_it_would_know(
    settings: Settings, dataset: DatasetManifest
) -> None:
    record = note_model(settings, dataset, MODEL, version="")
    finished = record.artifact.model_dump_json().encode()
    get_store(settings).put("trainings/t1/manifest.json", finished)
    told = ask("trace", "--row", f"{EXPORT}:{ask_line(settings, dataset)}")
    assert [one["lineage"]["version"] for one in told["models"]] == [""]
    assert f"{MODEL}: version and MLflow run (MLflow at" in told["not_known"][0]


def ask_line(settings: Settings, dataset: DatasetManifest) -> int:
    said = first_of(settings, dataset, "train")["instruction"]
    line: int = ask("trace", said)["rows"][0]["line"]
    return line


def test_datasets_without_origins_still_answer(
    settings: Settings, dataset: DatasetManifest
) -> None:
    store = get_store(settings)
    store.delete(f"{dataset.uri}/{dataset.origins}")
    old = dataset.model_copy(update={"origins": ""})
    unknown = {"origins", "source_etag", "source_version", "forgotten"}
    store.put(f"{dataset.uri}/manifest.json", old.model_dump_json(exclude=unknown).encode())
    said = first_of(settings, dataset, "train")["instruction"]
    [row] = ask("trace", said)["rows"]
    assert (row["split"], row["line"], row["export"]) == ("train", None, "")
    assert "not recorded: the dataset was made by an earlier version" in intent("trace", said)
    message = refused(3, "trace", "--row", f"{EXPORT}:1")
    assert f"{dataset.fingerprint} were prepared before" in message


@both_languages
def test_a_forgotten_row_leaves_every_later_dataset(
    settings: Settings, dataset: DatasetManifest
) -> None:
    note_model(settings, dataset, MODEL)
    store = get_store(settings)
    said = first_of(settings, dataset, "train")["instruction"]
    line = ask_line(settings, dataset)
    told = ask("forget", f"{EXPORT}:{line}")
    assert len(told["new"]) == 2, "the utterance and the answer's id"
    assert [one["lineage"]["model"] for one in told["models"]] == [MODEL]
    assert told["retrain"] == [f"intent run {EXPORT} --recipe music --set train.seed=7"]
    assert told["mlflow_runs"] == ["http://mlflow.test/#/r1"]
    held = [uri for uri in told["held_by"] if "/store/" in uri]
    assert [uri.rpartition("/store/")[2] for uri in held] == [
        f"{dataset.uri}/train.jsonl",
        EXPORT,
    ]
    listed = texts_below(settings, "forgotten/")
    assert said.encode() not in listed
    assert json.dumps(said).encode()[1:-1] not in listed
    again = ask("forget", f"{EXPORT}:{line}")
    assert again == {**told, "new": []}

    later = prepare(settings, EXPORT)
    assert later.fingerprint != dataset.fingerprint
    assert set(later.forgotten) <= set(told["new"])
    written = texts_below(settings, later.uri)
    assert said.encode() not in written
    assert json.dumps(said).encode()[1:-1] not in written
    assert ask("trace", said)["rows"][0]["example"].encode() not in written
    quarantine = store.read(f"{later.uri}/rejections.jsonl").splitlines()
    [rejected] = [json.loads(one) for one in quarantine if b'"forgotten"' in one]
    assert (rejected["line"], rejected["raw"], rejected["reason"]) == (line, "", "forgotten")
    assert later.num_rejections == dataset.num_rejections + 1
    assert prepare(settings, EXPORT) == later, "the same list, the same dataset"

    note_model(settings, later, NEWER, version="8")
    assert [one["lineage"]["model"] for one in ask("trace", said)["models"]] == [MODEL]
    shown = intent("forget", "--utterance", said)
    assert "already on the erasure list" in shown
    assert f"{MODEL} (version 7) trained on it" in shown
    assert NEWER not in shown


def test_what_was_taken_off_the_list_is_learned_again(
    settings: Settings, dataset: DatasetManifest
) -> None:
    said = first_of(settings, dataset, "train")["instruction"]
    intent("forget", "--utterance", said)
    assert prepare(settings, EXPORT).fingerprint != dataset.fingerprint
    assert "1 entries" in intent("forget", "--utterance", said.upper(), "--undo")
    assert ask("forget", "--utterance", said, "--undo") == {"removed": []}
    assert prepare(settings, EXPORT).fingerprint == dataset.fingerprint


def test_an_answers_id_forgets_its_utterance_too(
    settings: Settings, dataset: DatasetManifest
) -> None:
    said = first_of(settings, dataset, "test")["instruction"]
    [row, *_] = ask("trace", said)["rows"]
    note_model(settings, dataset, MODEL)
    told = ask("forget", "--mark-result", row["mark_result"])
    assert len(told["new"]) == 2
    assert told["retrain"] == [], "it was only tested with it"
    assert said.encode() not in texts_below(settings, prepare(settings, EXPORT).uri)


def test_a_row_that_was_never_usable_is_forgotten_from_the_export(settings: Settings) -> None:
    row = {"data": {"instruction": "给王小明打电话"}, "label-1": {"results": []}, "abandonFlag": 1}
    usual = (DATA / "crosswoz_zh" / "export-open-group.manifest").read_bytes()
    store = get_store(settings)
    store.put(EXPORT, json.dumps(row, ensure_ascii=False).encode() + b"\n" + usual)
    before = prepare(settings, EXPORT)
    told = ask("forget", f"{EXPORT}:1")
    assert f"{before.uri}/rejections.jsonl" in str(told["held_by"])
    later = prepare(settings, EXPORT)
    assert "王小明".encode() not in texts_below(settings, later.uri)
    assert later.fingerprint != before.fingerprint


def test_a_fixed_test_set_loses_the_row_as_well(settings: Settings) -> None:
    export = str(DATA / "snips_en" / "export-open-group.manifest")
    rows = [{"instruction": "call Gwen Carter", "output": "call(Gwen Carter)"}]
    rows.append({"instruction": "hang up", "output": "hang_up()"})
    get_store(settings).put("exports/test.json", json.dumps(rows).encode())
    config = CONFIG.model_copy(update={"test_uri": "exports/test.json"})
    before = prepare(settings, export, config)
    assert ask("trace", "call gwen carter")["rows"][0]["export"].endswith("/test.json")
    intent("forget", "--utterance", "CALL GWEN CARTER")
    later = prepare(settings, export, config)
    assert later.splits["test"].num_examples == 1
    assert later.test_fingerprint != before.test_fingerprint


def test_a_line_that_said_other_things_before_is_not_guessed(
    settings: Settings, dataset: DatasetManifest
) -> None:
    line = ask_line(settings, dataset)
    lines = get_store(settings).read(EXPORT).splitlines(keepends=True)
    get_store(settings).put(EXPORT, b"".join([lines[-1], *lines[:-1]]))
    message = refused(3, "forget", f"{EXPORT}:{line}")
    assert "2 different utterances at different times" in message
    assert "--mark-result or --utterance" in message

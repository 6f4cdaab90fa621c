"""`intent trace` and `intent forget` on rows and an erasure list in a real S3 store."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from intent_core.errors import StorageError
from tasks.settings import Settings, get_settings
from tasks.storage.step_results import get_store
from tasks.tracking.lineage import note_recorded
from tasks.tracking.record import RecordedRun
from tests.support.builders.stored_lineage import DATA, note_model, prepare
from tests.support.scenarios.pipeline_runs import intent
from tests.support.servers.seaweedfs import REGION, Seaweed

pytestmark = pytest.mark.service

EXPORT, MODEL = "exports/e.manifest", "intent-0123456789ab"
UTTERANCE = "这个酒店的地址在哪啊？"


@pytest.fixture
def settings(server: Seaweed, tmp_path: Path, closed_port: int) -> Settings:
    os.environ.update(server.full.environment())
    os.environ.update(
        INTENT_HOME=str(tmp_path / "home"),
        INTENT_STORE=f"s3://{server.bucket}/{tmp_path.name}",
        INTENT_S3_ENDPOINT_URL=server.url,
        INTENT_S3_REGION=REGION,
        INTENT_S3_ADDRESSING_STYLE="path",
        INTENT_MLFLOW_URL=f"http://127.0.0.1:{closed_port}",
    )
    get_settings.cache_clear()
    return get_settings()


def ask(*arguments: str) -> Any:
    return json.loads(intent(*arguments, "--json"))


def test_a_row_is_found_and_forgotten_in_s3(settings: Settings) -> None:
    store = get_store(settings)
    export = DATA / "crosswoz_zh" / "export-open-group.manifest"
    store.upload(export, EXPORT)
    stored = store.stat(EXPORT)
    before = prepare(settings, EXPORT)
    record = note_model(settings, before, MODEL, version="", export=EXPORT)
    note_recorded(store, record, RecordedRun(run_id="r2", url="u", version="9"))

    store.delete(EXPORT)
    traced = ask("trace", UTTERANCE)
    [row] = traced["rows"]
    assert row["export"] == f"{settings.store_uri}/{EXPORT}"
    assert stored and row["export_etag"] == stored.etag
    [model] = traced["models"]
    assert (model["lineage"]["model"], model["lineage"]["version"]) == (MODEL, "9")
    assert ask("trace", "--row", f"{EXPORT}:{row['line']}")["rows"] == [row]
    assert ask("trace", MODEL)["models"][0]["lineage"]["export_etag"] == stored.etag

    forgotten = ask("forget", f"{EXPORT}:{row['line']}")
    assert len(forgotten["new"]) == 2, "the utterance and the answer's id"
    assert f"{settings.store_uri}/{before.uri}/{row['split']}.jsonl" in forgotten["held_by"]
    assert ask("forget", f"{EXPORT}:{row['line']}")["new"] == []
    store.upload(export, EXPORT)
    later = prepare(settings, EXPORT)
    assert later.num_rejections == before.num_rejections + 1
    assert ask("trace", UTTERANCE)["rows"] == [row], "the old dataset's only"

    store.delete("forgotten/salt")
    with pytest.raises(StorageError, match="salt"):
        prepare(settings, EXPORT)


def test_an_entry_of_other_software_stops_a_preparation(settings: Settings) -> None:
    intent("forget", "--utterance", "播放红豆")
    taken_back = ask("forget", "--utterance", "播放 红豆", "--undo")
    assert taken_back == {"removed": []}, "an utterance with a space is a different one"
    get_store(settings).put("forgotten/rows/x.json", b"{}")
    with pytest.raises(StorageError, match=r"x\.json is not a valid entry of the erasure list"):
        prepare(settings, str(DATA / "snips_en" / "export-open-group.manifest"))

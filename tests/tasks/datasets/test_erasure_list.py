"""Rows and the forget list in a real S3 store."""

import os
from pathlib import Path

import pytest

from intent_core.errors import StorageError
from tasks.datasets.erasure_list import read_forget_list, recall, remember
from tasks.datasets.row_index import RowSought, find_rows, parse_row
from tasks.datasets.text_search import find_holders
from tasks.settings import Settings, get_settings
from tasks.storage.step_results import get_store
from tasks.tracking.lineage import find_model, list_models, note_recorded
from tasks.tracking.record import RecordedRun
from tests.support.builders.stored_lineage import DATA, note_model, prepare
from tests.support.servers.seaweedfs import REGION, Seaweed

pytestmark = pytest.mark.service


@pytest.fixture
def settings(server: Seaweed, tmp_path: Path) -> Settings:
    os.environ.update(server.full.environment())
    os.environ.update(
        INTENT_HOME=str(tmp_path / "home"),
        INTENT_STORE=f"s3://{server.bucket}/{tmp_path.name}",
        INTENT_S3_ENDPOINT_URL=server.url,
        INTENT_S3_REGION=REGION,
        INTENT_S3_ADDRESSING_STYLE="path",
    )
    get_settings.cache_clear()
    return get_settings()


def test_a_row_is_found_and_forgotten_in_s3(settings: Settings) -> None:
    store = get_store(settings)
    store.upload(DATA / "crosswoz_zh" / "export-open-group.manifest", "exports/e.manifest")
    before = prepare(settings, "exports/e.manifest")
    assert before.source == f"{settings.store_uri}/exports/e.manifest"
    found = store.stat("exports/e.manifest")
    assert found and before.source_etag == found.etag
    record = note_model(settings, before, "intent-0123456789ab", version="")
    note_recorded(store, record, RecordedRun(run_id="r2", url="u", version="9"))
    [model] = list_models(store)
    assert (model.version, model.recipe, model.export_etag) == ("9", "music", found.etag)
    assert find_model(store, model.model) == model
    assert find_model(store, "intent-ffffffffffff") is None

    store.delete("exports/e.manifest")
    _, sought = parse_row(settings, "exports/e.manifest:3")
    [row] = find_rows(store, sought).rows
    assert (row.line, row.dataset) == (3, before.fingerprint)
    assert find_rows(store, RowSought(mark_result=row.mark_result)).rows == [row]

    said = "这个酒店的地址在哪啊？"
    assert f"{settings.store_uri}/{before.uri}/{row.split}.jsonl" in find_holders(settings, [said])
    assert len(remember(store, said, row.mark_result)) == 2
    assert remember(store, said, row.mark_result) == []
    store.upload(DATA / "crosswoz_zh" / "export-open-group.manifest", "exports/e.manifest")
    later = prepare(settings, "exports/e.manifest")
    assert len(later.forgotten) == 1
    assert find_rows(store, RowSought(example=row.example)).rows == [row], "the old one only"
    store.delete("forgotten/salt")
    with pytest.raises(StorageError, match="salt"):
        read_forget_list(store)


def test_an_entry_of_other_software_stops_a_preparation(settings: Settings) -> None:
    store = get_store(settings)
    remember(store, "播放红豆", "")
    assert recall(store, "播放 红豆", "") == [], "a blank is a blank, not none"
    store.put("forgotten/rows/x.json", b"{}")
    with pytest.raises(StorageError, match=r"x\.json is no entry of the forget list"):
        prepare(settings, str(DATA / "snips_en" / "export-open-group.manifest"))

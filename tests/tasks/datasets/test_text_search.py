"""Objects and files that contain a text are found in every encoding."""

import gzip
import html
import json
import os
from pathlib import Path

import pytest

from tasks.datasets.text_search import _PIECE, find_holders
from tasks.settings import Settings, get_settings
from tasks.storage.step_results import get_store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    os.environ["INTENT_HOME"] = str(tmp_path)
    get_settings.cache_clear()
    return get_settings()


def found(settings: Settings, *texts: str) -> list[str]:
    home = settings.home.resolve().as_uri()
    return [uri.removeprefix(f"{home}/") for uri in find_holders(settings, texts)]


@pytest.mark.parametrize("text", ["给王小明打电话吧", 'call "Gwen" & <Carter>', "stop"])
def test_each_way_to_write_it_is_found(settings: Settings, text: str) -> None:
    store = get_store(settings)
    store.put("exports/ascii.json", json.dumps({"a": text}).encode())
    store.put("exports/utf-8.json", json.dumps({"a": text}, ensure_ascii=False).encode())
    store.put("exports/zipped.gz", gzip.compress(json.dumps([text]).encode()))
    store.put("exports/far.json", b" " * (_PIECE - 5) + json.dumps(text).encode())
    store.put("exports/page.html", f"<td>{html.escape(text)}</td>".encode())
    store.put("exports/other.json", b'"to stopgap"')
    store.put("exports/weights.safetensors", json.dumps(text).encode())
    store.put("exports/broken.gz", b"\x1f\x8b...")
    (settings.home / "serving.json").write_text(json.dumps([text]), encoding="utf-8")
    names = ("ascii.json", "far.json", "page.html", "utf-8.json", "zipped.gz")
    assert found(settings, text) == [*(f"store/exports/{name}" for name in names), "serving.json"]


def test_an_export_elsewhere_is_looked_into_once_it_is_named(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "export.manifest"
    elsewhere.write_text(json.dumps({"a": "call Gwen Carter"}), encoding="utf-8")
    gone = elsewhere.with_name("gone.manifest").as_uri()
    exports = [elsewhere.as_uri(), gone, ""]
    assert find_holders(settings, ["call Gwen Carter"]) == []
    assert find_holders(settings, ["call Gwen Carter"], exports) == [elsewhere.as_uri()]

"""The store's layout covers every key that is written; no other module spells out a prefix."""

import ast
import re
from pathlib import Path

import pytest

from tasks.settings import CHECKOUT, Settings
from tasks.storage import layout
from tasks.storage.layout import AREAS, find_area
from tasks.storage.step_results import get_store


def test_what_users_wrote_and_what_proves_an_origin_is_never_cleaned() -> None:
    cleaned = {area.name for area in AREAS if area.may_clean}
    assert cleaned == {"models", "trainings", "snapshots"}
    assert not cleaned & {"exports", "lineage", "forgotten"}


def test_unfinished_uploads_are_ours_everywhere_but_below_exports() -> None:
    assert [area.name for area in AREAS if not area.aborts_uploads] == ["exports"]


@pytest.mark.parametrize(
    ("key", "area"),
    [
        (layout.release_prefix("intent-0123456789ab") + "/manifest.json", "releases"),
        (layout.sighting_key("music", "exports/a b.manifest"), "ledger"),
        (layout.taking_key("music", "0" * 64), "ledger"),
        (layout.task_export_key("music", "1234"), "ledger"),
        (layout.snapshot_key("0" * 64, "a.manifest"), "snapshots"),
        (layout.report_key("intent", "replica-1"), "serving"),
        (layout.FORGOTTEN_SALT, "forgotten"),
        (layout.FORGOTTEN_ROWS + "0123.json", "forgotten"),
        ("models/intent-0123456789ab/adapter/weights", "models"),
        ("exports/a", "exports"),
        ("models/loose", None),
        ("releases/intent-0123456789ab/more.json", None),
        ("modelsx/a/b", None),
        (".restoring/models/a/b", None),
        ("backup.tar.gz", None),
    ],
)
def test_a_key_has_one_area_or_none(key: str, area: str | None) -> None:
    match = find_area(key)
    assert (match.name if match else None) == area


def test_takings_are_told_from_the_ledger_s_other_entries() -> None:
    assert layout.is_taking(layout.taking_key("seen", "0" * 64))
    assert not layout.is_taking(layout.sighting_key("taken", "exports/a"))


def test_in_tests_the_pipeline_s_store_refuses_other_keys(tmp_path: Path) -> None:
    store = get_store(Settings(home=tmp_path, store=tmp_path.as_uri()))
    store.put("exports/a.manifest", b"x")
    for write in (
        lambda key: store.put(key, b"x"),
        lambda key: store.put_if_absent(key, b"x"),
        lambda key: store.upload(tmp_path / "exports" / "a.manifest", key),
    ):
        with pytest.raises(AssertionError, match=re.escape("layout.py")):
            write("reports/a")
    assert [file.key for file in store.scan("")] == ["exports/a.manifest"]


def test_only_the_layout_spells_a_prefix() -> None:
    names = "|".join(area.name for area in AREAS)
    prefix = re.compile(f"({names})/([^*]|$)")
    places = []
    for room in ("flows", "tasks", "benchmarks"):
        for path in (CHECKOUT / room).rglob("*.py"):
            if path == CHECKOUT / "tasks" / "storage" / "layout.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                text = node.value if isinstance(node, ast.Constant) else None
                if isinstance(text, str) and prefix.match(text):
                    places.append(f"{path.relative_to(CHECKOUT)}:{node.lineno}: {text}")
    assert not places, "\n".join(places)

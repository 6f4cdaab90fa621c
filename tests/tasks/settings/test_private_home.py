"""What we write below INTENT_HOME is for its user only; what goes elsewhere is as they want it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.settings import CHECKOUT
from tasks.settings.private_home import close_home
from tasks.storage.directory import DirectoryStore, open_store
from tests.support.builders.labeled_export import write_export


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run(folder: Path, *arguments: str, umask: int = 0o022) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "INTENT_HOME": str(folder / "a" / "home")},
        capture_output=True,
        text=True,
        umask=umask,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_new_home_is_private_and_output_elsewhere_has_the_users_umask(tmp_path: Path) -> None:
    export = write_export(tmp_path / "export.manifest")
    run(tmp_path, "convert", str(export), "--out", "shared/train.json", umask=0o002)
    home = tmp_path / "a" / "home"
    assert mode(home.parent) == 0o775
    assert all(mode(path) & 0o077 == 0 for path in (home, *home.rglob("*")))
    assert mode(tmp_path / "shared") == 0o775 and mode(tmp_path / "shared/train.json") == 0o664


def test_a_home_of_an_older_version_is_shut_at_the_next_start(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    (home / "prefect").mkdir(parents=True, mode=0o755)
    home.chmod(0o2755)
    (home / "prefect" / "prefect.db").write_text("old")
    run(tmp_path, "vocabulary", str(write_export(tmp_path / "export.manifest")))
    assert mode(home) == 0o2700 and mode(tmp_path / "intents.yaml") == 0o644


@pytest.mark.parametrize("kind", ["sticky", "other things"])
def test_a_folder_that_others_use_keeps_its_mode(kind: str, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "other").touch()
    shared.chmod(0o1777 if kind == "sticky" else 0o755)
    before = mode(shared)
    close_home(shared)
    assert mode(shared) == before


def test_a_store_elsewhere_keeps_the_modes_of_its_folder(tmp_path: Path) -> None:
    root = tmp_path / "team"
    root.mkdir()
    root.chmod(0o2770)
    source = tmp_path / "source"
    source.write_text("x")
    former = os.umask(0o077)
    try:
        store = DirectoryStore(root)
        store.put("a/b/put", b"x")
        store.put_if_absent("a/c/once", b"x")
        store.upload(source, "d/upload")
    finally:
        os.umask(former)
    found = list(root.rglob("*"))
    assert {mode(path) for path in found if path.is_dir()} == {0o2770}
    assert {mode(path) for path in found if path.is_file()} == {0o660}


def test_a_new_store_is_private_only_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.settings import Settings, private_home

    monkeypatch.setattr(private_home, "set_private_umask", lambda: 0o027)
    settings = Settings(home=tmp_path / "home")
    for uri in (settings.store_uri, f"file://{tmp_path}/elsewhere"):
        open_store(uri, settings).put("key", b"x")
    assert mode(tmp_path / "home" / "store") == 0o700
    assert mode(tmp_path / "home" / "store" / "key") == 0o600
    assert mode(tmp_path / "elsewhere") == 0o750
    assert mode(tmp_path / "elsewhere" / "key") == 0o640

"""Limits for entries per folder and lines per file; every package has an `__init__.py`."""

from pathlib import Path

import pytest

from tasks.settings import CHECKOUT

ROOMS = ("flows", "tasks", "intent_core", "clients/python/src/intent_client")
MOST_ENTRIES = 15
MOST_LINES = 400
IGNORED = {"__init__.py", "__pycache__"}


def list_folders() -> list[Path]:
    folders = [CHECKOUT / room for room in ROOMS]
    for room in ROOMS:
        folders += [path for path in (CHECKOUT / room).rglob("*") if path.is_dir()]
    return sorted(path for path in folders if path.name != "__pycache__")


@pytest.mark.parametrize("folder", list_folders(), ids=lambda p: str(p.relative_to(CHECKOUT)))
def test_a_folder_is_a_small_package_that_says_what_it_is(folder: Path) -> None:
    entries = [path.name for path in folder.iterdir() if path.name not in IGNORED]
    assert len(entries) <= MOST_ENTRIES, sorted(entries)
    # Without it import-linter and pkgutil silently skip the folder.
    assert (folder / "__init__.py").read_text(encoding="utf-8").startswith('"""')


@pytest.mark.parametrize("room", ROOMS)
def test_a_file_can_be_read_in_one_go(room: str) -> None:
    sizes = {
        str(path.relative_to(CHECKOUT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (CHECKOUT / room).rglob("*.py")
    }
    assert not {path: size for path, size in sizes.items() if size > MOST_LINES}

"""Entries below INTENT_HOME that the product's layout does not name."""

from pathlib import Path

from intent_core.files import PARTIAL
from tasks.settings.home_layout import HomeLayout


def find_unknown(home: Path) -> list[str]:
    """Entries that are neither a path of the layout nor below one of its folders."""
    layout = HomeLayout(home)
    named = {path for path in vars(layout).values() if path != layout.root}
    parents = {parent for path in named for parent in path.parents}
    unknown, pending = [], [layout.root]
    while pending:
        for path in sorted(pending.pop().iterdir()):
            if path in named or path.name.startswith("replaced-") or path.name.endswith(PARTIAL):
                continue
            if path in parents and path.is_dir():
                pending.append(path)
            else:
                unknown.append(str(path.relative_to(layout.root)))
    return unknown

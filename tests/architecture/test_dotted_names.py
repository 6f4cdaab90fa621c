"""Names of our modules in texts and configuration: each leads to what there is."""

import ast
import functools
import re
import subprocess
from pathlib import Path

from tasks.settings import CHECKOUT

# A module or what a module has, but no address, path or part of a longer name.
DOTTED = re.compile(r"(?<![\w./@-])(?:flows|tasks|intent_core)(?:\.[A-Za-z_]\w*)+(?![\w/-])")
# History speaks of what there was.
HISTORY = {"CHANGELOG.md"}
NO_MODULE = {
    # Names of loggers, made up in tests.
    "tasks.step",
    "tasks.x",
    # A local variable of asyncio's tasks.
    "tasks.create_task",
}


def list_texts() -> list[Path]:
    listing = subprocess.run(
        ["git", "-C", str(CHECKOUT), "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout
    paths = [CHECKOUT / name for name in listing.split("\0") if name and name not in HISTORY]
    return [path for path in paths if path.is_file() and "tests/data" not in path.as_posix()]


def resolves(name: str) -> bool:
    """Is it a module, or what a module defines? Read, not imported: torch takes its time."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        names = read_module(CHECKOUT.joinpath(*parts[:count]))
        if names is not None:
            return count == len(parts) or parts[count] in names | {"__path__"}
    return False


@functools.cache
def read_module(path: Path) -> frozenset[str] | None:
    """What the module at `path` (without suffix) binds; None where there is no module."""
    file = path.with_suffix(".py")
    if not file.is_file():
        file = path / "__init__.py"
    if not file.is_file():
        return None
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return frozenset(names)


def test_every_dotted_name_resolves() -> None:
    names: dict[str, set[str]] = {}
    for path in list_texts():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for match in DOTTED.finditer(text):
            names.setdefault(match.group(0), set()).add(str(path.relative_to(CHECKOUT)))
    assert len(names) > 100
    unknown = {
        name: sorted(places)
        for name, places in sorted(names.items())
        if name not in NO_MODULE and not resolves(name)
    }
    assert not unknown, unknown

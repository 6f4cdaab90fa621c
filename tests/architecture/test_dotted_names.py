"""Every dotted name of our modules in texts and configuration exists."""

import ast
import functools
import re
import subprocess
from pathlib import Path

from tasks.settings import CHECKOUT

# A module or a name in a module, but not part of a URL, a path or a longer name.
DOTTED = re.compile(r"(?<![\w./@-])(?:flows|tasks|intent_core)(?:\.[A-Za-z_]\w*)+(?![\w/-])")
# Describes old versions, so its names may no longer exist.
HISTORY = {"CHANGELOG.md"}
NO_MODULE = {
    # Logger names invented in tests.
    "tasks.step",
    "tasks.x",
    # A local variable that holds asyncio tasks.
    "tasks.create_task",
}


def list_texts() -> list[Path]:
    listing = subprocess.run(
        ["git", "-C", str(CHECKOUT), "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout
    paths = [CHECKOUT / name for name in listing.split("\0") if name and name not in HISTORY]
    return [path for path in paths if path.is_file() and "tests/data" not in path.as_posix()]


def resolves(name: str) -> bool:
    """Whether the name is a module or defined in one; parsed, because importing torch is slow."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        names = read_module(CHECKOUT.joinpath(*parts[:count]))
        if names is not None:
            return count == len(parts) or parts[count] in names | {"__path__"}
    return False


@functools.cache
def read_module(path: Path) -> frozenset[str] | None:
    """Return the names that the module at `path` (without suffix) binds; None without a module."""
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

"""Naming rules: no meaningless names, and no type defined twice."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tasks.settings import CHECKOUT

ROOMS = ("flows", "tasks", "intent_core")
SAY_NOTHING = {"found", "one", "beside", "told", "left", "asked"}
# Published fields: users' scripts read them.
PUBLISHED = {("flows/lineage/trace.py", "asked")}
FOLDERS = {"utils", "common", "helpers", "types", "base"}


def parse(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for path in sorted((CHECKOUT / folder).rglob("*.py")):
            yield path.relative_to(CHECKOUT), ast.parse(path.read_text(encoding="utf-8"))


def list_bindings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every name that the code defines: variables, parameters, attributes, functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.lineno, node.name


def list_types(tree: ast.Module) -> Iterator[str]:
    """Yield the classes at any level and the type aliases, including private ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            is_alias = isinstance(value, ast.Subscript) or (
                isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr)
            )
            if isinstance(target, ast.Name) and is_alias and is_type_name(target.id):
                yield target.id


def is_type_name(name: str) -> bool:
    bare = name.lstrip("_")
    return bare[:1].isupper() and not bare.isupper()


def test_no_name_says_nothing() -> None:
    named = [
        f"{path}:{line}: {name}"
        for path, tree in parse(*ROOMS, "clients/python/src", "benchmarks")
        for line, name in list_bindings(tree)
        if name in SAY_NOTHING and (path.as_posix(), name) not in PUBLISHED
    ]
    assert not named, "\n".join(named)


def test_no_type_has_two_definitions() -> None:
    places = defaultdict(set)
    for path, tree in parse(*ROOMS):
        for name in list_types(tree):
            places[name.lstrip("_")].add(str(path))
    twice = {name: sorted(paths) for name, paths in places.items() if len(paths) > 1}
    assert not twice


def test_no_folder_or_module_is_a_drawer() -> None:
    """Names such as `utils` do not state what a module contains."""
    paths = [path for path, _ in parse(*ROOMS)]
    drawers = [path for path in paths if FOLDERS & {*path.parent.parts, path.stem}]
    assert not drawers

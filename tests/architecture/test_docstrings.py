"""What other packages import from `intent_core` documents its parameters and its errors."""

import ast
import inspect
import re
from collections.abc import Iterator

import pytest

from intent_core import errors
from tests.support.docs.markdown_pages import ROOT

PRODUCT = ("flows", "tasks", "intent_core")
ERRORS = {
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, errors.IntentError)
}


def read_package(module: str) -> str:
    """`intent_core.gate` of `intent_core.gate.checks`, `tasks` of any module of tasks."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "intent_core" else parts[0]


def list_modules() -> Iterator[tuple[str, ast.Module]]:
    for room in PRODUCT:
        for path in sorted((ROOT / room).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield name, ast.parse(path.read_text(encoding="utf-8"))


MODULES = dict(list_modules())


def list_imported() -> dict[str, set[str]]:
    """By module of intent_core: the names that another package imports."""
    names: dict[str, set[str]] = {}
    for importer, tree in MODULES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or node.module not in MODULES:
                continue
            if node.module.startswith("intent_core.") and (
                read_package(node.module) != read_package(importer)
            ):
                names.setdefault(node.module, set()).update(alias.name for alias in node.names)
    return names


def list_functions() -> list[tuple[str, ast.FunctionDef]]:
    return [
        (module, node)
        for module, names in sorted(list_imported().items())
        for node in MODULES[module].body
        if isinstance(node, ast.FunctionDef) and node.name in names
    ]


def list_parameters(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    named += [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    return [argument.arg for argument in named]


def list_raised(module: str, function: ast.FunctionDef) -> set[str]:
    """Our errors that the function raises itself or through functions of its own module."""
    local = {node.name: node for node in MODULES[module].body if isinstance(node, ast.FunctionDef)}
    pending, seen, raised = [function], {function.name}, set()
    while pending:
        for node in ast.walk(pending.pop()):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                raised.add(ast.unparse(node.exc.func).rpartition(".")[2])
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                called = local.get(node.func.id)
                if called and called.name not in seen:
                    seen.add(called.name)
                    pending.append(called)
    return raised & ERRORS


@pytest.mark.parametrize(
    ("module", "function"), list_functions(), ids=lambda part: getattr(part, "name", part)
)
def test_a_public_function_documents_parameters_and_errors(
    module: str, function: ast.FunctionDef
) -> None:
    docstring = ast.get_docstring(function) or ""
    missing = [
        name
        for name in list_parameters(function)
        if not re.search(rf"`{name}`|^\s*\*{{0,2}}{name}:", docstring, re.MULTILINE)
    ]
    assert not missing, f"{module}.{function.name}: parameters not documented: {missing}"
    silent = {name for name in list_raised(module, function) if name not in docstring}
    assert not silent, f"{module}.{function.name}: errors not documented: {sorted(silent)}"

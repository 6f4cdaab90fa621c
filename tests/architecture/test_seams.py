"""Code outside the serving targets does not check which kind of target is used."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tasks.settings import CHECKOUT

ROOMS = ("flows", "tasks", "intent_core")
PRODUCT = [path for room in ROOMS for path in sorted((CHECKOUT / room).rglob("*.py"))]
PROTOCOL = "tasks/serving/targets/__init__.py"
TARGETS = [
    path.relative_to(CHECKOUT).as_posix()
    for path in sorted((CHECKOUT / PROTOCOL).parent.glob("*.py"))
    if path.name != "__init__.py"
]
FACADE, FLOWS = "tasks/serving/promotion.py", "flows/promote.py"
COMMANDS = "flows/cli/serve/serving.py"
RESERVED = ("promote", "roll_back", "rollback", "switch_to", "switch_back")


def name_of(path: Path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield name_of(path), node


def test_only_the_targets_and_the_settings_ask_for_a_fleet() -> None:
    readers = {
        file
        for file, node in nodes()
        if isinstance(node, ast.Attribute)
        and node.attr == "fleet"
        and isinstance(node.ctx, ast.Load)
    }
    assert readers == {"tasks/settings/__init__.py", PROTOCOL, "tasks/serving/targets/fleet.py"}


def test_one_method_one_task_one_flow_and_one_command_promote_and_roll_back() -> None:
    functions = sorted(
        (file, node.name)
        for file, node in nodes()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(word in node.name for word in RESERVED)
    )
    one_each = (PROTOCOL, *TARGETS, FACADE, FLOWS)
    wanted = [(file, name) for file in one_each for name in ("promote", "roll_back")]
    assert functions == sorted([*wanted, (COMMANDS, "promote"), (COMMANDS, "rollback")])

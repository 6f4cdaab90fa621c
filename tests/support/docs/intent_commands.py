"""The commands of `intent`: find one by its words, and parse a command line without running it."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from flows.cli.main import app

INTENT: Any = typer.main.get_command(app)


def find_command(command: Any, words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that the first words name, and the remaining words."""
    while words and words[0] in vars(command).get("commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def parse_intent(words: list[str]) -> None:
    """Parse the arguments of `intent`; fail the test if the parser rejects them."""
    command, rest = find_command(INTENT, words)
    if "commands" in vars(command):
        assert rest == ["--help"], f"there is no `intent {' '.join(words)}`"
        return
    try:
        command.make_context(command.name, list(rest))
    except Exception as error:  # typer has its own copy of click, whose classes are private
        if type(error).__name__ != "Exit":
            message = getattr(error, "message", error)
            pytest.fail(f"`intent {' '.join(words)}`: {message}")


def list_all_commands(command: Any = INTENT, words: tuple[str, ...] = ()) -> Iterator[Any]:
    """Yield the words and the command object of every command that `--help` shows."""
    for name, member in vars(command).get("commands", {}).items():
        if "commands" in vars(member):
            yield from list_all_commands(member, (*words, name))
        elif not member.hidden:
            yield (*words, name), member

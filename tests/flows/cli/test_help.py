"""Every command's help starts with a verb and has an example that the parser accepts."""

import re
import shlex
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from tests.support.docs.intent_commands import (
    INTENT,
    find_command,
    list_all_commands,
    parse_intent,
)

COMMANDS = dict(list_all_commands())
# First words of help texts: a new verb is added here, so that no help starts with anything else.
VERBS = {
    *("Announce", "Approve", "Check", "Convert", "Create", "Delete", "Detect", "Draft", "Exclude"),
    *(
        "Export",
        "Measure",
        "Open",
        "Print",
        "Promote",
        "Receive",
        "Repair",
        "Restore",
        "Retry",
        "Run",
    ),
    *("Score", "Send", "Serve", "Start", "Stop", "Switch", "Trace", "Write"),
}

each_command = pytest.mark.parametrize("words", COMMANDS, ids=" ".join)


def list_examples(command: Any) -> list[str]:
    """Return the example commands: the indented lines of a help text."""
    lines = re.findall(r"^ {4}(intent .*|eval .*)$", command.help, re.MULTILINE)
    return [line.removeprefix('eval "$(').removesuffix(')"') for line in lines]


def test_commands_are_found() -> None:
    assert {("run",), ("itag", "export"), ("pai", "deploy")} < set(COMMANDS)


@each_command
def test_help_starts_with_a_verb(words: tuple[str, ...]) -> None:
    first = COMMANDS[words].help.split("\n\n")[0]
    assert first.split()[0].rstrip(",") in VERBS
    assert first.endswith("."), first


@each_command
def test_help_has_an_example_that_the_parser_accepts(words: tuple[str, ...]) -> None:
    examples = list_examples(COMMANDS[words])
    assert examples
    for example in examples:
        arguments = shlex.split(example)[1:]
        named, _ = find_command(INTENT, arguments)
        assert named is COMMANDS[words], example
        parse_intent(arguments)


@each_command
def test_every_parameter_has_help(words: tuple[str, ...]) -> None:
    for parameter in COMMANDS[words].params:
        assert parameter.help, parameter.name
        assert parameter.help[0].isupper() or parameter.help[0] in "`i", parameter.help
        assert parameter.help.endswith((".", ")")), parameter.help


def test_groups_are_shown() -> None:
    help_text = CliRunner().invoke(app, ["--help"]).output
    for group in ("Run", "Data", "Model", "Serve", "Operate"):
        assert f" {group} " in help_text

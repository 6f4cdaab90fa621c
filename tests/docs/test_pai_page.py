"""docs/pai.md mentions every command of `intent pai`."""

import typer

from flows.cli.serve.pai import pai_app
from tasks.settings import CHECKOUT

TEXT = (CHECKOUT / "docs" / "pai.md").read_text(encoding="utf-8")


def test_every_command_is_there() -> None:
    commands = vars(typer.main.get_command(pai_app))["commands"]
    for name, command in commands.items():
        assert command.hidden or f"intent pai {name}" in TEXT

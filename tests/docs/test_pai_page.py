"""The pages on PAI mention every command of `intent pai`."""

from pathlib import Path

import pytest
import typer

from flows.cli.serve.pai import pai_app
from tasks.settings import CHECKOUT

PAGES = [CHECKOUT / "docs" / language / "pai.md" for language in ("en", "zh")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_command_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    commands = vars(typer.main.get_command(pai_app))["commands"]
    for name, command in commands.items():
        assert command.hidden or f"intent pai {name}" in text

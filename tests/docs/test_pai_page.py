"""docs/pai.md says what the settings and the commands are."""

import typer

from flows.cli.serve.pai import pai_app
from tasks.settings import CHECKOUT
from tasks.settings.pai import PaiSettings

TEXT = (CHECKOUT / "docs" / "pai.md").read_text(encoding="utf-8")


def test_every_setting_is_described() -> None:
    for name, field in PaiSettings.model_fields.items():
        default = f"{field.default:g}" if isinstance(field.default, (int, float)) else field.default
        shown = f"`{default}`" if default != "" else "none"
        assert f"| `INTENT_PAI_{name.upper()}` | {shown} | {field.description} |" in TEXT


def test_every_command_is_there() -> None:
    commands = vars(typer.main.get_command(pai_app))["commands"]
    for name, command in commands.items():
        assert command.hidden or f"intent pai {name}" in TEXT

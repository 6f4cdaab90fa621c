"""Commands, exit codes and metrics as Markdown, in English and Chinese."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import typer
from field_tables import Language, table

from flows.cli.main import app
from flows.cli.terminal import EXIT_CODES
from intent_core.evaluation.metrics import METRICS

COLUMNS: dict[Language, dict[str, str]] = {
    "en": {
        "commands": "command|what it does",
        "parameters": "argument or option|default|what it does",
        "exit_codes": "exit code|meaning",
        "metrics": "metric|what it measures|better",
        "required": "required",
        "higher": "higher",
        "lower": "lower",
        "help": "",
    },
    "zh": {
        "commands": "命令|作用",
        "parameters": "参数或选项|默认值|作用",
        "exit_codes": "退出码|含义",
        "metrics": "指标|含义|取值方向",
        "required": "必填",
        "higher": "越高越好",
        "lower": "越低越好",
        "help": "下面的说明与程序 `--help` 的输出相同，为英文。",
    },
}


class Command(NamedTuple):
    """A command as `intent --help` shows it."""

    name: str
    group: str
    help: str
    parameters: list[tuple[str, ...]]

    @property
    def summary(self) -> str:
        """The first paragraph of the help."""
        return _join(self.help.split("\n\n")[0])


def list_commands() -> dict[str, Command]:
    """Every visible command by its full name, in the order of `intent --help`."""
    return {command.name: command for command in _walk(typer.main.get_command(app), "intent", "")}


def _walk(command: Any, name: str, group: str) -> Iterator[Command]:
    members: Mapping[str, Any] = vars(command).get("commands", {})
    for word, member in members.items():
        panel = member.rich_help_panel if isinstance(member.rich_help_panel, str) else group
        yield from _walk(member, f"{name} {word}", panel)
    if not members and not command.hidden:
        parameters = [_show_parameter(param) for param in command.params if not param.hidden]
        rows = [row for row in parameters if row[0] != "`--help`"]
        yield Command(name, group, inspect.cleandoc(command.help or ""), rows)


def _show_parameter(param: Any) -> tuple[str, ...]:
    if param.param_type_name == "argument":
        name = f"`{param.metavar or param.name.upper()}`"
    else:
        name = ", ".join(f"`{option}`" for option in (*param.opts, *param.secondary_opts))
    default = param.default
    if param.required:
        shown = "*"
    elif callable(default) or default in (None, False, (), []):
        shown = ""
    else:
        shown = f"`{str(default).lower() if default is True else default}`"
    return name, shown, _join(param.help or "")


def _join(text: str) -> str:
    return " ".join(text.split())


def show_commands(summaries: Mapping[str, str], language: Language) -> str:
    """A table of all commands, then each with its help, arguments and options."""
    words, commands = COLUMNS[language], list_commands()
    parts = [words["help"]] if words["help"] else []
    overview = [(f"`{name}`", summaries[name]) for name in commands]
    parts = [table(words["commands"], overview), *parts]
    group = ""
    for command in commands.values():
        if command.group != group:
            group = command.group
            parts.append(f"### {group}")
        parts += [f"#### `{command.name}`", command.help]
        if command.parameters:
            rows = [
                tuple(words["required"] if cell == "*" else cell for cell in row)
                for row in command.parameters
            ]
            parts.append(table(words["parameters"], rows))
    return "\n\n".join(parts)


def show_exit_codes(meanings: Mapping[str, str], language: Language) -> str:
    """What each exit code means."""
    rows = [(f"`{code}`", meanings[str(code)]) for code in EXIT_CODES]
    return table(COLUMNS[language]["exit_codes"], rows)


def show_metrics(explanations: Mapping[str, str], language: Language) -> str:
    """Every metric, what it measures, and which direction is better."""
    words = COLUMNS[language]
    rows = [
        (f"`{name}`", explanations[name], words["higher" if metric.higher_is_better else "lower"])
        for name, metric in METRICS.items()
    ]
    return table(words["metrics"], rows)


def read_english() -> dict[str, dict[str, str]]:
    """English texts of the program, by table and name."""
    return {
        "commands": {name: command.summary for name, command in list_commands().items()},
        "exit_codes": {str(code): meaning for code, meaning in EXIT_CODES.items()},
        "metrics": {
            name: f"{metric.label}: {metric.explanation}" for name, metric in METRICS.items()
        },
    }

"""Every command on the pages is one: its words exist in the programs, its files in the checkout."""

import functools
import importlib
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from prometheus_client import CollectorRegistry

from flows.cli.main import app
from intent_core.serving.metrics import Metrics
from tasks.settings import Settings
from tasks.settings.pai import PaiSettings
from tests.support.docs.markdown_pages import (
    PAGES,
    ROOT,
    find_arguments,
    list_commands,
    name_of,
    read,
    read_code,
    split_commands,
)

INTENT: Any = typer.main.get_command(app)
COMMANDS = {page: list_commands(page) for page in PAGES}
READERS = {  # they make these themselves
    "deployments/kubernetes/overlays/site",
    "deployments/recipes/music.yaml",
    "docker/secrets/",
}
FOLDERS = "benchmarks|deployments|docker|docs|flows|intent_core|requirements|tasks|tests"
OF_THE_VLLM_PROCESS = {
    "INTENT_ADD_SYSTEM_PROMPT",
    "INTENT_ALIASES_FILE",
    "INTENT_KEYS_FILE",
    "INTENT_MAX_BODY_BYTES",
    "INTENT_MAX_NEW_TOKENS",
    "INTENT_REQUESTS_PER_MINUTE",
}

each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def find_command(command: Any, words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and the words that are left."""
    while words and words[0] in vars(command).get("commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def parse_intent(words: list[str]) -> None:
    command, rest = find_command(INTENT, words)
    if "commands" in vars(command):
        assert rest == ["--help"], f"there is no `intent {' '.join(words)}`"
        return
    try:
        command.make_context(command.name, list(rest))
    except Exception as error:  # typer carries its own copy of click, whose classes are private
        if type(error).__name__ != "Exit":
            message = getattr(error, "message", error)
            pytest.fail(f"`intent {' '.join(words)}`: {message}")


@each_page
def test_what_stands_in_a_block_is_parsed_by_intent(page: Path) -> None:
    for words in COMMANDS[page]:
        arguments = find_arguments(words, "intent")
        if arguments is not None:
            parse_intent(arguments)


@each_page
def test_what_stands_in_a_line_is_a_command_with_these_options(page: Path) -> None:
    for code in read_code(page):
        if not re.match(r"(\S*/)?intent [a-z]", code):
            continue
        words = code.replace("[", " ").replace("]", " ").replace("...", "").split()[1:]
        command, rest = find_command(INTENT, words)
        assert command is not INTENT, f"there is no `{code}`"
        known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
        named = set(re.findall(r"(?<!\S)--[a-z-]+", " ".join(rest)))
        assert named <= {*known, "--help"}, code


@pytest.mark.parametrize(
    "shell",
    [
        "intent run",
        "intent runs export.manifest",
        "intent serve --fallow",
        "intent pai promot intent-3f2a9c01b7de",
        ".venv/bin/intent try --port many",
        "cd x && docker compose exec worker with-secrets intent stat",
    ],
)
def test_a_wrong_command_is_told(shell: str) -> None:
    calls = [find_arguments(words, "intent") for words in split_commands(shell)]
    (call,) = [call for call in calls if call is not None]
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        parse_intent(call)


def test_a_block_is_taken_apart() -> None:
    shell = """
        export INTENT_FLEET=intent   # a setting
        KEY=1 intent ask "a; b" | head -n 1 && cat > file <<'END'
        intent not-a-command
        END
        intent run \\
          exports/a.manifest 2>&1
    """
    assert split_commands(textwrap.dedent(shell)) == [
        ["intent", "ask", "a; b"],
        ["head", "-n", "1"],
        ["cat"],
        ["intent", "run", "exports/a.manifest", "2"],
    ]


@functools.cache
def list_deployments() -> set[str]:
    """The names Prefect knows: flow, slash, deployment."""
    names = set()
    for deployment in yaml.safe_load(read(ROOT / "prefect.yaml"))["deployments"]:
        module, _, name = deployment["entrypoint"].rpartition(".")
        flow = getattr(importlib.import_module(module), name)
        names.add(f"{flow.name}/{deployment['name']}")
    return names


def list_prefect_calls() -> list[list[str]]:
    calls = (find_arguments(words, "prefect") for page in PAGES for words in COMMANDS[page])
    found = [[word for word in call if word != "--no-prompt"] for call in calls if call]
    return [list(one) for one in dict.fromkeys(map(tuple, found))]


def test_prefect_knows_its_commands() -> None:
    from prefect.cli._app import _app

    calls = list_prefect_calls()
    assert len(calls) > 5
    for call in calls:
        _app.parse_args(call, exit_on_error=False, print_error=False)


@each_page
def test_who_types_prefect_is_told_of_the_server(page: Path) -> None:
    """Without its address `prefect` starts a server of its own, and finds nothing there."""
    if any(words[0].endswith("prefect") for words in COMMANDS[page]):
        assert "PREFECT_API_URL" in read(page)


def test_deployments_are_those_of_prefect_yaml() -> None:
    for call in list_prefect_calls():
        if call[0] == "deployment":
            assert {word for word in call[1:] if "/" in word and "=" not in word} <= (
                list_deployments()
            ), call
    for page in PAGES:
        named = {code for code in read_code(page) if re.fullmatch(r"[a-z-]+/[cg]pu", code)}
        assert named - {"overlays/cpu"} <= list_deployments(), page.name


def test_targets_are_those_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    for page in PAGES:
        blocks = [words for words in COMMANDS[page] if words[0] == "make"]
        lines = [code.split() for code in read_code(page) if code.startswith("make ")]
        for words in blocks + lines:
            named = {word for word in words[1:] if "=" not in word and not word.startswith("-")}
            assert named <= targets, f"{page.name}: {' '.join(words)}"


@each_page
def test_files_are_there(page: Path) -> None:
    words = [word for command in COMMANDS[page] for word in command]
    for named in (*words, *read_code(page)):
        if not re.match(rf"({FOLDERS})/[\w./*-]*$", named) or named in READERS:
            continue
        there = list(ROOT.glob(named.rstrip("/"))) if "*" in named else [ROOT / named]
        assert there and all(path.exists() for path in there), named


@each_page
def test_variables_are_settings(page: Path) -> None:
    known = {f"INTENT_{name.upper()}" for name in Settings.model_fields}
    known |= {f"INTENT_PAI_{name.upper()}" for name in PaiSettings.model_fields}
    known |= OF_THE_VLLM_PROCESS
    for name in set(re.findall(r"INTENT_[A-Z0-9_]+", read(page))):
        # INTENT_PAI_* and the like.
        whole = any(one.startswith(name) for one in known) if name.endswith("_") else name in known
        assert whole, name


def test_the_metrics_are_those_there_are() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in registry.collect()
    }
    tables = [read(ROOT / name) for name in ("docs/platform.md", "docs/platform.zh.md")]
    english, chinese = (set(re.findall(r"^\| `(intent_\w+)` \|", t, re.MULTILINE)) for t in tables)
    assert english == chinese <= names
    pages = "".join(map(read, PAGES))
    assert not {name for name in names if name not in pages}

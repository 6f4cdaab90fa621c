"""Commands on the pages are valid: words, options, files, settings and metrics exist."""

import functools
import importlib
import re
import textwrap
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from intent_core.serving.metrics import Metrics
from tasks.orchestration.old_deployments import RENAMED
from tasks.orchestration.run_liveness import FLOWS
from tasks.settings import Settings
from tasks.settings.pai import PaiSettings
from tests.support.docs.intent_commands import INTENT, find_command, parse_intent
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

COMMANDS = {page: list_commands(page) for page in PAGES}
READERS = {  # created by the reader
    "deployments/kubernetes/overlays/site",
    "deployments/recipes/music.yaml",
    "docker/secrets/",
}
FOLDERS = "benchmarks|clients|deployments|docker|docs|flows|intent_core|requirements|tasks|tests"
OF_THE_VLLM_PROCESS = {
    "INTENT_ADD_SYSTEM_PROMPT",
    "INTENT_ALIASES_FILE",
    "INTENT_GROUNDED",
    "INTENT_KEYS_FILE",
    "INTENT_MAX_BODY_BYTES",
    "INTENT_MAX_NEW_TOKENS",
    "INTENT_MODELS_FOLDER",
    "INTENT_REQUESTS_PER_MINUTE",
}

each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@each_page
def test_commands_in_blocks_are_accepted_by_the_parser(page: Path) -> None:
    for words in COMMANDS[page]:
        arguments = find_arguments(words, "intent")
        if arguments is not None:
            parse_intent(arguments)


@each_page
def test_commands_in_lines_have_these_options(page: Path) -> None:
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
def test_a_wrong_command_fails(shell: str) -> None:
    calls = [find_arguments(words, "intent") for words in split_commands(shell)]
    (call,) = [call for call in calls if call is not None]
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        parse_intent(call)


def test_a_block_is_split_into_commands() -> None:
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
    """Return the deployments of prefect.yaml as `flow/deployment`."""
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


def test_prefect_accepts_its_commands() -> None:
    from prefect.cli._app import _app

    calls = list_prefect_calls()
    assert len(calls) > 5
    for call in calls:
        _app.parse_args(call, exit_on_error=False, print_error=False)


@each_page
def test_pages_with_prefect_commands_set_the_server(page: Path) -> None:
    """Without PREFECT_API_URL, `prefect` would start a temporary, empty server."""
    if any(words[0].endswith("prefect") for words in COMMANDS[page]):
        assert "PREFECT_API_URL" in read(page)


def test_deployments_are_those_of_prefect_yaml() -> None:
    for call in list_prefect_calls():
        if call[0] == "deployment":
            assert {word for word in call[1:] if "/" in word and "=" not in word} <= (
                list_deployments()
            ), call
    for page in PAGES:
        named = {code for code in read_code(page) if code.split("/")[0] in FLOWS and "/" in code}
        assert named <= list_deployments() | RENAMED.keys(), page.name


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
        # A prefix such as INTENT_PAI_*.
        whole = any(one.startswith(name) for one in known) if name.endswith("_") else name in known
        assert whole, name


def test_the_metrics_are_those_there_are() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in registry.collect()
    }
    tables = [read(ROOT / name) for name in ("docs/en/monitoring.md", "docs/zh/monitoring.md")]
    english, chinese = (set(re.findall(r"^\| `(intent_\w+)` \|", t, re.MULTILINE)) for t in tables)
    assert english == chinese <= names
    pages = "".join(map(read, PAGES))
    assert not {name for name in names if name not in pages}

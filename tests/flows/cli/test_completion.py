"""Shell completion of `intent` in bash and zsh: commands, options, and values from the store."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

INTENT = Path(sys.executable).with_name("intent")
NEWER, OLDER = "intent-3f2a9c01b7de", "intent-0123456789ab"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home with two accepted models, one other model, and one project."""
    store = tmp_path / "home" / "store"
    for age, name in enumerate((NEWER, OLDER)):
        write(store / "releases" / name, age, project="music", version=str(8 - age))
        write(store / "models" / name, age, base_model="base", method="lora")
    write(store / "models" / "intent-ffffffffffff", 5, base_model="base", method="full")
    projects = tmp_path / "projects.yaml"
    projects.write_text("music: {exports: exports/music/, recipe: embedded}\n", encoding="utf-8")
    return {
        "PATH": f"{INTENT.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "INTENT_HOME": str(tmp_path / "home"),
        "INTENT_PROJECTS": str(projects),
    }


def write(folder: Path, age: int, **manifest: str) -> None:
    folder.mkdir(parents=True)
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    now = time.time()
    os.utime(path, (now - age, now - age))


def complete(line: str, environment: dict[str, str], shell: str = "bash", **changes: Any) -> str:
    """Return what `intent` prints for a line whose last word is being typed."""
    words = line.split(" ")
    asked = {
        "_INTENT_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
    }
    done = subprocess.run(
        [INTENT],
        env={**environment, **asked, **changes},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_commands_and_options(environment: dict[str, str]) -> None:
    assert complete("intent st", environment).split() == ["status"]
    assert "--recipe" in complete("intent run --", environment).split()


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("intent run e --recipe q", ["qlora", "quickstart"]),
        ("intent convert e --recipe lo", ["lora"]),
        ("intent run e --recipe ./mine", []),
        ("intent demo --gate s", ["strict"]),
        ("intent backup b --without m", ["mlflow"]),
        ("intent watch ", ["music"]),
        ("intent announce a --project mu", ["music"]),
        ("intent announce a --project x", []),
        ("intent promote ", [NEWER, OLDER]),
        ("intent promote intent-0", [OLDER]),
        ("intent trial intent-3", [NEWER]),
        ("intent trace ", [NEWER, OLDER, "intent-ffffffffffff"]),
        ("intent try --candidate intent-f", ["intent-ffffffffffff"]),
        # Nothing, so that the shell completes file names.
        ("intent convert exp", []),
        ("intent convert e --out exp", []),
        ("intent restore exp", []),
    ],
)
def test_values_in_bash(line: str, values: list[str], environment: dict[str, str]) -> None:
    assert complete(line, environment).split() == values


def test_zsh_shows_versions(environment: dict[str, str]) -> None:
    shown = complete("intent promote ", environment, "zsh")
    assert f'"{NEWER}":"music version 8"' in shown
    assert f'"{OLDER}":"music version 7"' in shown
    assert complete("intent convert exp", environment, "zsh").strip() == "_files"


def test_the_script_works_in_a_real_bash(environment: dict[str, str]) -> None:
    """Sources what `intent --show-completion` prints and calls the function as readline does."""
    script = """
        source <(intent --show-completion)
        complete -p intent
        COMP_WORDS=(intent promote intent-); COMP_CWORD=2
        _intent_completion intent intent- promote
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    registered, *values = done.stdout.splitlines()
    assert "-F _intent_completion" in registered and "-o default" in registered
    assert values == [NEWER, OLDER]


@pytest.mark.parametrize(
    "changes",
    [
        {"INTENT_STORE": "ftp://nowhere/store"},
        {"INTENT_STORE": "file:///does/not/exist"},
        {"INTENT_STORE": "s3://bucket/prefix", "INTENT_S3_ENDPOINT_URL": "http://127.0.0.1:9"},
        {"INTENT_PREFECT_PORT": "abc"},
    ],
    ids=["unknown scheme", "no folder", "no server", "wrong setting"],
)
def test_a_broken_store_gives_no_values(
    environment: dict[str, str], changes: dict[str, str]
) -> None:
    assert complete("intent promote ", environment, **changes).split() == []


def test_a_broken_file_gives_no_values(environment: dict[str, str]) -> None:
    Path(environment["INTENT_PROJECTS"]).write_text("{", encoding="utf-8")
    assert complete("intent watch ", environment).split() == []
    manifest = Path(environment["INTENT_HOME"], "store", "releases", NEWER, "manifest.json")
    manifest.write_bytes(b"\xff")
    assert complete("intent promote ", environment).split() == []


def test_completion_imports_no_large_package(environment: dict[str, str]) -> None:
    """The user waits for it; Prefect and MLflow alone take seconds to import."""
    done = subprocess.run(
        [INTENT],
        env={
            **environment,
            "PYTHONPROFILEIMPORTTIME": "1",
            "_INTENT_COMPLETE": "complete_bash",
            "COMP_WORDS": "intent promote x",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "tasks" in imported
    assert not imported & {"prefect", "mlflow", "torch", "transformers", "boto3", "oss2"}

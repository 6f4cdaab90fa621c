"""Backup and restore: complete, verified, and all or nothing when they are killed."""

import gzip
import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from intent_core.errors import ConfigError, DataError
from tasks.maintenance.backup.archive import ArchivedFile, ArchiveManifest, verify_archive
from tasks.maintenance.backup.backup import back_up
from tasks.maintenance.backup.restore import finish_restore, is_pending, restore
from tasks.maintenance.checks import Examination
from tasks.maintenance.checks.restore import check_restore
from tasks.settings import Settings, get_settings
from tests.support.faults.kill_points import die_before

WEIGHTS = os.urandom(3 << 20)


def quiet(line: str) -> None:
    pass


def write_database(path: Path, word: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("create table if not exists told (word text, number integer)")
        connection.execute("insert into told values (?, 0)", (word,))
    connection.close()


DATABASES = ("prefect/prefect.db", "mlflow/mlflow.db", "mlflow/users.db")


def read_database(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    words = [word for (word,) in connection.execute("select distinct word from told")]
    connection.close()
    return words


def fill(home: Path, word: str) -> Settings:
    """Create a home like one that servers have written; every part of it contains `word`."""
    for name in DATABASES:
        write_database(home / name, word)
    files = {
        "serving.json": word.encode(),
        "mlflow/artifacts/1/run/report.html": word.encode(),
        "store/models/intent-0123456789ab/weights": WEIGHTS + word.encode(),
        "store/models/intent-0123456789ab/manifest.json": b"{}",
        "store/models/.0123.partial": b"half",
        "secrets/api_key": b"the-key-of-" + word.encode(),
        "runs/0000.in-use": b"",
        "work/trainings/x/checkpoint": b"not in it",
    }
    for name, data in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(data)
    return Settings(home=home)


def read_state(home: Path) -> set[str]:
    """Return the words in all parts; a single word means that they belong together."""
    said = {word for name in DATABASES for word in read_database(home / name)}
    said.add((home / "serving.json").read_text())
    said.add((home / "mlflow/artifacts/1/run/report.html").read_text())
    weights = (home / "store/models/intent-0123456789ab/weights").read_bytes()
    return said | {weights.removeprefix(WEIGHTS).decode()}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "state.tar.gz"
    back_up(fill(tmp_path / "made", "old"), str(path), [], quiet)
    return path


def test_what_is_written_meanwhile_leaves_the_copy_whole(tmp_path: Path) -> None:
    settings = fill(tmp_path / "home", "old")
    stop = threading.Event()

    def write() -> None:
        connection = sqlite3.connect(settings.home / "prefect" / "prefect.db", timeout=60)
        while not stop.is_set():
            # Both rows in one transaction: a copy with only one of them is inconsistent.
            with connection:
                connection.execute("insert into told values ('pair', 1)")
                connection.execute("insert into told values ('pair', 2)")
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(2):
            back_up(settings, str(tmp_path / f"{number}.tar.gz"), [], quiet)
    finally:
        stop.set()
        writer.join()
    for number in range(2):
        home = tmp_path / f"restored-{number}"
        restore(
            Settings(home=home), str(tmp_path / f"{number}.tar.gz"), replace=False, announce=quiet
        )
        copy = sqlite3.connect(home / "prefect" / "prefect.db")
        ones, twos = (
            copy.execute("select count(*) from told where number = ?", (n,)).fetchone()[0]
            for n in (1, 2)
        )
        copy.close()
        assert ones == twos


def test_the_state_comes_back_and_no_key_is_in_it(archive: Path, tmp_path: Path) -> None:
    assert archive.stat().st_mode & 0o077 == 0
    home = tmp_path / "elsewhere"
    about = restore(Settings(home=home), str(archive), replace=False, announce=quiet)
    assert read_state(home) == {"old"}
    assert (home / "runs" / "0000.in-use").exists()
    assert not (home / "secrets").exists() and not (home / "work" / "trainings").exists()
    assert about["has_store"] and "secrets" not in str(about)
    with gzip.open(archive) as stream:
        assert b"the-key-of-" not in stream.read()
    names = verify_archive(archive).files
    assert not [name for name in names if "partial" in name or "secrets" in name]


def test_what_is_there_is_refused_or_moved_aside(archive: Path, tmp_path: Path) -> None:
    settings = fill(tmp_path / "there", "new")
    with pytest.raises(ConfigError, match=r"not empty.*--replace"):
        restore(settings, str(archive), replace=False, announce=quiet)
    assert read_state(settings.home) == {"new"}
    restore(settings, str(archive), replace=True, announce=quiet)
    assert read_state(settings.home) == {"old"}
    assert (settings.home / "secrets" / "api_key").read_text() == "the-key-of-new"
    (aside,) = settings.home.glob("replaced-*")
    assert read_database(aside / "prefect" / "prefect.db") == ["new"]
    (store_aside,) = (settings.home / "store").glob(".replaced-*")
    kept = store_aside / "models" / "intent-0123456789ab" / "weights"
    assert kept.read_bytes() == WEIGHTS + b"new"


@pytest.mark.parametrize("harm", ["flipped", "cut", "no manifest", "nothing"])
def test_a_damaged_one_is_refused_before_anything_changes(
    harm: str, archive: Path, tmp_path: Path
) -> None:
    data = bytearray(archive.read_bytes())
    if harm == "flipped":
        data[len(data) // 2] ^= 1
    elif harm == "cut":
        del data[len(data) // 2 :]
    elif harm == "no manifest":
        with tarfile.open(archive, mode="r:gz") as tar:
            data = bytearray(packed(*[m for m in tar.getmembers() if m.name != "manifest.json"]))
    else:
        data = bytearray(b"no archive at all")
    harmed = tmp_path / "harmed"
    harmed.write_bytes(data)
    settings = fill(tmp_path / "there", "new")
    with pytest.raises(DataError, match="harmed"):
        restore(settings, str(harmed), replace=True, announce=quiet)
    assert read_state(settings.home) == {"new"}
    assert not is_pending(settings) and not list(settings.home.glob("replaced-*"))


def packed(*members: tarfile.TarInfo) -> bytes:
    """Return an archive of these members, each filled with zeros."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"\0" * member.size) if member.isreg() else None)
    return stream.getvalue()


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


@pytest.mark.parametrize(
    "member",
    [
        named("../outside"),
        named("/tmp/outside"),
        named("store/../../outside"),
        named("serving.json", tarfile.SYMTYPE, "/etc/passwd"),
        named("serving.json", tarfile.LNKTYPE, "../outside"),
        named("store/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda member: member.name,
)
def test_an_archive_that_reaches_out_is_refused(member: tarfile.TarInfo, tmp_path: Path) -> None:
    evil = tmp_path / "evil.tar.gz"
    files = {member.name: ArchivedFile(size=0, sha256="e3b0c44298fc1c149afbf4c8996fb924")}
    manifest = ArchiveManifest(about={}, files=files).model_dump_json().encode()
    last = named("manifest.json")
    last.size = len(manifest)
    evil.write_bytes(packed(member, last))
    with pytest.raises(DataError, match="refused"):
        restore(Settings(home=tmp_path / "home"), str(evil), replace=True, announce=quiet)
    assert not (tmp_path / "outside").exists()


def restore_and_die(settings: Settings, archive: Path, event: str, target: str, count: int) -> None:
    child = os.fork()
    if child == 0:
        die_before(event, target, count)
        restore(settings, str(archive), replace=True, announce=quiet)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.parametrize(
    ("event", "target", "count", "is_done"),
    [
        ("os.mkdir", ".restoring", 1, False),
        ("open", ".restoring/mlflow/mlflow.db", 1, False),
        ("os.rename", "store/.restoring", 1, False),
        ("os.rename", ".restoring/ready.json", 1, False),
        ("os.rename", "/serving.json", 1, True),
        ("os.rename", "/serving.json", 2, True),
        ("os.rename", "/prefect", 2, True),
        ("os.rename", "/mlflow", 1, True),
        ("os.rename", "/runs", 2, True),
        ("os.rename", "store/models", 1, True),
        ("os.remove", ".restoring/ready.json", 1, True),
    ],
)
def test_killed_at_any_moment_it_is_all_or_nothing(
    event: str, target: str, count: int, is_done: bool, archive: Path, tmp_path: Path
) -> None:
    settings = fill(tmp_path / "there", "new")
    restore_and_die(settings, archive, event, target, count)
    assert is_pending(settings) is is_done
    # A start creates this folder again before it completes the restore.
    (settings.home / "prefect").mkdir(exist_ok=True)
    found = list(check_restore(Examination(settings)))
    assert [one.outcome for one in found] == ["repaired"] * is_done
    finish_restore(settings)
    assert read_state(settings.home) == {"old" if is_done else "new"}
    assert not list(settings.home.glob(".restoring*"))
    restore(settings, str(archive), replace=True, announce=quiet)
    assert read_state(settings.home) == {"old"}


@pytest.mark.parametrize("command", ["up", "demo", "serve"])
def test_a_command_that_starts_servers_ends_it_first(
    command: str, archive: Path, tmp_path: Path
) -> None:
    settings = fill(tmp_path / "there", "new")
    restore_and_die(settings, archive, "os.rename", "/serving.json", 2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = {
            **os.environ,
            "INTENT_HOME": str(settings.home),
            "INTENT_GATEWAY_PORT": str(taken.getsockname()[1]),
        }
        done = subprocess.run(
            [sys.executable, "-m", "flows", command],
            env=environment,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 2, done.stdout + done.stderr
    assert not is_pending(settings)
    assert read_state(settings.home) == {"old"}


def test_servers_of_yours_need_an_address_or_are_left_out(tmp_path: Path) -> None:
    settings = fill(tmp_path / "home", "old").model_copy(
        update={"prefect_url": "http://prefect.example/api"}
    )
    with pytest.raises(ConfigError, match=r"INTENT_PREFECT_DATABASE_URL.*--without prefect"):
        back_up(settings, str(tmp_path / "a.tar.gz"), [], quiet)
    assert not (tmp_path / "a.tar.gz").exists()
    back_up(settings, str(tmp_path / "a.tar.gz"), ["prefect"], quiet)
    manifest = verify_archive(tmp_path / "a.tar.gz")
    assert manifest.about["databases"] == {"mlflow": "mlflow/mlflow.db"}
    assert not [name for name in manifest.files if name.startswith(("prefect", "runs"))]
    with pytest.raises(ConfigError, match="is inside the store"):
        back_up(settings, str(settings.home / "store" / "a.tar.gz"), ["prefect"], quiet)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def intent(home: str, *arguments: str, code: int = 0) -> str:
        monkeypatch.setenv("INTENT_HOME", str(tmp_path / home))
        get_settings.cache_clear()
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == code, done.output
        return done.output

    fill(tmp_path / "one", "old")
    path = str(tmp_path / "state.tar.gz")
    assert "MB" in intent("one", "backup", path)
    told = intent("two", "restore", path)
    assert "copy the folder `secrets`" in told and "INTENT_HOME" in told
    assert read_state(tmp_path / "two") == {"old"}
    assert "--replace" in intent("two", "restore", path, code=2)
    assert "no backup at" in intent("three", "restore", str(tmp_path / "none"), code=3)


def test_the_secrets_of_the_settings_stay_out(archive: Path, tmp_path: Path) -> None:
    settings = fill(tmp_path / "home", "old").model_copy(
        update={"mlflow_url": "http://me:hush@mlflow.example", "keep_models": 7}
    )
    back_up(settings, str(tmp_path / "b.tar.gz"), ["mlflow"], quiet)
    told = json.dumps(verify_archive(tmp_path / "b.tar.gz").about)
    assert "hush" not in told and '"INTENT_KEEP_MODELS": "7"' in told

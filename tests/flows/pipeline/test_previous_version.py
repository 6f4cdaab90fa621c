"""A home and a store of the previous version still work, and no training is repeated."""

import json
import lzma
import os
import sqlite3
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.settings import CHECKOUT
from tests.support.servers.seaweedfs import free_ports

pytestmark = [pytest.mark.service, pytest.mark.e2e, pytest.mark.timeout(400)]

STATE = CHECKOUT / "tests" / "data" / "previous_version" / "state.tar.xz"
PREFECT = STATE.with_name("prefect.db.xz")
BLOCK = "from prefect.blocks.system import Secret; print(Secret.load('on-call').get())"


class Installation:
    """A folder of the previous version, and the current command line in it."""

    def __init__(self, folder: Path) -> None:
        with tarfile.open(STATE) as archive:
            archive.extractall(folder, filter="data")
        self.folder = folder
        self.home = folder / "home"
        self.home.chmod(0o755)
        self.database = self.home / "prefect" / "prefect.db"
        self.database.parent.mkdir(mode=0o755)
        self.database.write_bytes(lzma.decompress(PREFECT.read_bytes()))
        self.files = set(self.home.rglob("*"))
        prefect, mlflow, gateway = free_ports(3)
        self.environment = {
            **os.environ,
            # For another vLLM and another Prefect: ours do not get them.
            "VLLM_USE_MODELSCOPE": "True",
            "VLLM_PORT": "1",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/another.db",
            "PYTHONPATH": str(CHECKOUT),
            "INTENT_HOME": str(self.home),
            "INTENT_PREFECT_PORT": str(prefect),
            "INTENT_MLFLOW_PORT": str(mlflow),
            "INTENT_GATEWAY_PORT": str(gateway),
        }
        # These would select the Prefect and MLflow servers of the tests.
        for name in ("PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI"):
            self.environment.pop(name, None)

    def read(self, name: str) -> Any:
        """Return what the previous version printed with `--json`."""
        return json.loads((self.folder / f"{name}.json").read_bytes().splitlines()[-1])

    def intent(self, *arguments: str) -> Any:
        answer = self.run("-m", "flows", *arguments)
        return json.loads(answer.splitlines()[-1]) if "--json" in arguments else answer

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            umask=0o022,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("previous"))
    installation.intent("up")
    yield installation
    installation.intent("down")


def test_what_was_served_is_served_and_answers(installation: Installation) -> None:
    before, after = installation.read("status"), installation.intent("status", "--json")
    assert after["served"]["artifact"] == before["served"]["artifact"]
    assert after["served"]["version"] == before["served"]["version"]
    answer = installation.read("answer")
    again = installation.intent("ask", answer["utterance"], "--json")
    assert (again["text"], again["model"]) == (answer["text"], answer["model"])


def test_a_run_finds_the_training_finished(installation: Installation) -> None:
    before = installation.read("outcome")
    after = installation.intent("run", "export.manifest", "--recipe", "recipe.yaml", "--json")
    reused = {step["name"]: step["reused"] for step in after["steps"]}
    assert reused["fine-tune"]
    assert not reused["evaluate"], "reports of version 3 compare values in another way"
    assert after["dataset"]["fingerprint"] == before["dataset"]["fingerprint"]
    assert after["artifact"] == before["artifact"]
    assert after["report"]["intent_accuracy"] == before["report"]["intent_accuracy"]
    assert after["served"]["artifact"] == before["served"]["artifact"]


def test_no_other_user_reads_the_home(installation: Installation) -> None:
    assert stat.S_IMODE(installation.home.stat().st_mode) == 0o700
    new = set(installation.home.rglob("*")) - installation.files
    assert new
    # nginx gives its socket 0666; the folder is what shuts it
    assert not [path for path in new if path.lstat().st_mode & 0o077 and not path.is_symlink()]


def test_prefects_key_lies_beside_its_database_no_more(installation: Installation) -> None:
    old = installation.folder / "old.db"
    old.write_bytes(lzma.decompress(PREFECT.read_bytes()))
    select = "select value from configuration where key = 'ENCRYPTION_KEY'"
    key = json.loads(sqlite3.connect(old).execute(select).fetchone()[0])["fernet_key"]
    assert (installation.home / "secrets/prefect_encryption_key").read_text() == key
    assert not sqlite3.connect(installation.database).execute(select).fetchall()
    for path in installation.database.parent.glob("prefect.db*"):
        assert key.encode() not in path.read_bytes(), path
    said = installation.run(
        "-c", f"import flows.__main__, tasks.settings as s; s.get_settings(); {BLOCK}"
    )
    assert said.strip() == "hunter2-of-the-previous-version"

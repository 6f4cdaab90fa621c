"""A home and a store of the previous version still work, and no training is repeated."""

import json
import os
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


class Installation:
    """A folder of the previous version, and the current command line in it."""

    def __init__(self, folder: Path) -> None:
        with tarfile.open(STATE) as archive:
            archive.extractall(folder, filter="data")
        self.folder = folder
        prefect, mlflow, gateway = free_ports(3)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            "INTENT_HOME": str(folder / "home"),
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
        done = subprocess.run(
            [sys.executable, "-m", "flows", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return json.loads(done.stdout.splitlines()[-1]) if "--json" in arguments else done.stdout


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

"""Telemetry of dependencies is disabled, also where they start without our settings."""

import os
import subprocess
import sys
from pathlib import Path

from intent_core.recipe.config import ServeConfig
from tasks.serving.vllm.options import server_environment
from tasks.settings import CHECKOUT
from tasks.settings.environment import QUIET
from tests.support.deployments.dockerfiles import FOLDER, last_stage
from tests.support.deployments.kubernetes_manifests import environment_of, rendered
from tests.support.deployments.kustomize import pods_of


def test_every_command_and_whatever_it_starts_has_it(tmp_path: Path) -> None:
    """The variables are set without help of the test's environment; users' values are kept."""
    clean = {"PATH": os.environ["PATH"], "VLLM_NO_USAGE_STATS": "0"}
    code = "import os; from tasks.settings import get_settings as g; g(); print(dict(os.environ))"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={**clean, "PYTHONPATH": str(CHECKOUT), "INTENT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name, value in {**QUIET, "VLLM_NO_USAGE_STATS": "0"}.items():
        assert f"{name!r}: {value!r}" in shown


def test_the_model_server_has_it() -> None:
    environment = server_environment(ServeConfig(), CHECKOUT)
    assert QUIET.items() <= environment.items()


def test_the_images_have_it() -> None:
    stage = last_stage(FOLDER / "worker.Dockerfile")
    words = {word for one in stage if one.name == "ENV" for word in one.words}
    assert {f"{name}={value}" for name, value in QUIET.items()} <= words
    # The other images extend this one or contain no Python package.
    assert {one.text for one in last_stage(FOLDER / "serve.Dockerfile") if one.name == "FROM"} == {
        "${WORKER}"
    }
    assert last_stage(FOLDER / "train.Dockerfile")[0].text == "${SERVE}"


def test_prefects_own_workers_have_what_they_read() -> None:
    unit = CHECKOUT / "deployments" / "systemd" / "intent-worker@.service"
    assert "Environment=DO_NOT_TRACK=true" in unit.read_text(encoding="utf-8")
    objects = rendered("gpu-pool")
    (container,) = pods_of(objects)["intent-gpu-worker"]["spec"]["containers"]
    assert environment_of(container, objects)["DO_NOT_TRACK"] == "true"

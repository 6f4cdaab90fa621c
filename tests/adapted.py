"""Two adapters of one base on one vLLM server, evaluated, accepted, and told apart by answers."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from callers import Callers, Told
from mlflow import MlflowClient
from served import UTTERANCES, accept, store_model

from intent_core.artifacts import ModelArtifact
from intent_core.config import ServeConfig
from tasks.golden import ask_golden, golden_prefix
from tasks.model_server import ensure_model_server
from tasks.promotion import promote_release
from tasks.serving import PromotionUnderWayError, reconcile
from tasks.settings import Settings
from tasks.steps import get_store, write_finished

SERVE = ServeConfig(
    mode="adapter", alias="adapted", max_model_len=128, dtype="float32", max_lora_rank=8
)


class World(NamedTuple):
    """The second is served; `known` is what each answers to each utterance."""

    settings: Settings
    one: ModelArtifact
    two: ModelArtifact
    callers: Callers
    known: dict[tuple[str, str], str]

    def try_promote(self, artifact: ModelArtifact) -> bool:
        """False while somebody else is at it."""
        try:
            return promote_release(self.settings, artifact.name).artifact == artifact
        except PromotionUnderWayError:
            return False

    def is_right(self, told: Told) -> bool:
        return told.status == 200 and self.known[told.model, told.utterance] == told.text


@contextlib.contextmanager
def two_adapters(settings: Settings, base: Path, folder: Path) -> Iterator[World]:
    """Both in the store and in MLflow as versions 1 and 2 of `served`; nothing is served after."""
    registry = MlflowClient(settings.mlflow_tracking_url)
    registry.create_registered_model("served")
    callers = Callers(settings.endpoint, settings.read_inference_key(), SERVE.alias)
    artifacts, known = [], {}
    for seed in (1, 2):
        artifact = store_model(settings, folder / str(seed), base, seed=seed)
        server = ensure_model_server(settings, artifact, SERVE)
        golden = ask_golden(server.url, settings.read_api_key(), artifact, UTTERANCES[:2])
        write_finished(get_store(settings), golden_prefix(artifact, SERVE), golden)
        version = registry.create_model_version("served", f"s3://models/{artifact.name}").version
        accept(settings, artifact, SERVE, str(version))
        promote_release(settings, artifact.name)
        for utterance in UTTERANCES:
            told = callers.ask(utterance)
            assert (told.status, told.model) == (200, artifact.name), told
            known[artifact.name, utterance] = told.text
        artifacts.append(artifact)
    one, two = artifacts
    assert all(known[one.name, text] != known[two.name, text] for text in UTTERANCES)
    yield World(settings, one, two, callers, known)
    (settings.home / "serving.json").unlink()
    reconcile(settings)


def roll_back_alone(closed_port: int) -> "subprocess.CompletedProcess[str]":
    """`intent rollback` where neither MLflow nor Prefect answer."""
    nowhere = f"http://127.0.0.1:{closed_port}"
    down = {"INTENT_MLFLOW_URL": nowhere, "INTENT_PREFECT_URL": f"{nowhere}/api"}
    environment = {**os.environ, **down}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "flows", "rollback"]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )

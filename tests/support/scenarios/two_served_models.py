"""Two models on real vLLM servers, evaluated and accepted, with different answers."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from intent_core.errors import PromotionInProgressError
from intent_core.language.calls import parse_calls
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from intent_core.serving.grounding.policy import learn_policy
from tasks.serving.golden import ask_golden
from tasks.serving.state import read_state
from tasks.serving.targets.local import LocalTarget
from tasks.serving.vllm.server import ensure_model_server, server_name
from tasks.settings import Settings
from tasks.storage.layout import golden_prefix
from tasks.storage.step_results import get_store, write_finished
from tasks.system.processes import in_use
from tests.support.builders.random_models import UTTERANCES, accept, store_model
from tests.support.faults.kill_points import KillPoint, promote_and_die
from tests.support.scenarios.concurrent_callers import Callers, Told
from tests.support.scenarios.promotions import promote

SERVE = ServeConfig(
    mode="adapter", alias="adapted", max_model_len=128, dtype="float32", max_lora_rank=8
)

LABELS = [
    ("what is the weather in Hangzhou", parse_calls("weather_search(Hangzhou)")),
    ("play Angie and stop", parse_calls("play_music(Angie);stop()")),
]


class World(NamedTuple):
    """Two models, of which the second is served; `known` maps (model, utterance) to its answer.

    The answers of the first one are grounded.
    """

    settings: Settings
    one: ModelArtifact
    two: ModelArtifact
    callers: Callers
    known: dict[tuple[str, str], str]

    def try_promote(self, artifact: ModelArtifact) -> bool:
        """Promote the model; return False while another promotion is in progress."""
        try:
            return promote(artifact.name).artifact == artifact
        except PromotionInProgressError:
            return False

    def is_right(self, told: Told) -> bool:
        return told.status == 200 and self.known[told.model, told.utterance] == told.text


@contextlib.contextmanager
def two_models(
    settings: Settings, base: Path, folder: Path, serve: ServeConfig = SERVE
) -> Iterator[World]:
    """Store two models and register them as versions of `served`; stop serving afterwards.

    They are two adapters of one base model on one server, or merged weights on two servers.
    """
    registry = MlflowClient(settings.mlflow_tracking_url)
    with contextlib.suppress(MlflowException):
        registry.create_registered_model("served")
    callers = Callers(settings.endpoint, settings.read_inference_key(), serve.alias)
    method = "lora" if serve.mode == "adapter" else "full"
    artifacts, known, held = [], {}, contextlib.ExitStack()
    for seed in (1, 2):
        policy = learn_policy(LABELS, None) if seed == 1 else None
        artifact = store_model(
            settings, folder / str(seed), base, seed=seed, method=method, policy=policy
        )
        if serve.mode == "merged":
            # Mark the server as under evaluation, so that it keeps running and starts only once.
            process = server_name(artifact, serve)
            held.enter_context(in_use(settings.layout.processes, process))
        server = ensure_model_server(settings, artifact, serve)
        golden = ask_golden(server.url, settings.read_api_key(), artifact, UTTERANCES[:2])
        write_finished(get_store(settings), golden_prefix(artifact, serve), golden)
        version = registry.create_model_version("served", f"s3://models/{artifact.name}").version
        accept(settings, artifact, serve, str(version))
        promote(artifact.name)
        for utterance in UTTERANCES:
            told = callers.ask(utterance)
            assert (told.status, told.model) == (200, artifact.name), told
            known[artifact.name, utterance] = told.text
        artifacts.append(artifact)
    one, two = artifacts
    assert all(known[one.name, text] != known[two.name, text] for text in UTTERANCES)
    with held:
        yield World(settings, one, two, callers, known)
    (settings.home / "serving.json").unlink()
    LocalTarget(settings).reconcile()


def survive_a_kill(world: World, point: KillPoint) -> None:
    """Kill a promotion; all answers stay right, and `reconcile` and `promote` both recover."""
    target = LocalTarget(world.settings)
    promote(world.one.name)
    world.callers.told.clear()
    with world.callers.asking():
        assert promote_and_die(world.two.name, point) == -signal.SIGKILL
        served, _ = target.reconcile()
        assert served and target.is_served(served)
        assert served == read_state(world.settings).current
        assert served.artifact == (world.two if point.is_promoted else world.one)
        assert world.callers.ask(UTTERANCES[0]).model == served.artifact.name
        promote(world.two.name)
        assert world.callers.ask(UTTERANCES[0]).model == world.two.name
    assert len(world.callers.told) > 10
    assert [told for told in world.callers.told if not world.is_right(told)] == []


def roll_back_alone(closed_port: int) -> "subprocess.CompletedProcess[str]":
    """Run `intent rollback` while neither MLflow nor Prefect answers."""
    nowhere = f"http://127.0.0.1:{closed_port}"
    down = {"INTENT_MLFLOW_URL": nowhere, "INTENT_PREFECT_URL": f"{nowhere}/api"}
    environment = {**os.environ, **down}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "flows", "rollback"]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )

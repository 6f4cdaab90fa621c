"""Replicas that share only a store: real `intent serve --follow` processes, real vLLM."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from intent_core.errors import ConfigError, PromotionInProgressError, ServingError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from tasks.serving.golden import GoldenAnswer, ask_golden
from tasks.serving.state import ServedModel, new_served_model
from tasks.serving.targets.fleet import FleetTarget
from tasks.settings import Settings, get_settings
from tests.support.builders.random_models import UTTERANCES, store_model
from tests.support.scenarios.concurrent_callers import Callers
from tests.support.scenarios.two_machines import wait_for
from tests.support.servers.seaweedfs import free_ports

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

SERVE = ServeConfig(
    mode="adapter", alias="fleet", max_model_len=128, dtype="float32", max_lora_rank=8
)


class Replica(NamedTuple):
    process: subprocess.Popen[bytes]
    url: str
    callers: Callers

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/gateway/ready").status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture
def ports() -> list[int]:
    return free_ports(2)


@pytest.fixture
def commander(settings: Settings, ports: list[int]) -> Settings:
    """A machine that promotes but does not serve; its public address is the first replica."""
    url = f"http://127.0.0.1:{ports[0]}/v1"
    return settings.model_copy(update={"fleet": SERVE.alias, "public_url": url})


@pytest.fixture
def start(settings: Settings, ports: list[int], tmp_path: Path) -> Iterator[Callable[[], Replica]]:
    started: list[Replica] = []

    def start_one() -> Replica:
        port = ports[len(started)]
        home = tmp_path / f"replica-{len(started)}"
        environment = {
            **os.environ,
            "INTENT_HOME": str(home),
            "INTENT_STORE": settings.store_uri,
            "INTENT_FLEET": SERVE.alias,
            "INTENT_GATEWAY_PORT": str(port),
            "INTENT_API_KEY": settings.read_api_key(),
            "INTENT_INFERENCE_KEYS": str(settings.ensure_inference_keys()),
        }
        with (tmp_path / f"replica-{len(started)}.log").open("wb") as log:
            command = [sys.executable, "-m", "flows", "serve", "--follow"]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        callers = Callers(f"{url}/v1", settings.read_inference_key(), SERVE.alias)
        started.append(Replica(process, url, callers))
        return started[-1]

    yield start_one
    for replica in started:
        replica.process.send_signal(signal.SIGTERM)
    for replica in started:
        replica.process.wait(90)


def serve(
    commander: Settings, artifact: ModelArtifact, golden: tuple[GoldenAnswer, ...] = ()
) -> ServedModel:
    served = new_served_model(
        commander, artifact, SERVE, project="fleet", version="1", golden=golden
    )
    return FleetTarget(commander).promote(served)


def test_replicas_switch_together_and_none_is_ever_wrong(
    commander: Settings, start: Callable[[], Replica], tiny_model: Path, tmp_path: Path
) -> None:
    one, two = (
        store_model(get_settings(), tmp_path / str(seed), tiny_model, seed=seed) for seed in (1, 2)
    )
    fleet = FleetTarget(commander)
    first = start()
    wait_for("a sign of life", lambda: bool(fleet.read_reports()), 60)
    assert not first.is_ready()
    assert serve(commander, one).artifact == one
    assert first.is_ready()
    known = {(one.name, text): first.callers.ask(text).text for text in UTTERANCES}

    # A replica that starts later is ready only once it serves the fleet's model.
    second = start()
    wait_for("the second replica", second.is_ready, 180)
    told = second.callers.ask(UTTERANCES[0])
    assert (told.model, told.text) == (one.name, known[one.name, UTTERANCES[0]])
    wait_for("its report", lambda: len(fleet.replicas()) == 2, 30)

    serve(commander, two)
    known |= {(two.name, text): second.callers.ask(text).text for text in UTTERANCES}
    assert known[one.name, UTTERANCES[0]] != known[two.name, UTTERANCES[0]]
    state = fleet.read()
    assert state.current and fleet.does_answer(state.current)
    assert (state.current.artifact, state.previous and state.previous.artifact) == (two, one)

    golden = ask_golden(f"{first.url}/v1", commander.read_api_key(), one, UTTERANCES[:2]).answers
    with first.callers.asking(1), second.callers.asking(1):
        serve(commander, one, golden)
        assert {r.callers.ask(UTTERANCES[0]).model for r in (first, second)} == {one.name}
        assert fleet.roll_back().artifact == two
        assert {r.callers.ask(UTTERANCES[0]).model for r in (first, second)} == {two.name}
        with pytest.raises(ServingError, match=r"replica .* in its evaluation"):
            serve(commander, one, (GoldenAnswer(utterance=UTTERANCES[1], text="play(Angie)"),))
        assert fleet.read().current == fleet.read_desired().current
        assert first.callers.ask(UTTERANCES[0]).model == two.name

        with ThreadPoolExecutor(2) as pool:
            ends = [pool.submit(serve, commander, one) for _ in range(2)]
        refused = [end.exception() for end in ends if end.exception()]
        assert all(isinstance(error, PromotionInProgressError) for error in refused)
        assert len(refused) < 2
        assert second.callers.ask(UTTERANCES[0]).model == one.name
    everything = first.callers.told + second.callers.told
    assert len(everything) > 20
    assert [t for t in everything if known.get((t.model, t.utterance)) != t.text] == []
    assert fleet.reconcile()[1] == []


def test_a_fleet_that_is_not_there_is_named(commander: Settings, tiny_model: Path) -> None:
    other = commander.model_copy(update={"fleet": "nobody"})
    artifact = ModelArtifact(
        name="intent-0123456789ab",
        digest="0" * 64,
        uri="models/none",
        method="lora",
        base_model=str(tiny_model),
        base_model_digest="0" * 64,
        dataset_fingerprint="none",
        train_fingerprint="none",
        system_prompt="",
    )
    with pytest.raises(ConfigError, match=r"is 'fleet', but INTENT_FLEET is 'nobody'"):
        serve(other, artifact)
    with pytest.raises(ConfigError, match="no previous model"):
        FleetTarget(other).roll_back()

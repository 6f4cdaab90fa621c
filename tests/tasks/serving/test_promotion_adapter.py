"""Adapters on one vLLM server: promotion, kills, rollback, restart, and access control."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
from intent_client import IntentClient
from mlflow import MlflowClient

from intent_core.errors import ServingError
from intent_core.serving.access.aliases import AliasFile, write_aliases
from tasks.local_services.supervisor import supervise
from tasks.serving.golden import GoldenAnswer, GoldenAnswers
from tasks.serving.state import read_state
from tasks.serving.targets.local import LocalTarget
from tasks.serving.vllm.server import find_model_server
from tasks.settings import Settings
from tasks.storage.layout import golden_prefix
from tasks.storage.step_results import get_store, write_finished
from tasks.system.processes import find_process, stop_process
from tests.support.browser.playground_page import open_page
from tests.support.builders.random_models import UTTERANCES
from tests.support.deployments.prometheus_metrics import expressions, metrics_of, shown_by
from tests.support.docs.markdown_pages import ROOT, read_blocks
from tests.support.faults.kill_points import ADAPTER_PROMOTION, KillPoint
from tests.support.fuzz.fuzz_serving import fuzz
from tests.support.scenarios.concurrent_callers import Callers
from tests.support.scenarios.pipeline_runs import intent
from tests.support.scenarios.promotions import promote
from tests.support.scenarios.two_machines import wait_for
from tests.support.scenarios.two_served_models import (
    SERVE,
    World,
    roll_back_alone,
    survive_a_kill,
    two_models,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def world(
    platform: Settings, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with two_models(platform, tiny_model, tmp_path_factory.mktemp("adapters")) as world:
        yield world


def test_a_model_is_served_since_the_switch(world: World) -> None:
    """Not since the promotion began: a server may have to load the model first."""
    target = LocalTarget(world.settings)
    for switch in (lambda: promote(world.one.name), target.roll_back):
        served = switch()
        server = find_model_server(world.settings, served.artifact, served.serve)
        assert server is not None
        switched = world.settings.layout.alias_file(server.name).stat().st_mtime
        assert served.since.timestamp() >= switched
        assert read_state(world.settings).current == served


@pytest.mark.parametrize("point", ADAPTER_PROMOTION)
def test_a_promotion_killed_at_any_point_leaves_what_can_be_ended(
    world: World, point: KillPoint
) -> None:
    survive_a_kill(world, point)


def test_of_two_promotions_at_once_one_wins_and_the_other_says_so(world: World) -> None:
    promote(world.one.name)
    state = read_state(world.settings)

    def try_promote(name: str) -> str:
        try:
            return promote(name).artifact.name
        except ServingError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(try_promote, [world.two.name, world.two.name]))
    assert world.two.name in ends
    assert any("another promotion or rollback is in progress" in end for end in ends)
    now = read_state(world.settings)
    assert now.previous == state.current
    assert now.current and now.current.artifact == world.two


def test_rollback_works_with_mlflow_and_prefect_down(world: World, closed_port: int) -> None:
    promote(world.two.name)
    promote(world.one.name)
    world.callers.told.clear()
    with world.callers.asking():
        done = roll_back_alone(closed_port)
        assert done.returncode == 0, done.stderr
        assert world.two.name in done.stdout
        assert world.callers.ask(UTTERANCES[0]).model == world.two.name
    assert [told for told in world.callers.told if not world.is_right(told)] == []


@pytest.mark.slow
def test_what_hangs_or_dies_serves_the_same_again_from_the_first_request(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`intent serve` restarts it, and keeps a model that is promoted meanwhile."""
    monkeypatch.setattr("tasks.serving.vllm.server._BUSY_S", 1)
    served = promote(world.one.name)
    folder = world.settings.layout.processes
    server = find_model_server(world.settings, served.artifact, served.serve)
    assert server
    record, gateway = find_process(folder, server.name), find_process(folder, "gateway")
    assert record and gateway
    os.kill(record.pid, signal.SIGSTOP)
    stop_process(folder, gateway, grace_s=0)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        supervising = pool.submit(supervise, world.settings, stop, 0.2)
        try:
            wait_for("an answer", world.callers.are_served, 180)
            assert world.is_right(world.callers.ask(UTTERANCES[0]))
            wait_for("a promotion's turn", lambda: world.try_promote(world.two), 60)
            assert world.callers.ask(UTTERANCES[0]).model == world.two.name
        finally:
            stop.set()
        supervising.result(60)
    assert world.callers.ask(UTTERANCES[0]).model == world.two.name
    target = LocalTarget(world.settings)
    assert target.retire_others(target.read().current) == []


def test_a_model_that_answers_otherwise_is_not_promoted(world: World) -> None:
    promote(world.one.name)
    store, prefix = get_store(world.settings), golden_prefix(world.two, SERVE)
    right = store.read(f"{prefix}/manifest.json")
    wrong = GoldenAnswers(answers=(GoldenAnswer(utterance=UTTERANCES[0], text="play(Angie)"),))
    write_finished(store, prefix, wrong)
    try:
        with pytest.raises(ServingError, match="in its evaluation"):
            promote(world.two.name)
    finally:
        store.put(f"{prefix}/manifest.json", right)
    assert world.callers.ask(UTTERANCES[0]).model == world.one.name
    served, repairs = LocalTarget(world.settings).reconcile()
    assert served and (served.artifact, repairs) == (world.one, [])


def test_a_key_may_ask_and_no_more(world: World) -> None:
    """Try every known endpoint, through the gateway and at the server itself."""
    served = read_state(world.settings).current
    assert served
    server = find_model_server(world.settings, served.artifact, served.serve)
    assert server
    inside, outside = f"http://{server.address}", world.settings.endpoint.removesuffix("/v1")
    chat = {"messages": [{"role": "user", "content": "hello"}], "max_completion_tokens": 4}
    adapter = {"lora_name": "x", "lora_path": "/etc"}
    for key in (world.settings.read_inference_key(), world.settings.read_api_key()):
        headers = {"Authorization": f"Bearer {key}"}
        for base in (inside, outside):
            for path in (
                *("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters", "/invocations"),
                *("/collective_rpc", "/sleep", "/reset_prefix_cache", "/docs", "/v1/responses"),
            ):
                answer = httpx.post(f"{base}{path}", json=adapter, headers=headers)
                assert answer.status_code == 404, (path, answer.text)
            found = httpx.delete(f"{base}/adapters/{world.one.name}", headers=headers)
            assert found.status_code == 404
    headers = {"Authorization": f"Bearer {world.settings.read_inference_key()}"}
    for name in ("../models", "/etc", "..", world.one.name, server.weights, "adapted/../x", ""):
        answer = httpx.post(
            f"{inside}/v1/chat/completions", json={**chat, "model": name}, headers=headers
        )
        assert answer.status_code == 404, (name, answer.text)
        assert answer.json()["error"]["code"] == "model_not_found"
    for path in ("/tokenize", "/metrics", "/intent/status"):
        method = "POST" if path == "/tokenize" else "GET"
        assert httpx.request(method, f"{inside}{path}", headers=headers).status_code == 404
    assert httpx.get(f"{inside}/v1/models").status_code == 401
    listed = httpx.get(f"{outside}/v1/models", headers=headers).json()["data"]
    assert [one["id"] for one in listed] == ["adapted"]
    [known] = httpx.get(f"{outside}/v1/intents", headers=headers).json()["data"]
    assert known["intents"]["greet"]["description"] == f"seed {1 + (served.artifact == world.two)}"


def test_the_gateway_shows_the_operator_all_that_dashboard_and_alerts_name(world: World) -> None:
    url = world.settings.endpoint.removesuffix("/v1") + "/gateway/metrics"
    world.callers.ask(UTTERANCES[0])
    assert httpx.get(url).status_code == 401
    headers = {"Authorization": f"Bearer {world.settings.read_inference_key()}"}
    assert httpx.get(url, headers=headers).status_code == 404
    headers = {"Authorization": f"Bearer {world.settings.read_api_key()}"}
    text = httpx.get(url, headers=headers).raise_for_status().text
    named = {name for one in expressions() for name in metrics_of(one)}
    assert named - shown_by(text) == set()
    assert "\nintent_served_aliases 1.0\n" in text


def test_the_answers_of_a_grounded_model_begin_with_its_intents(world: World) -> None:
    promote(world.one.name)
    for utterance in UTTERANCES:
        answer = world.callers.ask(utterance, is_cut=False)
        assert answer.text.startswith(("weather_search(", "play_music(", "stop()")), answer.text
    assert not world.known[world.two.name, UTTERANCES[0]].startswith("weather_search(")


def test_nothing_that_is_sent_hurts_it(world: World) -> None:
    promote(world.one.name)
    found = fuzz(world.settings, seconds=10, seed=1)
    findings: list[object] = found.pop("findings")  # type: ignore[assignment]
    assert not findings, json.dumps([found, *findings[:3]], indent=1)


def test_the_pai_guides_older_request_is_answered(world: World) -> None:
    key = world.settings.read_inference_key()
    body = {
        "prompt": UTTERANCES[0],
        "system_prompt": world.one.system_prompt,
        "top_k": 1,
        "top_p": 0.8,
        "temperature": 0.0,
        "max_new_tokens": 8,
        "use_stream_chat": False,
        "history": [],
    }
    host = f"{world.settings.endpoint.removesuffix('/v1')}/api/predict/{SERVE.alias}"
    answer = httpx.post(host, headers={"Authorization": key}, json=body, timeout=60)
    told = world.callers.ask(UTTERANCES[0])
    assert answer.json()["response"] == told.text
    assert answer.json()["history"] == [[UTTERANCES[0], told.text]]


def test_the_pai_guides_client_needs_another_address_and_key_only(world: World) -> None:
    """It uses the first listed model, content parts, a large token limit, and streaming."""
    key = world.settings.read_inference_key()
    system = [{"type": "text", "text": world.one.system_prompt}]
    user = [{"type": "text", "text": UTTERANCES[0]}]
    with openai.OpenAI(base_url=world.settings.endpoint, api_key=key) as client:
        model = client.models.list().data[0].id
        chunks = client.chat.completions.create(
            messages=[
                {"role": "system", "content": system},  # type: ignore[list-item,misc]
                {"role": "user", "content": user},  # type: ignore[list-item,misc]
            ],
            model=model,
            max_completion_tokens=2048,
            temperature=0,
            stream=True,
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.startswith(world.callers.ask(UTTERANCES[0]).text)


def test_a_threshold_is_applied_for_every_client(world: World) -> None:
    served = promote(world.two.name)
    server = find_model_server(world.settings, served.artifact, served.serve)
    assert server
    path = world.settings.layout.alias_file(server.name)
    before = AliasFile(path).read()
    target = before[SERVE.alias].model_copy(update={"abstain_below": 1.0})
    write_aliases(path, {SERVE.alias: target})
    key = world.settings.read_inference_key()
    try:
        with openai.OpenAI(base_url=world.settings.endpoint, api_key=key) as client:
            answer = client.chat.completions.with_raw_response.create(
                model=SERVE.alias,
                messages=[{"role": "user", "content": UTTERANCES[0]}],
                max_completion_tokens=8,
                temperature=0,
            )
    finally:
        write_aliases(path, before)
    assert 0 <= float(answer.headers["x-intent-confidence"]) < 1
    choice = answer.parse().choices[0]
    assert (choice.message.content, choice.logprobs) == ("out_of_scope()", None)


def test_our_client_knows_who_answered(world: World) -> None:
    served = read_state(world.settings).current
    assert served
    key = world.settings.read_inference_key()
    url = world.settings.endpoint
    with IntentClient(url, key, alias=SERVE.alias, max_completion_tokens=8) as client:
        answer = client.ask_text(UTTERANCES[0])
    assert (answer.model, answer.version) == (served.artifact.name, served.version)
    assert answer.text == world.callers.ask(UTTERANCES[0]).text.strip()


def test_the_pages_programs_run(world: World) -> None:
    """Those whose packages the tests have; `make walk` runs all of them."""
    promote(world.one.name)
    path = str(ROOT / "clients" / "python" / "src")
    address = {
        "OPENAI_BASE_URL": world.settings.endpoint,
        "OPENAI_API_KEY": world.settings.read_inference_key(),
    }
    blocks = read_blocks(ROOT / "docs" / "en" / "calling.md")
    programs = [
        block.text.replace('"intent"', f'"{SERVE.alias}"').replace(
            "timeout_s=10", f'alias="{SERVE.alias}"'
        )
        for block in blocks
        if re.search(r"^from (openai|intent_client) import", block.text, re.MULTILINE)
    ]
    assert len(programs) == 2
    for program in programs:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": path, **address},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 and done.stdout, done.stderr


def test_the_page_shows_both_models_to_a_person(world: World, tmp_path: Path) -> None:
    promote(world.one.name)
    with open_page(world, tmp_path, candidate=world.two) as page:
        page.tells(UTTERANCES[0], champion=world.one)
        promote(world.two.name)
        page.tells(UTTERANCES[2], champion=world.two)


def test_a_trial_takes_a_share_and_ends_by_itself(world: World) -> None:
    """A trial in shadow mode, then with real answers; it ends when a limit is reached."""
    promote(world.one.name)
    target = LocalTarget(world.settings)
    assert target.read_trial() is None
    intent("trial", world.two.name, "--shadow", "--share", "1")
    for utterance in UTTERANCES:
        assert world.callers.ask(utterance, is_cut=False).model == world.one.name
    wait_for("the copies", lambda: (target.read_trial() or {})["requests"] == 3, 60)
    served = target.read().current
    assert served and target.is_served(served)
    intent("trial", world.two.name, "--share", "1")
    told = world.callers.ask(UTTERANCES[0])
    assert told.model == world.two.name and world.is_right(told)
    limits = ["--limit", "max_parse_failure_rate=0.5", "--limit", "min_requests=3"]
    intent("trial", world.two.name, "--share", "1", *limits)
    models = [world.callers.ask(UTTERANCES[0], is_cut=False).model for _ in range(5)]
    assert models == [world.two.name] * 3 + [world.one.name] * 2, "random models write no calls"
    assert json.loads(intent("trial"))["ended"] == "max_parse_failure_rate"
    intent("trial", "--stop")
    assert target.read_trial() is None


def test_keys_are_rotated_without_a_restart(world: World) -> None:
    path = world.settings.ensure_inference_keys()
    before = path.read_text(encoding="utf-8")
    other = Callers(world.settings.endpoint, "another-key-of-32-characters-000", SERVE.alias)
    assert other.ask(UTTERANCES[0]).status == 401
    path.write_text(before + "other another-key-of-32-characters-000\n", encoding="utf-8")
    assert world.is_right(other.ask(UTTERANCES[0]))
    assert world.is_right(world.callers.ask(UTTERANCES[0])), "the former key still works"
    path.write_text(before, encoding="utf-8")
    assert other.ask(UTTERANCES[0]).status == 401


def test_the_cli_promotes_by_name(world: World) -> None:
    assert "is now" in intent("promote", world.two.name)
    assert world.callers.ask(UTTERANCES[0]).model == world.two.name
    intent("promote", "intent-000000000000", code=2)


def test_reconcile_moves_the_registry_after_the_server(world: World) -> None:
    registry = MlflowClient(world.settings.mlflow_tracking_url)
    served = promote(world.one.name)
    registry.set_registered_model_alias("served", "champion", "2")
    status = json.loads(intent("status", "--json"))
    assert (status["served"]["version"], status["champion"]) == (served.version, "2") == ("1", "2")
    intent("reconcile")
    assert json.loads(intent("status", "--json"))["champion"] == "1"

"""The gateway, switched between two servers under load: every caller gets a complete answer."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from intent_core.errors import ConfigError
from tasks.serving.gateway.nginx import serving_now, switch_gateway, wait_for_drain
from tasks.settings import Settings
from tasks.system.ports import choose_free_port
from tests.support.servers.gateway import running_gateway, running_server

pytestmark = pytest.mark.service

HOST = "127.0.0.1"


@pytest.fixture
def servers() -> Iterator[dict[str, str]]:
    with running_server("blue") as blue, running_server("green") as green:
        yield {"blue": blue, "green": green}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Settings]:
    with running_gateway(Settings(home=tmp_path, gateway_port=choose_free_port(HOST))) as settings:
        yield settings


def test_switching_loses_and_mixes_nothing(gateway: Settings, servers: dict[str, str]) -> None:
    url = f"{gateway.endpoint}/models"
    answers: list[str] = []
    stop = threading.Event()

    def call() -> None:
        with httpx.Client(timeout=10) as client:
            while not stop.is_set():
                answer = client.get(url)
                answers.append(answer.text if answer.status_code == 200 else str(answer))

    switch_gateway(gateway, servers["blue"], "blue")
    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for name in ("green", "blue", "green", "blue"):
        time.sleep(0.3)
        switch_gateway(gateway, servers[name], name)
        assert serving_now(gateway) == name
    time.sleep(0.3)
    stop.set()
    for caller in callers:
        caller.join()
    wait_for_drain(gateway)
    assert set(answers) == {"blue-blue", "green-green"}
    assert len(answers) > 40


def test_a_body_too_large_is_refused(gateway: Settings, servers: dict[str, str]) -> None:
    switch_gateway(gateway, servers["blue"], "blue")
    answer = httpx.post(f"{gateway.endpoint}/chat/completions", content=b"x" * 300_000)
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["models", "intents"])
def test_without_a_model_the_answer_says_why(gateway: Settings, path: str) -> None:
    answer = httpx.get(f"{gateway.endpoint}/{path}")
    assert answer.status_code == 503
    assert "no model has been promoted" in answer.json()["error"]["message"]


def test_other_settings_do_not_switch_it(gateway: Settings, servers: dict[str, str]) -> None:
    """Without the TLS settings, for example, it would then listen without TLS."""
    for other in ({"gateway_port": 1}, {"tls_key": "k", "tls_certificate": "c"}):
        settings = gateway.model_copy(update=other)
        with pytest.raises(ConfigError, match="started with another INTENT_HOST"):
            switch_gateway(settings, servers["blue"], "blue")
    assert serving_now(gateway) == ""


def test_without_a_model_it_says_to_prometheus_that_there_is_none(gateway: Settings) -> None:
    answer = httpx.get(gateway.endpoint.removesuffix("/v1") + "/gateway/metrics")
    assert (answer.status_code, answer.text) == (200, "intent_served_aliases 0\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4"

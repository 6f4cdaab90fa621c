"""The operator's key goes to our own servers only, also if another program has their port."""

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from intent_core.errors import ServingError
from tasks.serving.gateway.nginx import read_gateway_key
from tasks.serving.vllm.server import ModelServer, is_ready, read_server_key
from tasks.settings import CHECKOUT, Settings
from tasks.system.ports import choose_free_port, is_served_by
from tasks.system.processes import ProcessRecord, start_process, stop_process, wait_until_ready
from tests.support.servers.key_thief import Thief, running_thief

SLEEP = "import time; time.sleep(600)"
Start = Callable[..., ProcessRecord]

LISTEN = """
import os, socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if os.fork():
    server.close()
time.sleep(600)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", gateway_port=choose_free_port("127.0.0.1"))


@pytest.fixture
def thief(settings: Settings) -> Iterator[Thief]:
    with running_thief(settings.gateway_port) as thief:
        yield thief


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    started: list[ProcessRecord] = []

    def start(name: str, port: int, script: str = SLEEP) -> ProcessRecord:
        command = [sys.executable, "-c", script, str(port)]
        started.append(start_process(settings.layout.processes, name, command, port))
        return started[-1]

    yield start
    for record in started:
        stop_process(settings.layout.processes, record)


def test_a_model_servers_port_taken_by_another(
    settings: Settings, thief: Thief, start: Start
) -> None:
    start("vllm-intent-x", thief.port)
    server = ModelServer(
        name="vllm-intent-x", model="intent-x", weights="intent-x", port=thief.port
    )
    assert not is_ready(settings, server)
    with pytest.raises(ServingError, match="does not listen on its port"):
        read_server_key(settings, server)
    assert settings.read_api_key() not in thief.heard


def test_the_gateways_port_taken_by_another(settings: Settings, thief: Thief, start: Start) -> None:
    start("gateway", thief.port)
    with pytest.raises(ServingError, match="the gateway does not listen"):
        read_gateway_key(settings)
    elsewhere = settings.model_copy(update={"fleet": "intent", "public_url": "https://x.example"})
    assert read_gateway_key(elsewhere) == settings.read_api_key()


def test_our_own_server_gets_the_key(settings: Settings, start: Start) -> None:
    port = choose_free_port("127.0.0.1")
    record = start("vllm-intent-x", port, LISTEN)
    # Its child listens, as an API server of vLLM may.
    wait_until_ready(record, lambda: is_served_by(port, record.pid), 20)
    server = ModelServer(name="vllm-intent-x", model="intent-x", weights="intent-x", port=port)
    assert read_server_key(settings, server) == settings.read_api_key()


def test_only_a_few_modules_read_the_operators_key() -> None:
    """Others get it for one server, which proves that its port is its own."""
    readers = set()
    for room in ("flows", "tasks"):
        for path in (CHECKOUT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr == "read_api_key":
                    readers.add(str(path.relative_to(CHECKOUT)))
    assert readers == {
        "tasks/settings/api_keys.py",
        "tasks/local_services/services.py",  # generates it
        "tasks/serving/fleet/eas.py",  # writes it to the service's folder of secrets
        "tasks/serving/gateway/nginx.py",
        "tasks/serving/vllm/server.py",
    }

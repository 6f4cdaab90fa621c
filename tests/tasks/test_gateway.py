"""The gateway turned between two servers under load: every caller gets a whole answer."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tasks.gateway import (
    gateway_command,
    serving_now,
    turn_gateway,
    wait_for_drain,
    write_gateway_config,
)
from tasks.processes import (
    choose_free_port,
    processes_folder,
    start_process,
    stop_process,
    wait_until_ready,
)
from tasks.settings import Settings

pytestmark = pytest.mark.service


def make_server(name: str) -> ThreadingHTTPServer:
    """Answers with its name, half of it a moment later, so that a cut would show."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = f"{name}-{name}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(name)])
            self.wfile.flush()
            time.sleep(0.05)
            self.wfile.write(body[len(name) :])

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def servers() -> Iterator[dict[str, str]]:
    running = {name: make_server(name) for name in ("blue", "green")}
    yield {name: f"127.0.0.1:{server.server_port}" for name, server in running.items()}
    for server in running.values():
        server.shutdown()
        server.server_close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Settings]:
    """A gateway of its own, with nothing behind it yet."""
    settings = Settings(home=tmp_path, gateway_port=choose_free_port("127.0.0.1"))
    write_gateway_config(settings)
    folder = processes_folder(settings)
    record = start_process(folder, "gateway", gateway_command(settings), settings.gateway_port)
    wait_until_ready(record, lambda: serving_now(settings) == "", 20)
    yield settings
    stop_process(folder, record)


def test_turning_loses_and_mixes_nothing(gateway: Settings, servers: dict[str, str]) -> None:
    url = f"{gateway.endpoint}/models"
    answers: list[str] = []
    stop = threading.Event()

    def call() -> None:
        with httpx.Client(timeout=10) as client:
            while not stop.is_set():
                answer = client.get(url)
                answers.append(answer.text if answer.status_code == 200 else str(answer))

    turn_gateway(gateway, servers["blue"], "blue")
    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for name in ("green", "blue", "green", "blue"):
        time.sleep(0.3)
        turn_gateway(gateway, servers[name], name)
        assert serving_now(gateway) == name
    time.sleep(0.3)
    stop.set()
    for caller in callers:
        caller.join()
    wait_for_drain(gateway)
    assert set(answers) == {"blue-blue", "green-green"}
    assert len(answers) > 40


def test_a_body_too_large_is_refused(gateway: Settings, servers: dict[str, str]) -> None:
    turn_gateway(gateway, servers["blue"], "blue")
    answer = httpx.post(f"{gateway.endpoint}/chat/completions", content=b"x" * 300_000)
    assert answer.status_code == 413


def test_without_a_model_callers_are_told_so(gateway: Settings) -> None:
    answer = httpx.get(f"{gateway.endpoint}/models")
    assert answer.status_code == 503
    assert "no model has been promoted" in answer.json()["error"]["message"]

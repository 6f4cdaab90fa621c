"""The gateway, switched between two servers under load: every caller gets a complete answer."""

import contextlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from intent_core.errors import ConfigError
from tasks.serving.gateway.binary import find_nginx
from tasks.serving.gateway.nginx import (
    format_gateway_config,
    read_gateway_key,
    reload_gateway,
    serving_now,
    switch_gateway,
    wait_for_drain,
)
from tasks.settings import Settings
from tasks.system.ports import choose_free_port
from tasks.system.processes import find_process
from tests.support.fuzz.raw_http import Shot, send
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
    assert answer.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "named"),
    [
        ("POST", "/v1/responses", 404, "path_not_served", "/v1/chat/completions"),
        ("POST", "/chat/completions", 404, "path_not_served", "must end with /v1"),
        ("GET", "/", 404, "path_not_served", "/v1/models"),
        ("GET", "/v1/models?x=" + "x" * 40_000, 400, "invalid_request", "headers"),
    ],
)
def test_errors_of_the_gateway_have_openais_form(
    gateway: Settings, method: str, path: str, status: int, code: str, named: str
) -> None:
    answer = httpx.request(method, gateway.endpoint.removesuffix("/v1") + path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, None)
    assert named in error["message"]


@pytest.mark.parametrize(
    ("version", "encoding"), [("9.9", "chunked"), ("1.1", "gzip, chunked"), ("1.1", "\x0b")]
)
def test_what_nginx_cannot_parse_is_the_callers_error(
    gateway: Settings, version: str, encoding: str
) -> None:
    line = f"POST /v1/chat/completions HTTP/{version}"
    head = f"{line}\r\nHost: x\r\nTransfer-Encoding: {encoding}\r\n\r\n"
    reply = send((HOST, gateway.gateway_port), Shot("protocol", head.encode()), 10)
    assert reply.statuses == [400]
    assert b'"code": "invalid_request"' in reply.raw


def test_a_model_server_that_is_down_is_not_an_unpromoted_model(gateway: Settings) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        switch_gateway(gateway, address, "down")
        answer = httpx.get(f"{gateway.endpoint}/models")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["code"] == "model_unavailable"
    gateway.layout.serving_state.write_text("{}")
    switch_gateway(gateway, "", "")
    assert httpx.get(f"{gateway.endpoint}/models").json()["error"]["code"] == "model_not_running"
    gateway.layout.serving_state.unlink()


def test_pages_of_allowed_origins_may_call_it(gateway: Settings, servers: dict[str, str]) -> None:
    settings = gateway.model_copy(update={"cors_origins": "https://app.example.com"})
    switch_gateway(settings, servers["blue"], "blue")
    url = f"{gateway.endpoint}/chat/completions"
    for origin, allowed in ("https://app.example.com", True), ("https://evil.example.com", False):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        asked = httpx.options(url, headers=headers)
        answer = httpx.get(f"{gateway.endpoint}/models", headers=headers)
        assert asked.status_code == 204
        for response in (asked, answer):
            expected = origin if allowed else None
            assert response.headers.get("access-control-allow-origin") == expected
    with pytest.raises(ConfigError, match="is not an origin"):
        gateway.model_copy(update={"cors_origins": "app.example.com;"}).list_cors_origins()


@pytest.mark.parametrize("host", ["::1", "::", "0.0.0.0", "localhost"])
def test_it_listens_on_addresses_of_both_ip_versions(
    tmp_path: Path, servers: dict[str, str], host: str
) -> None:
    settings = Settings(home=tmp_path, gateway_host=host, gateway_port=choose_free_port(HOST))
    with running_gateway(settings):
        assert read_gateway_key(settings) == settings.read_api_key()
        switch_gateway(settings, servers["blue"], "blue")
        assert httpx.get(f"{settings.endpoint}/models").text == "blue-blue"
        assert serving_now(settings) == "blue"


@pytest.mark.parametrize("path", ["models", "intents"])
def test_without_a_model_the_answer_says_why(gateway: Settings, path: str) -> None:
    answer = httpx.get(f"{gateway.endpoint}/{path}")
    assert answer.status_code == 503
    assert "no model has been promoted" in answer.json()["error"]["message"]


def test_other_settings_do_not_switch_it(gateway: Settings, servers: dict[str, str]) -> None:
    """Without the TLS settings, for example, it would then listen without TLS."""
    for other in ({"gateway_port": 1}, {"tls_key": "k", "tls_certificate": "c"}):
        settings = gateway.model_copy(update=other)
        with pytest.raises(ConfigError, match="started with another INTENT_GATEWAY_HOST"):
            switch_gateway(settings, servers["blue"], "blue")
    assert serving_now(gateway) == ""


def test_without_a_model_it_says_to_prometheus_that_there_is_none(gateway: Settings) -> None:
    answer = httpx.get(gateway.endpoint.removesuffix("/v1") + "/gateway/metrics")
    assert (answer.status_code, answer.text) == (200, "intent_served_aliases 0\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4"


def test_health_says_ok_and_nothing_else(gateway: Settings, servers: dict[str, str]) -> None:
    url = gateway.endpoint.removesuffix("/v1")
    for name in ("blue", ""):
        switch_gateway(gateway, servers.get(name, ""), name)
        answer = httpx.get(f"{url}/gateway/health")
        assert (answer.status_code, answer.text) == (200, "ok")
        keys = (None, "wrong", gateway.read_inference_key(), gateway.read_api_key())
        for headers in [{"Authorization": f"Bearer {key}"} if key else {} for key in keys]:
            shown = httpx.get(f"{url}/gateway/status", headers=headers)
            assert shown.status_code == 401
            assert servers["blue"] not in shown.text
        assert serving_now(gateway) == name
        other = gateway.model_copy(update={"home": gateway.home / "other"})
        assert serving_now(other) is None, "another operator's key proves nothing"
    config = gateway.layout.gateway_config
    assert config.stat().st_mode & 0o077 == 0
    assert gateway.read_api_key() not in config.read_text()


def test_an_address_that_a_caller_claims_is_dropped(
    gateway: Settings, servers: dict[str, str]
) -> None:
    claimed = {"X-Forwarded-For": "10.9.9.9", "X-Real-IP": "10.9.9.9", "Forwarded": "for=10.9.9.9"}
    switch_gateway(gateway, servers["blue"], "blue")
    url = f"{gateway.endpoint}/chat/completions"
    assert "10.9.9.9" not in httpx.post(url, headers=claimed, content=b"{}").text
    proxied = gateway.model_copy(update={"trusted_proxies": "10.0.0.0/8, 127.0.0.1"})
    switch_gateway(proxied, servers["green"], "green")
    received = httpx.post(url, headers=claimed, content=b"{}").json()
    assert received["x-forwarded-for"] == "10.9.9.9"
    assert {"x-real-ip", "forwarded"} & received.keys() == set()


@pytest.mark.parametrize("proxies", ["x", "10.0.0.1/8", "10.0.0.1 10.0.0.2", "::1/200", "a; }"])
def test_trusted_proxies_are_addresses_or_networks(tmp_path: Path, proxies: str) -> None:
    settings = Settings(home=tmp_path, trusted_proxies=proxies)
    with pytest.raises(ConfigError, match="INTENT_TRUSTED_PROXIES"):
        format_gateway_config(settings, tmp_path)


def test_slow_bodies_do_not_keep_others_out(gateway: Settings, servers: dict[str, str]) -> None:
    """More than 1,024 connections, none of which has a key."""
    switch_gateway(gateway, servers["blue"], "blue")
    record = find_process(gateway.layout.processes, "gateway")
    assert record
    [worker] = psutil.Process(record.pid).children()
    assert worker.rlimit(psutil.RLIMIT_NOFILE)[0] == 16384
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    held = []
    try:
        for number in range(1300):
            held.append(socket.create_connection((HOST, gateway.gateway_port), timeout=10))
            held[-1].sendall(head if number % 2 else head[:30])
        assert httpx.get(f"{gateway.endpoint}/models", timeout=10).text == "blue-blue"
        # nginx resets each of them after 10 seconds.
        held[0].settimeout(30)
        held[1].settimeout(30)
        for slow in held[:2]:
            with contextlib.suppress(ConnectionResetError):
                assert slow.recv(100) == b""
    finally:
        for connection in held:
            connection.close()


def test_two_thousand_callers_get_answers_and_no_error_500(
    gateway: Settings, servers: dict[str, str]
) -> None:
    switch_gateway(gateway, servers["blue"], "blue")
    request = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with contextlib.ExitStack() as stack:
        callers = [
            stack.enter_context(socket.create_connection((HOST, gateway.gateway_port), timeout=60))
            for _ in range(2_000)
        ]
        for caller in callers:
            caller.sendall(request)
        statuses = Counter(caller.makefile("rb").readline().split()[1] for caller in callers)
    assert statuses.keys() <= {b"200", b"503"}
    assert statuses[b"200"] >= 1_000


def test_one_address_does_not_take_all_connections(
    gateway: Settings, servers: dict[str, str]
) -> None:
    """Loopback and trusted proxies are not limited; here a config without loopback's exception."""
    switch_gateway(gateway, servers["blue"], "blue")
    config = gateway.layout.gateway_config
    limited = (
        config.read_text().replace("127.0.0.0/8 1;", "").replace("addresses 128", "addresses 2")
    )
    config.write_text(limited)
    record = find_process(gateway.layout.processes, "gateway")
    assert record
    reload_gateway(record, lambda: serving_now(gateway) == "blue", "no reload")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    held = [socket.create_connection((HOST, gateway.gateway_port), timeout=10) for _ in range(2)]
    for connection in held:
        connection.sendall(head)
    answer = httpx.get(f"{gateway.endpoint}/models")
    while answer.status_code == 200:
        answer = httpx.get(f"{gateway.endpoint}/models")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json()["error"]["code"] == "too_many_in_progress"
    for connection in held:
        connection.close()


def write_nginx(path: Path, prints: str, code: int = 0) -> Path:
    path.write_text(f"#!/bin/sh\necho '{prints}' >&2\nexit {code}\n")
    path.chmod(0o755)
    return path


def test_another_nginx_is_used_if_it_is_new_enough(tmp_path: Path) -> None:
    packaged = find_nginx(Settings(home=tmp_path))
    assert find_nginx(Settings(home=tmp_path, nginx=packaged)) == packaged
    for prints in ("nginx version: nginx/1.27.4", "nginx version: openresty/1.29.2.1"):
        own = write_nginx(tmp_path / "own", prints)
        assert find_nginx(Settings(home=tmp_path, nginx=own)) == own


@pytest.mark.parametrize(
    ("prints", "code", "problem"),
    [
        ("nginx version: nginx/1.22.1", 0, "is nginx 1.22.1, but reloads"),
        ("nginx version: nginx/1.27.3 (Ubuntu)", 0, "need 1.27.4"),
        ("Apache/2.4", 0, "is not nginx"),
        ("nginx version: nginx/1.30.0", 1, "is not nginx"),
    ],
)
def test_an_unusable_nginx_is_refused_at_the_start(
    tmp_path: Path, prints: str, code: int, problem: str
) -> None:
    own = write_nginx(tmp_path / "own", prints, code)
    settings = Settings(home=tmp_path, nginx=own)
    with pytest.raises(ConfigError, match=re.escape(problem)):
        find_nginx(settings)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="cannot run `nginx -v`"):
            find_nginx(settings.model_copy(update={"nginx": missing}))


def test_tls_of_the_packaged_nginx_is_1_2_without_tickets(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, tls_certificate=tmp_path / "c", tls_key=tmp_path / "k")
    config = format_gateway_config(settings, tmp_path / "pair")
    assert "ssl_protocols TLSv1.2;" in config
    assert "ssl_session_tickets off;" in config
    own = settings.model_copy(update={"nginx": tmp_path / "nginx"})
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in format_gateway_config(own, tmp_path / "pair")

"""Whatever proxies the shell names, our servers on this machine are reached without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import requests

from tasks.settings import CHECKOUT, Settings, get_settings
from tasks.settings.proxies import prepare_proxies

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
EXCEPTIONS = [
    *("*", "", "  ", "*,127.0.0.1", "10.0.0.0/8", "fe80::/10", "::1", "[::1]", "::1/128", "a b"),
    *("localhost 127.0.0.1", ".example.com", ":8080", "http://x.y", "*.local", "192.168.*", "x;y"),
    *(
        "a,,b",
        "fd00::/8,127.0.0.1",
        "host:80",
        "host:99999",
        "[::1]:80",
        "例子.cn",
        "%",
        "/",
        "://",
    ),
    *("[fd00::]/8", "0.0.0.0/0", "::/0", "fe80::1%eth0", "-", "_", "a:b:c", "\t", "http://[x"),
]
PROXIES = [
    *("socks5://h:1", "socks5h://h:1", "socks4://h:1", "socks://h:1", "SOCKS5://h:1", "ftp://x"),
    *("h:1", "http://h:1", " http://h:1 ", "http://", "http://h:99999", "http://h:0", "http://:1"),
    *(
        "http://u:p@h:1",
        "http://u:p@ss@h:1",
        "http://u:p#s@h:1",
        "http://[::1]:1",
        "http://[x",
        " ",
    ),
]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def uses_proxy(url: str) -> bool:
    """Whether httpx and requests use a proxy for a URL; fail if they differ."""
    with httpx.Client() as client:
        seen = client._transport_for_url(httpx.URL(url)) is not client._transport
    assert seen == bool(requests.utils.get_environ_proxies(url))
    return seen


@pytest.mark.parametrize("exceptions", EXCEPTIONS)
def test_any_list_of_exceptions_can_be_read(exceptions: str) -> None:
    os.environ.update(ALL_PROXY="http://127.0.0.1:1", NO_PROXY=exceptions)
    prepare_proxies(["192.0.2.7", "gpu-box"], [])
    for host in ("127.0.0.1", "localhost", "[::1]", "192.0.2.7", "gpu-box"):
        assert not uses_proxy(f"http://{host}:4200/api")
    if exceptions not in ("*", "*,127.0.0.1"):
        assert uses_proxy("https://huggingface.co/")


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("name", ["ALL_PROXY", "http_proxy"])
def test_any_proxy_can_be_read(name: str, proxy: str) -> None:
    os.environ[name] = proxy
    prepare_proxies([], [])
    assert not uses_proxy("http://127.0.0.1:4200/api")


def test_a_proxy_that_no_client_can_use_is_named_without_its_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    os.environ.update(ALL_PROXY="socks4://me:secret@h:1", HTTPS_PROXY="socks://h:1")
    prepare_proxies([], [])
    assert "ALL_PROXY is not used: expected a proxy such as" in caplog.text
    assert "secret" not in caplog.text
    assert "ALL_PROXY" not in os.environ and os.environ["HTTPS_PROXY"] == "socks5://h:1"


def test_other_servers_on_this_machine_or_in_a_named_network_are_reached_directly() -> None:
    os.environ.update(ALL_PROXY="http://127.0.0.1:1", NO_PROXY="10.0.0.0/8,fd00::/8")
    prepare_proxies([], ["127.0.0.2", "10.1.2.3", "fd00::1", "prefect.example", ""])
    for host in ("127.0.0.2", "10.1.2.3", "[fd00::1]"):
        assert not uses_proxy(f"http://{host}/api")
    assert uses_proxy("http://prefect.example/api")


def test_the_addresses_of_our_servers_are_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTENT_GATEWAY_HOST", "192.0.2.7")
    monkeypatch.setenv("INTENT_MLFLOW_URL", "http://127.0.0.3:5000")
    get_settings.cache_clear()
    get_settings()
    assert {"192.0.2.7", "127.0.0.3"} <= set(os.environ["NO_PROXY"].split(","))


@pytest.mark.service
@pytest.mark.parametrize(
    ("proxy", "exceptions"), [("socks5", ""), ("socks", "fd00::/8 [::1]"), ("socks4", "例子.cn")]
)
def test_commands_work_behind_a_socks_proxy(
    platform: Settings, closed_port: int, proxy: str, exceptions: str
) -> None:
    variables = dict.fromkeys(("ALL_PROXY", "all_proxy"), f"{proxy}://127.0.0.1:{closed_port}")
    environment = {**os.environ, **variables, "NO_PROXY": exceptions, "no_proxy": exceptions}
    for command in (["status", "--json"], ["automations"]):
        done = subprocess.run(
            [sys.executable, "-m", "flows", *command],
            env=environment,
            cwd=Path(CHECKOUT),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if command[0] == "status":
            assert json.loads(done.stdout)["gateway_serves"] is not None

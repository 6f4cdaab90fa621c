"""nginx as the gateway: one public address, switched between model servers by a graceful reload.

Old workers finish their requests; new connections go to the new server. Only the paths that query
the model are forwarded. The model server checks the API keys.
"""

import hmac
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
from jinja2 import StrictUndefined, Template

from intent_core.errors import ConfigError, ServingError
from intent_core.files import write_atomically
from tasks.serving.gateway.binary import find_nginx
from tasks.settings import LOOPBACK, Settings
from tasks.settings.addresses import listen_address
from tasks.system.ports import is_served_by
from tasks.system.processes import ProcessRecord, find_process

_TEMPLATE = Path(__file__).with_name("nginx.conf.j2")


def gateway_command(settings: Settings) -> list[str]:
    folder = settings.layout.gateway
    return [str(find_nginx(settings)), "-p", str(folder), "-c", str(settings.layout.gateway_config)]


def write_gateway_config(settings: Settings, backend: str = "", serving: str = "") -> None:
    """Write the configuration; `backend` is host:port of a model server, empty for a 503."""
    text = format_gateway_config(settings, settings.layout.gateway_certificate, backend, serving)
    write_atomically(settings.layout.gateway_config, text, mode=0o600)


def format_gateway_config(
    settings: Settings, certificate: Path, backend: str = "", serving: str = ""
) -> str:
    """Return nginx's configuration; also creates the folders that nginx needs."""
    settings.layout.gateway_temp.mkdir(parents=True, exist_ok=True)
    template = Template(_TEMPLATE.read_text("utf-8"), trim_blocks=True, undefined=StrictUndefined)
    text: str = template.render(
        is_root=os.geteuid() == 0,
        certificate=certificate if settings.has_tls else None,
        address=listen_address(settings.gateway_host, settings.gateway_port),
        loopback=LOOPBACK,
        local_port=settings.gateway_local_port,
        serving=serving,
        backend=backend,
        status_token=_status_token(settings),
        has_packaged_nginx=settings.nginx is None,
        trusted_proxies=settings.list_trusted_proxies(),
        origins=settings.list_cors_origins(),
        is_promoted=settings.layout.serving_state.exists(),
    )
    return text


def require_same_listeners(settings: Settings) -> None:
    """Raise `ConfigError` if the running gateway was started under other settings.

    Reloading it without the TLS settings would turn TLS off for its callers.
    """
    if find_process(settings.layout.processes, "gateway") is None:
        return
    running = settings.layout.gateway_config.read_text(encoding="utf-8")
    ours = format_gateway_config(settings, settings.layout.gateway_certificate)
    if _find_listeners(running) != _find_listeners(ours):
        raise ConfigError(
            "the gateway was started with another INTENT_GATEWAY_HOST, INTENT_GATEWAY_PORT or "
            "INTENT_TLS_*: use the same settings, or restart it with `intent down` and `intent up`"
        )


def _find_listeners(config: str) -> set[str]:
    lines = map(str.strip, config.splitlines())
    return {line for line in lines if line.startswith(("listen ", "ssl_"))}


def switch_gateway(settings: Settings, backend: str, serving: str, timeout_s: float = 15) -> None:
    """Switch nginx to `backend`; return when its status page reports `serving`.

    Raises `ServingError` if that takes too long, `ConfigError` if the gateway was started under
    other settings.
    """
    record = find_process(settings.layout.processes, "gateway")
    if record is None:
        raise ServingError("the gateway is not running: start it with `intent up`")
    require_same_listeners(settings)
    write_gateway_config(settings, backend, serving)
    reload_gateway(
        record,
        lambda: is_switched_to(settings, backend, serving),
        f"the gateway did not switch to {serving!r}",
        timeout_s,
    )


def reload_gateway(
    record: ProcessRecord, is_done: Callable[[], bool], problem: str, timeout_s: float = 15
) -> None:
    """Make nginx reload its files; return when all new connections use them.

    Raises `ServingError`, which starts with `problem`, if that takes too long.
    """
    former = psutil.Process(record.pid).children()
    os.kill(record.pid, signal.SIGHUP)
    until = time.monotonic() + timeout_s
    # Until it shuts down, an old worker accepts connections with the old configuration.
    while not all(map(_is_leaving, former)) or not is_done():
        if time.monotonic() > until:
            raise ServingError(f"{problem} within {timeout_s:g} s; see {record.log}")
        time.sleep(0.05)


def read_gateway_key(settings: Settings) -> str:
    """Return the operator's key for requests to `local_endpoint`.

    Raises `ServingError` unless our gateway listens there: another user's program would receive
    the key. A fleet's address is not on this machine.
    """
    record = find_process(settings.layout.processes, "gateway")
    port = settings.gateway_local_port if settings.has_tls else settings.gateway_port
    if settings.has_local_endpoint and (record is None or not is_served_by(port, record.pid)):
        raise ServingError(
            f"the gateway does not listen on port {port}: start it with `intent up`, or stop the "
            "program that uses the port"
        )
    return settings.read_api_key()


def health_url(settings: Settings) -> str:
    return _gateway_url(settings, "health")


def _gateway_url(settings: Settings, page: str) -> str:
    return settings.local_endpoint.removesuffix("/v1") + f"/gateway/{page}"


def _status_token(settings: Settings) -> str:
    """Return a token that only the holder of the operator's key can derive.

    nginx cannot compare with a key that it does not have, and the key itself must not be in its
    configuration.
    """
    key = settings.read_api_key().encode()
    return hmac.digest(key, b"gateway status", "sha256").hex()


def serving_now(settings: Settings) -> str | None:
    """Return the gateway's model server: "" without one, None if the gateway does not answer."""
    return _read_status(settings).get("serving")


def is_switched_to(settings: Settings, backend: str, serving: str) -> bool:
    """Whether the gateway uses this very process: a restarted server has another address."""
    return _read_status(settings) == {"serving": serving, "address": backend}


def _read_status(settings: Settings) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {_status_token(settings)}"}
    try:
        url = _gateway_url(settings, "status")
        answer = httpx.get(url, headers=headers, timeout=2, trust_env=False)
        status: dict[str, str] = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return {}
    return status


def wait_for_drain(settings: Settings, grace_s: float = 60) -> None:
    """Wait until nginx's old workers have answered their last request, at most `grace_s`."""
    record = find_process(settings.layout.processes, "gateway")
    if record is None:
        return
    until = time.monotonic() + grace_s
    while time.monotonic() < until:
        workers = psutil.Process(record.pid).children()
        if not any(map(_is_leaving, workers)):
            return
        time.sleep(0.1)


def _is_leaving(worker: psutil.Process) -> bool:
    """Whether this worker has stopped accepting connections or has exited."""
    try:
        return "shutting down" in " ".join(worker.cmdline())
    except psutil.NoSuchProcess:
        return True

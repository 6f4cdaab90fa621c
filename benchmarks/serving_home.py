"""A temporary home for serving benchmarks, and a vLLM server started without the pipeline."""

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import JsonValue

from intent_core.errors import ServingError
from intent_core.recipe.config import ServeConfig
from tasks.local_services.services import answers, stop_services
from tasks.serving.gateway.nginx import gateway_command, serving_now, write_gateway_config
from tasks.serving.vllm.options import (
    has_gpu,
    server_config,
    server_environment,
    write_server_config,
)
from tasks.settings import LOOPBACK, Settings, get_settings
from tasks.system.ports import choose_free_port
from tasks.system.processes import (
    ProcessRecord,
    find_process,
    start_process,
    stop_process,
    wait_until_ready,
)

_NONE: Mapping[str, JsonValue] = MappingProxyType({})


@contextlib.contextmanager
def temporary_home() -> Iterator[Settings]:
    """Yield settings of an empty home on free ports; stop its servers at the end."""
    # By default SIGTERM would leave the servers running.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(
        prefix="intent-benchmark-", ignore_cleanup_errors=True
    ) as home:
        for name in [n for n in os.environ if n.startswith("INTENT_")]:
            if name != "INTENT_VLLM_PYTHON":
                del os.environ[name]
        os.environ.update(
            INTENT_HOME=home,
            INTENT_GATEWAY_PORT=str(choose_free_port(LOOPBACK)),
            # One key sends all requests.
            INTENT_ANSWERS_PER_KEY="0",
            INTENT_TOKENS_PER_KEY="0",
        )
        get_settings.cache_clear()
        settings = get_settings()
        try:
            yield settings
        finally:
            stop_services(settings, lambda line: None)


def start_gateway(settings: Settings) -> None:
    """Start the gateway, the only service that serving needs, without a model."""
    write_gateway_config(settings)
    folder = settings.layout.processes
    record = start_process(folder, "gateway", gateway_command(settings), settings.gateway_port)
    wait_until_ready(record, lambda: serving_now(settings) == "", 20, ServingError)


class PlainServer:
    """vLLM with the pipeline's flags, and vLLM's key check instead of the pipeline's middleware."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings, self._name = settings, name
        self._folder = settings.layout.processes
        self._port = choose_free_port(LOOPBACK)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}/v1"

    @property
    def health_url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}/health"

    @property
    def key(self) -> str:
        return self._settings.read_api_key()

    def start(
        self,
        serve: ServeConfig,
        weights: Path,
        served_as: str,
        more: Mapping[str, JsonValue] = _NONE,
    ) -> None:
        """Start and return when the server answers; `more` are options of vLLM by name."""
        options = {**server_config(serve, weights, served_as, has_gpu()), **more}
        del options["middleware"]
        file = self._folder / f"{self._name}.yaml"
        write_server_config(file, options)
        module = "vllm.entrypoints.openai.api_server"
        python = str(self._settings.vllm_python)
        environment = server_environment(serve, self._settings.layout.adapters)
        # Adapters are loaded by name here.
        environment.pop("VLLM_LORA_RESOLVER_CACHE_DIR", None)
        record = start_process(
            self._folder,
            self._name,
            [python, "-m", module, "--config", str(file), "--port", str(self._port)],
            self._port,
            "vllm",
            **environment,
            VLLM_API_KEY=self.key,
        )
        ready_within = serve.startup_timeout_s
        wait_until_ready(record, lambda: answers(self.health_url), ready_within, ServingError)

    def find(self) -> ProcessRecord | None:
        return find_process(self._folder, self._name)

    def stop(self) -> None:
        if record := self.find():
            stop_process(self._folder, record)

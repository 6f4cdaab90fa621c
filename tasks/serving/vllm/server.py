"""vLLM server processes: one per model or, for adapters, one per base model."""

import logging
import time
from pathlib import Path

import httpx
from pydantic import BaseModel, ConfigDict

from intent_core.errors import ConfigError, ServingError
from intent_core.files import file_lock
from intent_core.language.prompt import build_messages
from intent_core.models.artifact import (
    PROMPT_PROBE_FILE,
    ModelArtifact,
    PromptProbe,
)
from intent_core.recipe.config import ServeConfig, fingerprint
from intent_core.serving.access.aliases import Target, write_aliases
from tasks.models.adapters import fetch_base, is_placed, place_adapter
from tasks.models.local_cache import fetch_model
from tasks.serving.vllm.options import (
    has_gpu,
    limits_per_key,
    link_intent_core,
    server_config,
    server_environment,
    write_server_config,
)
from tasks.settings import LOOPBACK, Settings
from tasks.settings.log_setup import write_server_logging
from tasks.settings.tracing import server_traces
from tasks.system.ports import choose_free_port, is_served_by
from tasks.system.processes import (
    ProcessRecord,
    end_leftovers,
    find_process,
    start_process,
    stop_process,
    wait_until_ready,
)

logger = logging.getLogger(__name__)

# A busy server may answer health checks slowly; a server that callers use must not be stopped.
_BUSY_S = 30


class ModelServer(BaseModel):
    """A vLLM process that serves an artifact under its content name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Name of the process; the same weights with other options are another server."""
    model: str
    """Content name; only this exact model answers requests for it."""
    weights: str
    """Name of the weights loaded at the start: the model, or its adapter's base model."""
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.address}/v1"

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"


def server_name(artifact: ModelArtifact, config: ServeConfig) -> str:
    return f"vllm-{_weights(artifact, config)}-{fingerprint(config)[:6]}"


def find_model_server(
    settings: Settings, artifact: ModelArtifact, config: ServeConfig
) -> ModelServer | None:
    """Return the live server of that model with those options; None without one."""
    record = find_process(settings.layout.processes, server_name(artifact, config))
    return _describe(artifact, config, record) if record else None


def find_ready_server(
    settings: Settings, artifact: ModelArtifact, config: ServeConfig
) -> ModelServer | None:
    """Return the live server if it answers and, for an adapter, has the adapter's files."""
    server = find_model_server(settings, artifact, config)
    if server is None or (config.mode == "adapter" and not is_placed(settings, artifact)):
        return None
    return server if is_ready(settings, server) else None


def ensure_model_server(
    settings: Settings, artifact: ModelArtifact, config: ServeConfig
) -> ModelServer:
    """Return the ready server of this artifact; start it if needed.

    Raises `ServingError` with the last lines of the server's log.
    """
    with file_lock(settings.layout.processes / f"{server_name(artifact, config)}.lock"):
        return _ensure(settings, artifact, config)


def _ensure(settings: Settings, artifact: ModelArtifact, config: ServeConfig) -> ModelServer:
    if not settings.vllm_python.exists():
        raise ConfigError(
            f"vLLM is not installed ({settings.vllm_python} does not exist): run `make setup`, "
            "or set INTENT_VLLM_PYTHON to a Python interpreter with vllm"
        )
    weights = folder = fetch_model(settings, artifact)
    server = find_model_server(settings, artifact, config)
    if server and not _is_ready_soon(settings, server):
        stop_model_server(settings, artifact, config)
        server = None
    if config.mode == "adapter" and not (server and is_placed(settings, artifact)):
        weights = fetch_base(settings, artifact)
        place_adapter(settings, artifact, folder, weights)
    if server is None:
        server = _start_ready(settings, artifact, weights, config)
    # This is an adapter's first request and loads it; if that fails, no caller has noticed.
    assert_same_prompts(settings, server, folder, artifact)
    return server


def _start_ready(
    settings: Settings, artifact: ModelArtifact, weights: Path, config: ServeConfig
) -> ModelServer:
    logger.info("starting vLLM for %s (takes about a minute without a GPU)", artifact.name)
    started = time.monotonic()
    record = _start(settings, artifact, weights, config)
    server = _describe(artifact, config, record)
    try:
        wait_until_ready(
            record, lambda: is_ready(settings, server), config.startup_timeout_s, ServingError
        )
    except BaseException:
        stop_process(settings.layout.processes, record)
        raise
    logger.info("vLLM ready: %s after %.0f s", server.weights, time.monotonic() - started)
    return server


def stop_model_server(settings: Settings, artifact: ModelArtifact, config: ServeConfig) -> None:
    """Stop the server of that model with those options, if there is one."""
    record = find_process(settings.layout.processes, server_name(artifact, config))
    if record:
        stop_process(settings.layout.processes, record)


def _weights(artifact: ModelArtifact, config: ServeConfig) -> str:
    if config.mode == "adapter":
        return f"base-{fingerprint(artifact.base_model_digest)[:12]}"
    return artifact.name


def _start(
    settings: Settings, artifact: ModelArtifact, weights: Path, config: ServeConfig
) -> ProcessRecord:
    name, port = server_name(artifact, config), choose_free_port(LOOPBACK)
    options = settings.layout.processes / f"{name}.yaml"
    served_as = _weights(artifact, config)
    tracing, environment = server_traces()
    started_with = server_config(config, weights, served_as, has_gpu())
    write_server_config(options, {**started_with, **tracing})
    environment |= server_environment(config, settings.layout.adapters)
    environment |= limits_per_key(settings, config)
    if settings.log_format == "json":
        environment |= write_server_logging(settings.layout.processes / "vllm-logging.json")
    aliases = settings.layout.alias_file(name)
    end_leftovers(settings.layout.processes, name)
    if config.mode == "merged":
        write_aliases(aliases, {config.alias: describe_target(artifact, "")})
    settings.layout.adapters.mkdir(parents=True, exist_ok=True)
    command = [
        # The `vllm` command fails in the CPU package; the module works in both packages.
        *(str(settings.vllm_python), "-m", "vllm.entrypoints.openai.api_server"),
        *("--config", str(options), "--port", str(port)),
    ]
    return start_process(
        settings.layout.processes,
        name,
        command,
        port,
        "vllm",
        **environment,
        PYTHONPATH=str(link_intent_core(settings.layout.vllm_import_path)),
        # In the environment, because every user of the machine can read a command line.
        VLLM_API_KEY=settings.read_api_key(),
        INTENT_ALIASES_FILE=str(aliases),
        INTENT_MODELS_FOLDER=str(settings.layout.models),
        INTENT_KEYS_FILE=str(settings.ensure_inference_keys()),
        INTENT_MAX_NEW_TOKENS=str(config.max_model_len),
        INTENT_GROUNDED=config.grounded,
        INTENT_DRAFTS=str("speculative-config" in started_with).lower(),
    )


def describe_target(
    artifact: ModelArtifact, version: str, abstain_below: float | None = None
) -> Target:
    """Return the alias target of an artifact."""
    return Target(
        model=artifact.name,
        version=version,
        system_prompt=artifact.system_prompt,
        abstain_below=abstain_below,
    )


def _describe(artifact: ModelArtifact, config: ServeConfig, record: ProcessRecord) -> ModelServer:
    weights = _weights(artifact, config)
    return ModelServer(name=record.name, model=artifact.name, weights=weights, port=record.port)


def _is_ready_soon(settings: Settings, server: ModelServer) -> bool:
    until = time.monotonic() + _BUSY_S
    while not is_ready(settings, server):
        if time.monotonic() > until or find_process(settings.layout.processes, server.name) is None:
            return False
        time.sleep(0.5)
    return True


def read_server_key(settings: Settings, server: ModelServer) -> str:
    """Return the operator's key for requests to this server.

    Raises `ServingError` unless the server itself listens on its port: another user's program could
    have taken it, and would receive the key.
    """
    record = find_process(settings.layout.processes, server.name)
    if record is None or not is_served_by(server.port, record.pid):
        raise ServingError(f"{server.name} does not listen on its port {server.port}")
    return settings.read_api_key()


def is_ready(settings: Settings, server: ModelServer) -> bool:
    """Whether the server answers with the weights it was started for."""
    try:
        headers = {"Authorization": f"Bearer {read_server_key(settings, server)}"}
        # Check /health as well: the API process can list models after its engine has died.
        httpx.get(f"http://{server.address}/health", timeout=5, trust_env=False).raise_for_status()
        answer = httpx.get(f"{server.url}/models", headers=headers, timeout=5, trust_env=False)
        return any(m["id"] == server.weights for m in answer.json()["data"])
    except (httpx.HTTPError, ServingError, ValueError, KeyError):
        return False


def assert_same_prompts(
    settings: Settings, server: ModelServer, folder: Path, artifact: ModelArtifact
) -> None:
    """Raise `ServingError` unless the server tokenizes prompts as they were in training."""
    probe = PromptProbe.model_validate_json((folder / PROMPT_PROBE_FILE).read_bytes())
    for utterance, expected in zip(probe.utterances, probe.token_ids, strict=True):
        body = {
            "model": server.model,
            "messages": build_messages(artifact.system_prompt, utterance),
            "add_generation_prompt": True,
        }
        url = server.url.removesuffix("/v1") + "/tokenize"
        headers = {"Authorization": f"Bearer {read_server_key(settings, server)}"}
        try:
            answer = httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise ServingError(f"{server.model}: the request to {url} failed: {error}") from error
        if tuple(answer.json()["tokens"]) != expected:
            raise ServingError(
                f"{server.model} tokenizes {utterance!r} differently than in training: its chat "
                "template or tokenizer differs from the trained one"
            )

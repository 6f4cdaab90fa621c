"""vLLM processes: one per model content, started with flags that follow from the recipe."""

import logging
import shutil
import time
from pathlib import Path

import httpx
from pydantic import BaseModel, ConfigDict

from intent_core.artifacts import (
    MANIFEST_FILE,
    PROMPT_PROBE_FILE,
    ModelArtifact,
    PromptProbe,
    digest_folder,
)
from intent_core.config import ServeConfig, fingerprint
from intent_core.errors import ConfigError, ServingError
from intent_core.prompt import build_messages
from tasks.processes import (
    ProcessRecord,
    choose_free_port,
    find_process,
    locked,
    start_process,
    stop_process,
    wait_until_ready,
)
from tasks.services import processes_folder
from tasks.settings import Settings
from tasks.steps import get_store
from tasks.storage import download_folder

logger = logging.getLogger(__name__)

# Whatever the public address: model servers are reached through the gateway alone.
_HOST = "127.0.0.1"


class ModelServer(BaseModel):
    """A vLLM process that serves one artifact under its content name and the public alias."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Of the process: the same model under other flags is another server."""
    model: str
    """Content name; requests for it can be answered by this very model only."""
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.address}/v1"

    @property
    def address(self) -> str:
        return f"{_HOST}:{self.port}"


def server_name(artifact: ModelArtifact, config: ServeConfig) -> str:
    return f"vllm-{artifact.name}-{fingerprint(config)[:6]}"


def find_model_server(
    settings: Settings, artifact: ModelArtifact, config: ServeConfig
) -> ModelServer | None:
    """The living server of that model under those flags, if any."""
    record = find_process(processes_folder(settings), server_name(artifact, config))
    return _describe(artifact, record) if record else None


def ensure_model_server(
    settings: Settings, artifact: ModelArtifact, config: ServeConfig
) -> ModelServer:
    """The server of this artifact, started and ready. Raises `ServingError` with its last lines."""
    with locked(processes_folder(settings) / f"{server_name(artifact, config)}.lock"):
        return _ensure(settings, artifact, config)


def _ensure(settings: Settings, artifact: ModelArtifact, config: ServeConfig) -> ModelServer:
    found = find_model_server(settings, artifact, config)
    if found and is_ready(settings, found):
        return found
    if not settings.vllm_python.exists():
        raise ConfigError(
            f"vLLM's environment is missing ({settings.vllm_python}): run `make setup`, "
            "or set INTENT_VLLM_PYTHON to an interpreter that has vllm"
        )
    folder = fetch_model(settings, artifact)
    if found:
        stop_model_server(settings, artifact, config)
    logger.info("starting vLLM for %s; about a minute without a GPU", artifact.name)
    record = _start(settings, artifact, folder, config)
    server = _describe(artifact, record)
    started = time.monotonic()
    try:
        wait_until_ready(
            record,
            lambda: is_ready(settings, server),
            config.startup_timeout_s,
            ServingError,
        )
        assert_same_prompts(settings, server, folder, artifact)
    except BaseException:
        stop_process(processes_folder(settings), record)
        raise
    logger.info("%s serves after %.0f s", server.model, time.monotonic() - started)
    return server


def stop_model_server(settings: Settings, artifact: ModelArtifact, config: ServeConfig) -> None:
    """Stop the server of that model under those flags; nothing happens when there is none."""
    record = find_process(processes_folder(settings), server_name(artifact, config))
    if record:
        stop_process(processes_folder(settings), record)


def fetch_model(settings: Settings, artifact: ModelArtifact) -> Path:
    """The model on this machine's disk, its digest verified when it is brought here."""
    folder = settings.home.resolve() / "models" / artifact.name
    if not (folder / MANIFEST_FILE).exists():
        download_folder(get_store(settings), artifact.uri, folder)
        found = digest_folder(folder)
        if found != artifact.digest:
            shutil.rmtree(folder)
            raise ServingError(
                f"{artifact.uri} has digest {found[:12]}, expected {artifact.digest[:12]}: "
                "the stored model was changed; train again"
            )
    return folder


def server_flags(config: ServeConfig, gpu: bool) -> list[str]:
    """vLLM flags that follow from the recipe and the device."""
    flags = [
        "--max-model-len",
        str(config.max_model_len),
        "--max-num-seqs",
        str(config.max_num_seqs),
    ]
    if gpu:
        share = str(config.gpu_memory_utilization)
        return [*flags, "--dtype", config.dtype, "--gpu-memory-utilization", share]
    dtype = ("bfloat16" if _has_bf16() else "float32") if config.dtype == "auto" else config.dtype
    # The CPU default of 128 tokens a block would keep our prompts out of the prefix cache.
    return [*flags, "--dtype", dtype, "--enforce-eager", "--block-size", "32"]


def has_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None and any(Path("/dev").glob("nvidia[0-9]*"))


def _has_bf16() -> bool:
    """Without such units bfloat16 costs three times what float32 does."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text()


def _start(
    settings: Settings, artifact: ModelArtifact, folder: Path, config: ServeConfig
) -> ProcessRecord:
    port = choose_free_port(_HOST)
    command = [
        # The `vllm` command breaks in the CPU package; the module works in both.
        *(str(settings.vllm_python), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(folder), "--served-model-name", artifact.name, config.alias),
        *("--host", _HOST, "--port", str(port)),
        # Else a base model's generation_config changes what greedy decoding gives.
        *("--generation-config", "vllm"),
        *server_flags(config, has_gpu()),
    ]
    return start_process(
        processes_folder(settings),
        server_name(artifact, config),
        command,
        port,
        # By environment, not by flag: a command line is readable by everybody.
        VLLM_API_KEY=settings.read_api_key(),
        VLLM_CPU_KVCACHE_SPACE="1",
        VLLM_NO_USAGE_STATS="1",
        HF_HUB_OFFLINE="1",
        DO_NOT_TRACK="1",
        OMP_WAIT_POLICY="passive",
    )


def _describe(artifact: ModelArtifact, record: ProcessRecord) -> ModelServer:
    return ModelServer(name=record.name, model=artifact.name, port=record.port)


def is_ready(settings: Settings, server: ModelServer) -> bool:
    """Does it answer, with this very model?"""
    headers = {"Authorization": f"Bearer {settings.read_api_key()}"}
    try:
        answer = httpx.get(f"{server.url}/models", headers=headers, timeout=5)
        return any(m["id"] == server.model for m in answer.json()["data"])
    except (httpx.HTTPError, ValueError, KeyError):
        return False


def assert_same_prompts(
    settings: Settings, server: ModelServer, folder: Path, artifact: ModelArtifact
) -> None:
    """The server must make of an utterance the very token ids it was trained on."""
    probe = PromptProbe.model_validate_json((folder / PROMPT_PROBE_FILE).read_bytes())
    for utterance, expected in zip(probe.utterances, probe.token_ids, strict=True):
        body = {
            "model": server.model,
            "messages": build_messages(artifact.system_prompt, utterance),
            "add_generation_prompt": True,
        }
        url = server.url.removesuffix("/v1") + "/tokenize"
        headers = {"Authorization": f"Bearer {settings.read_api_key()}"}
        try:
            answer = httpx.post(url, json=body, headers=headers, timeout=30)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise ServingError(f"{server.model} does not tokenize: {error}") from error
        if tuple(answer.json()["tokens"]) != expected:
            raise ServingError(
                f"{server.model} reads {utterance!r} as other tokens than in training: its chat "
                "template or tokenizer differs from the trained one"
            )

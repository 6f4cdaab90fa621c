"""What is on PAI: the settings `INTENT_PAI_*`, read by nobody who does not use PAI.

Beside `tasks.settings` the only reader of the environment. No secret is among them: what runs on
PAI has a RAM role, and its keys are files of an OSS folder that is mounted.
"""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from intent_core.errors import ConfigError
from tasks.settings.environment import load_settings


class PaiSettings(BaseSettings):
    """Every setting is an environment variable `INTENT_PAI_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix="INTENT_PAI_",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        use_attribute_docstrings=True,
    )

    region: str = ""
    """Region, as cn-hangzhou."""
    workspace: str = ""
    """Id of the workspace."""
    role_arn: Annotated[str, Field(pattern=r"^(acs:ram::\d+:role/.+)?$")] = ""
    """RAM role of jobs and services; empty: PAI's default roles, which reach the workspace's own
    bucket."""
    oss_endpoint: str = ""
    """The store's endpoint from within PAI, as https://oss-cn-hangzhou-internal.aliyuncs.com;
    empty: INTENT_OSS_ENDPOINT."""
    vpc: str = ""
    """Id of the VPC that jobs and services are in."""
    vswitch: str = ""
    """Id of its vSwitch."""
    security_group: str = ""
    """Id of its security group."""

    dlc_endpoint: str = ""
    """Empty: pai-dlc.REGION.aliyuncs.com."""
    train_image: str = ""
    """Image that fine-tunes as a DLC job; empty: it is done elsewhere."""
    train_spec: str = ""
    """ECS type of a job, as ecs.gn7i-c8g1.2xlarge; or a quota below."""
    train_quota: str = ""
    """Id of the resource quota jobs run in."""
    train_cpu: Annotated[int, Field(ge=1)] = 8
    """CPU cores of a job in a quota."""
    train_memory_gb: Annotated[int, Field(ge=1)] = 32
    """Memory of a job in a quota."""
    train_gpus: Annotated[int, Field(ge=0)] = 1
    """GPUs of a job in a quota."""
    train_max_minutes: Annotated[int, Field(ge=1)] = 1440
    """A job is stopped after them."""
    train_home: str = "/tmp/intent"
    """A job's INTENT_HOME."""

    eas_endpoint: str = ""
    """Empty: pai-eas.REGION.aliyuncs.com."""
    service: Annotated[str, Field(pattern=r"^([a-z][a-z0-9_]{2,56})?$")] = ""
    """Name of the EAS service."""
    serve_image: str = ""
    """Image of the replicas (`intent serve`)."""
    serve_spec: str = ""
    """ECS type of an instance; or a group below."""
    serve_resource: str = ""
    """Id of the dedicated resource group."""
    serve_cpu: Annotated[int, Field(ge=1)] = 8
    """CPU cores of an instance in that group."""
    serve_memory_gb: Annotated[int, Field(ge=1)] = 32
    """Memory of an instance in it."""
    serve_gpus: Annotated[int, Field(ge=0)] = 1
    """GPUs of an instance in it."""
    serve_instances: Annotated[int, Field(ge=1)] = 2
    """Instances of a service."""
    secrets: Annotated[str, Field(pattern=r"^(oss://[^/]+/.+)?$")] = ""
    """Folder oss://bucket/folder with the replicas' keys, mounted read-only: files `api_key` and
    `inference_keys`."""

    poll_s: Annotated[float, Field(gt=0)] = 10
    """Between two questions to PAI."""
    patience_s: Annotated[float, Field(ge=0)] = 900
    """PAI may leave questions unanswered for so long."""

    def require(self, *names: str) -> None:
        """Raise `ConfigError` for those of these settings that are not set."""
        missing = [f"INTENT_PAI_{name.upper()}" for name in names if not getattr(self, name)]
        if missing:
            raise ConfigError(f"set {' and '.join(missing)} (docs/pai.md)")


def get_pai_settings() -> PaiSettings:
    """This process's. Raises `ConfigError` for what is malformed."""
    return load_settings(PaiSettings)

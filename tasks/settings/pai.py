"""Settings for Alibaba Cloud PAI, `INTENT_PAI_*`; read only if PAI is used.

No setting is a secret: jobs and services on PAI have a RAM role, and their API keys are files in a
mounted OSS folder.
"""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from intent_core.errors import ConfigError
from tasks.settings.environment import load_settings


class PaiSettings(BaseSettings):
    """The settings for PAI; each is an environment variable `INTENT_PAI_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix="INTENT_PAI_",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        use_attribute_docstrings=True,
    )

    region: str = ""
    """Region, e.g. cn-hangzhou."""
    workspace: str = ""
    """Id of the workspace."""
    role_arn: Annotated[str, Field(pattern=r"^(acs:ram::\d+:role/.+)?$")] = ""
    """RAM role of jobs and services. Not set: PAI's default roles, which can access only the bucket
    of the workspace."""
    oss_endpoint: str = ""
    """OSS endpoint from within PAI, e.g. https://oss-cn-hangzhou-internal.aliyuncs.com. Not set:
    INTENT_OSS_ENDPOINT."""
    vpc: str = ""
    """Id of the VPC of jobs and services."""
    vswitch: str = ""
    """Id of the vSwitch in that VPC."""
    security_group: str = ""
    """Id of the security group in that VPC."""

    dlc_endpoint: str = ""
    """Endpoint of DLC. Not set: pai-dlc.REGION.aliyuncs.com."""
    train_image: str = ""
    """Image of the DLC job that fine-tunes. Not set: fine-tuning does not run on PAI."""
    train_spec: str = ""
    """ECS instance type of a job, e.g. ecs.gn7i-c8g1.2xlarge; alternatively set a quota."""
    train_quota: str = ""
    """Id of the resource quota for jobs."""
    train_cpu: Annotated[int, Field(ge=1)] = 8
    """CPU cores of a job with a quota."""
    train_memory_gb: Annotated[int, Field(ge=1)] = 32
    """Memory of a job with a quota, in GB."""
    train_gpus: Annotated[int, Field(ge=0)] = 1
    """GPUs of a job with a quota."""
    train_max_minutes: Annotated[int, Field(ge=1)] = 1440
    """Maximum duration of a job in minutes; PAI then stops it."""
    train_home: str = "/tmp/intent"
    """INTENT_HOME of a job."""

    eas_endpoint: str = ""
    """Endpoint of EAS. Not set: pai-eas.REGION.aliyuncs.com."""
    service: Annotated[str, Field(pattern=r"^([a-z][a-z0-9_]{2,56})?$")] = ""
    """Name of the EAS service."""
    serve_image: str = ""
    """Image of the replicas (`intent serve`)."""
    serve_spec: str = ""
    """ECS instance type of a replica; alternatively set a resource group."""
    serve_resource: str = ""
    """Id of the dedicated resource group."""
    serve_cpu: Annotated[int, Field(ge=1)] = 8
    """CPU cores of a replica in a resource group."""
    serve_memory_gb: Annotated[int, Field(ge=1)] = 32
    """Memory of a replica in a resource group, in GB."""
    serve_gpus: Annotated[int, Field(ge=0)] = 1
    """GPUs of a replica in a resource group."""
    serve_instances: Annotated[int, Field(ge=1)] = 2
    """Number of replicas (EAS instances)."""
    secrets: Annotated[str, Field(pattern=r"^(oss://[^/]+/.+)?$")] = ""
    """Folder oss://bucket/folder with the API keys of the replicas, mounted read-only: files
    `api_key` and `inference_keys`."""

    poll_s: Annotated[float, Field(gt=0)] = 10
    """Seconds between two polls of PAI."""
    patience_s: Annotated[float, Field(ge=0)] = 900
    """Seconds to keep retrying while PAI does not respond."""

    def require(self, *names: str) -> None:
        """Raise `ConfigError` if one of these settings is not set."""
        missing = [f"INTENT_PAI_{name.upper()}" for name in names if not getattr(self, name)]
        if missing:
            raise ConfigError(f"set {' and '.join(missing)}; see docs/en/pai.md")


def get_pai_settings() -> PaiSettings:
    """Return the PAI settings of this process; `ConfigError` for an invalid value."""
    return load_settings(PaiSettings)

"""When something counts as left behind, and how long what is finished is kept."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class MaintenanceSettings(BaseSettings):
    """The settings of `intent doctor`, `intent clean` and the watcher."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    left_after_hours: Annotated[float, Field(gt=0)] = 24
    """Age in hours from which an unfinished upload or a half-written folder counts as left
    behind."""
    worker_gone_hours: Annotated[float, Field(gt=0)] = 1
    """How long in hours a worker must have been offline before `intent doctor` marks its runs as
    crashed."""
    spare_disk_gb: Annotated[float, Field(ge=0)] = 2
    """Free disk in GB that a run is to leave; `intent doctor` warns below that."""
    keep_work_days: Annotated[float, Field(ge=0)] = 14
    """Days until `intent clean` removes what a run that never ended has left in `work` below
    `home`: checkpoints, answers, pulled exports."""
    keep_log_days: Annotated[float, Field(ge=0)] = 30
    """Days until `intent clean` removes logs nobody writes to."""
    keep_candidate_days: Annotated[float, Field(ge=0)] | None = None
    """Days until `intent clean` removes a model that is neither served nor needed from the store;
    unset: never."""
    keep_checkpoint_days: Annotated[float, Field(ge=0)] | None = None
    """Days until `intent clean` removes the checkpoints of a training that never ended from the
    store; unset: never."""
    keep_snapshot_days: Annotated[float, Field(ge=0)] | None = None
    """Days until `intent clean` removes the copies of exports that runs were started with from the
    store; unset: never."""
    max_restarts: Annotated[int, Field(ge=0)] = 5
    """How often the watcher starts a run again that crashed or met what passes."""
    lost_after_s: Annotated[float, Field(ge=60)] = 180
    """Silence after which a run's process counts as dead; it is heard every 30 s."""

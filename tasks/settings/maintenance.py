"""Settings for maintenance: when leftovers are removed, and how long finished work is kept."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class MaintenanceSettings(BaseSettings):
    """The settings of `intent doctor`, `intent clean` and the watcher."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    left_after_hours: Annotated[float, Field(gt=0)] = 24
    """Hours after which an unfinished upload or a half-written folder counts as a leftover."""
    worker_gone_hours: Annotated[float, Field(gt=0)] = 1
    """Hours that a worker must be offline before `intent doctor` marks its runs as crashed."""
    spare_disk_gb: Annotated[float, Field(ge=0)] = 2
    """Minimum free disk space in GB after a run; `intent doctor` warns below it."""
    keep_work_days: Annotated[float, Field(ge=0)] = 14
    """Days until `intent clean` removes the files of an unfinished run in the folder `work` of
    `home`: checkpoints, answers, pulled exports."""
    keep_log_days: Annotated[float, Field(ge=0)] = 30
    """Days until `intent clean` removes logs that no process writes to."""
    keep_candidate_days: Annotated[float, Field(ge=0)] | None = None
    """Days until `intent clean` removes a model that is neither served nor needed from the object
    store. Not set: never."""
    keep_checkpoint_days: Annotated[float, Field(ge=0)] | None = None
    """Days until `intent clean` removes the checkpoints of an unfinished fine-tuning from the
    object store. Not set: never."""
    keep_snapshot_days: Annotated[float, Field(ge=0)] | None = None
    """Days until `intent clean` removes the copies of exports that runs started from. Not set:
    never."""
    max_restarts: Annotated[int, Field(ge=0)] = 5
    """How often the watcher restarts a run that crashed or failed because of a temporary error."""
    lost_after_s: Annotated[float, Field(ge=60)] = 180
    """Seconds without a heartbeat after which a run's process counts as dead. The process sends a
    heartbeat every 30 s."""

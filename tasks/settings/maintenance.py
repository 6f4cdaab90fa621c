"""When something counts as left behind, and how long what is finished is kept."""

from pydantic import Field
from pydantic_settings import BaseSettings


class UpkeepSettings(BaseSettings):
    """The part of the settings that `intent doctor`, `intent clean` and the watcher go by."""

    left_after_hours: float = Field(
        default=24,
        gt=0,
        description="Age in hours from which an unfinished upload or a half-written folder counts "
        "as left behind.",
    )
    worker_gone_hours: float = Field(
        default=1,
        gt=0,
        description="How long in hours a worker must have been offline before `intent doctor` "
        "marks its runs as crashed.",
    )
    spare_disk_gb: float = Field(
        default=2,
        ge=0,
        description="Free disk in GB that a run is to leave; `intent doctor` warns below that.",
    )
    keep_work_days: float = Field(
        default=14,
        ge=0,
        description="Days until `intent clean` removes what a run that never ended has left in "
        "`work` below `home`: checkpoints, answers, pulled exports.",
    )
    keep_log_days: float = Field(
        default=30, ge=0, description="Days until `intent clean` removes logs nobody writes to."
    )
    keep_candidate_days: float | None = Field(
        default=None,
        ge=0,
        description="Days until `intent clean` removes a model that is neither served nor needed "
        "from the store; unset: never.",
    )
    keep_checkpoint_days: float | None = Field(
        default=None,
        ge=0,
        description="Days until `intent clean` removes the checkpoints of a training that never "
        "ended from the store; unset: never.",
    )
    keep_snapshot_days: float | None = Field(
        default=None,
        ge=0,
        description="Days until `intent clean` removes the copies of exports that runs were "
        "started with from the store; unset: never.",
    )
    max_restarts: int = Field(
        default=5,
        ge=0,
        description="How often the watcher starts a run again that crashed or met what passes.",
    )
    lost_after_s: float = Field(
        default=180,
        ge=60,
        description="Silence after which a run's process counts as dead; it is heard every 30 s.",
    )

"""The desired states of a fleet: a numbered sequence in the store; the highest number counts.

A writer states the number on which its decision is based, and writes the next one only if no other
process has written it. So a promotion that was paused cannot replace the result of a later one.
"""

import contextlib
import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from intent_core.errors import IntentError, ServingError, StorageError
from tasks.serving.state import ServedModel
from tasks.storage.layout import SERVING, desired_state_key, desired_state_prefix, read_number
from tasks.storage.objects import MissingObjectError, ObjectStore
from tasks.storage.step_results import MANIFEST

# Ages compare the clocks of different machines, which may differ by a few seconds.
PROMOTION_LOST_AFTER_S = 60
_KEPT = 50
"""A promotion in progress writes a number every few seconds; older numbers are deleted."""
_TRIES = 10


class SupersededError(ServingError):
    """Another promotion or rollback has changed the fleet since the state was read."""


class DesiredState(BaseModel):
    """The model that the replicas of an alias should serve."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    current: ServedModel | None = None
    previous: ServedModel | None = None
    candidate: ServedModel | None = None
    """A model that every replica should load while it serves the current one."""
    promoter: str = ""
    """Id of the promotion in progress; "" without one."""
    at: AwareDatetime
    """When this state was written; the promotion in progress writes it as a heartbeat."""

    def is_changing(self) -> bool:
        """Whether a promotion is in progress and its process is alive."""
        return bool(self.promoter) and age_s(self.at) < PROMOTION_LOST_AFTER_S


class DesiredStates:
    """The sequence of one fleet."""

    def __init__(self, store: ObjectStore, fleet: str) -> None:
        self._store, self._fleet = store, fleet

    def read(self) -> tuple[int, DesiredState]:
        """Return the current state and its number; 0 if nothing was written yet."""
        number, _, content = self.read_content()
        # A state of another version of this software that cannot be read counts as empty.
        with contextlib.suppress(ValidationError):
            if content:
                return number, DesiredState.model_validate_json(content)
        return number, DesiredState(at=now())

    def read_content(self) -> tuple[int, str, bytes]:
        """Return number, key and content of the current state; b"" if nothing was written yet."""
        for _ in range(_TRIES):
            number = max(self._list_numbers(), default=0)
            # Earlier versions wrote a single object, which counts as number 0.
            key = desired_state_key(self._fleet, number) if number else self._legacy_key
            try:
                return number, key, self._store.read(key)
            except MissingObjectError:
                if not number:
                    return 0, key, b""
        raise StorageError(
            f"{desired_state_prefix(self._fleet)}: the listed states disappear before they are read"
        )

    def write(self, desired: DesiredState, after: int) -> int:
        """Write the state that follows number `after`, and return its number.

        Raises `SupersededError` if another process has written a state since.
        """
        number = after + 1
        content = desired.model_dump_json(indent=1).encode()
        if not self._store.put_if_absent(desired_state_key(self._fleet, number), content):
            raise _superseded(self._fleet)
        highest, _, current = self.read_content()
        # A number that was already deleted can be written again, and a store that ignores the
        # condition (OSS with versioning) lets two processes write the same number.
        if highest - number >= _KEPT or (highest == number and current != content):
            raise _superseded(self._fleet)
        self._delete_up_to(number - _KEPT)
        return number

    @property
    def _legacy_key(self) -> str:
        return f"{SERVING.key(self._fleet)}/{MANIFEST}"

    def _list_numbers(self) -> list[int]:
        keys = (file.key for file in self._store.scan(desired_state_prefix(self._fleet)))
        return [number for key in keys if (number := read_number(key))]

    def _delete_up_to(self, last: int) -> None:
        # A failure does no harm: the next writer tries again.
        with contextlib.suppress(IntentError):
            for number in self._list_numbers() if last > 0 else ():
                if number <= last:
                    self._store.delete(desired_state_key(self._fleet, number))


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def age_s(at: datetime.datetime) -> float:
    return (now() - at).total_seconds()


def _superseded(fleet: str) -> SupersededError:
    return SupersededError(
        f"another promotion or rollback of fleet {fleet!r} took over: its result stays. Run "
        "`intent status` to see it, and promote again if you still want this model"
    )

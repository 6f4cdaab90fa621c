"""Tasks that are tried again, which of their failures are worth it, and how long to wait before."""

import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun

from intent_core.errors import PromotionInProgressError, ServiceError
from tasks.settings import get_settings

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def worth_a_retry(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """A `retry_condition_fn`: outside systems recover, wrong recipes and bad data do not."""
    return _is_error_of(state, ServiceError)


def only_waits(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """A `retry_condition_fn`: somebody else is at it; whatever was tried and failed stays so."""
    return _is_error_of(state, PromotionInProgressError)


class RetriedTask(Task[P, R]):
    """A task that reads its delays when it runs; Prefect's own reads them when it is imported."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override]
        return self._with_delays()(*args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        return self._with_delays().submit(*args, **kwargs)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        return self._with_delays().map(*args, **kwargs)

    def _with_delays(self) -> Task[P, R]:
        delays = get_settings().retry_delays_s
        return self.with_options(retries=len(delays), retry_delay_seconds=list(delays))


def retried_task(
    task_run_name: str | None = None,
    condition: Callable[[Any, TaskRun, State[Any]], bool] = worth_a_retry,
) -> Callable[[Callable[P, R]], RetriedTask[P, R]]:
    """`@task`, tried again after INTENT_RETRY_DELAYS_S when its failure meets the condition."""
    return lambda fn: RetriedTask(fn, task_run_name=task_run_name, retry_condition_fn=condition)


def _is_error_of(state: State[Any], kind: type[ServiceError]) -> bool:
    try:
        state.result()
    except kind as error:
        logger.warning("%s: %s. Trying again after a wait", type(error).__name__, error)
        return True
    except BaseException:  # whatever else it was, trying again would not help
        return False
    return False

"""Task retries: which failures are retried, and after which delays."""

import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun

from intent_core.errors import ConfigError, PromotionInProgressError, ServiceError
from tasks.settings import get_settings

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def worth_a_retry(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """A `retry_condition_fn`: retry failures of external systems, not wrong recipes or bad data."""
    return _is_error_of(state, ServiceError)


def only_waits(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """A `retry_condition_fn`: retry only while another promotion is in progress."""
    return _is_error_of(state, PromotionInProgressError)


class RetriedTask(Task[P, R]):
    """A task that reads its retry delays when it runs; Prefect reads them at import."""

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
    """`@task` with retries after INTENT_RETRY_DELAYS_S if its failure meets the condition."""
    return lambda fn: RetriedTask(fn, task_run_name=task_run_name, retry_condition_fn=condition)


def _is_error_of(state: State[Any], kind: type[ServiceError]) -> bool:
    try:
        state.result()
    except ConfigError:
        return False
    except kind as error:
        logger.warning("%s: %s. Retrying after a delay", type(error).__name__, error)
        return True
    except BaseException:  # a retry would not help
        return False
    return False

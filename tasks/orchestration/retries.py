"""Which task failures are worth another try, and how long to wait before it."""

import logging
from typing import Any

from prefect.client.schemas.objects import State, TaskRun

from intent_core.errors import PromotionInProgressError, ServiceError
from tasks.settings import get_settings

logger = logging.getLogger(__name__)


def retry_delays() -> list[float]:
    return list(get_settings().retry_delays_s)


def worth_a_retry(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """A `retry_condition_fn`: outside systems recover, wrong recipes and bad data do not."""
    return _is_error_of(state, ServiceError)


def only_waits(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """A `retry_condition_fn`: somebody else is at it; whatever was tried and failed stays so."""
    return _is_error_of(state, PromotionInProgressError)


def _is_error_of(state: State[Any], kind: type[ServiceError]) -> bool:
    try:
        state.result()
    except kind as error:
        logger.warning("%s: %s. Trying again after a wait", type(error).__name__, error)
        return True
    except BaseException:  # whatever else it was, trying again would not help
        return False
    return False

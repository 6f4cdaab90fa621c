"""Tasks are retried with the delays set when they run; importing a module reads no settings."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from prefect import flow

from intent_core.errors import DataError, PromotionInProgressError, ServingError
from tasks.orchestration.retries import only_waits, retried_task
from tasks.settings import Settings, get_settings

TASK_MODULES = (
    "tasks.datasets.prepare",
    "tasks.evaluation.evaluate",
    "tasks.serving.promotion",
    "tasks.tracking.record",
    "tasks.training.dlc",
    "tasks.training.finetune",
)


def test_importing_a_task_reads_no_settings() -> None:
    program = f"import {', '.join(TASK_MODULES)}; from tasks.settings import get_settings; "
    program += "assert get_settings.cache_info().currsize == 0"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)


@pytest.mark.flow
@pytest.mark.timeout(300)
def test_delays_are_those_of_the_moment(
    platform: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def fail(fault: Exception) -> None:
        tries.append(fault)
        raise fault

    task, waiting = retried_task("try {fault}")(fail), retried_task(condition=only_waits)(fail)
    away, bad, theirs = ServingError("away"), DataError("bad"), PromotionInProgressError("theirs")

    def count_tries(call: Callable[[], object]) -> int:
        tries.clear()
        with pytest.raises((ServingError, DataError)):
            call()
        return len(tries)

    @flow
    def count_each() -> list[int]:
        calls = [
            lambda: task(away),
            lambda: task.submit(away).result(),
            lambda: task.map([away]).result(),
            lambda: waiting(theirs),
            lambda: task(bad),
            lambda: waiting(away),
            lambda: task.fn(away),
        ]
        return [count_tries(call) for call in calls]

    for delays, expected in (("[0.01]", 2), ("[0.01, 0.01]", 3)):
        monkeypatch.setenv("INTENT_RETRY_DELAYS_S", delays)
        get_settings.cache_clear()
        assert count_each() == [expected] * 4 + [1] * 3

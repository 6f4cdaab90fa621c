"""Measure what requests of one caller cost another caller of the served model.

    PYTHONPATH=$PWD python -m tests.support.fuzz.fuzz_costs --seconds 600 [--seed 1]

It repeats each request for a while, and sends small requests with another key at fixed times.
During any request, the p95 of the small ones must be at most twice the p95 during the largest
ordinary request: prompt and answer fill the model's length, and n=1.

A request that exceeds this is measured again, in turn with the ordinary one and with more small
requests, because the machine may have been busy. Prints the figures as JSON; the exit status is 1
if there are findings.
"""

import argparse
import contextlib
import json
import math
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from intent_core.errors import ServingError
from tasks.settings import Settings, get_settings
from tests.support.fuzz.cost_shapes import Shape, Shapes
from tests.support.fuzz.fuzz_serving import Aim, take_aim
from tests.support.fuzz.raw_http import send

MOST_RATIO = 2.0
_FEW, _TURNS = 25, 4
"""Small requests during each shot, and the number of turns if it is measured again."""
_TIMEOUT_S, _WINDOW_S, _CALM_S = 30.0, 60.0, 300.0
_SHOT_S, _UNFINISHED_S = 12.0, 2.0
_BETWEEN_SHOTS_S = 0.05
"""The least time between two starts: a flood of refused requests is for a rate limit."""
_BASELINE_EVERY = 15


class Figures(NamedTuple):
    """The p95 during a shape, and the ratio to that during the ordinary request."""

    p95_ms: float
    ratio: float
    name: str
    sent: str


class Costs:
    """Measures shapes until the time is up."""

    def __init__(self, aim: Aim, seed: int) -> None:
        self._address, self._shapes = aim.gateway, Shapes(aim, seed)
        self._ordinary = Shape("ordinary", self._shapes.ordinary)
        self._interval_s = 0.1
        self._baselines: list[float] = []
        self.alone: list[float] = []
        self.figures: list[Figures] = []

    @property
    def baseline_p95(self) -> float:
        """The lowest so far: others are of a busy machine, and would hide what is too slow."""
        return min(self._baselines)

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self._during(self._ordinary)  # warms up
        self.alone = self._ask_small(4 * _FEW)
        self._interval_s = 4 * statistics.median(self.alone)
        for number, shape in enumerate(self._shapes.each()):
            if number % _BASELINE_EVERY == 0:
                self._baselines.append(_p95(self._during(self._ordinary, 2 * _FEW)))
            if time.monotonic() > until:
                return
            self._measure(shape)

    def _measure(self, shape: Shape) -> None:
        p95 = _p95(self._during(shape))
        ratio = p95 / self.baseline_p95
        if ratio > MOST_RATIO:
            self._wait_until_calm()
            p95, ratio = self._measure_again(shape)
        body = shape.shot.raw.partition(b"\r\n\r\n")[2] or shape.shot.raw
        sent = body[:200].decode("utf-8", "replace")
        self.figures.append(Figures(round(1000 * p95, 1), round(ratio, 2), shape.name, sent))
        if ratio > MOST_RATIO:
            self._wait_until_calm()

    def _measure_again(self, shape: Shape) -> tuple[float, float]:
        ordinary: list[float] = []
        measured: list[float] = []
        for _ in range(_TURNS):
            ordinary += self._during(self._ordinary)
            measured += self._during(shape)
        return _p95(measured), _p95(measured) / _p95(ordinary)

    def _during(self, shape: Shape, count: int = _FEW) -> list[float]:
        with self._sending(shape):
            return self._ask_small(count)

    @contextlib.contextmanager
    def _sending(self, shape: Shape) -> Iterator[None]:
        stop = threading.Event()

        def keep_sending() -> None:
            while not stop.is_set():
                next_at = time.monotonic() + _BETWEEN_SHOTS_S
                timeout_s = _UNFINISHED_S if shape.shot.is_unfinished else _SHOT_S
                send(self._address, shape.shot, timeout_s)
                stop.wait(next_at - time.monotonic())

        threads = [threading.Thread(target=keep_sending) for _ in range(shape.callers)]
        for thread in threads:
            thread.start()
        time.sleep(_BETWEEN_SHOTS_S)
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _ask_small(self, count: int) -> list[float]:
        """Return the seconds from when each request was due, so that a stall delays many."""
        started = due = time.monotonic()
        seconds = []
        while len(seconds) < count and time.monotonic() - started < _WINDOW_S:
            time.sleep(max(0, due - time.monotonic()))
            reply = send(self._address, self._shapes.small, _TIMEOUT_S)
            is_answered = reply.statuses == [200]
            seconds.append(time.monotonic() - due if is_answered else math.inf)
            due += self._interval_s
        return seconds

    def _wait_until_calm(self) -> None:
        until = time.monotonic() + _CALM_S
        while statistics.median(self._ask_small(5)) > self.baseline_p95:
            if time.monotonic() > until:
                raise ServingError(f"the model server is still busy after {_CALM_S:.0f} s")


def _p95(seconds: list[float]) -> float:
    return sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]


def measure(settings: Settings, seconds: float, seed: int = 0) -> dict[str, object]:
    """Return the figures and the `findings`, which should be empty."""
    costs = Costs(take_aim(settings), seed)
    costs.run(seconds)
    figures = [one._asdict() for one in sorted(costs.figures, key=lambda one: -one.ratio)]
    return {
        "seed": seed,
        "shapes": len(costs.figures),
        "p95_ms": {
            "alone": round(1000 * _p95(costs.alone), 1),
            "during the ordinary request": round(1000 * costs.baseline_p95, 1),
        },
        "highest": figures[:15],
        "findings": [one for one in figures if one["ratio"] > MOST_RATIO],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report = measure(get_settings(), options.seconds, options.seed)
    print(json.dumps(report, indent=1, ensure_ascii=False))  # noqa: T201
    return 1 if report["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())

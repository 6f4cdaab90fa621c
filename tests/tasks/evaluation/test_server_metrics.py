"""Quantiles of the requests between two readings of a cumulative histogram."""

import math

import pytest

from tasks.evaluation.server_metrics import quantile_ms

BEFORE = {0.1: 5.0, 0.2: 9.0, math.inf: 10.0}


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.5, 100.0),  # 4 of the 8 new requests took at most 100 ms
        (0.75, 200.0),
        (0.625, 150.0),  # the fifth request, halfway through the bucket of the fifth and sixth
        (0.95, 200.0),  # in the unbounded bucket: the highest finite bound
    ],
)
def test_a_quantile_is_of_the_new_requests(share: float, expected: float) -> None:
    after = {0.1: 9.0, 0.2: 15.0, math.inf: 18.0}
    assert quantile_ms(BEFORE, after, share) == pytest.approx(expected)


def test_no_request_has_no_quantile() -> None:
    assert quantile_ms(BEFORE, BEFORE, 0.5) is None
    assert quantile_ms({}, {}, 0.5) is None

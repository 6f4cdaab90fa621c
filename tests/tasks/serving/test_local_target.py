"""What the local target refuses before it touches a server; see also test_end_to_end."""

from pathlib import Path

import pytest

from intent_core.errors import ConfigError, PromotionInProgressError
from tasks.serving.state import ServingState
from tasks.serving.targets.local import LocalTarget
from tasks.settings import Settings


def test_there_is_nothing_to_roll_back_to_at_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no previous model"):
        LocalTarget(Settings(home=tmp_path / "new")).roll_back()


def test_nothing_served_is_nothing_to_reconcile(tmp_path: Path, closed_port: int) -> None:
    # The gateway of other tests' platform may use the port in the environment.
    target = LocalTarget(Settings(home=tmp_path, gateway_port=closed_port))
    assert target.reconcile() == (None, [])
    assert target.find_drift() is None
    assert target.read() == ServingState()


def test_of_two_promotions_at_once_the_second_fails(tmp_path: Path) -> None:
    target = LocalTarget(Settings(home=tmp_path))
    with target.lock(), pytest.raises(PromotionInProgressError, match="progress"), target.lock():
        pass
    with target.lock():
        pass

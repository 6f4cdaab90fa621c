"""What serving refuses before it touches a server; its way through is walked in test_walk."""

from pathlib import Path

import pytest

from intent_core.errors import ConfigError, ServingError
from tasks.serving.targets.local import only_one, read_state, reconcile, roll_back
from tasks.settings import Settings


def test_there_is_nothing_to_roll_back_to_at_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no earlier model"):
        roll_back(Settings(home=tmp_path / "new"))


def test_nothing_served_is_nothing_to_reconcile(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert reconcile(settings) == (None, [])
    assert read_state(settings).current is None


def test_of_two_promotions_at_once_the_second_is_told_so(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with only_one(settings), pytest.raises(ServingError, match="under way"), only_one(settings):
        pass
    with only_one(settings):
        pass

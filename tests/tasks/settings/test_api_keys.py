"""API keys are generated once, in files that only their owner can read."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from intent_core.errors import ConfigError
from tasks.settings import Settings
from tasks.settings.environment import load_settings


def test_all_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    homes = [Settings(home=tmp_path) for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda settings: settings.read_api_key(), homes))
        callers = set(pool.map(lambda settings: settings.read_inference_key(), homes))
    assert len(keys) == len(callers) == 1 and keys != callers
    folder = homes[0].api_key_file.parent
    assert folder.stat().st_mode & 0o077 == 0
    assert {path.name for path in folder.iterdir()} == {"api_key", "inference_keys"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_file_of_the_user_s_is_read_and_never_created(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", inference_keys=tmp_path / "keys")
    with pytest.raises(ConfigError, match=r"INTENT_INFERENCE_KEYS=.*keys: file not found"):
        settings.read_inference_key()
    (tmp_path / "keys").write_text(f"# name key\n\nbroken\nshop {'1' * 16}\nweb {'2' * 16}\n")
    assert settings.read_inference_key() == "1" * 16
    (tmp_path / "keys").write_text("# name key\n")
    with pytest.raises(ConfigError, match="is empty: add a line `name key`"):
        settings.read_inference_key()
    (tmp_path / "keys").write_text("# name key\nshop short\n")
    with pytest.raises(ConfigError, match=r"\(line 2: a key must be 16 or more"):
        settings.read_inference_key()


@pytest.mark.parametrize("key", ["fifteen-letters", "two words of a key", "schlüssel-0123456789"])
def test_an_operator_key_that_callers_could_not_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("INTENT_API_KEY", key)
    with pytest.raises(ConfigError, match="INTENT_API_KEY is not a key of 16") as refused:
        load_settings(Settings).read_api_key()
    assert key not in str(refused.value)
    monkeypatch.delenv("INTENT_API_KEY")
    settings = Settings(home=tmp_path)
    assert len(settings.read_api_key()) > 16
    settings.api_key_file.write_text(key)
    with pytest.raises(ConfigError, match=r"secrets/api_key is not a key"):
        settings.read_api_key()


def test_eas_takes_its_token_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path)
    assert settings.read_public_key() == settings.read_api_key()
    monkeypatch.setenv("INTENT_PAI_SERVICE", "intent_service")
    assert settings.read_public_key() == settings.read_inference_key()

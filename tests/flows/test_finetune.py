"""The flow `finetune` trains on PAI when an image is named, else in its own process."""

from typing import Any

import pytest

from flows import finetune as module
from intent_core.recipe.config import TrainConfig


@pytest.mark.parametrize(("image", "where"), [("registry/intent-train:1", "pai"), ("", "here")])
def test_an_image_decides(image: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setenv("INTENT_PAI_TRAIN_IMAGE", image)
    monkeypatch.setattr(module, "require_finished", lambda *_: "dataset")
    monkeypatch.setattr(module, "finetune_on_pai", lambda *what: asked.append(("pai", *what)))
    monkeypatch.setattr(module, "finetune_model", lambda *what: asked.append(("here", *what)))
    train = TrainConfig()
    module.finetune.fn("datasets/x", train, "music")
    assert asked == [(where, "dataset", train, "music")]

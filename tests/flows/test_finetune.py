"""The flow `finetune` trains on PAI if an image is set, otherwise on this machine."""

from pathlib import Path

import pytest

pytest.importorskip("alibabacloud_pai_dlc20201203")
pytest.importorskip("alibabacloud_eas20210701")

from flows.finetune import finetune
from intent_core.errors import IntentError
from intent_core.recipe.config import TrainConfig
from tasks.settings import Settings, get_settings
from tasks.storage.step_results import write_finished
from tests.support.alibaba.pai_environment import describe_dataset, running_scene

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("image", ["registry/intent-train:1", ""])
def test_an_image_decides(
    image: str,
    platform: Settings,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both fail early: the job fails immediately, and the dataset has no training file."""
    with running_scene(tmp_path, monkeypatch) as scene:
        for name in ("home", "store", "oss_endpoint"):
            monkeypatch.setenv(f"INTENT_{name.upper()}", str(getattr(scene.settings, name)))
        for name in type(scene.pai).model_fields:
            monkeypatch.setenv(f"INTENT_PAI_{name.upper()}", str(getattr(scene.pai, name)))
        monkeypatch.setenv("INTENT_PAI_TRAIN_IMAGE", image)
        get_settings.cache_clear()
        scene.plane.job_states = ["Failed"]
        dataset = describe_dataset()
        write_finished(scene.store, dataset.uri, dataset)
        with pytest.raises(IntentError) as caught:
            finetune(dataset.uri, TrainConfig(base_model=str(tiny_model)))
    assert ("on PAI" in str(caught.value)) == bool(image)
    assert [job["JobSpecs"][0]["Image"] for job in scene.plane.jobs] == [image] * bool(image)
    logs = list((scene.settings.home / "work").rglob("training.log"))
    assert len(logs) == (0 if image else 1), "the program's own log"

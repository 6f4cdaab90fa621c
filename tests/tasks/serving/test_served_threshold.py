"""A model that abstained in its evaluation abstains at the same confidence where it is served."""

import json
from pathlib import Path

import pytest

from intent_core.recipe.config import ServeConfig
from intent_core.serving.access.aliases import AliasFile, write_aliases
from tasks.serving.releases import Release, read_threshold
from tasks.serving.state import ServingState, is_same, new_served_model, read_state, write_state
from tasks.serving.vllm.server import describe_target
from tasks.settings import Settings
from tasks.storage.layout import release_prefix
from tasks.storage.step_results import get_store, write_finished
from tests.support.alibaba.pai_environment import describe_artifact


@pytest.mark.parametrize("threshold", [None, 0.62])
def test_the_threshold_of_a_release_is_served(tmp_path: Path, threshold: float | None) -> None:
    settings, serve = Settings(home=tmp_path), ServeConfig()
    artifact = describe_artifact("intent-0123456789ab")
    assert read_threshold(settings, artifact) is None, "no gate has accepted it yet"
    release = Release(
        artifact=artifact,
        serve=serve,
        project="p",
        version="1",
        reason="good",
        abstain_below=threshold,
    )
    write_finished(get_store(settings), release_prefix(artifact.name), release)
    served = new_served_model(
        settings,
        artifact,
        serve,
        project="p",
        version="1",
        golden=(),
        abstain_below=read_threshold(settings, artifact),
    )
    write_state(settings, ServingState(current=served))
    assert read_state(settings).current == served
    path = tmp_path / "aliases.json"
    write_aliases(path, {"intent": describe_target(artifact, "1", served.abstain_below)})
    assert AliasFile(path).read()["intent"].abstain_below == threshold
    for written in (served.model_dump_json(), release.model_dump_json(), path.read_text()):
        # An earlier version, which does not know the field, can still read all other models.
        assert ("abstain_below" in written) == (threshold is not None)
        json.loads(written)


def test_another_threshold_is_another_promotion(tmp_path: Path) -> None:
    settings, artifact = Settings(home=tmp_path), describe_artifact("intent-0123456789ab")
    plain = new_served_model(settings, artifact, ServeConfig(), project="p", version="1", golden=())
    assert is_same(plain, plain)
    assert not is_same(plain.model_copy(update={"abstain_below": 0.5}), plain)

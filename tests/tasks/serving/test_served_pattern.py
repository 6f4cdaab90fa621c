"""A model that was evaluated under a regular expression is served with the same one."""

import json
from pathlib import Path

import pytest

from intent_core.recipe.config import ServeConfig
from tasks.serving.releases import Release, read_pattern
from tasks.serving.state import new_served_model
from tasks.serving.vllm.server import describe_target
from tasks.settings import Settings
from tasks.storage.layout import release_prefix
from tasks.storage.step_results import get_store, write_finished
from tests.support.alibaba.pai_environment import describe_artifact


@pytest.mark.parametrize("pattern", [None, r"play\([a-z]+\)"])
def test_the_pattern_of_a_release_is_served(tmp_path: Path, pattern: str | None) -> None:
    settings, serve = Settings(home=tmp_path), ServeConfig()
    artifact = describe_artifact("intent-0123456789ab")
    assert read_pattern(settings, artifact) is None, "no gate has accepted it yet"
    release = Release(
        artifact=artifact, serve=serve, project="p", version="1", reason="good", pattern=pattern
    )
    write_finished(get_store(settings), release_prefix(artifact.name), release)
    served = new_served_model(
        settings,
        artifact,
        serve,
        project="p",
        version="1",
        golden=(),
        pattern=read_pattern(settings, artifact),
    )
    assert describe_target(artifact, "1", served.pattern).pattern == pattern
    for written in (served, release):
        # An earlier version, which does not know the field, can still read all other models.
        assert ("pattern" in json.loads(written.model_dump_json())) == (pattern is not None)

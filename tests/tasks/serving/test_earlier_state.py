"""What an earlier version wrote about its models is read."""

import json
from pathlib import Path

from intent_core.recipe.config import ServeConfig
from tasks.serving.releases import Release, require_release
from tasks.serving.state import ServingState, new_served_model, read_state, write_state
from tasks.settings import Settings
from tasks.storage.layout import release_prefix
from tasks.storage.step_results import get_store, write_finished
from tests.support.alibaba.pai_environment import describe_artifact


def test_a_pattern_is_ignored(tmp_path: Path) -> None:
    settings, artifact = Settings(home=tmp_path), describe_artifact("intent-0123456789ab")
    served = new_served_model(
        settings, artifact, ServeConfig(), project="p", version="1", golden=()
    )
    write_state(settings, ServingState(current=served))
    path = settings.layout.serving_state
    state = json.loads(path.read_bytes())
    assert "pattern" not in state["current"]
    state["current"]["pattern"] = "play\\(\\)"
    path.write_text(json.dumps(state))
    assert read_state(settings).current == served.model_copy(update={"pattern": "play\\(\\)"})
    release = Release(
        artifact=artifact, serve=ServeConfig(), project="p", version="1", reason="good", pattern="x"
    )
    write_finished(get_store(settings), release_prefix(artifact.name), release)
    again = require_release(settings, artifact.name)
    assert again == release.model_copy(update={"pattern": None})

"""Recording a run."""

from pathlib import Path

from intent_core.models.artifact import content_name
from tasks.settings import Settings
from tasks.storage.step_results import get_store
from tasks.tracking.record import read_vocabulary_of

DIGEST = "0123456789ab" + "0" * 52


def test_the_vocabulary_of_a_model_is_known_if_its_files_have_it(tmp_path: Path) -> None:
    store = get_store(Settings(home=tmp_path))
    assert read_vocabulary_of(store, None) is None
    assert read_vocabulary_of(store, DIGEST) is None, "a model of an earlier version"
    key = f"models/{content_name(DIGEST)}/intents.json"
    store.put(key, b'{"intents": {"greet": {}}}')
    known = read_vocabulary_of(store, DIGEST)
    assert known is not None and list(known.intents) == ["greet"]
    store.put(key, b'{"intents": {"greet": {"key of a later version": 1}}}')
    assert read_vocabulary_of(store, DIGEST) is None

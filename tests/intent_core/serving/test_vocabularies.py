"""Callers read the vocabulary of the model that answers them now."""

from pathlib import Path

import pytest

from intent_core.serving.access.aliases import Trial
from tests.support.servers.fake_vllm import APP_KEY, NEW, OLD, OPERATOR_KEY, Serving

CITY = {"name": "city", "type": "one_of", "values": {"杭州": ["杭州市"]}}


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """The old model has a vocabulary, the new one another."""
    for model, known in (
        (OLD, '{"intents": {"weather": {"slots": [{"name": "city"}]}}}'),
        (NEW, '{"intents": {"weather": {"description": "soon"}, "play": {}}}'),
    ):
        (tmp_path / "models" / model).mkdir(parents=True)
        (tmp_path / "models" / model / "intents.json").write_text(known)
    serving = Serving(tmp_path, models_folder=tmp_path / "models")
    serving.promote(OLD)
    return serving


def list_intents(serving: Serving, key: str = APP_KEY) -> object:
    answer = serving.ask("GET", "/v1/intents", key=key)
    assert answer.status == 200
    [known] = answer.fields["data"]
    assert (known["id"], known["object"]) == ("intent", "vocabulary")
    return known["intents"]


def test_it_is_that_of_the_promoted_model_with_all_its_keys(serving: Serving) -> None:
    slot = {"name": "city", "description": "", "type": "text", "values": {}, "examples": []}
    weather = {"description": "", "order": "appearance", "examples": [], "slots": [slot]}
    assert list_intents(serving) == {"weather": weather}
    serving.promote(NEW, version="8")
    known = list_intents(serving, OPERATOR_KEY)
    assert isinstance(known, dict) and list(known) == ["weather", "play"]
    serving.promote(OLD, trial=Trial(model=NEW, mode="canary", share=1.0))
    assert list_intents(serving) == {"weather": weather}, "a trial changes nothing"
    assert serving.model.received == []


def test_a_key_is_needed(serving: Serving) -> None:
    assert serving.ask("GET", "/v1/intents", key=None).status == 401
    assert serving.ask("POST", "/v1/intents").status == 404


def test_before_the_first_promotion_there_are_none(tmp_path: Path) -> None:
    fields = Serving(tmp_path).ask("GET", "/v1/intents").fields
    assert fields == {"object": "list", "data": []}


def test_a_model_without_a_readable_vocabulary_is_named_and_served(
    serving: Serving, tmp_path: Path
) -> None:
    other = "intent-0000000000aa"
    serving.promote(other)
    assert list_intents(serving) is None
    (tmp_path / "models" / other).mkdir()
    (tmp_path / "models" / other / "intents.json").write_text('{"intents": {"a": {"later": 1}}}')
    assert list_intents(serving) is None
    assert serving.chat().status == 200

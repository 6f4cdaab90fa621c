"""A dataset with the texts of another one and its own vocabulary needs no second training."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from intent_core.datasets.manifest import DatasetManifest
from intent_core.errors import StorageError
from intent_core.language.prompt import encode_prompt
from intent_core.models.artifact import (
    PROMPT_PROBE_FILE,
    ModelArtifact,
    PromptProbe,
    digest_folder,
)
from intent_core.recipe.config import TrainConfig
from intent_core.serving.drafting.table import DRAFTS_FILE, read_table
from intent_core.serving.grounding.policy import POLICY_FILE, GroundingPolicy
from tasks.settings import Settings
from tasks.storage.objects import upload_folder
from tasks.storage.step_results import get_store, read_finished, write_finished
from tasks.training.finished import (
    find_model,
    require_model,
    reuse_training,
    store_model,
    training_prefix,
)
from tests.support.builders.records import build, many

KNOWN = {"intents": {"a": {"slots": [{"name": "city"}]}}}
LISTED = {"intents": {"a": {"slots": [{"name": "city", "values": {"杭州": ["杭州市"]}}]}}}
OTHER = {"intents": {"a": {"description": "the first letter"}, "b": {}}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    return TrainConfig(base_model=str(tmp_path / "base"))


def prepare(
    settings: Settings, folder: Path, vocabulary: object = None, count: int = 60
) -> DatasetManifest:
    """Store a dataset with these texts and this vocabulary."""
    manifest = build(folder, many(count), vocabulary=vocabulary)
    manifest = manifest.model_copy(update={"uri": f"datasets/{manifest.fingerprint}"})
    upload_folder(get_store(settings), folder, manifest.uri)
    return manifest


def train(
    settings: Settings, folder: Path, dataset: DatasetManifest, config: TrainConfig
) -> ModelArtifact:
    """Store a model as a training of this dataset does."""
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text(f"- Data: 60, dataset `{dataset.fingerprint}`\n")
    store = get_store(settings)
    artifact = store_model(store, folder, dataset, config, ("base", "0" * 64))
    write_finished(store, training_prefix(dataset, config), artifact)
    return artifact


def read_policy(settings: Settings, model: ModelArtifact) -> GroundingPolicy:
    return GroundingPolicy.model_validate_json(
        get_store(settings).read(f"{model.uri}/{POLICY_FILE}")
    )


def read_known(settings: Settings, model: ModelArtifact) -> object:
    return json.loads(get_store(settings).read(f"{model.uri}/intents.json"))


def test_a_vocabulary_alone_makes_another_model_of_the_same_weights(
    settings: Settings, config: TrainConfig, tmp_path: Path
) -> None:
    store = get_store(settings)
    plain = prepare(settings, tmp_path / "plain")
    first = prepare(settings, tmp_path / "first", KNOWN)
    second = prepare(settings, tmp_path / "second", OTHER)
    assert reuse_training(settings, first, config) is None
    trained = train(settings, tmp_path / "model", first, config)
    assert find_model(store, first, config) == trained
    assert reuse_training(settings, first, config) == trained
    assert find_model(store, second, config) is None
    with pytest.raises(StorageError, match="has no model in the store"):
        require_model(store, second, config)

    model = reuse_training(settings, second, config)
    assert model is not None and model.digest != trained.digest
    assert model.train_fingerprint == trained.train_fingerprint
    assert require_model(store, second, config) == model
    assert reuse_training(settings, second, config) == model
    assert read_finished(store, model.uri, ModelArtifact) == model
    assert read_known(settings, trained) == KNOWN and read_known(settings, model) == OTHER
    assert store.read(f"{model.uri}/model.safetensors") == b"weights"

    without = reuse_training(settings, plain, config)
    assert without is not None and read_known(settings, without) == {"intents": {"a": {}}}
    assert [find_model(store, d, config) for d in (first, second)] == [trained, model]


def test_a_model_has_what_answers_may_contain_by_its_training_split_and_vocabulary(
    settings: Settings, config: TrainConfig, tmp_path: Path
) -> None:
    first = prepare(settings, tmp_path / "first", KNOWN)
    trained = train(settings, tmp_path / "model", first, config)
    policy = read_policy(settings, trained)
    assert policy.num_rows == first.splits["train"].num_examples < 60
    assert [(intent.intent, intent.has_values) for intent in policy.intents] == [("a", True)]
    listed = reuse_training(settings, prepare(settings, tmp_path / "listed", LISTED), config)
    assert listed is not None
    assert [intent.listed for intent in read_policy(settings, listed).intents] == [("杭州",)]
    (tmp_path / "model" / POLICY_FILE).unlink()
    assert digest_folder(tmp_path / "model") != trained.digest


def test_a_changed_model_is_the_one_that_a_training_would_have_made(
    settings: Settings, config: TrainConfig, tmp_path: Path
) -> None:
    first = prepare(settings, tmp_path / "first", KNOWN)
    second = prepare(settings, tmp_path / "second", OTHER)
    train(settings, tmp_path / "model", first, config)
    changed = reuse_training(settings, second, config)
    trained = train(settings, tmp_path / "again", second, config)
    assert changed == trained
    assert digest_folder(tmp_path / "again") == trained.digest


def test_other_texts_or_a_lost_model_are_trained(
    settings: Settings, config: TrainConfig, tmp_path: Path
) -> None:
    first = prepare(settings, tmp_path / "first", KNOWN)
    trained = train(settings, tmp_path / "model", first, config)
    more = prepare(settings, tmp_path / "more", OTHER, count=70)
    assert reuse_training(settings, more, config) is None
    get_store(settings).delete(f"{trained.uri}/manifest.json")
    second = prepare(settings, tmp_path / "second", OTHER)
    assert reuse_training(settings, second, config) is None


def test_a_model_has_drafts_of_its_training_split(
    settings: Settings, config: TrainConfig, tiny_model: Path, tmp_path: Path
) -> None:
    """The vocabulary changes nothing, and equal labels give equal models."""
    first = prepare(settings, tmp_path / "first", KNOWN)
    second = prepare(settings, tmp_path / "second", OTHER)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)

    def train_with_prompts(folder: Path, dataset: DatasetManifest) -> ModelArtifact:
        shutil.copytree(tiny_model, folder / "model")
        ids = tuple(encode_prompt(tokenizer, "Say calls.", text) for text in ("one", "two 二"))
        probe = PromptProbe(utterances=("one", "two 二"), token_ids=tuple(map(tuple, ids)))
        (folder / "model" / PROMPT_PROBE_FILE).write_text(probe.model_dump_json())
        return store_model(
            get_store(settings), folder / "model", dataset, config, ("base", "0" * 64)
        )

    model = train_with_prompts(tmp_path / "one", first)
    assert train_with_prompts(tmp_path / "again", first) == model
    other = train_with_prompts(tmp_path / "two", second)
    drafts = [(tmp_path / name / "model" / DRAFTS_FILE) for name in ("one", "two")]
    assert drafts[0].read_bytes() == drafts[1].read_bytes()
    assert get_store(settings).read(f"{model.uri}/{DRAFTS_FILE}") == drafts[0].read_bytes()
    assert other != model
    table = read_table(tmp_path / "one" / "model")
    assert set(table.intents) == {"a"}
    whole = encode_prompt(tokenizer, "Say calls.", "other words")
    words = tokenizer.encode("other words", add_special_tokens=False)
    assert [*table.marks.opening, *words, *table.marks.closing] == whole
    assert table.marks.end == tokenizer.eos_token_id

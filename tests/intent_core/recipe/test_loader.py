"""Recipes: every included recipe loads, and all errors of a recipe are reported at once."""

from pathlib import Path

import pytest

from intent_core.errors import ConfigError
from intent_core.recipe.config import PipelineConfig, ServeConfig, fingerprint
from intent_core.recipe.loader import load_config

RECIPES = sorted((Path(__file__).parents[3] / "deployments" / "recipes").glob("*.yaml"))


def faults(tmp_path: Path, text: str, *overrides: str) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_there_are_recipes() -> None:
    assert {path.stem for path in RECIPES} >= {"quickstart", "embedded"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_loads(path: Path) -> None:
    assert isinstance(load_config(path), PipelineConfig)


def test_all_mistakes_are_named_at_once_with_what_is_allowed(tmp_path: Path) -> None:
    message = faults(
        tmp_path,
        "train:\n  learning_rat: 1e-4\n  method: lorra\ndata:\n  max_rejection_rate: 2\n",
    )
    assert "recipe.yaml has 3 error(s)" in message
    assert "train.learning_rat: no such key. Did you mean 'learning_rate'?" in message
    assert "lora_dim" in message, "the allowed keys are listed"
    assert "'full', 'lora' or 'qlora'" in message
    assert "data.max_rejection_rate: 2 is not allowed" in message


def test_wrong_overrides_are_named_with_the_recipes_mistakes(tmp_path: Path) -> None:
    message = faults(tmp_path, "projct: x\n", "train.seed", "project.name=1", "gate.nope=1")
    assert "write it as section.key=value" in message
    assert "projct: no such key. Did you mean 'project'?" in message
    assert "gate.nope: no such key" in message


def test_a_key_that_was_replaced_names_the_new_one(tmp_path: Path) -> None:
    in_file = faults(tmp_path, "evaluate: {constrained: false}\n")
    by_override = faults(tmp_path, "", "evaluate.constrained=true")
    for message in (in_file, by_override):
        assert "evaluate.constrained: this key is replaced: write serve.grounded" in message
        assert "1 error(s)" in message
    # Records of earlier versions have it.
    assert PipelineConfig.model_validate({"evaluate": {"constrained": False}}) == PipelineConfig()


def test_only_a_changed_grounding_is_part_of_a_server_s_name() -> None:
    """So servers, evaluations and golden answers of earlier versions keep theirs."""
    assert "grounded" not in ServeConfig().model_dump()
    prints = {fingerprint(ServeConfig(grounded=mode)) for mode in ("auto", "always", "never")}
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train.learning_rate=3e-4", "learning_rate", 3e-4),
        ("train.freeze_embeddings=true", "freeze_embeddings", True),
        ("train.seed=7", "seed", 7),
        ("train.system_prompt=识别意图：1", "system_prompt", "识别意图：1"),
    ],
)
def test_overrides_have_the_type_of_their_key(text: str, key: str, value: object) -> None:
    train = load_config(None, ["train.method=full", text]).train
    assert getattr(train, key) == value
    mapping = dict([text.split("=", 1)])
    assert load_config(None, {"train.method": "full", **mapping}).train == train


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("method: qlora", "'qlora' requires load_in_4bit: true or load_in_8bit"),
        ("method: lora\n  load_in_4bit: true", "require method 'qlora'"),
        ("method: qlora\n  load_in_4bit: true\n  load_in_8bit: true", "are both true"),
        ("method: lora\n  lora_dim: 0", "requires lora_dim > 0"),
        ("method: lora\n  freeze_embeddings: true", "require method 'full'"),
        ("method: full\n  lora_dim: 0\n  freeze_layers: 2", "requires freeze_embeddings"),
        ("gradient_accumulation_steps: 2\n  global_batch_size: 8", "both set the samples per step"),
        ("early_stopping_patience: 2", "requires best_checkpoint"),
        ("apply_chat_template: false", "train.apply_chat_template"),
        ("global_batch_size: 24\n  per_device_train_batch_size: 16", "must be a multiple of"),
        ("seq_length: 512", "serve.max_model_len 512 is less than"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path: Path, settings: str, said: str) -> None:
    assert said in faults(tmp_path, f"train:\n  {settings}\n")


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "\x00"])
def test_what_is_no_recipe(tmp_path: Path, text: str) -> None:
    assert "recipe.yaml" in faults(tmp_path, text)


def test_a_recipe_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "missing.yaml")


def test_an_empty_recipe_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").touch()
    assert load_config(tmp_path / "empty.yaml") == PipelineConfig()


def test_an_empty_section_takes_overrides(tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text("train:\n")
    assert load_config(tmp_path / "bare.yaml", ["train.seed=3"]).train.seed == 3


@pytest.mark.parametrize("text", ["train.num_train_epochs=.inf", "train.warmup_fraction=1.0"])
def test_numbers_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not allowed"):
        load_config(None, [text])


def test_fingerprints_name_content() -> None:
    one = PipelineConfig()
    assert fingerprint(one) == fingerprint(PipelineConfig())
    assert fingerprint(one) != fingerprint(load_config(None, ["train.seed=1"]))
    assert fingerprint("a", "b") != fingerprint("ab")
    assert len(fingerprint(one)) == 16


def test_the_usual_speakers_are_not_part_of_a_recipes_name() -> None:
    usual = PipelineConfig()
    assert "speakers" not in usual.model_dump(mode="json")["data"]
    named = load_config(None, ["data.speakers.user=[Kunde]"])
    assert named.model_dump(mode="json")["data"]["speakers"]["user"] == ["Kunde"]
    assert PipelineConfig.model_validate(named.model_dump(mode="json")) == named
    with pytest.raises(ConfigError, match=r"data\.speakers: 'agent' is a user and an agent"):
        load_config(None, ["data.speakers.user=[Agent]"])


VOCABULARY = "intents:\n  weather_search:\n    slots: [{name: city}]\n"


def write_recipe(folder: Path, text: str = "", vocabulary: str = VOCABULARY) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(text)
    (folder / "intents.yaml").write_text(vocabulary)
    return folder / "recipe.yaml"


def list_known(config: PipelineConfig) -> list[str]:
    return list(config.data.vocabulary.intents) if config.data.vocabulary else []


@pytest.mark.parametrize("text", ["", "data:\n", "data:\n  split_seed: 1\n"])
def test_the_vocabulary_next_to_a_recipe_is_part_of_it(tmp_path: Path, text: str) -> None:
    path = write_recipe(tmp_path, text)
    config = load_config(path, ["data.test_fraction=0.2"])
    assert list_known(config) == ["weather_search"]
    # It travels to workers as parameters and into records, where no file is next to it.
    assert PipelineConfig.model_validate(config.model_dump(mode="json")) == config
    (tmp_path / "intents.yaml").unlink()
    plain = load_config(path, ["data.test_fraction=0.2"])
    assert fingerprint(plain) != fingerprint(config)
    assert "vocabulary" not in plain.model_dump(mode="json")["data"]


def test_a_recipe_names_another_vocabulary_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recipe(tmp_path / "recipes", "data: {vocabulary: music.yaml}")
    (path.parent / "music.yaml").write_text("intents: {play_music: }")
    assert list_known(load_config(path)) == ["play_music"]
    assert list_known(load_config(path, {"data.vocabulary": None})) == []
    assert list_known(load_config(path, ["data.vocabulary=null"])) == []
    # A path on the command line is meant from where the command is typed.
    monkeypatch.chdir(tmp_path)
    chosen = load_config(path, ["data.vocabulary=recipes/intents.yaml"])
    assert list_known(chosen) == ["weather_search"]
    assert load_config(None, ["data.vocabulary=recipes/intents.yaml"]).data == chosen.data
    path.write_text("data: {vocabulary: }")
    assert list_known(load_config(path)) == []
    path.write_text("data: {vocabulary: {intents: {greet: }}}")
    assert list_known(load_config(path)) == ["greet"]


def test_mistakes_in_the_vocabulary_are_named_with_its_path(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, vocabulary="intents:\n  greet: {slot: []}\n")
    with pytest.raises(ConfigError, match=r"/intents\.yaml has 1 error.*\n.*line 2.*'slots'"):
        load_config(path)
    path.write_text("data: {vocabulary: missing.yaml}")
    with pytest.raises(ConfigError, match=r"/missing\.yaml cannot be read"):
        load_config(path)
    path.write_text("data: {vocabulary: 7}")
    with pytest.raises(ConfigError, match=r"data\.vocabulary"):
        load_config(path)
    assert "data" in faults(tmp_path, "data: 3\n")

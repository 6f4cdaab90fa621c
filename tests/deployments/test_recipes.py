"""The recipes load, and those of the reference model have the PAI guide's settings (table 2)."""

import pytest

from flows.parameters import list_recipes, load_recipe

RECOMMENDED = {
    "full": {"learning_rate": 5e-5, "num_train_epochs": 3, "lora_dim": 0, "lora_alpha": 0},
    "lora": {"learning_rate": 3e-4, "num_train_epochs": 5, "lora_dim": 64, "lora_alpha": 16},
    "qlora": {"learning_rate": 3e-4, "num_train_epochs": 5, "lora_dim": 64, "lora_alpha": 16},
}


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_loads(name: str) -> None:
    load_recipe(name)


@pytest.mark.parametrize("name", RECOMMENDED)
def test_the_documents_recommendations(name: str) -> None:
    train = load_recipe(name).train
    wanted = RECOMMENDED[name] | {"method": name, "global_batch_size": 256, "seq_length": 256}
    assert {key: getattr(train, key) for key in wanted} == wanted
    assert train.load_in_4bit == (name == "qlora")
    assert train.base_model.startswith("Qwen/Qwen1.5-1.8B-Chat@")

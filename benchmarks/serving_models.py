"""Put untrained versions of a model with different answers into the store.

They are random adapters of a tiny random Llama or of a real base model. Like that of a training, an
artifact contains the adapter and the merged weights, so that both serving modes work, a grounding
policy and a draft table.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, get_peft_model
from random_models import train_tokenizer, write_random_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from intent_core.errors import ServingError
from intent_core.language.calls import parse_calls
from intent_core.language.prompt import encode_prompt
from intent_core.models.artifact import (
    MANIFEST_FILE,
    PROMPT_PROBE_FILE,
    ModelArtifact,
    PromptProbe,
    content_name,
    digest_folder,
)
from intent_core.models.base_model import unpack_base_model
from intent_core.models.prompt_marks import find_marks
from intent_core.serving.drafting.learn import learn_table
from intent_core.serving.drafting.table import DRAFTS_FILE, write_table
from intent_core.serving.grounding.policy import POLICY_FILE, learn_policy, write_policy
from intent_core.training.protocol import ADAPTER_FOLDER
from tasks.models.base_models import fetch_base_model
from tasks.settings import Settings
from tasks.storage.layout import MODELS
from tasks.storage.objects import upload_folder
from tasks.storage.step_results import get_store

SYSTEM_PROMPT = "Recognize the intent."
RANK: Final = 8
_SAMPLE = Path(__file__).parents[1] / "deployments" / "sample" / "snips_en" / "test.json"


def read_utterances(count: int) -> list[str]:
    """Return the first utterances of the quick start's test split, without duplicates."""
    rows = json.loads(_SAMPLE.read_text(encoding="utf-8"))
    return list(dict.fromkeys(row["instruction"] for row in rows))[:count]


def choose_base(name: str, folder: Path) -> str:
    """Return the base model's name for artifacts; for "" create a tiny one in `folder`."""
    if not name:
        return str(build_tiny_base(folder))
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def build_tiny_base(folder: Path) -> Path:
    """Create a random Llama of some hundred thousand weights, with a ChatML template."""
    return write_random_model(
        folder,
        LlamaConfig,
        train_tokenizer(read_utterances(200), vocabulary=600),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )


def make_version(settings: Settings, base: str, folder: Path, seed: int) -> ModelArtifact:
    """Put the random adapter of this seed and its merged weights into the store."""
    source = fetch_base_model(settings, base)
    weights = unpack_base_model(source, settings.layout.base_models)
    tokenizer: Any = AutoTokenizer.from_pretrained(weights)
    _write_weights(weights, folder, seed)
    utterances = tuple(read_utterances(3))
    ids = tuple(tuple(encode_prompt(tokenizer, SYSTEM_PROMPT, text)) for text in utterances)
    probe = PromptProbe(utterances=utterances, token_ids=ids)
    (folder / PROMPT_PROBE_FILE).write_text(probe.model_dump_json(), encoding="utf-8")
    _write_label_files(folder)
    digest = digest_folder(folder)
    artifact = ModelArtifact(
        name=content_name(digest),
        digest=digest,
        uri=MODELS.key(content_name(digest)),
        method="lora",
        base_model=base,
        base_model_digest=source.digest,
        dataset_fingerprint="",
        train_fingerprint="",
        system_prompt=SYSTEM_PROMPT,
    )
    (folder / MANIFEST_FILE).write_text(artifact.model_dump_json(), encoding="utf-8")
    upload_folder(get_store(settings), folder, artifact.uri)
    return artifact


def _write_label_files(folder: Path) -> None:
    """Write the grounding policy and the draft table, as for a trained model."""
    marks = find_marks(folder)
    if marks is None:
        raise ServingError(f"{folder}: the utterance in the model's prompts cannot be located")
    rows = json.loads(_SAMPLE.read_text(encoding="utf-8"))
    labels = [(row["instruction"], parse_calls(row["output"])) for row in rows]
    (folder / POLICY_FILE).write_bytes(write_policy(learn_policy(labels, None)))
    (folder / DRAFTS_FILE).write_bytes(write_table(learn_table(labels, marks)))


def _write_weights(base: Path, folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    config = LoraConfig(r=RANK, target_modules="all-linear", init_lora_weights=False)
    plain: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model: Any = get_peft_model(plain, config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            # Large enough to change nearly every answer.
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder / ADAPTER_FOLDER)
    model.merge_and_unload().save_pretrained(folder)
    for path in base.iterdir():
        is_tokenizer = path.suffix in (".json", ".jinja", ".txt", ".model")
        if (
            is_tokenizer
            and not path.name.startswith("model.")
            and not (folder / path.name).exists()
        ):
            shutil.copyfile(path, folder / path.name)

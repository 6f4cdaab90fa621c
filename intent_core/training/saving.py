"""Writes the output of a training: the model folder with merged weights, adapter and card."""

import json
import shutil
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModelForCausalLM
from transformers.trainer_utils import get_last_checkpoint

from intent_core.datasets.manifest import read_split
from intent_core.errors import TrainingError
from intent_core.language.prompt import encode_prompt
from intent_core.models.artifact import CARD_FILE, PROMPT_PROBE_FILE, PromptProbe
from intent_core.models.base_model import BaseModelSource, read_licence
from intent_core.recipe.config import TrainConfig
from intent_core.training.methods import merge_adapter
from intent_core.training.protocol import (
    ADAPTER_FOLDER,
    CHECKPOINTS_FOLDER,
    MODEL_FOLDER,
    TrainingJob,
    library_versions,
)

_PROBES = 8


def gather_sharded(trainer: Any, base: Path) -> Any:
    """Return the whole model of a sharded training; every process must call this function."""
    if not trainer.is_fsdp_enabled:
        return trainer.model
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.is_world_process_zero():
        return trainer.model
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.load_state_dict(weights)
    return model


def save(model: Any, tokenizer: Any, base: Path, output_dir: Path, config: TrainConfig) -> None:
    """Write merged weights to `model/` and, for LoRA and QLoRA, the adapter to `model/adapter/`."""
    folder = output_dir / MODEL_FOLDER
    if config.method != "full":
        model.save_pretrained(folder / ADAPTER_FOLDER)
        tokenizer.save_pretrained(folder / ADAPTER_FOLDER)
        model = merge_adapter(base, folder / ADAPTER_FOLDER)
    model.to(getattr(torch, config.save_dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if not list(folder.glob("*.safetensors")):
        raise TrainingError(f"no safetensors were written to {folder}")


def write_probe(tokenizer: Any, job: TrainingJob, too_long: Collection[str]) -> None:
    """Write a few prompts with their token ids, to check that a server tokenizes them equally.

    Examples that are `too_long` (ids) are not used, because the server may refuse them.
    """
    prompt = job.train.system_prompt
    examples = (row for row in read_split(job.train_file) if row.id not in too_long)
    utterances = [example.instruction for example in islice(examples, _PROBES)]
    ids = (encode_prompt(tokenizer, prompt, text) for text in utterances)
    probe = PromptProbe(utterances=tuple(utterances), token_ids=tuple(tuple(i) for i in ids))
    path = job.output_dir / MODEL_FOLDER / PROMPT_PROBE_FILE
    path.write_text(probe.model_dump_json(), encoding="utf-8")


def write_card(job: TrainingJob, source: BaseModelSource, num_examples: int) -> None:
    """Write the model card `README.md`; without dates, so that equal trainings give equal bytes."""
    licence = read_licence(source)
    front = {"license": licence, "pipeline_tag": "text-generation", "library_name": "transformers"}
    recipe = yaml.safe_dump(
        {"train": job.train.model_dump(mode="json")}, allow_unicode=True, sort_keys=False
    )
    versions = "".join(f"- {name} {version}\n" for name, version in library_versions().items())
    text = (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n"
        "# Intent recognition\n\n"
        "This model answers an utterance with calls, e.g. `weather_search(Hangzhou)`. Use it with "
        "the system prompt of the recipe below: it was evaluated only with that prompt.\n\n"
        f"- Base model: `{source.name}`, content `{source.digest}`, licence: {licence}\n"
        f"- Data: {num_examples} labelled utterances, dataset `{job.dataset_fingerprint}`\n"
        f"- Method: {job.train.method}\n\n"
        f"## Recipe\n\n```yaml\n{recipe}```\n\n## Versions\n\n{versions}"
    )
    (job.output_dir / MODEL_FOLDER / CARD_FILE).write_text(text, encoding="utf-8")


def last_checkpoint(output_dir: Path) -> str | None:
    """Return the newest complete checkpoint; incomplete newer ones are deleted."""
    folder = output_dir / CHECKPOINTS_FOLDER
    while folder.is_dir() and (newest := get_last_checkpoint(str(folder))):
        # Trainer writes this file last.
        if _is_json(Path(newest) / "trainer_state.json"):
            return str(newest)
        shutil.rmtree(newest)
    return None


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True

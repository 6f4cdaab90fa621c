"""Untrained models with distinguishable answers: random adapters, random merged weights.

They are stored like trained models that passed the gate.
"""

import json
from pathlib import Path

from intent_core.language.prompt import encode_prompt
from intent_core.language.vocabulary_copy import COPY_FILE
from intent_core.models.artifact import (
    MANIFEST_FILE,
    PROMPT_PROBE_FILE,
    ModelArtifact,
    PromptProbe,
    content_name,
    digest_folder,
)
from intent_core.models.base_model import locate_base_model
from intent_core.recipe.config import ServeConfig
from intent_core.serving.grounding.policy import POLICY_FILE, GroundingPolicy, write_policy
from tasks.serving.releases import Release
from tasks.settings import Settings
from tasks.storage.layout import release_prefix
from tasks.storage.objects import upload_folder
from tasks.storage.step_results import get_store, write_finished

PROMPT = "Recognize the intent."
UTTERANCES = (
    "Will it rain in Shanghai?",
    "Play some music by Miles Davis.",
    "杭州明天的天气怎么样？",
)


def store_model(
    settings: Settings,
    folder: Path,
    base: Path,
    *,
    seed: int,
    method: str = "lora",
    policy: GroundingPolicy | None = None,
) -> ModelArtifact:
    """Store random weights: an adapter of `base`, or for "full" a model of the same shape."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if method == "full":
        for weights in model.parameters():
            torch.nn.init.normal_(weights, std=0.3)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    else:
        config = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False)
        adapted = get_peft_model(model, config)
        for name, weights in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weights, std=0.3)
        adapted.save_pretrained(folder / "adapter")
    ids = tuple(tuple(encode_prompt(tokenizer, PROMPT, text)) for text in UTTERANCES)
    probe = PromptProbe(utterances=UTTERANCES, token_ids=ids)
    (folder / PROMPT_PROBE_FILE).write_text(probe.model_dump_json(), encoding="utf-8")
    known = {"intents": {"greet": {"description": f"seed {seed}"}}}
    (folder / COPY_FILE).write_text(json.dumps(known), encoding="utf-8")
    if policy:
        (folder / POLICY_FILE).write_bytes(write_policy(policy))
    digest = digest_folder(folder)
    name = content_name(digest)
    artifact = ModelArtifact(
        name=name,
        digest=digest,
        uri=f"models/{name}",
        method=method,
        base_model=str(base),
        base_model_digest=locate_base_model(str(base)).digest,
        dataset_fingerprint="none",
        train_fingerprint="none",
        system_prompt=PROMPT,
    )
    (folder / MANIFEST_FILE).write_text(artifact.model_dump_json(), encoding="utf-8")
    upload_folder(get_store(settings), folder, artifact.uri)
    return artifact


def accept(settings: Settings, artifact: ModelArtifact, serve: ServeConfig, version: str) -> None:
    """Write the release that a passed gate writes for the promotion."""
    release = Release(
        artifact=artifact, serve=serve, project="served", version=version, reason="a test's"
    )
    write_finished(get_store(settings), release_prefix(artifact.name), release)

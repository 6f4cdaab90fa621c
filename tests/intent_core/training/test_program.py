"""Training when memory runs out, with a best checkpoint, and with failures."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from intent_core.datasets.manifest import read_split
from intent_core.errors import ConfigError, DataError, TrainingError
from intent_core.language.prompt import encode_prompt
from intent_core.models.artifact import PROMPT_PROBE_FILE, PromptProbe
from intent_core.recipe.loader import load_config
from intent_core.training import program
from intent_core.training.methods import evaluating, prepare_model
from intent_core.training.protocol import PROGRESS_FILE, TOO_LONG_FILE
from intent_core.training.trainer import RowTrainer
from tests.support.builders.training_jobs import FULL, read_job, read_result, write_job

pytestmark = pytest.mark.timeout(180)

QLORA = ["train.method=qlora", "train.lora_dim=8"]
SHORT = [*FULL, "train.num_train_epochs=3", "train.global_batch_size=8", "train.learning_rate=5e-3"]


@pytest.fixture(autouse=True)
def keep_signals() -> Iterator[None]:
    """Restore the signal handlers that the program replaces in its process."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def weights(job: Path) -> dict[str, torch.Tensor]:
    return load_file(job.parent / "out" / "model" / "model.safetensors")


def messages(job: Path) -> list[str]:
    lines = (job.parent / "out" / PROGRESS_FILE).read_text(encoding="utf-8").splitlines()
    return [json.loads(line).get("message", "") for line in lines]


def refuse_large_rows(monkeypatch: pytest.MonkeyPatch, most: int, after: int = 0) -> None:
    """Rows of more than `most` samples run out of memory from the given micro-step on."""
    done = RowTrainer.compute_loss
    calls = 0

    def compute(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after and self.args.per_device_train_batch_size > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")
        return done(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(RowTrainer, "compute_loss", compute)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(FULL, id="full"),
        pytest.param(["train.method=lora", "train.lora_dim=8"], id="lora"),
        pytest.param([*QLORA, "train.load_in_4bit=true"], id="qlora-4bit"),
        pytest.param([*QLORA, "train.load_in_8bit=true"], id="qlora-8bit"),
    ],
)
def test_each_method_learns_and_leaves_a_model_that_loads(
    method: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    options = ["train.num_train_epochs=4", "train.global_batch_size=8", "train.learning_rate=5e-3"]
    result = program.run(read_job(write_job(tmp_path, tiny_model, *method, *options)))
    assert result.status == "finished"
    assert result.steps == 12, "24 samples, 8 a step, 4 passes"
    assert result.validation_loss is not None
    assert result.packed
    losses = [loss for _, loss in result.losses]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    folder = tmp_path / "out" / "model"
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() > 100_000
    assert list(folder.glob("*.safetensors")) and not list(folder.glob("*.bin"))
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*"))
    assert (folder / "adapter" / "adapter_config.json").exists() == (method is not FULL)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert result.base_model_digest in card and "learning_rate: 0.005" in card
    assert list((tmp_path / "out" / "tensorboard").glob("events.out.tfevents.*"))
    probe = PromptProbe.model_validate_json((folder / PROMPT_PROBE_FILE).read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(probe.utterances) == 8
    for utterance, ids in zip(probe.utterances, probe.token_ids, strict=True):
        assert tuple(encode_prompt(tokenizer, "Recognize.", utterance)) == ids


@pytest.mark.parametrize("after", [0, 5])
def test_out_of_memory_halves_the_rows_and_the_optimisation_stays(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    roomy = write_job(tmp_path / "roomy", tiny_model, *SHORT)
    program.run(read_job(roomy))
    tight = write_job(tmp_path / "tight", tiny_model, *SHORT, "train.save_steps=2")
    refuse_large_rows(monkeypatch, most=2, after=after)
    result = program.run(read_job(tight))
    assert (result.per_device_train_batch_size, result.gradient_accumulation_steps) == (2, 4)
    assert result.samples_per_step == 8
    assert [m for m in messages(tight) if "out of memory" in m] == [
        "out of memory with 8 samples per row: retrying with 4, still 8 per step",
        "out of memory with 4 samples per row: retrying with 2, still 8 per step",
    ]
    assert [step for step, _ in result.losses] == list(range(1, 10))
    for (_, one), (_, other) in zip(read_result(roomy).losses, result.losses, strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    for name, weight in weights(roomy).items():
        torch.testing.assert_close(weights(tight)[name], weight, rtol=1e-2, atol=1e-3)


def test_memory_that_does_not_do_for_one_sample_names_the_remedy(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_large_rows(monkeypatch, most=0)
    with pytest.raises(TrainingError, match=r"out of memory with 1 samples.*lora or qlora"):
        program.run(read_job(write_job(tmp_path, tiny_model, *SHORT)))


def test_another_fault_is_not_taken_for_memory(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(RowTrainer, "compute_loss", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        program.run(read_job(write_job(tmp_path, tiny_model, *SHORT)))


def test_exact_match_is_what_greedy_decoding_gives(tiny_model: Path, tmp_path: Path) -> None:
    options = ["train.num_train_epochs=60", "train.best_checkpoint=exact_match"]
    job = write_job(tmp_path, tiny_model, *SHORT, *options, "train.save_steps=20")
    result = program.run(read_job(job))
    folder = tmp_path / "out" / "model"
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    right = 0
    examples = read_split(tmp_path / "validation.jsonl")
    for example in examples:
        prompt = torch.tensor([encode_prompt(tokenizer, "Recognize.", example.instruction)])
        answer = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=48, do_sample=False
        )
        text = tokenizer.decode(answer[0, prompt.shape[1] :], skip_special_tokens=True)
        right += text == example.output
    assert result.validation_exact_match == pytest.approx(right / len(examples))
    assert right > 0, "nothing was learned, so the comparison proves nothing"


def test_the_best_checkpoint_is_kept_and_patience_ends_the_run(
    tiny_model: Path, tmp_path: Path
) -> None:
    options = ["train.num_train_epochs=200", "train.best_checkpoint=validation_loss"]
    patience = ["train.early_stopping_patience=2", "train.save_steps=5", "train.learning_rate=1e-2"]
    job = write_job(tmp_path, tiny_model, *SHORT, *options, *patience)
    result = program.run(read_job(job))
    assert result.status == "finished"
    assert result.best_step is not None
    assert result.steps == result.best_step + 10, "two checkpoints without an improvement"
    lines = (tmp_path / "out" / PROGRESS_FILE).read_text(encoding="utf-8").splitlines()
    seen = {
        row["step"]: row["loss"] for row in map(json.loads, lines) if row["phase"] == "validating"
    }
    assert min(seen.values()) == seen[result.best_step] == pytest.approx(result.validation_loss)
    steps = [step for step, _, _ in result.validations]
    assert steps == list(range(5, result.steps + 1, 5))


def test_frozen_layers_stay_as_they_are(tiny_model: Path, tmp_path: Path) -> None:
    frozen = ["train.freeze_embeddings=true", "train.freeze_layers=1"]
    job = write_job(tmp_path, tiny_model, *SHORT, *frozen)
    program.run(read_job(job))
    before = load_file(tiny_model / "model.safetensors")
    for name, weight in weights(job).items():
        learned = not torch.equal(weight, before[name])
        assert learned == (".layers.1." in name or name == "model.norm.weight"), name


def test_a_best_checkpoint_needs_validation_rows(tiny_model: Path, tmp_path: Path) -> None:
    job = read_job(write_job(tmp_path, tiny_model, *SHORT, "train.best_checkpoint=exact_match"))
    with pytest.raises(ConfigError, match="requires a validation split"):
        program.run(job.model_copy(update={"validation_file": None}))


def test_a_sample_that_is_too_long_does_not_end_the_run(tiny_model: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path, tiny_model, *SHORT)
    lines = (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    long = {"id": "long", "instruction": "play " + "la " * 140, "output": "play_music(la)"}
    content = json.dumps(long) + "\n" + "".join(lines)
    (tmp_path / "train.jsonl").write_text(content, encoding="utf-8")
    result = program.run(read_job(job))
    assert (result.num_examples, result.num_too_long, result.seq_length) == (24, 1, 64)
    (row,) = (tmp_path / "out" / TOO_LONG_FILE).read_text(encoding="utf-8").splitlines()
    assert json.loads(row)["id"] == "long"
    assert json.loads(row)["reason"] == "too-many-tokens"
    assert any("1 sample(s) are too long and are not trained" in m for m in messages(job))
    probe = (tmp_path / "out" / "model" / PROMPT_PROBE_FILE).read_bytes()
    assert long["instruction"] not in PromptProbe.model_validate_json(probe).utterances
    # The same training without the sample gives the same weights.
    plain = write_job(tmp_path / "plain", tiny_model, *SHORT)
    assert program.run(read_job(plain)).num_too_long == 0
    for name, weight in weights(plain).items():
        assert torch.equal(weights(job)[name], weight), name


def test_an_empty_training_split_is_named(tiny_model: Path, tmp_path: Path) -> None:
    job = read_job(write_job(tmp_path, tiny_model, *SHORT))
    job.train_file.write_text("")
    with pytest.raises(DataError, match="training split is empty"):
        program.run(job)


def test_a_loss_that_does_not_fall_is_named(tiny_model: Path, tmp_path: Path) -> None:
    idle = ["train.learning_rate=1e-9", "train.num_train_epochs=20"]
    with pytest.raises(TrainingError, match=r"does not decrease.*Raise train\.learning_rate"):
        program.run(read_job(write_job(tmp_path, tiny_model, *SHORT, *idle)))


def test_a_loss_of_nan_is_named(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = RowTrainer.compute_loss

    def spoil(self: Any, *args: Any, **kwargs: Any) -> Any:
        return done(self, *args, **kwargs) * float("nan")

    monkeypatch.setattr(RowTrainer, "compute_loss", spoil)
    with pytest.raises(TrainingError, match=r"the loss is nan.*Lower train\.learning_rate"):
        program.run(read_job(write_job(tmp_path, tiny_model, *SHORT)))


def test_validation_leaves_the_gradients_of_a_4bit_base(tiny_model: Path) -> None:
    """On some CPUs bitsandbytes repacks weights in evaluation mode and loses gradients."""
    overrides = [*QLORA, "train.load_in_4bit=true", f"train.base_model={tiny_model}"]
    model = prepare_model(tiny_model, load_config(None, overrides).train)
    ids = torch.tensor([[5, 6, 7, 8, 9]])

    def take_gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    before = take_gradients()
    with evaluating(model):
        model(input_ids=ids)
    assert model.training
    after = take_gradients()
    assert before.keys() == after.keys()
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient)

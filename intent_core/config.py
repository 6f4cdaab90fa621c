"""The recipe: one `PipelineConfig` tree, read from YAML, overridden by dotted keys, validated once.

A recipe defines the model and the rules it must meet. Where things are (servers, stores,
keys) is not in it: see `tasks/settings.py`. Hyper-parameters carry the names of Alibaba's
PAI documents (`lora_dim`, `seq_length`, `load_in_4bit`, ...).
"""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from intent_core.errors import ConfigError

Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Stage = Literal["verify", "check", "label", "system"]

DEFAULT_SYSTEM_PROMPT = (
    "You are an intent recognition expert. You can recognize an intent based on user "
    "questions and return the corresponding intent and parameters."
)


class Section(BaseModel):
    """A frozen part of the recipe; an unknown key is a mistake, not an extension."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class DataConfig(Section):
    """How an iTAG export becomes a dataset."""

    utterance_field: str = "instruction"
    """Key under `data` that holds the utterance."""
    question_title: str = "output"
    """Title of the template's question that holds the calls."""
    stages: tuple[Stage, ...] = ("verify", "check", "label", "system")
    """Which stage's answer wins when several are present, first wins."""
    annotators: Literal["majority", "first", "reject"] = "majority"
    """What to do with several annotators' answers; a tie is rejected."""
    conflicts: Literal["reject", "latest", "majority"] = "reject"
    """What to do with one utterance labelled in different ways."""
    max_rejection_rate: Rate = 0.05
    """Share of unusable rows above which the run ends."""
    test_uri: str | None = None
    """A fixed test set ([{"instruction", "output"}]), kept out of training; none: split one off."""
    test_fraction: Rate = 0.1
    """Share of utterances held out for the test, when there is no `test_uri`."""
    validation_fraction: Rate = 0.05
    """Share of utterances held out to watch training and to probe the served model."""


class TrainConfig(Section):
    """Fine-tuning, by the documents' names (table 1) and defaults."""

    method: Literal["full", "lora", "qlora"] = "lora"
    """All weights, low-rank adapters, or low-rank adapters over a quantised base."""
    base_model: str = "smollm2-135m-instruct"
    """`smollm2-135m-instruct` (embedded), or a directory with a transformers model."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 5e-5
    num_train_epochs: Annotated[float, Field(gt=0)] = 1
    global_batch_size: Annotated[int, Field(ge=1)] = 256
    """Samples per optimizer step, whatever the number of devices."""
    per_device_train_batch_size: Annotated[int, Field(ge=1)] = 8
    """Samples per packed row on one device; accumulation follows from `global_batch_size`."""
    seq_length: Annotated[int, Field(ge=16, le=32768)] = 128
    """Tokens of the longest sample; longer ones end the run before training."""
    lora_dim: Annotated[int, Field(ge=0, le=512)] = 32
    lora_alpha: Annotated[int, Field(ge=0)] = 32
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    system_prompt: str = DEFAULT_SYSTEM_PROMPT
    """Sent in training, evaluation and serving alike."""
    freeze_embeddings: bool = False
    """Full fine-tuning only: leave the token embeddings as they are."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps in which the learning rate rises."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    save_steps: Annotated[int, Field(ge=1)] = 50
    """Optimizer steps between checkpoints."""
    seed: int = 42
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 where the device computes it natively, else float32."""
    save_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of the saved weights, which are those that are evaluated and served."""

    @model_validator(mode="after")
    def _methods_agree(self) -> Self:
        if self.load_in_4bit and self.load_in_8bit:
            raise ValueError("load_in_4bit and load_in_8bit exclude each other: choose one")
        quantised = self.load_in_4bit or self.load_in_8bit
        if self.global_batch_size > self.per_device_train_batch_size and (
            self.global_batch_size % self.per_device_train_batch_size
        ):
            raise ValueError(
                f"global_batch_size {self.global_batch_size} must be a multiple of "
                f"per_device_train_batch_size {self.per_device_train_batch_size}"
            )
        if self.method == "qlora" and not quantised:
            raise ValueError("method 'qlora' needs load_in_4bit or load_in_8bit: true")
        if self.method != "qlora" and quantised:
            raise ValueError(f"load_in_4bit/load_in_8bit need method 'qlora', not {self.method!r}")
        if self.method != "full" and self.lora_dim == 0:
            raise ValueError(f"method {self.method!r} needs lora_dim > 0 (the documents use 64)")
        if self.method != "full" and self.freeze_embeddings:
            raise ValueError("freeze_embeddings is for method 'full': adapters never train them")
        return self


class EvaluateConfig(Section):
    """How the candidate is asked."""

    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 64
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 32
    """Utterances in flight at once."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 120


class GateConfig(Section):
    """What a candidate must meet before any traffic reaches it."""

    min_intent_accuracy: Rate = 0.9
    min_parameter_accuracy: Rate = 0.6
    min_test_examples: Annotated[int, Field(ge=1)] = 100
    max_regression: Rate = 0.02
    """How far below the champion's accuracy, on the same test set, a candidate may fall."""
    compare: Literal["value", "lower_bound"] = "value"
    """Compare the measured rate, or the lower end of its 95 % interval."""


class ServeConfig(Section):
    """How the model is served."""

    alias: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")] = "intent"
    """The public model name callers use; it stays while versions change."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: Annotated[int, Field(ge=64)] = 512
    max_num_seqs: Annotated[int, Field(ge=1)] = 32
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of a GPU one server takes: two fit side by side while a promotion lasts."""
    startup_timeout_s: Annotated[float, Field(gt=0)] = 600


class PipelineConfig(Section):
    """Everything that defines one model, and nothing about where it is made."""

    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")] = "intent"
    """Name of the MLflow experiment and of the registered model."""
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    gate: GateConfig = GateConfig()
    serve: ServeConfig = ServeConfig()

    @model_validator(mode="after")
    def _server_takes_what_was_trained(self) -> Self:
        needed = self.train.seq_length + self.evaluate.max_new_tokens
        if self.serve.max_model_len < needed:
            raise ValueError(
                f"serve.max_model_len {self.serve.max_model_len} is less than train.seq_length + "
                f"evaluate.max_new_tokens: set it to {needed} or more"
            )
        return self


def fingerprint(*parts: object) -> str:
    """Sixteen hex digits that name the parts' content: JSON values, pydantic models, strings."""
    plain = [p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts]
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def load_config(
    path: Path | None, overrides: Mapping[str, Any] | Sequence[str] = ()
) -> PipelineConfig:
    """Read a recipe and apply overrides (`{"train.seed": 1}` or `["train.seed=1"]`).

    Raises `ConfigError` that lists every fault at once, each with what is allowed.
    """
    tree = _read_yaml(path) if path else {}
    faults: list[str] = []
    for key, value in _override_items(overrides, faults):
        _set_dotted(tree, key, value, faults)
    try:
        config = PipelineConfig.model_validate(tree)
    except ValidationError as error:
        faults += [_explain(e) for e in error.errors(include_url=False)]
    if faults:
        where = f"recipe {path}" if path else "recipe"
        listed = "\n".join(f"  {i}. {fault}" for i, fault in enumerate(faults, 1))
        raise ConfigError(f"{where} has {len(faults)} mistake(s):\n{listed}")
    return config


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"recipe {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path} is not YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"recipe {path} must be a mapping of sections, not {type(tree).__name__}")
    # A section named and left empty is a section of defaults.
    return {key: value for key, value in tree.items() if value is not None}


def _override_items(
    overrides: Mapping[str, Any] | Sequence[str], faults: list[str]
) -> list[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        return [
            (k, _scalar(v, k, faults) if isinstance(v, str) else v) for k, v in overrides.items()
        ]
    items = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            faults.append(f"override {text!r}: write it as section.key=value")
        else:
            items.append((key.strip(), _scalar(value, key, faults)))
    return items


def _scalar(text: str, key: str, faults: list[str]) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        faults.append(f"override {key!r}: {text!r} is not a YAML value; quote it")
        return text
    # YAML 1.1 reads 3e-4 as text.
    if isinstance(value, str):
        try:
            return float(value) if value[:1].isdigit() else value
        except ValueError:
            return value
    return value


def _set_dotted(tree: dict[str, Any], dotted: str, value: Any, faults: list[str]) -> None:
    *sections, leaf = dotted.split(".")
    node = tree
    for section in sections:
        node = node.setdefault(section, {})
        if not isinstance(node, dict):
            faults.append(f"override {dotted!r}: {section!r} is a value, not a section")
            return
    node[leaf] = value


def _explain(error: Any) -> str:
    """One pydantic error as a sentence with the allowed values."""
    location = ".".join(str(p) for p in error["loc"]) or "recipe"
    if error["type"] == "extra_forbidden":
        allowed = _allowed_keys(error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), allowed, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{location}: no such key.{hint} Allowed: {', '.join(allowed)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{location}: {message}"
    return f"{location}: {error['input']!r} is not allowed: {message}"


def _allowed_keys(location: Sequence[Any]) -> list[str]:
    model: Any = PipelineConfig
    for part in location:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        model = field.annotation if field else None
        if get_origin(model) is not None:
            model = next((a for a in get_args(model) if hasattr(a, "model_fields")), None)
        if model is None:
            return []
    return sorted(model.model_fields)

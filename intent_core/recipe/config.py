"""What a recipe may say: one `PipelineConfig` tree. `loader.py` reads it from YAML.

A recipe defines the model and the rules it must meet. Where things are (servers, stores,
keys) is not in it: see `tasks/settings/__init__.py`. Hyper-parameters carry the names of Alibaba's
PAI documents (`lora_dim`, `seq_length`, `load_in_4bit`, ...).
"""

import hashlib
from typing import Annotated, Literal, Self, get_args

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from intent_core.language.prompt import DEFAULT_SYSTEM_PROMPT
from intent_core.recipe.choices import Leniency, Normalisation, Rule, Stage

Rate = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A frozen part of the recipe; an unknown key is a mistake, not an extension."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class DataConfig(Section):
    """How an iTAG export becomes a dataset."""

    utterance_field: str = "instruction"
    """Key under `data` that holds the utterance."""
    tag_fields: tuple[str, ...] = ()
    """Further keys under `data`, such as `channel`, that reports slice by. (Rows of training JSON
    have an object `tags`, and may have `alternatives`, other right outputs.)"""
    question_title: str = "output"
    """Title of the template's question that holds the calls."""
    stages: tuple[Stage, ...] = ("verify", "check", "label", "system")
    """Which stage's answer wins when several are present, first wins."""
    fixed_flag: Literal["prefer", "ignore"] = "prefer"
    """`prefer`: a `-system` answer marked `fixedFlag` is a correction and wins over the label."""
    annotators: Literal["majority", "first", "reject"] = "majority"
    """What to do with several annotators' answers; a tie is rejected."""
    abandoned: Literal["any", "row"] = "any"
    """Whose `abandonFlag` rejects a row: any stage's, or only the row's own."""
    tolerate: tuple[Leniency, ...] = tuple(
        kind for kind in get_args(Leniency) if kind != "bare-intent"
    )
    """Departures from the format that are read and reported; the others are rejected."""
    duplicates: Literal["drop", "keep"] = "drop"
    """What to do with one utterance labelled the same way again."""
    conflicts: Literal["reject", "latest", "majority"] = "reject"
    """What to do with one utterance labelled in different ways."""
    near_duplicates: Literal["keep", "drop"] = "keep"
    """What to do with near-duplicates within one split; across splits they never stay."""
    near_duplicate_similarity: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of common character n-grams (Jaccard) from which two utterances are near-duplicates."""
    stop_on: tuple[Rule, ...] = ()
    """Rules of the data check that end the run when they are broken."""
    max_rejection_rate: Rate = 0.05
    """Share of unusable rows above which the run ends."""
    test_uri: str | None = None
    """A fixed test set ([{"instruction", "output"}]), kept out of training; none: split one off."""
    test_fraction: Rate = 0.1
    """Share of utterances held out for the test, when there is no `test_uri`."""
    validation_fraction: Rate = 0.05
    """Share of utterances held out to watch training and to probe the served model."""
    split_seed: int = 0
    """Another seed, another split: reports on different test splits do not compare."""


class TrainConfig(Section):
    """Fine-tuning, by the documents' names (table 1)."""

    method: Literal["full", "lora", "qlora"] = "lora"
    """All weights, low-rank adapters, or low-rank adapters over a quantised base."""
    base_model: str = "smollm2-135m-instruct"
    """`smollm2-135m-instruct` (embedded), a directory with a transformers model, `s3://...` or
    `oss://...` where one lies, or a hub's `owner/name@commit`."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 5e-5
    """The learning rate at its highest, after the warm-up."""
    num_train_epochs: Annotated[float, Field(gt=0)] = 1
    """Passes over the training split; a part of one is allowed."""
    global_batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Samples per optimizer step, whatever the number of devices. `auto`: 256, or less where an
    epoch would have fewer than 30 steps."""
    per_device_train_batch_size: Annotated[int, Field(ge=1)] = 8
    """Samples per packed row on one device; halved when memory does not suffice."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] | None = None
    """The documents' way to set samples per step: devices x per_device_train_batch_size x this.
    None: it follows from `global_batch_size`."""
    seq_length: Annotated[int, Field(ge=16, le=32768)] | Literal["auto"] = 128
    """Tokens of the longest sample; longer ones end the run before training. `auto`: the power of
    two that fits them all."""
    lora_dim: Annotated[int, Field(ge=0, le=512)] = 32
    """Rank of the adapters; `full` has none and ignores it."""
    lora_alpha: Annotated[int, Field(ge=0)] = 32
    """What adapters add is scaled by `lora_alpha` / `lora_dim`; `full` ignores it."""
    load_in_4bit: bool = False
    """QLoRA only, where it is the documents' default: the base in 4-bit nf4."""
    load_in_8bit: bool = False
    """QLoRA only: the base in 8 bits."""
    apply_chat_template: Literal[True] = True
    """Samples in the model's own chat template, as the server will ask. It cannot be turned off."""
    system_prompt: str = DEFAULT_SYSTEM_PROMPT
    """Sent in training, evaluation and serving alike."""
    freeze_embeddings: bool = False
    """Full fine-tuning only: leave the token embeddings as they are."""
    freeze_layers: Annotated[int, Field(ge=0)] = 0
    """Full fine-tuning only: leave so many of the first layers as they are. What lies below the
    first trained layer costs a forward pass only."""
    fsdp: bool = False
    """Full fine-tuning on several devices: weights, gradients and optimizer state are divided among
    them, for models that one device cannot hold."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps in which the learning rate rises."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    """How the rate falls to 0 after the warm-up; `constant`: it stays, without a warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's weight decay."""
    save_steps: Annotated[int, Field(ge=1)] = 50
    """Optimizer steps between checkpoints."""
    best_checkpoint: Literal["last", "validation_loss", "exact_match"] = "last"
    """Which weights are kept: the last, or those of the checkpoint that did best on the validation
    split (`exact_match`: answers right to the last token)."""
    early_stopping_patience: Annotated[int, Field(ge=0)] = 0
    """End after so many checkpoints without a better one; 0: never. Needs `best_checkpoint`."""
    seed: int = 42
    """Decides the order of the samples and the adapters' first weights."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 where the device computes it natively, else float32."""
    save_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of the saved weights, which are those that are evaluated and served."""

    @model_validator(mode="after")
    def _methods_agree(self) -> Self:
        if self.load_in_4bit and self.load_in_8bit:
            raise ValueError("load_in_4bit and load_in_8bit exclude each other: choose one")
        quantised = self.load_in_4bit or self.load_in_8bit
        if self.method == "qlora" and not quantised:
            raise ValueError("method 'qlora' needs load_in_4bit or load_in_8bit: true")
        if self.method != "qlora" and quantised:
            raise ValueError(f"load_in_4bit/load_in_8bit need method 'qlora', not {self.method!r}")
        if self.method != "full" and self.lora_dim == 0:
            raise ValueError(f"method {self.method!r} needs lora_dim > 0 (the documents use 64)")
        if self.method != "full" and (self.freeze_embeddings or self.freeze_layers):
            raise ValueError(
                "freeze_embeddings and freeze_layers are for method 'full': adapters leave the "
                "base as it is"
            )
        if self.method != "full" and self.fsdp:
            raise ValueError("fsdp is for method 'full': adapters train on every device by itself")
        if self.freeze_layers and not self.freeze_embeddings:
            raise ValueError("freeze_layers needs freeze_embeddings: true, which lie below them")
        return self

    @model_validator(mode="after")
    def _batches_agree(self) -> Self:
        samples, per_device = self.global_batch_size, self.per_device_train_batch_size
        if samples != "auto" and self.gradient_accumulation_steps:
            raise ValueError(
                "global_batch_size and gradient_accumulation_steps say the same: set one of them"
            )
        if samples != "auto" and samples > per_device and samples % per_device:
            raise ValueError(
                f"global_batch_size {samples} must be a multiple of per_device_train_batch_size "
                f"{per_device}"
            )
        return self

    @model_validator(mode="after")
    def _checkpoints_agree(self) -> Self:
        if self.early_stopping_patience and self.best_checkpoint == "last":
            raise ValueError(
                "early_stopping_patience needs best_checkpoint: validation_loss or exact_match"
            )
        return self


class EvaluateConfig(Section):
    """How the candidate is asked."""

    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 64
    """Tokens an answer may have; a longer one is cut."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 32
    """Utterances in flight at once."""
    constrained: bool = False
    """Let the server give nothing but known intents with as many values as were seen in training;
    callers then send the same `structured_outputs`."""
    ordered_calls: bool = False
    """Whether the calls of an utterance must come in the labelled order to be right at all. (They
    always must for `exact_match`.)"""
    normalise_values: tuple[Normalisation, ...] = ()
    """Differences between values that count as none: `nfkc`, `full-width` letters and digits,
    letter `case`, `spaces`, `numerals` of another script (三 for 3)."""
    abstain_below: Rate | Literal["auto"] | None = None
    """Confidence below which an answer counts as `out_of_scope()`. `auto`: what serves exact match
    best on the validation split."""
    group_by: str | None = None
    """Tag whose value says which utterances share a source (a dialogue, a caller): intervals and
    tests then count sources."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 120
    """Seconds one try of a request may take."""


class GateConfig(Section):
    """What a candidate must meet before any traffic reaches it."""

    min_intent_accuracy: Rate = 0.9
    """Share of the test utterances whose intents must all be right."""
    min_parameter_accuracy: Rate = 0.6
    """Share of the test utterances whose intents and values must all be right."""
    min_test_examples: Annotated[int, Field(ge=1)] = 100
    """Utterances the test split must have."""
    minimums: dict[str, Rate] = Field(default={})
    """Metrics and what each must reach. `intent_accuracy` and `parameter_accuracy` here take the
    place of the keys above."""
    max_regression: Rate = 0.02
    """How far below the champion's accuracy, on the same test set, a candidate may fall."""
    compare: Literal["value", "lower_bound"] = "value"
    """Compare the measured rate, or the lower end of its 95 % interval; against the champion, the
    measured difference, or the lower end of the paired difference's interval."""
    min_per_intent: Rate | None = None
    """Exact match below which an intent rejects the candidate, if it is more than chance: Holm's
    correction over all intents, at 5 %."""
    min_per_intent_support: Annotated[int, Field(ge=1)] = 20
    """Test utterances an intent needs to be held to `min_per_intent`."""
    min_per_slice: dict[str, Rate] = Field(default={})
    """Exact match by slice, such as {"intents=several": 0.5}; a slice the test lacks rejects."""
    max_latency_p95_ms: Annotated[float, Field(gt=0)] | None = None
    """Longest an answer may take, but for the slowest twentieth."""
    blocking_findings: tuple[Rule, ...] = ()
    """Rules of the data check that reject the candidate when they are broken."""
    mode: Literal["enforce", "manual", "dry_run"] = "enforce"
    """`enforce`: what passes is promoted. `manual`: what passes waits for a person's approval.
    `dry_run`: the verdict is written, and nothing is promoted."""
    approval_timeout_hours: Annotated[float, Field(gt=0)] = 72
    """How long a `manual` gate waits; then the candidate is not promoted."""

    @property
    def required(self) -> dict[str, float]:
        """Every metric that has a minimum, and that minimum."""
        return {
            "intent_accuracy": self.min_intent_accuracy,
            "parameter_accuracy": self.min_parameter_accuracy,
            **self.minimums,
        }


class ServeConfig(Section):
    """How the model is served."""

    mode: Literal["merged", "adapter"] = "merged"
    """`merged`: whole weights, a server for each model. `adapter`: LoRA adapters on one server of
    their base model, which turns from one to the next within a second."""
    alias: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")] = "intent"
    """The public model name callers use; it stays while versions change."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto`: on a GPU vLLM's choice, on a CPU bfloat16 where that is native, else float32."""
    max_model_len: Annotated[int, Field(ge=64)] = 512
    """Tokens of prompt and answer: `train.seq_length` and `evaluate.max_new_tokens` fit into it."""
    max_num_seqs: Annotated[int, Field(ge=1)] = 32
    """Answers a server works on at once; further requests wait."""
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256] = 64
    """Largest rank an adapter server takes; 64 is what the documents recommend."""
    data_parallel_size: Annotated[int, Field(ge=1)] = 1
    """Copies of the model in one server, one for each of as many GPUs."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of a GPU one server takes: two fit side by side while a promotion lasts."""
    startup_timeout_s: Annotated[float, Field(gt=0)] = 600
    """Seconds a server may take until it is ready."""


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
    def _adapters_are_trained_and_taken(self) -> Self:
        if self.serve.mode == "merged":
            return self
        if self.train.method == "full":
            raise ValueError(
                "serve.mode 'adapter' serves LoRA adapters and train.method is 'full': set "
                "train.method to 'lora' or 'qlora', or serve.mode to 'merged'"
            )
        if self.train.lora_dim > self.serve.max_lora_rank:
            raise ValueError(
                f"train.lora_dim {self.train.lora_dim} is more than serve.max_lora_rank "
                f"{self.serve.max_lora_rank}: the server would refuse the adapter; raise the latter"
            )
        return self

    @model_validator(mode="after")
    def _server_takes_what_was_trained(self) -> Self:
        if self.train.seq_length == "auto":
            return self  # known when training ends; the server then refuses what is too long
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

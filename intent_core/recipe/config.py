"""The recipe as one `PipelineConfig` tree; `loader.py` reads it from YAML.

A recipe defines the model and the requirements it must meet. Locations (servers, stores, API keys)
are settings: see `tasks/settings/__init__.py`. Hyperparameters have the names that the PAI guide
uses (`lora_dim`, `seq_length`, `load_in_4bit`, ...).
"""

import hashlib
from typing import Annotated, Any, Literal, Self, get_args

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from intent_core.language.conversation import DEFAULT_SPEAKERS, Speakers
from intent_core.language.prompt import DEFAULT_SYSTEM_PROMPT
from intent_core.language.vocabulary import Vocabulary
from intent_core.recipe.choices import Drafting, ExportFormat, Leniency, Normalisation, Rule, Stage

Rate = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A frozen section of the recipe; an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Template(Section):
    """The questions of a labelling template: one for the intent, one for each slot."""

    intent: str
    """Title of the question that has the name of the intent."""
    slots: tuple[str, ...] = ()
    """Titles of the questions that have the values, in the order of the call's arguments."""


class DataConfig(Section):
    """Reading an iTAG export and building a dataset from it."""

    utterance_field: str = "instruction"
    """Key under `data` that contains the utterance."""
    tag_fields: tuple[str, ...] = ()
    """Other keys under `data`, e.g. `channel`; reports show scores by their values. (Rows of
    training JSON have them in an object `tags`, and can have a list `alternatives` of other correct
    outputs.)"""
    group_by: Annotated[str | None, Field(exclude_if=lambda key: key is None)] = None
    """Key under `data` that names the source of an utterance, e.g. `dialogue` or `speaker`. All
    utterances of one source are in the same split."""
    question_title: str = "output"
    """Title of the question in the labelling template whose answer is the calls."""
    format: Annotated[ExportFormat, Field(exclude_if=lambda name: name == "auto")] = "auto"
    """The format of the rows; `auto` detects it from each row."""
    template: Annotated[Template | None, Field(exclude_if=lambda template: template is None)] = None
    """Questions of a template that has intent and slots in separate questions, e.g.
    {intent: intent, slots: [city]}. Not set: one question has the calls."""
    vocabulary: Annotated[Vocabulary | None, Field(exclude_if=lambda known: known is None)] = None
    """The label vocabulary: `intents.yaml` in the recipe's folder if there is one, or the file that
    is named here (a path from that folder). `null`: none, whatever the folder has."""
    named_arguments: Annotated[bool, Field(exclude_if=lambda is_set: not is_set)] = False
    """Train and test with the slot of each value in the label, `weather_search(city=Hangzhou)`,
    where the vocabulary names all values of a call."""
    speakers: Annotated[Speakers, Field(exclude_if=lambda names: names == DEFAULT_SPEAKERS)] = (
        DEFAULT_SPEAKERS
    )
    """Names of the speakers in conversations: {user: [...], agent: [...]}. A list replaces the
    default names. Turns of an agent are never an utterance."""
    stages: tuple[Stage, ...] = ("verify", "check", "label", "system")
    """Order of preference when several stages have an answer; the first one wins."""
    fixed_flag: Literal["prefer", "ignore"] = "prefer"
    """`prefer`: a `-system` answer marked `fixedFlag` is a correction and replaces the label."""
    annotators: Literal["majority", "first", "reject"] = "majority"
    """Which answer to use when annotators disagree. `reject`, or a tie, rejects the row."""
    abandoned: Literal["any", "row"] = "any"
    """Which `abandonFlag` rejects a row: that of any stage, or only that of the row itself."""
    tolerate: tuple[Leniency, ...] = tuple(
        kind for kind in get_args(Leniency) if kind != "bare-intent"
    )
    """Deviations from the format that are read and reported. A row with any other is rejected."""
    duplicates: Literal["drop", "keep"] = "drop"
    """Drop or keep repeats: the same utterance with the same label."""
    conflicts: Literal["reject", "latest", "majority"] = "reject"
    """Which label to use if the same utterance has different labels. `reject`: leave it out."""
    near_duplicates: Literal["keep", "drop"] = "keep"
    """Drop or keep near-duplicates in the training split. Near-duplicates in different splits are
    always left out of one of them."""
    near_duplicate_similarity: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Smallest similarity of near-duplicates: the fraction of character n-grams that two utterances
    share (Jaccard index)."""
    stop_on: tuple[Rule, ...] = ()
    """Rules of the data check that stop the run if they are broken."""
    max_rejection_rate: Rate = 0.05
    """Maximum fraction of rejected rows; above it the run stops."""
    test_uri: str | None = None
    """A fixed test set ([{"instruction", "output"}]), never used for training. Not set: a part of
    the export is held out."""
    test_fraction: Rate = 0.1
    """Fraction of utterances held out for the test split if `test_uri` is not set."""
    validation_fraction: Rate = 0.05
    """Fraction of utterances held out for the validation split, which monitors training and probes
    the served model."""
    split_seed: int = 0
    """Seed of the split. Reports on different test splits cannot be compared."""

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if self.named_arguments and self.vocabulary is None:
            raise ValueError(
                "named_arguments requires a vocabulary: put intents.yaml next to the recipe, or "
                "name a file in data.vocabulary"
            )
        return self


class TrainConfig(Section):
    """Fine-tuning; the keys have the names that the PAI guide uses (table 1)."""

    method: Literal["full", "lora", "qlora"] = "lora"
    """Train all weights, low-rank adapters, or low-rank adapters over a quantised base model."""
    base_model: str = "smollm2-135m-instruct"
    """`smollm2-135m-instruct` (embedded), a folder with a transformers model, the `s3://...` or
    `oss://...` URI of such a folder, or `owner/name@commit` on a model hub."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 5e-5
    """Peak learning rate, reached after the warm-up."""
    num_train_epochs: Annotated[float, Field(gt=0)] = 1
    """Passes over the training split; fractions are allowed."""
    global_batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Samples per optimizer step, over all devices. `auto`: 256, or less if an epoch would have
    fewer than 30 steps."""
    per_device_train_batch_size: Annotated[int, Field(ge=1)] = 8
    """Samples per packed row on one device; halved if the device runs out of memory."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] | None = None
    """Sets the samples per step as the PAI guide does: devices x per_device_train_batch_size x this
    value. Not set: derived from `global_batch_size`."""
    seq_length: Annotated[int, Field(ge=16, le=32768)] | Literal["auto"] = 128
    """Maximum tokens of a sample; a longer sample is rejected and not trained. `auto`: the smallest
    power of two that fits all samples that the base model supports."""
    lora_dim: Annotated[int, Field(ge=0, le=512)] = 32
    """Rank of the adapters; ignored with `full`."""
    lora_alpha: Annotated[int, Field(ge=0)] = 32
    """The output of the adapters is scaled by `lora_alpha` / `lora_dim`; ignored with `full`."""
    load_in_4bit: bool = False
    """QLoRA only: load the base model in 4-bit nf4, the default of the PAI guide."""
    load_in_8bit: bool = False
    """QLoRA only: load the base model in 8 bits."""
    apply_chat_template: Literal[True] = True
    """Format samples with the model's chat template, as in serving. Cannot be disabled."""
    system_prompt: str = DEFAULT_SYSTEM_PROMPT
    """System prompt in training, evaluation and serving."""
    freeze_embeddings: bool = False
    """Full fine-tuning only: do not train the token embeddings."""
    freeze_layers: Annotated[int, Field(ge=0)] = 0
    """Full fine-tuning only: number of first layers not to train. Layers below the first trained
    one need only a forward pass."""
    fsdp: bool = False
    """Full fine-tuning on several devices: divide weights, gradients and optimizer state among
    them, for models that do not fit on one device."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Fraction of the steps in which the learning rate rises."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls to 0 after the warm-up. `constant`: no warm-up and no decay."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of the AdamW optimizer."""
    save_steps: Annotated[int, Field(ge=1)] = 50
    """Optimizer steps between checkpoints."""
    best_checkpoint: Literal["last", "validation_loss", "exact_match"] = "last"
    """Which weights to keep: the last ones, or those of the checkpoint with the best result on the
    validation split (`exact_match`: every token of the answer is correct)."""
    early_stopping_patience: Annotated[int, Field(ge=0)] = 0
    """Stop training after this many checkpoints without improvement; 0: never. Requires
    `best_checkpoint`."""
    seed: int = 42
    """Seed of the sample order and of the adapters' initial weights."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of training. `auto`: bfloat16 if the device supports it natively, otherwise
    float32."""
    save_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of the saved weights. The same weights are evaluated and served."""

    @model_validator(mode="after")
    def _methods_agree(self) -> Self:
        if self.load_in_4bit and self.load_in_8bit:
            raise ValueError("load_in_4bit and load_in_8bit are both true: set only one of them")
        quantised = self.load_in_4bit or self.load_in_8bit
        if self.method == "qlora" and not quantised:
            raise ValueError("method 'qlora' requires load_in_4bit: true or load_in_8bit: true")
        if self.method != "qlora" and quantised:
            raise ValueError(
                f"load_in_4bit and load_in_8bit require method 'qlora', but it is {self.method!r}"
            )
        if self.method != "full" and self.lora_dim == 0:
            raise ValueError(
                f"method {self.method!r} requires lora_dim > 0; the PAI guide recommends 64"
            )
        if self.method != "full" and (self.freeze_embeddings or self.freeze_layers):
            raise ValueError(
                f"freeze_embeddings and freeze_layers require method 'full', but it is "
                f"{self.method!r}, which never trains the base model's weights: remove them"
            )
        if self.method != "full" and self.fsdp:
            raise ValueError(
                f"fsdp requires method 'full', but it is {self.method!r}, which trains a copy of "
                "the model on each device: set fsdp: false"
            )
        if self.freeze_layers and not self.freeze_embeddings:
            raise ValueError(
                f"freeze_layers is {self.freeze_layers}, which requires freeze_embeddings: true, "
                "because the embeddings are below the layers"
            )
        return self

    @model_validator(mode="after")
    def _batches_agree(self) -> Self:
        samples, per_device = self.global_batch_size, self.per_device_train_batch_size
        if samples != "auto" and self.gradient_accumulation_steps:
            raise ValueError(
                "global_batch_size and gradient_accumulation_steps both set the samples per step: "
                "remove one of them"
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
                "early_stopping_patience requires best_checkpoint: validation_loss or exact_match"
            )
        return self


class EvaluateConfig(Section):
    """Evaluating the candidate on the test split."""

    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 64
    """Maximum tokens of an answer; longer answers are cut off."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 32
    """Number of utterances sent to the server at the same time."""
    ordered_calls: bool = False
    """Whether the calls of an answer must be in the labelled order to be correct. (`exact_match`
    always requires the order.)"""
    normalise_values: tuple[Normalisation, ...] = ()
    """Differences between values to ignore: `nfkc`, `full-width` letters and digits, letter `case`,
    `traditional` and Simplified Chinese, `spaces`, `mixed-spaces` (播放 ABC and 播放ABC), clock
    `times` (八点一刻 and 8:15), `numbers` (5 and 5.0, 三万 and 30000, 20% and 百分之二十),
    `numerals` of another script anywhere in a value (第三集 and 第3集)."""
    abstain_below: Rate | Literal["auto"] | None = None
    """Confidence below which an answer counts as `out_of_scope()`. `auto`: the value with the best
    exact match on the validation split."""
    group_by: str | None = None
    """Tag whose value identifies the source of an utterance (a dialogue, a caller). Intervals and
    tests then treat each source as one observation."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 120
    """Timeout of one attempt of a request, in seconds."""

    @model_validator(mode="before")
    @classmethod
    def _ignore_constrained(cls, fields: Any) -> Any:
        """Read the records of earlier versions; `loader.py` refuses the key in a recipe."""
        if isinstance(fields, dict):
            return {key: value for key, value in fields.items() if key != "constrained"}
        return fields


class GateConfig(Section):
    """Quality gate: what a candidate must meet before it gets any traffic."""

    min_intent_accuracy: Rate = 0.9
    """Minimum fraction of test utterances with all intents correct."""
    min_parameter_accuracy: Rate = 0.6
    """Minimum fraction of test utterances with all intents and values correct."""
    min_test_examples: Annotated[int, Field(ge=1)] = 100
    """Minimum number of utterances in the test split."""
    minimums: dict[str, Rate] = Field(default={})
    """Minimum value by metric. `intent_accuracy` and `parameter_accuracy` here override the two
    keys above."""
    max_regression: Rate = 0.02
    """How far the candidate's accuracy can be below the champion's on the same test set."""
    compare: Literal["value", "lower_bound"] = "value"
    """Compare the measured rate, or the lower end of its 95 % interval. Against the champion:
    compare the measured difference, or the lower end of the interval of the paired difference."""
    min_per_intent: Rate | None = None
    """Minimum exact match of each intent. An intent below it rejects the candidate if the
    difference is significant (5 % level, Holm correction over all intents)."""
    min_per_intent_support: Annotated[int, Field(ge=1)] = 20
    """Minimum number of test utterances for `min_per_intent` to apply to an intent."""
    min_per_slice: dict[str, Rate] = Field(default={})
    """Minimum exact match by slice, e.g. {"intents=several": 0.5}. A slice that is missing in the
    test split rejects the candidate."""
    max_latency_p95_ms: Annotated[float, Field(gt=0)] | None = None
    """Maximum p95 latency in milliseconds."""
    blocking_findings: tuple[Rule, ...] = ()
    """Rules of the data check that reject the candidate if they are broken."""
    mode: Literal["enforce", "manual", "dry_run"] = "enforce"
    """`enforce`: promote a candidate that passes. `manual`: wait for approval first. `dry_run`:
    record the decision and promote nothing."""
    approval_timeout_hours: Annotated[float, Field(gt=0)] = 72
    """How long a `manual` gate waits for approval; after that the candidate is not promoted."""

    @property
    def required(self) -> dict[str, float]:
        """Return the minimum of every metric that has one."""
        return {
            "intent_accuracy": self.min_intent_accuracy,
            "parameter_accuracy": self.min_parameter_accuracy,
            **self.minimums,
        }


class ServeConfig(Section):
    """Serving the model with vLLM."""

    mode: Literal["merged", "adapter"] = "merged"
    """`merged`: merged weights, one server per model. `adapter`: LoRA adapters on one server of
    their base model, which can switch adapters within a second."""
    alias: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")] = "intent"
    """Public model name that callers use; the same for all versions."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of serving. `auto`: vLLM's choice on a GPU; on a CPU bfloat16 if supported
    natively, otherwise float32."""
    max_model_len: Annotated[int, Field(ge=64)] = 512
    """Maximum tokens of prompt and answer together; at least `train.seq_length` plus
    `evaluate.max_new_tokens`."""
    max_num_seqs: Annotated[int, Field(ge=1)] = 32
    """Number of answers that a server generates at the same time; other requests wait."""
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256] = 64
    """Largest adapter rank that a server accepts; the PAI guide recommends 64."""
    data_parallel_size: Annotated[int, Field(ge=1)] = 1
    """Number of copies of the model in one server; each copy uses one GPU."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Fraction of GPU memory for one server. Two servers must fit during a promotion."""
    grounded: Annotated[
        Literal["auto", "always", "never"], Field(exclude_if=lambda mode: mode == "auto")
    ] = "auto"
    """Allow only answers with known intents and with values that the utterance contains, letter by
    letter, or that the intent allows. `auto`: if the training labels copy their values so."""
    startup_timeout_s: Annotated[float, Field(gt=0)] = 600
    """Timeout for the start of a server, in seconds."""
    drafter: Annotated[Drafting, Field(exclude_if=lambda when: when == "auto")] = "auto"
    """Drafts of answers (speculative decoding). `auto`: merged weights on a CPU, if the model has a
    draft table. `always`: also on a GPU; without a table, vLLM's drafts from the prompt."""


class PipelineConfig(Section):
    """Everything that defines one model, independent of where it is trained and served."""

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
        if self.serve.drafter == "always":
            raise ValueError("serve.drafter 'always' requires merged weights: set it to 'auto'")
        if self.train.method == "full":
            raise ValueError(
                "serve.mode 'adapter' requires LoRA adapters, but train.method is 'full': set "
                "train.method to 'lora' or 'qlora', or serve.mode to 'merged'"
            )
        if self.train.lora_dim > self.serve.max_lora_rank:
            raise ValueError(
                f"train.lora_dim {self.train.lora_dim} is larger than serve.max_lora_rank "
                f"{self.serve.max_lora_rank}, so the server would reject the adapter: raise "
                "serve.max_lora_rank"
            )
        return self

    @model_validator(mode="after")
    def _server_takes_what_was_trained(self) -> Self:
        if self.train.seq_length == "auto":
            return self  # the length is known only after training; the server checks it then
        needed = self.train.seq_length + self.evaluate.max_new_tokens
        if self.serve.max_model_len < needed:
            raise ValueError(
                f"serve.max_model_len {self.serve.max_model_len} is less than train.seq_length + "
                f"evaluate.max_new_tokens: set it to {needed} or more"
            )
        return self


def fingerprint(*parts: object) -> str:
    """Return the first 16 hex digits of the SHA-256 of the parts' content.

    Args:
        parts: JSON values, pydantic models and strings; key order does not matter.
    """
    plain = [p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts]
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]

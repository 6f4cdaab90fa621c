"""Samples that are too long to be trained: left out, with their reasons and places."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from intent_core.datasets.manifest import Example
from intent_core.datasets.provenance import read_origins
from intent_core.datasets.sample_length import judge_length
from intent_core.datasets.splits import SplitName
from intent_core.exports.files.json_rows import RejectionReason
from intent_core.exports.records import Tally, check_rejections
from intent_core.files import write_jsonl
from intent_core.recipe.config import DataConfig, TrainConfig
from intent_core.training.packing import EncodedExample
from intent_core.training.protocol import TOO_LONG_FILE, TrainingJob


class LongSample(BaseModel):
    """A sample that is not trained, with its place and the reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    split: SplitName
    source: str
    """URI of the export; without a dataset the file of the split."""
    line: int
    reason: RejectionReason
    message: str
    instruction: str
    output: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.message}"


class EncodedSample(NamedTuple):
    """A sample before and after its encoding."""

    example: Example
    encoded: EncodedExample


def find_long(
    samples: Iterable[EncodedSample],
    split: SplitName,
    file: Path,
    config: TrainConfig,
    positions: int | None,
) -> list[LongSample]:
    """Return the samples of a split that are too long to be trained; places are in its file."""
    return [
        LongSample(
            id=example.id,
            split=split,
            source=file.name,
            line=line,
            reason=fault.reason,
            message=fault.message,
            instruction=example.instruction,
            output=example.output,
        )
        for line, (example, encoded) in enumerate(samples, 1)
        if (fault := judge_length(len(encoded), config, positions))
    ]


def place_in_export(job: TrainingJob, samples: Sequence[LongSample]) -> list[LongSample]:
    """Return the samples with their places in the export, as far as the dataset states them."""
    if not samples or job.dataset is None or not job.dataset.origins:
        return list(samples)
    ids = {_strip_repeat(sample.id) for sample in samples}
    origins = read_origins(
        job.train_file.parent / job.dataset.origins,
        lambda match: match.origin.id in ids and match.origin.split != "test",
    )
    # In reverse, so that the first of several equal rows remains.
    places = {
        origin.id: {"source": source.uri, "line": origin.line}
        for origin, source in reversed(list(origins))
    }
    return [s.model_copy(update=places.get(_strip_repeat(s.id), {})) for s in samples]


def write_long(folder: Path, samples: Sequence[LongSample]) -> None:
    """Write the samples next to the result; no file if there are none."""
    path = folder / TOO_LONG_FILE
    path.unlink(missing_ok=True)
    if samples:
        write_jsonl(samples, path)


def check_long(job: TrainingJob, samples: Sequence[LongSample], num_samples: int) -> None:
    """Raise `DataError` if too many rows are rejected, counting the samples that are too long.

    Like `intent check`, but samples of the test split are evaluated whatever their length.
    """
    if not samples:
        return
    dataset = job.dataset
    tally, source = Tally(num_records=num_samples), job.train_file.name
    max_rate = DataConfig().max_rejection_rate
    if dataset:
        source, max_rate = dataset.source, dataset.max_rejection_rate
        tally = Tally(
            num_records=dataset.num_records,
            num_rejections=dataset.num_rejections,
            reasons=Counter(dataset.rejections),
        )
    for sample in samples:
        tally.withdraw(sample.reason, str(sample))
    check_rejections(tally, source, max_rate)


def _strip_repeat(name: str) -> str:
    return name.partition("-")[0]

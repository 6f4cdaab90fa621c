"""The files of a dataset: examples, splits and manifest."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from intent_core.datasets.splits import SplitName
from intent_core.files import read_jsonl
from intent_core.language.intent_schema import IntentSchema
from intent_core.quality.findings import Finding
from intent_core.recipe.config import fingerprint

REJECTIONS_FILE = "rejections.jsonl"
REPORTS_FILE = "reports.jsonl"
FINDINGS_FILE = "data_check.md"
"""Findings of the data check as a page for the user, next to the splits."""


class Example(BaseModel):
    """One utterance and the answer that the model must give."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Hash of the normalised utterance; repeats in a fixed test set have the suffix `-2`, `-3`."""
    instruction: str
    output: str
    alternatives: tuple[str, ...] = ()
    """Other correct calls besides `output`; for a test set."""
    tags: dict[str, str] = {}
    """Properties of the utterance, e.g. {"channel": "phone"}; reports show scores by tag."""


class Split(BaseModel):
    """One split: a file, with its path relative to the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    num_examples: int
    sha256: str


class DatasetManifest(BaseModel):
    """Content and origin of a dataset, with the counts of its export's rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    fingerprint: str
    """Fingerprint of all three splits and of the vocabulary."""
    test_fingerprint: str
    """Fingerprint of the test split; only reports with the same one can be compared."""
    source: str
    """URI of the export."""
    source_sha256: str
    source_etag: str = ""
    source_version: str | None = None
    """Version of the export in the object store, if the store keeps versions."""
    origins: str = ""
    """File with the origin of each row, next to the splits; "" in datasets of older versions."""
    forgotten: tuple[str, ...] = ()
    """Entries of the erasure list that excluded rows; part of the fingerprint."""
    splits: dict[SplitName, Split]
    intents: tuple[IntentSchema, ...]
    """Intent schema of the training split."""
    vocabulary: str = ""
    """SHA-256 of the label vocabulary in `intents.json` next to the splits; "" without one."""
    num_records: int
    num_rejections: int
    rejections: dict[str, int] = {}
    """Number of rejected rows by reason."""
    max_rejection_rate: float = 0.05
    """`data.max_rejection_rate` of the recipe; samples that are too long to be trained also count.
    """
    num_duplicates: int
    """Number of records that repeat another record."""
    num_conflicts: int
    """Number of utterances with different labels; each is a line of `conflicts.jsonl`."""
    num_near_duplicates: int
    """Number of training and validation utterances with a near-duplicate among them."""
    num_left_out: int
    """Number of utterances with a near-duplicate or their group in another split; lines of
    `left_out.jsonl`."""
    findings: tuple[Finding, ...]

    @property
    def text_fingerprint(self) -> str:
        """Fingerprint of the splits without the vocabulary: what a model is trained on."""
        if not self.vocabulary:
            return self.fingerprint
        digests = {name: split.sha256 for name, split in self.splits.items()}
        return fingerprint_dataset(digests, self.forgotten)


def fingerprint_dataset(
    digests: Mapping[SplitName, str], forgotten: Sequence[str], vocabulary: str = ""
) -> str:
    """Return the fingerprint of a dataset.

    Args:
        digests: SHA-256 of each split.
        forgotten: entries of the erasure list that excluded rows, sorted.
        vocabulary: SHA-256 of the label vocabulary; "" without one.
    """
    more: list[object] = [list(forgotten)] if forgotten else []
    more += [{"vocabulary": vocabulary}] if vocabulary else []
    return fingerprint(dict(digests), *more)


def read_split(path: Path) -> list[Example]:
    """Read the examples of a split.

    Args:
        path: the JSON lines file of the split.

    Raises:
        DataError: the file cannot be read, or a line is not an example.
    """
    return read_jsonl(path, Example, "an example", "build the dataset again")

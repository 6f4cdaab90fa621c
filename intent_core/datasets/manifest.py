"""A dataset as others read it: its examples, its splits, its manifest."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from intent_core.datasets.splits import SplitName
from intent_core.files import read_jsonl
from intent_core.language.intent_schema import IntentSchema
from intent_core.quality.findings import Finding

REJECTIONS_FILE = "rejections.jsonl"
REPORTS_FILE = "reports.jsonl"
CONFLICTS_FILE = "conflicts.jsonl"
LEFT_OUT_FILE = "left_out.jsonl"
LABEL_ERRORS_FILE = "label_errors.jsonl"
FINDINGS_FILE = "data_check.md"
"""What stands beside the splits for a person to look at."""


class Example(BaseModel):
    """One utterance as the model sees it, and the answer it must give."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Hash of the normalised utterance; a repeat in a given test set has `-2` after it."""
    instruction: str
    output: str
    alternatives: tuple[str, ...] = ()
    """Other calls that are as right as `output`; for a test set."""
    tags: dict[str, str] = {}
    """What else is known of the utterance, such as {"channel": "phone"}: reports slice by it."""


class Split(BaseModel):
    """One file of the dataset, relative to the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    num_examples: int
    sha256: str


class DatasetManifest(BaseModel):
    """What a dataset is, and what became of every row of its export."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    fingerprint: str
    """Names the three splits' content."""
    test_fingerprint: str
    """Names the test split's content: reports compare only on the same one."""
    source: str
    """URI of the export."""
    source_sha256: str
    source_etag: str = ""
    source_version: str | None = None
    """The store's own version of the export, where it keeps versions."""
    origins: str = ""
    """Where each row came from: a file beside the splits; "" in datasets made before there was
    one."""
    forgotten: tuple[str, ...] = ()
    """Entries of the erasure list that left rows out; the fingerprint names them, too."""
    splits: dict[SplitName, Split]
    intents: tuple[IntentSchema, ...]
    """The catalogue: the training split's intents and their arguments."""
    num_records: int
    num_rejections: int
    num_duplicates: int
    """Records that say what another one says."""
    num_conflicts: int
    """Utterances labelled in different ways; each is a line of `conflicts.jsonl`."""
    num_near_duplicates: int
    """Training and validation utterances that have a near-duplicate among them."""
    num_left_out: int
    """Utterances with their like on another side; each is a line of `left_out.jsonl`."""
    findings: tuple[Finding, ...]


def read_split(path: Path) -> list[Example]:
    """Read one split's file; `DataError` names the line that is not an example."""
    return read_jsonl(path, Example, "an example", "build the dataset again")

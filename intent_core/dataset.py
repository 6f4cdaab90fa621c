"""Records to a dataset: duplicates and conflicts settled, split, fingerprinted, written.

Two utterances are one when they differ only in width, case or blanks (NFKC, casefold). The
split follows from a hash of the normalised utterance, so an utterance keeps its split as the
export grows. The same records and recipe give the same bytes, in whatever order they come.
The manifest is written last: a folder with a manifest is complete.
"""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from intent_core.calls import parse_calls
from intent_core.config import DataConfig, fingerprint
from intent_core.errors import DataError
from intent_core.itag import Record, Rejection
from intent_core.quality import check_quality, count_intents

SplitName = Literal["train", "validation", "test"]
_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


class Example(BaseModel):
    """One utterance as the model sees it, and the answer it must give."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Hash of the normalised utterance; a repeat in a given test set has `-2` after it."""
    instruction: str
    output: str


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
    splits: dict[SplitName, Split]
    intents: dict[str, int]
    """Utterances per intent in the training split."""
    num_records: int
    num_rejections: int
    num_duplicates: int
    """Records left out because another one says the same."""
    num_conflicts: int
    """Utterances labelled in different ways; each is a line of `conflicts.jsonl`."""
    findings: tuple[str, ...]


class _Settled(NamedTuple):
    """Unique records by normalised utterance, and what was settled on the way."""

    kept: dict[str, Record]
    num_duplicates: int
    conflicts: list[dict[str, object]]


def build_dataset(
    records: Sequence[Record],
    config: DataConfig,
    out_dir: Path,
    *,
    uri: str,
    source: str,
    source_sha256: str,
    num_rejections: int,
    external_test: Sequence[Record] | None,
) -> DatasetManifest:
    """Write the splits, `conflicts.jsonl` and `manifest.json` to `out_dir`.

    An `external_test` is the test split as it stands; its utterances leave the other two.
    """
    settled = _settle(records, config)
    splits, findings = _split(settled.kept, config, external_test)
    _check_not_empty(splits, external_test is not None)
    labels = {name: [parse_calls(e.output) for e in splits[name]] for name in _SPLITS}
    findings += _describe_conflicts(settled.conflicts)
    findings += [str(finding) for finding in check_quality(labels["train"], labels["test"])]
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "manifest.json").unlink(missing_ok=True)
    written = {name: _write_split(splits[name], out_dir, name) for name in _SPLITS}
    _write_atomically(out_dir / "conflicts.jsonl", _to_jsonl(settled.conflicts))
    manifest = DatasetManifest(
        uri=uri,
        fingerprint=fingerprint({name: split.sha256 for name, split in written.items()}),
        test_fingerprint=fingerprint(written["test"].sha256),
        source=source,
        source_sha256=source_sha256,
        splits=written,
        intents=count_intents(labels["train"]),
        num_records=len(records),
        num_rejections=num_rejections,
        num_duplicates=settled.num_duplicates,
        num_conflicts=len(settled.conflicts),
        findings=tuple(findings),
    )
    _write_atomically(out_dir / "manifest.json", _to_json(manifest.model_dump(mode="json")))
    return manifest


def read_split(path: Path) -> list[Example]:
    """Read one split's file; `DataError` names the line that is not an example."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): build the dataset") from error
    examples = []
    for number, line in enumerate(lines, 1):
        try:
            examples.append(Example.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
            raise DataError(
                f"{path}:{number}: not an example ({problem}): build the dataset again"
            ) from error
    return examples


def write_training_json(records: Iterable[Record], path: Path) -> None:
    """Write the documents' training format, `[{"instruction", "output"}]`."""
    rows = [{"instruction": record.utterance, "output": record.output} for record in records]
    _write_atomically(path, _to_json(rows))


def write_rejections(rejections: Iterable[Rejection], path: Path) -> None:
    """Write rejections as JSONL, one a line."""
    _write_atomically(path, _to_jsonl(rejection.model_dump() for rejection in rejections))


def normalise_utterance(utterance: str) -> str:
    """What two spellings of one utterance have in common: width, case and blanks are dropped."""
    folded = unicodedata.normalize("NFKC", utterance).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def _settle(records: Iterable[Record], config: DataConfig) -> _Settled:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(normalise_utterance(record.utterance), []).append(record)
    settled = _Settled({}, 0, [])
    num_duplicates = 0
    for normalised, group in sorted(groups.items()):
        # Spelling and order of the export must not decide the bytes written.
        group.sort(key=lambda r: (r.source, r.object_index, r.utterance, r.output))
        outputs = Counter(record.output for record in group)
        num_duplicates += len(group) - len(outputs)
        kept = group[0] if len(outputs) == 1 else _resolve(group, outputs, config)
        if kept:
            settled.kept[normalised] = kept
        if len(outputs) > 1:
            settled.conflicts.append(_conflict(group, kept))
    return settled._replace(num_duplicates=num_duplicates)


def _resolve(group: Sequence[Record], outputs: Counter[str], config: DataConfig) -> Record | None:
    if config.conflicts == "latest":
        return max(group, key=lambda r: (r.version or 0, r.source, r.object_index))
    (winner, most), (_, next_most) = outputs.most_common(2)
    if config.conflicts == "majority" and most > next_most:
        return next(record for record in group if record.output == winner)
    return None


def _conflict(group: Sequence[Record], kept: Record | None) -> dict[str, object]:
    fields = {"utterance", "output", "source", "line", "stage", "version"}
    return {
        "utterance": group[0].utterance,
        "kept": kept.output if kept else None,
        "records": [record.model_dump(include=fields) for record in group],
    }


def _describe_conflicts(conflicts: Sequence[dict[str, object]]) -> list[str]:
    if not conflicts:
        return []
    rejected = sum(conflict["kept"] is None for conflict in conflicts)
    return [
        f"warning conflicts: {len(conflicts)} utterance(s) are labelled in different ways, "
        f"{rejected} left out; see conflicts.jsonl"
    ]


def _split(
    kept: dict[str, Record], config: DataConfig, external_test: Sequence[Record] | None
) -> tuple[dict[SplitName, list[Example]], list[str]]:
    splits: dict[SplitName, list[Example]] = {"train": [], "validation": [], "test": []}
    findings = []
    test_fraction = config.test_fraction
    if external_test is not None:
        tested = {normalise_utterance(record.utterance) for record in external_test}
        overlap = len(tested & kept.keys())
        if overlap:
            findings.append(f"note test-overlap: {overlap} utterance(s) of the test never train")
        kept = {key: record for key, record in kept.items() if key not in tested}
        splits["test"] = _test_examples(external_test)
        test_fraction = 0.0
    for normalised, record in kept.items():
        example = Example(id=_hash(normalised), instruction=record.utterance, output=record.output)
        splits[_assign(normalised, test_fraction, config.validation_fraction)].append(example)
    return splits, findings


def _assign(normalised: str, test_fraction: float, validation_fraction: float) -> SplitName:
    place = int(_hash("split", normalised), 16) / 2**64
    if place < test_fraction:
        return "test"
    return "validation" if place < test_fraction + validation_fraction else "train"


def _test_examples(records: Sequence[Record]) -> list[Example]:
    seen: Counter[str] = Counter()
    examples = []
    for record in sorted(records, key=lambda r: (r.utterance, r.output)):
        name = _hash(normalise_utterance(record.utterance))
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name}-{seen[name]}"
        examples.append(Example(id=unique, instruction=record.utterance, output=record.output))
    return examples


def _check_not_empty(splits: dict[SplitName, list[Example]], is_external: bool) -> None:
    if not splits["train"]:
        raise DataError(
            "no utterance is left to train on: label more, or lower data.test_fraction and "
            "data.validation_fraction"
        )
    if not splits["test"]:
        remedy = (
            "give data.test_uri a file with examples"
            if is_external
            else "label more, raise data.test_fraction, or set data.test_uri"
        )
        raise DataError(f"no utterance fell to the test split: {remedy}")


def _write_split(examples: Iterable[Example], out_dir: Path, name: SplitName) -> Split:
    ordered = sorted(examples, key=lambda example: example.id)
    content = _to_jsonl(example.model_dump() for example in ordered)
    _write_atomically(out_dir / f"{name}.jsonl", content)
    digest = hashlib.sha256(content).hexdigest()
    return Split(file=f"{name}.jsonl", num_examples=len(ordered), sha256=digest)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _to_jsonl(rows: Iterable[dict[str, object]]) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def _to_json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)

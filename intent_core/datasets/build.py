"""Build a dataset from records: deduplicate, check, split, fingerprint and write them.

Utterances that differ only in width, case or whitespace (NFKC, casefold) are the same utterance.
Its split depends only on its text (`splits.py`). The same records and recipe give the same bytes,
in any order. The manifest is written last, so a folder with a manifest is complete.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import orjson

from intent_core.datasets.deduplicate import Deduplication, deduplicate
from intent_core.datasets.manifest import DatasetManifest, Example, Split, fingerprint_dataset
from intent_core.datasets.named_arguments import name_arguments, report_unnamed
from intent_core.datasets.provenance import ExportSource, Placed, write_origins
from intent_core.datasets.splits import SPLITS, Placement, SplitName, place_utterances
from intent_core.errors import DataError
from intent_core.exports.records import MadeRows, Record, describe_place
from intent_core.files import to_jsonl, write_atomically
from intent_core.language.calls import Call, fold_label, parse_calls
from intent_core.language.intent_schema import list_intents
from intent_core.language.utterances import hash_text, normalise_utterance
from intent_core.language.vocabulary import Vocabulary
from intent_core.language.vocabulary_copy import COPY_FILE, write_copy
from intent_core.quality.coverage import check_quality
from intent_core.quality.findings import (
    Corpus,
    FindingRow,
    stop_on_findings,
    write_finding_rows,
)
from intent_core.quality.label_errors import find_label_errors
from intent_core.recipe.config import DataConfig, fingerprint

_INDENTED = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


def build_dataset(
    records: Sequence[Record],
    config: DataConfig,
    out_dir: Path,
    *,
    uri: str,
    source: ExportSource,
    rejections: Mapping[str, int],
    external_test: Sequence[Record] | None,
    test_source: ExportSource | None = None,
    forgotten: Sequence[str] = (),
) -> DatasetManifest:
    """Build a dataset and write its files: splits, conflicts, left-out rows, origins, manifest.

    Args:
        records: the usable rows of the export.
        config: the `data` section of the recipe.
        out_dir: folder to write to; created if missing.
        uri: URI of the dataset, for the manifest.
        source: the export.
        rejections: number of rejected rows by reason, for the manifest.
        external_test: records of a fixed test set. They become the test split unchanged, and their
            utterances are removed from the other splits. None: hold out a part of `records`.
        test_source: the file of the fixed test set.
        forgotten: names of the erasure list entries that excluded rows of `records`.

    Raises:
        DataError: the training or test split is empty, no row has a value under `config.group_by`,
            or a rule in `config.stop_on` is broken.
        ConfigError: there are too many near-duplicates to compare.
    """
    if config.named_arguments and config.vocabulary:
        records = name_arguments(records, config.vocabulary)
        external_test = external_test and name_arguments(external_test, config.vocabulary)
    unique, placement = _place(records, config, external_test)
    splits = _make_examples(unique, placement, external_test)
    _check_not_empty(splits, config, external_test is not None, len(placement.left_out))
    corpus = _gather(splits["test"], unique, placement, external_test or ())
    results = check_quality(corpus._replace(vocabulary=config.vocabulary))
    if config.named_arguments:
        results = (*results, *report_unnamed([*records, *(external_test or ())]))
    findings = tuple(result.finding for result in results)
    stop_on_findings(findings, config.stop_on)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "manifest.json").unlink(missing_ok=True)
    written = {name: _write_split(splits[name], out_dir, name) for name in SPLITS}
    write_finding_rows(results, out_dir)
    tested_too = [(test_source, external_test)] if test_source and external_test else []
    sources, read = zip((source, records), *tested_too, strict=True)
    digests = {name: split.sha256 for name, split in written.items()}
    vocabulary = _write_vocabulary(config.vocabulary, out_dir)
    manifest = DatasetManifest(
        uri=uri,
        fingerprint=fingerprint_dataset(digests, sorted(forgotten), vocabulary),
        test_fingerprint=fingerprint(written["test"].sha256),
        source=source.uri,
        source_sha256=source.sha256,
        source_etag=source.etag,
        source_version=source.version,
        origins=write_origins(out_dir, sources, read, _list_placed(splits)),
        forgotten=tuple(sorted(forgotten)),
        splits=written,
        intents=list_intents(parse_calls(e.output) for e in splits["train"]),
        vocabulary=vocabulary,
        num_records=len(records),
        num_rejections=sum(rejections.values()),
        rejections=dict(rejections),
        max_rejection_rate=config.max_rejection_rate,
        num_duplicates=len(unique.duplicates),
        num_conflicts=len(unique.conflicts),
        num_near_duplicates=len(placement.alike),
        num_left_out=len(placement.left_out),
        findings=findings,
    )
    write_atomically(
        out_dir / "manifest.json", orjson.dumps(manifest.model_dump(mode="json"), option=_INDENTED)
    )
    return manifest


def _place(
    records: Sequence[Record], config: DataConfig, external_test: Sequence[Record] | None
) -> tuple[Deduplication, Placement]:
    tests = [
        (normalise_utterance(r.utterance), _read_group(r, config)) for r in external_test or ()
    ]
    tested_groups = {group: text for text, group in sorted(tests, reverse=True) if group}
    fixed = None if external_test is None else tested_groups
    unique = deduplicate(records, config, fixed)
    groups = {text: _read_group(kept[0], config) for text, kept in unique.kept.items()}
    utterances = [text for text, _ in tests]
    placement = place_utterances(list(unique.kept), config, utterances, groups, tested_groups)
    return unique, placement


def _read_group(record: Record, config: DataConfig) -> str:
    return record.group if config.group_by else ""


def _make_examples(
    unique: Deduplication, placement: Placement, external_test: Sequence[Record] | None
) -> dict[SplitName, list[Example]]:
    records = {name: unique.kept.select(placement.splits[name]) for name in SPLITS}
    if external_test is not None:
        records["test"] = sorted(external_test, key=lambda r: (r.utterance, r.output))
    return {name: _number_examples(records[name]) for name in SPLITS}


def _number_examples(records: Iterable[Record]) -> list[Example]:
    seen: Counter[str] = Counter()
    examples = []
    for record in records:
        name = hash_text(normalise_utterance(record.utterance))
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name}-{seen[name]}"
        examples.append(
            Example(
                id=unique,
                instruction=record.utterance,
                output=record.output,
                alternatives=record.alternatives,
                tags=dict(record.tags),
            )
        )
    return examples


def _list_placed(splits: Mapping[SplitName, Sequence[Example]]) -> dict[str, Placed]:
    outputs: defaultdict[tuple[str, SplitName], set[str]] = defaultdict(set)
    for name in SPLITS:
        for example in splits[name]:
            outputs[example.id.partition("-")[0], name].add(fold_label(example.output))
    return {key: Placed(name, frozenset(some)) for (key, name), some in outputs.items()}


def _gather(
    test: Sequence[Example],
    unique: Deduplication,
    placement: Placement,
    external_test: Sequence[Record],
) -> Corpus:
    checked = unique.kept.select(text for name in SPLITS[:2] for text in placement.splits[name])
    corpus = make_corpus(checked, unique, placement)
    tested = {normalise_utterance(record.utterance) for record in external_test}
    return corpus._replace(
        test=[parse_calls(example.output) for example in test],
        left_out=[
            {**row._asdict(), "records": [_describe(r) for r in unique.kept[row.utterance]]}
            for row in placement.left_out
        ],
        overlap=[
            _describe(record)
            for utterance in unique.kept
            if utterance in tested
            for record in unique.kept[utterance]
        ],
    )


def make_corpus(records: Sequence[Record], unique: Deduplication, placement: Placement) -> Corpus:
    """Return the input of the data check for some records, with their likely label errors."""
    utterances = [record.utterance for record in records]
    outputs: dict[str, tuple[Call, ...]] = {}
    labels = [_parse_once(record.output, outputs) for record in records]
    names = [";".join(sorted({call.intent for call in calls})) for calls in labels]
    return Corpus(
        utterances=utterances,
        labels=labels,
        places=MadeRows(lambda row: describe_place(records[row]), range(len(records))),
        duplicates=unique.duplicates,
        near_duplicates=_describe_alike(unique, placement.alike),
        conflicts=unique.conflicts,
        suspicions=find_label_errors(utterances, names),
    )


def _parse_once(output: str, known: dict[str, tuple[Call, ...]]) -> tuple[Call, ...]:
    if output not in known:
        known[output] = parse_calls(output)
    return known[output]


def _describe_alike(unique: Deduplication, alike: Mapping[str, str]) -> Sequence[FindingRow]:
    texts = list(alike)

    def describe(number: int) -> FindingRow:
        text = texts[number]
        like = [_describe(record) for record in unique.kept[alike[text]]]
        return {**_describe(unique.kept[text][0]), "like": like}

    return MadeRows(describe, range(len(texts)))


def _describe(record: Record) -> FindingRow:
    row = {"utterance": record.utterance, "output": record.output}
    return row | describe_place(record)


def _check_not_empty(
    splits: dict[SplitName, list[Example]],
    config: DataConfig,
    is_external: bool,
    num_left_out: int,
) -> None:
    hints = ""
    if num_left_out:
        hints += (
            f". {num_left_out} utterance(s) were left out because a near-duplicate is in another "
            "split: label other phrasings, or raise data.near_duplicate_similarity"
        )
    if config.group_by:
        hints += (
            f". All utterances with one value of {config.group_by!r} (data.group_by) are in one "
            "split: label utterances with more values"
        )
    if not splits["train"]:
        raise DataError(
            "the training split is empty: label more utterances, or lower data.test_fraction and "
            f"data.validation_fraction{hints}"
        )
    if not splits["test"]:
        remedy = (
            "set data.test_uri to a file that contains examples"
            if is_external
            else "label more utterances, raise data.test_fraction, or set data.test_uri"
        )
        raise DataError(f"the test split is empty: {remedy}{hints}")


def _write_split(examples: Iterable[Example], out_dir: Path, name: SplitName) -> Split:
    ordered = sorted(examples, key=lambda example: example.id)
    content = to_jsonl(example.model_dump(exclude_defaults=True) for example in ordered)
    write_atomically(out_dir / f"{name}.jsonl", content)
    digest = hashlib.sha256(content).hexdigest()
    return Split(file=f"{name}.jsonl", num_examples=len(ordered), sha256=digest)


def _write_vocabulary(vocabulary: Vocabulary | None, out_dir: Path) -> str:
    """Write the vocabulary, if there is one, and return its SHA-256."""
    (out_dir / COPY_FILE).unlink(missing_ok=True)
    if vocabulary is None:
        return ""
    content = write_copy(vocabulary)
    write_atomically(out_dir / COPY_FILE, content)
    return hashlib.sha256(content).hexdigest()

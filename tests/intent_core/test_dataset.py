"""Records to a dataset: nothing lost, nothing leaked, same input same bytes."""

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from intent_core.calls import parse_calls
from intent_core.config import DataConfig
from intent_core.dataset import (
    DatasetManifest,
    build_dataset,
    normalise_utterance,
    read_split,
    write_rejections,
    write_training_json,
)
from intent_core.errors import DataError
from intent_core.itag import Record, Rejection, read_export


def record(
    utterance: str, output: str = "a()", index: int = 0, version: int | None = None
) -> Record:
    return Record(
        utterance=utterance,
        output=output,
        calls=parse_calls(output),
        source="export.manifest",
        line=index + 1,
        object_index=index,
        stage="label",
        version=version,
    )


def many(count: int, start: int = 0) -> list[Record]:
    return [record(f"utterance {i}", index=i) for i in range(start, start + count)]


def build(
    out_dir: Path,
    records: Sequence[Record],
    external_test: Sequence[Record] | None = None,
    **config: Any,
) -> DatasetManifest:
    return build_dataset(
        records,
        DataConfig(**config),
        out_dir,
        uri="file:///dataset",
        source="file:///export.manifest",
        source_sha256="0" * 64,
        num_rejections=3,
        external_test=external_test,
    )


def utterances(out_dir: Path, name: str) -> set[str]:
    return {example.instruction for example in read_split(out_dir / f"{name}.jsonl")}


def test_every_record_is_in_one_split(tmp_path: Path) -> None:
    manifest = build(tmp_path, many(400))
    names = [utterances(tmp_path, name) for name in ("train", "validation", "test")]
    assert set.union(*names) == {f"utterance {i}" for i in range(400)}
    assert [len(n) for n in names] == [s.num_examples for s in manifest.splits.values()]
    assert sum(len(n) for n in names) == 400
    assert 20 <= len(names[2]) <= 60
    assert 8 <= len(names[1]) <= 35


def test_same_input_same_bytes_in_any_order(tmp_path: Path) -> None:
    records = [*many(200), record("Utterance 7", "a()", 900), record("utterance 8", "b()", 901)]
    first = build(tmp_path / "1", records)
    random.Random(1).shuffle(records)
    second = build(tmp_path / "2", records)
    assert first == second
    for name in ("train.jsonl", "validation.jsonl", "test.jsonl", "conflicts.jsonl"):
        content = (tmp_path / "1" / name).read_bytes()
        assert content == (tmp_path / "2" / name).read_bytes()


def test_an_utterance_keeps_its_split_as_the_export_grows(tmp_path: Path) -> None:
    small, grown = build(tmp_path / "1", many(150)), build(tmp_path / "2", many(300))
    for name in ("train", "validation", "test"):
        assert utterances(tmp_path / "1", name) < utterances(tmp_path / "2", name)
    assert small.fingerprint != grown.fingerprint
    assert small.test_fingerprint != grown.test_fingerprint


def test_the_manifest_names_the_files_as_they_are(tmp_path: Path) -> None:
    manifest = build(tmp_path, many(100))
    for split in manifest.splits.values():
        content = (tmp_path / split.file).read_bytes()
        assert split.sha256 == hashlib.sha256(content).hexdigest()
    stored = (tmp_path / "manifest.json").read_text("utf-8")
    assert DatasetManifest.model_validate_json(stored) == manifest
    assert (manifest.num_records, manifest.num_rejections) == (100, 3)
    assert manifest.intents == {"a": manifest.splits["train"].num_examples}
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "conflicts.jsonl",
        "manifest.json",
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ]


def test_the_manifest_is_gone_while_parts_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path, many(100))

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("intent_core.dataset.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        build(tmp_path, many(120))
    assert not (tmp_path / "manifest.json").exists()


def test_spellings_of_one_utterance_are_one(tmp_path: Path) -> None:
    spellings = ["Play ABC", "play  abc ", "play ＡＢＣ"]
    extra = [record(text, index=500 + i) for i, text in enumerate(spellings)]
    manifest = build(tmp_path, [*many(100), *extra])
    assert manifest.num_duplicates == 2
    assert sum(s.num_examples for s in manifest.splits.values()) == 101
    assert normalise_utterance("Straße ①") == normalise_utterance("STRASSE 1")


CONFLICT = [
    record("same", "a()", 500, version=30),
    record("Same", "b()", 501, version=10),
    record("same ", "b()", 502, version=20),
]


@pytest.mark.parametrize(
    ("conflicts", "kept"), [("reject", None), ("latest", "a()"), ("majority", "b()")]
)
def test_conflicts_are_settled_by_the_recipe_and_never_lost(
    tmp_path: Path, conflicts: str, kept: str | None
) -> None:
    manifest = build(tmp_path, [*many(100), *CONFLICT], conflicts=conflicts)
    examples = [e for s in manifest.splits.values() for e in read_split(tmp_path / s.file)]
    outputs = [e.output for e in examples if normalise_utterance(e.instruction) == "same"]
    assert outputs == ([kept] if kept else [])
    (line,) = (tmp_path / "conflicts.jsonl").read_text("utf-8").splitlines()
    conflict = json.loads(line)
    assert conflict["kept"] == kept
    assert [r["output"] for r in conflict["records"]] == ["a()", "b()", "b()"]
    assert manifest.num_conflicts == 1
    assert any("conflicts" in finding for finding in manifest.findings)


def test_a_tie_is_rejected(tmp_path: Path) -> None:
    manifest = build(tmp_path, [*many(100), *CONFLICT[:2]], conflicts="majority")
    assert sum(s.num_examples for s in manifest.splits.values()) == 100


def test_an_external_test_stands_and_never_trains(tmp_path: Path) -> None:
    external = [record("UTTERANCE 3", "z()"), record("new", "z()"), record("new", "y()")]
    manifest = build(tmp_path, many(100), external)
    tested = read_split(tmp_path / "test.jsonl")
    assert sorted((e.instruction, e.output) for e in tested) == [
        ("UTTERANCE 3", "z()"),
        ("new", "y()"),
        ("new", "z()"),
    ]
    assert len({e.id for e in tested}) == 3
    left = utterances(tmp_path, "train") | utterances(tmp_path, "validation")
    assert left == {f"utterance {i}" for i in range(100)} - {"utterance 3"}
    assert any(f.startswith("note test-overlap: 1 ") for f in manifest.findings)
    other = build(tmp_path / "other", many(50), external)
    assert other.test_fingerprint == manifest.test_fingerprint
    assert other.fingerprint != manifest.fingerprint


@pytest.mark.parametrize(
    ("records", "external", "config", "remedy"),
    [
        ([], None, {}, "label more"),
        (many(100), None, {"test_fraction": 0}, "raise data.test_fraction"),
        (many(100), [], {}, "data.test_uri"),
        (many(100), None, {"test_fraction": 1}, "lower data.test_fraction"),
        (many(5), many(5), {}, "label more"),
    ],
)
def test_an_empty_split_is_an_error(
    tmp_path: Path,
    records: list[Record],
    external: list[Record] | None,
    config: dict[str, float],
    remedy: str,
) -> None:
    with pytest.raises(DataError, match=remedy):
        build(tmp_path, records, external, **config)
    assert not (tmp_path / "manifest.json").exists()


def test_read_split_names_the_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"id":"1","instruction":"u","output":"a()"}\n{"id":"2"}\n')
    with pytest.raises(DataError, match=r"train\.jsonl:2: not an example"):
        read_split(path)
    with pytest.raises(DataError, match=r"none\.jsonl cannot be read"):
        read_split(tmp_path / "none.jsonl")


def test_training_json_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    records = [record("杭州天气", "查天气(杭州)"), record("x", 'f("a,b")')]
    write_training_json(records, path)
    assert "杭州天气" in path.read_text("utf-8")
    assert json.loads(path.read_bytes()) == [
        {"instruction": r.utterance, "output": r.output} for r in records
    ]
    again = read_export(path, DataConfig()).records
    assert [(r.utterance, r.calls) for r in again] == [(r.utterance, r.calls) for r in records]


def test_rejections_read_back(tmp_path: Path) -> None:
    rejection = Rejection(
        line=1, byte_offset=0, object_index=0, reason="not-json", message="m", raw="{\u2028"
    )
    write_rejections([rejection, rejection], tmp_path / "rejections.jsonl")
    lines = (tmp_path / "rejections.jsonl").read_bytes().splitlines()
    assert [Rejection.model_validate_json(line) for line in lines] == [rejection, rejection]

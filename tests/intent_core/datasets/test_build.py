"""Building a dataset: no row is lost, no test row is trained, equal input gives equal bytes."""

import errno
import hashlib
import json
import random
from pathlib import Path

import msgspec
import pytest

from intent_core.datasets.manifest import DatasetManifest, read_split
from intent_core.errors import DataError
from intent_core.exports.records import Record, Rejection
from intent_core.files import write_jsonl
from intent_core.language.intent_schema import IntentSchema
from intent_core.language.utterances import normalise_utterance
from intent_core.recipe.config import fingerprint
from tests.support.builders.records import build, many, record, say, utterances

DATA = Path(__file__).parents[2] / "data"


def test_every_record_is_in_one_split(tmp_path: Path) -> None:
    manifest = build(tmp_path, many(400))
    names = [utterances(tmp_path, name) for name in ("train", "validation", "test")]
    assert set.union(*names) == {say(i) for i in range(400)}
    assert [len(n) for n in names] == [s.num_examples for s in manifest.splits.values()]
    assert sum(len(n) for n in names) == 400
    assert 20 <= len(names[2]) <= 60
    assert 8 <= len(names[1]) <= 35


def without_places(manifest: DatasetManifest) -> DatasetManifest:
    findings = [finding.model_copy(update={"places": ""}) for finding in manifest.findings]
    return manifest.model_copy(update={"findings": tuple(findings)})


def test_same_input_same_bytes_in_any_order(tmp_path: Path) -> None:
    records = [*many(200), record(say(7).upper(), "a()", 900), record(say(8), "b()", 901)]
    first = build(tmp_path / "1", records)
    random.Random(1).shuffle(records)
    # In another order, the rows also have other line numbers.
    moved = [msgspec.structs.replace(r, line=i, byte_offset=i) for i, r in enumerate(records)]
    second = build(tmp_path / "2", moved)
    assert without_places(first) == without_places(second)
    for name in ("train.jsonl", "validation.jsonl", "test.jsonl"):
        content = (tmp_path / "1" / name).read_bytes()
        assert content == (tmp_path / "2" / name).read_bytes()


def test_the_manifest_names_the_files_as_they_are(tmp_path: Path) -> None:
    manifest = build(tmp_path, many(100))
    for split in manifest.splits.values():
        content = (tmp_path / split.file).read_bytes()
        assert split.sha256 == hashlib.sha256(content).hexdigest()
    stored = (tmp_path / "manifest.json").read_text("utf-8")
    assert DatasetManifest.model_validate_json(stored) == manifest
    assert (manifest.num_records, manifest.num_rejections) == (100, 3)
    count = manifest.splits["train"].num_examples
    assert manifest.intents == (
        IntentSchema(intent="a", num_utterances=count, slot_counts={0: count}, slot_names={}),
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "few_for_comfort.jsonl",
        "manifest.json",
        "origins",
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ]


def test_the_manifest_is_gone_while_parts_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path, many(100))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr("intent_core.files.os.replace", fail)
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
    assert sorted(r["output"] for r in conflict["records"]) == ["a()", "b()", "b()"]
    assert manifest.num_conflicts == 1
    (finding,) = [finding for finding in manifest.findings if finding.rule == "conflicts"]
    assert finding.numbers == {"num_utterances": 1, "num_left_out": int(kept is None)}


def test_a_tie_is_rejected(tmp_path: Path) -> None:
    manifest = build(tmp_path, [*many(100), *CONFLICT[:2]], conflicts="majority")
    assert sum(s.num_examples for s in manifest.splits.values()) == 100


def test_an_external_test_stands_and_never_trains(tmp_path: Path) -> None:
    external = [record(say(3).upper(), "z()"), record("new", "z()"), record("new", "y()")]
    manifest = build(tmp_path, many(100), external)
    tested = read_split(tmp_path / "test.jsonl")
    assert sorted((e.instruction, e.output) for e in tested) == [
        (say(3).upper(), "z()"),
        ("new", "y()"),
        ("new", "z()"),
    ]
    assert len({e.id for e in tested}) == 3
    left = utterances(tmp_path, "train") | utterances(tmp_path, "validation")
    assert left == {say(i) for i in range(100)} - {say(3)}
    (finding,) = [finding for finding in manifest.findings if finding.rule == "test-overlap"]
    assert finding.numbers == {"num_utterances": 1}
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
    with pytest.raises(DataError, match=r"train\.jsonl:2 is not an example"):
        read_split(path)
    with pytest.raises(DataError, match=r"none\.jsonl cannot be read"):
        read_split(tmp_path / "none.jsonl")


def test_duplicates_may_be_kept(tmp_path: Path) -> None:
    extra = [record(say(i).upper(), index=500 + i) for i in range(100)]
    manifest = build(tmp_path, [*many(100), *extra], duplicates="keep")
    assert manifest.num_duplicates == 100
    examples = [e for s in manifest.splits.values() for e in read_split(tmp_path / s.file)]
    assert len(examples) == len({e.id for e in examples}) == 200


def test_a_broken_rule_stops_a_run_that_says_so(tmp_path: Path) -> None:
    records = [*many(100), *CONFLICT]
    build(tmp_path / "1", records)
    with pytest.raises(DataError, match=r"breaks 1 rule\(s\) in data\.stop_on:\n  conflicts: 1 "):
        build(tmp_path / "2", records, stop_on=("conflicts", "imbalance"))
    assert not (tmp_path / "2").exists()


def test_rejections_read_back(tmp_path: Path) -> None:
    rejection = Rejection(
        source="e", line=1, byte_offset=0, reason="not-json", message="m", raw="{\u2028"
    )
    write_jsonl([rejection, rejection], tmp_path / "rejections.jsonl")
    lines = (tmp_path / "rejections.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=Rejection) for line in lines] == [rejection, rejection]


def test_the_vocabulary_is_part_of_the_dataset_and_not_of_its_texts(tmp_path: Path) -> None:
    known = {"intents": {"a": {"slots": [{"name": "city"}]}}}
    plain, first, again = (
        build(tmp_path / name, many(100), vocabulary=vocabulary)
        for name, vocabulary in (("0", None), ("1", known), ("2", known))
    )
    assert first == again
    content = (tmp_path / "1" / "intents.json").read_bytes()
    assert first.vocabulary == hashlib.sha256(content).hexdigest()
    assert first.fingerprint != plain.fingerprint
    assert first.splits == plain.splits and first.test_fingerprint == plain.test_fingerprint
    texts = {name: split.sha256 for name, split in plain.splits.items()}
    assert first.text_fingerprint == plain.text_fingerprint == fingerprint(texts)
    known["intents"]["a"]["description"] = "the first letter"  # type: ignore[assignment,call-overload]
    assert build(tmp_path / "3", many(100), vocabulary=known).fingerprint != first.fingerprint
    forgotten = build(tmp_path / "4", many(100), vocabulary=known, forgotten=["b", "a"])
    assert forgotten.text_fingerprint == fingerprint(texts, ["a", "b"])


def test_a_dataset_built_again_without_a_vocabulary_has_none(tmp_path: Path) -> None:
    build(tmp_path, many(100), vocabulary={"intents": {"a": {}}})
    manifest = build(tmp_path, many(100))
    assert manifest.vocabulary == "" and not (tmp_path / "intents.json").exists()
    older = manifest.model_dump(mode="json", exclude={"vocabulary"})
    assert DatasetManifest.model_validate(older) == manifest

"""Records to a dataset: nothing lost, nothing leaked, same input same bytes."""

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from intent_core.catalogue import IntentSchema
from intent_core.config import DataConfig
from intent_core.dataset import DatasetManifest, build_dataset, read_split, write_jsonl
from intent_core.duplicates import find_near_duplicates
from intent_core.errors import DataError
from intent_core.records import Record, Rejection
from intent_core.splits import normalise_utterance

DATA = Path(__file__).parent.parent / "data"


def record(
    utterance: str, output: str = "a()", index: int = 0, version: int | None = None
) -> Record:
    return Record(
        utterance=utterance,
        output=output,
        source="export.manifest",
        line=index + 1,
        byte_offset=100 * index,
        stage="label",
        version=version,
    )


def say(number: int) -> str:
    """An utterance that is like no other."""
    return f"utterance {hashlib.sha256(str(number).encode()).hexdigest()[:16]}"


def many(count: int, start: int = 0) -> list[Record]:
    return [record(say(i), index=i) for i in range(start, start + count)]


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
    assert set.union(*names) == {say(i) for i in range(400)}
    assert [len(n) for n in names] == [s.num_examples for s in manifest.splits.values()]
    assert sum(len(n) for n in names) == 400
    assert 20 <= len(names[2]) <= 60
    assert 8 <= len(names[1]) <= 35


def test_same_input_same_bytes_in_any_order(tmp_path: Path) -> None:
    records = [*many(200), record(say(7).upper(), "a()", 900), record(say(8), "b()", 901)]
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
    count = manifest.splits["train"].num_examples
    assert manifest.intents == (
        IntentSchema(intent="a", num_utterances=count, slot_counts={0: count}, slot_names={}),
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "conflicts.jsonl",
        "label_errors.jsonl",
        "left_out.jsonl",
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
    with pytest.raises(DataError, match=r"train\.jsonl:2: not an example"):
        read_split(path)
    with pytest.raises(DataError, match=r"none\.jsonl cannot be read"):
        read_split(tmp_path / "none.jsonl")


def real_records(name: str) -> list[Record]:
    rows = json.loads((DATA / name / "export.json").read_text("utf-8"))
    return [record(row["instruction"], row["output"], index) for index, row in enumerate(rows)]


@pytest.mark.parametrize("name", ["snips_en", "crosswoz_zh"])
def test_near_duplicates_never_stand_on_two_sides(tmp_path: Path, name: str) -> None:
    records = real_records(name)
    # Every tenth utterance comes again with a word more.
    likes = [record(f"{r.utterance} ok", r.output, 1000 + i) for i, r in enumerate(records[::10])]
    fractions = {"test_fraction": 0.3, "validation_fraction": 0.2}
    manifest = build(tmp_path, [*records, *likes], **fractions)
    sides = {
        normalise_utterance(text): name
        for name in ("train", "validation", "test")
        for text in utterances(tmp_path, name)
    }
    texts = list(sides)
    for pair in find_near_duplicates(texts, 0.8):
        assert sides[texts[pair.first]] == sides[texts[pair.second]]
    left_out = [
        json.loads(line) for line in (tmp_path / "left_out.jsonl").read_bytes().splitlines()
    ]
    assert len(left_out) == manifest.num_left_out > 5
    assert len(sides) + len(left_out) == len(records) + len(likes)
    for one in left_out:
        assert one["records"][0]["line"]
        assert (one["split"], one["like_split"]) in {
            ("test", "train"),
            ("validation", "test"),
            ("validation", "train"),
        }


@pytest.mark.parametrize("name", ["snips_en", "crosswoz_zh"])
def test_no_model_was_trained_on_a_later_test_row(tmp_path: Path, name: str) -> None:
    records = real_records(name)
    trained: set[str] = set()
    for month, count in enumerate((50, 100, 150, 200)):
        build(tmp_path / str(month), records[:count], test_fraction=0.3)
        assert not trained & utterances(tmp_path / str(month), "test")
        # What has trained trains on.
        assert trained < utterances(tmp_path / str(month), "train")
        trained = utterances(tmp_path / str(month), "train")


def test_training_rows_like_a_fixed_test_are_left_out(tmp_path: Path) -> None:
    like = f"{say(3)} please"
    manifest = build(tmp_path, many(100), [record(like, "z()")])
    assert utterances(tmp_path, "test") == {like}
    left = utterances(tmp_path, "train") | utterances(tmp_path, "validation")
    assert left == {say(i) for i in range(100)} - {say(3)}
    (line,) = (tmp_path / "left_out.jsonl").read_bytes().splitlines()
    assert json.loads(line)["like"] == like
    assert manifest.num_left_out == 1


def test_an_utterance_that_differs_in_punctuation_is_on_the_same_side(tmp_path: Path) -> None:
    build(tmp_path, [*many(200), *(record(f"{say(i)}!?", index=500 + i) for i in range(200))])
    for name in ("train", "validation", "test"):
        found = utterances(tmp_path, name)
        assert {text.rstrip("!?") for text in found} == {
            text for text in found if not text.endswith("!?")
        }


def test_another_seed_is_another_split(tmp_path: Path) -> None:
    build(tmp_path / "0", many(300))
    build(tmp_path / "1", many(300), split_seed=1)
    assert utterances(tmp_path / "0", "test") != utterances(tmp_path / "1", "test")


def test_near_duplicates_may_be_dropped_from_training(tmp_path: Path) -> None:
    extra = [record(f"please play some jazz music now {i}", index=900 + i) for i in range(10)]
    kept = build(tmp_path / "1", [*many(100), *extra], near_duplicate_similarity=0.6)
    dropped = build(
        tmp_path / "2",
        [*many(100), *extra],
        near_duplicate_similarity=0.6,
        near_duplicates="drop",
    )
    assert dropped.test_fingerprint == kept.test_fingerprint
    trained = utterances(tmp_path / "2", "train")
    assert sum("jazz" in text for text in trained) <= 1
    assert dropped.num_near_duplicates < kept.num_near_duplicates


def test_duplicates_may_be_kept(tmp_path: Path) -> None:
    extra = [record(say(i).upper(), index=500 + i) for i in range(100)]
    manifest = build(tmp_path, [*many(100), *extra], duplicates="keep")
    assert manifest.num_duplicates == 100
    examples = [e for s in manifest.splits.values() for e in read_split(tmp_path / s.file)]
    assert len(examples) == len({e.id for e in examples}) == 200


def test_a_broken_rule_stops_a_run_that_says_so(tmp_path: Path) -> None:
    records = [*many(100), *CONFLICT]
    build(tmp_path / "1", records)
    with pytest.raises(DataError, match=r"breaks 1 rule\(s\) of data\.stop_on:\n  conflicts: 1 "):
        build(tmp_path / "2", records, stop_on=("conflicts", "imbalance"))
    assert not (tmp_path / "2").exists()


def test_rejections_read_back(tmp_path: Path) -> None:
    rejection = Rejection(
        source="e", line=1, byte_offset=0, reason="not-json", message="m", raw="{\u2028"
    )
    write_jsonl([rejection, rejection], tmp_path / "rejections.jsonl")
    lines = (tmp_path / "rejections.jsonl").read_bytes().splitlines()
    assert [Rejection.model_validate_json(line) for line in lines] == [rejection, rejection]

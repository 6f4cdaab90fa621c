"""Groups (`data.group_by`): all rows of a dialogue or a speaker are in one split."""

import json
import random
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intent_core.datasets.manifest import read_split
from intent_core.errors import DataError
from intent_core.exports.records import Record
from tests.support.builders.records import build, record, say, utterances

NAMES = ("train", "validation", "test")
FRACTIONS = {"test_fraction": 0.3, "validation_fraction": 0.2, "group_by": "dialogue"}


def grouped(utterance: str, group: str, index: int = 0, output: str = "a()") -> Record:
    tags = (("dialogue", group),) if group else ()
    return msgspec.structs.replace(record(utterance, output, index), group=group, tags=tags)


def make_dialogues(numbers: Iterable[int], length: int = 5) -> list[Record]:
    return [
        grouped(say(100 * number + turn), f"d{number}", 100 * number + turn)
        for number in numbers
        for turn in range(length)
    ]


def read_groups(folder: Path) -> dict[str, set[str]]:
    return {
        name: {e.tags["dialogue"] for e in read_split(folder / f"{name}.jsonl") if e.tags}
        for name in NAMES
    }


def read_left_out(folder: Path) -> list[dict[str, object]]:
    file = folder / "left_out.jsonl"
    return [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def test_a_dialogue_is_in_one_split(tmp_path: Path) -> None:
    build(tmp_path / "0", make_dialogues(range(60)), **FRACTIONS)
    groups = read_groups(tmp_path / "0")
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 60
    assert all(groups.values())
    # Without the key, an utterance is on its own.
    build(tmp_path / "1", make_dialogues(range(60)), **{**FRACTIONS, "group_by": None})
    assert read_groups(tmp_path / "1")["train"] & read_groups(tmp_path / "1")["test"]


def test_a_dialogue_keeps_its_split_as_it_grows_and_others_come(tmp_path: Path) -> None:
    build(tmp_path / "1", make_dialogues(range(30), 3), **FRACTIONS)
    build(tmp_path / "2", make_dialogues(range(60), 6), **FRACTIONS)
    for name in NAMES:
        assert read_groups(tmp_path / "1")[name] < read_groups(tmp_path / "2")[name]
        assert utterances(tmp_path / "1", name) < utterances(tmp_path / "2", name)


def test_another_seed_is_another_split_of_dialogues(tmp_path: Path) -> None:
    build(tmp_path / "0", make_dialogues(range(60)), **FRACTIONS)
    build(tmp_path / "1", make_dialogues(range(60)), split_seed=1, **FRACTIONS)
    assert read_groups(tmp_path / "0") != read_groups(tmp_path / "1")


@pytest.mark.parametrize("duplicates", ["drop", "keep"])
def test_what_every_dialogue_says_is_in_training_once_and_joins_no_dialogues(
    tmp_path: Path, duplicates: str
) -> None:
    said = [grouped("好的", f"d{number}", 9000 + number) for number in range(60)]
    records = [*said, *make_dialogues(range(60))]
    build(tmp_path, records, duplicates=duplicates, **FRACTIONS)
    groups = read_groups(tmp_path)
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 60
    assert "好的" in utterances(tmp_path, "train") - utterances(tmp_path, "test")
    assert not read_left_out(tmp_path)


def test_rows_of_a_group_in_a_fixed_test_set_are_left_out(tmp_path: Path) -> None:
    export = [*make_dialogues(range(40)), grouped("thanks", "d3", 1), grouped("thanks", "d7", 2)]
    test = [grouped("what was tested", "d3"), grouped("and that", "d4"), grouped("alone", "")]
    manifest = build(tmp_path, export, test, **FRACTIONS)
    groups = read_groups(tmp_path)
    assert not (groups["train"] | groups["validation"]) & {"d3", "d4"}
    left_out = read_left_out(tmp_path)
    assert manifest.num_left_out == len(left_out) == 10
    likes = {(row["reason"], row["like"], row["like_split"]) for row in left_out}
    assert likes == {("group", "what was tested", "test"), ("group", "and that", "test")}
    assert "thanks" in utterances(tmp_path, "train") | utterances(tmp_path, "validation")
    (finding,) = [f for f in manifest.findings if f.rule == "left-out"]
    assert "a near-duplicate or their group is in another split" in finding.message


def test_a_near_duplicate_in_another_group_is_left_out(tmp_path: Path) -> None:
    records = make_dialogues(range(40))
    likes = [grouped(f"{r.utterance} x", f"{r.group}b", 9000 + i) for i, r in enumerate(records)]
    manifest = build(tmp_path, [*records, *likes], **FRACTIONS)
    assert manifest.num_left_out > 10
    assert {row["reason"] for row in read_left_out(tmp_path)} == {"near-duplicate"}
    stems = [{text.removesuffix(" x") for text in utterances(tmp_path, name)} for name in NAMES]
    assert not (stems[0] & stems[1] or stems[0] & stems[2] or stems[1] & stems[2])


def test_a_key_that_no_row_has_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no usable row has a value under 'dialogue'"):
        build(tmp_path, [record(say(i), index=i) for i in range(50)], **FRACTIONS)


def test_one_group_alone_says_what_to_do(tmp_path: Path) -> None:
    records = [grouped(say(i), "d1", i) for i in range(50)]
    with pytest.raises(DataError, match=r"split is empty.*'dialogue' \(data\.group_by\)"):
        build(tmp_path, records, **FRACTIONS)


ROWS = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(["", *"abcdefgh"])), min_size=5, max_size=40
)


def build_from(rows: Sequence[tuple[int, str]], folder: Path) -> bool:
    records = [grouped(say(number), group, i) for i, (number, group) in enumerate(rows)]
    try:
        build(folder, records, **{**FRACTIONS, "test_fraction": 0.45})
    except DataError:  # a split is empty
        return False
    return True


@settings(max_examples=60)
@given(rows=ROWS, share=st.floats(0.2, 1), seed=st.integers(0, 9))
def test_groups_are_never_torn_in_any_order_and_at_any_size(
    rows: list[tuple[int, str]], share: float, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, mixed, part = (Path(folder) / name for name in ("whole", "mixed", "part"))
        if not build_from(rows, whole):
            return
        groups = read_groups(whole)
        assert sum(map(len, groups.values())) == len(set().union(*groups.values()))
        assert sum(len(utterances(whole, name)) for name in NAMES) == len({n for n, _ in rows})
        assert build_from(random.Random(seed).sample(rows, len(rows)), mixed)
        assert [utterances(whole, n) for n in NAMES] == [utterances(mixed, n) for n in NAMES]
        # No model was trained on a row of a later test split.
        if build_from(rows[: int(len(rows) * share)], part):
            assert not utterances(part, "train") & utterances(whole, "test")

"""Every example of a dataset can be traced to the lines of its export."""

import json
from pathlib import Path

import pytest

from intent_core.datasets.manifest import DatasetManifest, read_split
from intent_core.datasets.provenance import ExportSource, FoundOrigin, name_example, read_origins
from intent_core.datasets.splits import SPLITS
from intent_core.errors import DataError
from intent_core.exports.reader import read_export
from intent_core.recipe.config import DataConfig
from tests.support.builders.records import DATA, build, many, record

TEST = ExportSource(uri="file:///test.json", sha256="1" * 64)


def origins_of(folder: Path, manifest: DatasetManifest) -> list[FoundOrigin]:
    return list(read_origins(folder / manifest.origins, lambda found: True))


@pytest.mark.parametrize("name", ["snips_en", "crosswoz_zh"])
def test_each_example_of_a_real_export_finds_its_line(tmp_path: Path, name: str) -> None:
    path = DATA / name / "export-open-group.manifest"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    manifest = build(tmp_path, read_export(path, DataConfig(max_rejection_rate=1)).records)
    found = origins_of(tmp_path, manifest)
    for split in SPLITS:
        for example in read_split(tmp_path / f"{split}.jsonl"):
            mine = [one for one in found if one.origin.id == example.id]
            assert mine
            assert {one.origin.split for one in mine} == {split}
            for origin, source in mine:
                said = rows[origin.line - 1]
                assert said["data"]["instruction"].strip() == example.instruction
                held = json.dumps(said)
                assert f'"MarkResultId": "{origin.mark_result}"' in held
                assert f'"Version": "{origin.answered}"' in held
                assert source.uri == manifest.source
    content = (tmp_path / manifest.origins).read_text("utf-8")
    assert not any(row["data"]["instruction"] in content for row in rows)


def test_repeats_are_origins_and_what_says_otherwise_is_not(tmp_path: Path) -> None:
    extra = [
        record("Play ABC", "a()", 500, version=1),
        record("play abc ", "a()", 501, version=3),
        record("play abc", "b()", 502, version=2),
        record("odd", "a()", 503),
        record("odd", "b()", 504),
    ]
    manifest = build(tmp_path, [*many(100), *extra], conflicts="latest")
    found = origins_of(tmp_path, manifest)
    lines = [one.origin.line for one in found if one.origin.id == name_example("play abc")]
    assert lines == [501, 502]
    assert [one.origin.line for one in found if one.origin.id == name_example("odd")] == [505]


def test_a_fixed_test_set_is_an_export_of_its_own(tmp_path: Path) -> None:
    test = [record("red", "a()", 0), record("red", "b()", 1), record("utterance", "a()", 2)]
    same = record("red", "a()", 900)
    manifest = build(tmp_path, [*many(60), same], test, test_source=TEST)
    found = origins_of(tmp_path, manifest)
    red = [one for one in found if one.origin.id == name_example("red")]
    assert [(one.source.uri, one.origin.line) for one in red] == [(TEST.uri, 1), (TEST.uri, 2)]
    assert {one.origin.split for one in found if one.source != TEST} == {"train", "validation"}


def test_a_file_that_holds_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "origins.jsonl"
    path.write_text('{"sources": []}\n{"id": "x"}\n')
    with pytest.raises(DataError, match=r"origins\.jsonl is not a valid origins file"):
        list(read_origins(path, lambda found: True))

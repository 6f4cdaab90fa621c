"""Tags and alternatives of a row are written to the test split."""

import json
from pathlib import Path

import pytest

from intent_core.datasets.build import build_dataset
from intent_core.datasets.manifest import read_split
from intent_core.datasets.provenance import ExportSource
from intent_core.exports.reader import read_export
from intent_core.exports.records import Record
from intent_core.recipe.config import DataConfig

ROW = {
    "instruction": "播放红豆，大声点",
    "output": "play_music(红豆);volume_up()",
    "alternatives": ["volume_up（）；play_music（红豆）"],
    "tags": {"channel": "phone", "turns": 3},
}


def write(path: Path, rows: list[object]) -> Path:
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def read(path: Path, config: DataConfig | None = None) -> list[Record]:
    return list(read_export(path, config or DataConfig()).records)


def test_alternatives_and_tags_reach_the_test_split(tmp_path: Path) -> None:
    test = read(write(tmp_path / "test.json", [ROW, {"instruction": "stop", "output": "exit()"}]))
    rows = [{"instruction": f"say {n}", "output": f"say({n})"} for n in range(40)]
    build_dataset(
        read(write(tmp_path / "train.json", rows)),
        DataConfig(near_duplicate_similarity=1),
        tmp_path / "out",
        uri="",
        source=ExportSource(uri="", sha256=""),
        rejections={},
        external_test=test,
    )
    examples = {e.instruction: e for e in read_split(tmp_path / "out" / "test.jsonl")}
    told = examples["播放红豆，大声点"]
    assert told.alternatives == ("volume_up();play_music(红豆)",)
    assert told.tags == {"channel": "phone", "turns": "3"}
    plain = (tmp_path / "out" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line).keys() for line in plain)[0] == {"id", "instruction", "output"}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"alternatives": "play()"}, "must be a list of calls"),
        ({"alternatives": ["(红豆)"]}, "'alternatives': column"),
        ({"tags": ["phone"]}, "'tags' must be an object, not an array"),
        ({"tags": {"channel": ["phone"]}}, "tag 'channel' must be text"),
    ],
)
def test_what_cannot_be_read_is_rejected_with_its_reason(
    extra: dict[str, object], message: str, tmp_path: Path
) -> None:
    reading = read_export(write(tmp_path / "test.json", [{**ROW, **extra}]), DataConfig())
    (rejection,) = reading.rejections
    assert message in rejection.message


def test_fields_of_an_export_become_tags(tmp_path: Path) -> None:
    rows = [
        {
            "data": {"instruction": f"say {n}", "channel": "phone" if n % 2 else "web"},
            "label-1": {"results": [{"data": f"say({n})", "markTitle": "output"}]},
        }
        for n in range(6)
    ]
    path = tmp_path / "export.manifest"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert {record.tags for record in read(path)} == {()}
    tagged = read(path, DataConfig(tag_fields=("channel", "absent")))
    assert [dict(record.tags)["channel"] for record in tagged] == ["web", "phone"] * 3

"""The group of a row: the key that `data.group_by` names, in each format."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from intent_core.exports.convert import convert_export
from intent_core.exports.reader import read_export
from intent_core.recipe.config import DataConfig, PipelineConfig, fingerprint

CONFIG = DataConfig(group_by="dialogue_id")
LABEL = {"results": [{"MarkResult": "say(1)", "markTitle": "output"}]}
RESULT = {"from_name": "output", "type": "textarea", "value": {"text": ["say(1)"]}}


def read_groups(folder: Path, *rows: dict[str, Any], config: DataConfig = CONFIG) -> list[str]:
    path = folder / "export.manifest"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    reading = read_export(path, config)
    assert not reading.rejections and not reading.reports
    return [record.group for record in reading.records]


@pytest.mark.parametrize(
    "row",
    [
        {"data": {"instruction": "say 1", "dialogue_id": "d7"}, "label-1": LABEL},
        {"data": {"text": "say 1", "dialogue_id": "d7"}, "annotations": [{"result": [RESULT]}]},
        {"instruction": "say 1", "output": "say(1)", "dialogue_id": "d7"},
        {"instruction": "say 1", "output": "say(1)", "tags": {"dialogue_id": "d7"}},
        {
            "messages": [
                {"role": "user", "content": "say 1"},
                {"role": "assistant", "content": "say(1)"},
            ],
            "dialogue_id": "d7",
        },
        {"text": "say 1", "label": "say(1)", "dialogue_id": "d7"},
        {"prompt": "say 1", "label": "say(1)", "predict": "say(1)", "dialogue_id": "d7"},
    ],
    ids=["itag", "label-studio", "training", "tags", "chat", "doccano", "predictions"],
)
def test_each_format_has_the_group(row: dict[str, Any], tmp_path: Path) -> None:
    assert read_groups(tmp_path, row) == ["d7"]


def make_row(number: int, group: object) -> dict[str, Any]:
    return {"data": {"instruction": f"say {number}", "dialogue_id": group}, "label-1": LABEL}


def test_every_row_has_its_own_group_whether_text_or_number(tmp_path: Path) -> None:
    rows = [make_row(n, group) for n, group in enumerate(["a", "b", 7, "7", " a ", "", None])]
    rows.append({"data": {"instruction": "say 9"}, "label-1": LABEL})
    assert read_groups(tmp_path, *rows) == ["a", "b", "7", "7", "a", "", "", ""]
    assert read_groups(tmp_path, *rows, config=DataConfig()) == [""] * len(rows)


def test_a_group_that_is_no_text_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "export.manifest"
    path.write_bytes(orjson.dumps(make_row(1, ["a"])))
    (rejection,) = read_export(path, CONFIG).rejections
    assert "'dialogue_id' must be text, not an array" in rejection.message


def test_convert_keeps_the_group(tmp_path: Path) -> None:
    rows = [make_row(n, group) for n, group in enumerate(["a", "b", ""])]
    read_groups(tmp_path, *rows)
    out = tmp_path / "train.json"
    convert_export(tmp_path / "export.manifest", out, CONFIG)
    converted = orjson.loads(out.read_bytes())
    assert [row.get("dialogue_id") for row in converted] == ["a", "b", None]
    assert [record.group for record in read_export(out, CONFIG).records] == ["a", "b", ""]


def test_a_recipe_without_groups_has_its_old_fingerprint() -> None:
    assert "group_by" not in DataConfig().model_dump()
    assert fingerprint(PipelineConfig()) != fingerprint(PipelineConfig(data=CONFIG))

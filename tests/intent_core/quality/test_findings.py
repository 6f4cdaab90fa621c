"""The rows behind a finding: their places in the message, and the file that lists all of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from intent_core.datasets.check_export import ExportCheck, check_export
from intent_core.quality.findings import note, show_rows, write_finding_rows
from intent_core.recipe.config import PipelineConfig

EVEN = [str(2 * n) for n in range(1, 11)]
CONFIG = PipelineConfig.model_validate({"data": {"max_rejection_rate": 1.0}})


def row(line: int, offset: int = 0, source: str = "e.manifest") -> dict[str, Any]:
    return {"utterance": "u", "source": source, "line": line, "byte_offset": offset or 9 * line}


def check(path: Path) -> tuple[ExportCheck, dict[str, list[dict[str, Any]]]]:
    out = path.parent / "findings"
    checked = check_export(path, CONFIG, out=out)
    rows = {
        finding.rule: [json.loads(line) for line in (out / finding.file).read_bytes().splitlines()]
        for finding in checked.findings
        if finding.file
    }
    return checked, rows


@pytest.mark.parametrize(
    ("rows", "places"),
    [
        ([row(3)], "e.manifest:3"),
        ([row(9), row(3), row(4), row(5)], "e.manifest:3-5, 9"),
        ([row(3), row(3)], "e.manifest:3"),
        ([row(1, 35), row(1, 120)], "e.manifest:1 (byte 35), 1 (byte 120)"),
        ([row(1), row(7, source="b.csv")], "e.manifest:1, b.csv:7"),
        ([row(2 * n) for n in range(1, 13)], f"e.manifest:{', '.join(EVEN)} and 2 more"),
        ([{"intent": "a", "source": "e", "line": 1, "byte_offset": 0}], ""),
        ([{"utterance": "u", "records": [row(2), row(8)]}], "e.manifest:2, 8"),
    ],
)  # fmt: skip
def test_places_are_short_and_complete(rows: list[dict[str, Any]], places: str) -> None:
    finding = note("duplicates", "some rows repeat", "fix", rows).finding
    assert finding.places == places
    assert show_rows(finding) == f"{places}; all in duplicates.jsonl".lstrip("; ")


def test_files_of_an_earlier_check_are_removed(tmp_path: Path) -> None:
    write_finding_rows([note("duplicates", "", "", [row(1)]), note("imbalance", "", "")], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["duplicates.jsonl"]
    write_finding_rows([note("left-out", "", "", [row(1)])], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["left_out.jsonl"]


def write(folder: Path, *labelled: tuple[str, str], as_array: bool = False) -> Path:
    path = folder / ("export.json" if as_array else "export.jsonl")
    rows = [json.dumps({"instruction": text, "output": output}) for text, output in labelled]
    path.write_text(f"[{','.join(rows)}]" if as_array else "\n".join(rows), encoding="utf-8")
    return path


def test_every_row_leads_back_to_its_line(tmp_path: Path) -> None:
    rows = [(f"please play the song number {n}", f"play({n})") for n in range(20)]
    rows += [rows[4], ("say hello", "a()"), ("say hello", "b()"), ("go now", "play(Mars)")]
    path = write(tmp_path, *rows)
    lines = path.read_text("utf-8").splitlines()
    checked, behind = check(path)
    assert {"duplicates", "conflicts", "foreign-values", "near-duplicates"} <= behind.keys()
    for listed in behind.values():
        for item in listed:
            for place in item.get("records", [item]):
                text = json.loads(lines[place["line"] - 1])
                assert place.get("utterance", text["instruction"]) == text["instruction"]
                assert path.read_bytes()[place["byte_offset"] :].startswith(b'{"instruction"')
    (repeat,) = behind["duplicates"]
    assert (repeat["line"], repeat["repeats"]["line"]) == (21, 5)
    places = {finding.rule: finding.places for finding in checked.findings}
    assert places["conflicts"] == "export.jsonl:22-23"
    assert places["foreign-values"] == "export.jsonl:24"


def test_rows_of_a_one_line_array_have_offsets(tmp_path: Path) -> None:
    path = write(tmp_path, ("go now", "play(Mars)"), ("stay", "play(Venus)"), as_array=True)
    checked, behind = check(path)
    offsets = [item["byte_offset"] for item in behind["foreign-values"]]
    content = path.read_bytes()
    assert all(content[offset:].startswith(b'{"instruction"') for offset in offsets)
    (places,) = (f.places for f in checked.findings if f.rule == "foreign-values")
    assert places == f"export.json:1 (byte {min(offsets)}), 1 (byte {max(offsets)})"

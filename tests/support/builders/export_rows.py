"""Build small exports row by row, and read them."""

import json
from pathlib import Path
from typing import Any

from intent_core.exports.reader import read_export
from intent_core.exports.records import ExportReading
from intent_core.recipe.config import DataConfig


def survey(*answers: Any, title: str = "output") -> dict[str, Any]:
    return {"results": [{"data": answer, "markTitle": title} for answer in answers]}


def row(utterance: Any = "hi", **labels: Any) -> dict[str, Any]:
    keys = {name.replace("_", "-"): label for name, label in labels.items()}
    return {"data": {"instruction": utterance}, **keys}


def read(tmp_path: Path, *rows: Any, config: DataConfig | None = None) -> ExportReading:
    """Write rows (values, text or bytes), one per line, and read them as an export."""
    path = tmp_path / "export.manifest"
    lines = [
        r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode()
        for r in rows
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return read_export(path, config or DataConfig())


def outputs(reading: ExportReading) -> list[str]:
    return [record.output for record in reading.records]


def reasons(reading: ExportReading) -> list[str]:
    return [rejection.reason for rejection in reading.rejections]


def kinds(reading: ExportReading) -> list[str]:
    return [report.kind for report in reading.reports]

"""Checks of exports, with the rows behind each finding."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from intent_core.datasets.check_export import check_export
from intent_core.recipe.config import PipelineConfig

CONFIG = PipelineConfig.model_validate({"data": {"max_rejection_rate": 1.0}})

FoundRows = dict[str, list[dict[str, Any]]]
"""The rows behind each finding, by rule."""
CheckRows = Callable[..., FoundRows]


@pytest.fixture
def check_rows(tmp_path: Path) -> CheckRows:
    """Check an export, or rows (utterance, output), and return the rows behind each finding."""

    def check(*rows: tuple[str, str], path: Path | None = None) -> FoundRows:
        if path is None:
            path = tmp_path / "export.jsonl"
            lines = [json.dumps({"instruction": text, "output": output}) for text, output in rows]
            path.write_text("\n".join(lines), encoding="utf-8")
        out = tmp_path / "findings"
        checked = check_export(path, CONFIG, out=out)
        return {
            finding.rule: [
                json.loads(line) for line in (out / finding.file).read_bytes().splitlines()
            ]
            for finding in checked.findings
            if finding.file
        }

    return check

"""The page about labelled data lists every reason, report and format, in both languages."""

import re
from pathlib import Path
from typing import get_args

import pytest

from intent_core.exports.files.json_rows import RejectionReason
from intent_core.exports.row_answer import ReportKind
from intent_core.recipe.choices import ExportFormat, Leniency

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_tables_are_complete(language: str) -> None:
    page = (DOCS / language / "labelled-data.md").read_text("utf-8")
    first_cells = re.findall(r"^\| ([^|]*) \|", page, re.MULTILINE)
    listed = {name for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)}
    names = {*get_args(RejectionReason), *get_args(Leniency), *get_args(ReportKind)}
    assert {*names, *get_args(ExportFormat)} - listed == {"auto"}
    for setting in ("data.format", "data.template", "data.speakers", "data.tolerate"):
        assert f"`{setting}`" in page

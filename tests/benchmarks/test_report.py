"""The table of the benchmarks' results is what `benchmarks/report.py` writes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.settings import CHECKOUT

SCRIPT = CHECKOUT / "benchmarks" / "report.py"


def report(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_table_in_the_readme_is_that_of_the_stored_results() -> None:
    done = report("--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(300)
def test_a_run_is_stored_and_written_into_the_table(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text((CHECKOUT / "benchmarks" / "README.md").read_text(encoding="utf-8"))
    done = report("--folder", str(tmp_path), "convert", "--quick", "--lines", "400")
    assert done.returncode == 0, done.stderr
    assert "takes about " in done.stderr
    (file,) = (tmp_path / "results").iterdir()
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["command"] == "convert.py --quick --lines 400"
    assert result["figures"] == json.loads(done.stdout.splitlines()[-1])
    row = f"| `{result['command']}` | `over_documents` {result['figures']['over_documents']:g}"
    assert row in page.read_text(encoding="utf-8")
    assert report("--folder", str(tmp_path), "--check").returncode == 0
    page.write_text(page.read_text(encoding="utf-8").replace(row, "| `convert.py` | 9"))
    assert report("--folder", str(tmp_path), "--check").returncode == 1

"""`make check-gpu` on a machine without a GPU: its refusal, and its phases with a tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.settings import CHECKOUT

SCRIPT = CHECKOUT / "benchmarks" / "check_gpu.py"
# Installed here, and not among the packages that the check requires.
OTHERS = ("mlflow", "msgspec", "opencc", "oss2", "prefect", "pydantic_settings")

pytestmark = pytest.mark.timeout(600)


def check(*options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def only_required(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH in which all other packages fail to import."""
    folder = tmp_path / "site"
    for name in OTHERS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise ImportError({name!r})")
    return folder


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_check_says_so_in_one_sentence() -> None:
    done = check()
    assert done.returncode == 4
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("no GPU: ")


def test_phases_run_with_the_required_packages_only(tmp_path: Path, only_required: Path) -> None:
    out = tmp_path / "result.json"
    phases = ["--only", "losses_cpu", "losses", "full", "serving"]
    done = check("--tiny", "--out", str(out), *phases, PYTHONPATH=str(only_required))
    result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))["phases"]
    assert done.returncode == 0, result
    assert result["equal_losses"]["figures"].keys() >= {"full", "lora"}
    assert result["losses"]["figures"]["full"][-1] < result["losses"]["figures"]["full"][0]
    ours, padded = (result["full"]["figures"][name] for name in ("ours", "padded"))
    assert ours["losses"] == pytest.approx(padded["losses"], rel=1e-4)
    assert ours["tokens_per_sample"] < padded["tokens_per_sample"]
    assert ours["gflop_per_sample"] < padded["gflop_per_sample"]
    assert result["serving"]["status"] == "skipped"

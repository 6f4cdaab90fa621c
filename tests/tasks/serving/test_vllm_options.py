"""The environment of a model server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from intent_core.recipe.config import ServeConfig
from tasks.serving.vllm.options import has_gpu, server_environment

# Compiles as vLLM's sampler does for logprobs, regardless of its options.
COMPILE = "import torch; print(torch.compile(lambda x: (x > 1).sum(-1))(torch.ones(2, 3)).tolist())"


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run as on a machine without a compiler and without a compile cache."""
    missing = {"CXX": str(folder / "none"), "TORCHINDUCTOR_CACHE_DIR": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-c", COMPILE],
        env={**os.environ, **missing, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(has_gpu(), reason="a GPU's kernels are compiled")
def test_without_a_gpu_no_compiler_is_needed(tmp_path: Path) -> None:
    assert "InvalidCxxCompiler" in run(tmp_path).stderr
    ours = run(tmp_path, **server_environment(ServeConfig(), tmp_path))
    assert ours.stdout == "[0, 0]\n", ours.stderr

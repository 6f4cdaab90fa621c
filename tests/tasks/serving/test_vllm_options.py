"""The environment of a model server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from intent_core.recipe.config import PipelineConfig, ServeConfig
from tasks.serving.vllm.options import (
    has_gpu,
    limits_per_key,
    server_config,
    server_environment,
)
from tasks.settings import Settings

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


def test_no_key_fills_a_server_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    serve = ServeConfig(max_num_seqs=32, max_model_len=512)
    assert limits_per_key(settings, serve) == {
        "INTENT_ANSWERS_PER_KEY": "16",
        "INTENT_TOKENS_PER_KEY": "8192",
    }
    small = ServeConfig(max_num_seqs=1, max_model_len=512)
    assert limits_per_key(settings, small)["INTENT_TOKENS_PER_KEY"] == "1024"
    chosen = Settings(home=tmp_path, answers_per_key=0, tokens_per_key=5)
    assert set(limits_per_key(chosen, serve).values()) == {"0", "5"}


def test_the_access_log_is_the_middlewares_only(tmp_path: Path) -> None:
    options = server_config(ServeConfig(), tmp_path, "intent", gpu=False)
    assert options["disable-uvicorn-access-log"] is True


@pytest.mark.parametrize(
    ("when", "mode", "gpu", "has_table", "method"),
    [
        ("auto", "merged", False, True, "custom_class"),
        ("auto", "merged", False, False, None),
        ("auto", "merged", True, True, None),
        ("auto", "adapter", False, True, None),
        ("always", "merged", True, True, "custom_class"),
        ("always", "merged", False, False, "ngram"),
        ("never", "merged", False, True, None),
    ],
)
def test_drafts_where_they_were_measured(
    tmp_path: Path, when: str, mode: str, gpu: bool, has_table: bool, method: str | None
) -> None:
    if has_table:
        (tmp_path / "drafts.json").write_text("{}")
    serve = ServeConfig.model_validate({"drafter": when, "mode": mode})
    options = server_config(serve, tmp_path, "intent", gpu)
    speculation = options.get("speculative-config")
    assert (speculation["method"] if isinstance(speculation, dict) else None) == method


def test_adapters_have_no_drafts() -> None:
    serve = {"drafter": "always", "mode": "adapter"}
    with pytest.raises(ValidationError, match=r"serve\.drafter 'always' requires merged weights"):
        PipelineConfig.model_validate({"serve": serve, "train": {"method": "lora"}})
    # A new key with its default does not change the name of a server.
    assert "drafter" not in ServeConfig().model_dump()

"""Measure the served model under load with guidellm, which runs in an environment of its own."""

import itertools
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from intent_core.errors import ConfigError, ServingError
from intent_core.recipe.config import EvaluateConfig
from tasks.settings.children import child_environment

_SECONDS_PER_HOUR, _MILLION = 3600, 1_000_000
_LAST_CHARACTERS = 2000
_KEY_VARIABLE = "GUIDELLM__SPEC__BACKEND__API_KEY"


class LoadTarget(BaseModel):
    """A model at an address with OpenAI's protocol, and the program that sends the requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str
    key: SecretStr
    model: str
    guidellm: Path


class LoadResult(BaseModel):
    """What was measured with one number of parallel requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: int
    num_answered: int
    num_failed: int
    failure: str = ""
    """Error of one failed request."""
    p50_ms: float
    p95_ms: float
    requests_per_second: float
    cost_per_million: float | None
    """Cost of a million requests at this throughput; None without a price."""


def measure_load(
    target: LoadTarget,
    utterances: Sequence[str],
    concurrency: int,
    num_requests: int,
    price_per_hour: float | None,
) -> LoadResult:
    """Send requests for the utterances in turn, `concurrency` at the same time.

    Raises:
        ConfigError: guidellm is not installed.
        ServingError: guidellm failed, or no request was answered.
    """
    chosen = list(itertools.islice(itertools.cycle(utterances), num_requests))
    with tempfile.TemporaryDirectory(prefix="intent-bench-") as folder:
        report = Path(folder) / "report.json"
        scenario = Path(folder) / "scenario.json"
        scenario.write_text(json.dumps(_plan(target, chosen, concurrency, report)))
        _run(target, scenario)
        return read_load(report.read_bytes(), concurrency, price_per_hour)


def read_load(report: bytes, concurrency: int, price_per_hour: float | None) -> LoadResult:
    """Return the result in a report of guidellm.

    Raises:
        ServingError: it is not a report of this version, or no request was answered.
    """
    try:
        (run,) = _Report.model_validate_json(report).benchmarks
    except (ValidationError, ValueError) as error:
        raise ServingError(f"guidellm wrote a report that cannot be read: {error}") from error
    totals, latency = run.metrics.request_totals, run.metrics.request_latency.successful
    failure = run.requests.errored[0].info.error if run.requests.errored else None
    if not totals.successful:
        raise ServingError(
            f"none of {totals.total} requests was answered: {failure or 'no error was recorded'}"
        )
    rate = run.metrics.requests_per_second.successful.mean
    per_million = _MILLION / rate / _SECONDS_PER_HOUR
    return LoadResult(
        concurrency=concurrency,
        num_answered=totals.successful,
        num_failed=totals.errored + totals.incomplete,
        failure=failure or "",
        p50_ms=latency.percentiles["p50"] * 1000,
        p95_ms=latency.percentiles["p95"] * 1000,
        requests_per_second=rate,
        cost_per_million=None if price_per_hour is None else price_per_hour * per_million,
    )


def _plan(
    target: LoadTarget, utterances: list[str], concurrency: int, report: Path
) -> dict[str, Any]:
    """Return the scenario for guidellm, without the key."""
    backend = {
        "kind": "openai_http",
        "target": target.base_url,
        "model": target.model,
        "stream": False,
        "http2": False,
        "validate_backend": False,
        "max_tokens": EvaluateConfig().max_new_tokens,
        "extras": {"body": {"temperature": 0}},
    }
    spec = {
        "backend": backend,
        "profile": {"kind": "concurrent", "streams": [concurrency]},
        "constraints": [{"kind": "max_requests", "count": len(utterances)}],
        "data": [{"kind": "in_memory_item_list", "data": utterances, "column_name": "prompt"}],
        "outputs": [{"kind": "json", "path": str(report)}],
        # Enough to show the error of a failed request.
        "metrics": {"kind": "generative", "sample_size": 1},
    }
    return {"spec": spec}


def _run(target: LoadTarget, scenario: Path) -> None:
    if not target.guidellm.is_file():
        raise ConfigError(
            f"guidellm is not installed at {target.guidellm}: run `make setup-bench`, or set "
            "INTENT_GUIDELLM to the program"
        )
    key = target.key.get_secret_value()
    # Its working directory would get its log, and be searched for settings in `.env`.
    folder = str(scenario.parent)
    environment = child_environment(
        "bench", HF_HUB_OFFLINE="1", HF_HOME=folder, **{_KEY_VARIABLE: key}
    )
    done = subprocess.run(
        [str(target.guidellm), "run", "--config", str(scenario), "--disable-console"],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = done.stdout.replace(key, "***")[-_LAST_CHARACTERS:]
        raise ServingError(f"guidellm failed with exit code {done.returncode}: {said}")


class _Totals(BaseModel):
    successful: int
    errored: int
    incomplete: int
    total: int


class _Statistics(BaseModel):
    mean: float
    percentiles: dict[str, float]


class _Answered(BaseModel):
    successful: _Statistics


class _Measured(BaseModel):
    request_totals: _Totals
    request_latency: _Answered
    """In seconds."""
    requests_per_second: _Answered


class _Info(BaseModel):
    error: str | None = None


class _FailedRequest(BaseModel):
    info: _Info


class _Requests(BaseModel):
    errored: list[_FailedRequest] = Field(default=[])


class _Benchmark(BaseModel):
    metrics: _Measured
    requests: _Requests


class _Report(BaseModel):
    """The fields that are read of guidellm's report."""

    benchmarks: list[_Benchmark]

"""guidellm's scenario, and what is read of its report."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from intent_core.errors import ConfigError, ServingError
from tasks.evaluation.guidellm import LoadTarget, measure_load, read_load

KEY = "a-callers-key"


def report(answered: int, failed: int) -> bytes:
    """The fields that we read, with the values of a report of guidellm 0.8.1."""
    latency = {"mean": 0.0676, "percentiles": {"p50": 0.0575, "p90": 0.0933, "p95": 0.0934}}
    error = {"info": {"error": "HTTPStatusError('429 Too Many Requests')", "status": "errored"}}
    totals = {"successful": answered, "errored": failed, "incomplete": 0}
    metrics = {
        "request_totals": {**totals, "total": answered + failed},
        "request_latency": {"successful": latency},
        "requests_per_second": {"successful": {"mean": 20.0, "percentiles": {}}},
    }
    run = {"metrics": metrics, "requests": {"errored": [error] if failed else []}}
    return json.dumps({"metadata": {"version": 2}, "benchmarks": [run]}).encode()


def test_a_report_is_read_and_the_cost_follows_from_the_throughput() -> None:
    load = read_load(report(3, 1), 4, price_per_hour=7.2)
    assert (load.concurrency, load.num_answered, load.num_failed) == (4, 3, 1)
    assert (load.p50_ms, load.p95_ms) == pytest.approx((57.5, 93.4))
    assert load.requests_per_second == 20
    # A million requests take 50,000 s, or 13.9 hours.
    assert load.cost_per_million == pytest.approx(100)
    assert "429" in load.failure
    assert read_load(report(3, 0), 1, None).cost_per_million is None


def test_a_report_without_an_answer_has_the_reason() -> None:
    with pytest.raises(ServingError, match=r"none of 8 requests was answered: .*429"):
        read_load(report(0, 8), 1, None)
    with pytest.raises(ServingError, match="cannot be read"):
        read_load(b'{"benchmarks": []}', 1, None)


def write_program(folder: Path, script: str) -> LoadTarget:
    program = folder / "guidellm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return LoadTarget(
        base_url="http://127.0.0.1:9/v1", key=SecretStr(KEY), model="intent", guidellm=program
    )


def test_the_scenario_repeats_the_utterances_and_has_no_key(tmp_path: Path) -> None:
    """The program that the test runs copies its arguments and what it could read."""
    written = tmp_path / "report.json"
    written.write_bytes(report(5, 0))
    target = write_program(
        tmp_path,
        f'cp "$3" {tmp_path}/scenario.json; env > {tmp_path}/env\n'
        'to=$(sed -n \'s/.*"path": "\\([^"]*\\)".*/\\1/p\' "$3")\n'
        f'cp {written} "$to"',
    )
    os.environ["HTTP_PROXY"] = "http://127.0.0.1:9"
    assert measure_load(target, ["杭州天气", "stop"], 2, 5, None).num_answered == 5
    text = (tmp_path / "scenario.json").read_text()
    assert KEY not in text
    spec: dict[str, Any] = json.loads(text)["spec"]
    assert spec["data"][0]["data"] == ["杭州天气", "stop", "杭州天气", "stop", "杭州天气"]
    assert spec["profile"] == {"kind": "concurrent", "streams": [2]}
    environment = (tmp_path / "env").read_text()
    assert f"GUIDELLM__SPEC__BACKEND__API_KEY={KEY}\n" in environment
    assert "HTTP_PROXY" not in environment


def test_a_failure_shows_the_last_lines_without_the_key(tmp_path: Path) -> None:
    target = write_program(tmp_path, f"echo 'no tokenizer for {KEY}'; exit 3")
    with pytest.raises(ServingError, match=r"exit code 3: no tokenizer for \*\*\*"):
        measure_load(target, ["stop"], 1, 1, None)


def test_without_guidellm_the_command_that_installs_it_is_named(tmp_path: Path) -> None:
    target = write_program(tmp_path, "").model_copy(update={"guidellm": tmp_path / "missing"})
    with pytest.raises(ConfigError, match="make setup-bench"):
        measure_load(target, ["stop"], 1, 1, None)

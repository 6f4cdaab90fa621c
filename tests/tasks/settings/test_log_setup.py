"""INTENT_LOG_FORMAT=json: one object per line with the ids of its run; and the run's trace."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tasks.settings import CHECKOUT, Settings
from tests.support.servers.otlp_collector import running_collector

pytestmark = [pytest.mark.flow, pytest.mark.timeout(120)]

FLOW = """
import logging
from tasks.settings import get_settings
get_settings()
from prefect import flow, get_run_logger, task
from intent_core.json_logs import bind_log_context
from tasks.settings.tracing import traced

@task(task_run_name="the task")
def step():
    logging.getLogger("tasks.step").info("within the task")
    with traced("the program"):
        pass

@flow(name="inner", flow_run_name="the inner run")
def inner():
    step()

@flow(name="logged", flow_run_name="the run")
def walk():
    bind_log_context(project="p")
    get_run_logger().warning("by Prefect's own logger")
    inner()
    logging.getLogger("tasks.step").info("within the flow")

walk()
"""


def run_logged(*command: str, code: int = 0, **environment: str) -> list[dict[str, Any]]:
    """Run Python and return its standard error, one object per line."""
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "INTENT_LOG_FORMAT": "json", **environment},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_lines_of_a_run_say_which_run(platform: Settings) -> None:
    lines = {line["message"]: line for line in run_logged("-c", FLOW)}
    within, task, own = (
        lines[f"{one}"] for one in ("within the flow", "within the task", "by Prefect's own logger")
    )
    assert within["flow_run_name"] == own["flow_run_name"] == "the run"
    assert within["flow_run_id"] == own["flow_run_id"] != task["flow_run_id"]
    assert task["flow_run_name"] == "the inner run"
    assert task["task_run_name"] == "the task" and "task_run_id" not in within
    assert within["project"] == task["project"] == own["project"] == "p"
    assert own["level"] == "WARNING"


def test_a_run_is_one_trace_and_its_lines_name_it(platform: Settings) -> None:
    with running_collector() as collector:
        lines = run_logged("-c", FLOW, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    run, within, task, program = (
        collector.named(name) for name in ("the run", "the inner run", "the task", "the program")
    )
    assert run.parent_id == ""
    assert (within.parent_id, task.parent_id) == (run.span_id, within.span_id)
    assert program.parent_id == task.span_id
    assert {span.trace_id for span in collector.spans} == {run.trace_id}
    (line,) = (line for line in lines if line["message"] == "within the task")
    assert (line["trace_id"], line["span_id"]) == (task.trace_id, task.span_id)


def test_the_process_of_a_worker_s_run_writes_json_and_traces_too(
    platform: Settings, tmp_path: Path
) -> None:
    """Prefect starts the flow, as a worker does, so our code runs only once it is imported."""
    from prefect.client.orchestration import get_client

    from flows.prepare import prepare

    parameters = {"export_uri": f"{tmp_path}/none.manifest", "data": {}}
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(prepare, name="the run", parameters=parameters)
    with running_collector() as collector:
        lines = run_logged(
            *("-m", "prefect.flow_engine", "flows.prepare.prepare"),
            PREFECT__FLOW_RUN_ID=str(run.id),
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        )
    root, task = collector.named("prepare"), collector.named("pull")
    assert (root.parent_id, task.parent_id) == ("", root.span_id)
    assert {span.trace_id for span in collector.spans} == {root.trace_id}
    assert {line["flow_run_id"] for line in lines if "flow_run_id" in line} == {str(run.id)}
    assert lines[0]["trace_id"] == root.trace_id
    assert any("none.manifest" in line["message"] for line in lines if "task_run_id" in line)


def test_a_collector_that_is_away_costs_a_line(platform: Settings, closed_port: int) -> None:
    nowhere = f"http://127.0.0.1:{closed_port}"
    lines = run_logged("-c", FLOW, OTEL_EXPORTER_OTLP_ENDPOINT=nowhere)
    assert any("Failed to export spans" in line["message"] for line in lines)


def test_a_collector_that_is_down_delays_the_end_of_a_process_by_seconds_only(
    tmp_path: Path, closed_port: int
) -> None:
    code = """
        import time
        from opentelemetry import trace
        from tasks.settings import get_settings
        from tasks.settings.tracing import traced
        get_settings()
        begin = time.monotonic()
        with traced("a step"):
            pass
        assert time.monotonic() - begin < 1
        trace.get_tracer_provider().shutdown()
        assert time.monotonic() - begin < 7
    """
    nowhere = f"http://127.0.0.1:{closed_port}"
    environment = {"INTENT_HOME": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": nowhere}
    lines = run_logged("-c", textwrap.dedent(code), **environment)
    assert lines[-1]["message"].startswith("Failed to export spans")


def test_a_fault_is_a_line_too(platform: Settings) -> None:
    (line,) = run_logged("-m", "flows", "run", "x", "--recipe", "none-such", code=2)
    assert line["level"] == "ERROR" and line["message"].startswith("ConfigError: ")

"""No process connects to another machine, or can be reached from one, with default settings."""

import json
import os
import sys
import textwrap
from pathlib import Path

import pytest

from tasks.settings import CHECKOUT
from tests.support.processes.network_trace import read_listeners, read_reaches, run_watched
from tests.support.scenarios.pipeline_runs import prepare_walk
from tests.support.servers.otlp_collector import running_collector
from tests.support.servers.seaweedfs import free_ports

# Connecting to it fails in the kernel, so that no packet is sent.
_NOWHERE = "255.255.255.255"
_REACHES_OUT = f"""
import socket
for kind, port in ((socket.SOCK_STREAM, 443), (socket.SOCK_DGRAM, 53)):
    try:
        socket.socket(socket.AF_INET, kind).connect(("{_NOWHERE}", port))
    except OSError:
        pass
for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    socket.create_server((host, 0), family=family).close()
with socket.create_server(("127.0.0.1", 0)) as here:
    socket.create_connection(here.getsockname())
"""


def test_who_reaches_out_is_seen_however_far_down(tmp_path: Path) -> None:
    (tmp_path / "reach.py").write_text(_REACHES_OUT)
    detached = "import subprocess, sys; subprocess.Popen([sys.executable, *sys.argv[1:]], "
    detached += "start_new_session=True).wait()"
    command = [sys.executable, "-c", detached, str(tmp_path / "reach.py")]
    done = run_watched(command, tmp_path / "trace", os.environ, 60)
    assert done.returncode == 0, done.stderr
    seen = [(reach.host, reach.port) for reach in read_reaches(tmp_path / "trace")]
    assert seen == [(_NOWHERE, 443), (_NOWHERE, 53)]
    exposed = [listener.host for listener in read_listeners(tmp_path / "trace")]
    assert exposed == ["0.0.0.0", "::"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_whole_walk_reaches_for_nothing_outside(tmp_path: Path, tiny_model: Path) -> None:
    """Trace servers, training, evaluation, promotion, one question and the shutdown.

    The environment does not disable any telemetry: `tasks.settings` must do that.
    """
    walk = prepare_walk(tmp_path, tiny_model)
    ports = [str(port) for port in free_ports(3)]
    names = ("INTENT_PREFECT_PORT", "INTENT_MLFLOW_PORT", "INTENT_GATEWAY_PORT")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "person"),
        "INTENT_HOME": str(tmp_path / "home"),
        "INTENT_LOG_FORMAT": "json",
        "PYTHONPATH": str(CHECKOUT),
        **dict(zip(names, ports, strict=True)),
    }
    (tmp_path / "person").mkdir()
    script = textwrap.dedent(f"""\
        intent="{sys.executable} -m flows"
        cd {CHECKOUT}
        $intent up && $intent run {walk}/export.manifest --recipe {walk}/recipe.yaml &&
          $intent ask 'play Yesterday for me' && $intent status
        code=$?
        $intent down
        exit $code
        """)
    with running_collector() as collector:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        done = run_watched(["bash", "-c", script], tmp_path / "trace", environment, 1700)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "play_music(Yesterday)" in done.stdout
    assert (tmp_path / "trace").read_text().count("connect(") > 100
    assert read_reaches(tmp_path / "trace") == []
    assert (tmp_path / "trace").read_text().count("listen(") > 5
    assert read_listeners(tmp_path / "trace") == []
    look_at_lines(done.stderr, tmp_path / "home" / "processes")
    trace = collector.named("fine-tune").trace_id
    of_it = {(span.service, span.name) for span in collector.spans if span.trace_id == trace}
    for name in ("recipe: export.manifest", "training program", "finetune", "promote intent-"):
        assert [one for _, one in of_it if one.startswith(name)], name
    assert ("intent-vllm", "llm_request") in of_it, "the evaluation's requests"


def look_at_lines(said: str, logs: Path) -> None:
    """Check that log lines are JSON and contain the run and the model."""
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    about = [line for line in lines if "flow_run_id" in line and "project" in line]
    assert {line["project"] for line in about} == {"walk"}
    assert {line["logger"].split(".")[0] for line in about} >= {"prefect", "tasks"}
    assert any("task_run_id" in line and "model" in line for line in about)
    (log,) = logs.glob("vllm-*.log")
    served = [json.loads(x) for x in log.read_text("utf-8").splitlines() if x.startswith("{")]
    asked = [line for line in served if line["logger"] == "intent.access"]
    assert [line for line in asked if line.get("alias") == "walk" and line["status"] == 200]
    assert any(line["logger"].startswith("vllm") for line in served)

"""Nothing that we start tells anybody outside this machine anything, as it is installed."""

import os
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import free_ports
from walking import prepare_walk
from watched import read_reaches, run_watched

from tasks.settings import CHECKOUT

# These fail within the kernel: no packet leaves, not even in a test.
_NOWHERE = "255.255.255.255"
_REACHES_OUT = f"""
import socket
for kind, port in ((socket.SOCK_STREAM, 443), (socket.SOCK_DGRAM, 53)):
    try:
        socket.socket(socket.AF_INET, kind).connect(("{_NOWHERE}", port))
    except OSError:
        pass
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


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_whole_walk_reaches_for_nothing_outside(tmp_path: Path, tiny_model: Path) -> None:
    """Servers, training, evaluation, promotion, a question and the way down, all of it watched.

    The environment has nothing in it that would keep a dependency quiet: that is our part.
    """
    walk = prepare_walk(tmp_path, tiny_model)
    ports = [str(port) for port in free_ports(3)]
    names = ("INTENT_PREFECT_PORT", "INTENT_MLFLOW_PORT", "INTENT_GATEWAY_PORT")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "person"),
        "INTENT_HOME": str(tmp_path / "home"),
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
    done = run_watched(["bash", "-c", script], tmp_path / "trace", environment, 1700)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "play_music(Yesterday)" in done.stdout
    assert (tmp_path / "trace").read_text().count("connect(") > 100
    assert read_reaches(tmp_path / "trace") == []

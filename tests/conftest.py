"""One platform per session: real Prefect, MLflow, store and gateway on loopback, on free ports."""

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def pytest_configure() -> None:
    """Set the environment before anything imports Prefect, which reads its settings at import."""
    # A test run in the background ignores SIGINT, and so would its children; workers need SIGINT
    # to stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [n for n in os.environ if n.startswith(("INTENT_", "PREFECT_", "MLFLOW_"))]:
        del os.environ[name]
    # A busy machine draws examples slowly, which says nothing about the code.
    hypothesis.settings.register_profile(
        "tests",
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        # The same examples in each run, so that a failure belongs to the change that is tested;
        # `--hypothesis-seed=N` draws others.
        derandomize=True,
    )
    hypothesis.settings.load_profile("tests")
    # Signs that mean something to nginx, SQLite's URLs, shells and file URIs.
    home = Path(tempfile.mkdtemp(prefix="intent-test-")) / "我的 home %2F#'$x"
    prefect, mlflow, gateway = free_ports(3)
    os.environ.update(
        INTENT_HOME=str(home),
        INTENT_PREFECT_PORT=str(prefect),
        INTENT_MLFLOW_PORT=str(mlflow),
        INTENT_GATEWAY_PORT=str(gateway),
        INTENT_MLFLOW_LOGIN="true",
        INTENT_RETRY_DELAYS_S="[0.3, 0.3]",
        PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS="2",
        INTENT_PASS_ENV="PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS",
        OMP_WAIT_POLICY="passive",
    )
    from tasks.settings import get_settings
    from tests.support.storage.layout_guard import guard_stores

    get_settings()
    guard_stores()


@pytest.fixture(autouse=True)
def clean_environment() -> Iterator[None]:
    """Restore the environment and the settings after a test that changed them."""
    from tasks.settings import get_settings

    before = dict(os.environ)
    yield
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)
        get_settings.cache_clear()


@pytest.fixture(scope="session")
def settings():  # type: ignore[no-untyped-def]  # imported late, see pytest_configure
    from tasks.settings import get_settings

    return get_settings()


@pytest.fixture(scope="session")
def platform(settings) -> Iterator[object]:  # type: ignore[no-untyped-def]
    """The embedded services, started once and stopped with all their processes."""
    import shutil

    from tasks.local_services.services import start_services, stop_services
    from tests.support.home_paths import find_unknown

    try:
        start_services(settings, lambda line: None)
        yield settings
        assert not find_unknown(settings.home), "see tasks/settings/home_layout.py"
    finally:
        stop_services(settings, lambda line: None)
        shutil.rmtree(settings.home.parent, ignore_errors=True)


@pytest.fixture(scope="session")
def closed_port() -> int:
    """A port without a server."""
    return free_ports(1)[0]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a few hundred thousand weights and a ChatML template."""
    from tests.support.builders.tiny_model import build_tiny_model

    folder: Path = build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")
    return folder

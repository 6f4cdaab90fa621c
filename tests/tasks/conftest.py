"""Fixtures: a real S3 server for each module, and the proxies in front of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.storage.oss import client
from tests.support.alibaba.oss_emulator import OssEmulator, running_emulator
from tests.support.faults.http_fault_proxy import Proxy, fault_proxy
from tests.support.servers.seaweedfs import Seaweed, running_seaweed


@pytest.fixture(scope="module")
def server() -> Iterator[Seaweed]:
    with running_seaweed() as server:
        yield server


@pytest.fixture
def proxy(server: Seaweed) -> Iterator[Proxy]:
    """A proxy that injects faults on the way to S3."""
    with fault_proxy(server.url) as proxy:
        yield proxy


@pytest.fixture
def emulator(server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Iterator[OssEmulator]:
    """An OSS emulator in front of the S3 server; the driver's back-off is shortened."""
    monkeypatch.setattr(client, "PAUSES_S", (0.01, 0.01, 0.01))
    with running_emulator(server) as emulator:
        os.environ.update(emulator.environment())
        yield emulator


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """An emulated PAI environment; skipped unless the PAI SDKs (an extra) are installed."""
    pytest.importorskip("alibabacloud_pai_dlc20201203")
    pytest.importorskip("alibabacloud_eas20210701")
    from tests.support.alibaba.pai_environment import running_scene

    with running_scene(tmp_path, monkeypatch) as scene:
        yield scene

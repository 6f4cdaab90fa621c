"""The newest complete checkpoint is copied through the store from one machine to another."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.storage.directory import DirectoryStore
from tasks.storage.s3.store import S3Store
from tasks.training import checkpoint_sync
from tasks.training.checkpoint_sync import CheckpointMirror
from tests.support.servers.seaweedfs import Seaweed
from tests.support.storage.store_drivers import s3_options

pytestmark = pytest.mark.service


@pytest.fixture
def store(server: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Store]:
    monkeypatch.setattr(checkpoint_sync, "_LOOK_EVERY_S", 0.05)
    os.environ.update(server.full.environment())
    yield S3Store(server.bucket, tmp_path.name, s3_options(server))


def save(folder: Path, step: int, *, whole: bool = True) -> None:
    """Save a checkpoint like the Trainer does, with the state file last."""
    checkpoint = folder / "checkpoints" / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(os.urandom(1000))
    if whole:
        (checkpoint / "trainer_state.json").write_text(f'{{"global_step": {step}}}')


def wait_for(store: S3Store, key: str) -> None:
    deadline = time.monotonic() + 20
    while store.stat(key) is None:
        assert time.monotonic() < deadline, key
        time.sleep(0.05)


def content(folder: Path) -> dict[str, bytes]:
    root = folder / "checkpoints"
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_another_machine_goes_on_from_the_newest_whole_one(store: S3Store, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with CheckpointMirror(store, "trainings/a", one) as mirror:
        save(one, 9)
        wait_for(store, "trainings/a/checkpoints/checkpoint-9/trainer_state.json")
        save(one, 10)
        save(one, 11, whole=False)
        wait_for(store, "trainings/a/checkpoints/checkpoint-10/trainer_state.json")
    kept = {found.key.split("/")[-2] for found in store.list("trainings/a/checkpoints/")}
    assert kept == {"checkpoint-10"}
    with CheckpointMirror(store, "trainings/a", other):
        assert content(other) == {
            name: data for name, data in content(one).items() if name.startswith("checkpoint-10/")
        }
    mirror.forget()
    assert list(store.list("trainings/a/")) == []


def test_what_is_here_is_not_replaced(store: S3Store, tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    save(elsewhere, 20)
    with CheckpointMirror(store, "trainings/b", elsewhere):
        wait_for(store, "trainings/b/checkpoints/checkpoint-20/trainer_state.json")
    save(here, 5)
    before = content(here)
    with CheckpointMirror(store, "trainings/b", here):
        assert content(here) == before


def test_a_stopped_training_leaves_its_last_one(store: S3Store, tmp_path: Path) -> None:
    def train() -> None:
        with CheckpointMirror(store, "trainings/c", tmp_path):
            save(tmp_path, 7)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert store.stat("trainings/c/checkpoints/checkpoint-7/trainer_state.json")


def test_a_store_that_fails_costs_no_training(
    store: S3Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from intent_core.errors import StorageError

    def fail(*_: object) -> None:
        raise StorageError("the store is away")

    with CheckpointMirror(store, "trainings/d", tmp_path):
        with monkeypatch.context() as away:
            away.setattr(S3Store, "upload", fail)
            save(tmp_path, 3)
            deadline = time.monotonic() + 20
            while "the store is away" not in caplog.text:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        wait_for(store, "trainings/d/checkpoints/checkpoint-3/trainer_state.json")


def test_a_directory_store_is_left_alone(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    with CheckpointMirror(store, "trainings/e", tmp_path) as mirror:
        save(tmp_path, 1)
    mirror.forget()
    assert list(store.list()) == []

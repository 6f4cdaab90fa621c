"""The numbered desired states of a fleet, in every kind of store, and promoters that are paused."""

import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from intent_core.errors import IntentError, PromotionInProgressError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from tasks.serving.fleet import desired_state
from tasks.serving.fleet.desired_state import (
    DesiredState,
    DesiredStates,
    SupersededError,
    now,
)
from tasks.serving.state import ServedModel, new_served_model
from tasks.serving.targets import fleet as target
from tasks.serving.targets.fleet import FleetTarget, ReplicaReport, describe_served
from tasks.settings import Settings
from tasks.storage.objects import ObjectStore
from tasks.storage.step_results import get_store
from tests.support.storage.store_drivers import DRIVERS, Driver

pytestmark = pytest.mark.service


@pytest.fixture(scope="module", params=DRIVERS)
def driver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    with DRIVERS[request.param](tmp_path_factory.mktemp(request.param)) as driver:
        yield driver


@pytest.fixture
def store(driver: Driver) -> ObjectStore:
    os.environ.update(driver.environment)
    return driver.open(uuid.uuid4().hex)


def make_state(name: str = "") -> DesiredState:
    return DesiredState(promoter=name, at=now())


def test_of_many_writers_each_number_has_one(store: ObjectStore) -> None:
    states = DesiredStates(store, "intent")
    assert states.read()[0] == 0

    def add(writer: int) -> list[int]:
        written: list[int] = []
        while len(written) < 4:
            number, _ = states.read()
            try:
                written.append(states.write(make_state(f"{writer}"), number))
            except SupersededError:
                continue
        return written

    with ThreadPoolExecutor(4) as pool:
        numbers = [number for written in pool.map(add, range(4)) for number in written]
    assert sorted(numbers) == list(range(1, 17))
    assert states.read()[0] == 16


def test_who_read_an_old_state_writes_nothing(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desired_state, "_KEPT", 4)
    states = DesiredStates(store, "intent")
    for number in range(9):
        states.write(make_state(f"{number}"), number)
    # Also if the next number was deleted as too old.
    for paused in range(9):
        with pytest.raises(SupersededError, match="took over"):
            states.write(make_state("paused"), paused)
        assert (states.read()[0], states.read()[1].promoter) == (9, "8")
    states.write(make_state("last"), 9)
    assert len(store.scan("serving/intent/wish/")) == 4


def test_the_state_of_the_version_before_is_number_0(store: ObjectStore) -> None:
    store.put("serving/intent/manifest.json", make_state("before").model_dump_json().encode())
    states = DesiredStates(store, "intent")
    assert (states.read()[0], states.read()[1].promoter) == (0, "before")
    assert states.write(make_state("after"), 0) == 1
    assert states.read()[1].promoter == "after"


class Replica:
    """A replica that follows the fleet at once, except to the models that it holds back."""

    def __init__(self, fleet: FleetTarget) -> None:
        self._fleet = fleet
        self.held = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> "Replica":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _follow(self) -> None:
        serving = ""
        while not self._stopped.wait(0.02):
            desired = self._fleet.read_desired()
            name = describe_served(desired.current) if desired.current else ""
            serving = serving if self.held and self.held in name else name
            warm = describe_served(desired.candidate) if desired.candidate else ""
            warm = "" if self.held == "warm" else warm
            self._fleet.write_report(
                ReplicaReport(replica="r1", serving=serving, warm=warm, at=now())
            )


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(target, "require_golden", lambda *_: None)  # no server answers here
    monkeypatch.setattr(target, "_SWITCH_S", 3)
    monkeypatch.setattr(target, "_EVERY_S", 0.02)
    monkeypatch.setattr(desired_state, "PROMOTION_LOST_AFTER_S", 1)
    return Settings(
        home=tmp_path,
        store=str(tmp_path / "store"),
        fleet="intent",
        public_url="http://127.0.0.1:9/v1",
        api_key="key-of-the-operator-0123456789",
    )


def make_served(settings: Settings, letter: str) -> ServedModel:
    name = f"intent-{letter * 12}"
    artifact = ModelArtifact(
        name=name,
        digest=letter * 64,
        uri=f"models/{name}",
        method="full",
        base_model="x",
        base_model_digest="x",
        dataset_fingerprint="x",
        train_fingerprint="x",
        system_prompt="",
    )
    return new_served_model(settings, artifact, ServeConfig(), project="p", version="1", golden=())


def promote(settings: Settings, letter: str) -> None:
    FleetTarget(settings).promote(make_served(settings, letter))


def await_state(fleet: FleetTarget, is_reached: Callable[[DesiredState], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_reached(fleet.read_desired()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def current_of(state: DesiredState) -> str:
    return state.current.artifact.name[-1] if state.current else ""


@pytest.mark.parametrize("phase", ["warm", "served"])
@pytest.mark.parametrize("undone", ["promotion", "rollback"])
def test_a_paused_promoter_does_not_undo_a_later_change(
    settings: Settings, phase: str, undone: str
) -> None:
    fleet = FleetTarget(settings)
    with Replica(fleet) as replica:
        promote(settings, "a")
        promote(settings, "d")
        replica.held = "warm" if phase == "warm" else "b" * 12
        paused = multiprocessing.get_context("fork").Process(target=promote, args=(settings, "b"))
        paused.start()
        if phase == "warm":
            await_state(fleet, lambda state: state.candidate is not None)
        else:
            await_state(fleet, lambda state: current_of(state) == "b")
        assert paused.pid
        os.kill(paused.pid, signal.SIGSTOP)
        replica.held = ""
        try:
            await_state(fleet, lambda state: not state.is_changing())
            change = (lambda: promote(settings, "c")) if undone == "promotion" else fleet.roll_back
            change()
            result = fleet.read_desired()
            time.sleep(target._SWITCH_S)  # the paused promoter exceeds its limit
        finally:
            os.kill(paused.pid, signal.SIGCONT)
        paused.join(60)
        assert paused.exitcode == 1
        assert fleet.read_desired() == result
        assert result.candidate is None


def test_a_fleet_serves_a_model_since_the_switch(settings: Settings) -> None:
    fleet = FleetTarget(settings)
    with Replica(fleet) as replica, ThreadPoolExecutor(1) as pool:
        replica.held = "warm"
        promotion = pool.submit(fleet.promote, make_served(settings, "a"))
        await_state(fleet, lambda state: state.candidate is not None)
        loaded = now()
        replica.held = ""
        first = promotion.result(60)
        assert loaded <= first.since <= now()
        assert fleet.promote(make_served(settings, "a")).since == first.since, (
            "it is served already"
        )
        second = fleet.promote(make_served(settings, "b"))
        again = fleet.roll_back()
        assert first.since < second.since < again.since
        noted = fleet.note_version(again.artifact, "2")
        assert noted is not None and noted.since == again.since
        assert fleet.read().current == noted


def test_one_promotion_at_a_time(settings: Settings) -> None:
    fleet = FleetTarget(settings)
    with Replica(fleet) as replica:
        replica.held = "warm"
        changes = fleet.states
        changes.write(DesiredState(promoter="another", at=now()), 0)
        with pytest.raises(PromotionInProgressError, match="in progress"):
            promote(settings, "a")
        await_state(fleet, lambda state: not state.is_changing())
        replica.held = ""
        promote(settings, "a")
        assert current_of(fleet.read_desired()) == "a"


def test_models_of_every_fleet_are_protected(settings: Settings) -> None:
    store = get_store(settings)
    for name, letter in (("one", "a"), ("two", "b")):
        state = DesiredState(current=make_served(settings, letter), at=now())
        DesiredStates(store, name).write(state, 0)
    old = DesiredState(current=make_served(settings, "c"), at=now())
    store.put("serving/old/manifest.json", old.model_dump_json().encode())
    names = {f"intent-{letter * 12}" for letter in "abc"}
    assert FleetTarget(settings).protected_models() == names
    store.put("serving/two/wish/2.json", b"no json")
    with pytest.raises(IntentError):
        FleetTarget(settings).protected_models()

"""Runs whose process has died are detected and restarted; others are not touched."""

import json
import os
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelling, Completed, Crashed, Failed, Pending, Running

from flows.intake.lost_runs import mark_lost, start_again
from tasks.orchestration import run_liveness
from tasks.orchestration.run_liveness import hold, last_heartbeat
from tasks.orchestration.work_pools import TEMPLATE
from tasks.settings import Settings
from tests.support.faults.killed_runs import home_beside

pytestmark = pytest.mark.flow


@flow(name="finetune")  # a flow name of this project: runs of other flows are ignored
def nothing() -> None:
    pass


class Scene:
    """Runs without a process, of a deployment in a pool that sends heartbeats."""

    def __init__(self, client: SyncPrefectClient, settings: Settings) -> None:
        self.client, self.settings = client, settings
        self.begun: list[UUID] = []
        self.project = f"lost-{uuid.uuid4().hex[:8]}"
        template = json.loads(TEMPLATE.read_text(encoding="utf-8"))
        pool = WorkPoolCreate(name=self.project, type="process", base_job_template=template)
        client.create_work_pool(pool)
        self._deployment = client.create_deployment(
            flow_id=client.create_flow(nothing), name=self.project, work_pool_name=self.project
        )

    def run(self, state: State[Any]) -> UUID:
        run = self.client.create_flow_run_from_deployment(
            self._deployment, tags=[f"project:{self.project}"]
        )
        self.client.set_flow_run_state(run.id, state, force=True)
        self.begun.append(run.id)
        return run.id

    def read(self, run: UUID) -> FlowRun:
        return self.client.read_flow_run(run)

    def beat(self, run: UUID) -> None:
        """Send a heartbeat dated in a minute; the server takes seconds to return it."""
        soon = datetime.now(UTC) + timedelta(minutes=1)
        event = {
            "id": str(uuid.uuid4()),
            "occurred": soon.isoformat(),
            "event": "prefect.flow-run.heartbeat",
            "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
            "payload": {},
        }
        url = f"{self.settings.prefect_api_url}/events"
        user, _, password = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
        httpx.post(url, json=[event], auth=(user, password)).raise_for_status()
        deadline = time.monotonic() + 60
        while last_heartbeat(self.client, self.read(run)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.3)


@pytest.fixture
def scene(platform: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(
        run_liveness, "_HEARTBEAT_S", -10
    )  # all are dead: no need to wait for a heartbeat
    with get_client(sync_client=True) as client:
        scene = Scene(client, platform)
        yield scene
        for run in scene.begun:  # other tests use the same server
            client.set_flow_run_state(run, Completed(), force=True)


def test_silent_runs_are_crashed_and_one_that_is_heard_is_not(scene: Scene) -> None:
    silent, heard = scene.run(Running()), scene.run(Running())
    pending, cancelling = scene.run(Pending()), scene.run(Cancelling())
    scene.beat(heard)
    mark_lost(scene.client, scene.settings.model_copy(update={"lost_after_s": 0}))
    kinds = {run: scene.read(run).state_type for run in (silent, heard, pending, cancelling)}
    assert kinds == {
        silent: StateType.CRASHED,
        heard: StateType.RUNNING,
        pending: StateType.CRASHED,
        cancelling: StateType.CANCELLED,
    }


def test_a_lock_says_more_than_silence(scene: Scene, tmp_path: Path) -> None:
    home = home_beside(scene.settings, tmp_path / "home")
    alive, dead, elsewhere = (scene.run(Running()) for _ in range(3))
    hold(home, str(alive))
    for run in (dead, elsewhere):  # as a killed process leaves it
        (home.layout.runs / f"{run}.in-use").touch()
    scene.beat(elsewhere)  # it resumed on another machine
    mark_lost(scene.client, home)
    assert scene.read(dead).state_type == StateType.RUNNING, "it may be about to resume elsewhere"
    mark_lost(scene.client, home.model_copy(update={"lost_after_s": 0}))
    kinds = [scene.read(run).state_type for run in (alive, dead, elsewhere)]
    assert kinds == [StateType.RUNNING, StateType.CRASHED, StateType.RUNNING]
    state = scene.read(dead).state
    assert state is not None and "process on this machine is gone" in str(state.message)


def test_a_run_of_another_flow_is_ignored(scene: Scene) -> None:
    run = scene.client.create_flow_run(flow(name="theirs")(lambda: None))
    scene.client.set_flow_run_state(run.id, Running(), force=True)
    mark_lost(scene.client, scene.settings.model_copy(update={"lost_after_s": 0}))
    assert scene.read(run.id).state_type == StateType.RUNNING
    scene.begun.append(run.id)


def test_crashed_runs_and_temporary_errors_resume_as_the_same_run(scene: Scene) -> None:
    store = Failed(message="Flow run encountered an exception: StorageError: it did not answer")
    data = Failed(message="Flow run encountered an exception: DataError: no text")
    # Written by the previous version, which had another name for the error.
    older = Failed(message="Flow run encountered an exception: PromotionUnderWayError: try again")
    crashed, wrong = scene.run(Crashed()), scene.run(data)
    passing = [scene.run(store), scene.run(older)]
    started = start_again(scene.client, scene.settings, [scene.project])
    assert sorted(started) == sorted(map(str, [crashed, *passing]))
    assert scene.read(crashed).state_type == StateType.SCHEDULED
    assert scene.read(wrong).state_type == StateType.FAILED
    assert start_again(scene.client, scene.settings, [scene.project]) == []


def test_one_that_crashes_every_time_is_given_up(scene: Scene) -> None:
    run = scene.run(Crashed())
    for _ in range(2):
        # Only a start by a worker counts.
        scene.client.set_flow_run_state(run, Running(), force=True)
    scene.client.set_flow_run_state(run, Crashed(), force=True)
    assert scene.read(run).run_count == 2
    settings = scene.settings.model_copy(update={"max_restarts": 1})
    assert start_again(scene.client, settings, [scene.project]) == []
    assert start_again(scene.client, scene.settings, [scene.project]) == [str(run)]

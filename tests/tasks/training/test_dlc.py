"""Fine-tuning as a PAI-DLC job, against an emulated service that validates each request."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("alibabacloud_pai_dlc20201203")
pytest.importorskip("alibabacloud_eas20210701")

from alibabacloud_pai_dlc20201203 import models

from intent_core.errors import ConfigError, DataError, ServiceError, TrainingError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import TrainConfig
from intent_core.training.protocol import FAULT_FILE, PROGRESS_FILE, Progress
from tasks.alibaba.dlc import DlcJobs
from tasks.settings.pai import PaiSettings, get_pai_settings
from tasks.storage.step_results import write_finished
from tasks.training.dlc import PaiTraining, describe_job, job_name
from tasks.training.dlc_job import JobFault, do_training, put_request
from tests.support.alibaba.acs_signatures import KEY, SECRET, TOKEN
from tests.support.alibaba.pai_emulator import JOBS, refuse
from tests.support.alibaba.pai_environment import (
    ROLE,
    Scene,
    describe_artifact,
    describe_dataset,
)
from tests.support.alibaba.sdk_models import check_request

pytestmark = pytest.mark.service

PREFIX = "trainings/0123456789abcdef"
DATASET = describe_dataset()
ARTIFACT = describe_artifact("intent-0123456789ab")


class RecordingTracker:
    """A tracker that records every step."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def update(self, done: float, total: float, message: str = "") -> None:
        self.steps.append(done)


def run(scene: Scene, tracker: RecordingTracker | None = None) -> ModelArtifact:
    training = PaiTraining(scene.settings, scene.pai, scene.store, PREFIX)
    return training.run(DATASET, TrainConfig(), tracker or RecordingTracker(), None)  # type: ignore[arg-type]


def leave_model(scene: Scene) -> None:
    """Make the emulated job store its model when it succeeds."""

    def when(state: str) -> None:
        if state == "Succeeded":
            write_finished(scene.store, PREFIX, ARTIFACT)

    scene.plane.on_state = when


def leave_fault(scene: Scene, kind: str, message: str) -> None:
    def when(state: str) -> None:
        fault = JobFault(kind=kind, message=message).model_dump_json().encode()
        scene.store.put(f"{PREFIX}/{FAULT_FILE}", fault)

    scene.plane.on_state = when


def test_a_job_is_submitted_followed_and_its_model_found(scene: Scene) -> None:
    scene.plane.job_states = ["Creating", "Queuing", "Running", "Running", "Succeeded"]
    step = Progress(
        phase="training", step=3, total_steps=9, loss=1.5, samples_per_second=2, seconds_left=4
    )
    leave_model(scene)
    ended = scene.plane.on_state

    def when(state: str) -> None:
        if state == "Running":
            scene.store.put(f"{PREFIX}/{PROGRESS_FILE}", step.model_dump_json().encode() + b"\n")
        ended(state)

    scene.plane.on_state = when
    tracker = RecordingTracker()
    assert run(scene, tracker) == ARTIFACT
    assert tracker.steps == [3]
    (job,) = scene.plane.jobs
    assert job["DisplayName"] == job_name(scene.settings, PREFIX)
    assert job["UserCommand"] == f"exec python -m flows pai work {PREFIX}"
    assert job["JobSpecs"][0]["EcsSpec"] == "ecs.gn7i-c8g1.2xlarge"
    assert job["Envs"]["INTENT_STORE"] == "oss://ours/intent"
    assert job["WorkspaceId"] == scene.pai.workspace
    request = json.loads(scene.store.read(f"{PREFIX}/request.json"))
    assert request["dataset_uri"] == DATASET.uri


def test_a_finished_training_starts_no_job(scene: Scene) -> None:
    write_finished(scene.store, PREFIX, ARTIFACT)
    assert run(scene) == ARTIFACT
    assert scene.plane.requests == []


def test_the_job_is_one_of_the_sdk_and_has_no_secret(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The SDK's from_map drops unknown fields, so the sent request would not show them.
    for pai in (scene.pai, scene.pai.model_copy(update={"train_quota": "quota1", "vpc": "vpc-1"})):
        job = describe_job(scene.settings, pai, PREFIX)
        assert check_request(models.CreateJobRequest, job) == []
    credentials = job["CredentialConfig"]
    assert credentials["EnableCredentialInject"] is True
    assert credentials["CredentialConfigItems"][0]["Roles"] == [
        {"RoleType": "service", "RoleArn": ROLE, "AssumeRoleFor": "1234567890"}
    ]
    assert "EcsSpec" not in job["JobSpecs"][0] and job["ResourceId"] == "quota1"
    secret = scene.settings.model_copy(update={"api_key": "a-secret-key"})
    written = json.dumps(describe_job(secret, scene.pai, PREFIX))
    assert not [word for word in (KEY, SECRET, TOKEN, "a-secret-key") if word in written]


def test_after_a_crash_of_the_flow_the_job_is_found_again(scene: Scene) -> None:
    scene.plane.job_states = ["Running"]
    scene.plane.refusals["GetJob"] = [refuse(503, "Busy")] * 1000
    with pytest.raises(ServiceError, match="Busy"):
        run(scene)
    assert [job["Status"] for job in scene.plane.jobs] == ["Creating"], "it keeps running"
    scene.plane.refusals, scene.plane.job_states = {}, ["Running", "Succeeded"]
    leave_model(scene)
    assert run(scene) == ARTIFACT
    assert len(scene.plane.jobs) == 1


def test_another_store_or_training_is_another_job(scene: Scene) -> None:
    leave_model(scene)
    run(scene)
    other = scene.settings.model_copy(update={"store": "oss://theirs/intent"})
    assert job_name(other, PREFIX) != job_name(scene.settings, PREFIX)
    scene.plane.jobs[0]["Status"] = "Running"
    scene.plane.jobs[0]["DisplayName"] += "-2"
    assert DlcJobs(scene.pai).find(job_name(scene.settings, PREFIX)) == []


def test_of_two_that_start_at_once_the_older_one_stays(scene: Scene) -> None:
    DlcJobs(scene.pai).submit(describe_job(scene.settings, scene.pai, PREFIX))
    # The first request for the list does not contain the other job yet.
    scene.plane.refusals["ListJobs"] = [(200, {"Jobs": [], "RequestId": "x"})]
    leave_model(scene)
    assert run(scene) == ARTIFACT
    assert [job["Status"] for job in scene.plane.jobs] == ["Succeeded", "Stopped"]


def test_a_cancelled_run_stops_its_job(scene: Scene) -> None:
    scene.plane.job_states = ["Running"]

    class Cancelled(RecordingTracker):
        def update(self, done: float, total: float, message: str = "") -> None:
            raise KeyboardInterrupt

    def when(state: str) -> None:
        step = Progress(
            phase="training", step=1, total_steps=2, loss=1, samples_per_second=1, seconds_left=1
        )
        scene.store.put(f"{PREFIX}/{PROGRESS_FILE}", step.model_dump_json().encode() + b"\n")

    scene.plane.on_state = when
    with pytest.raises(KeyboardInterrupt):
        run(scene, Cancelled())
    assert [job["Status"] for job in scene.plane.jobs] == ["Stopped"]


def test_a_job_that_was_stopped_is_followed_by_another(scene: Scene) -> None:
    scene.plane.job_states = ["Running", "Stopped"]
    with pytest.raises(TrainingError, match=r"was stopped .*resumes from its checkpoint"):
        run(scene)
    scene.plane.job_states = ["Running", "Succeeded"]
    leave_model(scene)
    assert run(scene) == ARTIFACT
    assert len(scene.plane.jobs) == 2


def test_a_job_that_dies_is_told_with_its_last_lines(scene: Scene) -> None:
    scene.plane.job_states = ["Running", "Failed"]
    with pytest.raises(TrainingError, match=r"(?s)Failed \(JobReason\).*CUDA out of memory"):
        run(scene)


@pytest.mark.parametrize(
    ("kind", "error"),
    [("ConfigError", ConfigError), ("DataError", DataError), ("ServiceError", ServiceError)],
)
def test_the_job_s_own_error_is_the_run_s(scene: Scene, kind: str, error: type[Exception]) -> None:
    scene.plane.job_states = ["Failed"]
    leave_fault(scene, kind, "what is wrong")
    with pytest.raises(error, match="job dlc0001 on PAI: what is wrong"):
        run(scene)


def test_what_an_earlier_job_said_is_forgotten(scene: Scene) -> None:
    leave_fault(scene, "DataError", "old")
    scene.plane.on_state("Failed")
    scene.plane.on_state, scene.plane.job_states = lambda state: None, ["Failed"]
    with pytest.raises(TrainingError, match="CUDA"):
        run(scene)


def test_questions_that_are_not_answered_in_passing_cost_nothing(scene: Scene) -> None:
    leave_model(scene)
    scene.plane.refusals["GetJob"] = [refuse(429, "Throttling.User"), refuse(502, "x")]
    assert run(scene) == ARTIFACT


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (refuse(403, "NoPermission"), ConfigError, "Allow these credentials paidlc:CreateJob"),
        (refuse(400, "InvalidImage", "no such image"), ConfigError, "no such image"),
        (refuse(400, "Throttling.User"), ServiceError, "Throttling"),
        (refuse(404, "WorkspaceNotFound"), ConfigError, "Correct the workspace"),
        ((200, {"RequestId": "x"}), ServiceError, "does not contain job_id"),
    ],
)
def test_refusals_are_worth_a_retry_or_not(
    scene: Scene, answer: Any, kind: type[Exception], words: str
) -> None:
    scene.plane.refusals["CreateJob"] = [answer]
    with pytest.raises(kind, match=words):
        run(scene)


def test_the_job_refuses_to_train_what_no_run_would_find(scene: Scene, tiny_model: Path) -> None:
    write_finished(scene.store, DATASET.uri, DATASET)
    put_request(scene.store, PREFIX, DATASET, TrainConfig(base_model=str(tiny_model)))
    with pytest.raises(ConfigError, match="its code or its base model is different"):
        do_training(scene.settings, PREFIX)
    key = f"{PREFIX}/request.json"
    request = json.loads(scene.store.read(key))
    request["versions"]["torch"] = "1.0"
    scene.store.put(key, json.dumps(request).encode())
    with pytest.raises(ConfigError, match=r"torch .* instead of 1\.0.*INTENT_PAI_TRAIN_IMAGE"):
        do_training(scene.settings, PREFIX)
    fault = JobFault.model_validate_json(scene.store.read(f"{PREFIX}/{FAULT_FILE}"))
    assert fault.kind == "ConfigError"


def test_what_is_missing_is_named(scene: Scene) -> None:
    local = scene.settings.model_copy(update={"store": ""})
    with pytest.raises(ConfigError, match="INTENT_STORE to a folder in OSS"):
        describe_job(local, scene.pai, PREFIX)
    with pytest.raises(ConfigError, match="set INTENT_PAI_TRAIN_SPEC"):
        describe_job(scene.settings, scene.pai.model_copy(update={"train_spec": ""}), PREFIX)
    with pytest.raises(ConfigError, match="INTENT_PAI_REGION and INTENT_PAI_WORKSPACE"):
        DlcJobs(PaiSettings())


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTENT_PAI_TRAIN_GPUS", "many")
    with pytest.raises(ConfigError, match="INTENT_PAI_TRAIN_GPUS='many'"):
        get_pai_settings()


def test_without_the_sdk_the_extra_is_named(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "alibabacloud_pai_dlc20201203.client", None)
    with pytest.raises(ConfigError, match=r"pip install intent-pipeline\[pai\]"):
        DlcJobs(scene.pai)


def test_nothing_of_the_credentials_is_told(
    scene: Scene,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEBUG", "sdk")
    caplog.set_level(logging.DEBUG)
    scene.plane.refusals["CreateJob"] = [refuse(400, "SignatureDoesNotMatch", f"{TOKEN} {KEY}")]
    with pytest.raises(ConfigError) as caught:
        run(scene)
    logging.getLogger("tasks").error("failed", exc_info=caught.value)
    written = "".join([*capfd.readouterr(), caplog.text, str(caught.value)])
    assert "SignatureDoesNotMatch" in written
    assert not [word for word in (KEY, SECRET, TOKEN, "Signature=") if word in written]


def test_the_fake_complains(scene: Scene) -> None:
    status, _ = scene.plane.answer("POST", JOBS, {}, b'{"DisplayName": 1, "Colour": "red"}')
    assert status == 400
    said = " ".join(scene.plane.complaints)
    for words in ("has no Colour", "DisplayName is int", "lacks JobSpecs", "signature differs"):
        assert words in said
    scene.plane.complaints.clear()

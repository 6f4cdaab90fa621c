"""The task that fine-tunes as a PAI-DLC job and waits for the model in the store.

The job's name identifies the training and the store. A run that needs a training with an active
job waits for that job, so a killed run finds its job again. After a job was stopped or lost, the
next job resumes from the checkpoint in the store.
"""

import logging
import time
from typing import Any

from intent_core.datasets.manifest import DatasetManifest
from intent_core.errors import IntentError, ServiceError, TrainingError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import TrainConfig, fingerprint
from intent_core.training.protocol import PROGRESS_FILE
from tasks.alibaba.dlc import DlcJob, DlcJobs
from tasks.alibaba.store_access import describe_store
from tasks.orchestration.progress import Tracker, track
from tasks.orchestration.retries import retried_task
from tasks.settings import Settings, get_settings
from tasks.settings.pai import PaiSettings, get_pai_settings
from tasks.storage.objects import ObjectStore
from tasks.storage.step_results import get_store, read_finished, require_finished, work_folder
from tasks.tracking.live_curves import LiveCurves, live_curves
from tasks.training.dlc_job import put_request, read_fault, read_progress
from tasks.training.finished import require_model, reuse_training, training_prefix
from tasks.training.process import show_progress

logger = logging.getLogger(__name__)

_LOG_LINES = 20
# Long enough to save a checkpoint and upload it to the store.
_GRACE_S = 300
_ROLE = "0"


@retried_task("fine-tune {config.base_model} ({config.method}) on PAI")
def finetune_on_pai(
    dataset: DatasetManifest, config: TrainConfig, project: str = ""
) -> ModelArtifact:
    """Fine-tune in a PAI-DLC job: the same model and store keys as `finetune_model`."""
    settings, pai = get_settings(), get_pai_settings()
    if done := reuse_training(settings, dataset, config):
        return done
    store, prefix = get_store(settings), training_prefix(dataset, config)
    training = PaiTraining(settings, pai, store, prefix)
    with track("fine-tune", "fine-tune") as tracker, live_curves(settings, project, prefix) as live:
        training.run(dataset, config, tracker, live)
    # The job may have been another run's, with the same texts and another vocabulary.
    return reuse_training(settings, dataset, config) or require_model(store, dataset, config)


class PaiTraining:
    """One training as a PAI-DLC job."""

    def __init__(
        self, settings: Settings, pai: PaiSettings, store: ObjectStore, prefix: str
    ) -> None:
        self._request = describe_job(settings, pai, prefix)
        self._name = job_name(settings, prefix)
        self._jobs = DlcJobs(pai)
        self._pai, self._store, self._prefix = pai, store, prefix
        self._progress = work_folder(settings, prefix) / PROGRESS_FILE

    def run(
        self,
        dataset: DatasetManifest,
        config: TrainConfig,
        tracker: Tracker,
        curves: LiveCurves | None,
    ) -> ModelArtifact:
        """Start the job or find the active one, wait for it, and return its model.

        The job is stopped on any exception other than an `IntentError`, such as a cancellation.
        """
        done = read_finished(self._store, self._prefix, ModelArtifact)
        if done:
            return done
        job_id = self._find()
        try:
            if not job_id:
                put_request(self._store, self._prefix, dataset, config)
                job_id = self._submit()
            job = self._wait(job_id, tracker, curves)
        except IntentError:
            raise  # e.g. PAI does not answer: the job continues and a retry finds it
        except BaseException:
            self._cancel(job_id)
            raise
        return self._judge(job)

    def _find(self) -> str:
        active = self._list_active()
        if not active:
            return ""
        logger.info("found active job %s for this training; waiting for it", active[0])
        return active[0]

    def _list_active(self) -> list[str]:
        """Return the ids of the active jobs with this name, oldest first."""
        return [job.job_id for job in self._jobs.find(self._name) if job.is_active]

    def _submit(self) -> str:
        job_id = self._jobs.submit(self._request)
        # Two runs may have started a job at the same time; keep the older job.
        active = self._list_active()
        if active and active[0] != job_id and job_id in active:
            self._jobs.stop(job_id)
            return active[0]
        logger.info("started job %s (%s) on PAI", job_id, self._name)
        return job_id

    def _wait(self, job_id: str, tracker: Tracker, curves: LiveCurves | None) -> DlcJob:
        shown, status, answered = 0, "", time.monotonic()
        while True:
            try:
                job = self._jobs.ask(job_id)
                if job.status != status:
                    status, why = job.status, f" ({job.reason})" if job.reason else ""
                    logger.info("job %s is %s%s", job_id, status, why)
                self._progress.write_bytes(read_progress(self._store, self._prefix))
                shown = show_progress(self._progress, shown, tracker, curves)
                if not job.is_active:
                    return job
                answered = time.monotonic()
            except ServiceError as error:
                if time.monotonic() - answered > self._pai.patience_s:
                    raise
                logger.warning("%s. Retrying in %g s", error, self._pai.poll_s)
            time.sleep(self._pai.poll_s)

    def _cancel(self, job_id: str) -> None:
        """Stop the job; if the submission was interrupted, its id is looked up by name."""
        try:
            for active in {*self._list_active(), *([job_id] if job_id else [])}:
                self._jobs.stop(active)
        except IntentError as error:
            logger.error(
                "could not stop job %s; it is still running and being billed: %s",
                job_id or self._name,
                error,
            )

    def _judge(self, job: DlcJob) -> ModelArtifact:
        if job.has_succeeded:
            return require_finished(self._store, self._prefix, ModelArtifact)
        fault = read_fault(self._store, self._prefix)
        if fault and not job.was_stopped:
            raise type(fault)(f"job {job.job_id} on PAI: {fault}")
        why = f" ({job.reason})" if job.reason else ""
        if job.was_stopped:
            raise TrainingError(
                f"job {job.job_id} on PAI was stopped{why}; the next run resumes from its "
                "checkpoint"
            )
        try:
            tail = "\n".join(self._jobs.read_log(job, _LOG_LINES)) or "(empty)"
        except IntentError as error:
            tail = f"({error})"
        raise TrainingError(
            f"job {job.job_id} on PAI ended with status {job.status}{why}; last lines of its "
            f"log:\n{tail}"
        )


def job_name(settings: Settings, prefix: str) -> str:
    """Return the job's name: the same on every machine for the same training and store."""
    return f"intent-{fingerprint(settings.store_uri, prefix)}"


def describe_job(settings: Settings, pai: PaiSettings, prefix: str) -> dict[str, Any]:
    """Describe the job with the field names of CreateJob. The description has no secrets."""
    pai.require("train_image")
    spec: dict[str, Any] = {"Type": "Worker", "PodCount": 1, "Image": pai.train_image}
    request: dict[str, Any] = {
        "DisplayName": job_name(settings, prefix),
        "JobType": "PyTorchJob",
        "JobSpecs": [spec],
        # `exec`, so that the signal to stop the job reaches our process.
        "UserCommand": f"exec python -m flows pai work {prefix}",
        "Envs": {
            **describe_store(settings, pai),
            "INTENT_HOME": pai.train_home,
            "PYTHONUNBUFFERED": "1",
        },
        "CredentialConfig": _credentials(pai),
        "JobMaxRunningTimeMinutes": pai.train_max_minutes,
        "Settings": {
            "Tags": {"intent-training": prefix.rpartition("/")[2]},
            "TerminationGracePeriodSeconds": _GRACE_S,
        },
    }
    if settings.hub_endpoint:
        request["Envs"]["INTENT_HUB_ENDPOINT"] = settings.hub_endpoint
    if pai.train_quota:
        request["ResourceId"] = pai.train_quota
        spec["ResourceConfig"] = {
            "CPU": str(pai.train_cpu),
            "Memory": f"{pai.train_memory_gb}Gi",
            "SharedMemory": f"{max(1, pai.train_memory_gb // 2)}Gi",
            "GPU": str(pai.train_gpus),
        }
    else:
        pai.require("train_spec")
        spec["EcsSpec"] = pai.train_spec
    if pai.vpc:
        request["UserVpc"] = {
            "VpcId": pai.vpc,
            "SwitchId": pai.vswitch,
            "SecurityGroupId": pai.security_group,
        }
    return request


def _credentials(pai: PaiSettings) -> dict[str, Any]:
    """Request temporary keys of a role, which PAI provides to `alibabacloud_credentials`."""
    roles = []
    if pai.role_arn:
        account = pai.role_arn.split(":")[3]
        roles = [{"RoleType": "service", "RoleArn": pai.role_arn, "AssumeRoleFor": account}]
    return {
        "EnableCredentialInject": True,
        "AliyunEnvRoleKey": _ROLE,
        "CredentialConfigItems": [{"Key": _ROLE, "Type": "Role", "Roles": roles}],
    }

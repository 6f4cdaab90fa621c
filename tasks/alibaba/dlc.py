"""Client of PAI-DLC's training jobs (API version 2020-12-03)."""

import logging
from typing import Any

from pydantic import BaseModel, ConfigDict

from tasks.alibaba.client import AlibabaApi, Plane, require_field
from tasks.settings.pai import PaiSettings

logger = logging.getLogger(__name__)

_PLANE = Plane(
    name="PAI-DLC",
    package="alibabacloud_pai_dlc20201203",
    extra="pai",
    example="pai-dlc.cn-hangzhou.aliyuncs.com",
    allow="paidlc:CreateJob, paidlc:GetJob, paidlc:ListJobs, paidlc:StopJob and "
    "paidlc:GetPodLogs in the workspace",
    correct="Correct the workspace, the quota or the image; see PAI's console for their names",
)
_PAGE = 100
_SUCCEEDED = {"Succeeded", "SucceededReserving"}
_FAILED = {"Failed", "FailedReserving"}
_STOPPED = {"Stopping", "Stopped"}


class TrainingPod(BaseModel):
    """A pod (node) of a job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pod_id: str
    status: str


class DlcJob(BaseModel):
    """A job as PAI-DLC describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: str
    status: str
    reason: str = ""
    created: str = ""
    pods: tuple[TrainingPod, ...] = ()

    @property
    def is_active(self) -> bool:
        """Whether the job has not ended; True for an unknown status."""
        return self.status not in _SUCCEEDED | _FAILED | _STOPPED

    @property
    def has_succeeded(self) -> bool:
        return self.status in _SUCCEEDED

    @property
    def was_stopped(self) -> bool:
        return self.status in _STOPPED


class DlcJobs:
    """The jobs of one workspace. Every method raises the errors of `AlibabaApi`."""

    def __init__(self, pai: PaiSettings) -> None:
        pai.require("region", "workspace")
        endpoint = pai.dlc_endpoint or f"pai-dlc.{pai.region}.aliyuncs.com"
        self._api = AlibabaApi(_PLANE, endpoint)
        self._client, self._models = self._api.client, self._api.models
        self._workspace = pai.workspace

    def find(self, name: str) -> list[DlcJob]:
        """List the jobs with exactly this display name, oldest first."""
        matches, page = [], 1
        while True:
            # The service treats the name as a pattern, so the result is filtered below.
            request = self._models.ListJobsRequest(
                workspace_id=self._workspace,
                display_name=name,
                page_number=page,
                page_size=_PAGE,
                sort_by="GmtCreateTime",
                order="asc",
            )
            with self._api.alibaba_errors(f"list jobs named {name!r}"):
                jobs = self._client.list_jobs(request).body.jobs or []
            matches += [_describe(job) for job in jobs if job.display_name == name]
            if len(jobs) < _PAGE:
                return sorted(matches, key=lambda job: (job.created, job.job_id))
            page += 1

    def submit(self, request: dict[str, Any]) -> str:
        """Start a job and return its id; `request` uses the field names of CreateJob."""
        body = self._models.CreateJobRequest().from_map({"WorkspaceId": self._workspace, **request})
        with self._api.alibaba_errors(f"start job {request['DisplayName']!r}") as what:
            return require_field(what, self._client.create_job(body).body, "job_id")

    def ask(self, job_id: str) -> DlcJob:
        with self._api.alibaba_errors(f"read job {job_id}") as what:
            request = self._models.GetJobRequest(need_detail=True)
            job = self._client.get_job(job_id, request).body
            require_field(what, job, "status")
        return _describe(job)

    def stop(self, job_id: str) -> None:
        with self._api.alibaba_errors(f"stop job {job_id}"):
            self._client.stop_job(job_id)
        logger.info("stopping job %s", job_id)

    def read_log(self, job: DlcJob, lines: int) -> list[str]:
        """Return the last lines of the log of the failed pod, else of the first pod."""
        failed = [pod for pod in job.pods if pod.status == "Failed"]
        for pod in (failed or list(job.pods))[:1]:
            request = self._models.GetPodLogsRequest(max_lines=lines)
            with self._api.alibaba_errors(f"read the log of job {job.job_id}"):
                logs = self._client.get_pod_logs(job.job_id, pod.pod_id, request).body.logs
            return [str(line).rstrip("\n") for line in logs or []][-lines:]
        return []


def _describe(job: Any) -> DlcJob:
    return DlcJob(
        job_id=job.job_id or "",
        status=job.status or "",
        reason=": ".join(filter(None, [job.reason_code, job.reason_message])),
        created=job.gmt_create_time or "",
        pods=tuple(
            TrainingPod(pod_id=pod.pod_id, status=pod.status or "")
            for pod in job.pods or []
            if pod.pod_id
        ),
    )

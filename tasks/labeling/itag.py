"""The labelling service (Alibaba Cloud iTAG), through its OpenITag API of 2022-06-16.

An export only reads the annotations, so it is safe to start another after a crash or a timeout.
The new export contains everything that the lost one contained; the lost job finishes in iTAG.
"""

import logging
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

from intent_core.errors import ConfigError, ServiceError
from tasks.alibaba.client import AlibabaApi, Plane, require_field
from tasks.settings import Settings
from tasks.storage.open import scheme_of

logger = logging.getLogger(__name__)

JOB_TYPE = "DOWNLOWD_MARKRESULT_FLOW"  # sic: the API spells it this way
UNANSWERED = "unanswered"

_PLANE = Plane(
    name="iTAG",
    package="alibabacloud_openitag20220616",
    extra="itag",
    example="openitag.cn-hangzhou.aliyuncs.com",
    allow="paiitag:ExportAnnotations, paiitag:GetJob and paiitag:GetTaskStatus, and add them to "
    "the tenant",
    correct="Correct the task or the tenant; iTAG's console names both",
)


class ExportFailedError(ServiceError):
    """The export job failed; start another export."""


OnWait = Callable[[str, float], None]
"""Called before each pause with the job's status (or `unanswered`) and the seconds waited."""


class LabellingService:
    """One tenant of iTAG.

    Every method raises `ConfigError` when the user must act (credentials, permission, an unknown
    tenant or task) and `ServiceError` for failures that may pass (throttling, 5xx, the network).
    """

    def __init__(self, endpoint: str, tenant: str) -> None:
        """Check the names; send nothing.

        `endpoint` is a host such as openitag.cn-hangzhou.aliyuncs.com; a leading http:// disables
        TLS. Credentials come from the standard chain of `alibabacloud_credentials`.
        """
        self._api = AlibabaApi(_PLANE, endpoint)
        self.endpoint, self.tenant = self._api.endpoint, _checked("tenant", tenant)
        self._models, self._client = self._api.models, self._api.client

    def export_task(
        self,
        task_id: str,
        oss_path: str | None,
        *,
        timeout_s: float,
        poll_s: float,
        on_wait: OnWait = lambda status, waited_s: None,
    ) -> str:
        """Export the labels so far, wait for the job, and return the `oss://bucket/key` it wrote.

        `oss_path` is the target folder, `oss://bucket/folder/`; with None iTAG chooses one.
        """
        job_id = self.start_export(task_id, oss_path)
        return self.wait_for_export(
            task_id, job_id, timeout_s=timeout_s, poll_s=poll_s, on_wait=on_wait
        )

    def start_export(self, task_id: str, oss_path: str | None) -> str:
        """Start an export and return the id of its job."""
        if oss_path is not None and scheme_of(oss_path) != "oss":
            raise ConfigError(f"{oss_path!r} is not an OSS folder: write oss://bucket/folder/")
        request = self._models.ExportAnnotationsRequest(oss_path=oss_path)
        with self._alibaba_errors(f"start an export of task {task_id!r}") as what:
            task = _checked("task", task_id)
            body = self._client.export_annotations(self.tenant, task, request).body
            job_id = require_field(what, self._accepted(what, body).flow_job, "job_id")
        logger.info("export started: task %s, job %s", task_id, job_id)
        return job_id

    def wait_for_export(
        self,
        task_id: str,
        job_id: str,
        *,
        timeout_s: float,
        poll_s: float,
        on_wait: OnWait = lambda status, waited_s: None,
    ) -> str:
        """Wait for a started export and return the `oss://bucket/key` it wrote.

        A status query that fails with `ServiceError` is retried after the pause; the job itself
        is not affected.
        """
        what = f"export job {job_id} of task {task_id!r}"
        began = time.monotonic()
        while True:
            asked_at, fault = time.monotonic(), ""
            try:
                job = self._job(what, job_id)
                status = require_field(what, job, "status").lower()
            except ServiceError as error:
                status, fault = UNANSWERED, f" ({error})"
                logger.warning("%s; retrying in %g s", error, poll_s)
            if status == "succ":
                return _oss_uri(what, require_field(what, job.job_result, "result_link"))
            if status == "fail":
                raise ExportFailedError(f"{what} failed: see the reason in iTAG's task center")
            if status in ("pause", "stop"):
                raise ConfigError(
                    f"{what} was set to {status!r} in iTAG: resume it there or start another export"
                )
            if asked_at - began >= timeout_s:
                raise ServiceError(
                    f"{what} is still {status!r} after {timeout_s:g} s{fault}. It continues in "
                    "iTAG: wait longer, or start another export later"
                )
            waited = time.monotonic() - began
            on_wait(status, waited)
            time.sleep(max(0.0, min(poll_s, timeout_s - waited)))

    def is_finished(self, task_id: str) -> bool:
        """Whether all stages of the task are finished: its status is FINISHED."""
        with self._alibaba_errors(f"query the status of task {task_id!r}") as what:
            body = self._client.get_task_status(self.tenant, _checked("task", task_id)).body
            return (
                require_field(what, self._accepted(what, body), "task_status").upper() == "FINISHED"
            )

    def _job(self, what: str, job_id: str) -> Any:
        request = self._models.GetJobRequest(job_type=JOB_TYPE)
        with self._alibaba_errors(f"query {what}") as query:
            job = _checked("job", job_id)
            return self._accepted(query, self._client.get_job(self.tenant, job, request).body).job

    def _alibaba_errors(self, action: str) -> AbstractContextManager[str]:
        return self._api.alibaba_errors(action, f"tenant {self.tenant} at ")

    def _accepted(self, what: str, body: Any) -> Any:
        """Return the body; raise if it is missing or reports a failure."""
        if body is None:
            raise ServiceError(self._api.no_answer(what))
        if body.success is False:
            status = body.code if isinstance(body.code, int) and 400 <= body.code < 600 else None
            raise self._api.refusal(what, status, body.error_code, body.message, body.request_id)
        return body


def open_service(settings: Settings) -> LabellingService:
    """Open the tenant named in the settings; raise `ConfigError` if it is not set."""
    if not settings.itag_endpoint or not settings.itag_tenant:
        raise ConfigError("set INTENT_ITAG_ENDPOINT and INTENT_ITAG_TENANT")
    return LabellingService(settings.itag_endpoint, settings.itag_tenant)


def _checked(kind: str, identifier: str) -> str:
    """Return an id that is safe in a URL path: a slash, or dots alone, would change the path."""
    if not re.fullmatch(r"[\w-][\w.-]*", identifier):
        raise ConfigError(f"{identifier!r} is not a {kind} id: copy it from iTAG's console")
    return identifier


def _oss_uri(what: str, link: str) -> str:
    """Return `oss://bucket/key`; iTAG may append the endpoint to the bucket, as in a host name."""
    match = re.fullmatch(r"oss://([a-z0-9-]+)(?:\.[^/]+)?/(.+)", link)
    if match is None:
        where = urlsplit(link)  # a signed link grants access: print its host only
        raise ConfigError(
            f"{what} wrote its result to {where.scheme}://{where.hostname}, not to OSS: pass a "
            "target folder, oss://bucket/folder/"
        )
    return f"oss://{match[1]}/{match[2]}"

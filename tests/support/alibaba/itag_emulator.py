"""An iTAG control plane on loopback that checks each request and its signature.

It follows the documentation of the API and was not compared with the live service.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from alibabacloud_openitag20220616 import models

from tests.support.alibaba.acs_signatures import sign

TENANT, TASK = "GA1234W134", "1543202518306500608"
LINK = "oss://labels.oss-cn-hangzhou.aliyuncs.com/exports/banking.manifest"
ROOT = f"/openapi/api/v1/tenants/{TENANT}"
Answer = tuple[int, dict[str, Any] | str]


def refuse(status: int, code: str, message: str = "no") -> Answer:
    return status, {"Code": code, "Message": message, "RequestId": "R-1"}


def refuse_politely(code: str) -> Answer:
    """Refuse like the service's application layer, with status 200 and `Success` false."""
    return 200, {"Success": False, "ErrorCode": code, "Message": "no", "RequestId": "R-1"}


class ControlPlane:
    """Tasks, jobs and their states; errors in requests are collected in `complaints`."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.complaints: list[str] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.jobs: list[str] = []
        self.states = ["init", "running", "succ"]
        """States of a job, one per request; the last one stays."""
        self.answers: dict[str, list[Answer]] = {"export": [], "job": [], "status": []}
        """Answers to give first, one per request of that kind."""
        self.link: str | None = LINK
        self.task_status = "PROCESSING"

    def answer(self, method: str, target: str, headers: dict[str, str]) -> Answer:
        split = urlsplit(target)
        query = dict(parse_qsl(split.query))
        self.requests.append((split.path, query))
        kind, action, allowed = self.route(split.path)
        expected = {"x-acs-action": action, "x-acs-version": "2022-06-16"}
        complaints = [f"{n} is not {v}" for n, v in expected.items() if headers.get(n) != v]
        if method != "GET" or not query.keys() <= allowed:
            complaints.append(f"{method} {split.path} with {sorted(query)}")
        if headers.get("authorization") != sign(method, target, headers):
            complaints.append("the signature differs")
        self.complaints += complaints
        if complaints:
            return refuse(400, "BadRequest", "; ".join(complaints))
        if self.answers[kind]:
            return self.answers[kind].pop(0)
        return 200, {"Code": 0, "Message": "success", "Success": True, "ErrorCode": '""'} | getattr(
            self, kind
        )(query, split.path.rpartition("/")[2])

    @staticmethod
    def route(path: str) -> tuple[str, str, set[str]]:
        """Return (kind, action, query names) of a path, with the names of the SDK's models."""
        if re.fullmatch(rf"{ROOT}/tasks/{TASK}/annotations/export", path):
            whole = models.ExportAnnotationsRequest(oss_path="", register_dataset="", target="")
            return "export", "ExportAnnotations", set(whole.to_map())
        if re.fullmatch(rf"{ROOT}/jobs/job-\d+", path):
            return "job", "GetJob", set(models.GetJobRequest(job_type="").to_map())
        if re.fullmatch(rf"{ROOT}/tasks/{TASK}/status", path):
            return "status", "GetTaskStatus", set()
        return "unknown", "no such path", set()

    def export(self, query: dict[str, str], _: str) -> dict[str, Any]:
        self.jobs.append(f"job-{len(self.jobs) + 1}")
        flow = models.FlowJobInfo(
            job_id=self.jobs[-1], task_id=TASK, job_type="DOWNLOWD_MARKRESULT_FLOW"
        )
        return {"FlowJob": flow.to_map()}

    def job(self, query: dict[str, str], job_id: str) -> dict[str, Any]:
        if query != {"JobType": "DOWNLOWD_MARKRESULT_FLOW"}:
            self.complaints.append(f"a job was requested with {query}")
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        job = models.Job(job_id=job_id, status=state, gmt_create_time="2026-07-05 11:42:19")
        if state == "succ":
            job.job_result = models.JobJobResult(result_link=self.link)
        return {"Job": job.to_map()}

    def status(self, query: dict[str, str], _: str) -> dict[str, Any]:
        return {"TaskStatus": self.task_status}


@contextmanager
def run_plane() -> Iterator[ControlPlane]:
    """Run the emulator; at the end, assert that every request was valid."""
    plane = ControlPlane()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, body = plane.answer(self.command, self.path, headers)
            self.send_response(status)
            self.end_headers()
            self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        plane.endpoint = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield plane
        server.shutdown()
    assert plane.complaints == []

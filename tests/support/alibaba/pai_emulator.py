"""PAI-DLC and PAI-EAS on loopback; checks each request's signature and fields by the SDKs' models.

It follows the SDKs' models and the documentation of the APIs and was not compared with the live
services.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from alibabacloud_eas20210701 import models as eas
from alibabacloud_pai_dlc20201203 import models as dlc

from tests.support.alibaba.acs_signatures import sign
from tests.support.alibaba.sdk_models import check_query, check_request

REGION, WORKSPACE, GROUP = "cn-hangzhou", "27864", "intent_service"
JOBS, SERVICES = "/api/v1/jobs", "/api/v2/services"
# The fields that we use, from EAS's documentation of JSON deployment.
SPEC = {
    "metadata": "name workspace_id instance rolling_strategy resource cpu memory gpu",
    "containers": "image script port env",
    "storage": "mount_path oss",
    "cloud": "computing networking",
    "options": "enable_ram_role",
    "runtime": "termination_grace_period",
    "role_arn": "",
}
Answer = tuple[int, dict[str, Any] | str]
Body = dict[str, Any]


def refuse(status: int, code: str, message: str = "no") -> Answer:
    return status, {"Code": code, "Message": message, "RequestId": "R-1"}


class PaiPlane:
    """Jobs, services and their states; errors in requests are collected in `complaints`."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        """The requested actions."""
        self.refusals: dict[str, list[Answer]] = {}
        """Answers to give first, by action."""
        self.jobs: list[Body] = []
        self.job_states = ["Creating", "EnvPreparing", "Running", "Succeeded"]
        """States of the newest job, one per request; the last one stays."""
        self.on_state: Callable[[str], None] = lambda state: None
        self.log = ["Traceback", "torch.OutOfMemoryError: CUDA out of memory"]
        self.services: dict[str, Body] = {}
        self.service_states = ["Creating", "Waiting", "Running"]

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        path = urlsplit(target).path
        query = dict(parse_qsl(urlsplit(target).query))
        version = "2020-12-03" if path.startswith("/api/v1") else "2021-07-01"
        action, answered, kind, faults = self.route(method, path, query, body)
        wanted = {"x-acs-action": action, "x-acs-version": version}
        faults = [f"{n} is not {v}" for n, v in wanted.items() if headers.get(n) != v] + faults
        signature = sign(method, target, headers, body)
        if headers.get("authorization") != signature:
            faults.append(f"the signature differs: {signature}")
        self.requests.append(action)
        self.complaints += faults
        if faults:
            return refuse(400, "BadRequest", "; ".join(faults))
        if self.refusals.get(action):
            return self.refusals[action].pop(0)
        found = answered()
        if found is None:
            return refuse(404, "NotFound")
        self.complaints += check_request(kind, found, whole=False)
        return 200, {**found, "RequestId": "R-1"}

    def route(
        self, method: str, path: str, query: dict[str, str], body: bytes
    ) -> tuple[str, Callable[[], Body | None], type[Any], list[str]]:
        """Return (action, handler, model of the answer, errors)."""
        content = json.loads(body or b"{}")
        job = re.fullmatch(rf"{JOBS}/([\w-]+)(/stop|/pods/[\w-]+/logs)?", path)
        service = re.fullmatch(rf"{SERVICES}/{REGION}/(\w+)(/events)?", path)
        match method, path, job and (job[2] or ""), service and (service[2] or ""):
            case "POST", "/api/v1/jobs", _, _:
                faults = check_request(dlc.CreateJobRequest, content)
                return "CreateJob", lambda: self.create(content), dlc.CreateJobResponseBody, faults
            case "GET", "/api/v1/jobs", _, _:
                faults = check_query(dlc.ListJobsShrinkRequest, query)
                return "ListJobs", lambda: self.list(query), dlc.ListJobsResponseBody, faults
            case "GET", _, "", _ if job:
                faults, name = check_query(dlc.GetJobRequest, query), job[1]
                return "GetJob", lambda: self.job(name), dlc.GetJobResponseBody, faults
            case "POST", _, "/stop", _ if job:
                name = job[1]
                return "StopJob", lambda: self.stop(name), dlc.StopJobResponseBody, []
            case "GET", _, str(), _ if job:
                faults = check_query(dlc.GetPodLogsRequest, query)
                lines = self.log[-int(query["MaxLines"]) :]
                return "GetPodLogs", lambda: {"Logs": lines}, dlc.GetPodLogsResponseBody, faults
            case "GET", "/api/v2/services", _, _:
                faults = check_query(eas.ListServicesRequest, query)
                kind = eas.ListServicesResponseBody
                return "ListServices", lambda: self.list_services(query), kind, faults
            case "POST", "/api/v2/services", _, _:
                faults = check_query(eas.CreateServiceShrinkRequest, query) + check_spec(content)
                faults += [] if query.get("WorkspaceId") == WORKSPACE else ["no workspace"]
                kind = eas.CreateServiceResponseBody
                return "CreateService", lambda: self.put(content), kind, faults
            case "GET", _, _, "" if service:
                name = service[1]
                return "DescribeService", lambda: self.service(name), eas.Service, []
            case "PUT", _, _, "" if service:
                faults = check_query(eas.UpdateServiceRequest, query) + check_spec(content)
                kind = eas.UpdateServiceResponseBody
                return "UpdateService", lambda: self.put(content), kind, faults
            case "GET", _, _, "/events" if service:
                faults = check_query(eas.DescribeServiceEventRequest, query)
                events = {"Events": [{"Reason": "BackOff", "Message": "ImagePullBackOff"}]}
                kind = eas.DescribeServiceEventResponseBody
                return "DescribeServiceEvent", lambda: events, kind, faults
        return "none", lambda: None, eas.Service, [f"{method} {path} is no path"]

    def create(self, content: Body) -> Body:
        name = f"dlc{len(self.jobs) + 1:04}"
        made = {"JobId": name, "Status": "Creating", "GmtCreateTime": f"T{len(self.jobs):03}"}
        self.jobs.append(content | made)
        return {"JobId": name}

    def list(self, query: dict[str, str]) -> Body:
        # Like the service, match any part of a name.
        found = [job for job in self.jobs if query["DisplayName"] in job["DisplayName"]]
        names = ("JobId", "DisplayName", "Status", "GmtCreateTime")
        return {"Jobs": [{name: job[name] for name in names} for job in found]}

    def job(self, name: str) -> Body | None:
        job = next((one for one in self.jobs if one["JobId"] == name), None)
        if job and job["Status"] != "Stopped":
            states = self.job_states
            job["Status"] = states.pop(0) if len(states) > 1 else states[0]
            self.on_state(job["Status"])
        if job is None:
            return None
        pods = [{"PodId": f"{name}-master-0", "Status": job["Status"]}]
        return {"JobId": name, "Status": job["Status"], "ReasonCode": "JobReason", "Pods": pods}

    def stop(self, name: str) -> Body:
        next(one for one in self.jobs if one["JobId"] == name)["Status"] = "Stopped"
        return {"JobId": name}

    def put(self, spec: Body) -> Body:
        name = spec["metadata"]["name"]
        old = self.services.get(name, {"version": 0, "shown": 0})
        version = old["version"] + 1
        self.services[name] = {
            **old,
            "spec": spec,
            "version": version,
            "states": list(self.service_states),
            "token": f"token-of-{name}",
        }
        return {"Message": "accepted"} if version > 1 else {"ServiceName": name}

    def list_services(self, query: dict[str, str]) -> Body:
        found = [name for name in self.services if query["Filter"] in name]
        return {"Services": [{"ServiceName": name, "Status": "Running"} for name in found]}

    def service(self, name: str) -> Body | None:
        one = self.services.get(name)
        if one is None:
            return None
        states = one["states"]
        state = states.pop(0) if len(states) > 1 else states[0]
        one["shown"] = one["version"] if state == "Running" else one["shown"]
        return {
            "ServiceName": name,
            "Status": state,
            "Message": "Service is not ready" if state == "Failed" else "",
            "AccessToken": one["token"],
            "InternetEndpoint": self.url(name),
            "CurrentVersion": one["shown"],
            "LatestVersion": one["version"],
            "RunningInstance": 2,
            "TotalInstance": 2,
        }

    def url(self, name: str) -> str:
        return f"{self.endpoint}/api/predict/{name}"


def check_spec(spec: Body) -> list[str]:
    """Check a specification's field names and required fields; return the errors."""
    faults = [f"a service has no {name}" for name in spec.keys() - SPEC.keys()]
    for name in spec.keys() & SPEC.keys():
        parts = spec[name] if isinstance(spec[name], list) else [spec[name]]
        for part in (one for one in parts if isinstance(one, dict)):
            faults += [f"{name} has no {one}" for one in part.keys() - set(SPEC[name].split())]
    metadata = spec.get("metadata", {})
    if not re.fullmatch(r"[a-z][a-z0-9_]{2,62}", metadata.get("name", "")):
        faults.append("no name of a service")
    if not (
        {"resource", "cpu", "memory"} <= metadata.keys() or "computing" in spec.get("cloud", {})
    ):
        faults.append("no resources")
    return faults + [
        "a container lacks its image, script or port"
        for one in spec.get("containers", [{}])
        if not {"image", "script", "port"} <= one.keys()
    ]


@contextmanager
def run_plane() -> Iterator[PaiPlane]:
    """Run the emulator; at the end, assert that every request was valid."""
    plane = PaiPlane()

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            status, found = plane.answer(self.command, self.path, headers, body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write((found if isinstance(found, str) else json.dumps(found)).encode())

        do_GET = do_POST = do_PUT = respond

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        plane.endpoint = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield plane
        server.shutdown()
    assert plane.complaints == []

"""Exports of labelling tasks, against an emulator on loopback that checks each request."""

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from intent_core.errors import ConfigError, IntentError, ServiceError
from tasks.labeling.itag import LabellingService

pytest.importorskip("alibabacloud_openitag20220616")
auth_util = pytest.importorskip("alibabacloud_credentials.utils.auth_util")

from tests.support.alibaba.acs_signatures import KEY, SECRET, TOKEN  # noqa: E402
from tests.support.alibaba.itag_emulator import (  # noqa: E402
    ROOT,
    TASK,
    TENANT,
    Answer,
    ControlPlane,
    refuse,
    refuse_politely,
    run_plane,
)

pytestmark = pytest.mark.service

FOLDER = "oss://labels/exports/"


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set temporary keys in the chain's first place; it read the environment at its import."""
    monkeypatch.setattr(auth_util, "environment_access_key_id", KEY)
    monkeypatch.setattr(auth_util, "environment_access_key_secret", SECRET)
    monkeypatch.setattr(auth_util, "environment_security_token", TOKEN)
    for name in ("HTTP_PROXY", "http_proxy"):  # the SDK would use it for loopback, too
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def plane(credentials: None) -> Iterator[ControlPlane]:
    with run_plane() as plane:
        yield plane


@pytest.fixture
def service(plane: ControlPlane) -> LabellingService:
    return LabellingService(plane.endpoint, TENANT)


def export(service: LabellingService, folder: str | None = FOLDER, **options: Any) -> str:
    return service.export_task(TASK, folder, **{"timeout_s": 5, "poll_s": 0.01} | options)


def test_an_export_is_started_awaited_and_its_result_named(
    plane: ControlPlane, service: LabellingService
) -> None:
    plane.states = ["init", "running", "running", "succ"]
    told: list[tuple[str, float]] = []
    uri = export(service, on_wait=lambda status, waited: told.append((status, waited)))
    assert uri == "oss://labels/exports/banking.manifest"
    assert [status for status, _ in told] == ["init", "running", "running"]
    assert [waited for _, waited in told] == sorted(waited for _, waited in told)
    assert plane.requests[0] == (f"{ROOT}/tasks/{TASK}/annotations/export", {"OssPath": FOLDER})
    assert {path for path, _ in plane.requests[1:]} == {f"{ROOT}/jobs/job-1"}


def test_no_folder_sends_none(plane: ControlPlane, service: LabellingService) -> None:
    export(service, None)
    assert plane.requests[0][1] == {}


def test_an_export_that_times_out_continues_in_itag(
    plane: ControlPlane, service: LabellingService
) -> None:
    plane.states = ["running"]
    with pytest.raises(ServiceError, match=r"job-1 .* is still 'running' after 0\.1 s"):
        export(service, timeout_s=0.1)
    plane.states = ["succ"]
    waited = service.wait_for_export(TASK, "job-1", timeout_s=1, poll_s=0.01)
    assert waited.endswith("banking.manifest")


@pytest.mark.parametrize(
    ("state", "kind"), [("fail", ServiceError), ("pause", ConfigError), ("stop", ConfigError)]
)
def test_a_job_that_ends_otherwise_is_an_error(
    plane: ControlPlane, service: LabellingService, state: str, kind: type[IntentError]
) -> None:
    plane.states = ["running", state]
    with pytest.raises(kind, match=f"export job job-1 of task '{TASK}' .*{state}"):
        export(service)


def test_a_crash_between_start_and_end_loses_nothing(
    plane: ControlPlane, service: LabellingService
) -> None:
    def crash(status: str, waited_s: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(service, on_wait=crash)
    assert (
        export(LabellingService(plane.endpoint, TENANT)) == "oss://labels/exports/banking.manifest"
    )
    assert plane.jobs == ["job-1", "job-2"]


REFUSALS = [
    (refuse(403, "NoPermission", "You are not authorized"), ConfigError, "paiitag:ExportAnn"),
    (refuse(403, "Forbidden.RAM"), ConfigError, "Allow these credentials"),
    (refuse(404, "TaskNotFound", "no such task"), ConfigError, "no such task.*Correct the task"),
    (refuse_politely("TENANT_NOT_EXIST"), ConfigError, "Correct the task or the tenant"),
    (refuse(404, "InvalidAccessKeyId.NotFound"), ConfigError, "ALIBABA_CLOUD_ACCESS_KEY_ID"),
    (refuse(400, "SignatureDoesNotMatch"), ConfigError, "clock are wrong"),
    (refuse(400, "InvalidParameter", "OssPath is needed"), ConfigError, "OssPath is needed"),
    (refuse(400, "Throttling.User"), ServiceError, "Throttling"),
    (refuse(429, "TooMany"), ServiceError, "429"),
    (refuse(503, "ServiceUnavailable"), ServiceError, "503"),
    (refuse_politely("SYSTEM_BUSY"), ServiceError, "SYSTEM_BUSY"),
    ((502, "<html>Bad Gateway</html>"), ServiceError, "invalid response from iTAG"),
    ((200, "<html>Welcome to the hotel</html>"), ServiceError, "invalid response from iTAG"),
    ((200, "[1]"), ServiceError, "invalid response from iTAG"),
    ((200, {"Success": True}), ServiceError, "does not contain job_id"),
]


@pytest.mark.parametrize(("answer", "kind", "words"), REFUSALS)
def test_what_the_service_refuses_is_worth_a_retry_or_not(
    plane: ControlPlane,
    service: LabellingService,
    answer: Answer,
    kind: type[IntentError],
    words: str,
) -> None:
    plane.answers["export"] = [answer]
    with pytest.raises(kind, match=words) as caught:
        export(service)
    assert type(caught.value) is kind
    assert caught.value.__suppress_context__ or not caught.value.__context__
    assert TENANT in str(caught.value) and plane.endpoint.removeprefix("http://") in str(
        caught.value
    )


def test_throttling_passes(plane: ControlPlane, service: LabellingService) -> None:
    plane.answers["export"] = [refuse(400, "Throttling.User")]
    with pytest.raises(ServiceError):
        export(service)
    assert export(service).endswith(".manifest")


def test_a_question_that_fails_in_passing_starts_no_second_export(
    plane: ControlPlane, service: LabellingService
) -> None:
    plane.answers["job"] = [refuse(503, "Busy"), refuse(429, "Throttling"), (502, "<html>")]
    told: list[str] = []
    export(service, on_wait=lambda status, _: told.append(status))
    assert told == ["unanswered"] * 3 + ["init", "running"]
    assert plane.jobs == ["job-1"]


def test_permission_withdrawn_while_waiting_ends_the_wait(
    plane: ControlPlane, service: LabellingService
) -> None:
    plane.answers["job"] = [refuse(403, "NoPermission")]
    with pytest.raises(ConfigError, match="cannot query export job job-1"):
        export(service)


@pytest.mark.parametrize(
    ("link", "kind", "words"),
    [
        (None, ServiceError, "does not contain result_link"),
        ("https://x.example.com/a.csv?Signature=s3cret", ConfigError, "https://x.example.com, not"),
    ],
)
def test_a_result_that_is_not_in_oss_is_an_error(
    plane: ControlPlane,
    service: LabellingService,
    link: str | None,
    kind: type[IntentError],
    words: str,
) -> None:
    plane.link = link
    with pytest.raises(kind, match=words) as caught:
        export(service, None)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("status", "finished"), [("FINISHED", True), ("SUCC", False)])
def test_a_task_is_finished_when_its_status_says_so(
    plane: ControlPlane, service: LabellingService, status: str, finished: bool
) -> None:
    plane.task_status = status
    assert service.is_finished(TASK) is finished


def test_no_credentials_are_logged_or_printed(
    plane: ControlPlane,
    service: LabellingService,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEBUG", "sdk")  # makes the SDK log every header
    caplog.set_level(logging.DEBUG)
    signed = f"server string to sign is: x-acs-security-token:{TOKEN} Credential={KEY}"
    plane.answers["export"] = [refuse(400, "SignatureDoesNotMatch", signed)]
    with pytest.raises(ConfigError) as caught:
        export(service)
    logging.getLogger("tasks").error("failed", exc_info=caught.value)
    export(service)
    written = "".join([*capfd.readouterr(), caplog.text, str(caught.value)])
    assert "SignatureDoesNotMatch" in written
    assert not [word for word in (KEY, SECRET, TOKEN, "Signature=") if word in written]


def test_without_credentials_the_message_says_how_to_give_them(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth_util, "environment_access_key_id", None)
    monkeypatch.setattr(auth_util, "environment_ecs_metadata_disabled", "true")
    monkeypatch.setattr(auth_util, "environment_cli_profile_disabled", "true")
    monkeypatch.setattr(auth_util, "environment_credentials_file", "/nowhere")
    with pytest.raises(ConfigError, match="no credentials found: set ALIBABA_CLOUD_ACCESS"):
        export(LabellingService(plane.endpoint, TENANT))
    assert plane.requests == []


def test_keys_that_are_not_renewed_are_worth_a_retry(
    plane: ControlPlane, service: LabellingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.is_finished(TASK)
    monkeypatch.setattr(auth_util, "environment_access_key_id", None)
    with pytest.raises(ServiceError, match="could not renew"):
        service.is_finished(TASK)


def test_a_service_that_is_not_there_is_worth_a_retry(credentials: None) -> None:
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1"):
        LabellingService("http://127.0.0.1:1", TENANT).is_finished(TASK)


def test_malformed_names_are_refused_before_anything_is_sent(
    plane: ControlPlane, service: LabellingService
) -> None:
    for endpoint in ("", "ftp://host", "https://host/path"):
        with pytest.raises(ConfigError, match="not a valid endpoint of iTAG"):
            LabellingService(endpoint, TENANT)
    with pytest.raises(ConfigError, match="is not a tenant id"):
        LabellingService(plane.endpoint, "")
    for task in ("", "..", "a/b"):
        with pytest.raises(ConfigError, match="is not a task id"):
            service.is_finished(task)
    with pytest.raises(ConfigError, match="write oss://bucket/folder/"):
        export(service, "/mnt/exports")
    assert plane.requests == []


def test_without_the_sdk_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "alibabacloud_openitag20220616.client", None)
    with pytest.raises(ConfigError, match=r"pip install intent-pipeline\[itag\]"):
        LabellingService("openitag.cn-hangzhou.aliyuncs.com", TENANT)

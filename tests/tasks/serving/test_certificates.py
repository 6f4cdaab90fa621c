"""TLS at the public port: accepted connections, validation, and a renewal under load."""

import contextlib
import logging
import ssl
import stat
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from intent_core.errors import ConfigError, PromotionInProgressError
from tasks.local_services.services import start_services
from tasks.local_services.supervisor import supervise
from tasks.maintenance.checks import Examination
from tasks.maintenance.checks.certificate import check_certificate
from tasks.serving.gateway.certificates import renew_certificate
from tasks.serving.gateway.nginx import serving_now, switch_gateway
from tasks.serving.targets.local import LocalTarget
from tasks.settings import Settings
from tasks.system.ports import choose_free_port
from tasks.system.processes import find_process, stop_process
from tests.support.builders.tls_certificates import get, make_pair, trusting, write_pair
from tests.support.scenarios.two_machines import wait_for
from tests.support.servers.gateway import running_gateway, running_server

pytestmark = pytest.mark.service

FIRST, SECOND = make_pair(), make_pair()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    certificate, key = write_pair(tmp_path, FIRST)
    return Settings(
        home=tmp_path / "home",
        gateway_port=choose_free_port("127.0.0.1"),
        gateway_local_port=choose_free_port("127.0.0.1"),
        tls_certificate=certificate,
        tls_key=key,
    )


@pytest.fixture
def gateway(settings: Settings) -> Iterator[Settings]:
    assert renew_certificate(settings)
    with running_gateway(settings):
        yield settings


@pytest.mark.parametrize(("days", "said"), [(-1, ["has expired"]), (3, ["expires soon"]), (30, [])])
def test_the_doctor_says_when_it_ends(settings: Settings, days: int, said: list[str]) -> None:
    assert settings.tls_certificate
    settings.tls_certificate.write_bytes(make_pair(days=days)[0])
    found = list(check_certificate(Examination(settings)))
    assert [one.outcome for one in found] == ["manual fix" for _ in said]
    assert all(part in one.what for part, one in zip(said, found, strict=True))


def shown(settings: Settings) -> str:
    return ssl.get_server_certificate((settings.gateway_host, settings.gateway_port))


def test_callers_speak_tls_and_we_ask_over_loopback(gateway: Settings) -> None:
    with running_server("blue") as blue, httpx.Client(verify=trusting(FIRST[0])) as client:
        switch_gateway(gateway, blue, "blue")
        assert gateway.endpoint.startswith("https://")
        assert get(client, f"{gateway.endpoint}/models").text == "blue-blue"
        assert httpx.get(f"{gateway.local_endpoint}/models").text == "blue-blue"
        plain = httpx.get(gateway.endpoint.replace("https", "http") + "/models")
        assert plain.status_code == 400, "a request without TLS is refused"
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(f"{gateway.endpoint}/models")


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"])
def test_versions_of_tls(gateway: Settings, version: str) -> None:
    context = trusting(FIRST[0])
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.set_ciphers("ALL:@SECLEVEL=0")
    with httpx.Client(verify=context) as client:
        if version != "TLSv1_2":
            with pytest.raises(httpx.ConnectError):
                get(client, f"{gateway.endpoint}/models")
        else:
            assert get(client, f"{gateway.endpoint}/models").status_code == 503


def test_a_renewal_loses_no_request(gateway: Settings, tmp_path: Path) -> None:
    answers: list[str] = []
    stop = threading.Event()
    trust = trusting(FIRST[0], SECOND[0])

    def call(keeps: bool) -> None:
        limits = httpx.Limits(max_keepalive_connections=int(keeps))
        with httpx.Client(verify=trust, timeout=10, limits=limits) as client:
            while not stop.is_set():
                try:
                    answers.append(get(client, f"{gateway.endpoint}/models").text)
                except httpx.HTTPError as error:
                    answers.append(repr(error))

    with running_server("blue") as blue:
        switch_gateway(gateway, blue, "blue")
        with ThreadPoolExecutor(4) as pool:
            callers = [pool.submit(call, n % 2 == 0) for n in range(4)]
            try:
                for pair in (SECOND, FIRST, SECOND):
                    time.sleep(0.3)
                    write_pair(tmp_path, pair)
                    assert renew_certificate(gateway)
                    assert shown(gateway) == pair[0].decode()
                    assert not renew_certificate(gateway), "already loaded"
                time.sleep(0.3)
            finally:
                stop.set()
            for caller in callers:
                caller.result(30)
    assert set(answers) == {"blue-blue"}
    assert len(answers) > 40
    assert stat.S_IMODE(gateway.layout.gateway_certificate.stat().st_mode) == 0o600
    assert serving_now(gateway) == "blue"


def take_lock(settings: Settings) -> contextlib.ExitStack | None:
    """Take the promotion lock; None while another thread holds it."""
    held = contextlib.ExitStack()
    try:
        held.enter_context(LocalTarget(settings).lock())
    except PromotionInProgressError:
        return None
    return held


def test_a_broken_renewal_is_reported_once_and_the_previous_one_stays(
    gateway: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stop = threading.Event()
    supervising = threading.Thread(target=supervise, args=(gateway, stop, 0.05))
    supervising.start()
    try:
        wait_for("its first round", lambda: "/gateway/status" in caplog.text, 20)
        # Half of a renewal: the certificate is new, its key is still the old one.
        write_pair(tmp_path, (SECOND[0], FIRST[1]))
        wait_for("a report", lambda: "key values mismatch" in caplog.text, 20)
        time.sleep(0.5)
        assert shown(gateway) == FIRST[0].decode()
        assert caplog.text.count("key values mismatch") == 1
        # Hold the lock as a promotion does: otherwise `supervise` would undo the switch.
        with wait_for("the lock", lambda: take_lock(gateway), 20), running_server("blue") as blue:
            switch_gateway(gateway, blue, "blue")
            assert shown(gateway) == FIRST[0].decode()
        record = find_process(gateway.layout.processes, "gateway")
        assert record
        stop_process(gateway.layout.processes, record)
        wait_for("another gateway", lambda: serving_now(gateway) == "", 20)
        assert shown(gateway) == FIRST[0].decode()
        write_pair(tmp_path, SECOND)
        wait_for("the renewal", lambda: shown(gateway) == SECOND[0].decode(), 20)
        wait_for("its log line", lambda: "loaded the new certificate" in caplog.text, 5)
    finally:
        stop.set()
        supervising.join()
    assert FIRST[1].decode() not in caplog.text


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((None, FIRST[1]), "INTENT_TLS_CERTIFICATE is not set"),
        ((FIRST[0], None), "INTENT_TLS_KEY is not set"),
        ((b"", FIRST[1]), "INTENT_TLS_CERTIFICATE=.*certificate.pem: no certificate in PEM"),
        ((FIRST[0], b"\x30\x82"), "INTENT_TLS_KEY=.*key.pem: no private key in PEM"),
        ((FIRST[1], FIRST[0]), "INTENT_TLS_CERTIFICATE=.*: no certificate in PEM"),
        ((FIRST[0], make_pair(b"secret")[1]), "INTENT_TLS_KEY=.*key.pem has a passphrase"),
        ((FIRST[0], SECOND[1]), "INTENT_TLS_KEY=.*: .*key values mismatch"),
        (
            (FIRST[0][:200] + b"\n" + FIRST[0][-27:], FIRST[1]),
            "nginx rejects INTENT_TLS_CERTIFICATE",
        ),
    ],
)
def test_what_cannot_be_used_is_named_before_anything_starts(
    settings: Settings, tmp_path: Path, pair: tuple[bytes | None, bytes | None], message: str
) -> None:
    write_pair(tmp_path, (pair[0] or b"", pair[1] or b""))
    for name, one in zip(("tls_certificate", "tls_key"), pair, strict=True):
        if one is None:
            settings = settings.model_copy(update={name: None})
    with pytest.raises(ConfigError, match=message) as caught:
        start_services(settings, lambda line: None)
    assert (FIRST[1][60:90].decode()) not in str(caught.value)
    assert not settings.layout.gateway_certificate.exists()
    assert not (settings.layout.gateway / "nginx.conf").exists()


def test_a_file_that_is_gone_is_named(settings: Settings) -> None:
    gone = settings.model_copy(update={"tls_key": Path("/nowhere/key.pem")})
    with pytest.raises(ConfigError, match=r"INTENT_TLS_KEY=/nowhere/key.pem: No such file"):
        start_services(gone, lambda line: None)
    same = settings.model_copy(update={"gateway_local_port": settings.gateway_port})
    with pytest.raises(ConfigError, match=r"INTENT_GATEWAY_LOCAL_PORT=.* is the public port"):
        start_services(same, lambda line: None)

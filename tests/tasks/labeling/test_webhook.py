"""A real server on loopback: accepted and refused senders, and secrets that stay hidden."""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest
import uvicorn
from pydantic import SecretStr

from intent_core.errors import ConfigError
from tasks.labeling import webhook as receiver
from tasks.labeling.notifications import ExportNotice
from tasks.labeling.webhook import SIGNATURE_HEADER, Publish, create_app, sign

pytestmark = pytest.mark.service

TOKEN = "bearer-token-0123456789"
SECRET = "signing-secret-0123456789"
STORE_TOKEN = "store-token-0123456789"
MAX_BYTES = 4096


def make_body(key: str = "itag/a.manifest", count: int = 1) -> bytes:
    place = {"bucket": {"name": "exports"}, "object": {"key": key, "size": 3, "eTag": "AB"}}
    return orjson.dumps(
        {"events": [{"eventName": "ObjectCreated:PutObject", "oss": place}] * count}
    )


@contextlib.contextmanager
def serving(publish: Publish, **options: Any) -> Iterator[httpx.Client]:
    app = create_app(
        publish, SecretStr(TOKEN), SecretStr(SECRET), max_bytes=MAX_BYTES, window_s=60, **options
    )
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, log_level="debug")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive() and time.monotonic() < until
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def headers(
    body: bytes, token: str = TOKEN, secret: str = SECRET, age_s: int = 0
) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {token}",
        SIGNATURE_HEADER: sign(body, SecretStr(secret), int(time.time()) - age_s),
    }


class Outbox:
    """Keeps published notices; fails while `failing` is set."""

    def __init__(self) -> None:
        self.notices: list[ExportNotice] = []
        self.failing = False

    def publish(self, notice: ExportNotice) -> None:
        if self.failing:
            raise ConnectionError("the event server is away")
        self.notices.append(notice)

    async def publish_later(self, notice: ExportNotice) -> None:
        self.publish(notice)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def client(outbox: Outbox) -> Iterator[httpx.Client]:
    with serving(outbox.publish) as client:
        yield client


def post(client: httpx.Client, body: bytes, **changes: Any) -> httpx.Response:
    return client.post("/notifications", content=body, headers=headers(body, **changes))


def test_signature_is_the_documented_one() -> None:
    # printf '1700000000.{}' | openssl dgst -sha256 -hmac signing-secret-0123456789
    assert sign(b"{}", SecretStr(SECRET), 1700000000) == (
        "t=1700000000,v1=" + "725c8acc0700c7903eb5b453b2ea040563b539f4b6a44199a251d7c8bc11a08d"
    )


def test_a_signed_notification_is_published(client: httpx.Client, outbox: Outbox) -> None:
    answer = post(client, make_body(count=2))
    assert (answer.status_code, answer.json()) == (202, {"notices": 2})
    assert [notice.uri for notice in outbox.notices] == ["oss://exports/itag/a.manifest"] * 2


def test_publish_may_be_a_coroutine(outbox: Outbox) -> None:
    with serving(outbox.publish_later) as client:
        assert post(client, make_body()).status_code == 202
    assert len(outbox.notices) == 1


def test_what_proves_too_little_is_refused_alike(client: httpx.Client, outbox: Outbox) -> None:
    body = make_body()
    good = headers(body)
    signature = good[SIGNATURE_HEADER]
    wrong = [
        {},
        {"Authorization": good["Authorization"]},
        {SIGNATURE_HEADER: signature},
        {**good, "Authorization": f"Basic {TOKEN}"},
        {**good, "Authorization": f"Bearer {TOKEN}x"},
        {**good, "Authorization": "Bearer Ünbekannt".encode()},
        {**good, SIGNATURE_HEADER: "t=,v1="},
        {**good, SIGNATURE_HEADER: signature + ",v1=" + "0" * 64},
        {**good, SIGNATURE_HEADER: signature.replace("t=1", "t=2")},
        headers(b"another body"),
        headers(body, secret="another-secret-0123456789"),
        headers(body, age_s=3600),
        headers(body, age_s=-3600),
    ]
    answers = [client.post("/notifications", content=body, headers=sent) for sent in wrong]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.text for answer in answers} == {'{"error":"not authenticated"}'}
    assert not outbox.notices


def test_a_store_that_cannot_sign_has_a_token_of_its_own(outbox: Outbox) -> None:
    body = make_body()
    unsigned = {"Authorization": f"Bearer {STORE_TOKEN}"}
    with serving(outbox.publish, store_token=SecretStr(STORE_TOKEN)) as client:
        answers = [client.post("/notifications", content=body, headers=unsigned) for _ in "12"]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert client.post("/notifications", content=b"?", headers=unsigned).status_code == 400
        outbox.failing = True
        assert client.post("/notifications", content=body, headers=unsigned).status_code == 503
    with serving(outbox.publish) as client:
        assert client.post("/notifications", content=body, headers=unsigned).status_code == 401


def test_a_delivery_counts_once(client: httpx.Client, outbox: Outbox) -> None:
    body = make_body()
    sent = headers(body)
    codes = [
        client.post("/notifications", content=body, headers=sent).status_code for _ in range(3)
    ]
    assert codes == [202, 409, 409]
    assert post(client, body, age_s=5).status_code == 202
    assert len(outbox.notices) == 2


def test_a_full_memory_refuses_rather_than_forgets(
    client: httpx.Client, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "_MAX_REMEMBERED", 2)
    bodies = [make_body(f"itag/{number}") for number in range(3)]
    sent = [headers(body, age_s=age) for body, age in zip(bodies, (30, 0, 0), strict=True)]

    def try_all() -> list[int]:
        return [
            client.post("/notifications", content=body, headers=head).status_code
            for body, head in zip(bodies, sent, strict=True)
        ]

    assert try_all() == [202, 202, 503]
    # The first delivery has expired: it makes room, and is refused for its age.
    monkeypatch.setattr(receiver, "time", SimpleNamespace(time=lambda: time.time() + 40))
    assert try_all() == [401, 409, 202]


def test_a_failed_publication_may_be_sent_again(client: httpx.Client, outbox: Outbox) -> None:
    body = make_body()
    sent = headers(body)
    outbox.failing = True
    answer = client.post("/notifications", content=body, headers=sent)
    assert answer.status_code == 503
    assert "event server" not in answer.text
    outbox.failing = False
    assert client.post("/notifications", content=body, headers=sent).status_code == 202
    assert len(outbox.notices) == 1


def test_of_two_at_the_same_time_one_is_published() -> None:
    entered, release = threading.Event(), threading.Event()

    def publish(notice: ExportNotice) -> None:
        entered.set()
        assert release.wait(10)

    body = make_body()
    sent = headers(body)
    codes: list[int] = []
    with serving(publish) as client:

        def deliver() -> None:
            codes.append(client.post("/notifications", content=body, headers=sent).status_code)

        first = threading.Thread(target=deliver)
        first.start()
        assert entered.wait(10)
        deliver()
        release.set()
        first.join(10)
    assert codes == [409, 202]


def test_too_large_a_body_is_not_read(client: httpx.Client, outbox: Outbox) -> None:
    fits, too_large = (make_body("x" * (MAX_BYTES - len(make_body("")) + n)) for n in (0, 1))
    assert len(too_large) == MAX_BYTES + 1
    assert post(client, too_large).status_code == 413
    assert post(client, fits).status_code == 400  # read, and its key is too long
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(16_384):  # 256 MiB in all
            sent += 1
            yield b"x" * 16_384

    answer = client.post("/notifications", content=endless(), headers=headers(b""))
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    assert sent < 4096  # socket buffers hold a few MiB
    assert not outbox.notices


@pytest.mark.parametrize(("token", "status"), [(TOKEN, b"413"), ("somebody", b"401")])
def test_a_refusal_does_not_wait_for_the_body(
    client: httpx.Client, token: str, status: bytes
) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), 10) as raw:
        raw.sendall(
            b"POST /notifications HTTP/1.1\r\nHost: receiver\r\n"
            + f"Authorization: Bearer {token}\r\n".encode()
            + f"Content-Length: {MAX_BYTES + 1}\r\n\r\n".encode()
        )
        assert raw.recv(1024).split()[1] == status


def test_an_unknown_body_is_told_what_was_expected(client: httpx.Client) -> None:
    for body in (b"", b"hello", b'{"event": "created"}'):
        answer = post(client, body)
        assert answer.status_code == 400
        assert "expected" in answer.json()["error"]


def test_nothing_else_is_served(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    for path in ("/", "/docs", "/redoc", "/openapi.json", "/notifications/", "/healthz/"):
        assert client.get(path).status_code == 404
    assert client.get("/notifications").status_code == 405


def test_neither_logs_nor_answers_have_a_secret(
    client: httpx.Client, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "httpcore")  # this client's DEBUG lines contain its headers
    body = make_body()
    answers = [post(client, body), post(client, b"?"), post(client, b"x" * 5000)]
    answers += [post(client, body, age_s=900), post(client, body, secret=SECRET + "-wrong")]
    answers += [post(client, body, token=TOKEN + "-wrong")]
    outbox.failing = True
    answers += [post(client, body, age_s=1)]
    assert [a.status_code for a in answers] == [202, 400, 413, 401, 401, 401, 503]
    assert "the timestamp is too old" in caplog.text and "event server is away" in caplog.text
    told = caplog.text + "".join(f"{answer.headers}{answer.text}" for answer in answers)
    sent = [answer.request.headers[SIGNATURE_HEADER] for answer in answers]
    for private in (TOKEN, SECRET, *(signature.partition("v1=")[2] for signature in sent)):
        assert private not in told


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: SecretStr("short")} for name in ("token", "secret", "store_token")),
        *({name: 0} for name in ("max_bytes", "window_s")),
        {"store_token": SecretStr(TOKEN)},
    ],
)
def test_weak_settings_are_refused(wrong: dict[str, Any]) -> None:
    good = {"token": SecretStr(TOKEN), "secret": SecretStr(SECRET)}
    with pytest.raises(ConfigError):
        create_app(lambda notice: None, **{**good, **wrong})

"""The client of the served model, sync and async, against a server that checks its requests."""

import asyncio
import json
import math
import pickle
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
from intent_client import (
    Answer,
    AsyncIntentClient,
    AuthenticationError,
    Call,
    IntentClient,
    IntentClientError,
    InvalidAnswerError,
    InvalidArgumentError,
    RefusedError,
    UnavailableError,
)
from intent_client.attempts import read_retry_after

KEY, WRONG_KEY = "the-callers-key", "another-key"
CALLS = '{"calls": [{"intent": "weather_search", "arguments": {"city": "杭州"}}]}'
WEATHER = Call(intent="weather_search", arguments={"city": "杭州"})
TEXT = "weather_search(Hangzhou)"
HEADERS = {"x-intent-model": "intent-3f2a9c", "x-intent-version": "7", "x-intent-id": "c-7-3f"}


class Reply(NamedTuple):
    """The reply to one request; by default a confident and valid answer."""

    text: str | None = CALLS
    refusal: str | None = None
    confidence: float = 0.9
    status: int = 200
    headers: dict[str, str] = HEADERS
    body: bytes | None = None
    """Sent instead of a completion."""
    pause_s: float = 0
    drop: bool = False
    finish: str = "stop"


NOW = {"Retry-After": "0.01"}
BUSY = Reply(status=503, headers=NOW, body=b"busy")


class Server(ThreadingHTTPServer):
    """Sends `replies`, then valid answers; records the request bodies in `bodies`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.replies: list[Reply] = []
        self.bodies: list[dict[str, Any]] = []
        self.complaints: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore callers that have disconnected."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if self.headers["Authorization"] != f"Bearer {KEY}":
            message = f"wrong key: {self.headers['Authorization']}"
            self.send(401, {}, json.dumps({"error": {"message": message}}).encode())
            return
        complaints = list(self.complain(body))
        self.server.complaints += complaints
        if complaints:
            self.send(400, {}, json.dumps({"error": {"message": str(complaints)}}).encode())
            return
        reply = self.server.replies.pop(0) if self.server.replies else Reply()
        time.sleep(reply.pause_s)
        if reply.drop:
            self.close_connection = True
            return
        completion = json.dumps(self.complete(body, reply)).encode()
        self.send(reply.status, reply.headers, completion if reply.body is None else reply.body)

    def complain(self, body: dict[str, Any]) -> Iterator[str]:
        if self.path != "/v1/chat/completions":
            yield self.path
        if [message["role"] for message in body["messages"]] != ["user"]:
            yield "only the utterance, no system prompt"
        known = {
            "model",
            "messages",
            "temperature",
            "max_completion_tokens",
            "logprobs",
            "response_format",
        }
        if unknown := body.keys() - known:
            yield f"unknown {unknown}"
        if (body["model"], body["temperature"]) != ("intent", 0):
            yield f"{body['model']} at temperature {body['temperature']}"

    def complete(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        token = {"token": "t", "bytes": None, "top_logprobs": []}
        logprob = math.log(reply.confidence) / 2
        wanted = body.get("logprobs")
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": reply.text, "refusal": reply.refusal},
            "finish_reason": reply.finish,
            "logprobs": {"content": [{**token, "logprob": logprob}] * 2} if wanted else None,
        }
        return {"id": "1", "object": "chat.completion", "model": "intent", "choices": [choice]}

    def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
        assert not server.complaints


Ask = Callable[..., Answer]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, server: Server) -> Ask:
    """Return `ask(utterance, **options)` with the sync or async client."""

    def ask_now(utterance: str, *, key: str = KEY, **options: Any) -> Answer:
        with IntentClient(server.url, key, **options) as client:
            return client.ask(utterance)

    async def ask_then(utterance: str, *, key: str = KEY, **options: Any) -> Answer:
        async with AsyncIntentClient(server.url, key, **options) as client:
            return await client.ask(utterance)

    if request.param == "sync":
        return ask_now
    return lambda *args, **options: asyncio.run(ask_then(*args, **options))


def test_it_sends_the_utterance_and_what_the_evaluation_sends(ask: Ask, server: Server) -> None:
    assert ask("杭州天气 ").calls == (WEATHER,)
    assert server.bodies == [
        {
            "model": "intent",
            "messages": [{"role": "user", "content": "杭州天气 "}],
            "temperature": 0.0,
            "max_completion_tokens": 64,
            "response_format": {"type": "json_object"},
        }
    ]


def test_calls_keep_the_order_of_names_and_values(ask: Ask, server: Server) -> None:
    book = '{"intent": "book", "arguments": {"to": "Rome", "by": ["train", "bus"], "arg1": ""}}'
    server.replies = [Reply(f'{{"calls": [{book}, {{"intent": "stop", "arguments": {{}}}}]}}')]
    first, second = ask("to Rome?").calls or ()
    assert list(first.arguments.items()) == [("to", "Rome"), ("by", ("train", "bus")), ("arg1", "")]
    assert second == Call(intent="stop")


def test_out_of_scope_has_no_calls_and_an_invalid_answer_has_none(ask: Ask, server: Server) -> None:
    server.replies = [Reply('{"calls": []}'), Reply(None, refusal="weather in Hangzhou ")]
    assert ask("hm").calls == ()
    answer = ask("weather?")
    assert (answer.calls, answer.text) == (None, "weather in Hangzhou")


def test_the_text_of_the_model(server: Server) -> None:
    async def ask_then() -> Answer:
        async with AsyncIntentClient(server.url, KEY) as client:
            return await client.ask_text("weather?")

    server.replies = [Reply(f" {TEXT}\n"), Reply("hm")]
    with IntentClient(server.url, KEY) as client:
        for answer, text in ((client.ask_text("weather?"), TEXT), (asyncio.run(ask_then()), "hm")):
            assert (answer.calls, answer.text) == (None, text)
    assert not any("response_format" in body for body in server.bodies)


def test_an_answer_contains_what_the_server_sends(ask: Ask, server: Server) -> None:
    server.replies = [Reply(), Reply(None, headers={}, finish="length")]
    answer = ask("weather?", max_completion_tokens=9)
    assert (answer.text, answer.is_cut, answer.confidence) == (CALLS, False, None)
    assert (answer.model, answer.version, answer.id) == ("intent-3f2a9c", "7", "c-7-3f")
    assert answer.latency_ms > 0
    assert server.bodies[0]["max_completion_tokens"] == 9
    bare = ask("weather?")
    assert (bare.text, bare.is_cut) == ("", True)
    assert (bare.model, bare.version, bare.id) == (None, None, "")


def test_the_confidence_is_the_servers_else_that_of_the_tokens(ask: Ask, server: Server) -> None:
    sent = HEADERS | {"x-intent-confidence": "0.75"}
    server.replies = [Reply(headers=sent), Reply(confidence=0.51), Reply(headers=sent)]
    assert ask("weather?").confidence == 0.75
    assert ask("weather?", with_confidence=True).confidence == pytest.approx(0.51)
    assert ask("weather?", with_confidence=True).confidence == 0.75
    assert ["logprobs" in body for body in server.bodies] == [False, True, True]


@pytest.mark.parametrize(
    "failed",
    [BUSY, *(BUSY._replace(status=status) for status in (429, 502, 504)), Reply(drop=True)],
)
def test_it_tries_again(ask: Ask, server: Server, failed: Reply) -> None:
    server.replies = [failed]
    assert ask("weather?").calls == (WEATHER,)
    assert len(server.bodies) == 2


def test_it_waits_as_long_as_the_server_requests(ask: Ask, server: Server) -> None:
    server.replies = [Reply(status=429, headers={"Retry-After": "0.6"}, body=b"{}")]
    # Without the header the first delay is at most half a second.
    assert ask("weather?").latency_ms > 600


def test_a_delay_beyond_the_timeout_is_not_waited_for(ask: Ask, server: Server) -> None:
    server.replies = [Reply(status=429, headers={"Retry-After": "3600"}, body=b"{}")]
    with pytest.raises(UnavailableError, match="429"):
        ask("weather?")
    assert len(server.bodies) == 1


def test_a_server_that_stays_down(ask: Ask, server: Server) -> None:
    server.replies = [BUSY] * 3
    with pytest.raises(
        UnavailableError, match=r"'intent' at http://.* failed: 503 .*'busy' \(attempt 3\)"
    ) as caught:
        ask("weather?", max_retries=2)
    assert caught.value.status == 503
    assert len(server.bodies) == 3


def test_an_internal_error_is_not_repeated(ask: Ask, server: Server) -> None:
    server.replies = [Reply(status=500, body=b"")]
    with pytest.raises(UnavailableError, match=r"500 Internal Server Error$"):
        ask("weather?")
    assert len(server.bodies) == 1


def test_a_refusal_has_the_servers_reason_and_code(ask: Ask, server: Server) -> None:
    error = {"message": "'n' is too large", "code": "invalid_request"}
    server.replies = [Reply(status=400, body=json.dumps({"error": error}).encode())]
    with pytest.raises(RefusedError, match=r"\(invalid_request\): 'n' is too large") as caught:
        ask("weather?")
    assert not isinstance(caught.value, AuthenticationError)
    for refusal in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (refusal.status, refusal.code) == (400, "invalid_request")
    assert len(server.bodies) == 1


def test_a_wrong_key_fails_at_once_and_is_not_shown(ask: Ask, server: Server) -> None:
    with pytest.raises(AuthenticationError, match=r"401.*wrong key: Bearer \*\*\*") as caught:
        ask("weather?", key=WRONG_KEY)
    assert WRONG_KEY not in "".join(traceback.format_exception(caught.value))
    assert len(server.bodies) == 1


def test_a_slow_answer(ask: Ask, server: Server) -> None:
    server.replies = [Reply(pause_s=1)]
    with pytest.raises(UnavailableError, match=r"failed: timed out$") as caught:
        ask("weather?", timeout_s=0.1)
    assert caught.value.status is None
    assert len(server.bodies) == 1


@pytest.mark.parametrize("body", [b"<html>", b'{"choices": []}', b'{"choices": [{}]}', b"", None])
def test_no_completion(ask: Ask, server: Server, body: bytes | None) -> None:
    server.replies = [Reply(TEXT, body=body)]
    with pytest.raises(InvalidAnswerError, match=r"'intent' at http.* not a chat completion"):
        ask("weather?")


def test_a_server_that_is_not_there() -> None:
    url = f"http://127.0.0.1:{find_closed_port()}/v1"
    with (
        IntentClient(url, KEY, max_retries=0) as client,
        pytest.raises(UnavailableError, match="refused"),
    ):
        client.ask("weather?")


@pytest.mark.parametrize("utterance", ["", " \n", "half \ud83d"])
def test_an_utterance_that_cannot_be_sent(ask: Ask, server: Server, utterance: str) -> None:
    with pytest.raises(InvalidArgumentError, match="utterance"):
        ask(utterance)
    assert not server.bodies


@pytest.mark.parametrize(
    ("base_url", "key", "options"),
    [
        ("127.0.0.1:8000/v1", KEY, {}),
        ("http://[/v1", KEY, {}),
        ("http://127.0.0.1:99999/v1", KEY, {}),
        ("http://127.0.0.1:0/v1", KEY, {}),
        ("ftp://127.0.0.1/v1", KEY, {}),
        (f"http://me:{KEY}@127.0.0.1/v1", KEY, {}),
        ("http://127.0.0.1/v1", "", {}),
        ("http://127.0.0.1/v1", f"{KEY}\n", {}),
        ("http://127.0.0.1/v1", KEY, {"timeout_s": 0}),
        ("http://127.0.0.1/v1", KEY, {"timeout_s": math.nan}),
        ("http://127.0.0.1/v1", KEY, {"max_retries": -1}),
    ],
)
def test_what_can_never_work(base_url: str, key: str, options: dict[str, Any]) -> None:
    for kind in (IntentClient, AsyncIntentClient):
        with pytest.raises(InvalidArgumentError) as caught:
            kind(base_url, key, **options)
        assert isinstance(caught.value, IntentClientError | ValueError)
        assert KEY not in str(caught.value)


def test_loopback_is_reached_without_the_proxy_and_the_key_is_not_shown(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_proxy(monkeypatch, f"http://127.0.0.1:{find_closed_port()}")
    with IntentClient(server.url, KEY, max_retries=0) as client:
        assert client.ask("weather?").calls == (WEATHER,)
        assert repr(client) == f"IntentClient({server.url!r}, alias='intent')"
        assert KEY not in str(vars(client))


def test_other_hosts_are_reached_through_the_proxy(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_proxy(monkeypatch, server.url.removesuffix("/v1"))
    with (
        IntentClient("http://intent.invalid/v1", KEY, max_retries=0) as client,
        pytest.raises(RefusedError, match=r"http://intent\.invalid/v1/chat"),
    ):
        client.ask("weather?")
    assert server.complaints.pop() == "http://intent.invalid/v1/chat/completions"


def test_one_client_for_all_threads(server: Server) -> None:
    utterances = [f"weather {number}?" for number in range(24)]
    with IntentClient(server.url, KEY) as client, ThreadPoolExecutor(8) as pool:
        assert [a.calls for a in pool.map(client.ask, utterances)] == [(WEATHER,)] * 24
    assert sorted(b["messages"][0]["content"] for b in server.bodies) == sorted(utterances)


def test_seconds_of_retry_after() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert read_retry_after("2", 1) == 2
    assert 50 < read_retry_after(soon, 1) <= 60
    assert read_retry_after("Wed, 21 Oct 2015 07:28:00 GMT", 1) == 0
    assert read_retry_after("-3", 1) == 0
    for unclear in ("", "soon"):
        assert read_retry_after(unclear, 1) == 1


def find_closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def use_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", url)
    for name in ("http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

"""The client of the served model, sync and async, against a server that checks its requests."""

import asyncio
import json
import math
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

from intent_core.errors import CallSyntaxError, ConfigError, DataError, ServingError
from intent_core.language.calls import Argument, Call, format_calls
from tasks.serving.client import MAX_COMPLETION_TOKENS, AsyncIntentClient, IntentClient

KEY, WRONG_KEY = "the-callers-key", "another-key"
WEATHER = [Call(intent="weather_search", arguments=(Argument(value="Hangzhou"),))]
OUT_OF_SCOPE = [Call(intent="out_of_scope")]
HEADERS = {"x-intent-model": "intent-3f2a9c", "x-intent-version": "7"}


class Reply(NamedTuple):
    """The reply to one request; by default a confident and valid answer."""

    text: str | None = "weather_search(Hangzhou)"
    confidence: float = 0.9
    status: int = 200
    headers: dict[str, str] = HEADERS
    body: bytes | None = None
    """Sent instead of a completion."""
    pause_s: float = 0
    drop: bool = False
    finish: str = "stop"
    probabilities: bool = True


BUSY = Reply(status=503, headers={"Retry-After": "0.01"}, body=b"busy")


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
        known = {"model", "messages", "temperature", "max_completion_tokens", "logprobs"}
        if unknown := body.keys() - known:
            yield f"unknown {unknown}"
        if (body["model"], body["temperature"]) != ("intent", 0):
            yield f"{body['model']} at temperature {body['temperature']}"

    def complete(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        token = {"token": "t", "bytes": None, "top_logprobs": []}
        logprob = math.log(reply.confidence) / 2
        asked = body.get("logprobs") and reply.probabilities
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": reply.text},
            "finish_reason": reply.finish,
            "logprobs": {"content": [{**token, "logprob": logprob}] * 2} if asked else None,
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


Asking = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, server: Server) -> Asking:
    """Return `call("recognize", utterance, **options)` with the sync or async client."""

    def call_now(method: str, utterance: str, *, key: str = KEY, **options: Any) -> Any:
        with IntentClient(server.url, key, **options) as client:
            return getattr(client, method)(utterance)

    async def call_then(method: str, utterance: str, *, key: str = KEY, **options: Any) -> Any:
        async with AsyncIntentClient(server.url, key, **options) as client:
            return await getattr(client, method)(utterance)

    if request.param == "sync":
        return call_now
    return lambda *args, **options: asyncio.run(call_then(*args, **options))


def test_recognises(call: Asking, server: Server) -> None:
    assert call("recognize", "杭州天气 ") == WEATHER
    assert server.bodies == [
        {
            "model": "intent",
            "messages": [{"role": "user", "content": "杭州天气 "}],
            "temperature": 0.0,
            "max_completion_tokens": MAX_COMPLETION_TOKENS,
        }
    ]


def test_answer_says_who_gave_it(call: Asking, server: Server) -> None:
    server.replies = [Reply(), Reply(headers={})]
    answer = call("ask", "weather?", max_completion_tokens=9)
    assert (answer.text, answer.calls, answer.error) == (format_calls(WEATHER), (*WEATHER,), None)
    assert (answer.model, answer.version, answer.confidence) == ("intent-3f2a9c", "7", None)
    assert 0 < answer.latency_ms < 5000
    assert server.bodies[0]["max_completion_tokens"] == 9
    nameless = call("ask", "weather?")
    assert (nameless.model, nameless.version) == (None, None)


def test_an_answer_is_read_as_it_prints(call: Asking, server: Server) -> None:
    server.replies = [Reply("\ufeffout_of\u200b_scope()\u2060")]
    assert call("recognize", "weather?") == OUT_OF_SCOPE


def test_abstains_when_unsure(call: Asking, server: Server) -> None:
    server.replies = [Reply(confidence=0.49), Reply("broken(", 0.49), Reply(confidence=0.51)]
    assert call("recognize", "weather?", abstain_below=0.5) == OUT_OF_SCOPE
    broken = call("ask", "weather?", abstain_below=0.5)
    assert (broken.text, broken.calls, broken.error) == ("broken(", (*OUT_OF_SCOPE,), None)
    sure = call("ask", "weather?", abstain_below=0.5)
    assert sure.calls == (*WEATHER,)
    assert sure.confidence == pytest.approx(0.51)
    assert all(body["logprobs"] is True for body in server.bodies)


def test_says_when_it_cannot_abstain(call: Asking, server: Server) -> None:
    server.replies = [Reply(probabilities=False)]
    with pytest.raises(ServingError, match="no token probabilities, which abstain_below requires"):
        call("recognize", "weather?", abstain_below=0.5)


@pytest.mark.parametrize("text", ["the weather in Hangzhou", None, "weather_search(Hang"])
def test_no_call(call: Asking, server: Server, text: str | None) -> None:
    server.replies = [Reply(text), Reply(text, finish="length")]
    with pytest.raises(
        CallSyntaxError, match=r"'intent-3f2a9c' did not answer with a valid call: column \d+"
    ):
        call("recognize", "weather?")
    answer = call("ask", "weather?")
    assert (answer.text, answer.calls) == (text or "", None)
    assert "raise max_completion_tokens" in answer.error


@pytest.mark.parametrize("failed", [BUSY, Reply(drop=True)])
def test_tries_again(call: Asking, server: Server, failed: Reply) -> None:
    server.replies = [failed]
    assert call("recognize", "weather?") == WEATHER
    assert len(server.bodies) == 2


def test_waits_as_long_as_the_server_says(call: Asking, server: Server) -> None:
    server.replies = [Reply(status=429, headers={"Retry-After": "0.6"}, body=b"{}")]
    answer = call("ask", "weather?")  # without the header it would wait half a second at most
    assert answer.calls == (*WEATHER,)
    assert answer.latency_ms > 600


def test_server_that_stays_down(call: Asking, server: Server) -> None:
    server.replies = [BUSY] * 3
    with pytest.raises(ServingError, match=r"'intent' at http://.* failed: .*503"):
        call("recognize", "weather?", max_retries=2)
    assert len(server.bodies) == 3


def test_wrong_key_fails_at_once_and_is_not_shown(call: Asking, server: Server) -> None:
    with pytest.raises(ServingError, match=r"401.*wrong key: Bearer \*\*\*") as caught:
        call("recognize", "weather?", key=WRONG_KEY)
    assert WRONG_KEY not in "".join(traceback.format_exception(caught.value))
    assert len(server.bodies) == 1


def test_slow_answer(call: Asking, server: Server) -> None:
    server.replies = [Reply(pause_s=1)]
    started = time.perf_counter()
    with pytest.raises(ServingError, match=r"timed out"):
        call("recognize", "weather?", timeout_s=0.1, max_retries=0)
    assert time.perf_counter() - started < 0.9


@pytest.mark.parametrize("body", [b"<html>", b'{"choices": []}', b'{"choices": [{}]}', b""])
def test_no_completion(call: Asking, server: Server, body: bytes) -> None:
    server.replies = [Reply(body=body)]
    with pytest.raises(ServingError, match="sent an invalid completion"):
        call("recognize", "weather?")


def test_server_that_is_not_there(closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}/v1"
    with (
        IntentClient(url, KEY, max_retries=0) as client,
        pytest.raises(ServingError, match="refuse"),
    ):
        client.recognize("weather?")


@pytest.mark.parametrize("utterance", ["", " \n", "half \ud83d"])
def test_nothing_to_ask(call: Asking, server: Server, utterance: str) -> None:
    with pytest.raises(DataError):
        call("recognize", utterance)
    assert not server.bodies


@pytest.mark.parametrize(
    ("base_url", "key", "options"),
    [
        ("127.0.0.1:8000/v1", KEY, {}),
        ("http://[/v1", KEY, {}),
        ("http://127.0.0.1:99999/v1", KEY, {}),
        ("http://127.0.0.1/v1", "", {}),
        ("http://127.0.0.1/v1", f"{KEY}\n", {}),
        ("http://127.0.0.1/v1", KEY, {"abstain_below": 60}),
        ("http://127.0.0.1/v1", KEY, {"abstain_below": math.nan}),
    ],
)
def test_what_can_never_work(base_url: str, key: str, options: dict[str, Any]) -> None:
    for kind in (IntentClient, AsyncIntentClient):
        with pytest.raises(ConfigError) as caught:
            kind(base_url, key, **options)
        assert KEY not in str(caught.value)


def test_proxies_and_repr(
    server: Server, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with IntentClient(server.url, KEY, max_retries=0) as client:
        assert client.recognize("weather?") == WEATHER
        assert repr(client) == f"IntentClient({server.url!r}, alias='intent')"
        assert KEY not in str(vars(client))


def test_one_client_for_all_threads(server: Server) -> None:
    utterances = [f"weather {number}?" for number in range(24)]
    with IntentClient(server.url, KEY) as client, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(client.recognize, utterances)) == [WEATHER] * 24
    assert sorted(b["messages"][0]["content"] for b in server.bodies) == sorted(utterances)

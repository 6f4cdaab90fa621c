"""Bodies, streams, disconnects and metrics in the middleware."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from intent_core.serving.metrics import Metrics, process_metrics
from intent_core.serving.protocol.errors import Cause
from tests.support.servers.fake_vllm import APP_KEY, CHAT, NEW, OLD, OPERATOR_KEY, Serving

BODY = {"model": "intent", "messages": [{"role": "user", "content": "x"}]}
STATUS = ("GET", "/intent/status")


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    serving = Serving(tmp_path, max_body_bytes=1000)
    serving.promote(OLD)
    return serving


def events(*deltas: dict[str, Any], end: bool = True) -> bytes:
    lines = [json.dumps({"choices": [{"index": 0, "delta": d}]}).encode() for d in deltas]
    return b"".join(b"data: " + x + b"\n\n" for x in [*lines, *([b"[DONE]"] if end else [])])


def failures(serving: Serving) -> float:
    return serving.number("intent_parse_failures_total", alias="intent", version="7")


def in_flight(serving: Serving, model: str = OLD) -> float:
    return serving.number("intent_requests_in_flight", model=model)


@pytest.mark.parametrize("size", [999, 1000, 1001, 5000])
@pytest.mark.parametrize("chunk", [1, 7, 400, 9999])
def test_a_body_may_be_as_long_as_the_limit(serving: Serving, size: int, chunk: int) -> None:
    body = json.dumps(BODY).encode().ljust(size)
    chunks = [body[i : i + chunk] for i in range(0, size, chunk)]
    answer = serving.ask("POST", CHAT, chunks)
    assert answer.status == (200 if size <= 1000 else 413)
    assert len(serving.model.received) == (size <= 1000)
    if size > 1000:
        assert (answer.code, answer.headers["connection"]) == ("request_too_large", "close")


@pytest.mark.parametrize("length", [b"1001", b"9" * 18, b"9" * 9999])
def test_a_body_announced_too_long_is_not_read(serving: Serving, length: bytes) -> None:
    headers = [(b"content-length", length)]
    # Reading would return the disconnect.
    assert serving.ask("POST", CHAT, [], headers=headers).status == 413


@pytest.mark.parametrize("length", [b"", b"-1", b"1e9", b"ten", b"0"])
def test_an_odd_length_does_not_replace_counting(serving: Serving, length: bytes) -> None:
    headers = [(b"content-length", length)]
    assert serving.ask("POST", CHAT, b" " * 1001, headers=headers).status == 413
    assert serving.ask("POST", CHAT, BODY, headers=headers).status == 200
    assert serving.model.received[0].values("content-length") != [length.decode()]


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 999, b'{"model":"intent","x":NaN}'])
def test_a_body_that_is_no_json_object_is_refused(serving: Serving, body: bytes) -> None:
    for path in (CHAT, "/v1/completions", "/api/predict/intent"):
        answer = serving.ask("POST", path, body)
        assert answer.status == 400
    assert serving.model.received == []


def test_a_client_that_leaves_while_sending_gets_nothing(serving: Serving) -> None:
    answer = serving.ask("POST", CHAT, [b"{", b"}"], leaves_after=1)
    assert (answer.status, answer.chunks, serving.model.received) == (0, [], [])
    labels = {"alias": "", "version": "", "caller": "app", "status": "499"}
    assert serving.number("intent_requests_total", **labels) == 1


@pytest.mark.parametrize("path", [CHAT, "/api/predict/intent"])
def test_the_server_sees_a_client_leave(serving: Serving, path: str) -> None:
    serving.model.waits_for_client = True
    serving.model.raw = b"null"
    answer = serving.ask("POST", path, BODY if path == CHAT else {"prompt": "x"})
    assert serving.model.client_left
    assert answer.status == (200 if path == CHAT else 0)
    assert in_flight(serving) == 0


@pytest.mark.parametrize("size", [1, 2, 17, 99999])
def test_a_stream_passes_byte_for_byte(serving: Serving, size: int) -> None:
    whole = b": hi\r\n\r\n" + events({"role": "assistant"}, {"content": "调"}, {"content": "(a)"})
    serving.model.stream = [whole[i : i + size] for i in range(0, len(whole), size)]
    answer = serving.ask("POST", CHAT, {**BODY, "stream": True})
    assert answer.chunks == [*serving.model.stream, b""]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert failures(serving) == 0
    serving.model.stream = [c.replace(b"(a)", b"(a ") for c in serving.model.stream]
    if size > 2:
        serving.ask("POST", CHAT, BODY)
        assert failures(serving) == 1


@pytest.mark.parametrize(("end", "failed"), [(")", 0), ("", 1)])
def test_a_long_stream_is_judged_as_a_whole(serving: Serving, end: str, failed: int) -> None:
    parts = ["play(", *(f"song {n}," for n in range(500)), "last", end]
    serving.model.stream = [events({"content": p}, end=False) for p in parts] + [events()]
    assert sum(map(len, serving.model.stream)) > 2 * 16 * 1024
    assert serving.chat().chunks == [*serving.model.stream, b""]
    assert failures(serving) == failed


def test_the_parts_of_a_stream_are_not_held_back(serving: Serving) -> None:
    """Each part reaches the caller before the server produces the next one."""
    made: list[str] = []

    async def run() -> list[str]:
        async def server(scope: Any, receive: Any, send: Any) -> None:
            kind = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": kind})
            for part in ("a", "b", "c"):
                made.append(part)
                body = events({"content": part}, end=False)
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        async def receive() -> Any:
            return {"type": "http.request", "body": json.dumps(BODY).encode()}

        seen: list[str] = []

        async def send(message: Any) -> None:
            if message.get("body"):
                seen.append("".join(made))

        serving.app._model_app._app = server  # type: ignore[attr-defined]
        headers = [(b"authorization", f"Bearer {APP_KEY}".encode())]
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers}
        await serving.app(scope, receive, send)
        return seen

    assert asyncio.run(run()) == ["a", "ab", "abc"]


@pytest.mark.parametrize(
    ("text", "failed"),
    [("a(x);b()", 0), ('a(s="x,y")', 0), ("I do not know", 1), ("", 1), ("a(", 1), (None, 0)],
)
def test_answers_that_are_no_calls_are_counted(
    serving: Serving, text: str | None, failed: int
) -> None:
    serving.model.text = text
    serving.chat()
    assert failures(serving) == failed
    serving.ask("POST", "/api/predict/intent", {"prompt": "x"})
    assert failures(serving) == 2 * failed
    serving.model.stream = [events({"content": text})]
    serving.chat()
    assert failures(serving) == 3 * failed


def test_what_is_no_whole_chat_answer_is_not_judged(serving: Serving) -> None:
    serving.model.stream = [events({"content": "no calls"}, end=False)]
    serving.chat()
    serving.model.stream = [events({"content": "x" * 40_000}, {"content": "x" * 40_000})]
    serving.chat()
    serving.model.stream = [b"data: " + b"x" * 70_000, b"\n\n", events({"content": "no calls"})]
    serving.chat()
    serving.model.stream = []
    for raw in (b"null", b"{", b'{"choices": 7}', b'{"choices": [7, {"message": []}]}'):
        serving.model.raw = raw
        assert serving.chat().body == raw
    serving.model.raw, serving.model.text = None, "x" * 70_000
    serving.chat()
    serving.model.text, serving.model.status = "no calls", 500
    serving.chat()
    serving.model.status = 200
    serving.ask("POST", "/v1/completions", {"model": "intent", "prompt": "x"})
    assert failures(serving) == 0


@pytest.mark.parametrize("path", [CHAT, "/api/predict/intent"])
def test_a_fault_of_the_server_is_the_servers_and_counted_out(serving: Serving, path: str) -> None:
    serving.model.fault = RuntimeError("the engine died")
    with pytest.raises(RuntimeError, match="the engine died"):
        serving.ask("POST", path, BODY if path == CHAT else {"prompt": "x"})
    assert serving.ask(*STATUS, key=OPERATOR_KEY).fields["in_flight"] == {}
    assert in_flight(serving) == 0
    labels = {"alias": "intent", "version": "7", "caller": "app", "status": "500"}
    assert serving.number("intent_requests_total", **labels) == 1


def test_requests_in_flight_are_counted_by_the_model_they_began_with(serving: Serving) -> None:
    async def run() -> list[dict[str, int]]:
        serving.model.released = asyncio.Event()
        seen = []

        async def look() -> None:
            await asyncio.sleep(0)
            status = await serving.send(*STATUS, key=OPERATOR_KEY)
            seen.append(status.fields["in_flight"])

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serving.send("POST", CHAT, BODY))
            cancelled = tasks.create_task(serving.send("POST", CHAT, BODY))
            await look()
            serving.promote(NEW)
            tasks.create_task(serving.send("POST", CHAT, BODY))
            await look()
            cancelled.cancel()
            await look()
            assert (in_flight(serving), in_flight(serving, NEW)) == (1, 1)
            serving.model.released.set()
        await look()
        return seen

    assert asyncio.run(run()) == [{OLD: 2}, {OLD: 2, NEW: 1}, {OLD: 1, NEW: 1}, {}]
    assert (in_flight(serving), in_flight(serving, NEW)) == (0, 0)


def test_metrics_have_labels_of_ours_only(serving: Serving) -> None:
    serving.chat()
    serving.chat("some text of a caller's")
    serving.ask("POST", "/secret-path")
    serving.chat(key="somebody's key")
    text = generate_latest(serving.registry).decode()
    assert 'caller="app",status="200",version="7"' in text
    assert 'intent_request_seconds_count{alias="intent",version="7"} 1.0' in text
    for reason in ("model", "path", "key"):
        assert f'intent_refused_requests_total{{reason="{reason}"}} 1.0' in text
    for word in ("some text", "secret", "somebody"):
        assert word not in text


def test_models_in_flight_make_so_many_series_and_no_more() -> None:
    metrics = Metrics(CollectorRegistry())
    for number in range(1010):
        metrics.enter(f"intent-{number:012x}")
    assert len(metrics._models_seen) == 1000
    assert metrics.read_in_flight()[f"intent-{1009:012x}"] == 1
    for number in range(1010):
        metrics.leave(f"intent-{number:012x}")
    assert metrics.read_in_flight() == {}


def test_the_processes_metrics_are_made_once() -> None:
    metrics = process_metrics()
    assert process_metrics() is metrics
    metrics.count_refusal(Cause.KEY)

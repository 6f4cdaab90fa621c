"""A shadow behind the door: callers never notice it, and its answers are compared."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from intent_core.serving.access.aliases import Trial, TrialLimits
from tests.support.servers.fake_vllm import CHAT, NEW, OLD, OPERATOR_KEY, Answer, Door

USER = {"role": "user", "content": "weather in Hangzhou"}
BODY = {"model": "intent", "messages": [USER]}
PREDICT = "/api/predict/intent"


def trial(share: float = 1.0, **limits: Any) -> Trial:
    return Trial(
        model=NEW,
        version="8",
        system_prompt="Say new calls.",
        mode="shadow",
        share=share,
        limits=TrialLimits(**{"min_requests": 4, **limits}),
    )


@pytest.fixture
def door(tmp_path: Path) -> Door:
    door = Door(tmp_path)
    door.promote(OLD, trial=trial())
    return door


@pytest.fixture
def plain(tmp_path: Path) -> Door:
    """The same without a trial."""
    (tmp_path / "plain").mkdir()
    door = Door(tmp_path / "plain")
    door.promote(OLD)
    return door


async def hang() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise RuntimeError("no such adapter")


def test_the_candidate_gets_a_copy_of_its_own(door: Door) -> None:
    state = {"lifespan": "app"}
    body = {**BODY, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    headers = [(b"x-request-id", b"the-caller's"), (b"content-type", b"text/plain")]
    more = {"state": state, "app": "the application", "extensions": {"http.response.trailers": {}}}
    door.ask("POST", CHAT, {**body, "request_id": "r-1"}, headers=headers, **more)
    first, copy = door.model.received
    assert first.fields["stream_options"] == {"include_usage": True}
    prompt = {"role": "system", "content": "Say new calls."}
    messages = [prompt, USER]
    assert copy.fields == {"model": NEW, "messages": messages, "temperature": 0, "stream": False}
    assert copy.path == CHAT
    assert copy.values("authorization") == [f"Bearer {OPERATOR_KEY}"]
    assert copy.values("content-length") == [str(len(copy.body))]
    assert copy.values("content-type") == ["application/json"]
    assert copy.values("x-request-id") == []
    assert copy.scope["app"] == "the application"
    assert copy.scope["state"] == state
    assert copy.scope["state"] is not first.scope["state"]
    assert "extensions" not in copy.scope


def test_an_older_request_is_copied_as_a_chat(door: Door) -> None:
    answer = door.ask("POST", PREDICT, {"prompt": "weather", "max_new_tokens": 9})
    assert answer.fields["response"] == "weather_search(Hangzhou)"
    copy = door.model.received[1]
    assert (copy.path, copy.scope["raw_path"], copy.model) == (CHAT, CHAT.encode(), NEW)
    assert copy.fields["messages"][0]["content"] == "Say new calls."
    assert door.outcomes("shadow", "same") == 1


def test_completions_are_not_copied(door: Door) -> None:
    door.ask("POST", "/v1/completions", {"model": "intent", "prompt": "x"})
    assert door.asked == [OLD]


def test_the_operators_requests_are_not_copied(door: Door) -> None:
    door.chat(key=OPERATOR_KEY)
    assert door.asked == [OLD]


def test_a_share_of_nothing_is_copied_for_nobody(door: Door) -> None:
    door.promote(OLD, trial=trial(share=0))
    door.chat()
    assert door.asked == [OLD]


def give_up(door: Door) -> None:
    door.model.before[NEW] = fail


def never_answer(door: Door) -> None:
    door.model.before[NEW] = hang


def say_nothing_sensible(door: Door) -> None:
    door.model.texts = {NEW: "no calls"}


def refuse(door: Door) -> None:
    door.model.statuses = {NEW: 500}


@pytest.mark.parametrize("behave", [give_up, never_answer, say_nothing_sensible, refuse])
@pytest.mark.parametrize("path", [CHAT, PREDICT])
@pytest.mark.parametrize("streamed", [False, True])
def test_callers_notice_nothing(
    door: Door, plain: Door, behave: Callable[[Door], None], path: str, streamed: bool
) -> None:
    behave(door)
    events = [json.dumps({"choices": [{"index": 0, "delta": {"content": "a(x)"}}]}), "[DONE]"]

    async def ask(one: Door) -> Answer:
        if streamed and path == CHAT:
            one.model.stream = [f"data: {event}\n\n".encode() for event in events]
        # Nothing of the candidate's is waited for, or this would hang.
        return await asyncio.wait_for(one.send("POST", path, {**BODY, "prompt": "x"}), 5)

    answers = [asyncio.run(ask(one)) for one in (door, plain)]
    for answer in answers:
        # The one thing that no two answers share.
        assert answer.headers.pop("x-intent-id").startswith(f"chatcmpl-{OLD}-v7-")
    assert answers[0] == answers[1]
    assert door.asked[:1] == [OLD]


def test_a_copy_is_asked_for_once_the_caller_has_the_answer(door: Door) -> None:
    async def run() -> None:
        await door.send("POST", CHAT, BODY)
        assert door.asked == [OLD]
        await door.settle()

    asyncio.run(run())
    assert door.asked == [OLD, NEW]


@pytest.mark.parametrize(
    ("champion", "candidate", "outcome"),
    [
        ("play(a)", "play( a );", "same"),
        ("play(a)", "play(b)", "differs"),
        ("no calls", "play(a)", "differs"),
        ("play(a)", "no calls", "parse_failure"),
        ("play(a)", None, "parse_failure"),
        ("play(a)", "", "parse_failure"),
    ],
)
def test_answers_are_compared(
    door: Door, champion: str, candidate: str | None, outcome: str
) -> None:
    door.model.texts = {OLD: champion, NEW: candidate}
    door.model.seconds = {OLD: 0.5, NEW: 0.75}
    assert door.chat().fields["choices"][0]["message"]["content"] == champion
    assert door.outcomes("shadow", outcome) == 1
    found = door.trial()
    assert (found["requests"], found["champion"]["requests"]) == (1, 1)
    assert found["disagreement_rate"] == (outcome != "same")
    assert found["latency_ratio_p95"] == 1.5


def test_a_stream_is_compared_with_a_whole_answer(door: Door) -> None:
    parts = ("weather_", "search(Hang", "zhou)")
    door.model.stream = [
        f'data: {{"choices": [{{"delta": {{"content": "{part}"}}}}]}}\n\n'.encode()
        for part in parts
    ] + [b"data: [DONE]\n\n"]

    async def answer_whole() -> None:
        door.model.stream = []

    door.model.before[NEW] = answer_whole
    stream = list(door.model.stream)
    assert door.ask("POST", CHAT, {**BODY, "stream": True}).chunks == [*stream, b""]
    assert door.outcomes("shadow", "same") == 1


@pytest.mark.parametrize("status_code", [400, 404, 500])
def test_what_the_champion_refuses_is_not_copied(door: Door, status_code: int) -> None:
    door.model.statuses = {OLD: status_code}
    assert door.chat().status == status_code
    door.model.statuses = {}
    door.model.stream = [b'data: {"choices": [{"delta": {"content": "half("}}]}\n\n']
    door.chat()
    assert door.asked == [OLD, OLD]


@pytest.mark.parametrize("behave", [give_up, refuse, say_nothing_sensible])
def test_a_bad_candidate_is_asked_no_more(door: Door, behave: Callable[[Door], None]) -> None:
    door.promote(OLD, trial=trial(max_parse_failure_rate=0.5))
    behave(door)
    assert {door.chat().status for _ in range(6)} == {200}
    assert door.asked.count(NEW) == 4
    found = door.trial()
    assert (found["ended"], found["requests"]) == ("max_parse_failure_rate", 4)


@pytest.mark.parametrize(
    ("limits", "text", "seconds"),
    [
        ({"max_disagreement_rate": 0.5}, "play(other)", 0.5),
        ({"max_latency_ratio_p95": 1.2}, "weather_search(Hangzhou)", 0.75),
    ],
)
def test_the_limits_that_need_both_answers(
    door: Door, limits: dict[str, float], text: str, seconds: float
) -> None:
    door.promote(OLD, trial=trial(**limits))
    door.model.texts[NEW] = text
    door.model.seconds = {OLD: 0.5, NEW: seconds}
    for _ in range(6):
        door.chat()
    assert door.asked.count(NEW) == 4
    assert door.trial()["ended"] == next(iter(limits))

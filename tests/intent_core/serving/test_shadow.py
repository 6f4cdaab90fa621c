"""Shadow mode in the middleware: callers are not affected, and answers are compared."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from intent_core.serving.access.aliases import Trial, TrialLimits
from tests.support.servers.fake_vllm import CHAT, NEW, OLD, OPERATOR_KEY, Answer, Serving

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
def serving(tmp_path: Path) -> Serving:
    serving = Serving(tmp_path)
    serving.promote(OLD, trial=trial())
    return serving


@pytest.fixture
def plain(tmp_path: Path) -> Serving:
    """Return the same server without a trial."""
    (tmp_path / "plain").mkdir()
    serving = Serving(tmp_path / "plain")
    serving.promote(OLD)
    return serving


async def hang() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise RuntimeError("no such adapter")


def test_the_candidate_gets_a_copy_of_its_own(serving: Serving) -> None:
    state = {"lifespan": "app"}
    body = {**BODY, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    headers = [(b"x-request-id", b"the-caller's"), (b"content-type", b"text/plain")]
    more = {"state": state, "app": "the application", "extensions": {"http.response.trailers": {}}}
    serving.ask("POST", CHAT, {**body, "request_id": "r-1"}, headers=headers, **more)
    first, copy = serving.model.received
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


def test_an_older_request_is_copied_as_a_chat(serving: Serving) -> None:
    answer = serving.ask("POST", PREDICT, {"prompt": "weather", "max_new_tokens": 9})
    assert answer.fields["response"] == "weather_search(Hangzhou)"
    copy = serving.model.received[1]
    assert (copy.path, copy.scope["raw_path"], copy.model) == (CHAT, CHAT.encode(), NEW)
    assert copy.fields["messages"][0]["content"] == "Say new calls."
    assert serving.outcomes("shadow", "same") == 1


def test_completions_are_not_copied(serving: Serving) -> None:
    serving.ask("POST", "/v1/completions", {"model": "intent", "prompt": "x"})
    assert serving.asked == [OLD]


def test_the_operators_requests_are_not_copied(serving: Serving) -> None:
    serving.chat(key=OPERATOR_KEY)
    assert serving.asked == [OLD]


def test_a_share_of_nothing_is_copied_for_nobody(serving: Serving) -> None:
    serving.promote(OLD, trial=trial(share=0))
    serving.chat()
    assert serving.asked == [OLD]


def give_up(serving: Serving) -> None:
    serving.model.before[NEW] = fail


def never_answer(serving: Serving) -> None:
    serving.model.before[NEW] = hang


def say_nothing_sensible(serving: Serving) -> None:
    serving.model.texts = {NEW: "no calls"}


def refuse(serving: Serving) -> None:
    serving.model.statuses = {NEW: 500}


@pytest.mark.parametrize("behave", [give_up, never_answer, say_nothing_sensible, refuse])
@pytest.mark.parametrize("path", [CHAT, PREDICT])
@pytest.mark.parametrize("streamed", [False, True])
def test_callers_notice_nothing(
    serving: Serving, plain: Serving, behave: Callable[[Serving], None], path: str, streamed: bool
) -> None:
    behave(serving)
    events = [json.dumps({"choices": [{"index": 0, "delta": {"content": "a(x)"}}]}), "[DONE]"]

    async def ask(one: Serving) -> Answer:
        if streamed and path == CHAT:
            one.model.stream = [f"data: {event}\n\n".encode() for event in events]
        # The caller does not wait for the candidate; otherwise this would hang.
        return await asyncio.wait_for(
            one.send("POST", path, BODY if path == CHAT else {"prompt": "x"}), 5
        )

    answers = [asyncio.run(ask(one)) for one in (serving, plain)]
    for answer in answers:
        # Ids differ between any two answers.
        assert answer.headers.pop("x-intent-id").startswith(f"chatcmpl-{OLD}-v7-")
    assert answers[0] == answers[1]
    assert serving.asked[:1] == [OLD]


def test_a_copy_is_asked_for_once_the_caller_has_the_answer(serving: Serving) -> None:
    async def run() -> None:
        await serving.send("POST", CHAT, BODY)
        assert serving.asked == [OLD]
        await serving.settle()

    asyncio.run(run())
    assert serving.asked == [OLD, NEW]


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
    serving: Serving, champion: str, candidate: str | None, outcome: str
) -> None:
    serving.model.texts = {OLD: champion, NEW: candidate}
    serving.model.seconds = {OLD: 0.5, NEW: 0.75}
    assert serving.chat().fields["choices"][0]["message"]["content"] == champion
    assert serving.outcomes("shadow", outcome) == 1
    found = serving.trial()
    assert (found["requests"], found["champion"]["requests"]) == (1, 1)
    assert found["disagreement_rate"] == (outcome != "same")
    assert found["latency_ratio_p95"] == 1.5


def test_a_stream_is_compared_with_a_whole_answer(serving: Serving) -> None:
    parts = ("weather_", "search(Hang", "zhou)")
    serving.model.stream = [
        f'data: {{"choices": [{{"delta": {{"content": "{part}"}}}}]}}\n\n'.encode()
        for part in parts
    ] + [b"data: [DONE]\n\n"]

    async def answer_whole() -> None:
        serving.model.stream = []

    serving.model.before[NEW] = answer_whole
    stream = list(serving.model.stream)
    assert serving.ask("POST", CHAT, {**BODY, "stream": True}).chunks == [*stream, b""]
    assert serving.outcomes("shadow", "same") == 1


@pytest.mark.parametrize("status_code", [400, 404, 500])
def test_what_the_champion_refuses_is_not_copied(serving: Serving, status_code: int) -> None:
    serving.model.statuses = {OLD: status_code}
    assert serving.chat().status == status_code
    serving.model.statuses = {}
    serving.model.stream = [b'data: {"choices": [{"delta": {"content": "half("}}]}\n\n']
    serving.chat()
    assert serving.asked == [OLD, OLD]


@pytest.mark.parametrize("behave", [give_up, refuse, say_nothing_sensible])
def test_a_bad_candidate_is_asked_no_more(
    serving: Serving, behave: Callable[[Serving], None]
) -> None:
    serving.promote(OLD, trial=trial(max_parse_failure_rate=0.5))
    behave(serving)
    assert {serving.chat().status for _ in range(6)} == {200}
    assert serving.asked.count(NEW) == 4
    found = serving.trial()
    assert (found["ended"], found["requests"]) == ("max_parse_failure_rate", 4)


@pytest.mark.parametrize(
    ("limits", "text", "seconds"),
    [
        ({"max_disagreement_rate": 0.5}, "play(other)", 0.5),
        ({"max_latency_ratio_p95": 1.2}, "weather_search(Hangzhou)", 0.75),
    ],
)
def test_the_limits_that_need_both_answers(
    serving: Serving, limits: dict[str, float], text: str, seconds: float
) -> None:
    serving.promote(OLD, trial=trial(**limits))
    serving.model.texts[NEW] = text
    serving.model.seconds = {OLD: 0.5, NEW: seconds}
    for _ in range(6):
        serving.chat()
    assert serving.asked.count(NEW) == 4
    assert serving.trial()["ended"] == next(iter(limits))


@pytest.mark.parametrize(
    "fields",
    [
        *({"temperature": 1.5}, {"n": 2}, {"stop": ["("]}, {"logit_bias": {"7": 100}}),
        {"messages": [{"role": "system", "content": "Say new calls."}, USER]},
    ],
)
def test_requests_unlike_the_evaluation_are_not_copied(
    serving: Serving, fields: dict[str, Any]
) -> None:
    """A system prompt of the caller would have to be that of both models."""
    serving.ask("POST", CHAT, {**BODY, **fields})
    assert serving.asked == [OLD]
    assert serving.outcomes("shadow", "skipped") == 1


def test_a_copy_that_the_caller_s_limit_cuts_off_does_not_count(serving: Serving) -> None:
    async def cut_off() -> None:
        choice = {"index": 0, "message": {"content": "weat"}, "finish_reason": "length"}
        serving.model.raw = json.dumps({"choices": [choice]}).encode()

    serving.promote(OLD, trial=trial(min_requests=2, max_parse_failure_rate=0))
    serving.model.before[NEW] = cut_off
    serving.ask("POST", CHAT, {**BODY, "max_tokens": 5})
    assert (serving.asked, serving.trial()["requests"]) == ([OLD, NEW], 0)
    serving.model.raw = None
    serving.ask("POST", CHAT, BODY)
    assert serving.outcomes("shadow", "parse_failure") == 1

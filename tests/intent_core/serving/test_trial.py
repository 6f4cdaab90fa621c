"""A canary behind the door: who is answered by which model, what is counted, and how it ends."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from intent_core.serving.access.aliases import Trial, TrialLimits
from intent_core.serving.trial.trial import is_chosen
from tests.support.servers.fake_vllm import (
    APP_KEY,
    CHAT,
    NEW,
    OLD,
    OPERATOR_KEY,
    OTHER_KEY,
    Answer,
    Door,
)

USER = {"role": "user", "content": "weather in Hangzhou"}
PREDICT = "/api/predict/intent"
KNOWN = ("weather_search", "play")


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def trial(share: float = 1.0, model: str = NEW, **limits: Any) -> Trial:
    return Trial(
        model=model,
        version="8",
        system_prompt="Say new calls.",
        mode="canary",
        share=share,
        limits=TrialLimits(**{"min_requests": 4, **limits}),
        known_intents=KNOWN,
    )


def chat(door: Door, user: object = None, **more: Any) -> Answer:
    body = {"model": "intent", "messages": [USER], **({"user": user} if user else {})}
    return door.ask("POST", CHAT, {**body, **more.pop("fields", {})}, **more)


def test_a_caller_of_the_share_is_answered_by_the_candidate(door: Door) -> None:
    door.promote(OLD, trial=trial())
    answer = chat(door)
    assert (answer.headers["x-intent-model"], answer.headers["x-intent-version"]) == (NEW, "8")
    [sent] = door.model.received
    prompt = {"role": "system", "content": "Say new calls."}
    assert sent.fields == {"model": NEW, "messages": [prompt, USER]}
    older = door.ask("POST", PREDICT, {"prompt": "x", "system_prompt": ""})
    assert older.headers["x-intent-model"] == NEW
    assert door.model.received[-1].fields["messages"][0] == prompt
    completion = door.ask("POST", "/v1/completions", {"model": "intent", "prompt": "x"})
    assert completion.headers["x-intent-model"] == NEW
    assert door.outcomes("canary", "answered") == 3
    labels = {"alias": "intent", "version": "8", "caller": "app", "status": "200"}
    assert door.number("intent_requests_total", **labels) == 3


@pytest.mark.parametrize("user", ["", "u-1", "u-2", "u-3", "u-4", 7, ["u-1"], "杭州😀"])
def test_a_caller_is_answered_by_the_same_model_always(door: Door, user: object) -> None:
    chosen = trial(share=0.5)
    door.promote(OLD, trial=chosen)
    for key, caller in ((APP_KEY, "app"), (OTHER_KEY, "other")):
        expected = NEW if is_chosen(chosen, caller, user if isinstance(user, str) else "") else OLD
        found = {chat(door, user, key=key).headers["x-intent-model"] for _ in range(3)}
        body = {"model": "intent", "prompt": "x", "user": user}
        for path in ("/v1/completions", PREDICT):
            found.add(door.ask("POST", path, body, key=key).headers["x-intent-model"])
        assert found == {expected}


def test_a_share_of_nothing_is_nobody(door: Door) -> None:
    door.promote(OLD, trial=trial(share=0))
    found = {chat(door, f"u-{n}").headers["x-intent-model"] for n in range(20)}
    assert found == {OLD}


def test_the_operator_sees_what_is_without_a_trial(door: Door) -> None:
    door.promote(OLD, trial=trial())
    assert chat(door, key=OPERATOR_KEY).headers["x-intent-model"] == OLD
    older = door.ask("POST", PREDICT, {"prompt": "x"}, key=OPERATOR_KEY)
    assert older.headers["x-intent-model"] == OLD
    door.ask("POST", "/tokenize", {"model": "intent", "prompt": "x"}, key=OPERATOR_KEY)
    assert {r.model for r in door.model.received} == {OLD}
    found = door.trial()
    assert (found["requests"], found["champion"]["requests"]) == (0, 0)


def test_without_a_trial_nobody_counts(door: Door) -> None:
    door.promote(OLD)
    door.model.text = "no calls at all"
    assert (chat(door).status, door.trial()) == (200, None)
    assert door.ask("POST", PREDICT, {"prompt": "x"}).status == 200
    assert "intent_trial_requests_total{" not in generate_latest(door.registry).decode()


def test_both_sides_stand_beside_each_other(door: Door) -> None:
    chosen = trial(share=0.5)
    door.promote(OLD, trial=chosen)
    door.model.texts = {NEW: "sing(x)", OLD: "no calls"}
    door.model.seconds = {NEW: 0.5, OLD: 0.25}
    users = [f"u-{n}" for n in range(12)]
    for user in users:
        chat(door, user)
    candidates = sum(is_chosen(chosen, "app", user) for user in users)
    assert door.trial() == {
        "model": NEW,
        "version": "8",
        "mode": "canary",
        "share": 0.5,
        "requests": candidates,
        "parse_failure_rate": 0.0,
        "unknown_intent_rate": 1.0,
        "latency_p95_s": 0.5,
        "disagreement_rate": None,
        "latency_ratio_p95": 2.0,
        "champion": {
            "requests": 12 - candidates,
            "parse_failure_rate": 1.0,
            "unknown_intent_rate": 0.0,
            "latency_p95_s": 0.25,
        },
        "skipped": 0,
        "ended": None,
    }
    assert door.outcomes("canary", "unknown_intent") == candidates


LIMITS: list[tuple[str, float, dict[str, Any]]] = [
    ("max_parse_failure_rate", 0.5, {"texts": {NEW: "no calls: Hangzhou"}}),
    ("max_parse_failure_rate", 0.5, {"statuses": {NEW: 500}}),
    ("max_parse_failure_rate", 0.5, {"statuses": {NEW: 404}}),
    ("max_unknown_intent_rate", 0.5, {"texts": {NEW: "sing(x)"}}),
]


@pytest.mark.parametrize(("name", "limit", "behaviour"), LIMITS)
def test_a_passed_limit_returns_everyone_to_the_champion(
    door: Door,
    name: str,
    limit: float,
    behaviour: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    door.promote(OLD, trial=trial(**{name: limit}))
    vars(door.model).update(behaviour)
    with caplog.at_level(logging.ERROR):
        asked = [chat(door).headers["x-intent-model"] for _ in range(7)]
    assert asked == [NEW] * 4 + [OLD] * 3
    found = door.trial()
    assert (found["ended"], found["requests"]) == (name, 4)
    assert found["champion"]["requests"] == 0
    ended = {"alias": "intent", "model": NEW, "limit": name}
    assert door.number("intent_trials_ended_total", **ended) == 1
    [record] = caplog.records
    assert record.getMessage() == (
        f"the canary of {NEW} (version 8) as 'intent' is over: {name} is 0.5, found 1 in 4 requests"
    )
    assert "Hangzhou" not in caplog.text


def test_a_slow_candidate_is_returned_from(door: Door) -> None:
    chosen = trial(share=0.5, max_latency_ratio_p95=1.5)
    door.promote(OLD, trial=chosen)
    door.model.seconds = {NEW: 0.8, OLD: 0.5}
    for number in range(30):
        chat(door, f"u-{number}")
    assert door.trial()["ended"] == "max_latency_ratio_p95"
    assert {chat(door, f"u-{n}").headers["x-intent-model"] for n in range(9)} == {OLD}


@pytest.mark.parametrize("path", [CHAT, PREDICT])
def test_a_candidate_that_breaks_is_returned_from(door: Door, path: str) -> None:
    async def fail() -> None:
        raise RuntimeError("the adapter is broken")

    door.promote(OLD, trial=trial(max_parse_failure_rate=0))
    door.model.before[NEW] = fail
    for _ in range(4):
        with pytest.raises(RuntimeError):
            door.ask("POST", path, {"model": "intent", "messages": [USER], "prompt": "x"})
    assert chat(door).headers["x-intent-model"] == OLD
    assert door.outcomes("canary", "failed") == 4


def test_no_caller_can_end_a_trial(door: Door) -> None:
    """Wrong bodies, refused requests and leaving early are none of the candidate's doing."""
    door.promote(OLD, trial=trial(min_requests=1, max_parse_failure_rate=0))
    door.ask("POST", CHAT, b'{"model": "intent", "messages": [], "x": NaN}')
    door.ask("POST", CHAT, b'{"model": "intent", "messages": [], "user": "\\ud800"}')
    door.ask("POST", PREDICT, {"prompt": 7})
    door.model.statuses = {NEW: 400}
    chat(door)
    door.model.statuses = {}
    door.model.raw = b"null"
    door.model.waits_for_client = True
    chat(door)
    door.ask("POST", PREDICT, {"prompt": "x"})
    door.model.waits_for_client = False
    door.model.stream = [b'data: {"choices": [{"index": 0, "delta": {"content": "half("}}]}\n\n']
    chat(door)
    found = door.trial()
    assert (found["requests"], found["ended"]) == (0, None)


def test_a_caller_lost_within_the_answer_is_not_the_candidates_fault(door: Door) -> None:
    door.promote(OLD, trial=trial(min_requests=1, max_parse_failure_rate=0))

    door.model.fault_within = OSError("the caller's connection is gone")
    with pytest.raises(OSError, match="gone"):
        chat(door)
    assert door.trial()["requests"] == 0


def test_a_stream_of_the_candidate_passes_as_it_is_and_is_judged(door: Door) -> None:
    door.promote(OLD, trial=trial(max_parse_failure_rate=0.5))
    deltas = [{"content": "weather_"}, {"content": "search(杭州"}, {"content": ")"}]
    lines = [json.dumps({"choices": [{"index": 0, "delta": d}]}).encode() for d in deltas]
    whole = b"".join(b"data: " + x + b"\n\n" for x in [*lines, b"[DONE]"])
    door.model.stream = [whole[i : i + 11] for i in range(0, len(whole), 11)]
    answer = chat(door, fields={"stream": True})
    assert answer.chunks == [*door.model.stream, b""]
    assert answer.headers["x-intent-model"] == NEW
    assert door.outcomes("canary", "answered") == 1
    door.model.stream = [whole.replace(b')"', b'"')]
    assert [chat(door).body for _ in range(3)] == door.model.stream * 3
    assert door.outcomes("canary", "parse_failure") == 3
    assert door.trial()["ended"] == "max_parse_failure_rate"


def test_an_ended_trial_stays_so_until_the_file_says_another(door: Door) -> None:
    def models() -> set[str]:
        return {chat(door).headers["x-intent-model"] for _ in range(2)}

    door.model.texts = {NEW: "no calls"}
    limits = {"max_parse_failure_rate": 0.5}
    door.promote(OLD, trial=trial(**limits))
    for _ in range(4):
        chat(door)
    door.promote(OLD, trial=trial(**limits))
    assert models() == {OLD}
    door.promote(OLD, version="9", system_prompt="Other.", trial=trial(**limits))
    assert models() == {OLD}
    door.promote(OLD.replace("0", "1"), trial=trial(**limits))
    assert models() == {OLD.replace("0", "1")}
    assert door.trial()["ended"] == "max_parse_failure_rate"
    # Further changes begin anew, each with numbers of its own.
    for changed in (trial(share=0.99, **limits), trial(max_parse_failure_rate=0.6)):
        door.promote(OLD, trial=changed)
        assert models() == {NEW}
        assert (door.trial()["requests"], door.trial()["ended"]) == (2, None)
    door.promote(OLD)
    assert models() == {OLD}
    assert door.trial() is None
    door.promote(OLD, trial=trial(**limits))
    assert models() == {NEW}


def test_a_running_trial_keeps_its_numbers_while_it_is_the_same(door: Door) -> None:
    door.promote(OLD, trial=trial())
    chat(door)
    door.promote(OLD, version="9", trial=trial())
    chat(door)
    assert door.trial()["requests"] == 2
    other = OLD.replace("0", "1")
    door.promote(other, trial=trial())
    # Against another champion it is another comparison.
    assert door.trial()["requests"] == 0


def test_an_answer_that_comes_after_the_trial_does_not_count(door: Door) -> None:
    async def run() -> None:
        door.model.released = asyncio.Event()
        body = {"model": "intent", "messages": [USER]}
        asked = asyncio.create_task(door.send("POST", CHAT, body))
        await door.model.started.wait()
        door.promote(OLD, trial=trial(share=0.99))
        await door.send("GET", "/intent/status", key=OPERATOR_KEY)
        door.model.released.set()
        assert (await asked).headers["x-intent-model"] == NEW

    door.promote(OLD, trial=trial(min_requests=1, max_parse_failure_rate=0))
    door.model.texts = {NEW: "no calls"}
    asyncio.run(run())
    door.model.released = None
    assert (door.trial()["requests"], door.trial()["ended"]) == (0, None)
    ended = {"alias": "intent", "model": NEW, "limit": "max_parse_failure_rate"}
    assert door.number("intent_trials_ended_total", **ended) == 0

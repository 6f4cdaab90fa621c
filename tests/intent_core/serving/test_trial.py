"""Canary trials in the middleware: routing, counting and ending."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from intent_core.serving.trial.trial import is_chosen
from tests.support.scenarios.trials import PREDICT, USER, chat, trial
from tests.support.servers.fake_vllm import (
    APP_KEY,
    CHAT,
    NEW,
    OLD,
    OPERATOR_KEY,
    OTHER_KEY,
    Serving,
)


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Serving(tmp_path)


def test_a_caller_of_the_share_is_answered_by_the_candidate(serving: Serving) -> None:
    serving.promote(OLD, trial=trial())
    answer = chat(serving)
    assert (answer.headers["x-intent-model"], answer.headers["x-intent-version"]) == (NEW, "8")
    [sent] = serving.model.received
    prompt = {"role": "system", "content": "Say new calls."}
    assert sent.fields == {"model": NEW, "messages": [prompt, USER]}
    older = serving.ask("POST", PREDICT, {"prompt": "x", "system_prompt": ""})
    assert older.headers["x-intent-model"] == NEW
    assert serving.model.received[-1].fields["messages"][0] == prompt
    completion = serving.ask("POST", "/v1/completions", {"model": "intent", "prompt": "x"})
    assert completion.headers["x-intent-model"] == NEW
    assert serving.outcomes("canary", "answered") == 2
    assert serving.outcomes("canary", "skipped") == 1
    labels = {"alias": "intent", "version": "8", "caller": "app", "status": "200"}
    assert serving.number("intent_requests_total", **labels) == 3


@pytest.mark.parametrize("user", ["", "u-1", "u-2", "u-3", "u-4", 7, ["u-1"], "杭州😀"])
def test_a_caller_is_answered_by_the_same_model_always(serving: Serving, user: object) -> None:
    chosen = trial(share=0.5)
    serving.promote(OLD, trial=chosen)
    for key, caller in ((APP_KEY, "app"), (OTHER_KEY, "other")):
        expected = NEW if is_chosen(chosen, caller, user if isinstance(user, str) else "") else OLD
        found = {chat(serving, user, key=key).headers["x-intent-model"] for _ in range(3)}
        body = {"model": "intent", "prompt": "x", "user": user}
        for path in ("/v1/completions", PREDICT):
            found.add(serving.ask("POST", path, body, key=key).headers["x-intent-model"])
        assert found == {expected}


def test_a_share_of_nothing_is_nobody(serving: Serving) -> None:
    serving.promote(OLD, trial=trial(share=0))
    found = {chat(serving, f"u-{n}").headers["x-intent-model"] for n in range(20)}
    assert found == {OLD}


def test_the_operator_sees_what_is_without_a_trial(serving: Serving) -> None:
    serving.promote(OLD, trial=trial())
    assert chat(serving, key=OPERATOR_KEY).headers["x-intent-model"] == OLD
    older = serving.ask("POST", PREDICT, {"prompt": "x"}, key=OPERATOR_KEY)
    assert older.headers["x-intent-model"] == OLD
    serving.ask("POST", "/tokenize", {"model": "intent", "prompt": "x"}, key=OPERATOR_KEY)
    assert {r.model for r in serving.model.received} == {OLD}
    found = serving.trial()
    assert (found["requests"], found["champion"]["requests"]) == (0, 0)


def test_without_a_trial_nobody_counts(serving: Serving) -> None:
    serving.promote(OLD)
    serving.model.text = "no calls at all"
    assert (chat(serving).status, serving.trial()) == (200, None)
    assert serving.ask("POST", PREDICT, {"prompt": "x"}).status == 200
    assert "intent_trial_requests_total{" not in generate_latest(serving.registry).decode()


def test_both_sides_stand_beside_each_other(serving: Serving) -> None:
    chosen = trial(share=0.5)
    serving.promote(OLD, trial=chosen)
    serving.model.texts = {NEW: "sing(x)", OLD: "no calls"}
    serving.model.seconds = {NEW: 0.5, OLD: 0.25}
    users = [f"u-{n}" for n in range(12)]
    for user in users:
        chat(serving, user)
    candidates = sum(is_chosen(chosen, "app", user) for user in users)
    assert serving.trial() == {
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
    assert serving.outcomes("canary", "unknown_intent") == candidates


LIMITS: list[tuple[str, float, dict[str, Any]]] = [
    ("max_parse_failure_rate", 0.5, {"texts": {NEW: "no calls: Hangzhou"}}),
    ("max_parse_failure_rate", 0.5, {"statuses": {NEW: 500}}),
    ("max_parse_failure_rate", 0.5, {"statuses": {NEW: 404}}),
    ("max_unknown_intent_rate", 0.5, {"texts": {NEW: "sing(x)"}}),
]


@pytest.mark.parametrize(("name", "limit", "behaviour"), LIMITS)
def test_a_passed_limit_returns_everyone_to_the_champion(
    serving: Serving,
    name: str,
    limit: float,
    behaviour: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    serving.promote(OLD, trial=trial(**{name: limit}))
    vars(serving.model).update(behaviour)
    with caplog.at_level(logging.ERROR):
        asked = [chat(serving).headers["x-intent-model"] for _ in range(7)]
    assert asked == [NEW] * 4 + [OLD] * 3
    found = serving.trial()
    assert (found["ended"], found["requests"]) == (name, 4)
    assert found["champion"]["requests"] == 0
    ended = {"alias": "intent", "model": NEW, "limit": name}
    assert serving.number("intent_trials_ended_total", **ended) == 1
    [record] = caplog.records
    assert record.getMessage() == (
        f"trial ended: mode=canary model={NEW} version=8 alias=intent exceeded {name}: "
        "value 1, limit 0.5, after 4 requests"
    )
    assert "Hangzhou" not in caplog.text


def test_a_slow_candidate_is_returned_from(serving: Serving) -> None:
    chosen = trial(share=0.5, max_latency_ratio_p95=1.5)
    serving.promote(OLD, trial=chosen)
    serving.model.seconds = {NEW: 0.8, OLD: 0.5}
    for number in range(30):
        chat(serving, f"u-{number}")
    assert serving.trial()["ended"] == "max_latency_ratio_p95"
    assert {chat(serving, f"u-{n}").headers["x-intent-model"] for n in range(9)} == {OLD}


@pytest.mark.parametrize("path", [CHAT, PREDICT])
def test_a_candidate_that_breaks_is_returned_from(serving: Serving, path: str) -> None:
    async def fail() -> None:
        raise RuntimeError("the adapter is broken")

    serving.promote(OLD, trial=trial(max_parse_failure_rate=0))
    serving.model.before[NEW] = fail
    for _ in range(4):
        with pytest.raises(RuntimeError):
            chat(serving) if path == CHAT else serving.ask("POST", path, {"prompt": "x"})
    assert chat(serving).headers["x-intent-model"] == OLD
    assert serving.outcomes("canary", "failed") == 4


def test_no_caller_can_end_a_trial(serving: Serving) -> None:
    """Invalid bodies, refused requests and disconnects do not count against the candidate."""
    serving.promote(OLD, trial=trial(min_requests=1, max_parse_failure_rate=0))
    serving.ask("POST", CHAT, b'{"model": "intent", "messages": [], "x": NaN}')
    serving.ask("POST", CHAT, b'{"model": "intent", "messages": [], "stop": "\\ud800"}')
    serving.ask("POST", PREDICT, {"prompt": 7})
    serving.model.statuses = {NEW: 400}
    chat(serving)
    serving.model.statuses = {}
    serving.model.raw = b"null"
    serving.model.waits_for_client = True
    chat(serving)
    serving.ask("POST", PREDICT, {"prompt": "x"})
    serving.model.waits_for_client = False
    serving.model.stream = [b'data: {"choices": [{"index": 0, "delta": {"content": "half("}}]}\n\n']
    chat(serving)
    found = serving.trial()
    assert (found["requests"], found["ended"]) == (0, None)


def test_an_ended_trial_stays_so_until_the_file_says_another(serving: Serving) -> None:
    def models() -> set[str]:
        return {chat(serving).headers["x-intent-model"] for _ in range(2)}

    serving.model.texts = {NEW: "no calls"}
    limits = {"max_parse_failure_rate": 0.5}
    serving.promote(OLD, trial=trial(**limits))
    for _ in range(4):
        chat(serving)
    serving.promote(OLD, trial=trial(**limits))
    assert models() == {OLD}
    serving.promote(OLD, version="9", system_prompt="Other.", trial=trial(**limits))
    assert models() == {OLD}
    serving.promote(OLD.replace("0", "1"), trial=trial(**limits))
    assert models() == {OLD.replace("0", "1")}
    assert serving.trial()["ended"] == "max_parse_failure_rate"
    # Each further change starts a new trial with its own counts.
    for changed in (trial(share=0.99, **limits), trial(max_parse_failure_rate=0.6)):
        serving.promote(OLD, trial=changed)
        assert models() == {NEW}
        assert (serving.trial()["requests"], serving.trial()["ended"]) == (2, None)
    serving.promote(OLD)
    assert models() == {OLD}
    assert serving.trial() is None
    serving.promote(OLD, trial=trial(**limits))
    assert models() == {NEW}


def test_a_running_trial_keeps_its_numbers_while_it_is_the_same(serving: Serving) -> None:
    serving.promote(OLD, trial=trial())
    chat(serving)
    serving.promote(OLD, version="9", trial=trial())
    chat(serving)
    assert serving.trial()["requests"] == 2
    other = OLD.replace("0", "1")
    serving.promote(other, trial=trial())
    # With another champion a new comparison starts.
    assert serving.trial()["requests"] == 0


def test_an_answer_that_comes_after_the_trial_does_not_count(serving: Serving) -> None:
    async def run() -> None:
        serving.model.released = asyncio.Event()
        body = {"model": "intent", "messages": [USER]}
        asked = asyncio.create_task(serving.send("POST", CHAT, body))
        await serving.model.started.wait()
        serving.promote(OLD, trial=trial(share=0.99))
        await serving.send("GET", "/intent/status", key=OPERATOR_KEY)
        serving.model.released.set()
        assert (await asked).headers["x-intent-model"] == NEW

    serving.promote(OLD, trial=trial(min_requests=1, max_parse_failure_rate=0))
    serving.model.texts = {NEW: "no calls"}
    asyncio.run(run())
    serving.model.released = None
    assert (serving.trial()["requests"], serving.trial()["ended"]) == (0, None)
    ended = {"alias": "intent", "model": NEW, "limit": "max_parse_failure_rate"}
    assert serving.number("intent_trials_ended_total", **ended) == 0

"""The server applies the threshold of the evaluation, so that every client gets what was judged."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from intent_core.serving.access.aliases import Trial
from tests.support.servers.fake_vllm import CHAT, NEW, OLD, OPERATOR_KEY, Serving
from tests.support.servers.vllm_completions import write_completion

MESSAGES = [{"role": "user", "content": "weather"}]
SURE, UNSURE = [math.log(0.9), math.log(0.9)], [math.log(0.9), math.log(0.5)]
ABSTAINED = "out_of_scope()"


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    serving = Serving(tmp_path)
    serving.promote(OLD, abstain_below=0.6)
    return serving


def ask(serving: Serving, *texts: str | None, logprobs: list[float] | None, **more: Any) -> Any:
    key = {"key": more.pop("key")} if "key" in more else {}
    serving.model.raw = write_completion(*texts, logprobs=logprobs)
    body = {"model": "intent", "messages": MESSAGES, **more}
    return serving.ask("POST", CHAT, body, **key)


def read_choice(answer: Any) -> tuple[Any, ...]:
    [choice] = answer.fields["choices"]
    return choice["message"]["content"], choice["finish_reason"], choice["logprobs"]


def test_an_answer_below_the_threshold_is_out_of_scope(serving: Serving) -> None:
    answer = ask(serving, "weather(杭州)", logprobs=UNSURE, temperature=0)
    assert read_choice(answer) == (ABSTAINED, "stop", None)
    assert float(answer.headers["x-intent-confidence"]) == pytest.approx(0.45)
    sent = serving.model.received[0].fields
    assert (sent["logprobs"], sent["stream"]) == (True, False)
    answer = ask(serving, "weather(杭州)", logprobs=SURE)
    assert read_choice(answer) == ("weather(杭州)", "stop", None)
    assert float(answer.headers["x-intent-confidence"]) == pytest.approx(0.81)


def test_the_threshold_itself_is_kept_as_in_the_evaluation(serving: Serving) -> None:
    confidence = math.exp(sum(UNSURE))
    serving.promote(OLD, abstain_below=confidence)
    answer = ask(serving, "play()", logprobs=UNSURE)
    assert read_choice(answer)[0] == "play()"
    assert float(answer.headers["x-intent-confidence"]) == confidence


def test_an_answer_that_does_not_parse_is_out_of_scope_too(serving: Serving) -> None:
    assert read_choice(ask(serving, "I cannot", logprobs=UNSURE))[0] == ABSTAINED
    labels = {"alias": "intent", "version": "7"}
    assert serving.number("intent_parse_failures_total", **labels) == 1, "the model's own text"


def test_log_probabilities_that_the_caller_requests_are_returned(serving: Serving) -> None:
    serving.model.raw = write_completion("play()", logprobs=UNSURE)
    body = {"model": "intent", "messages": MESSAGES, "logprobs": True, "stream": True}
    answer = serving.ask("POST", CHAT, body)
    events = [e.removeprefix(b"data: ") for e in answer.body.split(b"\n\n")]
    tokens = [
        token
        for event in events
        if event.startswith(b"{")
        for token in (json.loads(event)["choices"][0]["logprobs"] or {}).get("content", ())
    ]
    assert [token["logprob"] for token in tokens] == UNSURE


def test_a_stream_is_held_until_the_confidence_is_known(serving: Serving) -> None:
    answer = ask(serving, "play()", logprobs=UNSURE, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert float(answer.headers["x-intent-confidence"]) == pytest.approx(0.45)
    assert b'"content": "out_of_scope()"' in answer.body
    assert b"logprob" not in answer.body.replace(b'"logprobs": null', b"")
    assert b"play" not in answer.body


def test_without_a_threshold_nothing_changes(serving: Serving) -> None:
    serving.promote(OLD)
    answer = ask(serving, "play()", logprobs=None)
    assert answer.body == serving.model.raw
    assert "x-intent-confidence" not in answer.headers
    assert "logprobs" not in serving.model.received[0].fields


def test_an_answer_without_log_probabilities_is_kept(serving: Serving) -> None:
    answer = ask(serving, "", logprobs=[])
    assert read_choice(answer)[0] == ""
    assert "x-intent-confidence" not in answer.headers


def test_each_of_several_answers_is_judged_and_none_is_in_the_header(serving: Serving) -> None:
    answer = ask(serving, "play()", "weather()", logprobs=UNSURE, n=2)
    contents = [choice["message"]["content"] for choice in answer.fields["choices"]]
    assert contents == [ABSTAINED, ABSTAINED]
    assert "x-intent-confidence" not in answer.headers


def test_tool_calls_follow_the_threshold_unless_one_is_required(serving: Serving) -> None:
    tools = [{"type": "function", "function": {"name": "play"}}]
    answer = ask(serving, "play()", logprobs=UNSURE, tools=tools)
    assert read_choice(answer)[:2] == (ABSTAINED, "stop")
    [choice] = ask(serving, "play()", logprobs=UNSURE, tools=tools, tool_choice="required").fields[
        "choices"
    ]
    assert choice["finish_reason"] == "tool_calls"
    assert "logprobs" not in serving.model.received[-1].fields
    answer = ask(serving, "play()", logprobs=UNSURE, response_format={"type": "json_object"})
    assert json.loads(read_choice(answer)[0]) == {"calls": []}


def test_the_legacy_api_follows_the_threshold(serving: Serving) -> None:
    serving.model.raw = write_completion("play()", logprobs=UNSURE)
    answer = serving.ask("POST", "/api/predict/intent", {"prompt": "x"})
    assert answer.fields == {"response": ABSTAINED, "history": [["x", ABSTAINED]]}
    assert float(answer.headers["x-intent-confidence"]) == pytest.approx(0.45)


def test_completions_have_no_confidence(serving: Serving) -> None:
    answer = serving.ask("POST", "/v1/completions", {"model": "intent", "prompt": "x"})
    assert answer.body == b"{}"
    assert "logprobs" not in serving.model.received[0].fields


def test_the_operator_reads_the_models_own_answer(serving: Serving) -> None:
    """Golden utterances compare texts at the public address."""
    answer = ask(serving, "play()", logprobs=UNSURE, key=OPERATOR_KEY)
    assert answer.body == serving.model.raw


def test_in_a_trial_each_model_has_its_own_threshold(serving: Serving) -> None:
    trial = Trial(model=NEW, version="8", mode="canary", share=1.0, abstain_below=0.1)
    serving.promote(OLD, trial=trial, abstain_below=0.6)
    assert read_choice(ask(serving, "play()", logprobs=UNSURE))[0] == "play()"
    assert serving.trial()["requests"] == 1
    serving.promote(OLD, abstain_below=0.6)
    assert read_choice(ask(serving, "play()", logprobs=UNSURE))[0] == ABSTAINED


def test_an_invalid_completion_is_an_error_of_the_server(serving: Serving) -> None:
    serving.model.raw = b"null"
    assert serving.chat().code == "invalid_answer"
    serving.model.status = 500
    assert serving.chat().body == b"null"

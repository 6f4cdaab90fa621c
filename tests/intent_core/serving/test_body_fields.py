"""The fields of a body: those of SDKs are served, expensive ones are refused by name."""

import asyncio
import inspect
import json
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.resources.chat.completions import Completions

from intent_core.serving.access.aliases import Trial
from intent_core.serving.answers.requested_form import read_form
from intent_core.serving.protocol.body_fields import select_fields
from intent_core.serving.protocol.errors import Cause, Refusal
from intent_core.serving.protocol.request_body import parse_object
from intent_core.serving.protocol.routes import Route
from tests.support.servers.fake_vllm import (
    APP_KEY,
    CHAT,
    NEW,
    OLD,
    OPERATOR_KEY,
    OTHER_KEY,
    Serving,
)

MESSAGES = [{"role": "user", "content": "weather"}]
RECORDED = sorted((Path(__file__).parents[2] / "data" / "sdk_requests").glob("*.json"))


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    serving = Serving(tmp_path)
    serving.promote(OLD)
    return serving


def ask(serving: Serving, key: str = APP_KEY, **fields: Any) -> Any:
    body = {"model": "intent", "messages": MESSAGES, **fields}
    return serving.ask("POST", CHAT, body, key=key)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_the_recorded_request_of_an_sdk_is_served(serving: Serving, path: Path) -> None:
    body = json.loads(path.read_bytes())
    answer = serving.ask("POST", CHAT, body)
    assert answer.status == 200, answer.body
    sent = serving.model.received[0].fields
    for name in ("store", "metadata", "user", "parallel_tool_calls", "tools", "response_format"):
        assert name not in sent
    for name in ("temperature", "seed", "logprobs", "stream_options", "max_tokens", "stop", "n"):
        assert sent.get(name) == body.get(name)


def test_the_openai_client_can_use_every_field_without_effect(serving: Serving) -> None:
    async def run() -> str | None:
        transport = httpx2.ASGITransport(serving.app)  # type: ignore[arg-type]
        async with openai.AsyncOpenAI(
            base_url="http://model/v1",
            api_key=APP_KEY,
            http_client=openai.DefaultAsyncHttpxClient(transport=transport),
        ) as client:
            answer = await client.chat.completions.create(
                model="intent",
                messages=[{"role": "user", "content": "weather"}],
                metadata={"app": "kiosk"},
                modalities=["text"],
                max_completion_tokens=64,
                parallel_tool_calls=False,
                prediction={"type": "content", "content": "x"},
                prompt_cache_key="kiosk",
                prompt_cache_retention="24h",
                response_format={"type": "text"},
                safety_identifier="u-17",
                seed=7,
                service_tier="auto",
                store=False,
                temperature=0,
                user="u-17",
                logprobs=True,
                top_logprobs=2,
            )
            return answer.choices[0].message.content

    assert asyncio.run(run()) == serving.model.text
    passed = ("max_completion_tokens", "seed", "temperature", "logprobs", "top_logprobs")
    assert serving.model.received[0].fields.keys() - {"model", "messages"} == {*passed}


def test_each_field_of_the_openai_client_is_passed_ignored_or_refused_by_name() -> None:
    ours = {"self", "messages", "model", "extra_headers", "extra_query", "extra_body", "timeout"}
    refused = set()
    for name in inspect.signature(Completions.create).parameters.keys() - ours:
        value = 1 if name in ("n", "max_tokens", "max_completion_tokens") else "a value"
        try:
            select_fields(Route.CHAT, {name: value})
            read_form({name: value}, lambda: None)
        except Refusal as refusal:
            assert repr(name) in refusal.message
            refused.add(name)
    assert refused == {
        *("audio", "function_call", "functions", "modalities", "moderation", "reasoning_effort"),
        *("response_format", "stream", "tool_choice", "tools", "verbosity", "web_search_options"),
    }


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"structured_outputs": None, "tools": [], "tool_choice": "none", "n": None},
        {"response_format": {"type": "text"}, "n": 64},
        {"echo": False, "prompt_logprobs": None, "logprobs": True, "chat_template": None},
        {"cache_salt": "mine", "request_id": "x", "best_of": 1},
        {"stop": ["x"] * 16, "ignore_eos": True, "min_p": 0.1},
    ],
)
def test_what_callers_need_passes(fields: dict[str, Any]) -> None:
    select_fields(Route.CHAT, fields)


@pytest.mark.parametrize("prompt", [[5] * 5000, ["x"] * 64, "x" * 5000])
def test_prompts_pass(prompt: object) -> None:
    select_fields(Route.COMPLETIONS, {"prompt": prompt})


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"tool_choice": "required"},
        # Crashed the engine of a server with adapters.
        {"prompt_logprobs": 0},
        {"prompt_logprobs": False},
        {"echo": True, "logprobs": 1},
        {"echo": 0},
        # Blocked all other callers.
        {"n": 10_000},
        {"n": "10000"},
        {"n": 1e4},
        {"n": True},
        {"max_tokens": "100000"},
        {"prompt": ["x"] * 65},
        {"prompt": [[1]] * 9, "n": 8},
        {"stop": ["x"] * 17},
        {"logit_bias": {str(n): 1 for n in range(2000)}},
        # Run code of the caller's, or show what is internal.
        {"chat_template": "{{ x }}"},
        {"chat_template_kwargs": {"x": 1}},
        {"kv_transfer_params": {}},
        {"return_token_ids": True},
        {"a field of nobody": 1},
    ],
)
def test_what_costs_the_server_much_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        select_fields(Route.COMPLETIONS, fields)
    assert refused.value.reason is Cause.BODY
    assert any(name in refused.value.message for name in fields) or "answers" in str(
        refused.value.message
    )


@pytest.mark.parametrize("name", ["x" * 100_000, "\ud800", "a\nb"])
def test_an_odd_name_is_named_in_a_readable_message(serving: Serving, name: str) -> None:
    answer = ask(serving, **{name: 1})
    assert (answer.status, len(answer.body) < 300) == (400, True)
    assert "\n" not in answer.fields["error"]["message"]


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**40])
def test_an_integer_that_vllm_cannot_hand_on_is_refused(number: int) -> None:
    with pytest.raises(Refusal, match="64 bits"):
        parse_object(b'{"top_k": %d}' % number)
    assert parse_object(b'{"seed": %d}' % (2**63 - 1)) == {"seed": 2**63 - 1}


@pytest.mark.parametrize(
    "outputs",
    [
        {"regex": "[" * 100_000},
        # 28 bytes that blocked the engine for minutes.
        {"regex": "(?:(?:[a-z]{0,50}){0,60}){0,60}"},
        {"regex": r"(?:play\([a-z]{1,40}\))+"},
        {"regex": "a", "json_object": True},
        {"regex": ""},
        {"regex": 7},
        {"regex": ["a"]},
        {"choice": ["a()", "b()"]},
        # Crashed the server: memory was exhausted.
        {"json": {"type": "array", "minItems": 10**9}},
        {"grammar": "root ::= root"},
        {"structural_tag": "{}"},
        {},
        "x",
        0,
        [],
    ],
)
def test_callers_cannot_constrain_answers(serving: Serving, outputs: object) -> None:
    for key in (APP_KEY, OPERATOR_KEY):
        answer = ask(serving, key, structured_outputs=outputs)
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert "'structured_outputs' is not supported" in answer.fields["error"]["message"]
    assert serving.model.received == []
    assert ask(serving, structured_outputs=None).status == 200


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/tokenize"])
def test_vllm_sees_none_of_it(serving: Serving, path: str) -> None:
    """Also refused for the operator, whose key the pipeline uses."""
    body = {"model": "intent", "tool_choice": "required"}
    answer = serving.ask("POST", path, body, key=OPERATOR_KEY)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert serving.model.received == []


def test_each_key_has_its_own_prefix_cache(tmp_path: Path) -> None:
    """In a shared one, the time of an answer shows whether another caller has asked before."""

    def salts(serving: Serving) -> list[str]:
        serving.promote(OLD)
        ask(serving)
        ask(serving, cache_salt="of another caller")
        serving.ask("POST", "/api/predict/intent", {"prompt": "x"})
        serving.ask("POST", "/v1/completions", {"model": "intent", "prompt": "x"})
        ask(serving, OTHER_KEY)
        ask(serving, OPERATOR_KEY)
        return [received.cache_salt for received in serving.model.received]

    *of_app, of_other, of_operator = salts(Serving(tmp_path))
    assert len({*of_app}) == 1
    assert len({of_app[0], of_other, of_operator}) == 3
    assert {len(salt) for salt in (of_app[0], of_other, of_operator)} == {64}
    assert not {of_app[0], of_other} & set(salts(Serving(tmp_path))), "not the same after a restart"


def test_a_copy_is_cached_for_its_caller(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    serving.promote(OLD, trial=Trial(model=NEW, mode="shadow", share=1.0))
    ask(serving)
    original, copy = (received.cache_salt for received in serving.model.received)
    assert original == copy


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"logit_bias": {"17": 1}}, "logit_bias"),
        ({"min_p": 0.1}, "min_p"),
        ({"min_p": 0.1, "temperature": 0.5}, "min_p"),
        ({"min_p": 0.1, "temperature": 0}, ""),
        ({"min_p": 0, "logit_bias": {}}, ""),
    ],
)
def test_what_drafts_do_not_support_is_refused_while_the_server_drafts(
    tmp_path: Path, fields: dict[str, Any], refused: str
) -> None:
    plain, drafting = Serving(tmp_path), Serving(tmp_path, drafts=True)
    for server in (plain, drafting):
        server.promote(OLD)
    assert ask(plain, **fields).status == 200
    answer = ask(drafting, **fields)
    assert answer.status == (400 if refused else 200)
    if refused:
        message = answer.fields["error"]["message"]
        assert f"'{refused}' is not supported" in message and "serve.drafter" in message

"""`response_format`: calls as JSON, for the published schema and for those that say the same."""

import json
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.support.servers.fake_vllm import CHAT, Serving, serve_intents
from tests.support.servers.openai_client import use_client
from tests.support.servers.vllm_completions import write_completion

INTENTS = {
    "weather": {"slots": [{"name": "city", "type": "one_of", "values": {"杭州": ["杭州市"]}}]},
    "play": {"description": "plays music", "slots": [{"name": "song", "description": "its name"}]},
    "out_of_scope": {},
}
MESSAGES = [{"role": "user", "content": "weather"}]


class SpokenCall(BaseModel):
    """A call as a typed client describes it."""

    intent: Literal["play"]
    arguments: dict[str, str | list[str]]


class SpokenCalls(BaseModel):
    """The answer as a typed client describes it."""

    calls: list[SpokenCall]


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return serve_intents(tmp_path, INTENTS)


def ask(serving: Serving, text: str, response_format: object, **fields: Any) -> Any:
    serving.model.raw = write_completion(text)
    body = {"model": "intent", "messages": MESSAGES, "response_format": response_format, **fields}
    return serving.ask("POST", CHAT, body)


def with_schema(schema: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}


def read_published(serving: Serving) -> Any:
    [vocabulary] = serving.ask("GET", "/v1/intents").fields["data"]
    return vocabulary


def test_the_vocabulary_is_published_in_the_forms_that_callers_send(serving: Serving) -> None:
    published = read_published(serving)
    weather, play = published["tools"]
    assert weather["function"]["name"] == "weather"
    assert weather["function"]["parameters"]["properties"] == {
        "city": {"type": "string", "enum": ["杭州", "杭州市"]}
    }
    song = {"song": {"type": "string", "description": "its name"}}
    assert play["function"]["parameters"]["properties"] == song
    assert play["function"]["description"] == "plays music"
    serving.model.raw = write_completion("play(x)")
    for form in ("tools", "response_format"):
        body = {"model": "intent", "messages": MESSAGES, form: published[form]}
        assert serving.ask("POST", CHAT, body).status == 200
    assert serving.model.received[0].fields == serving.model.received[1].fields


@pytest.mark.parametrize("kind", ["published", "json_object", "typed"])
def test_the_answer_is_json(serving: Serving, kind: str) -> None:
    forms: dict[str, object] = {
        "published": read_published(serving)["response_format"],
        "json_object": {"type": "json_object"},
        "typed": with_schema(SpokenCalls.model_json_schema()),
    }
    answer = ask(serving, "play(海阔天空,a=x,a=y)", forms[kind])
    [choice] = answer.fields["choices"]
    assert choice["finish_reason"] == "stop"
    content = choice["message"]["content"]
    arguments = {"arg1": "海阔天空", "a": ["x", "y"]}
    assert json.loads(content) == {"calls": [{"intent": "play", "arguments": arguments}]}
    assert SpokenCalls.model_validate_json(content)
    assert "response_format" not in serving.model.received[0].fields


def test_the_openai_client_parses_the_answer_itself(serving: Serving) -> None:
    serving.model.raw = write_completion("play(海阔天空)")

    async def use(client: openai.AsyncOpenAI) -> Any:
        return await client.chat.completions.parse(
            model="intent",
            messages=[{"role": "user", "content": "x"}],
            response_format=SpokenCalls,
        )

    message = use_client(serving, use).choices[0].message
    expected = SpokenCall(intent="play", arguments={"arg1": "海阔天空"})
    assert message.parsed == SpokenCalls(calls=[expected])
    serving.model.raw = write_completion("weather(杭州)")
    assert use_client(serving, use).choices[0].message.refusal == "weather(杭州)"


def test_an_answer_out_of_scope_has_no_calls(serving: Serving) -> None:
    [choice] = ask(serving, "out_of_scope()", {"type": "json_object"}).fields["choices"]
    assert json.loads(choice["message"]["content"]) == {"calls": []}


@pytest.mark.parametrize("text", ["I cannot say", "fly()", "weather(杭州)"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_the_schema_cannot_contain_is_a_refusal(
    serving: Serving, text: str, stream: bool
) -> None:
    form = with_schema(SpokenCalls.model_json_schema())
    answer = ask(serving, text, form, stream=stream)
    if stream:
        assert json.dumps({"refusal": text}, ensure_ascii=False).encode() in answer.body
    else:
        message = answer.fields["choices"][0]["message"]
        assert (message["content"], message["refusal"]) == (None, text)


def test_a_chat_without_a_new_utterance_has_no_calls(serving: Serving) -> None:
    form = {"type": "json_object"}
    result = {"role": "tool", "tool_call_id": "1", "content": "sunny"}
    answer = ask(serving, "", form, messages=[*MESSAGES, result])
    content = answer.fields["choices"][0]["message"]["content"]
    assert json.loads(content) == {"calls": []}


def describe(**parts: Any) -> dict[str, Any]:
    call = {"type": "object", "properties": {"intent": {}, "arguments": {}}, **parts}
    return {"type": "object", "properties": {"calls": {"type": "array", "items": call}}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {"city": {"type": "string"}}},
        {"properties": {"calls": {"items": {"$ref": "#/$defs/none"}}}},
        {"properties": {"calls": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {**describe(), "required": ["calls", "reason"]},
        {**describe(), "required": "calls"},
        {"properties": {"calls": {"items": 7}}},
        {"properties": {"calls": {**describe()["properties"]["calls"], "minItems": 1}}},
        describe(required=["intent", "reason"]),
        describe(properties={"intent": {"enum": [1]}, "arguments": {}}),
        describe(properties={"intent": {}, "arguments": {"additionalProperties": False}}),
        describe(properties={"intent": {}, "arguments": {"required": ["city"]}}),
    ],
)
def test_another_schema_is_refused_with_the_one_that_is_supported(
    serving: Serving, schema: object
) -> None:
    answer = ask(serving, "play()", with_schema(schema))
    message = answer.fields["error"]["message"]
    assert answer.code == "invalid_request"
    assert '{"calls": [{"intent"' in message
    assert "GET /v1/intents" in message
    assert serving.model.received == []


@pytest.mark.parametrize("value", ["json", {"type": "json_schema"}, {"type": "grammar"}, [], 0])
def test_another_format_is_refused(serving: Serving, value: object) -> None:
    assert ask(serving, "play()", value).code == "invalid_request"


def test_an_intent_that_the_model_does_not_know_is_refused(serving: Serving) -> None:
    properties = {"intent": {"enum": ["play", "get_weather"]}, "arguments": {}}
    answer = ask(serving, "play()", with_schema(describe(properties=properties)))
    assert "did you mean 'weather'?" in answer.fields["error"]["message"]
    properties = {"intent": {"const": "play"}, "arguments": {}}
    assert ask(serving, "play()", with_schema(describe(properties=properties))).status == 200

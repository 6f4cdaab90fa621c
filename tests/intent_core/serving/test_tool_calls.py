"""`tools` in, `tool_calls` out, with the prompt that the model was trained with."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from intent_core.language.calls import Argument, Call, format_calls
from intent_core.language.vocabulary import Vocabulary
from intent_core.serving.access.aliases import Trial
from intent_core.serving.answers.arguments import name_arguments, read_call
from intent_core.serving.answers.requested_form import read_form
from tests.support.servers.fake_vllm import CHAT, NEW, OLD, Serving, serve_intents
from tests.support.servers.openai_client import use_client
from tests.support.servers.vllm_completions import write_completion

INTENTS = {
    "weather": {
        "description": "the weather of a place",
        "slots": [
            {
                "name": "city",
                "type": "one_of",
                "values": {"杭州": ["杭州市"]},
                "description": "where",
            },
            {"name": "day", "type": "date"},
        ],
    },
    "transfer": {"order": "fixed", "slots": [{"name": "from"}, {"name": "to"}]},
    "play": {},
    "out_of_scope": {},
}
VOCABULARY = Vocabulary.model_validate({"intents": INTENTS})
USER = {"role": "user", "content": "weather in Hangzhou"}
SYSTEM = {"role": "system", "content": "Say calls."}


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return serve_intents(tmp_path, INTENTS)


def ask(serving: Serving, *texts: str | None, **fields: Any) -> Any:
    serving.model.raw = write_completion(*texts or ("weather(杭州,明天)",))
    tools = [tool("weather"), tool("play"), tool("transfer")]
    body = {"model": "intent", "messages": [USER], "tools": tools, **fields}
    return serving.ask("POST", CHAT, body)


def read_calls(message: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    functions = [call["function"] for call in message["tool_calls"]]
    return [(function["name"], json.loads(function["arguments"])) for function in functions]


def message_of(error: Any) -> str:
    assert (error.status, error.code) == (400, "invalid_request"), error.body
    return str(error.fields["error"]["message"])


def test_vllm_gets_the_request_as_without_tools(serving: Serving) -> None:
    ask(serving, tool_choice="required", parallel_tool_calls=True)
    ask(serving, tools=None)
    with_tools, without = (received.fields for received in serving.model.received)
    assert with_tools == {**without, "stream": False}
    assert without["messages"] == [SYSTEM, USER]


def test_calls_become_tool_calls_with_the_names_of_the_vocabulary(serving: Serving) -> None:
    answer = ask(serving, "weather(明天,杭州);transfer(A,B);play(x,y)")
    [choice] = answer.fields["choices"]
    message = choice["message"]
    assert (choice["finish_reason"], message["content"], message["role"]) == (
        "tool_calls",
        None,
        "assistant",
    )
    assert read_calls(message) == [
        ("weather", {"day": "明天", "city": "杭州"}),
        ("transfer", {"from": "A", "to": "B"}),
        ("play", {"arg1": "x", "arg2": "y"}),
    ]
    assert len({call["id"] for call in message["tool_calls"]}) == 3
    assert answer.fields["usage"]["prompt_tokens"] == 40
    assert answer.headers["x-intent-model"] == OLD


@pytest.mark.parametrize(
    "text", ["out_of_scope()", "I cannot say", "weather(", "", None, "unknown(x)", "play();fly()"]
)
def test_what_is_no_call_of_the_callers_is_content(serving: Serving, text: str | None) -> None:
    [choice] = ask(serving, text).fields["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, "stop")
    assert not choice["message"].get("tool_calls")


def test_an_answer_that_was_cut_off_is_not_a_call(serving: Serving) -> None:
    serving.model.raw = write_completion("play(x)", finish_reason="length")
    body = {"model": "intent", "messages": [USER], "tools": [tool("play")], "max_tokens": 4}
    [choice] = serving.ask("POST", CHAT, body).fields["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("play(x)", "length")


def test_several_answers_each_have_their_calls(serving: Serving) -> None:
    first, second = ask(serving, "play(x);play(y)", "out_of_scope()", n=2).fields["choices"]
    assert len(first["message"]["tool_calls"]) == 2
    assert second["message"]["content"] == "out_of_scope()"
    [single] = ask(serving, "play(x);play(y)", parallel_tool_calls=False).fields["choices"]
    assert read_calls(single["message"]) == [("play", {"arg1": "x"})]


def test_a_tool_that_is_no_intent_is_refused_with_the_nearest_one(serving: Serving) -> None:
    message = message_of(ask(serving, tools=[tool("play"), tool("get_weather")]))
    assert "'get_weather'" in message
    assert "did you mean 'weather'?" in message
    assert "GET /v1/intents" in message_of(ask(serving, tools=[tool("订酒店")]))
    assert "leave it out" in message_of(ask(serving, tools=[tool("out_of_scope")]))
    assert len(message_of(ask(serving, tools=[tool("x" * 9999)]))) < 300
    assert serving.model.received == []


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"tools": {}}, "'tools' must be a list"),
        ({"tools": [tool("play"), 7]}, "'tools[1]'"),
        ({"tools": [{"type": "custom", "custom": {"name": "play"}}]}, "'tools[0]'"),
        ({"tool_choice": "any"}, "'tool_choice'"),
        ({"tool_choice": tool("fly")}, "'tool_choice'"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "'tool_choice'"),
        ({"tools": None, "tool_choice": "required"}, "'tool_choice'"),
        ({"response_format": {"type": "json_object"}}, "cannot be combined"),
        ({"functions": [{"name": "play"}]}, "send 'tools'"),
        ({"function_call": {"name": "play"}}, "send 'tools'"),
        ({"stream": "yes"}, "'stream'"),
    ],
)
def test_invalid_tools_are_refused_by_name(
    serving: Serving, fields: dict[str, Any], part: str
) -> None:
    assert part in message_of(ask(serving, **fields))
    assert serving.model.received == []


@pytest.mark.parametrize(
    ("fields", "intents", "allows_out_of_scope"),
    [
        ({}, None, True),
        ({"tools": [tool("play")]}, {"play"}, True),
        ({"tools": [tool("play")], "tool_choice": "required"}, {"play"}, False),
        ({"tools": [tool("weather"), tool("play")], "tool_choice": tool("play")}, {"play"}, False),
        ({"tools": [tool("weather"), tool("play"), tool("transfer")]}, None, True),
        ({"tools": [tool("play")], "tool_choice": "none"}, None, True),
        ({"response_format": {"type": "json_object"}}, None, True),
    ],
)
def test_tools_narrow_what_the_model_may_say(
    fields: dict[str, Any], intents: set[str] | None, allows_out_of_scope: bool
) -> None:
    form = read_form(fields, lambda: VOCABULARY)
    assert (form.narrowed, form.allows_out_of_scope) == (intents, allows_out_of_scope)


@pytest.mark.parametrize("choice", ["auto", "none", None])
def test_without_a_tool_the_answer_is_text(serving: Serving, choice: str | None) -> None:
    for fields in ({"tools": []}, {"tools": [tool("fly")], "tool_choice": "none"}):
        serving.model.raw = None
        serving.model.text = "play(x)"
        body = {"model": "intent", "messages": [USER], "tool_choice": choice, **fields}
        answer = serving.ask("POST", CHAT, body)
        assert answer.fields["choices"][0]["message"]["content"] == "play(x)"


def test_a_model_without_a_vocabulary_names_values_by_position(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    serving.promote(OLD)
    [choice] = ask(serving, "fly(home,when=now)", tools=[tool("fly")]).fields["choices"]
    assert read_calls(choice["message"]) == [("fly", {"arg1": "home", "when": "now"})]


def test_the_models_own_text_is_judged(serving: Serving) -> None:
    labels = {"alias": "intent", "version": "7"}
    ask(serving, "weather(杭州)")
    assert serving.number("intent_parse_failures_total", **labels) == 0
    ask(serving, "I cannot say")
    ask(serving, "I cannot say", stream=True)
    assert serving.number("intent_parse_failures_total", **labels) == 2
    serving.promote(OLD, trial=Trial(model=NEW, version="8", mode="canary", share=1.0))
    ask(serving, "play(x)", tools=[tool("play"), tool("weather"), tool("transfer")])
    ask(serving, "play(x)", tools=[tool("play")])
    trial = serving.trial()
    assert trial["requests"] == 1
    assert trial["parse_failure_rate"] == 0
    assert trial["skipped"] == 1, "the caller narrowed what the model may say"


def test_a_stream_is_openais(serving: Serving) -> None:
    serving.model.raw = write_completion("play(x);weather(杭州)")

    async def use(client: openai.AsyncOpenAI) -> Any:
        async with client.chat.completions.stream(
            model="intent",
            messages=[{"role": "user", "content": "x"}],
            tools=[tool("play"), tool("weather")],  # type: ignore[list-item]
            stream_options={"include_usage": True},
        ) as stream:
            async for _ in stream:
                pass
            return await stream.get_final_completion()

    completion = use_client(serving, use)
    [choice] = completion.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    names = [call.function.name for call in choice.message.tool_calls]
    assert names == ["play", "weather"]
    assert json.loads(choice.message.tool_calls[1].function.arguments) == {"city": "杭州"}
    assert completion.usage.completion_tokens == 12


def test_the_chunks_of_a_stream_are_complete(serving: Serving) -> None:
    answer = ask(serving, "play(x)", "no call", stream=True, n=2)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert serving.model.received[0].fields["stream"] is False
    *events, done, end = answer.body.split(b"\n\n")
    assert (done, end) == (b"data: [DONE]", b"")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    assert [c["choices"][0]["index"] for c in chunks] == [0, 0, 0, 1, 1, 1]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert not any("usage" in chunk for chunk in chunks)
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-intent-0123456789ab-v7-00"}


def test_an_error_of_the_server_passes_as_it_is(serving: Serving) -> None:
    serving.model.status = 400
    assert ask(serving, stream=True).fields["choices"]
    serving.model.status, serving.model.raw = 200, b'{"choices": [{"message": {}}]}'
    body = {"model": "intent", "messages": [USER], "tools": [tool("play")]}
    assert serving.ask("POST", CHAT, body).code == "invalid_answer"


CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "transfer", "arguments": '{"from": "A, B", "to": "C"}'},
        },
        {"id": "2", "type": "function", "function": {"name": "play", "arguments": ""}},
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "It is sunny"}


def test_earlier_tool_calls_become_the_text_that_the_model_knows(serving: Serving) -> None:
    closing = {"role": "assistant", "content": "Done."}
    again = {"role": "user", "content": "and tomorrow"}
    assert ask(serving, messages=[USER, CALLED, RESULT, RESULT, closing, again]).status == 200
    said = {"role": "assistant", "content": 'transfer("A, B",C);play()'}
    assert serving.model.received[0].fields["messages"] == [SYSTEM, USER, said, again]


def test_a_chat_that_ends_with_a_result_has_no_utterance(serving: Serving) -> None:
    """Agent frameworks call the model again with the result; an answer without a call ends that."""
    answer = ask(serving, messages=[USER, CALLED, RESULT])
    [choice] = answer.fields["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "stop")
    assert answer.fields["id"] == answer.headers["x-intent-id"]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    streamed = ask(serving, messages=[USER, CALLED, RESULT], **options)
    assert b'"finish_reason": "stop"' in streamed.body
    assert serving.model.received == []


@pytest.mark.parametrize(
    "calls",
    [
        "x",
        [7],
        [{"function": {"name": "play"}}],
        [{"function": {"name": "play", "arguments": "[1]"}}],
        [{"function": {"name": "play", "arguments": "{"}}],
        [{"function": {"name": "a b", "arguments": "{}"}}],
        [{"function": {"name": "play", "arguments": '{"a b": "x"}'}}],
        [{"function": {"name": "play", "arguments": '{"a": "\\ud800"}'}}],
    ],
)
def test_an_earlier_call_that_is_invalid_is_refused_by_its_place(
    serving: Serving, calls: object
) -> None:
    message = {"role": "assistant", "tool_calls": calls}
    assert "'messages[1].tool_calls" in message_of(ask(serving, messages=[USER, message, USER]))


VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
CALLS = st.builds(
    lambda intent, arguments: Call(intent=intent, arguments=tuple(arguments)),
    st.sampled_from([*INTENTS, "fly"]),
    st.lists(
        st.builds(Argument, value=VALUES, name=st.sampled_from([None, "city", "to", "arg2", "x"])),
        max_size=4,
    ),
)


@given(call=CALLS)
def test_no_value_is_lost_on_the_way_to_a_caller_and_back(call: Call) -> None:
    arguments = name_arguments(call, VOCABULARY)
    restored = read_call(call.intent, json.loads(json.dumps(arguments)), VOCABULARY)
    values = [argument.value for argument in restored.arguments]
    assert sorted(values) == sorted(argument.value for argument in call.arguments)
    if all(argument.name is None for argument in call.arguments):
        assert restored == call, "as the model said it"


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(
        st.text(max_size=20)
        | st.lists(CALLS, max_size=3).map(format_calls)
        | st.text("play(weather杭州;,)\"'\\=", max_size=20),
        min_size=1,
        max_size=3,
    ),
    finish_reason=st.sampled_from(["stop", "length"]),
    form=st.sampled_from(
        [
            {"tools": [tool("play"), tool("weather")]},
            {"tools": [tool("play")], "tool_choice": tool("play"), "parallel_tool_calls": False},
            {"response_format": {"type": "json_object"}},
        ]
    ),
)
def test_whatever_the_model_says_the_answer_is_openais(
    serving: Serving, texts: list[str], finish_reason: str, form: dict[str, Any]
) -> None:
    serving.model.raw = write_completion(*texts, finish_reason=finish_reason)
    body = {"model": "intent", "messages": [USER], "n": len(texts), **form}
    whole = ChatCompletion.model_validate(serving.ask("POST", CHAT, body).fields, strict=True)
    streamed = serving.ask("POST", CHAT, {**body, "stream": True})
    *events, _, _ = streamed.body.split(b"\n\n")
    chunks = [
        ChatCompletionChunk.model_validate_json(event.removeprefix(b"data: "), strict=True)
        for event in events
    ]
    for index, choice in enumerate(whole.choices):
        parts = [c.choices[0] for c in chunks if c.choices[0].index == index]
        content = "".join(part.delta.content or "" for part in parts)
        assert content == (choice.message.content or "")
        assert parts[-1].finish_reason == choice.finish_reason
        calls = [call for part in parts for call in part.delta.tool_calls or ()]
        assert len(calls) == len(choice.message.tool_calls or ())
        for call in calls:
            assert call.function and call.function.name in INTENTS
            assert isinstance(json.loads(call.function.arguments or ""), dict)
        said = [choice.message.content, choice.message.refusal]
        if "response_format" in form and said[0] is not None:
            assert json.loads(said[0]).keys() == {"calls"}
        assert calls or any(part is not None for part in said)

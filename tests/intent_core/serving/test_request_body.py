import json
from pathlib import Path
from typing import Any

import pytest

from intent_core.errors import ConfigError
from intent_core.serving.protocol.errors import Cause, Refusal
from intent_core.serving.protocol.legacy_api import parse_legacy_request
from intent_core.serving.protocol.request_body import (
    bound_length,
    format_object,
    parse_object,
    put_system_prompt,
    requested_model,
)
from intent_core.serving.settings import ServingSettings, read_settings

USER = {"role": "user", "content": "weather in Hangzhou"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "杭州天气"}]}
NEEDED = {"INTENT_ALIASES_FILE": "/a", "INTENT_KEYS_FILE": "/k", "VLLM_API_KEY": "key"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"7",
        b'{"a": 1} x',
        b"\xff\xfe{",
        '{"a": 1}'.encode("utf-16"),
        b'\xef\xbb\xbf{"a": 1}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\xed\xa0\x80"}',
    ],
)
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        parse_object(body)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "body", [b'{"a": "\\ud800"}', b'{"\\udfff": 1}', b'{"a": NaN}', b'{"a": 1e999}']
)
def test_what_json_has_no_place_for_is_refused_on_its_way_out(body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        format_object(parse_object(body))
    assert refused.value.reason is Cause.BODY


def test_a_repeated_name_has_one_meaning() -> None:
    fields = parse_object(b'{"model": "intent", "model": "../x", "text": "\\ud83d\\ude00"}')
    assert format_object(fields) == '{"model": "../x", "text": "😀"}'.encode()


@pytest.mark.parametrize("model", [None, 7, [], ["intent"], {}, True])
def test_the_model_is_a_text(model: object) -> None:
    for fields in ({"model": model}, {}):
        with pytest.raises(Refusal) as refused:
            requested_model(fields)
        assert refused.value.status == 400


@pytest.mark.parametrize("messages", [[USER], [PARTS], [USER, {"role": "assistant"}, USER]])
def test_a_chat_without_system_prompt_gets_the_models(messages: list[dict[str, Any]]) -> None:
    before = json.dumps(messages)
    fields: dict[str, Any] = {"messages": messages, "temperature": 0}
    put_system_prompt(fields, "Say calls.")
    assert fields["messages"][0] == {"role": "system", "content": "Say calls."}
    assert json.dumps(fields["messages"][1:]) == before


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "mine"}, USER],
        [USER, {"role": "system", "content": []}],
        [{"role": "developer", "content": "mine"}, USER],
        [],
        None,
        "text",
        {"role": "user"},
    ],
)
def test_other_messages_stay_as_they_are(messages: object) -> None:
    fields = {"messages": messages}
    put_system_prompt(fields, "Say calls.")
    assert fields == {"messages": messages}


def test_messages_that_are_none_are_left_to_the_server() -> None:
    fields: dict[str, Any] = {"messages": [7, {"role": ["system"]}]}
    put_system_prompt(fields, "")
    assert len(fields["messages"]) == 2
    put_system_prompt(fields, "p")
    assert fields["messages"][1:] == [7, {"role": ["system"]}]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_no_more_tokens_are_asked_for_than_the_model_has_room_for(name: str) -> None:
    for wanted, most, found in ((2048, 512, 512), (64, 512, 64), (2048, 0, 2048)):
        fields = {name: wanted}
        bound_length(fields, most)
        assert fields == {name: found}
    untouched = {name: None}
    bound_length(untouched, 512)
    assert untouched == {name: None}


def test_an_older_request_becomes_a_chat() -> None:
    """The fields of the PAI guide's client."""
    older = parse_legacy_request(
        {
            "prompt": "and tomorrow?",
            "system_prompt": "You are an intent recognition expert.",
            "top_k": 4,
            "top_p": 0.8,
            "temperature": 0.95,
            "max_new_tokens": 2048,
            "use_stream_chat": False,
            "history": [["weather in Hangzhou", "weather_search(Hangzhou)"]],
        }
    )
    chat = older.to_chat("unused")
    assert chat == {
        "messages": [
            {"role": "system", "content": "You are an intent recognition expert."},
            {"role": "user", "content": "weather in Hangzhou"},
            {"role": "assistant", "content": "weather_search(Hangzhou)"},
            {"role": "user", "content": "and tomorrow?"},
        ],
        "top_k": 4,
        "top_p": 0.8,
        "temperature": 0.95,
        "max_tokens": 2048,
    }
    answer = json.loads(older.to_answer(b'{"choices": [{"message": {"content": "\\u8c03()"}}]}'))
    assert answer == {
        "response": "调()",
        "history": [
            ["weather in Hangzhou", "weather_search(Hangzhou)"],
            ["and tomorrow?", "调()"],
        ],
    }


def test_an_older_request_may_be_its_prompt_alone() -> None:
    older = parse_legacy_request({"prompt": "hi", "history": None, "langchain": True})
    assert older.to_chat("Say calls.") == {
        "messages": [
            {"role": "system", "content": "Say calls."},
            {"role": "user", "content": "hi"},
        ]
    }
    assert older.to_chat("") == {"messages": [{"role": "user", "content": "hi"}]}
    empty = b'{"choices": [{"message": {"content": null}}]}'
    assert json.loads(older.to_answer(empty)) == {"response": "", "history": [["hi", ""]]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", None),
        ("prompt", ["hi"]),
        ("system_prompt", 7),
        ("history", "hi"),
        ("history", [["hi"]]),
        ("history", [["hi", None]]),
        ("history", [{"role": "user"}]),
        ("max_new_tokens", "many"),
        ("temperature", True),
        ("top_k", [1]),
        ("top_p", {}),
    ],
)
def test_an_older_request_is_checked(field: str, value: object) -> None:
    with pytest.raises(Refusal) as refused:
        parse_legacy_request({"prompt": "hi", field: value})
    assert refused.value.status == 400
    assert field in refused.value.message


def test_an_older_stream_is_sent_elsewhere() -> None:
    with pytest.raises(Refusal) as refused:
        parse_legacy_request({"prompt": "hi", "use_stream_chat": True})
    assert "/v1/chat/completions" in refused.value.message


@pytest.mark.parametrize("answer", [b"null", b"{", b"[]", b'{"choices": []}', b"[" * 9999])
def test_an_answer_of_another_kind_is_a_bad_gateway(answer: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        parse_legacy_request({"prompt": "hi"}).to_answer(answer)
    assert refused.value.status == 502


def test_settings_are_read_from_the_environment() -> None:
    settings = read_settings(NEEDED)
    assert settings == ServingSettings(
        aliases_file=settings.aliases_file, keys_file=settings.keys_file, operator_key="key"
    )
    more = {
        "INTENT_REQUESTS_PER_MINUTE": "60",
        "INTENT_MAX_BODY_BYTES": "1000",
        "INTENT_ADD_SYSTEM_PROMPT": "False",
        "INTENT_MAX_NEW_TOKENS": "512",
        "INTENT_MODELS_FOLDER": "/models",
        "INTENT_DRAFTS": "true",
    }
    settings = read_settings(NEEDED | more)
    assert (settings.requests_per_minute, settings.max_body_bytes) == (60, 1000)
    assert (settings.add_system_prompt, settings.max_new_tokens) == (False, 512)
    assert settings.models_folder == Path("/models")
    assert settings.drafts


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, "") for name in NEEDED]
    + [("INTENT_REQUESTS_PER_MINUTE", "-1"), ("INTENT_MAX_BODY_BYTES", "1.5")]
    + [("INTENT_ADD_SYSTEM_PROMPT", "maybe")],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        read_settings(NEEDED | {name: value})

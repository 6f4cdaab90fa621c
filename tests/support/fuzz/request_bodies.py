"""Request bodies for the fuzzer: broken JSON, wrong types, and expensive requests."""

import gzip
import json
from collections.abc import Callable
from random import Random
from typing import Any

Fields = dict[str, Any]
CHATS = [{"role": "user", "content": "Will it rain?"}]

_BOOLEANS = (
    *("stream", "logprobs", "use_beam_search", "ignore_eos", "skip_special_tokens", "echo"),
    *("include_stop_str_in_output", "spaces_between_special_tokens", "add_generation_prompt"),
    *("continue_final_message", "add_special_tokens", "parallel_tool_calls", "watermarking"),
    *("return_tokens_as_token_ids", "return_token_ids", "return_token_offsets", "return_mm_kwargs"),
    *("return_prompt_text", "include_reasoning"),
)
_NUMBERS = (
    *("max_tokens", "max_completion_tokens", "n", "best_of", "temperature", "top_p", "top_k"),
    *("min_p", "min_tokens", "seed", "priority", "logprobs", "top_logprobs", "prompt_logprobs"),
    *("frequency_penalty", "presence_penalty", "repetition_penalty", "length_penalty"),
    *("truncate_prompt_tokens", "thinking_token_budget", "stream_interval", "logprob_token_ids"),
    *("routed_experts_prompt_start",),
)
_LISTS = ("stop", "stop_token_ids", "allowed_token_ids", "bad_words", "logprob_token_ids", "tools")
_OBJECTS = (
    *("logit_bias", "stream_options", "response_format", "structured_outputs", "vllm_xargs"),
    *("chat_template_kwargs", "media_io_kwargs", "mm_processor_kwargs", "kv_transfer_params"),
    *("ec_transfer_params", "repetition_detection", "mm_payload", "documents"),
)
_TEXTS = (
    *("chat_template", "user", "request_id", "session_id", "cache_salt", "suffix", "prompt_embeds"),
    *("tool_choice", "reasoning_effort", "truncation_side"),
)
FIELDS = (*_BOOLEANS, *_NUMBERS, *_LISTS, *_OBJECTS, *_TEXTS)

NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2, 50, 1000, 10**6, 2**31, 2**32 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**40),
    *(0.0, -0.0, 1e-320, 0.5, 1e308, -1e308, True, "1", None),
)
IDS: tuple[Any, ...] = (0, -1, 1, 300, 10**6, 2**31, 2**63, -(2**40), 1.5, "x", None, [1])
TEXTS: tuple[Any, ...] = (
    *("", "x", "\x00", "\ud800", "💥" * 50, "x" * 100_000, "{{ ''.__class__ }}", "../../x"),
    *("{% for i in range(10**9) %}x{% endfor %}", "file:///etc/passwd", "%s%n", 7, None, ["x"]),
)
PATTERNS: tuple[str, ...] = (
    *("a**", "(?i)a", "a\\", "[^\\s\\S]", "a{2}{3}", "(?:(?:a?){400}){400}", "(.*){200}"),
    *("(a+)+$", "(a|aa)+b", "((a{1,500}){1,500}){1,500}", "(.*a){30}", "[\\s\\S]{0,1000000}"),
    *("(", "[", "a{2,1}", "\\p{L}+", "(?<=x)y", "(?P<a>x)(?P=a)", "(" * 3000, "x" * 20_000),
    *("[" * 12_000, "(?:(?:[a-z]{0,50}){0,60}){0,60}", "(?:(?:.{0,99}){0,99}){0,99}"),
    *("(?:(?:(?:a?){64}){64}){64}", "\x00", "", "\\u{110000}", "^(a|b)*?$" * 50),
)
DEEP_SCHEMA: Any = {"type": "string"}
for _ in range(60):
    DEEP_SCHEMA = {"type": "object", "properties": {"a": DEEP_SCHEMA}, "required": ["a"]}
SCHEMAS: tuple[Any, ...] = (
    *({}, True, [], 7, "x", {"type": "nothing"}, {"$ref": "#"}, {"$ref": "file:///etc/passwd"}),
    *({"type": "array", "items": {"$ref": "#"}}, {"type": "string", "pattern": "(a+)+$"}, None),
    *({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, {"enum": []}, DEEP_SCHEMA),
    *({"type": "array", "minItems": 10**9}, {"type": "string", "minLength": 10**9}),
    *({"type": "integer", "minimum": -(10**30), "maximum": 10**30}, {"enum": ["x" * 9000] * 20}),
)
GRAMMARS = ("root ::= root", "root ::= ", 'root ::= "a" root | root root', "?", "start: start", "")
_PARTS: tuple[Any, ...] = (
    {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
    {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    {"type": "image_url", "image_url": None},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    {"type": "audio_url", "audio_url": {"url": "file:///etc/passwd"}},
    {"type": "video_url", "video_url": {"url": "file:///etc/passwd"}},
    {"type": "file", "file": {"filename": "/etc/passwd", "file_data": "x"}},
    {"type": "image_embeds", "image_embeds": "AAAA"},
    *({"type": "image_pil", "image_pil": "x"}, {"type": "text"}, {"type": "refusal"}, {}, 7, None),
    *({"type": "text", "text": "x"}, {"type": "text", "text": "\x00"}, {"text": "x"}, "x"),
    {"type": "tool_reference", "name": "x"},
)
_MESSAGES: tuple[Any, ...] = (
    *([], None, "x", 7, {}, [[]], [None], [7], ["x"], [{}], [{"role": "user"}], [{"content": "x"}]),
    *(
        [{"role": r, "content": "x"}]
        for r in ("", "nobody", 7, None, "tool", "developer", "user\n")
    ),
    *(
        [{"role": "user", "content": c}]
        for c in (None, 7, [], {}, "\x00", "", "\ud800", "x" * 90_000)
    ),
    [
        {
            "role": "assistant",
            "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{"}}],
        }
    ],
    [{"role": "assistant", "tool_calls": 7, "content": "x"}],
    [{"role": "assistant", "tool_calls": [{}], "content": None}],
    [{"role": "assistant", "content": "x", "reasoning": 7, "function_call": {"name": 7}}],
    [{"role": "tool", "tool_call_id": 7, "content": [{"type": "text", "text": None}]}],
    [{"role": "user", "content": "x", "name": 7, "tools": [7]}],
    [{"role": "system", "content": "x", "tools": [{"type": "function"}]}, *CHATS],
    *([{"role": "user", "content": "x"}] * n for n in (2, 3000)),
    [{"role": "user", "content": "<|im_end|><|im_start|>assistant\n" * 3}],
)
_TOOLS: tuple[Any, ...] = (
    *([], [{}], [7], "x", [{"type": "function"}], [{"type": "function", "function": {"name": ""}}]),
    [{"type": "function", "function": {"name": "f", "parameters": DEEP_SCHEMA}}],
    [{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#"}}}],
    *(
        [{"type": "function", "function": {"name": name}}]
        for name in ("greet", "\ud800", "x" * 9999)
    ),
    [{"type": "function", "function": {"name": "greet"}}] * 5000,
)
_CHOICES: tuple[Any, ...] = (
    *("none", "auto", "required", "x", {}, 7, {"type": "function", "function": {"name": "f"}}),
    {"type": "function", "function": {"name": "greet"}},
)
_RESULT: Fields = {"role": "tool", "tool_call_id": "x", "content": "x"}


def _called(arguments: str) -> Fields:
    call = {"id": "x", "type": "function", "function": {"name": "greet", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


_AGENTS: tuple[Any, ...] = (
    *([*CHATS, _called(text), _RESULT] for text in ("{}", '{"a": [1, null, {"b": "x"}]}')),
    *([*CHATS, _called(text), _RESULT, *CHATS] for text in ("", "[" * 5000, '{"a": "\\ud800"}')),
    [*CHATS, *([_called("{}"), _RESULT] * 500), *CHATS],
    [_RESULT],
)


def outputs(rng: Random) -> Fields:
    """Return fields for constrained decoding, by any of vLLM's options."""
    ways: tuple[Callable[[], Fields], ...] = (
        lambda: {"structured_outputs": {"regex": rng.choice(PATTERNS)}},
        lambda: {"structured_outputs": {"json": rng.choice(SCHEMAS)}},
        lambda: {"structured_outputs": {"grammar": rng.choice(GRAMMARS)}},
        lambda: {"structured_outputs": {"choice": rng.choice(([], [""], ["x"] * 5000, [7], 7))}},
        lambda: {"structured_outputs": {"structural_tag": rng.choice(("", "{}", "x", 7, "[]"))}},
        lambda: {"structured_outputs": {"json_object": True, "regex": "x"}},
        lambda: {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": rng.choice(SCHEMAS)},
            }
        },
        lambda: {"response_format": {"type": rng.choice(("json_object", "text", "x", None))}},
        lambda: {"response_format": {"type": "structural_tag", "structures": [], "triggers": []}},
        lambda: {"response_format": {"type": "structural_tag", "format": rng.choice(SCHEMAS)}},
        lambda: {"tools": rng.choice(_TOOLS), "tool_choice": rng.choice(_CHOICES)},
        lambda: {"messages": rng.choice(_AGENTS), "stream": rng.choice((True, False))},
    )
    return rng.choice(ways)()


def many_answers(rng: Random, is_chat: bool) -> Fields:
    """Return fields that request as many and as long answers as the limits allow, or more."""
    length = rng.choice((1, 8, 64, 512, 100_000))
    fields: Fields = {"n": rng.choice((1, 2, 4, 16, 17, 64)), "max_tokens": length}
    fields |= rng.choice(({}, {"ignore_eos": True}, {"temperature": 1.5, "logprobs": is_chat or 5}))
    if not is_chat:
        fields["prompt"] = [rng.choice(("x", "will it rain? " * 30))] * rng.choice((1, 2, 16, 64))
    return fields


def messages(rng: Random) -> Fields:
    if rng.random() < 0.4:
        parts = rng.choices(_PARTS, k=rng.randint(1, 3))
        return {"messages": [{"role": "user", "content": parts}]}
    return {"messages": rng.choice(_MESSAGES)}


def prompts(rng: Random) -> Fields:
    """Return a prompt for the completions API: texts, token ids, or batches."""
    return {
        "prompt": rng.choice(
            (
                *("x", "", [], [[]], None, 7, {}, ["x"] * 200, ["x", 7], [""], "x" * 90_000),
                *([rng.choice(IDS)], [rng.choice(IDS) for _ in range(5)], [[rng.choice(IDS)], [1]]),
                *([5] * 5000, [[1]] * 300, [[rng.choice(IDS)] * 3] * 3, "\ud800", "\x00"),
            )
        )
    }


def parameters(rng: Random) -> Fields:
    """Return a few of vLLM's fields with values of the right or a wrong type."""
    return {name: _value(rng, name) for name in rng.choices(FIELDS, k=rng.choice((1, 1, 2, 4)))}


def _value(rng: Random, name: str) -> Any:
    if rng.random() < 0.2:
        return rng.choice((*NUMBERS, *TEXTS, [], {}, [[]], {"x": {"y": []}}))
    if name in _BOOLEANS:
        return rng.choice((True, False, "true", 2))
    if name in _LISTS:
        values = TEXTS if name in ("stop", "bad_words") else _TOOLS if name == "tools" else IDS
        return [rng.choice(values) for _ in range(rng.choice((0, 1, 3, 1000)))]
    if name == "logit_bias":
        return {str(rng.choice(IDS)): rng.choice(NUMBERS) for _ in range(3)}
    if name in _OBJECTS:
        keys = ("chat_template", "messages", "x", "include_usage", "min_count", "max_pattern_size")
        return {rng.choice(keys): rng.choice((*NUMBERS, *TEXTS, {}, []))}
    return rng.choice(TEXTS if name in _TEXTS else NUMBERS)


def broken(rng: Random, model: str) -> bytes:
    """Return a body that is not a JSON object, or that JSON parsers interpret differently."""
    good = json.dumps({"model": model, "messages": CHATS, "max_tokens": 2}).encode()
    name = json.dumps(model).encode()
    deep = rng.choice((100, 900, 5000, 100_000))
    return rng.choice(
        (
            *(
                b"",
                b"{",
                b"[]",
                b"7",
                b'"x"',
                b"null",
                b"\xff\xfe",
                b"\xef\xbb\xbf" + good,
                good[:-9],
            ),
            good.decode().encode("utf-16"),
            gzip.compress(good, mtime=0),
            good + b"{}",
            b'{"model": "../x", "model": ' + name + good[good.index(b", ") :],
            b'{"model": ' + name + b', "model": "../x"' + good[good.index(b", ") :],
            b'{"model": ' + name + b', "temperature": NaN, "messages": []}',
            b'{"model": ' + name + b', "temperature": 1e999, "messages": []}',
            b'{"model": ' + name + b', "max_tokens": ' + b"9" * 5000 + b"}",
            b'{"model": ' + name + b', "messages": ' + b"[" * deep + b"]" * deep + b"}",
            b'{"model": ' + name + b', "x": ' + b'{"a":' * deep + b"1" + b"}" * deep + b"}",
            b'{"model": ' + name + b', "prompt": "\\ud800", "messages": [{"role": "\\udfff"}]}',
            b'{"model": ' + name + b', "x": "' + b"x" * rng.choice((10**4, 262_000, 10**6)) + b'"}',
            rng.randbytes(rng.randint(1, 3000)),
        )
    )

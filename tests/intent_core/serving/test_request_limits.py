"""Limits on the cost of a request; the cases were found by `tests.support.fuzz.fuzz_serving`."""

from pathlib import Path
from typing import Any

import pytest

from intent_core.language.intent_schema import IntentSchema, write_regex
from intent_core.serving.access.aliases import Trial, TrialLimits
from intent_core.serving.protocol.errors import Cause, Refusal
from intent_core.serving.protocol.request_body import parse_object
from intent_core.serving.protocol.request_limits import count_places, require_modest
from tests.support.servers.fake_vllm import CHAT, NEW, OLD, OPERATOR_KEY, Serving

MESSAGES = [{"role": "user", "content": "weather"}]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"structured_outputs": None, "tools": [], "tool_choice": "none", "n": None},
        {"response_format": {"type": "text"}, "n": 64},
        {"structured_outputs": {"regex": r"(?:play\([a-z]{1,40}\))+", "json": None}},
        {"structured_outputs": {"choice": ["a()", "b()"]}},
        {"prompt": [5] * 5000},
        {"prompt": ["x"] * 8, "n": 8},
        {"prompt": "x" * 5000},
        {"echo": False, "prompt_logprobs": None, "logprobs": True},
    ],
)
def test_what_callers_need_passes(fields: dict[str, Any]) -> None:
    require_modest(fields)


@pytest.mark.parametrize(
    "fields",
    [
        # Crashed the server: memory was exhausted.
        {"structured_outputs": {"json": {"type": "array", "minItems": 10**9}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"response_format": {"type": "json_object"}},
        # Each returned status 500.
        {"structured_outputs": {"grammar": "root ::= root"}},
        {"structured_outputs": {"json": {"$ref": "#"}}},
        {"structured_outputs": {"structural_tag": "{}"}},
        {"structured_outputs": {"regex": "a", "json_object": True}},
        {"structured_outputs": {"regex": "((a{1,500}){1,500}){1,500}"}},
        {"structured_outputs": {"regex": "a{1000000,}"}},
        {"structured_outputs": {"regex": "a{,99999999999}"}},
        {"structured_outputs": {"regex": "(" * 3000}},
        {"structured_outputs": {"regex": ""}},
        {"structured_outputs": {"regex": 7}},
        {"structured_outputs": {"choice": []}},
        {"structured_outputs": {"choice": ["x"] * 1001}},
        {"structured_outputs": {"choice": [""]}},
        {"structured_outputs": {"choice": "x"}},
        {"structured_outputs": {}},
        {"structured_outputs": "x"},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"tool_choice": "required"},
        # Crashed the engine of a server with adapters.
        {"prompt_logprobs": 0},
        {"prompt_logprobs": False},
        {"echo": True, "logprobs": 1},
        # Blocked all other callers.
        {"n": 10_000},
        {"n": "10000"},
        {"n": 1e4},
        {"n": True},
        {"prompt": ["x"] * 65},
        {"prompt": [[1]] * 9, "n": 8},
    ],
)
def test_what_costs_the_server_much_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        require_modest(fields)
    assert refused.value.reason is Cause.BODY


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("abc", 3),
        (r"a\(b\)", 4),
        ("[a-z]{3}", 3),
        ("[]{}()]{2}", 2),
        (r"[\]({]", 1),
        ("(ab){2,5}", 10),
        ("((a{2}){3}b){4}", 28),
        ("a*b+c?|d", 4),
        ("a{,7}", 7),
        ("(a", 1),
        ("a)", 2),
    ],
)
def test_repetitions_are_counted_as_written_out(pattern: str, count: int) -> None:
    assert count_places(pattern) == count


def test_the_pattern_of_a_large_catalogue_passes() -> None:
    catalogue = [
        IntentSchema(
            intent=f"intent_{number}", num_utterances=3, slot_counts={0: 1, 6: 1}, slot_names={}
        )
        for number in range(300)
    ]
    require_modest({"structured_outputs": {"regex": write_regex(catalogue)}})


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**40])
def test_an_integer_that_vllm_cannot_hand_on_is_refused(number: int) -> None:
    with pytest.raises(Refusal, match="64 bits"):
        parse_object(b'{"top_k": %d}' % number)
    assert parse_object(b'{"seed": %d}' % (2**63 - 1)) == {"seed": 2**63 - 1}


@pytest.mark.parametrize("pattern", [r"\p{L}", "a**", "(?i)a", "a\\", r"[^\s\S]"])
def test_a_pattern_vllm_cannot_follow_is_the_callers_fault(tmp_path: Path, pattern: str) -> None:
    """vLLM returns 500 for them, which would end a trial; its other errors remain 500."""
    serving = Serving(tmp_path)
    limits = TrialLimits(max_parse_failure_rate=0.1, min_requests=1)
    serving.promote(OLD, trial=Trial(model=NEW, mode="canary", share=1.0, limits=limits))
    serving.model.status = 500
    body = {"model": "intent", "messages": MESSAGES, "structured_outputs": {"regex": pattern}}
    answer = serving.ask("POST", CHAT, body)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert len(answer.chunks) == 1, "nothing of vLLM's answer"
    assert serving.trial()["ended"] is None
    del body["structured_outputs"]
    assert serving.ask("POST", CHAT, body).status == 500
    assert serving.trial()["ended"] == "max_parse_failure_rate"


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/tokenize"])
def test_vllm_sees_none_of_it(tmp_path: Path, path: str) -> None:
    """Also refused for the operator, whose key the pipeline uses."""
    serving = Serving(tmp_path)
    serving.promote(OLD)
    body = {"model": "intent", "messages": MESSAGES, "tool_choice": "required"}
    answer = serving.ask("POST", path, body, key=OPERATOR_KEY)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert serving.model.received == []

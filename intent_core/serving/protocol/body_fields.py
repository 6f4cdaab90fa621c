"""The fields of a request body: passed on to vLLM, accepted without effect, or refused by name.

vLLM accepts far more than callers need. One schema with `"minItems": 1000000000` used up all
memory, a regular expression of 28 bytes blocked the engine for minutes, chat templates run code,
and `prompt_logprobs` and `echo` crash the engine if an adapter is loaded.
"""

from typing import Any

from intent_core.serving.protocol.errors import Cause, Refusal
from intent_core.serving.protocol.routes import Route

_GENERATION = frozenset(
    {
        *("model", "max_tokens", "n", "stream", "stream_options", "stop", "seed", "logprobs"),
        *("temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias"),
        # Of vLLM.
        *("top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos", "stop_token_ids"),
        *("skip_special_tokens", "spaces_between_special_tokens", "include_stop_str_in_output"),
    }
)
_PASSED: dict[Route, frozenset[str]] = {
    Route.CHAT: _GENERATION | {"messages", "max_completion_tokens", "top_logprobs"},
    Route.COMPLETIONS: _GENERATION | {"prompt"},
    Route.TOKENIZE: frozenset(
        {
            *("model", "messages", "prompt", "add_generation_prompt", "continue_final_message"),
            *("add_special_tokens", "return_token_strs"),
        }
    ),
}
_IGNORED = frozenset(
    {
        *("user", "metadata", "store", "service_tier", "safety_identifier", "prediction"),
        *("parallel_tool_calls", "prompt_cache_key", "prompt_cache_options"),
        *("prompt_cache_retention", "request_id", "session_id", "cache_salt"),
    }
)
"""They cannot change the answer. `user` assigns end users to a trial."""
_WITHOUT_EFFECT: dict[str, tuple[object, ...]] = {
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "best_of": (1,),
    "suffix": ("",),
    "echo": (False,),
    "use_beam_search": (False,),
    "priority": (0,),
}
"""Accepted with these values only, which are the defaults, and not passed on."""
CONSTRAINT = "structured_outputs"
_REASONS = {
    **dict.fromkeys(("functions", "function_call"), "send 'tools' and 'tool_choice' instead"),
    **dict.fromkeys(("tools", "tool_choice", "response_format"), "use chat completions"),
    CONSTRAINT: "the server sets it itself where the model's answers are grounded",
}
_READ_HERE = frozenset({"tools", "tool_choice", "response_format"})
"""Fields of chat requests that `answers/requested_form.py` reads."""
_MOST_ANSWERS = 64
_MOST_ENTRIES = {"stop": 16, "stop_token_ids": 64, "logit_bias": 1024}
"""vLLM compares each new token with all of them."""
_INTEGERS = ("n", "max_tokens", "max_completion_tokens", "min_tokens")


def select_fields(route: Route, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are passed on to vLLM; `null` is the same as a missing field.

    Raises:
        Refusal: a field is not supported, or requests too much.
    """
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        if value is None or name in _IGNORED:
            continue
        if route is Route.CHAT and name in _READ_HERE:
            continue
        if name in _PASSED[route]:
            kept[name] = value
        elif not _is_without_effect(name, value):
            reason = f": {_REASONS[name]}" if name in _REASONS else ""
            raise Refusal(Cause.BODY, f"{name[:80]!r} is not supported{reason}")
    _require_modest(kept)
    if not isinstance(kept.get("stream", False), bool):
        raise Refusal(Cause.BODY, "'stream' must be true or false")
    return kept


def refuse_undraftable(fields: dict[str, Any]) -> None:
    """Refuse what vLLM does not support together with speculative decoding.

    Raises:
        Refusal: a sampling parameter cannot be applied to drafts.
    """
    # Without effect at temperature 0, where vLLM ignores it.
    is_greedy = fields.get("temperature") == 0
    for name in ("logit_bias", "min_p"):
        if fields.get(name) and not (name == "min_p" and is_greedy):
            reason = "the server runs with speculative decoding (serve.drafter)"
            raise Refusal(Cause.BODY, f"{name!r} is not supported: {reason}")


def count_prompts(fields: dict[str, Any]) -> int:
    """Return the number of prompts; a list of integers is one prompt as token ids."""
    prompt = fields.get("prompt")
    if not isinstance(prompt, list) or all(isinstance(token, int) for token in prompt):
        return 1
    return len(prompt)


def _is_without_effect(name: str, value: object) -> bool:
    # Compare types, too: 0 == False.
    defaults = _WITHOUT_EFFECT.get(name, ())
    return any(type(value) is type(default) and value == default for default in defaults)


def _require_modest(fields: dict[str, Any]) -> None:
    for name in _INTEGERS:
        # vLLM also accepts a string with a number, which would bypass the limits.
        value = fields.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Refusal(Cause.BODY, f"{name!r} must be an integer")
        if value < 0:
            raise Refusal(Cause.BODY, f"{name!r} must not be negative")
    if fields.get("n", 1) * count_prompts(fields) > _MOST_ANSWERS:
        message = f"more than {_MOST_ANSWERS} answers requested: lower 'n' or send fewer prompts"
        raise Refusal(Cause.BODY, message)
    for name, most in _MOST_ENTRIES.items():
        value = fields.get(name)
        if isinstance(value, list | dict) and len(value) > most:
            raise Refusal(Cause.BODY, f"{name!r} has more than {most} entries")

"""Limits the cost of one request, because vLLM compiles and generates anything that is requested.

A single schema with `"minItems": 1000000000` used up all memory and crashed the server; some
grammars and recursive schemas end with status 500; 10,000 answers to one request blocked all other
requests. The models answer with calls, for which a bounded regular expression or a choice is
sufficient.
"""

import re
from typing import Any

from intent_core.serving.protocol.errors import Cause, Refusal

_MOST_ANSWERS = 64
_MOST_PLACES = 200_000
"""Maximum size of a pattern with its repetitions expanded, twice the largest intent schema's."""
_DEEPEST = 40
_MOST_CHOICES = 1000
_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(\{(\d*)(?:,(\d*))?\})|.", re.DOTALL)
_NONE: tuple[object, ...] = (None, [], {}, "none")


def require_modest(fields: dict[str, Any]) -> None:
    """Raise `Refusal` for a request that is too costly for the server."""
    _require_few_answers(fields)
    for name in ("tools", "tool_choice", "functions", "function_call"):
        if fields.get(name) not in _NONE:
            message = f"{name!r} is not supported: the model returns calls as text"
            raise Refusal(Cause.BODY, message)
    if fields.get("response_format") not in (None, {"type": "text"}):
        raise Refusal(
            Cause.BODY,
            "'response_format' is not supported: use 'structured_outputs' with a 'regex'",
        )
    # With an adapter on the output layer, each of these crashes vLLM's engine.
    if fields.get("prompt_logprobs") is not None or fields.get("echo") not in (None, False):
        raise Refusal(Cause.BODY, "'prompt_logprobs' and 'echo' are not supported")
    outputs = fields.get("structured_outputs")
    if outputs is None:
        return
    constraint = outputs if isinstance(outputs, dict) else {"": outputs}
    constraint = {name: value for name, value in constraint.items() if value is not None}
    if constraint.keys() == {"regex"}:
        _require_modest_pattern(constraint["regex"])
    elif constraint.keys() == {"choice"}:
        _require_choice(constraint["choice"])
    else:
        message = "'structured_outputs' must have either 'regex' or 'choice' and no other fields"
        raise Refusal(Cause.BODY, message)


def _require_few_answers(fields: dict[str, Any]) -> None:
    """Limit the number of answers to all prompts together.

    `n` must be an integer: vLLM also accepts a string with a number, which would bypass the limit.
    """
    times, prompt = fields.get("n"), fields.get("prompt")
    if times is None:
        times = 1
    if isinstance(times, bool) or not isinstance(times, int):
        raise Refusal(Cause.BODY, "'n' must be an integer")
    prompts = prompt if isinstance(prompt, list) else []
    # A list of integers is one prompt as token ids.
    if all(isinstance(token, int) for token in prompts):
        prompts = prompts[:1]
    if times * max(1, len(prompts)) > _MOST_ANSWERS:
        message = f"more than {_MOST_ANSWERS} answers requested: lower 'n' or send fewer prompts"
        raise Refusal(Cause.BODY, message)


def _require_choice(choice: object) -> None:
    texts = choice if isinstance(choice, list) else []
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise Refusal(Cause.BODY, "'choice' must be a list of non-empty strings")
    if len(texts) > _MOST_CHOICES:
        raise Refusal(Cause.BODY, f"'choice' has more than {_MOST_CHOICES} strings")


def _require_modest_pattern(pattern: object) -> None:
    if not isinstance(pattern, str) or not pattern:
        raise Refusal(Cause.BODY, "'regex' must be a non-empty string")
    if count_places(pattern) > _MOST_PLACES:
        raise Refusal(Cause.BODY, "'regex' is too large after expanding its repetitions")


def count_places(pattern: str) -> int:
    """Count the characters and classes of a pattern, with `{m,n}` repetitions expanded.

    Raises:
        Refusal: groups are nested too deeply.
    """
    sizes, last = [0], 0
    for piece in _PIECE.finditer(pattern):
        text = piece.group()
        if text == "(":
            sizes.append(0)
            last = 0
            if len(sizes) > _DEEPEST:
                raise Refusal(Cause.BODY, f"'regex' has more than {_DEEPEST} nested groups")
        elif text == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif piece.group(1):
            most = piece.group(3) or piece.group(2) or "1"
            times = int(most) if len(most) < 10 else 10**9
            sizes[-1] += last * (times - 1)
            last *= times
        elif text not in "*+?|":
            last = 1
            sizes[-1] += 1
    return sum(sizes)

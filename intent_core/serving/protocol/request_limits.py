"""How much one request may ask for: vLLM compiles and generates what it is told, however large.

One schema with `"minItems": 1000000000` took all the memory there was and the server with it; some
grammars and recursive schemas end in a 500. Our models answer calls, and a bounded regular
expression or a choice says which. Ten thousand answers to one request kept all others waiting.
"""

import re
from typing import Any

from intent_core.serving.protocol.errors import Cause, Refusal

_MOST_ANSWERS = 64
_MOST_PLACES = 200_000
"""Of a pattern with its repetitions written out: the largest catalogues have half of it."""
_DEEPEST = 40
_MOST_CHOICES = 1000
_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(\{(\d*)(?:,(\d*))?\})|.", re.DOTALL)
_NONE: tuple[object, ...] = (None, [], {}, "none")


def require_modest(fields: dict[str, Any]) -> None:
    """Raise `Refusal` for a request that would cost the server much."""
    _require_few_answers(fields)
    for name in ("tools", "tool_choice", "functions", "function_call"):
        if fields.get(name) not in _NONE:
            raise Refusal(Cause.BODY, f"{name!r} is not served: the model answers calls as text")
    if fields.get("response_format") not in (None, {"type": "text"}):
        raise Refusal(
            Cause.BODY,
            "'response_format' is not served: use 'structured_outputs' with a 'regex'",
        )
    # With an adapter on the output layer either ends vLLM's engine, and everybody's answers.
    if fields.get("prompt_logprobs") is not None or fields.get("echo") not in (None, False):
        raise Refusal(Cause.BODY, "'prompt_logprobs' and 'echo' are not served")
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
        message = "'structured_outputs' must have one of 'regex' and 'choice', and nothing else"
        raise Refusal(Cause.BODY, message)


def _require_few_answers(fields: dict[str, Any]) -> None:
    """Of all prompts together; a number as a text would pass here and count there."""
    times, prompt = fields.get("n"), fields.get("prompt")
    if times is None:
        times = 1
    if isinstance(times, bool) or not isinstance(times, int):
        raise Refusal(Cause.BODY, "'n' must be a whole number")
    prompts = prompt if isinstance(prompt, list) else []
    # A list of numbers is the tokens of one.
    if all(isinstance(token, int) for token in prompts):
        prompts = prompts[:1]
    if times * max(1, len(prompts)) > _MOST_ANSWERS:
        raise Refusal(Cause.BODY, f"the request asks for more than {_MOST_ANSWERS} answers")


def _require_choice(choice: object) -> None:
    texts = choice if isinstance(choice, list) else []
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise Refusal(Cause.BODY, "'choice' must be a list of texts, none of them empty")
    if len(texts) > _MOST_CHOICES:
        raise Refusal(Cause.BODY, f"'choice' has more than {_MOST_CHOICES} texts")


def _require_modest_pattern(pattern: object) -> None:
    if not isinstance(pattern, str) or not pattern:
        raise Refusal(Cause.BODY, "'regex' must be a text that is not empty")
    if count_places(pattern) > _MOST_PLACES:
        raise Refusal(Cause.BODY, "'regex' is too large with its repetitions written out")


def count_places(pattern: str) -> int:
    """Characters and classes of a pattern, each as often as `{m,n}` around it repeats it.

    `Refusal` for groups within groups without end.
    """
    sizes, last = [0], 0
    for piece in _PIECE.finditer(pattern):
        text = piece.group()
        if text == "(":
            sizes.append(0)
            last = 0
            if len(sizes) > _DEEPEST:
                raise Refusal(Cause.BODY, f"'regex' has groups more than {_DEEPEST} deep")
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

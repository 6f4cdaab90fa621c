"""Limits on what each caller has in progress, so that no caller fills the server alone."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from intent_core.serving.protocol.errors import Cause, Refusal

_RETRY = [(b"retry-after", b"1")]
_LONGEST_REQUESTS = 2
"""Maximum cost of one request, in requests with the longest prompt and answer. Below it, other
callers wait hardly longer than for such a request."""


class Cost(NamedTuple):
    """What a request occupies on the server until it is answered."""

    answers: int
    tokens: int
    """Prompts and answers together; the prompts' are estimated."""


class InProgress:
    """Counts the answers and tokens in progress of each caller; 0 means no limit."""

    def __init__(self, most_answers: int, most_tokens: int, longest: int) -> None:
        self._most = Cost(most_answers, most_tokens)
        self._longest_request = _LONGEST_REQUESTS * longest
        self._answers: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()

    @contextlib.contextmanager
    def admit(self, caller: str, cost: Cost) -> Iterator[None]:
        """Count a request while it is answered.

        Raises:
            Refusal: the request is too large, or the caller has too much in progress.
        """
        self._require_small(cost)
        answers, tokens = self._answers[caller], self._tokens[caller]
        if _exceeds(answers + cost.answers, self._most.answers):
            raise _too_much("answers", self._most.answers)
        if _exceeds(tokens + cost.tokens, self._most.tokens):
            raise _too_much("tokens", self._most.tokens)
        self._answers[caller] += cost.answers
        self._tokens[caller] += cost.tokens
        try:
            yield
        finally:
            self._answers[caller] -= cost.answers
            self._tokens[caller] -= cost.tokens

    def _require_small(self, cost: Cost) -> None:
        """Refuse a request that would be too large even alone."""
        if _exceeds(cost.answers, self._most.answers):
            raise Refusal(
                Cause.BODY,
                f"more than {self._most.answers} answers requested: lower 'n' or send fewer "
                "prompts",
            )
        for most in (self._longest_request, self._most.tokens):
            if _exceeds(cost.tokens, most):
                raise Refusal(
                    Cause.BODY,
                    f"prompts and answers can have {cost.tokens} tokens, more than {most}: lower "
                    "'max_completion_tokens' or 'n', or send fewer prompts",
                )


def _exceeds(value: int, most: int) -> bool:
    return 0 < most < value


def _too_much(what: str, most: int) -> Refusal:
    message = f"this key has too many {what} in progress (at most {most}): retry after 1 second"
    return Refusal(Cause.BUSY, message, _RETRY)

"""Decides after a failed attempt whether and when to try again."""

import random
import time
from email.utils import parsedate_to_datetime
from typing import NoReturn

import httpx
from pydantic import BaseModel, ValidationError

from intent_client.errors import AuthenticationError, RefusedError, UnavailableError

_BUSY = {429, 502, 503, 504}
_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError)
"""The connection failed. Recognition changes nothing on the server, so it can be repeated."""
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 8.0
_MOST_CHARACTERS = 500


class Attempts:
    """The attempts of one request; `purpose` is the start of error messages."""

    def __init__(self, purpose: str, key: str, timeout_s: float, max_retries: int) -> None:
        self._purpose = purpose
        self._key = key
        self._deadline = time.monotonic() + timeout_s
        self._max_retries = max_retries
        self._retries = 0

    @property
    def seconds_left(self) -> float:
        return max(0.001, self._deadline - time.monotonic())

    def after_error(self, error: httpx.HTTPError) -> float:
        """Return the seconds until the next attempt.

        Raises:
            UnavailableError: no attempt or no time is left.
        """
        if not isinstance(error, _BROKEN):
            self._give_up(_name(error))
        return self._wait(_name(error))

    def after_response(self, response: httpx.Response) -> float:
        """Return the seconds until the next attempt after an error of the server.

        Raises:
            RefusedError: the server refused the request.
            UnavailableError: no attempt or no time is left.
        """
        described, status = _describe(response), response.status_code
        if status in _BUSY:
            return self._wait(described.text, response)
        if status >= 500:
            self._give_up(described.text, response)
        kind = AuthenticationError if status in (401, 403) else RefusedError
        raise kind(self._format(described.text), status, described.code)

    def _wait(self, reason: str, response: httpx.Response | None = None) -> float:
        delay = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0**self._retries) * random.uniform(0.5, 1)
        if response is not None:
            delay = read_retry_after(response.headers.get("retry-after", ""), delay)
        is_last = self._retries >= self._max_retries
        if is_last or time.monotonic() + delay >= self._deadline:
            self._give_up(reason, response)
        self._retries += 1
        return delay

    def _give_up(self, reason: str, response: httpx.Response | None = None) -> NoReturn:
        attempts = f" (attempt {self._retries + 1})" if self._retries else ""
        status = response.status_code if response is not None else None
        raise UnavailableError(self._format(f"{reason}{attempts}"), status)

    def _format(self, reason: str) -> str:
        # Some gateways repeat a refused key in their answer.
        return f"{self._purpose} failed: {reason}".replace(self._key, "***")


def read_retry_after(value: str, default: float) -> float:
    """Return the seconds of a Retry-After header: a number, or an HTTP date.

    Args:
        value: the header.
        default: returned if the header is missing or invalid.
    """
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return default


class _Described(BaseModel):
    message: str = ""
    code: str = ""
    text: str = ""


class _ErrorBody(BaseModel):
    """OpenAI's form of an error."""

    class Error(BaseModel):
        message: str
        code: str | int | None = None

    error: Error


def _describe(response: httpx.Response) -> _Described:
    status = f"{response.status_code} {response.reason_phrase}".strip()
    try:
        error = _ErrorBody.model_validate_json(response.content).error
    except ValidationError:
        body = response.text.strip()[:_MOST_CHARACTERS]
        return _Described(text=f"{status}: {body!r}" if body else status)
    code = "" if error.code is None else str(error.code)
    named = f" ({code})" if code and code != str(response.status_code) else ""
    return _Described(code=code, text=f"{status}{named}: {error.message[:_MOST_CHARACTERS]}")


def _name(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "timed out"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

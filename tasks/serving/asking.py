"""Calling a model through `intent_client`, in the terms of this project: its errors and calls."""

from collections.abc import Iterator
from contextlib import contextmanager

from intent_client import IntentClientError, InvalidArgumentError

from intent_core.errors import CallSyntaxError, ConfigError, DataError, ServingError
from intent_core.language.calls import Call, parse_calls
from intent_core.language.invisible import strip_invisible


@contextmanager
def client_errors(invalid: type[ConfigError | DataError]) -> Iterator[None]:
    """Raise `invalid` for an argument that the client refuses, `ServingError` for other errors."""
    try:
        yield
    except InvalidArgumentError as error:
        raise invalid(str(error)) from error
    except IntentClientError as error:
        raise ServingError(str(error)) from error


def read_calls(text: str) -> tuple[tuple[Call, ...] | None, str | None]:
    """Return the calls of an answer, or the error if the answer does not parse."""
    try:
        return parse_calls(strip_invisible(text)), None
    except CallSyntaxError as error:
        return None, str(error)

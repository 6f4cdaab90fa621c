"""Errors of the client. Their messages never contain the API key."""


class IntentClientError(Exception):
    """Base of all errors of this package."""


class InvalidArgumentError(IntentClientError, ValueError):
    """An argument can never work: the base URL, the key, a number or the utterance."""


class RefusedError(IntentClientError):
    """The server refused the request (4xx). The same request would be refused again."""

    def __init__(self, message: str, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        """HTTP status."""
        self.code = code
        """The server's code of the error, such as `invalid_request`; "" if it sent none."""


class AuthenticationError(RefusedError):
    """The key is missing, unknown or not allowed (401, 403)."""


class UnavailableError(IntentClientError):
    """No answer within `timeout_s` and `max_retries`: the server is down, busy or unreachable."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status of the last attempt; None if there was no response."""


class InvalidAnswerError(IntentClientError):
    """The response is not a chat completion: check that the base URL is that of the model."""

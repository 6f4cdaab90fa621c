"""Errors for refused requests, in OpenAI's format."""

import json
from dataclasses import dataclass, field
from enum import Enum

Headers = list[tuple[bytes, bytes]]


class Cause(Enum):
    """Why a request was refused: HTTP status, error type and code."""

    AUTHORIZATION = (400, "invalid_request_error", "invalid_authorization")
    KEY = (401, "authentication_error", "invalid_api_key")
    PATH = (404, "invalid_request_error", "path_not_served")
    RATE = (429, "rate_limit_error", "rate_limit_exceeded")
    BUSY = (429, "rate_limit_error", "too_many_in_progress")
    SIZE = (413, "invalid_request_error", "request_too_large")
    BODY = (400, "invalid_request_error", "invalid_request")
    MODEL = (404, "invalid_request_error", "model_not_found")
    NOTHING_PROMOTED = (503, "server_error", "no_model_promoted")
    ANSWER = (502, "server_error", "invalid_answer")


@dataclass(eq=False)
class Refusal(Exception):
    """Raised for a refused request; it is always caught within this package."""

    reason: Cause
    message: str
    headers: Headers = field(default_factory=list)

    @property
    def status(self) -> int:
        return self.reason.value[0]

    def to_body(self) -> bytes:
        _, kind, code = self.reason.value
        error = {"message": self.message, "type": kind, "param": None, "code": code}
        return json.dumps({"error": error}).encode()

"""Client of a served intent model, synchronous and asynchronous."""

from intent_client.answers import Answer, Call
from intent_client.client import AsyncIntentClient, IntentClient
from intent_client.errors import (
    AuthenticationError,
    IntentClientError,
    InvalidAnswerError,
    InvalidArgumentError,
    RefusedError,
    UnavailableError,
)

__all__ = [
    "Answer",
    "AsyncIntentClient",
    "AuthenticationError",
    "Call",
    "IntentClient",
    "IntentClientError",
    "InvalidAnswerError",
    "InvalidArgumentError",
    "RefusedError",
    "UnavailableError",
]

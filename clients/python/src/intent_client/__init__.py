"""Client of a served intent model, synchronous and asynchronous."""

from intent_client.answers import Answer
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
    "IntentClient",
    "IntentClientError",
    "InvalidAnswerError",
    "InvalidArgumentError",
    "RefusedError",
    "UnavailableError",
]

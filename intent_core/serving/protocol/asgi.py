"""The parts of ASGI that the middleware implements itself."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple

from intent_core.serving.protocol.errors import Cause, Headers, Refusal

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def find_values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes | None:
    """Return the whole body, or None if the client disconnected.

    Raises:
        Refusal: the body is larger than `limit` bytes.
    """
    # Refuse by the announced length at once; also count the bytes, as a length may be missing.
    for announced in find_values(scope["headers"], b"content-length"):
        if announced.isdigit() and (len(announced) > 18 or int(announced) > limit):
            raise _too_large(limit)
    chunks = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _too_large(limit: int) -> Refusal:
    # Close the connection, so that the rest of the body need not be read.
    headers = [(b"connection", b"close")]
    return Refusal(Cause.SIZE, f"the request body is larger than {limit} bytes", headers)


class OutgoingBody(NamedTuple):
    """A request body for vLLM."""

    content: bytes
    without_grammar: Callable[[], bytes] | None = None
    """Returns the same body without its grammar; None if it has no grammar."""


class BodyAgain:
    """A `receive` that returns a given body first and then passes on further messages."""

    def __init__(self, body: OutgoingBody, receive: Receive) -> None:
        self._body: bytes | None = body.content
        self.without_grammar = body.without_grammar
        self._receive = receive
        self.client_left = False

    async def __call__(self) -> AsgiMessage:
        if self._body is None:
            message = await self._receive()
            self.client_left = message["type"] == "http.disconnect"
            return message
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    def send_without_grammar(self) -> bytes:
        """Return the body without the grammar, which is received next."""
        if self.without_grammar is None:
            raise RuntimeError("the body has no grammar")
        self._body, self.without_grammar = self.without_grammar(), None
        return self._body


async def send_answer(
    send: Send,
    status: int,
    body: bytes,
    headers: Headers | None = None,
    content_type: bytes = b"application/json",
) -> None:
    length = (b"content-length", str(len(body)).encode())
    plain = [(b"content-type", content_type), length, *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": plain})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_json(send: Send, value: Mapping[str, object]) -> None:
    await send_answer(send, 200, json.dumps(value).encode())


async def send_refusal(send: Send, refusal: Refusal) -> None:
    await send_answer(send, refusal.status, refusal.to_body(), refusal.headers)

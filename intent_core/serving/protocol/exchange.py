"""One request and its answer on their way through the middleware."""

import time
from collections.abc import Callable
from typing import NamedTuple

from intent_core.serving.protocol.asgi import AsgiMessage, Send, send_answer
from intent_core.serving.protocol.errors import Headers
from intent_core.serving.protocol.response_ids import REQUEST_ID
from intent_core.serving.protocol.response_text import AnswerText, gather_answer


class Exchange:
    """The data of a request; passes the answer on to the caller."""

    __slots__ = (
        *("_send", "_text", "alias", "caller", "judged", "model", "request_id", "response_id"),
        *("_clock", "is_cut_off", "sending_s", "status", "version"),
    )

    def __init__(self, send: Send, clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._text: AnswerText | None = None
        self.caller = ""
        self.alias = ""
        self.version = ""
        self.model = ""
        self.request_id = ""
        """The caller's `X-Request-Id`, returned with the answer."""
        self.response_id = ""
        """Id of the answer, which contains the model name."""
        self.status = 0
        """0 until the answer starts."""
        self.judged = False
        """Whether the answer is expected to parse as calls."""
        self.is_cut_off = False
        """Whether the answer reached its maximum length; known once its texts have been read."""
        self.sending_s = 0.0
        """Seconds spent waiting for the caller to read the answer."""

    async def send(self, message: AsgiMessage) -> None:
        """Pass on vLLM's messages: add headers to the start, keep the body unchanged."""
        if message["type"] == "http.response.start":
            await self._begin(message)
            return
        await self._pass_on(message)
        # After sending, so that gathering the text does not delay the caller.
        if self._text is not None and message["type"] == "http.response.body":
            self._text.take(message.get("body", b""))

    def read_texts(self) -> list[str]:
        if self._text is None:
            return []
        self.is_cut_off = self._text.is_cut_off()
        return self._text.read_texts()

    async def _begin(self, message: AsgiMessage) -> None:
        self.status = message["status"]
        headers = list(message.get("headers", ()))
        if self.judged:
            self._text = gather_answer(self.status, headers)
        if self.model:
            headers.append((b"x-intent-model", self.model.encode()))
        if self.version:
            headers.append((b"x-intent-version", self.version.encode()))
        if self.response_id:
            headers.append((b"x-intent-id", self.response_id.encode()))
        if self.request_id:
            headers = [h for h in headers if h[0].lower() != REQUEST_ID]
            headers.append((REQUEST_ID, self.request_id.encode()))
        await self._pass_on({**message, "headers": headers})

    async def _pass_on(self, message: AsgiMessage) -> None:
        since = self._clock()
        await self._send(message)
        self.sending_s += self._clock() - since


class WrittenAnswer(NamedTuple):
    """The body of a complete answer, and the headers that describe it."""

    body: bytes
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class HeldAnswer:
    """An answer that is held until it is complete, in order to be converted."""

    def __init__(self) -> None:
        self.status = 0
        """0 until the answer starts."""
        self._headers: Headers = []
        self._chunks: list[bytes] = []
        self._whole = False
        self._text: AnswerText | None = None

    async def send(self, message: AsgiMessage) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._headers = list(message.get("headers", ()))
            self._text = gather_answer(self.status, self._headers)
        elif message["type"] == "http.response.body":
            self._chunks.append(message.get("body", b""))
            if self._text is not None:
                self._text.take(self._chunks[-1])
            self._whole = not message.get("more_body", False)

    async def pass_on(self, send: Send, convert: Callable[[bytes], WrittenAnswer]) -> None:
        """Send the converted answer, or an error unchanged; send nothing if it is incomplete."""
        if not self._whole:
            return
        body = b"".join(self._chunks)
        ours = (b"content-length", b"content-type", b"transfer-encoding")
        kept = [h for h in self._headers if h[0].lower() not in ours]
        answer = convert(body) if self.status == 200 else WrittenAnswer(body)
        kept += answer.headers
        await send_answer(send, self.status, answer.body, kept, answer.content_type)

    def read_texts(self) -> list[str]:
        return self._text.read_texts() if self._text is not None else []

    def is_cut_off(self) -> bool:
        return self._text is not None and self._text.is_cut_off()

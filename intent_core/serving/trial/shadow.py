"""Shadow mode: mirrors requests to the candidate after the champion's answer, and compares."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from intent_core.serving.grounding.fallback import Fallback
from intent_core.serving.metrics import Metrics
from intent_core.serving.protocol.asgi import AsgiMessage, BodyAgain, OutgoingBody, Receive, Scope
from intent_core.serving.protocol.errors import Headers
from intent_core.serving.protocol.exchange import HeldAnswer
from intent_core.serving.protocol.routes import CHAT_PATH
from intent_core.serving.trial.live_comparison import FAILED, JudgedAnswer, judge_texts
from intent_core.serving.trial.trial import Running

logger = logging.getLogger(__name__)

_MOST_AT_ONCE = 8
_TIMEOUT_S = 60.0
"""A copy without an answer after this time has failed, so that it does not block other copies."""
_STOP_S = 5.0


class MirroredRequest(NamedTuple):
    """A caller's request, to be sent to the candidate too."""

    scope: Scope
    """From `own_scope`."""
    write_body: Callable[[], Awaitable[OutgoingBody]]
    champion: JudgedAnswer
    is_limited: bool
    """Whether the caller limited the length of the answer."""


class Copies:
    """Runs copies as background tasks with limited concurrency; their errors do not propagate."""

    def __init__(
        self,
        app: Fallback,
        authorization: tuple[bytes, bytes],
        metrics: Metrics,
        clock: Callable[[], float],
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._app = app
        self._authorization = authorization
        self._metrics = metrics
        self._clock = clock
        self._timeout_s = timeout_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    def start(self, running: Running, copy: MirroredRequest) -> None:
        """Send a copy to the candidate and compare the answers."""
        if self._stopped or len(self._tasks) >= _MOST_AT_ONCE:
            running.skip()
            return
        task = asyncio.create_task(self._compare(running, copy))
        # The event loop keeps only weak references to its tasks.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop_at_shutdown(self, receive: Receive) -> Receive:
        """Return a lifespan `receive` that cancels all copies before the engine shuts down."""

        async def watch() -> AsgiMessage:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._stop()
            return message

        return watch

    async def _stop(self) -> None:
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_S)

    async def _compare(self, running: Running, copy: MirroredRequest) -> None:
        model = running.trial.model
        # The trial may have ended since the request.
        if running.is_over:
            return
        self._metrics.enter(model)
        try:
            candidate: JudgedAnswer | None
            async with asyncio.timeout(self._timeout_s):
                candidate = await self._ask(copy)
        except Exception as error:
            # Log the type only: the message could contain the caller's text.
            logger.debug("shadow request failed: model %s: %s", model, type(error).__name__)
            candidate = FAILED
        finally:
            self._metrics.leave(model)
        if candidate is None:
            running.skip()
        else:
            running.take_pair(copy.champion, candidate)

    async def _ask(self, copy: MirroredRequest) -> JudgedAnswer | None:
        """Return the candidate's answer; None if the caller's limit cut it off."""
        body = await copy.write_body()
        headers: Headers = [
            self._authorization,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body.content)).encode()),
        ]
        held = HeldAnswer()
        since = self._clock()
        await self._app({**copy.scope, "headers": headers}, BodyAgain(body, _stay), held.send)
        if held.status != 200:
            return FAILED
        if copy.is_limited and held.is_cut_off():
            return None
        # A complete answer without a text counts as unparsable; copies never disconnect.
        return judge_texts(held.read_texts() or [""], self._clock() - since)


def own_scope(scope: Scope) -> Scope:
    """Return the scope for a copy of a request, before vLLM modifies the original scope."""
    kept = {name: value for name, value in scope.items() if name != "extensions"}
    state = dict(scope.get("state") or {})
    chat = {"path": CHAT_PATH, "raw_path": CHAT_PATH.encode(), "query_string": b""}
    return {**kept, **chat, "state": state}


async def _stay() -> AsgiMessage:
    """A `receive` of a client that never disconnects."""
    await asyncio.Event().wait()
    return {"type": "http.disconnect"}

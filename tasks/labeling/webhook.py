"""An HTTP service that receives signed notifications from object stores and publishes them.

A sender authenticates with a bearer token and an HMAC-SHA256 signature of the time and the body
(`sign`), which is valid for a few minutes and one delivery. A store that cannot sign (SeaweedFS)
uses a separate token. That token is weaker: an attacker who has it can repeat notices, but a
notice only makes the pipeline look at the store. Without a valid token the body is not read. A
refused request gets no reason; the reason is logged.
Accepted deliveries are remembered in the memory of this process, so run only one process.
"""

import hashlib
import hmac
import inspect
import logging
import re
import time
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import SecretStr
from starlette.requests import ClientDisconnect

from intent_core.errors import ConfigError, DataError
from tasks.labeling.notifications import ExportNotice, parse_notification

SIGNATURE_HEADER = "X-Intent-Signature"
MIN_SECRET_CHARACTERS = 16

# At this limit new deliveries are refused: forgetting an earlier one would allow a replay.
_MAX_REMEMBERED = 10_000
_SIGNATURE = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")

Publish = Callable[[ExportNotice], Awaitable[None] | None]

logger = logging.getLogger(__name__)


def sign(body: bytes, secret: SecretStr, timestamp: int) -> str:
    """Return the `X-Intent-Signature` of a body sent at `timestamp` (Unix seconds)."""
    return f"t={timestamp},v1={_digest(body, secret, str(timestamp)).hex()}"


def create_app(
    publish: Publish,
    token: SecretStr,
    secret: SecretStr,
    store_token: SecretStr | None = None,
    max_bytes: int = 1 << 20,
    window_s: float = 300,
) -> FastAPI:
    """Create the service: `POST /notifications` and `GET /healthz`.

    `publish` is called with every notice: coroutine functions on the event loop, others in a
    thread. If it fails, the sender gets a 503 and retries the whole body, so `publish` must accept
    repeated notices. `store_token` is the token of stores that cannot sign; with None every sender
    must sign. Raises `ConfigError` for a token or secret that is too short.
    """
    for name, value in (("token", token), ("secret", secret), ("store's token", store_token)):
        if value is not None and len(value.get_secret_value()) < MIN_SECRET_CHARACTERS:
            raise ConfigError(f"the {name} must have at least {MIN_SECRET_CHARACTERS} characters")
    if store_token == token:
        raise ConfigError(
            "the store's token must differ from the token: it is accepted without a signature"
        )
    if max_bytes < 1 or window_s <= 0:
        raise ConfigError(f"max_bytes={max_bytes} and window_s={window_s} must be positive")
    gate = _Gate(token, secret, store_token, window_s)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    @app.get("/healthz")
    async def check_health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/notifications")
    async def receive(request: Request) -> JSONResponse:
        try:
            count = await _deliver(request, gate, publish, max_bytes)
        except _RefusedError as refusal:
            status, message = refusal.args
            return _refuse(status, message)
        return JSONResponse({"notices": count}, 202)

    return app


class _RefusedError(Exception):
    """The HTTP status and message to return to the sender."""


class _Gate:
    """Authenticates senders and remembers accepted deliveries."""

    def __init__(
        self,
        token: SecretStr,
        secret: SecretStr,
        store_token: SecretStr | None,
        window_s: float,
    ) -> None:
        self._token = _hash(token.get_secret_value().encode())
        self._store_token = _hash(store_token.get_secret_value().encode()) if store_token else b""
        self._secret = secret
        self._window_s = window_s
        self._expiries: dict[bytes, float] = {}

    def check_token(self, authorization: str) -> bool:
        """Check the bearer token; return whether its sender must sign as well."""
        scheme, _, token = authorization.partition(" ")
        # Hash first: comparing texts of different lengths would reveal the length.
        given = _hash(token.strip().encode("latin-1"))
        signs = hmac.compare_digest(given, self._token)
        if scheme.lower() != "bearer" or not (
            signs or hmac.compare_digest(given, self._store_token)
        ):
            raise _unproven("the bearer token is missing or wrong")
        return signs

    def check_signature(self, header: str, body: bytes) -> tuple[bytes, float]:
        """Check the signature; return the delivery's key and when it expires (Unix seconds)."""
        match = _SIGNATURE.fullmatch(header)
        if match is None:
            raise _unproven(f"{SIGNATURE_HEADER} is missing or malformed")
        stamp, given = match.groups()
        expected = _digest(body, self._secret, stamp)
        if not hmac.compare_digest(bytes.fromhex(given), expected):
            raise _unproven("the signature does not match the body")
        if abs(time.time() - int(stamp)) > self._window_s:
            raise _unproven("the timestamp is too old or in the future: compare the clocks")
        return expected, int(stamp) + self._window_s

    def remember(self, delivery: bytes, expiry: float) -> None:
        if delivery in self._expiries:
            raise _RefusedError(409, "this delivery was already accepted")
        if len(self._expiries) >= _MAX_REMEMBERED:
            now = time.time()
            self._expiries = {k: v for k, v in self._expiries.items() if v >= now}
        if len(self._expiries) >= _MAX_REMEMBERED:
            raise _RefusedError(503, "too many deliveries: try again later")
        self._expiries[delivery] = expiry

    def forget(self, delivery: bytes) -> None:
        self._expiries.pop(delivery, None)


async def _deliver(request: Request, gate: _Gate, publish: Publish, max_bytes: int) -> int:
    """Check one request, publish its notices, and return how many there were."""
    signs = gate.check_token(request.headers.get("authorization", ""))
    body = await _read_body(request, max_bytes)
    if not signs:
        return await _pass_on(_parse(body), publish)
    delivery, expiry = gate.check_signature(request.headers.get(SIGNATURE_HEADER, ""), body)
    notices = _parse(body)
    # Before publishing, so that one of two simultaneous deliveries is refused.
    gate.remember(delivery, expiry)
    try:
        return await _pass_on(notices, publish)
    except BaseException:
        gate.forget(delivery)
        raise


def _parse(body: bytes) -> tuple[ExportNotice, ...]:
    try:
        return parse_notification(body)
    except DataError as error:
        logger.warning("notification not recognized: %s", error)
        raise _RefusedError(400, str(error)) from error


async def _pass_on(notices: tuple[ExportNotice, ...], publish: Publish) -> int:
    try:
        for notice in notices:
            outcome = await run_in_threadpool(publish, notice)
            if inspect.isawaitable(outcome):
                await outcome
    except Exception as error:
        logger.error("failed to publish a notice: %s: %s", type(error).__name__, error)
        raise _RefusedError(503, "could not publish the notice: try again later") from error
    return len(notices)


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """Read the body up to the limit; a `Content-Length` over the limit is refused at once."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise _RefusedError(413, f"at most {max_bytes} bytes")
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > max_bytes:
                raise _RefusedError(413, f"at most {max_bytes} bytes")
            parts.append(part)
    except ClientDisconnect as error:
        raise _RefusedError(400, "the body ended early") from error
    return b"".join(parts)


def _unproven(reason: str) -> _RefusedError:
    logger.warning("notification refused: %s", reason)
    return _RefusedError(401, "not authenticated")


def _refuse(status: int, message: str) -> JSONResponse:
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status in (401, 413):
        headers["Connection"] = "close"  # otherwise the server would read the rest of the body
    return JSONResponse({"error": message}, status, headers)


def _hash(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _digest(body: bytes, secret: SecretStr, timestamp: str) -> bytes:
    key = secret.get_secret_value().encode()
    return hmac.digest(key, timestamp.encode() + b"." + body, "sha256")

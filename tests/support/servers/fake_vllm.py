"""A fake vLLM behind the serving middleware, and a client that sends raw ASGI messages."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from intent_core.serving.access.aliases import Target, Trial, write_aliases
from intent_core.serving.app import ServingApp
from intent_core.serving.metrics import Metrics
from intent_core.serving.protocol.asgi import App, AsgiMessage, Receive, Scope, Send
from intent_core.serving.settings import ServingSettings

OPERATOR_KEY = "the-operator's-very-own-key"
APP_KEY = "key-of-the-app-0123456789"
OTHER_KEY = "key-of-another-0123456789"
OLD, NEW = "intent-0123456789ab", "intent-ba9876543210"
CHAT = "/v1/chat/completions"


@dataclass
class Received:
    """One request as vLLM received it."""

    scope: Scope
    body: bytes

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    @property
    def fields(self) -> Any:
        """The body without its `cache_salt`."""
        fields = json.loads(self.body)
        if isinstance(fields, dict):
            fields.pop("cache_salt", None)
        return fields

    @property
    def cache_salt(self) -> str:
        return str(json.loads(self.body)["cache_salt"])

    @property
    def model(self) -> str:
        """The requested model; "" if the request does not contain one."""
        fields = self.fields if self.body else {}
        model = fields.get("model") if isinstance(fields, dict) else None
        return model if isinstance(model, str) else ""

    def values(self, name: str) -> list[str]:
        return [v.decode() for k, v in self.scope["headers"] if k == name.encode()]


class ModelServer:
    """Answers every path without access control, and records every request."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.text: str | None = "weather_search(Hangzhou)"
        self.stream: list[bytes] = []
        self.status = 200
        self.raw: bytes | None = None
        self.fault: Exception | None = None
        self.fault_within: Exception | None = None
        self.waits_for_client = False
        self.client_left = False
        self.started = asyncio.Event()
        self.released: asyncio.Event | None = None
        # Overrides by model name.
        self.texts: dict[str, str | None] = {}
        self.statuses: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self.spent = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while scope["method"] == "POST":
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        received = Received(scope, body)
        self.received.append(received)
        self.started.set()
        model = received.model
        self.spent += self.seconds.get(model, 0.0)
        if model in self.before:
            await self.before[model]()
        if self.fault:
            raise self.fault
        if self.released:
            await self.released.wait()
        if self.waits_for_client:
            self.client_left = (await receive())["type"] == "http.disconnect"
        kind = b"text/event-stream; charset=utf-8" if self.stream else b"application/json"
        headers = [(b"content-type", kind), (b"x-request-id", b"1")]
        status = self.statuses.get(model, self.status)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if self.fault_within:
            raise self.fault_within
        for chunk in self.stream or [self._answer(scope, self.texts.get(model, self.text))]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _answer(self, scope: Scope, text: str | None) -> bytes:
        if self.raw is not None:
            return self.raw
        if scope["path"] != CHAT:
            return b"{}"
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json.dumps({"model": "intent-x", "choices": [choice]}).encode()


@dataclass
class Answer:
    """The response a caller received; status 0 without a response."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def fields(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.fields["error"]["code"])


class Serving:
    """The middleware with its files in a folder, and the fake model server behind it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.aliases_file = folder / "aliases.json"
        self.keys_file = folder / "keys"
        self.keys_file.write_text(f"# callers\napp {APP_KEY}\n\nother {OTHER_KEY}\n")
        self.now = 0.0
        self.model = ModelServer()
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        chosen = ServingSettings(
            aliases_file=self.aliases_file,
            keys_file=self.keys_file,
            operator_key=OPERATOR_KEY,
            **settings,
        )
        self.app: App = ServingApp(self.model, chosen, self.metrics, self.read_clock)

    def read_clock(self) -> float:
        return self.now + self.model.spent

    def promote(
        self,
        model: str,
        version: str = "7",
        system_prompt: str = "Say calls.",
        trial: Trial | None = None,
        abstain_below: float | None = None,
    ) -> None:
        target = Target(
            model=model,
            version=version,
            system_prompt=system_prompt,
            trial=trial,
            abstain_below=abstain_below,
        )
        write_aliases(self.aliases_file, {"intent": target})

    def number(self, name: str, **labels: str) -> float:
        """Return the value of a metric; 0 if it does not exist yet."""
        return self.registry.get_sample_value(name, labels) or 0.0

    @property
    def asked(self) -> list[str]:
        """The models that received requests, in order."""
        return [received.model for received in self.model.received]

    def trial(self) -> Any:
        """Return the trial from the status; None without one."""
        fields = self.ask("GET", "/intent/status", key=OPERATOR_KEY).fields
        assert fields["in_flight"] == {}
        return fields["aliases"]["intent"].get("trial")

    def outcomes(self, mode: str, outcome: str) -> float:
        labels = {"alias": "intent", "version": "8", "mode": mode, "outcome": outcome}
        return self.number("intent_trial_requests_total", **labels)

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = APP_KEY,
        headers: Sequence[tuple[bytes, bytes]] = (),
        leaves_after: int | None = None,
        **scope: Any,
    ) -> Answer:
        """Send a request. `body` is JSON, bytes, or a list of chunks; the caller disconnects
        after `leaves_after` chunks."""
        if isinstance(body, list):
            chunks = body
        elif isinstance(body, bytes):
            chunks = [body]
        else:
            chunks = [b"" if body is None else json.dumps(body).encode()]
        sent = list(headers)
        if key is not None:
            sent.append((b"authorization", f"Bearer {key}".encode()))
        messages: list[AsgiMessage] = [
            {"type": "http.request", "body": c, "more_body": n < len(chunks)}
            for n, c in enumerate(chunks, 1)
        ][:leaves_after]
        answer = Answer()

        async def receive() -> AsgiMessage:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def take(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start":
                assert not answer.status, "a response starts only once"
                answer.status = message["status"]
                answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            else:
                assert answer.status
                answer.chunks.append(message["body"])

        parts: Scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode("utf-8", "surrogatepass"),
            "query_string": b"",
            "root_path": "",
            "headers": sent,
            **scope,
        }
        await self.app(parts, receive, take)
        return answer

    def ask(self, method: str, path: str, body: object = None, **more: Any) -> Answer:
        async def run() -> Answer:
            answer = await self.send(method, path, body, **more)
            await self.settle()
            return answer

        return asyncio.run(run())

    async def settle(self) -> None:
        """Wait for background tasks."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=10)

    def chat(self, model: object = "intent", **more: Any) -> Answer:
        messages = [{"role": "user", "content": "weather in Hangzhou"}]
        return self.ask("POST", CHAT, {"model": model, "messages": messages}, **more)


def serve_intents(folder: Path, intents: dict[str, Any]) -> Serving:
    """Return a server of the model `OLD`, with these intents in its vocabulary."""
    models = folder / "models"
    (models / OLD).mkdir(parents=True)
    (models / OLD / "intents.json").write_text(json.dumps({"intents": intents}))
    serving = Serving(folder, models_folder=models)
    serving.promote(OLD)
    return serving

"""A proxy in front of a real HTTP server that injects faults into chosen responses.

    with fault_proxy(server.url) as proxy:
        proxy.inject("GET", "/key", cut_after(1000), times=2)

Requests pass unchanged, including the Host header, so that signatures stay valid.
"""

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_NOT_FORWARDED = {"connection", "transfer-encoding", "content-length", "expect"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Fault:
    """The handling of a request; `ask` returns the real server's response."""

    def __init__(self, act: Callable[["_Handler", Callable[[], Answer]], None]) -> None:
        self.act = act


def reset() -> Fault:
    """Reset the connection before the server receives the request."""
    return Fault(lambda handler, ask: handler.reset())


def lose_answer() -> Fault:
    """Let the server handle the request, then reset the connection without a response."""

    def act(handler: "_Handler", ask: Callable[[], Answer]) -> None:
        ask()
        handler.reset()

    return Fault(act)


def cut_after(num_bytes: int) -> Fault:
    """End the body early, although Content-Length is that of the whole body."""

    def act(handler: "_Handler", ask: Callable[[], Answer]) -> None:
        answer = ask()
        handler.send(answer, answer.body[:num_bytes])
        handler.close_connection = True

    return Fault(act)


def stall(seconds: float) -> Fault:
    """Send half of the response, then nothing for `seconds`."""

    def act(handler: "_Handler", ask: Callable[[], Answer]) -> None:
        answer = ask()
        handler.send(answer, answer.body[: len(answer.body) // 2])
        time.sleep(seconds)
        handler.close_connection = True

    return Fault(act)


def answer_with(status: int, code: str = "") -> Fault:
    """Send another response instead of the server's; an empty one without a code."""
    text = f"<Error><Code>{code}</Code><Message>{code} injected</Message></Error>"
    body = text.encode() if code else b""
    answer = Answer(status, {"Content-Type": "application/xml"}, body)
    return Fault(lambda handler, ask: handler.send(answer))


def rewrite(old: bytes, new: bytes) -> Fault:
    """Replace bytes in the body of the server's response."""

    def act(handler: "_Handler", ask: Callable[[], Answer]) -> None:
        answer = ask()
        handler.send(answer._replace(body=answer.body.replace(old, new)))

    return Fault(act)


def meanwhile(action: Callable[[], object]) -> Fault:
    """Run an action just before the request is forwarded."""

    def act(handler: "_Handler", ask: Callable[[], Answer]) -> None:
        action()
        handler.send(ask())

    return Fault(act)


class Proxy:
    """The running proxy: use `url` instead of the server's; `requests` records all requests."""

    def __init__(self, upstream: str, url: str) -> None:
        self.upstream, self.url = upstream, url
        self.requests: list[tuple[str, str]] = []
        self._faults: list[tuple[str, str, Fault]] = []
        self._lock = threading.Lock()

    def inject(self, method: str, part: str, fault: Fault, *, times: int = 1) -> None:
        """Inject a fault into the next requests with that method and that part in the URL."""
        self._faults += [(method, part, fault)] * times

    def take(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.requests.append((method, path))
            for planned in self._faults:
                if method == planned[0] and planned[1] in path:
                    self._faults.remove(planned)
                    return planned[2]
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.proxy.take(self.command, self.path)
        with contextlib.suppress(ConnectionError):  # the client may have disconnected
            if fault is None:
                self.send(self._ask(body))
            else:
                fault.act(self, lambda: self._ask(body))

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def _ask(self, body: bytes) -> Answer:
        server = urlsplit(self.server.proxy.upstream)
        connection = http.client.HTTPConnection(server.hostname or "", server.port, timeout=30)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _NOT_FORWARDED}
        if body or self.command in ("PUT", "POST"):
            headers["Content-Length"] = str(len(body))
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in _NOT_FORWARDED}
            if self.command == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            return Answer(answer.status, kept, answer.read())

    def send(self, answer: Answer, body: bytes | None = None) -> None:
        """Send the response; `body` may be shorter than its Content-Length."""
        self.send_response_only(answer.status)
        length = {} if self.command == "HEAD" else {"Content-Length": str(len(answer.body))}
        for name, value in {**answer.headers, **length}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body if body is None else body)
        self.wfile.flush()

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Do not log to the terminal."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    proxy: Proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore broken connections, which are expected here."""


@contextlib.contextmanager
def fault_proxy(upstream: str) -> Iterator[Proxy]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.proxy = Proxy(upstream, f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A proxy between a client and a real HTTP server that breaks chosen answers.

    with fault_proxy(server.url) as proxy:
        proxy.inject("GET", "/key", cut_after(1000), times=2)

Requests pass unchanged, the Host header included, so that signatures stay right.
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
    """What becomes of a request; `ask` gets the real server's answer."""

    def __init__(self, act: Callable[["_Handler", Callable[[], Answer]], None]) -> None:
        self.act = act


def reset() -> Fault:
    """The connection breaks before the server hears of the request."""
    return Fault(lambda handler, ask: handler.reset())


def lose_answer() -> Fault:
    """The server has done it, and the client does not learn of it."""

    def act(handler: "_Handler", ask: Callable[[], Answer]) -> None:
        ask()
        handler.reset()

    return Fault(act)


def cut_after(num_bytes: int) -> Fault:
    """The body ends early, though the head promises all of it."""

    def act(handler: "_Handler", ask: Callable[[], Answer]) -> None:
        answer = ask()
        handler.send(answer, answer.body[:num_bytes])
        handler.close_connection = True

    return Fault(act)


def stall(seconds: float) -> Fault:
    """Half of the answer, and then nothing for a while."""

    def act(handler: "_Handler", ask: Callable[[], Answer]) -> None:
        answer = ask()
        handler.send(answer, answer.body[: len(answer.body) // 2])
        time.sleep(seconds)
        handler.close_connection = True

    return Fault(act)


def answer_with(status: int, code: str = "") -> Fault:
    """Another answer in place of the server's; without a code, an empty one."""
    text = f"<Error><Code>{code}</Code><Message>{code} injected</Message></Error>"
    body = text.encode() if code else b""
    answer = Answer(status, {"Content-Type": "application/xml"}, body)
    return Fault(lambda handler, ask: handler.send(answer))


def rewrite(old: bytes, new: bytes) -> Fault:
    """The server's answer with something else in its body."""

    def act(handler: "_Handler", ask: Callable[[], Answer]) -> None:
        answer = ask()
        handler.send(answer._replace(body=answer.body.replace(old, new)))

    return Fault(act)


def meanwhile(action: Callable[[], object]) -> Fault:
    """The action takes place just before the server gets the request."""

    def act(handler: "_Handler", ask: Callable[[], Answer]) -> None:
        action()
        handler.send(ask())

    return Fault(act)


class Proxy:
    """The running proxy: `url` in place of the server's, `requests` as they came."""

    def __init__(self, upstream: str, url: str) -> None:
        self.upstream, self.url = upstream, url
        self.requests: list[tuple[str, str]] = []
        self._faults: list[tuple[str, str, Fault]] = []
        self._lock = threading.Lock()

    def inject(self, method: str, part: str, fault: Fault, *, times: int = 1) -> None:
        """For the next requests of that method with that part in their path and query."""
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
        with contextlib.suppress(ConnectionError):  # a client that has given up
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
        """The answer, or only a part of the body under a head that promises all of it."""
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
        """Not on the terminal."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    proxy: Proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are what it is for."""


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

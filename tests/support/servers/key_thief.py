"""A program on the port of one of our servers: it answers everything and records what it gets."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Thief:
    """What the program heard: request lines and headers."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard = ""


@contextlib.contextmanager
def running_thief(port: int) -> Iterator[Thief]:
    thief = Thief(port)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            thief.heard += f"{self.requestline}\n{self.headers}\n"
            body = json.dumps({"data": [{"id": "intent-x"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Do not log to the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield thief
    finally:
        server.shutdown()
        server.server_close()

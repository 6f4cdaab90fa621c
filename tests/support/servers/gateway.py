"""A separate gateway for a test, and small servers to put behind it."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tasks.serving.gateway.nginx import gateway_command, serving_now, write_gateway_config
from tasks.settings import Settings
from tasks.system.processes import (
    find_process,
    start_process,
    stop_process,
    wait_until_ready,
)


@contextlib.contextmanager
def running_server(name: str) -> Iterator[str]:
    """Run a server that answers with its name twice, in two delayed chunks; yield its address.

    The delay makes an interrupted response visible. A POST is answered with the request's headers.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = f"{name}-{name}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(name)])
            self.wfile.flush()
            time.sleep(0.05)
            self.wfile.write(body[len(name) :])

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.dumps({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Do not log to the terminal."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 4096

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def running_gateway(settings: Settings) -> Iterator[Settings]:
    """Run a gateway without a server behind it."""
    write_gateway_config(settings)
    folder = settings.layout.processes
    record = start_process(folder, "gateway", gateway_command(settings), settings.gateway_port)
    try:
        wait_until_ready(record, lambda: serving_now(settings) == "", 20)
        yield settings
    finally:
        # A supervisor may have restarted the gateway in the meantime.
        if last := find_process(folder, "gateway"):
            stop_process(folder, last)

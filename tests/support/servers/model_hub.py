"""A model hub on loopback with one repository at one commit; it records the requested paths.

Tests cannot reach the public hub; this server follows the documentation of its HTTP API.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "e482ee3f73c375a627a16fdf66fd0c8279743ca6"
REPOSITORY = "owner/tiny-chat"


@dataclass
class Hub:
    """The address of the hub, and the requested paths."""

    endpoint: str = ""
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def running_hub(model: Path) -> Iterator[Hub]:
    """Serve the files of a folder as `REPOSITORY` at `COMMIT`."""
    hub = Hub()
    files = {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()}
    files["pytorch_model.bin"] = b"weights in a format that runs code"
    listing = {
        "_id": "1",
        "id": REPOSITORY,
        "modelId": REPOSITORY,
        "sha": COMMIT,
        "private": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [{"rfilename": name} for name in files],
    }

    tree = [
        {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for name, data in files.items()
    ]

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(path)
            name = path.removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/")
            if path == f"/api/models/{REPOSITORY}/revision/{COMMIT}":
                self.send(json.dumps(listing).encode(), with_body)
            elif path == f"/api/models/{REPOSITORY}/tree/{COMMIT}":
                self.send(json.dumps(tree).encode(), with_body)
            elif name in files:
                self.send(files[name], with_body)
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def send(self, body: bytes, with_body: bool) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield hub
        server.shutdown()

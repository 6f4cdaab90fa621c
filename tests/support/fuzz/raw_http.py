"""Send requests as raw bytes, which HTTP clients would refuse to send, and read the replies."""

import re
import socket
import time
from dataclasses import dataclass

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_PER_BYTE_S = 0.1
_MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Shot:
    """One request; `kind` names the attack."""

    kind: str
    raw: bytes
    opens: bool = False
    """Whether an answer with status 200 is acceptable."""
    is_unfinished: bool = False
    """Whether the server may wait for more data."""
    leaves_after: int = -1
    """Bytes of the answer after which the caller disconnects; -1 for never."""
    is_slow: bool = False
    """Whether the body is sent a byte at a time, with pauses."""


@dataclass(frozen=True)
class Reply:
    """All received bytes, and the status of each answer in them."""

    raw: bytes
    end: str
    """closed, reset, timeout, left or refused."""

    @property
    def statuses(self) -> list[int]:
        return [int(found) for found in _STATUS.findall(self.raw)]


def format_request(
    method: str,
    path: str,
    body: bytes = b"",
    headers: tuple[tuple[str, str], ...] = (),
    *,
    length: str | None = None,
) -> bytes:
    """Return a request with `Connection: close`; `length` replaces the true Content-Length."""
    size = length if length is not None else str(len(body)) if body else None
    lines = [f"{method} {path} HTTP/1.1", "Host: intent.example", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    if size is not None:
        lines.append(f"Content-Length: {size}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def send(address: tuple[str, int], shot: Shot, timeout_s: float) -> Reply:
    received = bytearray()
    try:
        with socket.create_connection(address, timeout=timeout_s) as connection:
            try:
                _write(connection, shot, timeout_s)
                if shot.leaves_after < 0:
                    return Reply(*_read(connection, received))
                while len(received) < shot.leaves_after:
                    chunk = connection.recv(shot.leaves_after - len(received))
                    if not chunk:
                        return Reply(bytes(received), "closed")
                    received += chunk
                return Reply(bytes(received), "left")
            except TimeoutError:
                return Reply(bytes(received), "timeout")
            except OSError:
                # The server may have answered before the reset, e.g. that the body is too large.
                return Reply(bytes(received) or _rest(connection), "reset")
    except OSError:
        return Reply(b"", "refused")


def _write(connection: socket.socket, shot: Shot, timeout_s: float) -> None:
    at_once = shot.raw.index(b"\r\n\r\n") + 4 if shot.is_slow else len(shot.raw)
    connection.sendall(shot.raw[:at_once])
    until = time.monotonic() + timeout_s
    for byte in shot.raw[at_once:]:
        if time.monotonic() > until:
            raise TimeoutError
        connection.sendall(bytes([byte]))
        time.sleep(_PER_BYTE_S)


def _read(connection: socket.socket, received: bytearray) -> tuple[bytes, str]:
    while chunk := connection.recv(65536):
        received += chunk
        if len(received) > _MOST_BYTES:
            return bytes(received), "left"
    return bytes(received), "closed"


def _rest(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except OSError:
        return b""

"""Drive a real browser like a user: type text, read the page, record its requests."""

import base64
import contextlib
import itertools
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.support.browser.chromium import FLAGS, find_browser
from tests.support.scenarios.two_machines import wait_for


class Driven:
    """One tab, driven by Chromium's DevTools protocol; `urls` lists all requested URLs."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.urls: list[str] = []
        for domain in ("Network", "Page", "Runtime"):
            self._command(f"{domain}.enable")

    def open_when_up(self, url: str, timeout_s: float = 60) -> None:
        """Open the URL as soon as its server answers."""

        def is_there() -> bool:
            return "errorText" not in self._command("Page.navigate", url=url)

        wait_for(url, is_there, timeout_s)

    def read(self, script: str) -> Any:
        """Return the value of a JavaScript expression; None if it fails."""
        done = self._command("Runtime.evaluate", expression=script, returnByValue=True)
        return done["result"].get("value")

    def wait_for(self, script: str, timeout_s: float = 30) -> Any:
        """Wait until a JavaScript expression is true and return its value."""
        return wait_for(script, lambda: self.read(script), timeout_s)

    def write(self, selector: str, text: str) -> None:
        """Replace the content of a field with the text and press Enter."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.wait_for(f"!!{field}")
        self.read(f"{field}.focus(), {field}.select()")
        self._command("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
            self._command("Input.dispatchKeyEvent", type=kind, **key)

    def take_picture(self) -> bytes:
        return base64.b64decode(self._command("Page.captureScreenshot")["data"])

    def _command(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            told = json.loads(self._socket.recv(timeout=30))
            if told.get("method") == "Network.requestWillBeSent":
                self.urls.append(told["params"]["request"]["url"])
            if told.get("id") == number:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result


@contextlib.contextmanager
def driven_browser(profile: Path, *flags: str) -> Iterator[Driven]:
    """Yield a browser with one empty tab that uses the profile folder."""
    options = ("--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank")
    process = subprocess.Popen(
        [find_browser(), *FLAGS, *flags, *options], stderr=subprocess.DEVNULL
    )
    try:
        ports = profile / "DevToolsActivePort"
        wait_for("the browser", lambda: ports.exists() and ports.read_text().strip(), 60)
        port = ports.read_text().split()[0]
        tabs = httpx.get(f"http://127.0.0.1:{port}/json", timeout=30).json()
        address = next(tab for tab in tabs if tab["type"] == "page")["webSocketDebuggerUrl"]
        with connect(address, max_size=None) as socket:
            yield Driven(socket)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)

"""The page of `intent try` as a person has it: the command started, a browser before it."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adapted import World
from driven import Driven, driven_browser

from intent_core.artifacts import ModelArtifact
from tasks.processes import choose_free_port
from tasks.settings import Settings

_SIDE = """(side => side && Object.fromEntries(["text", "model", "version", "confidence"].map(
    name => [name, side.querySelector("." + name).textContent.trim()])))(
    document.querySelector("#answers section.%s"))"""


class Page:
    """What is typed into it and what it shows; `html` is all of it, as it was last."""

    def __init__(self, browser: Driven) -> None:
        self._browser = browser
        self._utterance = ""
        self.html = ""

    def ask(self, utterance: str, verdict: str) -> None:
        """Type it and press Enter; the two models "agree" or "disagree"."""
        self._utterance = utterance
        self._browser.write("#utterance textarea, #utterance input", utterance)
        shown = 'document.querySelector("#answers .%s")?.textContent'
        self._browser.wait_for(f"{shown % 'utterance'} === {utterance!r}")
        said = self._browser.read(shown % "verdict")
        assert f"The two {verdict} " in (said or ""), said
        self.html = self._browser.read("document.documentElement.outerHTML")

    def shows(self, world: World, *, champion: ModelArtifact, candidate: ModelArtifact) -> None:
        """Each side's own answer, who gave it and how sure it was."""
        for side, model in (("champion", champion), ("candidate", candidate)):
            told: dict[str, Any] = self._browser.read(_SIDE % side)
            assert told["text"].startswith(world.known[model.name, self._utterance].strip()), told
            version = "1" if model == world.one else "2"
            assert (told["model"], told["version"]) == (model.name, version)
            assert 0 <= float(told["confidence"].removesuffix(" %")) <= 100

    def kept_to_itself(self, settings: Settings) -> None:
        """Nothing was asked of another machine, and no key reached the browser."""
        urls = self._browser.urls
        assert len(urls) > 10
        assert {urlsplit(url).hostname for url in urls if url.startswith("http")} == {"127.0.0.1"}
        for key in (settings.read_api_key(), settings.read_inference_key()):
            assert key not in self.html and not any(key in url for url in urls)


@contextlib.contextmanager
def open_page(settings: Settings, folder: Path, candidate: str) -> Iterator[Page]:
    """`intent try` with that candidate, until the page is closed with Ctrl-C."""
    port = choose_free_port("127.0.0.1")
    command = [sys.executable, "-m", "flows", "try", "--candidate", candidate, "--port", str(port)]
    log = (folder / "page.log").open("w+", encoding="utf-8")
    with log, subprocess.Popen(command, env=os.environ, stdout=log, stderr=log) as process:
        try:
            with driven_browser(folder / "profile") as browser:
                browser.open_when_up(f"http://127.0.0.1:{port}/")
                yield Page(browser)
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(30)
        log.seek(0)
        told = log.read()
        assert code == 0 and "Traceback" not in told, told

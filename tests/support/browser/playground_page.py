"""The page of `intent try`, opened in a real browser."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from intent_core.models.artifact import ModelArtifact
from tasks.system.ports import choose_free_port
from tests.support.browser.chromium_session import Driven, driven_browser
from tests.support.scenarios.two_served_models import World

_SIDE = """(side => side && Object.fromEntries(["text", "model", "version", "confidence"].map(
    name => [name, side.querySelector("." + name).textContent.trim()])))(
    document.querySelector("#answers section.%s"))"""


class Page(NamedTuple):
    """Types into the page and checks what it shows."""

    world: World
    browser: Driven
    candidate: ModelArtifact

    def tells(self, utterance: str, *, champion: ModelArtifact) -> None:
        """Check both models' answers, names, versions and confidences, and the verdict."""
        self.browser.write("#utterance textarea, #utterance input", utterance)
        shown = 'document.querySelector("#answers .%s")?.textContent'
        self.browser.wait_for(f"{shown % 'utterance'} === {utterance!r}")
        verdict = "agree" if champion == self.candidate else "disagree"
        assert f"The models {verdict} " in self.browser.read(shown % "verdict")
        for side, model in (("champion", champion), ("candidate", self.candidate)):
            told = self.browser.read(_SIDE % side)
            assert told["text"].startswith(self.world.known[model.name, utterance].strip()), told
            version = "1" if model == self.world.one else "2"
            assert (told["model"], told["version"]) == (model.name, version)
            assert 0 <= float(told["confidence"].removesuffix(" %")) <= 100

    def keeps_to_itself(self) -> None:
        """Check that the page sends no request to another machine and contains no key."""
        urls, html = self.browser.urls, self.browser.read("document.documentElement.outerHTML")
        assert len(urls) > 10
        assert {urlsplit(url).hostname for url in urls if url.startswith("http")} == {"127.0.0.1"}
        assert self.browser.read("window.gradio_config.analytics_enabled") is False
        settings = self.world.settings
        for key in (settings.read_api_key(), settings.read_inference_key()):
            assert key not in html and not any(key in url for url in urls)


@contextlib.contextmanager
def open_page(world: World, folder: Path, *, candidate: ModelArtifact) -> Iterator[Page]:
    """Run `intent try` with that candidate; stop it with Ctrl-C at the end."""
    port = choose_free_port("127.0.0.1")
    options = ("--candidate", candidate.name, "--port", str(port))
    command = [sys.executable, "-m", "flows", "try", *options]
    log = (folder / "page.log").open("w+", encoding="utf-8")
    with log, subprocess.Popen(command, env=os.environ, stdout=log, stderr=log) as process:
        try:
            with driven_browser(folder / "profile") as browser:
                browser.open_when_up(f"http://127.0.0.1:{port}/")
                page = Page(world, browser, candidate)
                yield page
                page.keeps_to_itself()
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(30)
        log.seek(0)
        told = log.read()
        assert code == 0 and "Traceback" not in told, told

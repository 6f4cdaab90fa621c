"""A real browser, without a screen: what a page shows, and a picture of it."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars"),
)


def find_browser() -> str:
    """Chromium's path; `make test` installs it where it may."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    return found or pytest.skip("no chromium: apt-get install chromium")


def read_page(url: str) -> str:
    """The page's DOM when its scripts have run."""
    return _run(url, "--dump-dom")


def take_picture(url: str, path: Path, width: int = 1500, height: int = 1100) -> bytes:
    """A PNG of the page's first `height` pixels."""
    _run(url, f"--window-size={width},{height}", f"--screenshot={path}")
    return path.read_bytes()


def _run(url: str, *options: str) -> str:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [
                *(find_browser(), *FLAGS, "--virtual-time-budget=30000"),
                *(f"--user-data-dir={profile}", *options, url),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout

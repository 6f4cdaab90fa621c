"""A real headless browser: read a page's DOM or take a screenshot."""

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
    """Return Chromium's path or skip the test; `make test` tries to install it."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    return found or pytest.skip("no chromium: apt-get install chromium")


def read_page(url: str) -> str:
    """Return the page's DOM after its scripts have run."""
    return _run(url, "--dump-dom")


def take_picture(url: str, path: Path, width: int = 1500, height: int = 1100) -> bytes:
    """Return a PNG of the page's first `height` pixels."""
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

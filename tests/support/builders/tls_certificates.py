"""Self-signed certificates for a public name, as written by a renewal."""

import datetime
import secrets
import ssl
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = "intent.example"


def make_pair(passphrase: bytes = b"", days: float = 1) -> tuple[bytes, bytes]:
    """Make a certificate for `NAME` that expires after `days`, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    # A unique subject: of two trusted certificates with the same subject only one is checked.
    subject = f"renewal {secrets.token_hex(4)}"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    form = serialization.PrivateFormat.PKCS8
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, form, encryption),
    )


def write_pair(folder: Path, pair: tuple[bytes, bytes]) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(pair[0])
    key.write_bytes(pair[1])
    return certificate, key


def trusting(*certificates: bytes) -> ssl.SSLContext:
    """Make the TLS context of a caller that trusts only these certificates."""
    return ssl.create_default_context(cadata="".join(one.decode() for one in certificates))


def get(client: httpx.Client, url: str) -> httpx.Response:
    """Send a request to the loopback address with the public name as SNI."""
    return client.get(url, extensions={"sni_hostname": NAME})

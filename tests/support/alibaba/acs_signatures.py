"""The ACS3-HMAC-SHA256 signatures of Alibaba's control planes, from the public documentation."""

import hashlib
import hmac
import re
from urllib.parse import parse_qsl, quote, urlsplit

KEY, SECRET, TOKEN = "LTAI-the-key-id", "the-very-secret", "the-session-token"


def sign(method: str, target: str, headers: dict[str, str], body: bytes = b"") -> str:
    """Return the Authorization header that these headers must have."""
    found = re.search("SignedHeaders=([^,]+)", headers.get("authorization", ""))
    signed = found[1].split(";") if found else []
    if not {"host", "x-acs-date", "x-acs-action", "x-acs-content-sha256"} <= set(signed):
        return "too little is signed"
    payload = hashlib.sha256(body).hexdigest()
    if headers["x-acs-content-sha256"] != payload:
        return "another body is signed"
    split = urlsplit(target)
    pairs = sorted(parse_qsl(split.query))
    query = "&".join(f"{quote(n, safe='~')}={quote(v, safe='~')}" for n, v in pairs)
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in signed)
    canonical = "\n".join([method, split.path, query, lines, ";".join(signed), payload])
    text = "ACS3-HMAC-SHA256\n" + hashlib.sha256(canonical.encode()).hexdigest()
    signature = hmac.new(SECRET.encode(), text.encode(), "sha256").hexdigest()
    names = ";".join(signed)
    return f"ACS3-HMAC-SHA256 Credential={KEY},SignedHeaders={names},Signature={signature}"

"""The shell's proxy variables, in a form that all our clients can read; none for our servers."""

import ipaddress
import logging
import os
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from tasks.settings.addresses import is_loopback

_EXCEPTIONS = ("NO_PROXY", "no_proxy")
_PROXIES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy"),
)
_NAME = re.compile(r"[A-Za-z0-9._*-]+(:[0-9]{1,5})?")
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
logger = logging.getLogger(__name__)


def prepare_proxies(ours: Iterable[str], theirs: Iterable[str]) -> None:
    """Rewrite the proxy variables of this process; log those that no client can use.

    Args:
        ours: hosts of our servers, which a proxy could not reach.
        theirs: hosts of other servers, reached without a proxy on loopback or if a network of
            NO_PROXY contains them.
    """
    for name in _PROXIES:
        if value := os.environ.get(name, "").strip():
            _prepare_proxy(name, value)
    direct = ["127.0.0.1", "localhost", "::1", *ours]
    # Both: a client reads either, and the lower-case one replaces the other.
    value = ",".join(os.environ.get(name, "") for name in _EXCEPTIONS)
    exceptions = _list_exceptions(value, direct, theirs)
    os.environ.update(dict.fromkeys(_EXCEPTIONS, exceptions))


def _prepare_proxy(name: str, value: str) -> None:
    import httpx  # slow

    url = value if "://" in value else f"http://{value}"
    # Desktops write socks://, which only programs of theirs know.
    url = re.sub(r"^socks://", "socks5://", url, flags=re.IGNORECASE)
    try:
        httpx.Proxy(url)
        is_usable = bool(urlsplit(url).hostname) and urlsplit(url).port != 0
    except (httpx.InvalidURL, ValueError):
        is_usable = False
    if is_usable:
        os.environ[name] = url
        return
    # Not the value: it can contain a password.
    logger.warning(
        "%s is not used: expected a proxy such as http://host:3128 or socks5://host:1080", name
    )
    del os.environ[name]


def _list_exceptions(value: str, direct: Iterable[str], theirs: Iterable[str]) -> str:
    """Return NO_PROXY without what a client fails on.

    httpx ignores networks, and fails on those of IPv6, on brackets and on names such as `例子.cn`;
    requests supports `*` only without other entries.
    """
    entries = [e.rpartition("://")[2] for e in re.split(r"[\s,]+", value) if e]
    if "*" in entries:
        return "*"
    networks = [network for e in entries if (network := _read_network(e))]
    kept = [str(n).removesuffix("/32").removesuffix("/128") for n in networks if _is_kept(n)]
    kept += [e for e in entries if _read_network(e) is None and _NAME.fullmatch(e)]
    kept += [h for h in theirs if is_loopback(h) or _is_within(h, networks)]
    return ",".join(dict.fromkeys([*kept, *direct]))


def _read_network(entry: str) -> _Network | None:
    try:
        return ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return None


def _is_kept(network: _Network) -> bool:
    return network.version == 4 or network.num_addresses == 1


def _is_within(host: str, networks: Iterable[_Network]) -> bool:
    try:
        return any(ipaddress.ip_address(host) in network for network in networks)
    except ValueError:
        return False

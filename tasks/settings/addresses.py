"""Addresses that our servers listen on, and the URLs at which this machine reaches them."""

import ipaddress
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
_WILDCARDS = {"0.0.0.0": LOOPBACK, "::": "::1"}


def listen_address(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reach(host: str, port: int) -> str:
    """Return the `host:port` at which this machine reaches a server that listens on `host`."""
    return listen_address(reachable_host(host), port)


def reachable_host(host: str) -> str:
    """Return the address at which this machine reaches a server that listens on `host`."""
    return _WILDCARDS.get(host, host)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_of(url: str) -> str:
    """Return the host of a URL, "" if there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # such as http://[broken
        return ""

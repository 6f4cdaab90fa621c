"""Network connections that programs attempt, recorded by strace.

All child processes are traced, including detached ones. Failed connections count as well, because
they are attempts to leave the machine.
"""

import ipaddress
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

_CALLS = "connect,sendto,sendmsg,sendmmsg,bind,listen"
_BIND = re.compile(r"^(?P<pid>\d+) +bind\((?P<fd>\d+), ")
_LISTEN = re.compile(r"^(?P<pid>\d+) +listen\((?P<fd>\d+), ")
_ADDRESS = re.compile(
    r"sin6?_port=htons\((?P<port>\d+)\).*?"
    r'(?:sin_addr=inet_addr\("|inet_pton\(AF_INET6, ")(?P<host>[^"]+)'
)
_LOOKUP = 53


class Reach(NamedTuple):
    """A connection to an address outside this machine, or a DNS query to any server."""

    host: str
    port: int
    call: str


def find_strace() -> str:
    """Return the path of strace; skip the test if it is missing or lacks the permission."""
    found = shutil.which("strace")
    if found is None:
        pytest.skip("no strace: apt-get install strace")
    if subprocess.run([found, "-f", "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace lacks the permission to trace processes here")
    return found


def run_watched(
    command: Sequence[str], trace: Path, environment: Mapping[str, str], timeout_s: float
) -> "subprocess.CompletedProcess[str]":
    """Run a command until all its child processes end; their system calls are in `trace`."""
    options = ["-f", "--seccomp-bpf", "-qq", "-e", "signal=none", "-e", f"trace={_CALLS}"]
    return subprocess.run(
        [find_strace(), *options, "-o", str(trace), *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def read_reaches(trace: Path) -> list[Reach]:
    """List the attempts to leave this machine, in order."""
    found = []
    with trace.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if _BIND.match(line):
                continue
            for match in _ADDRESS.finditer(line):
                host, port = match["host"], int(match["port"])
                if port == _LOOKUP or not is_here(host):
                    found.append(Reach(host, port, line.strip()[:300]))
    return found


def read_listeners(trace: Path) -> list[Reach]:
    """List the TCP sockets on which a process listened beyond loopback, however briefly."""
    bound: dict[tuple[str, str], tuple[str, int] | None] = {}
    exposed = []
    with trace.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if (call := _BIND.match(line)) is not None:
                at = _ADDRESS.search(line)
                bound[call["pid"], call["fd"]] = (at["host"], int(at["port"])) if at else None
            elif (call := _LISTEN.match(line)) is not None:
                place = bound.get((call["pid"], call["fd"]))
                if place and not ipaddress.ip_address(place[0]).is_loopback:
                    exposed.append(Reach(*place, line.strip()[:300]))
    return exposed


def is_here(host: str) -> bool:
    """Return whether the address is loopback or the unspecified address."""
    address = ipaddress.ip_address(host)
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_loopback or address.is_unspecified

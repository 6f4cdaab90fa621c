"""Check and choose TCP ports on this machine."""

import errno
import socket

import psutil

from intent_core.errors import ConfigError


def require_free_port(host: str, port: int, service: str, setting: str) -> None:
    """Raise `ConfigError` if this machine lacks the address or the port is in use.

    `setting` is the variable of the port; that of the address ends with _HOST instead.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        if _is_foreign(error):
            name = setting.replace("_PORT", "_HOST")
            raise ConfigError(
                f"{name}={host} is not an address of this machine: {service} cannot listen on it. "
                f"Set {name} to one that `ip address` lists, or to 0.0.0.0 for all of them"
            ) from error
        if isinstance(error, PermissionError):
            raise ConfigError(
                f"port {port} for {service} is reserved for root: choose one from 1024 on with "
                f"{setting}=<port>"
            ) from error
        raise ConfigError(
            f"port {port} for {service} is in use by {_holder(port)}. Stop that program "
            f"or choose another port with {setting}=<port>"
        ) from error


def _is_foreign(error: OSError | UnicodeError) -> bool:
    """Whether this machine lacks the address: no such name, address or IP version."""
    if not isinstance(error, OSError) or isinstance(error, socket.gaierror):
        return True
    return error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def _holder(port: int) -> str:
    for connection in psutil.net_connections(kind="tcp"):
        local = connection.laddr
        listens = connection.status == psutil.CONN_LISTEN and connection.pid
        if listens and local and local.port == port:
            return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "another program"


def is_served_by(port: int, pid: int) -> bool:
    """Whether this process or a child of it listens on the port.

    Any user of the machine can take a port that is free, and the one of a server that has died.
    """
    try:
        leader = psutil.Process(pid)
        family = [leader, *leader.children(recursive=True)]
        return any(_listens(process, port) for process in family)
    except psutil.NoSuchProcess:
        return False


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        connections = process.net_connections(kind="tcp")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections)


def choose_free_port(host: str) -> int:
    """Return a port on which no process listens."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port

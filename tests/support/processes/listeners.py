"""Sockets of a process and its children that other programs can connect to."""

import ipaddress

import psutil


def find_exposed(pid: int) -> list[str]:
    """List the TCP sockets on which the process or a child listens beyond loopback."""
    exposed = []
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            connections = process.net_connections(kind="tcp")
        except psutil.NoSuchProcess:
            continue
        exposed += [
            f"{process.name()} {connection.laddr.ip}:{connection.laddr.port}"
            for connection in connections
            if connection.status == psutil.CONN_LISTEN
            and not ipaddress.ip_address(connection.laddr.ip).is_loopback
        ]
    return exposed

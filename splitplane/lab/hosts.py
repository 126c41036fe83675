# SPDX-License-Identifier: Apache-2.0
"""What one does at the hosts of a laboratory: run a command, open a socket, ask for a page."""

from __future__ import annotations

import socket
import subprocess

from splitplane.lab import http
from splitplane.lab.namespaces import Namespace
from splitplane.lab.topology import (
    HTTP_PORT,
    VIRTUAL_ADDRESS,
    VIRTUAL_ADDRESS_6,
    Host,
    Topology,
)


class Hosts:
    """The hosts of one laboratory, each in its namespace."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.namespaces = {
            host: Namespace(topology.namespace(host))
            for host in ["dfs", *(host.name for host in topology.hosts())]
        }

    def host(self, name: str) -> Host:
        """Where a host is."""
        return next(host for host in self.topology.hosts() if host.name == name)

    def run(self, host: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on a host and wait for it."""
        return self.namespaces[host].run(*command, check=check)

    def socket(
        self,
        host: str,
        family: socket.AddressFamily = socket.AF_INET,
        kind: socket.SocketKind = socket.SOCK_STREAM,
    ) -> socket.socket:
        """A socket on that host, for this process; close it before the laboratory ends."""
        return self.namespaces[host].socket(family, kind)

    def get(
        self,
        client: str,
        path: str,
        *,
        address: str = VIRTUAL_ADDRESS,
        port: int = HTTP_PORT,
        timeout_s: float = 10,
    ) -> http.Response:
        """One HTTP request on a connection of its own."""
        with self.connect(client, address=address, port=port, timeout_s=timeout_s) as connection:
            return connection.get(path)

    def connect(
        self,
        client: str,
        *,
        address: str = VIRTUAL_ADDRESS,
        port: int = HTTP_PORT,
        timeout_s: float = 10,
    ) -> http.Connection:
        """An HTTP connection from a client, kept alive until it is closed."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return http.Connection(self.socket(client, family), (address, port), timeout_s)

    @property
    def virtual_addresses(self) -> tuple[str, ...]:
        """Where `www` answers."""
        return (VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6) if self.topology.ipv6 else (VIRTUAL_ADDRESS,)

# SPDX-License-Identifier: Apache-2.0
"""What hosts of a laboratory need whose DFS runs its program at XDP.

A veth device hands an XDP program what a network card would have finished: without checksums, they
are only begun.  And it takes no frame from another device's XDP program unless it polls (NAPI), as
it does with GRO.  What the program sends back out of the same interface (to ping, ARP and questions
for virtual addresses) still waits there until something else comes: for XDP_TX, veth rings the bell
only if its peer has an XDP program too.  Network cards do not need any of this.
"""

from __future__ import annotations

import shutil

from admin.errors import MachineError
from splitplane.lab.namespaces import Namespace
from splitplane.lab.topology import Topology


def prepare_hosts(topology: Topology, namespaces: dict[str, Namespace]) -> None:
    """Clients and servers finish their checksums, and poll."""
    if shutil.which("ethtool") is None:
        raise MachineError("not installed: ethtool; a laboratory at XDP needs it")
    for kind in ("client", "server"):
        for host in topology.of(kind):
            namespaces[host.name].run("ethtool", "-K", "eth0", "tx", "off", "gro", "on")

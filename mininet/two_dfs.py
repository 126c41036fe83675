# SPDX-License-Identifier: Apache-2.0
"""One CS, two DFSs with one virtual address.  Clients have their own DFS, the servers are shared.

h1 ──┐                         ┌── h3
h2 ──┤  s1                s2   ├── h4
     └─┬─┬───────────────┬─┬───┘
       │ ├── server1 ────┤ │   each server has a link to both switches, one address,
       │ ├── server2 ────┤ │   and a route back to each client through its switch
       │ └── server3 ────┘ │
       └────── cs1 ────────┘   management; www: 203.0.113.10, 2001:db8:113::10, on both
"""

from emulation.console import main
from emulation.plan import GROUP_1, DataFlowSegment, Plan, make_clients, make_servers


def plan(clients: int, servers: int) -> Plan:
    """So many clients at each of two switches, and so many servers at both."""
    return Plan(
        data_flow_segments=(
            DataFlowSegment(1, make_clients(1, clients)),
            DataFlowSegment(2, make_clients(1 + clients, clients)),
        ),
        control_segments=(GROUP_1,),
        servers=make_servers(servers),
    )


if __name__ == "__main__":
    main(__doc__, plan)

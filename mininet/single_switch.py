# SPDX-License-Identifier: Apache-2.0
"""One CS, one DFS.

h1 ──┐      ┌── server1
h2 ──┤  s1  ├── server2
     └──┬───┴── server3
        │ management
       cs1   www: 203.0.113.10, 2001:db8:113::10
"""

from emulation.console import main
from emulation.plan import GROUP_1, DataFlowSegment, Plan, make_clients, make_servers


def plan(clients: int, servers: int) -> Plan:
    """So many clients and servers at one switch."""
    return Plan(
        data_flow_segments=(DataFlowSegment(1, make_clients(1, clients)),),
        control_segments=(GROUP_1,),
        servers=make_servers(servers),
    )


if __name__ == "__main__":
    main(__doc__, plan)

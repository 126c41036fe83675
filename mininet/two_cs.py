# SPDX-License-Identifier: Apache-2.0
"""Two CSs of two groups, one DFS.  Each group owns its virtual servers; neither knows the other.

h1 ──┐      ┌── server1
h2 ──┤  s1  ├── server2
     └─┬──┬─┴── server3
       │  │ management
     cs1  cs2   group 1, www:  203.0.113.10, 2001:db8:113::10
                group 2, shop: 203.0.113.20, 2001:db8:113::20
"""

from emulation.console import main
from emulation.plan import GROUP_1, GROUP_2, DataFlowSegment, Plan, make_clients, make_servers


def plan(clients: int, servers: int) -> Plan:
    """So many clients and servers at one switch, which two CSs control."""
    return Plan(
        data_flow_segments=(DataFlowSegment(1, make_clients(1, clients)),),
        control_segments=(GROUP_1, GROUP_2),
        servers=make_servers(servers),
    )


if __name__ == "__main__":
    main(__doc__, plan)

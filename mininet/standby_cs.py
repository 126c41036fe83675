# SPDX-License-Identifier: Apache-2.0
"""Two CSs of one group, one DFS.  cs1 is active; cs2 has a copy of its state and takes over.

h1 ──┐      ┌── server1
h2 ──┤  s1  ├── server2
     └─┬──┬─┴── server3
       │  │ management
     cs1──cs2   group 1, www: 203.0.113.10, 2001:db8:113::10
"""

from emulation.console import main
from emulation.plan import (
    GROUP_1,
    GROUP_1_STANDBY,
    DataFlowSegment,
    Plan,
    make_clients,
    make_servers,
)


def plan(clients: int, servers: int) -> Plan:
    """So many clients and servers at one switch, which the two CSs control in turn."""
    return Plan(
        data_flow_segments=(DataFlowSegment(1, make_clients(1, clients)),),
        control_segments=(GROUP_1, GROUP_1_STANDBY),
        servers=make_servers(servers),
    )


if __name__ == "__main__":
    main(__doc__, plan)

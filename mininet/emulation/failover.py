# SPDX-License-Identifier: Apache-2.0
"""`splitplane drill failover` against a running topology: its load and its verdict, our failures.

The project's own Python runs it; a configuration as of an operator's own deployment says what to
load and which commands make the failures.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import Any

from emulation.network import Network
from emulation.plan import HTTP_PORT, UDP_PORT, ControlSegment, DataFlowSegment
from emulation.prerequisites import PYTHON
from emulation.running import EmulationError

SCENARIOS = ("kill", "hang", "switchover")
_RATES = {"bpf": 40, "p4runtime": 4}  # new connections per second; BMv2 is a model of a switch


class Failover:
    """One scenario against the active CS of a topology whose first group has a standby."""

    def __init__(self, network: Network, scenario: str) -> None:
        self._network = network
        self._scenario = scenario
        plan = network.plan
        first = plan.groups[0]
        self._group = (first, *plan.others(first))
        if len(self._group) < 2:
            raise EmulationError(
                f"the drill {scenario!r} needs a standby CS; run mininet/standby_cs.py"
            )

    def run(self) -> bool:
        """Whether nothing was lost and the standby took over."""
        sys.stdout.flush()
        folder = self._network.folder
        name = f"drill-{self._scenario}"
        command = [str(PYTHON), "-m", "splitplane", "drill", "failover", "--no-plots"]
        command += ["--config", str(folder.configuration(name, self._values()))]
        command += ["--report", str(folder.path / name), "--scenario", self._scenario]
        command += ["--rate", str(_RATES[self._network.target])]
        done = subprocess.run(command, check=False)
        for cs in self._group:
            if not self._network.control_segments[cs.name].is_running:
                self._network.start_cs(cs)
        return done.returncode == 0

    def _values(self) -> dict[str, Any]:
        network = self._network
        dfs = network.plan.data_flow_segments[0]
        segments: tuple[DataFlowSegment | ControlSegment, ...] = (dfs, *self._group)
        active = self._active()
        pid = network.control_segments[active.name].pid
        socket = shlex.quote(str(network.socket_of(active)))
        switchover = f"{shlex.quote(str(PYTHON))} -m splitplane switchover --socket {socket}"
        return {
            "load": {
                "addresses": [active.virtual.ipv4, active.virtual.ipv6],
                "http_port": HTTP_PORT,
                "udp_port": UDP_PORT,
                "clients": [
                    ["nsenter", f"--net=/proc/{network.net[client.name].pid}/ns/net", "--"]
                    for client in dfs.clients
                ],
            },
            "sockets": {segment.name: str(network.socket_of(segment)) for segment in segments},
            "scenarios": {
                "kill": {"title": f"kill -9 of {active.name}", "fail": f"kill -KILL {pid}"},
                "hang": {
                    "title": f"{active.name} hangs, and goes on later",
                    "fail": f"kill -STOP {pid}",
                    "repair": f"kill -CONT {pid}",
                },
                "switchover": {"title": "switch-over by command", "fail": switchover},
            },
        }

    def _active(self) -> ControlSegment:
        """The CS of the group that is active now."""
        for cs in self._group:
            status = self._network.ask(cs, "status")
            if status is not None and status["group_role"] == "active":
                return cs
        raise EmulationError("no CS of the group is active")

# SPDX-License-Identifier: Apache-2.0
"""A plan brought up in Mininet, with all its processes, and taken down."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import Any

from emulation import configs
from emulation.plan import (
    SERVER_HTTP_PORT,
    SERVER_UDP_PORT,
    Client,
    ControlSegment,
    DataFlowSegment,
    Plan,
    Server,
)
from emulation.prerequisites import PYTHON
from emulation.running import Daemon, Folder, ask, wait_for
from emulation.switches import Bmv2Switch, KernelSwitch, TwoFamilyHost, run, without_offloads
from mininet.net import Mininet


class Network:
    """A running topology; a context manager."""

    def __init__(self, plan: Plan, target: str, folder: Folder) -> None:
        self.plan = plan
        self.target = target
        self.folder = folder
        self.agents: dict[str, Daemon] = {}
        self.control_segments: dict[str, Daemon] = {}
        self.servers: dict[str, Daemon] = {}
        # Mininet would raise limits of the whole machine, for good, for hundreds of hosts
        Mininet.inited = True
        self.net = Mininet(controller=None, host=TwoFamilyHost, build=False)

    def __enter__(self) -> Network:
        try:
            self._build()
            self.net.start()
            self._start()
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._take_down()

    def _take_down(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a network must not stay half removed
        segments = (*self.control_segments.values(), *self.agents.values())
        switches = (switch.bmv2 for switch in self.net.switches)
        for daemon in (*segments, *switches, *self.servers.values()):
            if daemon is not None:
                daemon.kill9()  # nothing here needs a graceful stop
        self.net.stop()

    # --- nodes and links ------------------------------------------------------------------------

    def _build(self) -> None:
        plan = self.plan
        ends: list[Client | Server | ControlSegment] = [*plan.clients, *plan.servers]
        for end in (*ends, *plan.control_segments):
            self.net.addHost(end.name, ip=None)
        for dfs in self.plan.data_flow_segments:
            self._build_switch(dfs)
        for cs in self.plan.control_segments:
            for dfs in self.plan.data_flow_segments:
                self._connect_management(cs, dfs)
        for cs in self.plan.control_segments:
            for other in self.plan.others(cs):
                if other.number > cs.number:
                    self._connect_group(cs, other)
        self.net.build()

    def _build_switch(self, dfs: DataFlowSegment) -> None:
        ports = configs.ports(self.plan, dfs)
        switch = self.net.addSwitch(
            dfs.name,
            cls=KernelSwitch if self.target == "bpf" else Bmv2Switch,
            folder=self.folder,
            number=dfs.number,
            addresses={port: host.gateway(dfs.number) for port, host in ports},
        )
        for port, host in ports:
            node = self.net[host.name]
            # a P4 switch's MAC addresses are what its agent says, and not its interfaces' own
            address = configs.mac(dfs, port) if self.target == "bpf" else self.net.randMac()
            self.net.addLink(node, switch, port2=port, addr2=address)
            self._address(node, host, dfs)
            without_offloads(node)
        run(switch, f"ip addr add {dfs.address}/32 dev lo")

    def _address(self, node: Any, host: Client | Server, dfs: DataFlowSegment) -> None:
        """Give the host's newest link its addresses, and its routes to what is behind the DFS."""
        link = node.intfList()[-1]
        gateway = host.gateway(dfs.number)
        is_first = len(node.intfList()) == 1
        if is_first:
            link.setIP(f"{host.address.ipv4}/24")
            run(node, f"ip addr add {host.address.ipv6}/64 dev {link} nodad")
            run(node, f"ip route add default via {gateway.ipv4}")
            run(node, f"ip route add default via {gateway.ipv6}")
            return
        # a further DFS beside the same server: the same address, and only its clients' networks
        run(node, f"ip addr add {host.address.ipv4}/32 dev {link}")
        run(node, f"ip addr add {host.address.ipv6}/128 dev {link} nodad")
        run(node, f"ip route add {gateway.ipv4}/32 dev {link}")
        run(node, f"ip route add {gateway.ipv6}/128 dev {link}")
        for client in dfs.clients:
            for network, via in zip(client.network, (gateway.ipv4, gateway.ipv6), strict=True):
                run(node, f"ip route add {network} via {via} dev {link}")

    def _connect_management(self, cs: ControlSegment, dfs: DataFlowSegment) -> None:
        """An ordinary kernel link, without its own network: a route at each end."""
        node, switch = self.net[cs.name], self.net[dfs.name]
        name = f"{dfs.name}-{cs.name}"
        self.net.addLink(node, switch, intfName2=name)
        link = node.intfList()[-1]
        if len(node.intfList()) == 1:
            link.setIP(f"{cs.address}/32")
        run(node, f"ip route add {dfs.address}/32 dev {link} src {cs.address}")
        run(switch, f"ip route add {cs.address}/32 dev {name} src {dfs.address}")

    def _connect_group(self, cs: ControlSegment, other: ControlSegment) -> None:
        """A link of their own for the CSs of a group, in the same way."""
        self.net.addLink(self.net[cs.name], self.net[other.name])
        for here, there in ((cs, other), (other, cs)):
            node = self.net[here.name]
            link = node.intfList()[-1]
            run(node, f"ip link set {link} up")
            run(node, f"ip route add {there.address}/32 dev {link} src {here.address}")

    # --- processes ------------------------------------------------------------------------------

    def _start(self) -> None:
        for server in self.plan.servers:
            self._start_server(server)
        for dfs in self.plan.data_flow_segments:
            pins = self.folder.pins
            values = configs.dfs_config(self.plan, dfs, self.target, self.folder.path, pins)
            self.agents[dfs.name] = self._segment("dfs", dfs, values)
            self.start_agent(dfs)
        for cs in self.plan.control_segments:
            values = configs.cs_config(self.plan, cs, self.folder.path)
            self.control_segments[cs.name] = self._segment("cs", cs, values)
            self.start_cs(cs)
        self.wait_until_serving()

    def _segment(
        self, kind: str, segment: DataFlowSegment | ControlSegment, values: dict[str, Any]
    ) -> Daemon:
        path = self.folder.configuration(segment.name, values)
        command = [str(PYTHON), "-m", "splitplane", kind, str(path), "--log-format", "text"]
        return Daemon(segment.name, self.net[segment.name], command, self.folder)

    def _start_server(self, server: Server) -> None:
        command = [str(PYTHON), "-m", "splitplane.lab.web", server.name]
        command += ["--http", str(SERVER_HTTP_PORT), "--udp", str(SERVER_UDP_PORT)]
        daemon = Daemon(server.name, self.net[server.name], command, self.folder)
        self.servers[server.name] = daemon
        daemon.start(lambda: daemon.log.stat().st_size > 0)

    def start_agent(self, dfs: DataFlowSegment) -> None:
        """Start (again) a DFS's agent; returns once it answers."""
        self.agents[dfs.name].start(lambda: self.ask(dfs, "hello") is not None)

    def start_cs(self, cs: ControlSegment) -> None:
        """Start (again) a CS; returns once it answers, which is before it has a DFS."""
        self.control_segments[cs.name].start(lambda: self.ask(cs, "hello") is not None)

    def ask(self, segment: DataFlowSegment | ControlSegment, command: str) -> Any:
        """Ask at its admin socket; None if it does not answer."""
        return ask(self.socket_of(segment), command)

    def socket_of(self, segment: DataFlowSegment | ControlSegment) -> Path:
        """Its admin socket."""
        return configs.admin_socket(self.folder.path, segment)

    def wait_until_serving(self) -> None:
        """Return once each DFS has the virtual servers of every group."""
        wanted = 4 * len(self.plan.groups)
        for dfs in self.plan.data_flow_segments:
            wait_for(
                f"{dfs.name} to know {wanted} virtual servers", partial(self._knows, dfs, wanted)
            )

    def _knows(self, dfs: DataFlowSegment, wanted: int) -> bool:
        return len(self.ask(dfs, "virtual_servers") or ()) >= wanted

# SPDX-License-Identifier: Apache-2.0
"""A whole laboratory as one object.

    with Lab("demo") as lab:
        status, body = lab.get("client1", "/name")
        lab.cs().kill9()
        lab.start_cs()
        lab.admin("cs1", NODES)

Leaving the block stops everything, also after an exception.  A process that is killed leaves its
namespaces; the next `Lab` of the same name, or `splitplane lab clean`, removes them.
Enter the block from a thread that lives as long as the laboratory: its end ends the children.
"""

from __future__ import annotations

import secrets
import signal
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import yaml

from admin.answers import HELLO, VIRTUAL_SERVERS, AnswerT, Command
from admin.client import ask
from admin.errors import CommandError
from splitplane import machine
from splitplane.interrupts import ignored
from splitplane.lab import bad_link, configs, state, switch, xdp
from splitplane.lab.api import DESIRED, LabApi
from splitplane.lab.hosts import Hosts
from splitplane.lab.namespaces import Namespace
from splitplane.lab.processes import Process, wait_for
from splitplane.lab.topology import (
    HOSTS_MAX,
    SERVER_HTTP_PORT,
    SERVER_STREAM_PORT,
    SERVER_UDP_PORT,
    Topology,
    build,
    link_lines,
)

PROGRAMS: Final = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "sysctl": "procps",
}


class Lab(Hosts, AbstractContextManager["Lab"]):
    """Clients, a DFS, CSs and servers, each in a network namespace."""

    def __init__(
        self,
        name: str = "lab",
        *,
        clients: int = 2,
        servers: int = 3,
        cs_count: int = 1,
        ipv6: bool = True,
        method: str = "round_robin",
        target: str = "bpf",
        dfs_attach: Literal["auto", "xdp", "tc"] = "auto",
        flow_capacity: int = 65536,
        segments: bool = True,
        streams: bool = False,
        content: bool = False,
        api: bool = False,
        api_port: int | None = None,
    ) -> None:
        """With *segments* False no DFS and no CS is started by entering the block; with *streams*
        there is a virtual server whose nodes speak first, with *content* one that reads requests;
        with *api* there is an API with its page, on *api_port* of 127.0.0.1, from which the CSs
        have their configuration."""
        for kind, count in (("clients", clients), ("servers", servers), ("CSs", cs_count)):
            if not 0 <= count <= HOSTS_MAX:
                raise CommandError(f"{count} {kind}; a laboratory has 0 to {HOSTS_MAX}")
        super().__init__(Topology(name, clients, servers, cs_count, ipv6))
        self.name = name
        self.folder = state.folder(name)
        # what the segments are started with; change it and call write_configs()
        self.dfs_config = configs.dfs_config(
            self.topology,
            self.folder,
            state.pins(name),
            target=target,
            attach=dfs_attach,
            flow_capacity=flow_capacity,
        )
        self.cs_configs: dict[str, dict[str, Any]] = {
            host.name: configs.cs_config(
                self.topology, self.folder, host, method=method, streams=streams, content=content
            )
            for host in self.topology.of("cs")
        }
        # what is put before the command of a segment: "cs1" -> ["env", "NAME=value"]
        self.words_before: dict[str, list[str]] = {}
        self.has_content = content
        self.api = LabApi(self.folder, api_port) if api else None
        self._has_switch = target == "p4runtime"
        self._starts_segments = segments
        self._state = state.LabState(name)
        self._processes: dict[str, Process] = {}

    # --- up and down ----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        machine.require_root("a laboratory (network namespaces)")
        machine.require_programs(PROGRAMS)
        if self._has_switch:
            machine.require_programs({"ethtool": "ethtool"})
            switch.require_switch()
        self._state.acquire()
        try:
            self._bring_up()
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._take_down()

    def _bring_up(self) -> None:
        self.folder.mkdir(parents=True, mode=0o700)
        key = self.folder / "cluster.key"
        key.touch(0o600)
        key.write_text(secrets.token_hex(32) + "\n")
        self.write_configs()
        if self.api is not None:
            self.api.prepare(configs.GROUP_ID, self._document(), ["dfs", *self.cs_configs])
            self.start_api()
        if self._has_switch:
            build(self.topology, self.namespaces, routed={"cs"})
            switch.prepare_links(self.topology, self.namespaces)
            self.start_switch()
        else:
            build(self.topology, self.namespaces)
        if self.dfs_config.get("attach") == "xdp":
            xdp.prepare_hosts(self.topology, self.namespaces)
        for host in self.topology.of("server"):
            self.start_server(host.name)
        if self._starts_segments:
            self.start_dfs()
            for host in self.topology.of("cs"):
                self.start_cs(host.name)
            self.wait_until_serving()

    def _take_down(self) -> None:
        with ignored():  # a laboratory must not stay half removed
            for process in self._processes.values():
                process.signal(signal.SIGKILL)  # nothing in a laboratory needs a graceful stop
            for process in self._processes.values():
                process.kill9()
            for namespace in self.namespaces.values():
                namespace.delete()
            self._state.release()

    # --- configuration --------------------------------------------------------------------------

    def config_path(self, segment: str) -> Path:
        """The file of "dfs" or "cs1"."""
        return self.folder / f"{segment}.yaml"

    def write_configs(self) -> None:
        """Write the segments' files again from `dfs_config` and `cs_configs`."""
        for segment, config in {"dfs": self.dfs_config, **self.cs_configs}.items():
            written = config if self.api is None else self.api.linked(segment, config)
            text = yaml.safe_dump(written, sort_keys=False)
            temporary = self.config_path(segment).with_suffix(".new")
            temporary.write_text(text)
            temporary.replace(self.config_path(segment))

    def _document(self) -> dict[str, Any]:
        """What the first CS's file says of the desired state."""
        config = next(iter(self.cs_configs.values()), {})
        return {field: config[field] for field in DESIRED if field in config}

    # --- processes ------------------------------------------------------------------------------

    def start_api(self) -> None:
        """Start (again) the API; returns once it serves."""
        assert self.api is not None
        self._process("api", self.api.command, here=True).start(self.api.answers)

    def start_switch(self) -> None:
        """Start (again) the P4 switch of target p4runtime; its program comes from the agent."""
        command = switch.command(self.topology, self.folder)
        self._process("switch", command, "dfs").start(lambda: switch.answers(self.folder))

    def start_server(self, name: str) -> None:
        """Start (again) one web server."""
        arguments = [sys.executable, "-m", "splitplane.lab.web", name]
        arguments += ["--http", str(SERVER_HTTP_PORT), "--udp", str(SERVER_UDP_PORT)]
        arguments += ["--stream", str(SERVER_STREAM_PORT)]
        process = self._process(name, arguments)
        already = process.log.stat().st_size if process.log.exists() else 0
        process.start(lambda: process.log.stat().st_size > already)

    def impair(self, name: str, words: str, delay_ms: float = 0.0) -> None:
        """From now on the link of a host is bad: `bad_link`, which says what the words mean."""
        machine.require_programs({"ethtool": "ethtool"})
        link = f"{name}link"
        self.namespaces[link] = Namespace(self.topology.namespace(link))
        inside, _ = link_lines(self.host(name), ipv6=self.topology.ipv6)
        ends = bad_link.insert(self.namespaces[name], self.namespaces[link], inside)
        for host in (*self.topology.of("client"), *self.topology.of("server")):
            bad_link.finish_segments(self.namespaces[host.name])
        process = self._process(link, bad_link.command(ends, words, delay_ms))
        process.start(lambda: process.log.stat().st_size > 0)

    def start_dfs(self) -> None:
        """Start (again) the DFS; returns once it answers at its admin socket."""
        if self.dfs_config["target"] == "bpf":
            machine.require_bpf()
        self._start_segment("dfs", "dfs")

    def start_cs(self, name: str = "cs1", host: str = "") -> None:
        """Start (again) a CS; returns once it answers, which is before it has a DFS.  One with a
        configuration of its own may run on the *host* of another one."""
        self._start_segment(name, "cs", host)

    def _start_segment(self, name: str, command: str, host: str = "") -> None:
        arguments = [sys.executable, "-m", "splitplane", command, str(self.config_path(name))]
        arguments += ["--log-format", "text"]  # its last words are shown to people
        arguments = [*self.words_before.get(name, ()), *arguments]
        self._process(name, arguments, host).start(lambda: self._answers(name))

    def _process(
        self, name: str, command: list[str], host: str = "", *, here: bool = False
    ) -> Process:
        """*here*: in the machine's own namespace, not in that of a host."""
        if name not in self._processes:
            namespace = None if here else self.namespaces[host or name]
            log = self.folder / f"{name}.log"
            self._processes[name] = Process(name, namespace, command, log, self._state)
        return self._processes[name]

    def process(self, name: str) -> Process:
        """The process of "dfs", "switch", "cs1" or "server1": stop(), kill9(), pid, log."""
        if name not in self._processes:
            raise CommandError(f"{name} was never started")
        return self._processes[name]

    def dfs(self) -> Process:
        """The DFS."""
        return self.process("dfs")

    def switch(self) -> Process:
        """The P4 switch of target p4runtime."""
        return self.process("switch")

    def cs(self, name: str = "cs1") -> Process:
        """A CS."""
        return self.process(name)

    # --- the segments ---------------------------------------------------------------------------

    def socket_of(self, segment: str) -> Path:
        """The admin socket of "dfs" or "cs1"."""
        config = self.dfs_config if segment == "dfs" else self.cs_configs[segment]
        return Path(config["admin_socket"])

    def admin(self, segment: str, command: Command[AnswerT], **arguments: object) -> AnswerT:
        """Ask "dfs" or "cs1"; its answer, or CommandError."""
        return ask(self.socket_of(segment), command, **arguments)

    def _answers(self, segment: str) -> bool:
        try:
            # an earlier, killed process may have left its socket: nothing answers there
            return self.admin(segment, HELLO).pid == self.process(segment).pid
        except CommandError:
            return False

    def wait_until_serving(self, timeout_s: float = 30) -> None:
        """Return once the DFS has the virtual servers of the first CS and knows no other; with an
        API also each CS."""
        wanted = len(self._document()["virtual_servers"])
        for segment in ["dfs", *(self.cs_configs if self.api is not None else ())]:
            wait_for(
                f"{segment} to know the virtual servers",
                lambda name=segment: len(self.admin(name, VIRTUAL_SERVERS)) >= wanted,  # type: ignore[misc]
                timeout_s,
            )

# SPDX-License-Identifier: Apache-2.0
"""A laboratory with several CSs of one group, and what can be done to its parts.

A partition drops IP packets at the link of one CS, in one direction (nftables, netdev hooks): the
senders do not notice, and nothing else on the link is touched.
"""

from __future__ import annotations

import struct
import threading
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from importlib.resources import files
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

from admin.answers import CS_STATUS, SWITCHOVER
from splitplane import machine
from splitplane.drill.recording import Plan
from splitplane.drill.roles import active_at, are_redundant, status_of
from splitplane.handing_over import wait_until_handed_over
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for
from splitplane.lab.topology import DFS_ADDRESS, HTTP_PORT, STREAM_PORT, UDP_PORT

Way: TypeAlias = Literal["to", "from", "both"]
TIMINGS: Final[dict[str, dict[str, int]]] = {
    "default": {},
    # as short as the file may say: a busy machine then fails over without need
    "aggressive": {"heartbeat_ms": 10, "vacant_ms": 30, "silent_ms": 100},
}
_READY_TIMEOUT_S: Final = 60.0
_ANSWER_TIMEOUT_S: Final = 5.0
# of each 50 ms, a slow CS runs 10: a fifth of a processor, in pauses shorter than `vacant_ms`
_SLOW_STOPPED_S: Final = 0.04
_SLOW_RUNNING_S: Final = 0.01
_DISK_OCTETS: Final = 1 << 20
# before a segment's command: its disk, which outlives it, and the file that its clock follows
_PREPARE: Final = (
    'mkdir -p "$1" && { mountpoint -q "$1" ||'
    f' mount -t tmpfs -o size={_DISK_OCTETS} drill "$1"; }}'
    ' && { [ -e "$2" ] || head -c 8 /dev/zero >"$2"; } && shift 2 && exec "$@"'
)
CLOCK_JUMP: Final = Path(str(files("splitplane.drill") / "artifacts/clock_jump.so"))
"""Compiled by `make bpf` (native/clock_jump.c)."""


class Field(AbstractContextManager["Field"]):
    """Enter it for one scenario; its processes are new each time."""

    def __init__(
        self,
        name: str,
        *,
        cs_count: int = 2,
        clients: int = 2,
        servers: int = 3,
        target: str = "bpf",
        timings: str = "default",
    ) -> None:
        self.lab = Lab(
            name,
            cs_count=cs_count,
            clients=clients,
            servers=servers,
            target=target,
            streams=True,
        )
        self.victim = ""
        """The CS that was active before the failure: what is done to "the active CS" is done to it,
        whoever is active later."""
        self._stack = ExitStack()
        self._slow = threading.Event()
        self._configure(TIMINGS[timings])

    def _configure(self, redundancy: dict[str, int]) -> None:
        """Set the CSs' times (docs/design/0009), and put each one's state on a small disk."""
        lab = self.lab
        for name, config in lab.cs_configs.items():
            config["state_file"] = str(self._disk(name) / "state")
            config["redundancy"] = redundancy
        lab.dfs_config["state_file"] = str(self._disk("dfs") / "state")
        for segment in ("dfs", *lab.cs_configs):
            lab.words_before[segment] = self._words_before(segment)

    # --- up and down ----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        machine.require_programs({"nft": "nftables", "mount": "mount"})
        with ExitStack() as stack:
            stack.enter_context(self.lab)
            stack.callback(self._slow.clear)
            self._wait_until_redundant()
            self._stack = stack.pop_all()
        self.choose_victim()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _wait_until_redundant(self) -> None:
        wait_for(
            "one CS to be active and the others to have a complete copy of its flows",
            self.is_ready,
            _READY_TIMEOUT_S,
        )

    # --- questions ------------------------------------------------------------------------------

    @property
    def control_segments(self) -> list[str]:
        """cs1, cs2 ..."""
        return list(self.lab.cs_configs)

    def sockets(self) -> dict[str, Path]:
        """The admin sockets, by the segments' names."""
        return {name: self.lab.socket_of(name) for name in ("dfs", *self.control_segments)}

    def active(self) -> str | None:
        """The CS that the DFS obeys now; None: no CS, or the DFS does not answer."""
        status = status_of(self.lab.socket_of("dfs"))
        return None if status is None else active_at(status)

    def is_ready(self) -> bool:
        """Whether one CS is active, and the others have a complete copy of its flows."""
        return are_redundant(self.sockets())

    def choose_victim(self) -> None:
        """Let it be the CS that is active now; CommandError if the DFS does not say in time which
        that is.  Under load it may once be too late with its answer."""
        wait_for("the DFS to say which CS is active", self._has_victim, _ANSWER_TIMEOUT_S)

    def _has_victim(self) -> bool:
        self.victim = self.active() or ""
        return self.victim != ""

    def plan(self, **choices: Any) -> Plan:
        """What the load of one client is."""
        return Plan(
            addresses=self.lab.virtual_addresses,
            http_port=HTTP_PORT,
            stream_port=STREAM_PORT,
            udp_port=UDP_PORT,
            **choices,
        )

    def inside(self, command: list[str]) -> list[list[str]]:
        """The command in the namespace of each client."""
        return [
            self.lab.namespaces[host.name].command(*command)
            for host in self.lab.topology.of("client")
        ]

    # --- what can be done -----------------------------------------------------------------------

    def kill(self, segment: str) -> None:
        """kill -9."""
        self.lab.process(segment).kill9()

    def start(self, segment: str) -> None:
        """Start it again, as a supervisor does; nothing if it runs."""
        if self.lab.process(segment).is_running:
            return
        if segment == "dfs":
            self.lab.start_dfs()
        else:
            self.lab.start_cs(segment)

    def stop(self, segment: str) -> None:
        """SIGSTOP: it hangs, and its connections stand."""
        self.lab.process(segment).signal(SIGSTOP)

    def resume(self, segment: str) -> None:
        """SIGCONT."""
        self.lab.process(segment).signal(SIGCONT)

    def link(self, cs: str, state: Literal["up", "down"]) -> None:
        """Unplug its cable, or plug it in."""
        self.lab.namespaces["dfs"].ip(f"link set {cs} {state}")

    def cut(self, cs: str, other: str, way: Way) -> None:
        """Drop what *cs* sends to *other* ("dfs", "cs2"), what it gets from it, or both."""
        address = DFS_ADDRESS if other == "dfs" else self.lab.host(other).address
        lines = ["add table netdev drill"]
        for hook, match, ways in (("egress", "daddr", "to"), ("ingress", "saddr", "from")):
            if way in (ways, "both"):
                kind = f"type filter hook {hook} device eth0 priority 0;"
                lines.append(f"add chain netdev drill {hook} {{ {kind} }}")
                lines.append(f"add rule netdev drill {hook} ip {match} {address} drop")
        self.lab.run(cs, "nft", "; ".join(lines))

    def mend(self, cs: str) -> None:
        """Undo `cut`."""
        self.lab.run(cs, "nft", "delete table netdev drill")

    def jump_clock(self, segment: str, seconds: int) -> None:
        """Its real-time clock is so many seconds ahead from now on."""
        with self._clock(segment).open("r+b") as file:
            file.write(struct.pack("<q", seconds))

    def fill_disk(self, segment: str) -> None:
        """Leave no room where it keeps its state."""
        # no space left: that is wanted
        with self._filling(segment).open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def empty_disk(self, segment: str) -> None:
        """Take away what `fill_disk` wrote."""
        self._filling(segment).unlink(missing_ok=True)

    def slow(self, cs: str) -> None:
        """Stop it for most of the time, until `hurry`."""
        self._slow.set()
        process = self.lab.process(cs)

        def take_turns() -> None:
            pause = threading.Event()
            while self._slow.is_set():
                process.signal(SIGSTOP)
                pause.wait(_SLOW_STOPPED_S)
                process.signal(SIGCONT)
                pause.wait(_SLOW_RUNNING_S)

        thread = threading.Thread(target=take_turns, name="slow", daemon=True)
        self._stack.callback(thread.join)
        self._stack.callback(self._slow.clear)
        thread.start()

    def hurry(self) -> None:
        """Let it run all the time again."""
        self._slow.clear()

    def switch_over(self, cs: str) -> None:
        """As an operator orders it, who waits until it is done."""
        chosen = self.lab.admin(cs, SWITCHOVER).segment_id
        wait_until_handed_over(partial(self.lab.admin, cs, CS_STATUS), chosen)

    # --- how a segment is started ---------------------------------------------------------------

    def _words_before(self, segment: str) -> list[str]:
        """A disk of its own for its state, and a clock that may jump."""
        words = ["sh", "-c", _PREPARE, "drill", str(self._disk(segment)), str(self._clock(segment))]
        if CLOCK_JUMP.is_file():
            words += ["env", f"LD_PRELOAD={CLOCK_JUMP}", f"CLOCK_JUMP_FILE={self._clock(segment)}"]
        return words

    def _disk(self, segment: str) -> Path:
        return self.lab.folder / f"state-{segment}"

    def _clock(self, segment: str) -> Path:
        return self.lab.folder / f"clock-{segment}"

    def _filling(self, segment: str) -> Path:
        return self._disk(segment) / "filling"

# SPDX-License-Identifier: Apache-2.0
"""What the program does by itself for the flows of a group (`Offload`): the maps that tell it so,
and the program at the interfaces where REPLYs come in."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from socket import htons
from typing import Final

from data_flow_segment.targets.bpf.beside import Beside
from data_flow_segment.targets.bpf.interfaces import Device
from data_flow_segment.targets.bpf.layout import (
    CONTROL,
    CONTROL_KEY,
    FLOW_KEY,
    WINDOW,
    ControlFlag,
)
from data_flow_segment.targets.bpf.libbpf import TestRunOptions, run_program
from data_flow_segment.targets.bpf.links import Attachment
from data_flow_segment.targets.bpf.program import Program
from data_flow_segment.targets.bpf.ways import find_way
from data_flow_segment.targets.contract import AskingPath, Offload
from ssmb.addresses import UNSPECIFIED
from ssmb.messages import FlowSignature

LANES: Final = 4  # of bpf/shared.h
SEEN_MAX: Final = 64  # keys of CSs that are not active now, whose counters are remembered
LOOK_AGAIN_NS: Final = 5_000_000_000
"""How often the routes to CSs are looked up again: another interface may lead there now."""

_NS_PER_S: Final = 1_000_000_000
_GROUP: Final = struct.Struct("=I")
_NO_WINDOW: Final = WINDOW.pack(0, 0, 0, bytes(256))
_NO_WINDOWS: Final = [_NO_WINDOW] * LANES
_NOT_YET: Final = "no CS of the group can be asked yet"
_LOG: Final = logging.getLogger("splitplane.dfs")


class Offloads:
    """Keeps the program's maps as the agent's commands say."""

    def __init__(
        self,
        program: Program,
        pin_path: Path,
        half_open_timeout_s: int,
        attachments: Callable[[], Iterable[Attachment]],
    ) -> None:
        """`attachments`: of the data path, as they are now."""
        self._program = program
        self._beside = Beside(program, pin_path)
        self._attachments = attachments
        self._half_open_ns = half_open_timeout_s * _NS_PER_S
        self._wanted: dict[int, Offload] = {}
        self._obstacles: dict[int, str] = {}
        self._devices: Mapping[int, Device] = {}
        self._looked_ns = 0
        self._refusing: set[int] = set()
        self._opened_with: dict[int, bytes] = {}  # the key of whose counters the windows are
        self._seen: dict[bytes, list[bytes]] = {}  # windows of keys that may come back
        self._has_ended = False  # what the program ended lingers on when it ends no more
        self._tend_fd = program.program_fd("dfs_tend")
        self._tending = TestRunOptions.of(bytes(64))

    def obstacle(self, group_id: int) -> str:
        """Why the agent asks about a group's flows; "" if the program does."""
        return self._obstacles.get(group_id, _NOT_YET)

    def forget_all(self) -> None:
        """After an upgrade nothing of an earlier program's holds."""
        for table in (self._program.controls, self._program.control_groups):
            for key in list(table.keys()):
                table.delete(key)
        self._beside.forget_all()

    def set(self, offload: Offload, devices: Mapping[int, Device]) -> None:
        """Carry out a command."""
        self._devices = devices
        self._has_ended |= offload.ends
        before = self._wanted.get(offload.group_id)
        self._wanted[offload.group_id] = offload
        if before is not None and before.path is not None and before.path != offload.path:
            self._program.control_groups.delete(_control_key(before.path))
        self._write(offload)

    def refuse(self, signature: FlowSignature, until_ns: int) -> None:
        """Let the packets of a flow come up until then."""
        key = FLOW_KEY.pack(*signature.session)
        self._program.refused.try_update(key, struct.pack("=Q", until_ns))
        for group_id, offload in self._wanted.items():
            if offload.path is not None and group_id not in self._refusing:
                self._refusing.add(group_id)
                self._write(offload)

    def follow(self, devices: Mapping[int, Device], now_ns: int, *, changed: bool) -> None:
        """Interfaces may have changed, and so may routes, sometimes."""
        if not changed and now_ns - self._looked_ns < LOOK_AGAIN_NS:
            return
        self._devices, self._looked_ns = devices, now_ns
        for offload in self._wanted.values():
            if offload.path is not None:
                self._write(offload)

    def tend(self) -> None:
        """Have the program look at what is due, which it else does with each new flow."""
        if self._has_ended:
            run_program(self._tend_fd, self._tending, "dfs_tend cannot be run")

    def close(self, *, detach: bool) -> None:
        self._beside.close(detach=detach)

    def _write(self, offload: Offload) -> None:
        program, group = self._program, _GROUP.pack(offload.group_id)
        path = offload.path
        obstacle = _NOT_YET if path is None else self._attach(path)
        self._say(offload.group_id, obstacle)
        asks = path is not None and not obstacle
        if not offload.ends and not asks:
            program.controls.delete(group)
            return
        if (
            path is not None
            and asks
            and self._opened_with.get(offload.group_id) != path.opening_key
        ):
            program.controls.delete(group)  # no REPLY is opened with a window of other keys
            self._change_windows(offload.group_id, path.opening_key)
        program.controls.update(group, self._control(offload, path if asks else None))
        if path is not None and asks:
            program.control_groups.update(_control_key(path), group)

    def _change_windows(self, group_id: int, opening_key: bytes) -> None:
        """A CS may become active again with the keys that it had: what was seen of its counters
        stays seen, or its old REPLYs could be sent once more."""
        windows, before = self._program.windows, self._opened_with.get(group_id)
        keys = [_GROUP.pack(group_id << 8 | lane) for lane in range(LANES)]
        if before is not None:
            if len(self._seen) >= SEEN_MAX:
                del self._seen[next(iter(self._seen))]
            self._seen[before] = [windows.lookup(key) or _NO_WINDOW for key in keys]
        for key, window in zip(keys, self._seen.pop(opening_key, _NO_WINDOWS), strict=True):
            windows.update(key, window)
        self._opened_with[group_id] = opening_key

    def _control(self, offload: Offload, path: AskingPath | None) -> bytes:
        flags = ControlFlag(0)
        if offload.ends:
            flags |= ControlFlag.ENDS
        if path is not None:
            flags |= ControlFlag.ASKS
        if offload.shared:
            flags |= ControlFlag.SHARED
        if offload.group_id in self._refusing:
            flags |= ControlFlag.REFUSED
        sealing = (0, 0) if path is None else _words(path.sealing_key)
        opening = (0, 0) if path is None else _words(path.opening_key)
        return CONTROL.pack(
            *sealing,
            *opening,
            UNSPECIFIED if path is None else path.cs_ipaddr,
            UNSPECIFIED if path is None else path.own_ipaddr,
            0 if path is None else htons(path.cs_port),
            0 if path is None else htons(path.own_port),
            offload.group_id,
            int(flags),
            self._half_open_ns,
        )

    def _say(self, group_id: int, obstacle: str) -> None:
        before = self._obstacles.get(group_id, _NOT_YET)
        self._obstacles[group_id] = obstacle
        if obstacle in (before, _NOT_YET):
            return
        if obstacle:
            _LOG.warning(
                "group %d: the agent asks the CS about new flows, because %s", group_id, obstacle
            )
        else:
            _LOG.info("group %d: the data path asks the CS about new flows itself", group_id)

    def _attach(self, path: AskingPath) -> str:
        """Why REPLYs cannot be received by the program, or else it is where they come in."""
        way = find_way(path.cs_ipaddr, path.own_ipaddr)
        if way.obstacle:
            return way.obstacle
        device = next((each for each in self._devices.values() if each.name == way.interface), None)
        if device is None:
            return f"interface {way.interface}, which leads to the CS, has gone"
        if device.mac == bytes(6):
            return f"interface {way.interface}, which leads to the CS, is not an Ethernet"
        obstacle = self._beside.attach("dfs_back", device.name, device.ifindex)
        for attachment in self._attachments():
            if attachment.kind == "xdp" and not obstacle:
                place = attachment.interface, attachment.ifindex
                obstacle = self._beside.attach("dfs_behind_xdp", *place)
        return obstacle


def _words(key: bytes) -> tuple[int, int]:
    """A key as SipHash loads it."""
    return int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little")


def _control_key(path: AskingPath) -> bytes:
    return CONTROL_KEY.pack(path.cs_ipaddr, htons(path.cs_port), 0)

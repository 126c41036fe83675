# SPDX-License-Identifier: Apache-2.0
"""Grants in the program's maps (wire protocol 13, bpf/grants.h).

A generation of a virtual server has a slot: a part of each of a few arrays.  The program moves the
head of a slot on; everything else is written here, in an order in which the program may read it at
any time.  A slot is closed by the program, so that its head stands still, and rests before another
generation gets it: a processor may still hold what it read of the generation before.
"""

from __future__ import annotations

import secrets
import struct
import sys
from collections import deque
from collections.abc import Callable
from socket import htons
from typing import Final

from data_flow_segment.targets.bpf.layout import (
    GRANT_ENTRIES,
    GRANT_SLOT,
    GRANT_SLOTS,
    GRANTED,
    GRANTED_CLIENT,
    GRANTED_CLIENT_KEY,
    GRANTED_NODE,
    GRANTS,
    VIRTUAL_SERVER_KEY,
)
from data_flow_segment.targets.bpf.libbpf import TestRunOptions, run_program
from data_flow_segment.targets.bpf.program import Program
from data_flow_segment.targets.contract import VirtualServerKey
from data_flow_segment.targets.grants import (
    AddGrantClients,
    AddGrants,
    AddGrantTable,
    BeginGrants,
    EndGrants,
    ExtendLease,
    GrantCommand,
    GrantCounts,
    GrantsEnded,
    GrantState,
)
from ssmb.constants import GRANT_NODES_MAX, GRANT_TABLE_MAX, GRANTED_MAX
from ssmb.grants import DECISION_SIZE, GrantNode, following_all

REST_NS: Final = 1_000_000_000
"""How long a slot rests: longer than any run of a program takes."""

_NS_PER_S: Final = 1_000_000_000
_NUMBER: Final = struct.Struct("=I")
_CLOSED: Final = 1 << 31
_NO_NODES: Final = bytes(GRANTED_NODE.size * GRANT_NODES_MAX)
_NO_COUNTS: Final = GrantCounts()
# Which octet of a decision's node comes first in the program's `struct granted`
_NODE_LOW: Final = 1 if sys.byteorder == "little" else 0
assert (DECISION_SIZE, GRANTED.size) == (4, 8)


class _Held:
    """A generation, as the program's map `grants` has it."""

    def __init__(self, group_id: int, generation: int, kind: int, inside: int, slot: int) -> None:
        self.group_id = group_id
        self.generation = generation
        self.kind = kind
        self.inside = inside
        self.slot = slot
        self.use = 0
        self.tail = 0
        self.table = bytearray()

    def packed(self) -> bytes:
        return GRANTS.pack(
            self.slot, self.tail, len(self.table), self.group_id, self.kind, self.inside,
            self.generation, 0, self.use,
        )  # fmt: skip


class Grants:
    """Carries out commands about grants."""

    def __init__(
        self, program: Program, report: Callable[[GrantsEnded], None], clock: Callable[[], int]
    ) -> None:
        """`clock`: ns, CLOCK_MONOTONIC."""
        self._maps = program.grant_maps
        self._close_fd = program.program_fd("dfs_close_grants")
        self._report = report
        self._clock = clock
        self._use = secrets.randbits(48) << 8
        self._held: dict[VirtualServerKey, _Held] = {}
        self._counts: dict[VirtualServerKey, GrantCounts] = {}
        self._resting: deque[tuple[int, int]] = deque()  # slot, and since when
        self._adopt()

    def apply(self, command: GrantCommand) -> None:
        """Carry out one."""
        if isinstance(command, AddGrants):
            self._add(command)
        elif isinstance(command, ExtendLease):
            until = max(0, int(command.until * _NS_PER_S))
            group, lease = _NUMBER.pack(command.group_id), struct.pack("=Q", until)
            self._maps["leases"].update(group, lease)
        elif isinstance(command, BeginGrants):
            self._begin(command)
        elif isinstance(command, AddGrantTable):
            self._add_table(command)
        elif isinstance(command, AddGrantClients):
            self._add_clients(command)
        else:
            self._end(command)

    def states(self) -> list[GrantState]:
        """What there is of grants."""
        found = []
        for key, held in self._held.items():
            head, counts = self._slot(held.slot)
            total = _sum(self._counts.get(key, _NO_COUNTS), counts)
            found.append(
                GrantState(key, held.group_id, held.generation, held.tail, head & ~_CLOSED, total)
            )
        return found

    # --- commands ------------------------------------------------------------------------------

    def _begin(self, command: BeginGrants) -> None:
        self._end(EndGrants(command.key))
        slot = self._free_slot()
        if slot is None:  # all are in use: what is given for this one comes back at once
            self._report(GrantsEnded(command.key, command.generation, 0))
            return
        held = _Held(command.group_id, command.generation, command.kind, int(command.inside), slot)
        self._use += 1
        held.use = self._use
        first = slot * GRANT_NODES_MAX
        self._maps["grant_nodes"].update_many(_numbers(first, GRANT_NODES_MAX), _NO_NODES)
        self._maps["grant_slots"].update(_NUMBER.pack(slot), bytes(GRANT_SLOT.size))
        self._held[command.key] = held
        self._write(command.key, held)

    def _end(self, command: EndGrants) -> None:
        key = command.key
        held = self._held.pop(key, None)
        if held is None:
            return
        head = self._close(held.slot)
        self._maps["grants"].delete(VIRTUAL_SERVER_KEY.pack(*key.to_wire()))
        _, counts = self._slot(held.slot)
        self._counts[key] = _sum(self._counts.get(key, _NO_COUNTS), counts)
        self._resting.append((held.slot, self._clock()))
        self._report(GrantsEnded(key, held.generation, head))

    def _add(self, command: AddGrants) -> None:
        held = self._current(command.key, command.generation)
        if held is None:
            return
        for node in command.nodes:
            place = _NUMBER.pack(held.slot * GRANT_NODES_MAX + node.place)
            self._maps["grant_nodes"].update(place, _node(node))
        count = len(command.decisions) // DECISION_SIZE
        if count:
            places, values = _pack_decisions(held, command, count)
            self._maps["grant_rings"].update_many(places, values)
            held.tail = (held.tail + count) & (_CLOSED - 1)
            self._write(command.key, held)

    def _add_table(self, command: AddGrantTable) -> None:
        held = self._current(command.key, command.generation)
        if held is None:
            return
        end = command.first + len(command.entries)
        if end > GRANT_TABLE_MAX:
            return
        if len(held.table) < end:
            held.table.extend(bytes(end - len(held.table)))
        held.table[command.first : end] = command.entries
        first, last = command.first // GRANT_ENTRIES, (end - 1) // GRANT_ENTRIES
        octets = bytes(held.table[first * GRANT_ENTRIES : (last + 1) * GRANT_ENTRIES])
        octets += bytes(-len(octets) % GRANT_ENTRIES)
        base = held.slot * GRANT_TABLE_MAX // GRANT_ENTRIES
        self._maps["grant_tables"].update_many(_numbers(base + first, last - first + 1), octets)
        self._write(command.key, held)

    def _add_clients(self, command: AddGrantClients) -> None:
        held = self._current(command.key, command.generation)
        if held is None:
            return
        now, table = self._clock(), self._maps["grant_clients"]
        for address, node, seconds in command.clients:
            key = GRANTED_CLIENT_KEY.pack(address, held.use)
            table.try_update(key, GRANTED_CLIENT.pack(now + seconds * _NS_PER_S, node, 0))

    # --- slots ---------------------------------------------------------------------------------

    def _current(self, key: VirtualServerKey, generation: int) -> _Held | None:
        held = self._held.get(key)
        return held if held is not None and held.generation == generation else None

    def _write(self, key: VirtualServerKey, held: _Held) -> None:
        self._maps["grants"].update(VIRTUAL_SERVER_KEY.pack(*key.to_wire()), held.packed())

    def _free_slot(self) -> int | None:
        if not self._resting or self._resting[0][1] + REST_NS > self._clock():
            return None
        return self._resting.popleft()[0]

    def _slot(self, slot: int) -> tuple[int, GrantCounts]:
        raw = self._maps["grant_slots"].lookup(_NUMBER.pack(slot)) or bytes(GRANT_SLOT.size)
        head, _, *counts = GRANT_SLOT.unpack(raw)
        return head, GrantCounts._make(counts)

    def _close(self, slot: int) -> int:
        """Let nothing of a slot be taken any more; how many decisions were."""
        options = TestRunOptions.of(bytes(14) + _NUMBER.pack(slot) + bytes(46))
        return run_program(self._close_fd, options, "dfs_close_grants cannot be run")

    def _adopt(self) -> None:
        """What an earlier agent left."""
        used = set()
        for raw in list(self._maps["grants"].keys()):
            value = self._maps["grants"].lookup(raw)
            if value is None:
                continue
            slot, tail, table_size, group_id, kind, inside, generation, _, use = GRANTS.unpack(
                value
            )
            key = VirtualServerKey.from_wire(*VIRTUAL_SERVER_KEY.unpack(raw))
            held = _Held(group_id, generation, kind, inside, slot)
            held.tail, held.use, held.table = tail, use, bytearray(table_size)
            self._held[key] = held
            used.add(slot)
        self._resting.extend((slot, 0) for slot in range(GRANT_SLOTS) if slot not in used)


def _numbers(first: int, count: int) -> bytes:
    return struct.pack(f"={count}I", *range(first, first + count))


def _pack_decisions(held: _Held, command: AddGrants, count: int) -> tuple[bytes, bytes]:
    """Keys and values of `grant_rings`, octets of all at once, because there is one for every
    flow."""
    first = held.slot * GRANTED_MAX
    at = held.tail % GRANTED_MAX
    before_end = min(count, GRANTED_MAX - at)
    places = _numbers(first + at, before_end) + _numbers(first, count - before_end)
    serials = struct.pack(f"={count}I", *following_all(command.serial, count))
    given = command.decisions  # node and source port, both as the network has them
    values = bytearray(count * GRANTED.size)
    for octet in range(4):
        values[octet :: GRANTED.size] = serials[octet::DECISION_SIZE]
    values[4 :: GRANTED.size] = given[_NODE_LOW::DECISION_SIZE]
    values[5 :: GRANTED.size] = given[1 - _NODE_LOW :: DECISION_SIZE]
    values[6 :: GRANTED.size] = given[2::DECISION_SIZE]
    values[7 :: GRANTED.size] = given[3::DECISION_SIZE]
    return places, bytes(values)


def _node(node: GrantNode) -> bytes:
    translation = node.translation
    return GRANTED_NODE.pack(
        translation.node_ipaddr,
        translation.snat_ipaddr,
        translation.next_hop_ipaddr,
        htons(translation.node_port),
        node.flags,
        translation.idle_timeout,
        translation.forward_mode,
    )


def _sum(a: GrantCounts, b: GrantCounts) -> GrantCounts:
    return GrantCounts._make(map(sum, zip(a, b, strict=True)))

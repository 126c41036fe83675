# SPDX-License-Identifier: Apache-2.0
"""Which of an earlier program's maps this one can take over (docs/design/0005-upgrades.md).

Members are known by their names: one of the same name and type is copied, one that only the new map
has is zero, one that only the old map has may be dropped if it is zero in every entry.  Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from data_flow_segment.targets.bpf.btf import Shape


class Fate(Enum):
    """What becomes of a pinned map whose type or size is not the new program's."""

    MERGED = auto()
    """Copied while the old program runs; what changes until the new one runs is added after."""
    COPIED = auto()
    SUMMED = auto()
    """Counters, by their names."""
    RENEWED = auto()
    """Filled by the agent at its start, or empty: what it holds is worth nothing later."""


FATES: Final = {
    "flows": Fate.MERGED,
    "virtual_servers": Fate.COPIED,
    "addresses": Fate.COPIED,
    "local_addresses": Fate.RENEWED,
    "interfaces": Fate.RENEWED,
    "next_hops": Fate.RENEWED,
    "fragments": Fate.COPIED,
    "asleep": Fate.COPIED,
    "outgoing": Fate.COPIED,
    "node_places": Fate.COPIED,
    "meta": Fate.COPIED,
    "counters": Fate.SUMMED,
    "events": Fate.RENEWED,
    "reports": Fate.RENEWED,
    "cookies": Fate.COPIED,
    "controls": Fate.RENEWED,
    "control_groups": Fate.RENEWED,
    "windows": Fate.RENEWED,
    "sealed": Fate.RENEWED,
    "questions": Fate.RENEWED,
    "known_clients": Fate.RENEWED,
    "refused": Fate.RENEWED,
    "asked": Fate.RENEWED,
    "requests": Fate.COPIED,
    "renewed": Fate.RENEWED,
    "lingering": Fate.RENEWED,
    "opening": Fate.RENEWED,
    "grants": Fate.RENEWED,
    "grant_slots": Fate.RENEWED,
    "grant_rings": Fate.RENEWED,
    "grant_nodes": Fate.RENEWED,
    "grant_tables": Fate.RENEWED,
    "grant_clients": Fate.RENEWED,
    "leases": Fate.RENEWED,
}
"""Every map that is pinned."""

_DISPENSABLE: Final = frozenset({"asleep", "fragments", "outgoing", "requests"})
"""Begins empty where it cannot be copied: fragments live for seconds, of a flow that is asleep the
client may speak first, and what it asked for it asks again."""

_FIRST_COUNTERS: Final = (
    "FLOW_PACKETS", "PASSED", "LOCAL", "UP_CALLS", "ICMP_TRANSLATED", "ARP_ANSWERED",
    "DROP_MALFORMED", "DROP_CHECKSUM", "DROP_FRAGMENT", "DROP_TTL", "DROP_TOO_BIG",
    "DROP_NO_ROUTE", "DROP_NO_NEIGHBOUR", "DROP_FORWARDING_OFF", "DROP_INJECT_UNMATCHED",
    "DROP_UP_CALL_FULL", "DROP_UP_CALL_TOO_LONG", "DROP_DETACHED", "DROP_NO_ROOM", "EVENT_LOST",
)  # fmt: skip
"""Of programs whose BTF does not name them, up to version 0.1."""


class CannotCarryError(Exception):
    """An old map holds what the new one has no place for."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One map: as the kernel has it, or as a new program wants it."""

    kind: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    key: Shape | None  # None where the kernel has no BTF of it
    value: Shape | None
    counters: tuple[str, ...]  # the object's, in order

    @property
    def parameters(self) -> tuple[int, int, int, int, int]:
        return self.kind, self.key_size, self.value_size, self.max_entries, self.flags


@dataclass(frozen=True, slots=True)
class Plan:
    """How a new value is made of an old one: pieces, and members that must be zero."""

    size: int
    pieces: tuple[tuple[int, int, int], ...]  # offset in the new one, in the old one, octets
    dropped: tuple[tuple[str, int, int], ...]  # name, offset in the old one, octets


def counters_of(enumerators: dict[str, int]) -> tuple[str, ...]:
    """Their names in order, from the enumeration of the program."""
    names = sorted(enumerators, key=enumerators.__getitem__)
    known = tuple(n.removeprefix("COUNTER_") for n in names if n.startswith("COUNTER_"))
    return known or _FIRST_COUNTERS


def is_same(name: str, old: Facts, new: Facts) -> bool:
    """Whether the new program can use the old map as it is."""
    if old.parameters != new.parameters:
        return False
    if name == "counters":
        return old.counters == new.counters
    shapes = ((old.key, new.key), (old.value, new.value))
    return all(a is None or b is None or a == b for a, b in shapes)


def plan(name: str, old: Facts, new: Facts) -> Plan | None:
    """How to copy, None if the new map begins empty; raises CannotCarryError."""
    try:
        return _plan(name, old, new)
    except CannotCarryError:
        if name in _DISPENSABLE:
            return None
        raise


def _plan(name: str, old: Facts, new: Facts) -> Plan:
    if old.key_size != new.key_size or (old.key and new.key and old.key != new.key):
        raise CannotCarryError(f"map {name}: its key is another one")
    if old.value is None or new.value is None:
        if old.value_size != new.value_size:
            raise CannotCarryError(f"map {name}: the kernel has no BTF of it")
        return Plan(new.value_size, ((0, 0, new.value_size),), ())
    wanted = {member.name: member for member in new.value.members}
    pieces, dropped = [], []
    for member in old.value.members:
        into = wanted.get(member.name)
        if into is None:
            dropped.append((member.name, member.offset, member.size))
        elif into.type != member.type or into.size != member.size:
            raise CannotCarryError(
                f"map {name}: member {member.name} was {member.type}, this version has {into.type}"
            )
        else:
            pieces.append((into.offset, member.offset, member.size))
    return Plan(new.value_size, _joined(pieces), tuple(dropped))


def _joined(pieces: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Neighbours that stay neighbours are copied as one."""
    joined: list[tuple[int, int, int]] = []
    for to, at, size in sorted(pieces):
        if joined:
            last_to, last_at, last_size = joined[-1]
            if (last_to + last_size, last_at + last_size) == (to, at):
                joined[-1] = (last_to, last_at, last_size + size)
                continue
        joined.append((to, at, size))
    return tuple(joined)

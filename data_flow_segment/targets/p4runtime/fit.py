# SPDX-License-Identifier: Apache-2.0
"""Whether a program that was compiled for another switch is this program, as the agent uses it.

Its ids may differ, and its ports may have more bits.  Names, the order of fields and parameters,
and the widths of addresses may not: the agent writes values by their places.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from finsy.proto import p4i

_MAC_BITS: Final = 48
"""As wide as this and wider are addresses."""

_FLOWS: Final = "flows"


def misfit(ours: p4i.P4Info, theirs: p4i.P4Info) -> str | None:
    """The first thing that the agent needs and `theirs` lacks, as a part of a sentence."""
    return next(_misfits(ours, theirs), None)


def port_bits(info: p4i.P4Info) -> int:
    """How wide the numbers of its ports are."""
    return next(
        field.bitwidth
        for table in info.tables
        if _name(table) == "interfaces"
        for field in table.match_fields
        if field.name == "port"
    )


def _misfits(ours: p4i.P4Info, theirs: p4i.P4Info) -> Iterator[str]:
    for kind, wanted, given in (
        ("action", ours.actions, theirs.actions),
        ("table", ours.tables, theirs.tables),
        ("counter", ours.counters, theirs.counters),
        ("meter", ours.meters, theirs.meters),
        ("packet header", ours.controller_packet_metadata, theirs.controller_packet_metadata),
    ):
        present = {_name(each): each for each in given}
        for each in wanted:
            name = _name(each)
            if name not in present:
                yield f"it has no {kind} {name}"
                continue
            yield from _parts(f"{kind} {name}", each, present[name])


def _parts(what: str, ours: Any, theirs: Any) -> Iterator[str]:
    if isinstance(ours, p4i.Action):
        yield from _fields(what, "parameters", ours.params, theirs.params)
    elif isinstance(ours, p4i.ControllerPacketMetadata):
        yield from _fields(what, "fields", ours.metadata, theirs.metadata)
        if [field.id for field in ours.metadata] != [field.id for field in theirs.metadata]:
            yield f"{what} has other ids of its fields"
    elif isinstance(ours, p4i.Table):
        yield from _fields(what, "fields", ours.match_fields, theirs.match_fields)
        for one, other in zip(ours.match_fields, theirs.match_fields, strict=False):
            if one.match_type != other.match_type:
                yield f"{what} matches {one.name} in another way"
        if _name(ours) == _FLOWS and theirs.size < ours.size:
            yield f"{what} has room for {theirs.size} entries, and the agent needs {ours.size}"


def _fields(what: str, kind: str, ours: Iterable[Any], theirs: Iterable[Any]) -> Iterator[str]:
    wanted, given = ([(each.name, each.bitwidth) for each in side] for side in (ours, theirs))
    names = [name for name, _ in wanted]
    if names != [name for name, _ in given]:
        yield f"{what} has not the {kind} {', '.join(names)} in this order"
        return
    for (name, bits), (_, found) in zip(wanted, given, strict=True):
        if found < bits or (bits >= _MAC_BITS and found != bits):
            yield f"{what} has {name} with {found} bits instead of {bits}"


def _name(part: Any) -> str:
    name: str = part.preamble.name
    return name.rpartition(".")[2]

# SPDX-License-Identifier: Apache-2.0
"""A flow table full of living flows, made at once: as their agent would have entered them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_flow_segment.targets.bpf.flows import now_ns, pack_whole
from data_flow_segment.targets.bpf.layout import FLOW, FLOW_KEY
from data_flow_segment.targets.bpf.maps import Map
from data_flow_segment.targets.bpf.pinned import opened
from data_flow_segment.targets.bpf.sweep import FLOW_TYPE
from data_flow_segment.targets.contract import FlowEntry
from packets.parse import ACK, SYN
from ssmb.addresses import UNSPECIFIED, from_text
from ssmb.constants import Flag
from ssmb.messages import FlowSignature

FIRST_CLIENT = 11 << 24  # 11.0.0.0 and those behind it, a flow each
PORT = 40000
IDLE_S = 7200  # none of them ends while something is measured
PACKETS, OCTETS = 12, 4800  # of each direction
_BATCH = 65536


def entry(client: int, serial: int, vip: tuple[str, int], node: tuple[str, int]) -> FlowEntry:
    """The decision about one client's flow, in group 1."""
    flags = Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT | Flag.ROUTE_BY_DST_IP
    source = UNSPECIFIED[:10] + b"\xff\xff" + client.to_bytes(4, "big")
    signature = FlowSignature(source, from_text(vip[0]), PORT, vip[1], 6, 0)
    return FlowEntry(
        signature, serial, 1, int(flags), from_text(node[0]), UNSPECIFIED, node[1], 0,
        UNSPECIFIED, 0, 0, 0, IDLE_S, 0, 0, 0,
    )  # fmt: skip


def batches(
    count: int, vip: tuple[str, int], nodes: list[tuple[str, int]], now: int
) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of so many flows, both directions: the first ones go to the first node."""
    share = -(-count // len(nodes))
    for number, node in enumerate(nodes):
        packed = pack_whole(entry(FIRST_CLIENT, 0, vip, node), now)
        for first in range(number * share, min(count, (number + 1) * share), _BATCH):
            end = min(first + _BATCH, count, (number + 1) * share)
            yield from _batch(packed, first, end)


def _batch(packed: tuple[bytes, ...], first: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    home_key, home, back_key, back = packed
    clients = numpy.arange(FIRST_CLIENT + first, FIRST_CLIENT + end, dtype=">u4")
    octets = clients.view("u1").reshape(-1, 4)
    # The client is the source of its own packets, and the destination of its node's
    for key, value, at, is_home in ((back_key, back, 28, False), (home_key, home, 12, True)):
        keys = _repeated(key, len(octets), FLOW_KEY.size)
        values = _repeated(value, len(octets), FLOW.size)
        keys[:, at : at + 4] = values[:, at : at + 4] = octets
        typed = values.reshape(-1).view(FLOW_TYPE)
        typed["packets"], typed["octets"], typed["tcp_flags"] = PACKETS, OCTETS, SYN | ACK
        if is_home:
            typed["serial"] = numpy.arange(first + 1, end + 1, dtype="u4")
        yield keys.tobytes(), values.tobytes()


def _repeated(octets: bytes, count: int, size: int) -> Any:
    assert len(octets) == size
    return numpy.tile(numpy.frombuffer(octets, "u1"), (count, 1))


def fill(pins: Path, count: int, vip: tuple[str, int], nodes: list[tuple[str, int]]) -> None:
    """Enter them into the table that is pinned there, and that no agent looks after."""
    with opened(pins / "flows") as fd:
        table = Map("flows", fd, FLOW_KEY.size, FLOW.size)
        for keys, values in batches(count, vip, nodes, now_ns()):
            table.update_many(keys, values)

# SPDX-License-Identifier: Apache-2.0
"""Whatever a flow is, it comes back from the switch, and its rows say what becomes of packets."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from data_flow_segment.targets.contract import FlowEntry
from data_flow_segment.targets.p4runtime import entries
from data_flow_segment.targets.p4runtime.program import Program
from data_flow_segment.targets.p4runtime.schema import Row, octets
from data_flow_segment.targets.translation import inbound, returning
from packets.checksum import word_sum
from packets.parse import parse
from packets.rewrite import translate
from support.octets.packets import frame, segment
from support.targets.p4_rows import WORD, flow_entries, program_schema

MAC = "02:00:00:00:00:01"
INDEX = st.integers(0, (1 << 17) - 1).map(lambda place: 2 * place)


@given(flow_entries(), INDEX, WORD)
def test_a_flow_comes_back_from_its_inbound_row(entry: FlowEntry, index: int, cookie: int) -> None:
    schema = program_schema()
    there, back = entries.flow_rows(entry, index, cookie)
    read = schema.decode(schema.encode(there))
    assert read == there
    assert schema.decode(schema.encode(back)) == back
    assert entries.flow_of(read) == (entry, index, cookie)
    assert entries.flow_rows(*entries.flow_of(read)) == (there, back)
    assert back.match == entries.return_key(entry)


@given(flow_entries(), INDEX, WORD)
def test_every_value_is_canonical_and_fits(entry: FlowEntry, index: int, cookie: int) -> None:
    schema = program_schema()
    tables = {table.preamble.id: table for table in _p4info().tables}
    actions = {action.preamble.id: action for action in _p4info().actions}
    for row in entries.flow_rows(entry, index, cookie):
        encoded = schema.encode(row)
        widths = [field.bitwidth for field in tables[encoded.table_id].match_fields]
        widths += [p.bitwidth for p in actions[encoded.action.action.action_id].params]
        values = [match.exact.value for match in encoded.match]
        values += [parameter.value for parameter in encoded.action.action.params]
        assert len(values) == len(widths)
        for value, width in zip(values, widths, strict=True):
            assert value == octets(value)
            assert int.from_bytes(value, "big") < 1 << width


@given(flow_entries())
def test_the_rows_say_what_packets_become(entry: FlowEntry) -> None:
    """The new addresses and ports, and the difference they make to a checksum, are those of the
    memory target's translation of a packet with the row's key."""
    rows = entries.flow_rows(entry, 0, 1)
    for row, change in zip(rows, (inbound(entry), returning(entry)), strict=True):
        src, dst, src_port, dst_port, protocol = row.match
        packet = parse(
            frame(MAC, MAC, segment(_port(protocol), (_address(src), 0), (_address(dst), 0)))
        )
        struct.pack_into("!HH", packet.data, packet.l4, _port(src_port), _port(dst_port))
        before = packet.src + packet.dst + bytes(packet.data[packet.l4 : packet.l4 + 4])
        translate(packet, change)
        ports = bytes(packet.data[packet.l4 : packet.l4 + 4])
        new = _parameters(row)
        assert (new["new_src_addr"], new["new_dst_addr"]) == (packet.src, packet.dst)
        assert struct.pack("!HH", new["new_src_port"], new["new_dst_port"]) == ports
        difference = word_sum(packet.src + packet.dst + ports) - word_sum(before)
        assert (new["address_delta"] + new["port_delta"] - difference) % 0xFFFF == 0


def _parameters(row: Row) -> dict[str, Any]:
    names = program_schema().actions[row.action].parameters
    return dict(zip(names, row.parameters, strict=True))


def _p4info() -> Any:
    return Program.load().p4info


def _address(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


def _port(value: object) -> int:
    assert isinstance(value, int)
    return value

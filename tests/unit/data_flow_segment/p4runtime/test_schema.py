# SPDX-License-Identifier: Apache-2.0
"""Rows and P4Runtime's table entries."""

from __future__ import annotations

import pytest
from finsy.proto import p4i, p4r

from data_flow_segment.targets.p4runtime.schema import Row, Schema, SchemaError, Value, key, octets
from ssmb.addresses import from_text
from support.targets.p4_rows import program_schema

ADDRESS = from_text("10.1.0.2")
MAC = bytes.fromhex("00000000002a")

ROWS = {
    "an exact number": Row("next_hops", (7,), "forward", (1, MAC, MAC, 1500)),
    "an exact address": Row("neighbours", (ADDRESS,), "set_neighbour", (7,)),
    "no parameters": Row("local_addresses", (ADDRESS,), "own"),
    "a prefix": Row("routes", ((from_text("10.1.0.0"), 112),), "connected", (2,)),
    "no bits of a prefix": Row("routes", (None,), "via", (7,)),
    "ternary, all given": Row(
        "virtual_servers",
        ((ADDRESS, b"\xff" * 16), (80, 0xFFFF), 6, None),
        "set_server",
        (1, 0, 3, 1, 1),
        4,
    ),
    "ternary, none given": Row(
        "virtual_servers", (None, None, 17, (0, 1)), "set_server", (2, 1, 0, 0, 0), 1
    ),
    "the unspecified address": Row("tunnel_sources", (3,), "set_tunnel_source", (0, bytes(16))),
    "only a key": Row("neighbours", (ADDRESS,)),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_row_comes_back_from_its_entry(row: Row) -> None:
    schema = program_schema()
    assert schema.decode(schema.encode(row)) == row


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_an_update_carries_the_entry_of_its_row(row: Row) -> None:
    schema = program_schema()
    update = schema.update("MODIFY", row)
    assert update.type == p4r.Update.MODIFY
    assert update.entity.table_entry == schema.encode(row)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, b"\0"),
        (1, b"\1"),
        (255, b"\xff"),
        (256, b"\1\0"),
        (bytes(16), b"\0"),
        (MAC, b"\x2a"),
        (ADDRESS, ADDRESS[10:]),
    ],
)
def test_values_are_canonical(value: Value, expected: bytes) -> None:
    assert octets(value) == expected


def test_one_rows_values_do_not_stay_in_the_next() -> None:
    schema = program_schema()
    first = Row("neighbours", (ADDRESS,), "set_neighbour", (7,), 0, 5)
    second = Row("neighbours", (bytes(16),), "set_neighbour", (8,))
    kept = schema.encode(first)
    assert schema.decode(schema.encode(second)) == second
    assert schema.decode(kept) == first


def test_a_flows_entry_is_as_p4runtime_wants_it() -> None:
    session = (ADDRESS, from_text("10.1.0.1"), 40000, 80, 6)
    entry = program_schema().encode(Row("flows", session, idle_timeout_ns=300 * 10**9))
    expected = p4r.TableEntry(table_id=0x02000005, idle_timeout_ns=300 * 10**9)
    values = (ADDRESS[10:], from_text("10.1.0.1")[10:], b"\x9c\x40", b"\x50", b"\x06")
    for number, value in enumerate(values, 1):
        expected.match.add(field_id=number).exact.value = value
    assert entry == expected


def test_what_matches_everything_is_left_out() -> None:
    schema = program_schema()
    assert not schema.encode(Row("routes", ((bytes(16), 0),))).match
    entry = schema.encode(Row("virtual_servers", ((bytes(16), bytes(16)), (0, 0), 6, None)))
    assert [match.field_id for match in entry.match] == [3]


def test_a_row_with_a_parameter_too_few_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="shorter"):
        program_schema().encode(Row("next_hops", (7,), "forward", (1, MAC, MAC)))


@pytest.mark.parametrize(
    "entry",
    [
        p4r.TableEntry(table_id=0x0200FFFF),
        p4r.TableEntry(
            table_id=0x02000007, action=p4r.TableAction(action=p4r.Action(action_id=0x0100FFFF))
        ),
        p4r.TableEntry(table_id=0x02000007, match=[p4r.FieldMatch(field_id=9)]),
        p4r.TableEntry(
            table_id=0x02000007,
            action=p4r.TableAction(
                action=p4r.Action(action_id=0x0100000C, params=[p4r.Action.Param(param_id=9)])
            ),
        ),
    ],
    ids=["table", "action", "field", "parameter"],
)
def test_an_entry_of_another_program_is_an_error(entry: p4r.TableEntry) -> None:
    with pytest.raises(SchemaError):
        program_schema().decode(entry)


def test_ids_are_read_from_the_p4info() -> None:
    info = p4i.P4Info()
    table = info.tables.add(preamble=p4i.Preamble(id=5, name="a.b.things"), size=9)
    table.match_fields.add(id=3, name="x", bitwidth=8, match_type=p4i.MatchField.EXACT)
    info.counters.add(preamble=p4i.Preamble(id=6, name="a.drops"))
    info.meters.add(preamble=p4i.Preamble(id=7, name="a.rate"))
    schema = Schema(info)
    assert schema.encode(Row("things", (4,))).match[0].field_id == 3
    assert schema.size("things") == 9
    assert schema.meters == {"rate": 7}
    assert schema.whole_table("things").table_entry == p4r.TableEntry(table_id=5)
    assert schema.whole_counter("drops").counter_entry.counter_id == 6


def test_a_key_leaves_out_what_an_update_may_change() -> None:
    row = ROWS["ternary, all given"]
    assert key(row) == key(row._replace(parameters=(9, 9, 9, 9, 9)))
    assert key(row) != key(row._replace(priority=3))

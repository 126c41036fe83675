# SPDX-License-Identifier: Apache-2.0
"""What a CS keeps over its restart: what is written is read again, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin.state import MAGIC, Kind, Section, State, StateError, decode, encode
from control_segment.config import ControlSegmentConfig
from control_segment.persistence import SourceAddressPersistence
from ssmb.addresses import from_text, to_text
from support.segments.dfs_double import Rig, changed_server, config

WALL = 1_790_000_000.0
SECTIONS = [
    Section(Kind.PERSISTENCE, "group shop", 38, bytes(76)),
    Section(77, "of a later release", 5, b"12345" * 3),
    Section(Kind.PERSISTENCE, "virtual server * 80 tcp", 38, bytes(38)),
]
FILE = b"".join(encode(1, WALL, SECTIONS))


def test_what_was_written_is_read_again() -> None:
    assert decode(FILE, 1) == State(WALL, SECTIONS)
    assert decode(b"".join(encode(9, 0.0, [])), 9) == State(0.0, [])


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (b"", "no state file"),
        (b"pools:\n  - name: web\n", "no state file"),
        (MAGIC, "no state file"),
        (FILE[:40], "cut off"),
        (FILE[:-1], "cut off"),
        (FILE + b"\0", "goes on behind its end"),
        (FILE[:60] + b"x" + FILE[61:], "checksum"),
        (FILE[:16] + b"\0\2" + FILE[18:], "version 2, and this release reads version 1"),
        (b"".join(encode(2, WALL, SECTIONS)), "that of segment 2, and this is segment 1"),
        (b"".join(encode(1, float("nan"), SECTIONS)), "its time is none"),
        (b"".join(encode(1, float("inf"), SECTIONS)), "its time is none"),
        (b"".join(encode(1, -1.0, SECTIONS)), "its time is none"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(octets: bytes, message: str) -> None:
    with pytest.raises(StateError, match=message):
        decode(octets, 1)


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_no_octet_can_change_unnoticed(at: int, change: int) -> None:
    damaged = FILE[:at] + bytes([FILE[at] ^ change]) + FILE[at + 1 :]
    with pytest.raises(StateError):
        decode(damaged, 1)


@given(st.integers(0, len(FILE) - 1))
def test_no_part_of_a_file_is_taken_for_the_whole(length: int) -> None:
    with pytest.raises(StateError):
        decode(FILE[:length], 1)


@given(st.binary(max_size=200))
def test_any_octets_are_a_state_or_an_error(octets: bytes) -> None:
    for file in (octets, FILE[:28] + octets):
        with pytest.raises(StateError):
            decode(file, 1)


# --- persistence --------------------------------------------------------------------------------


def persistent(**persistence: object) -> ControlSegmentConfig:
    given_ = {"kind": "source_address", "timeout_s": 100, **persistence}
    return config(virtual_servers=changed_server(persistence=given_))


def kept(rig: Rig, wall_now: float) -> list[Section]:
    octets = b"".join(encode(1, wall_now, rig.cs.model.persistence.sections(rig.now, wall_now)))
    return decode(octets, 1).sections


def nodes_of(rig: Rig, clients: range, port: int) -> list[str]:
    nodes = []
    for number in clients:
        reply = rig.dfs.query(rig, client=from_text(f"198.51.100.{number}"), port=port)
        assert reply is not None
        nodes.append(to_text(reply.node_ipaddr))
    return nodes


def test_clients_get_their_nodes_again_after_a_restart() -> None:
    clients = range(1, 21)
    rig = Rig(persistent())
    before = nodes_of(rig, clients, 1)
    assert len(set(before)) == 3
    sections = kept(rig, WALL)
    other = Rig(persistent(), boot_id=2)
    other.now = other.now + 77_000  # another process, another clock
    assert other.cs.model.persistence.restore(sections, other.now, WALL + 60) == 20
    assert nodes_of(other, clients, 2) == before


def test_what_is_too_old_or_not_configured_is_not_taken() -> None:
    rig = Rig(persistent())
    nodes_of(rig, range(1, 6), 1)
    rig.advance(50)
    nodes_of(rig, range(3, 4), 2)
    sections = kept(rig, WALL)
    later = Rig(persistent(), boot_id=2)
    assert later.cs.model.persistence.restore(sections, later.now, WALL + 60) == 1
    assert Rig(persistent(group="shop")).cs.model.persistence.restore(sections, 0.0, WALL) == 0
    odd = [section._replace(record_size=19) for section in sections]
    assert Rig(persistent()).cs.model.persistence.restore(odd, 0.0, WALL) == 0


def test_a_clock_that_was_set_back_makes_no_client_older_or_immortal() -> None:
    rig = Rig(persistent())
    before = nodes_of(rig, range(1, 4), 1)
    sections = kept(rig, WALL)
    other = Rig(persistent(), boot_id=2)
    assert other.cs.model.persistence.restore(sections, other.now, WALL - 86_400) == 3
    assert nodes_of(other, range(1, 4), 2) == before
    other.advance(101)
    assert kept(other, WALL) == []


def test_a_table_that_changes_while_it_is_written_is_written_without_a_mistake() -> None:
    rig = Rig(persistent())
    table = rig.cs.model.persistence.by_name["virtual server 203.0.113.10 80 tcp"]
    place = from_text("10.1.1.2"), 8080
    for number in range(2500):
        table.remember(number.to_bytes(16, "big"), place, rig.now)
    sections = rig.cs.model.persistence.sections(rig.now, WALL)
    clients: set[bytes] = set()
    for section in sections:
        assert len(section.records) <= 1000 * section.record_size
        clients |= {section.records[at : at + 16] for at in range(0, len(section.records), 38)}
        for number in range(2000, 4000):  # some are seen again, others are new
            table.remember(number.to_bytes(16, "big"), place, rig.now)
    assert clients >= {number.to_bytes(16, "big") for number in range(2500)}


def test_each_table_gives_its_latest_clients_if_all_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("control_segment.persistence_tables._KEPT_MAX", 1000)
    rig = Rig(persistent())
    (table,) = rig.cs.model.persistence.by_name.values()
    place = from_text("10.1.1.2"), 8080
    for number in range(20_000):
        table.remember(number.to_bytes(16, "big"), place, rig.now + number / 1000)
    rig.advance(20)
    records = b"".join(section.records for section in kept(rig, WALL))
    clients = [int.from_bytes(records[at : at + 16], "big") for at in range(0, len(records), 38)]
    assert 1000 <= len(clients) <= 1064  # rounded up in each of 64 parts
    # 16 of each part are the latest of some 1,024 clients.  Each process hashes anew: of one part
    # they are the latest of 1,500 once in a thousand runs, and of 6,400 never.
    assert min(clients) > 20_000 - 6_400


def test_a_full_table_forgets_those_that_were_seen_least_recently() -> None:
    table = SourceAddressPersistence(100, 2)
    place = from_text("10.1.1.2"), 8080
    for client in (b"a", b"b", b"a", b"c"):
        table.remember(client, place, 1.0)
    assert [client for client in (b"a", b"b", b"c") if table.find(client, 1.0)] == [b"a", b"c"]
    large = SourceAddressPersistence(100)
    for number in range(300_000):
        large.remember(number.to_bytes(16, "big"), place, 1.0)
    assert 250_000 < len(large) <= 1 << 18
    assert all(large.find(number.to_bytes(16, "big"), 1.0) for number in range(299_000, 300_000))

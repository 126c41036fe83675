# SPDX-License-Identifier: Apache-2.0
"""Tables of the program that hold what this host has: no number of it ends the agent."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_flow_segment.targets.bpf.libbpf import library
from data_flow_segment.targets.bpf.maps import Map, Mirror
from data_flow_segment.targets.bpf.pinned import pinned_maps
from support.require import require
from support.targets.veth_rig import missing_for_bpf

pytestmark = pytest.mark.dataplane

ADDRESSES = 4200  # more than an earlier program's table held
INTERFACES = 1100  # likewise


def batch(ground: Any, path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines))
    ground.ip("-batch", str(path))


def mapped(number: int) -> bytes:
    """198.18.0.0/15 address of a number."""
    return bytes(10) + b"\xff\xff" + (0xC6120000 + number).to_bytes(4, "big")


def add_addresses(ground: Any, path: Path, first: int, last: int) -> None:
    texts = (socket.inet_ntoa(mapped(number)[12:]) for number in range(first, last))
    batch(ground, path, [f"address add {text}/32 dev ext0" for text in texts])


def test_thousands_of_addresses_come_while_the_agent_runs(ground: Any, tmp_path: Path) -> None:
    target = ground.open()
    add_addresses(ground, tmp_path / "lines", 0, ADDRESSES)
    deadline = time.monotonic() + 60
    table = target._program.local_addresses.table
    while table.lookup(mapped(ADDRESSES - 1)) is None:
        assert time.monotonic() < deadline
        target.sweep(8, stats=False)
        time.sleep(0.05)
    assert all(table.lookup(mapped(number)) for number in range(ADDRESSES))
    ground.close(target, detach=False)
    assert ground.open().adopted


def test_a_thousand_interfaces_with_addresses_are_no_reason_not_to_start(
    ground: Any, tmp_path: Path
) -> None:
    lines = []
    for number in range(0, INTERFACES, 2):
        names = f"many{number}", f"many{number + 1}"
        lines.append(f"link add {names[0]} type veth peer name {names[1]}")
        for index, name in enumerate(names, number):
            text = socket.inet_ntoa(mapped(index)[12:])
            lines.append(f"address add {text}/32 dev {name}")
    batch(ground, tmp_path / "lines", lines)
    target = ground.open()
    table = target._program.interfaces.table
    assert len(list(table.keys())) >= INTERFACES
    assert table.lookup(socket.if_nametoindex("ext0").to_bytes(4, "little"))


def test_the_tables_are_sized_by_what_is_there_and_stay_while_that_fits(ground: Any) -> None:
    from data_flow_segment.targets.bpf.options import ARTIFACT
    from data_flow_segment.targets.bpf.program import Program

    def entries(present: int) -> int:
        ground.pin_path.mkdir(parents=True, exist_ok=True)
        program = Program(ARTIFACT, ground.pin_path, 64, {"local_addresses": present})
        if program.is_upgrading:
            program.finish_upgrade()
        program.close()
        return pinned_maps(ground.pin_path)["local_addresses"].max_entries

    small = entries(10)
    large = entries(200_000)
    assert small < 200_000 < large
    assert entries(large // 2) == large
    assert entries(10) == large


@pytest.fixture
def small_map() -> Iterator[Mirror]:
    require("dataplane", missing_for_bpf())
    fd = library().bpf_map_create(1, b"small", 4, 4, 3, None)  # a hash of three
    assert fd >= 0
    try:
        yield Mirror(Map("small", fd, 4, 4))
    finally:
        os.close(fd)


def elements(*numbers: int) -> dict[bytes, bytes]:
    return {number.to_bytes(4, "big"): b"\1\0\0\0" for number in numbers}


def test_what_finds_no_room_is_left_out_and_enters_as_soon_as_there_is_some(
    small_map: Mirror,
) -> None:
    assert small_map.replace_all(elements(1, 2, 3, 4, 5)) == 2
    assert set(small_map.table.keys()) == set(elements(1, 2, 3))
    assert small_map.replace_all(elements(2, 3, 4, 5)) == 1
    assert set(small_map.table.keys()) == set(elements(2, 3, 4))
    assert small_map.replace_all(elements(4, 5)) == 0
    assert set(small_map.table.keys()) == set(elements(4, 5))


def test_what_an_earlier_agent_left_in_a_table_goes(small_map: Mirror) -> None:
    small_map.table.update(*next(iter(elements(9).items())))
    assert small_map.replace_all(elements(1)) == 0
    assert set(small_map.table.keys()) == set(elements(1))

# SPDX-License-Identifier: Apache-2.0
"""What a CS announces in every combination of versions (wire protocol 7.7, 7.8)."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from admin.quiet_log import INTERVAL_S, LINES
from control_segment.announcements import Versions, refusal, virtual_server_list
from control_segment.runtime import admin
from csmb.codec import encode
from csmb.constants import CSMB_MSG_MAX, ErrorCode, Flag
from csmb.messages import Ack, AddVs, VsEntry, VsList
from csmb.versions import Versions as VersionSet
from ssmb.addresses import from_text
from support.segments.dfs_double import CONFIG, DfsDouble, Rig, changed_server, config

SETS: dict[int, VersionSet] = {1: ((1, 0),), 2: ((1, 0), (2, 0))}
COMBINATIONS = list(product((1, 2), (1, 2)))
MANY = [1, 27, 28, 29, 50, 51, 200]


POOLS = [
    *CONFIG["pools"],
    {"name": "web6", "nodes": [{"name": "web1", "address": "fd00::2", "port": 8080}]},
]


def servers(count: int, address: str = "203.0.113.10") -> list[Any]:
    template = {**CONFIG["virtual_servers"][0], "pool": "web6" if ":" in address else "web"}
    return [
        {**template, "name": f"{address}-{port}", "address": address, "port": port}
        for port in range(1, count + 1)
    ]


def announced(dfs: DfsDouble) -> list[VsEntry]:
    lists = [message for message in dfs.csmb if isinstance(message, VsList)]
    assert all(message.flags & Flag.MORE for message in lists[:-1])
    entries = [entry for message in lists for entry in message.entries]
    assert {message.vs_total for message in lists} == {len(entries)}
    return entries


def joined(csmb: int, ssmb: int, virtual_servers: list[Any]) -> Rig:
    dfs = DfsDouble(csmb_versions=SETS[csmb], ssmb_versions=SETS[ssmb])
    return Rig(config(pools=POOLS, virtual_servers=virtual_servers), dfs)


@pytest.mark.parametrize("count", MANY)
@pytest.mark.parametrize(("csmb", "ssmb"), COMBINATIONS)
def test_every_ipv4_virtual_server_is_announced_in_every_combination_of_versions(
    csmb: int, ssmb: int, count: int
) -> None:
    rig = joined(csmb, ssmb, servers(count))
    assert rig.cs.connections.links[0].is_ready
    assert [entry.virt_port for entry in announced(rig.dfs)] == list(range(1, count + 1))
    assert not any("not announced" in line for line in rig.cs.log)


@pytest.mark.parametrize(("csmb", "ssmb"), COMBINATIONS)
def test_the_lists_fill_their_messages_as_the_version_that_writes_them_counts(
    csmb: int, ssmb: int
) -> None:
    entries = [AddVs(virt_ipaddr=from_text("203.0.113.10"), virt_port=port) for port in range(100)]
    lists = list(virtual_server_list(entries, Versions(csmb, ssmb)))
    sizes = [len(encode(message, csmb, 1, 1)) for message in lists]
    assert max(sizes) <= CSMB_MSG_MAX
    one_more = 28 if csmb == 1 else 52
    assert all(size + one_more > CSMB_MSG_MAX for size in sizes[:-1])


@pytest.mark.parametrize(("csmb", "ssmb"), COMBINATIONS)
def test_a_combination_that_loses_virtual_servers_is_said_in_log_and_status(
    csmb: int, ssmb: int
) -> None:
    rig = joined(csmb, ssmb, [*servers(3), *servers(5, "2001:db8::10")])
    carried = (csmb, ssmb) == (2, 2)
    assert len(announced(rig.dfs)) == (8 if carried else 3)
    said = [line for line in rig.cs.log if "not announced" in line]
    assert len(said) == (0 if carried else 1)
    if said:
        assert "5 IPv6 virtual servers" in said[0]
        assert "[2001:db8::10]:1" in said[0]
        assert f"CSMB {csmb} with SSMB {ssmb}" in said[0]
    status: Any = admin.handle(rig.cs, "status", {}, rig.now)
    assert status.data_flow_segments[0].virtual_servers_withheld == (0 if carried else 5)
    assert status.data_flow_segments[0].csmb_version == csmb


def test_a_reload_that_adds_what_is_not_carried_says_so_and_sends_the_rest() -> None:
    rig = joined(2, 1, changed_server())
    rig.cs.log.clear()
    rig.dfs.csmb.clear()
    new = config(
        pools=POOLS, virtual_servers=[*changed_server(), *servers(1, "2001:db8::10"), *servers(1)]
    )
    rig.cs.apply_config(new, rig.now)
    rig.settle()
    added = [message for message in rig.dfs.csmb if isinstance(message, AddVs)]
    assert [message.virt_port for message in added] == [1]
    assert [line for line in rig.cs.log if "1 IPv6 virtual servers are not announced" in line]
    rig.cs.log.clear()
    rig.cs.apply_config(config(pools=POOLS), rig.now)
    assert not any("not announced" in line for line in rig.cs.log)
    assert rig.cs.connections.links[0].withheld == 0


def test_a_reload_says_which_virtual_servers_it_added_and_removed() -> None:
    rig = joined(2, 2, servers(5))
    rig.cs.log.clear()
    rig.cs.apply_config(config(pools=POOLS, virtual_servers=servers(5)), rig.now)
    assert rig.cs.log == []
    several = [*servers(1), *servers(1, "2001:db8::10")]
    rig.cs.apply_config(config(pools=POOLS, virtual_servers=several), rig.now)
    (line,) = rig.cs.log
    address = servers(1)[0]["address"]
    removed = ", ".join(f"{address}:{port}" for port in (2, 3, 4))
    assert line == (
        f"virtual servers: 4 removed ({removed}, ...), 1 added ([2001:db8::10]:1); now 2"
    )


@pytest.mark.parametrize(
    ("kind", "code", "says"),
    [
        (6, ErrorCode.BADFLAGS, "refused ADD_VS: BADFLAGS"),
        (99, ErrorCode.UNSUPPORTED, "refused 99: UNSUPPORTED"),
        (8, 999, "refused VS_LIST: error 999"),
    ],
)
def test_what_a_dfs_refuses_is_named_whatever_it_says(kind: int, code: int, says: str) -> None:
    """Of a later release, it may know types and codes that this one does not."""
    assert refusal(Ack(0, code, kind, 1, 1)) == says


def test_a_refusal_is_in_the_log() -> None:
    rig = Rig(config())
    rig.dfs.connection.send(Ack(0, ErrorCode.BADFLAGS, 6, 1, 1), rig.now)
    rig.settle()
    assert rig.cs.log[-1].endswith("refused ADD_VS: BADFLAGS")


def test_refusals_without_end_do_not_fill_the_log() -> None:
    rig = Rig(config())
    before = len(rig.cs.log)
    for _ in range(1000):
        rig.dfs.connection.send(Ack(0, ErrorCode.BADFLAGS, 6, 1, 1), rig.now)
    rig.settle()
    assert len(rig.cs.log) - before == LINES
    rig.advance(INTERVAL_S)
    assert any(line.startswith("990 more lines like these") for line in rig.cs.log)

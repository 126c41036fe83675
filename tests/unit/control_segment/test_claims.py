# SPDX-License-Identifier: Apache-2.0
"""Two DFSs with one segment_id, or one SSMB address: the living one keeps both (7.7, rule 13)."""

from __future__ import annotations

from typing import Any

import pytest

from csmb.constants import ErrorCode
from csmb.events import Closed
from csmb.probes import PROBE_WAIT_S
from ssmb.addresses import from_text
from support.segments.dfs_double import DfsDouble, Rig, config

ADDRESSES = ("10.255.0.1", "10.255.0.2", "10.255.0.3")
CLONE: dict[str, Any] = {"segment_id": 256, "boot_id": 8, "address": "10.255.0.2"}
SQUATTER: dict[str, Any] = {"segment_id": 257, "boot_id": 9, "address": "10.255.0.1"}
CASES = pytest.mark.parametrize(
    ("second", "code", "what"),
    [
        (CLONE, ErrorCode.DUPID, "segment_id 256"),
        (SQUATTER, ErrorCode.DUPADDR, "SSMB address 10.255.0.1 port 61019"),
    ],
    ids=["segment_id", "address"],
)


class Claimant(DfsDouble):
    """A DFS double that keeps the reason of its connection's end."""

    ended: Closed | None = None

    def exchange(self, rig: Rig) -> bool:
        busy = super().exchange(rig)
        if self.connection.is_closed and self.ended is None:
            while event := self.connection.next_event():
                if isinstance(event, Closed):
                    self.ended = event
        return busy


def rig_with_one() -> Rig:
    listed = [{"address": address} for address in ADDRESSES]
    return Rig(config(data_flow_segments=listed), Claimant(0))


def join(rig: Rig, index: int, **settings: Any) -> Claimant:
    dfs = Claimant(index, **settings)
    rig.dfss.append(dfs)
    dfs.connect(rig)
    return dfs


def silent(rig: Rig, dfs: DfsDouble) -> None:
    """Its machine is gone; the CS's connection to it stands."""
    rig.dfss.remove(dfs)


def readiness(rig: Rig) -> list[bool]:
    return [link.is_ready for link in rig.cs.connections.links]


@CASES
def test_a_second_dfs_is_refused_with_a_reason_in_both_logs_and_the_first_is_served_on(
    second: dict[str, Any], code: ErrorCode, what: str
) -> None:
    rig = rig_with_one()
    first = rig.dfs
    sessions = rig.cs.peers[256].sessions_since
    other = join(rig, 1, **second)
    assert other.ended is not None
    assert other.ended.error_code == code
    assert other.ended.reason.startswith(f"the CS refused the connection: {code.name} (another ")
    refused = f"DFS 10.255.0.2 port 61019: refused: its {what} is that of 10.255.0.1 port 61019"
    assert rig.cs.log[-1] == refused
    assert readiness(rig) == [True, False, False]
    assert rig.cs.statistics.drops["dfs_refused"] == 1
    assert rig.cs.statistics.drops["stream_unproved"] == 0
    rig.dfss.remove(other)
    assert first.query(rig) is not None
    assert rig.cs.peers[256].boot_id == 7
    assert rig.cs.peers[256].sessions_since == sessions
    assert (257 in rig.cs.peers) is False
    assert other.reconnect_s is not None
    assert other.reconnect_s >= 1  # and then ever slower


@CASES
def test_however_often_the_second_comes_the_first_never_waits(
    second: dict[str, Any], code: ErrorCode, what: str
) -> None:
    rig = rig_with_one()
    for number in range(1, 20):
        other = join(rig, 1, **second)
        assert other.ended is not None
        rig.dfss.remove(other)
        assert rig.dfs.query(rig, port=number) is not None
        rig.advance(1.0)
    assert rig.cs.statistics.drops["bad_seal"] == 0
    assert rig.cs.statistics.drops["dfs_refused"] == 19


@CASES
def test_one_whose_machine_is_gone_gives_up_its_place_after_a_second(
    second: dict[str, Any], code: ErrorCode, what: str
) -> None:
    """It was started again elsewhere, or its address was given to another one."""
    rig = rig_with_one()
    silent(rig, rig.dfs)
    other = join(rig, 1, **second)
    assert readiness(rig) == [True, False, False]  # it is asked
    rig.advance(PROBE_WAIT_S + 0.1)
    assert other.ended is None
    assert readiness(rig)[1]
    assert rig.cs.connections.is_closing(0)
    assert rig.cs.connections.stream_received(0, b"", rig.now) is not None
    assert rig.cs.log[-1].endswith(f"no answer, and another DFS has its {what}")
    assert other.query(rig) is not None
    assert rig.cs.peers[other.segment_id].is_connected
    assert rig.cs.connections.links[1].is_configured


def test_one_that_has_left_properly_is_not_waited_for() -> None:
    rig = rig_with_one()
    rig.dfs.disconnect(rig)
    rig.dfss.clear()
    other = join(rig, 1, **CLONE)
    assert other.query(rig) is not None


def test_the_holder_that_ends_while_it_is_asked_is_not_waited_for_either() -> None:
    rig = rig_with_one()
    first = rig.dfs
    silent(rig, first)
    other = join(rig, 1, **CLONE)
    first.disconnect(rig)
    rig.cs.handle_timer(rig.now)
    rig.settle()
    assert other.query(rig) is not None


def test_of_two_that_claim_the_place_of_a_dead_one_one_gets_it() -> None:
    rig = rig_with_one()
    silent(rig, rig.dfs)
    second = join(rig, 1, **CLONE)
    third = join(rig, 2, **{**CLONE, "boot_id": 9, "address": "10.255.0.3"})
    rig.advance(2 * PROBE_WAIT_S + 0.1)
    assert [dfs.ended is None for dfs in (second, third)] == [True, False]
    assert third.ended is not None
    assert third.ended.error_code == ErrorCode.DUPID
    assert second.query(rig) is not None


def test_a_dfs_that_moves_to_the_address_of_another_is_refused() -> None:
    rig = rig_with_one()
    other = join(rig, 1, segment_id=257, boot_id=9, address="10.255.0.2")
    assert other.query(rig, port=1) is not None
    moved = other.settings.hello(((2, 0), (2, 0)), error_code=0, active=False, role_epoch=0)
    hello = moved._replace(
        ssmb_ipaddr=from_text("10.255.0.1"), group_id=rig.cs.config.group_id, hello_interval=5
    )
    other.connection._actions.put(hello)
    rig.settle()
    assert other.ended is not None
    assert other.ended.error_code == ErrorCode.DUPADDR
    assert rig.dfs.query(rig) is not None


def test_the_second_connection_of_one_dfs_claims_nothing() -> None:
    rig = rig_with_one()
    rig.dfs.address = ("nowhere", 0)
    second = Claimant(1)
    second._keys = rig.dfs._keys
    rig.dfss.append(second)
    second.connect(rig)
    assert readiness(rig) == [True, True, False]
    assert second.query(rig) is not None

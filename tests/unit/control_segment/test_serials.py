# SPDX-License-Identifier: Apache-2.0
"""Serials that no DFS gives are not answered, and are counted (wire protocol 6.7)."""

from __future__ import annotations

import pytest

from ssmb.constants import Flag, MessageType
from ssmb.messages import AppQuery, FlowState, Message, Query, Reply
from ssmb.serials import CS_ORIGINATED
from support.segments.dfs_double import CLIENT, SERVER, DfsDouble, Rig

WRONG = [0, CS_ORIGINATED, CS_ORIGINATED | 1, 0xFFFF_FFFF]
RIGHT = [1, 0x7FFF_FFFF]
VERSIONS = pytest.mark.parametrize("versions", [((1, 0),), ((1, 0), (2, 0))], ids=["v1", "v2"])
KINDS = pytest.mark.parametrize("kind", ["plain", "parked", "outbound", "application data"])


def question(kind: str, serial: int) -> Message:
    signature = (CLIENT, SERVER, 40000, 80, 6, 0)
    if kind == "application data":
        return AppQuery(0, 0, serial, *signature, 2, 0, 0, b"SID")
    flags = {"outbound": int(Flag.OUTBOUND), "parked": int(Flag.PARKED)}.get(kind, 0)
    return Query(0, flags, serial, *signature, 2, 0, 0, b"frame" if kind == "parked" else b"")


@VERSIONS
@KINDS
@pytest.mark.parametrize("serial", WRONG)
def test_a_query_with_a_serial_that_no_dfs_gives_is_counted_and_not_answered(
    versions: tuple[tuple[int, int], ...], kind: str, serial: int
) -> None:
    rig = Rig(None, DfsDouble(ssmb_versions=versions))
    assert rig.dfs.tell(rig, question(kind, serial)) == []
    assert rig.cs.statistics.drops["invalid_serial"] == 1
    assert len(rig.cs.table) == 0


@VERSIONS
@KINDS
@pytest.mark.parametrize("serial", RIGHT)
def test_any_other_is_answered(
    versions: tuple[tuple[int, int], ...], kind: str, serial: int
) -> None:
    rig = Rig(None, DfsDouble(ssmb_versions=versions))
    (reply,) = rig.dfs.tell(rig, question(kind, serial))
    assert isinstance(reply, Reply)
    assert reply.serial == serial
    assert rig.cs.statistics.drops["invalid_serial"] == 0


@pytest.mark.parametrize("serial", [0, CS_ORIGINATED | 1])
def test_a_report_of_a_flow_without_a_serial_is_counted_and_not_taken(serial: int) -> None:
    """One that a CS began is."""
    rig = Rig()
    rig.dfs.flows = [FlowState(0, 0, serial, CLIENT, SERVER, 40000, 80, 6)]
    rig.cs.order_sync(rig.now)
    rig.settle()
    assert rig.cs.statistics.received[MessageType.FLOW_STATE] >= 1
    assert len(rig.cs.table) == (1 if serial else 0)
    assert bool(rig.cs.statistics.drops["invalid_serial"]) is not bool(serial)

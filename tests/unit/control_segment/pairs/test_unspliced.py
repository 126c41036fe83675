# SPDX-License-Identifier: Apache-2.0
"""A flow that will be spliced goes to the others of its team when its offsets are known (wire
protocol 15.5): the CS hears of them, or asks."""

from __future__ import annotations

from typing import Any

from control_segment.pairs.unspliced import ASK_S, TRIES
from ssmb.constants import CloseReason, ErrorCode, Flag
from ssmb.messages import Delete, FlowState, Message, NewFlow, Reply, Stats, Timeout
from support.segments.content_rig import RULES, ContentRig, content_config, proxying
from support.segments.dfs_double import DfsDouble

OFFSETS: dict[str, Any] = {"seq_offset": 0, "ack_offset": 77, "ts_offset": 5, "wscale_shift": -1}
SPLICED = int(Flag.ADD_TCP_OFFSETS | Flag.ADDR16)


def team_rig() -> ContentRig:
    dfss = [proxying(index=n, segment_id=256 + n, address=f"10.255.0.{101 + n}") for n in (0, 1)]
    made = content_config(rules=RULES)
    members = [{"address": dfs.address[0], "pair": "edge"} for dfs in dfss]
    settings = made.settings.model_dump() | {"grants": False}
    made = type(made).model_validate(
        made.model_dump() | {"data_flow_segments": members, "settings": settings}
    )
    rig = ContentRig(made, *dfss)
    rig.settle()
    rig.advance(1)
    for dfs in dfss:
        dfs.ssmb.clear()
    return rig


def decided(rig: ContentRig) -> Reply:
    reply = rig.ask()
    assert reply is not None
    assert not reply.error_code
    return reply


def got(dfs: DfsDouble, kind: type[Message]) -> list[Any]:
    found = [message for message in dfs.ssmb if isinstance(message, kind)]
    dfs.ssmb = [message for message in dfs.ssmb if not isinstance(message, kind)]
    return found


def test_a_splice_that_is_reported_makes_a_spare_and_no_question() -> None:
    rig = team_rig()
    first, second = rig.dfss
    reply = decided(rig)
    rig.advance(ASK_S / 2)
    assert got(second, NewFlow) == []
    first.tell(rig, FlowState(0, SPLICED, reply.serial, *reply.signature, **OFFSETS))
    (spare,) = got(second, NewFlow)
    assert spare.serial == reply.serial
    assert spare.flags & Flag.ADD_TCP_OFFSETS
    assert {name: getattr(spare, name) for name in OFFSETS} == OFFSETS
    rig.advance(5)
    assert got(first, Timeout) == []


def test_a_splice_that_nobody_reports_is_asked_about() -> None:
    rig = team_rig()
    first, second = rig.dfss
    reply = decided(rig)
    rig.advance(ASK_S + 0.3)
    (asked,) = got(first, Timeout)
    assert (asked.serial, asked.signature) == (reply.serial, reply.signature)
    first.tell(rig, Stats(ErrorCode.CONNALIVE, int(Flag.ADDR16), asked.serial, *asked.signature))
    assert got(second, NewFlow) == []  # its handshake with the node goes on
    rig.advance(ASK_S + 0.3)
    (asked,) = got(first, Timeout)
    more = {**OFFSETS, "pkts_in": 3}
    first.tell(rig, Stats(ErrorCode.CONNALIVE, SPLICED, asked.serial, *asked.signature, **more))
    (spare,) = got(second, NewFlow)
    assert {name: getattr(spare, name) for name in OFFSETS} == OFFSETS
    rig.advance(5)
    assert got(first, Timeout) == []


def test_a_flow_that_never_has_offsets_is_asked_about_for_a_while_and_lives_on() -> None:
    """The agent carries it, because its node refused an option of TCP."""
    rig = team_rig()
    first, _ = rig.dfss
    reply = decided(rig)
    rig.advance(3 * ASK_S * TRIES)
    assert len(got(first, Timeout)) == TRIES
    assert rig.cs.table.by_key[next(iter(rig.cs.table.by_key))].serial == reply.serial


def test_a_flow_that_is_over_is_not_asked_about() -> None:
    rig = team_rig()
    first, _ = rig.dfss
    reply = decided(rig)
    delete = Delete(0, int(Flag.ADDR16), reply.serial, *reply.signature, detail=CloseReason.FIN)
    first.tell(rig, delete)
    rig.advance(5)
    assert got(first, Timeout) == []

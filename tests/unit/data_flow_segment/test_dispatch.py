# SPDX-License-Identifier: Apache-2.0
"""Which messages a DFS obeys, from whom, and what it says that it can do (FIG. 20, 9.10)."""

from typing import Final

import pytest

from csmb.constants import ErrorCode
from csmb.constants import Flag as CsmbFlag
from csmb.messages import AddVs
from data_flow_segment.targets.contract import FlowEntry
from data_flow_segment.targets.memory import MemoryTarget
from ssmb import codec, messages
from ssmb.constants import CS_SENDS, DFS_SENDS, MessageType
from ssmb.messages import (
    Delete,
    FlowSignature,
    FlowState,
    Query,
    Reap,
    Reset,
    Stats,
    Sync,
    Translation,
)
from support.octets.frames import SYN
from support.segments.agent_rig import (
    CLIENT,
    VIP,
    AgentRig,
    newflow_for,
    ready_rig,
    reply_to,
    vs_list,
)

SIGNATURE = FlowSignature(CLIENT[0], VIP[0], CLIENT[1], VIP[1], 6)
ONLY_A_DFS_SENDS = sorted(DFS_SENDS - CS_SENDS)
CLASSES = {kind: cls for cls, kind in codec.TYPE_OF.items()}


@pytest.mark.parametrize("kind", ONLY_A_DFS_SENDS, ids=[kind.name for kind in ONLY_A_DFS_SENDS])
def test_what_only_a_dfs_sends_is_invalid(kind: MessageType) -> None:
    rig, cs = ready_rig()
    cs.send(newflow_for(0x81000001))
    message = CLASSES[kind]()
    assert not isinstance(message, Reset)
    cs.send(message)
    rig.advance(0.02)
    assert rig.count("invalid_msg") == 1
    assert rig.target.flow_count() == 1
    assert cs.inbox == []


def test_everything_that_a_cs_sends_is_obeyed_and_nothing_else() -> None:
    rig = AgentRig()
    obeyed = {codec.TYPE_OF[cls] for cls in rig.agent.dispatch._handlers}
    assert obeyed == CS_SENDS


def test_an_unknown_type_is_invalid_and_an_experimental_one_is_ignored() -> None:
    rig, cs = ready_rig()
    for kind in (0, 12, 63, 73, 127):
        cs.send_octets(cs.seal(bytes([kind]) + bytes(11)))
    assert rig.count("invalid_msg") == 5
    for kind in (128, 255):
        cs.send_octets(cs.seal(bytes([kind]) + bytes(11)))
    assert (rig.count("invalid_msg"), rig.count("ignored_msg")) == (5, 2)


def test_each_message_of_a_datagram_is_obeyed_for_itself() -> None:
    """Delete, timeout, new flow, reset, invalid: whatever stands before."""
    rig, cs = ready_rig()
    cs.send(newflow_for(0x81000001, src_port=1), newflow_for(0x81000002, src_port=2))
    rig.advance(1)
    asked: list[messages.Message] = [
        kind(serial=serial, **SIGNATURE._replace(src_port=port)._asdict(), idle_limit=limit)
        for kind, serial, port, limit in (
            (Reap, 0x81000001, 1, 1),
            (messages.Timeout, 0x81000002, 2, 60_000),
            (Reap, 0x81000009, 9, 1),
        )
    ]
    (together,) = codec.encode_batch(asked, cs.version)
    cs.send_octets(cs.seal(together))
    rig.advance(0.02)
    assert [each.serial for each in cs.take(Delete)] == [0x81000001, 0x81000009]
    assert [each.serial for each in cs.take(Stats)] == [0x81000002]
    cs.send(newflow_for(0x81000003, src_port=3))
    assert rig.target.flow_count() == 2
    cs.send(Reset(reset_id=1))
    assert rig.target.flow_count() == 0
    assert rig.count("invalid_msg") == 0


def test_a_reply_needs_no_query_of_ours_and_no_order() -> None:
    """Three flows wait at a time; the answers come the other way round (no table of QUERYs)."""
    rig, cs = ready_rig()
    for port in (1, 2, 3):
        assert rig.client_sends(SYN, client=(CLIENT[0], port)) == []
    queries = cs.take(Query)
    assert len({query.serial for query in queries}) == 3
    for left, query in zip((2, 1, 0), reversed(queries), strict=True):
        cs.send(reply_to(query))
        assert len(rig.agent.new_flows.pending) == left
    assert rig.target.flow_count() == len(rig.sent) == 3
    assert rig.count("query_retries") == 0


def test_while_a_flow_waits_everything_else_goes_on() -> None:
    """Packets of other flows, messages of the CS, other new flows; then the one that waited."""
    rig, cs = ready_rig()
    cs.send(newflow_for(0x81000001, src_port=1))
    rig.client_sends(SYN)
    waiting = cs.one(Query)
    assert len(rig.client_sends(SYN, client=(CLIENT[0], 1))) == 1
    rig.client_sends(SYN, client=(CLIENT[0], 2))
    cs.answer(cs.one(Query))
    assert rig.target.flow_count() == 2
    cs.send(Sync(sync_id=5))
    rig.advance(0.02)
    assert len(cs.take(FlowState)) == 2
    assert len(rig.agent.new_flows.pending) == 1
    cs.answer(waiting)
    assert rig.target.flow_count() == 3


def test_a_query_says_when_its_flow_opened_and_a_repeat_says_the_same() -> None:
    rig, cs = ready_rig()
    rig.advance(0.25)
    opened = int(rig.now * 1000) & 0xFFFFFFFF
    rig.client_sends(SYN)
    assert cs.one(Query).timestamp == opened
    rig.advance(0.06)
    again = cs.one(Query)
    assert again.timestamp == opened
    cs.answer(again)
    state = rig.target.lookup(SIGNATURE)
    assert state is not None
    assert state.entry.opened_ms == opened


PROXY: Final = CsmbFlag.APP_PROXY | CsmbFlag.HYBRID | CsmbFlag.APP_NOTIFY_CAP


@pytest.mark.parametrize("makes_cookies", [False, True])
def test_the_dfs_claims_what_its_target_can_do(
    monkeypatch: pytest.MonkeyPatch, makes_cookies: bool
) -> None:
    monkeypatch.setattr(MemoryTarget, "makes_cookies", makes_cookies)
    rig = AgentRig()
    cs = rig.cs(flags=int(CsmbFlag.APP_PROXY))
    cs.tell(vs_list())
    assert cs.peer is not None
    assert cs.peer.flags & PROXY == (PROXY if makes_cookies else 0)
    ack = cs.tell(AddVs(flags=int(CsmbFlag.HTTP_PROXY), virt_ipaddr=VIP[0], virt_port=81))
    assert ack is not None
    assert ack.error_code == (ErrorCode.OK if makes_cookies else ErrorCode.UNSUPPORTED)
    assert cs.peer.flags & CsmbFlag.SYNC_CAP
    assert cs.peer.flags & CsmbFlag.BRIDGE_ENCAP


def test_an_entry_has_the_fields_of_a_decision_in_its_order() -> None:
    fields = [name.removesuffix("_s") for name in FlowEntry._fields]
    assert tuple(fields[4 : fields.index("opened_ms")]) == Translation._fields

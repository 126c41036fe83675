# SPDX-License-Identifier: Apache-2.0
"""Who has the virtual addresses of a pair (wire protocol 14.5)."""

from __future__ import annotations

from typing import Any

from csmb.constants import Flag as CsmbFlag
from csmb.messages import AddVs, VsList
from ssmb.constants import Flag, ResetReason
from ssmb.messages import FlowState, Heartbeat, Reset
from support.segments.dfs_double import DfsDouble, Rig, config


class LivingDfs(DfsDouble):
    """Answers heartbeats as long as its machine lives."""

    def __init__(self, number: int) -> None:
        super().__init__(number, segment_id=256 + number, address=f"10.255.0.{101 + number}")
        flags = self.settings.flags | CsmbFlag.HEARTBEATS
        fields = {**self.settings.__dict__, "flags": flags, "active": True, "role_epoch": 1}
        self.settings = self.settings.__class__(**fields)
        self.lives = True

    def take(self, rig: Rig, octets: bytes) -> None:
        if not self.lives:
            return
        before = len(self.ssmb)
        super().take(rig, octets)
        for message in self.ssmb[before:]:
            if isinstance(message, Heartbeat):
                self.send(rig, message._replace(flags=message.flags | Flag.ACK))
        self.ssmb = [each for each in self.ssmb if not isinstance(each, Heartbeat)]

    def answers_for(self) -> set[tuple[bytes, int]]:
        """The addresses and ports that it was last told to answer for."""
        found: dict[tuple[bytes, int], bool] = {}
        for message in self.csmb:
            entries: Any = message.entries if isinstance(message, VsList) else ()
            for each in (message,) if isinstance(message, AddVs) else entries:
                silent = bool(each.flags & CsmbFlag.NOARP_MODE)
                found[each.virt_ipaddr, each.virt_port] = not silent
        return {key for key, answers in found.items() if answers}

    @property
    def is_owner(self) -> bool:
        return len(self.answers_for()) > 0


def pair_rig(connected: int = 2, kind: str = "pair") -> tuple[Rig, LivingDfs, LivingDfs]:
    first, second = LivingDfs(0), LivingDfs(1)
    segments = [{"address": dfs.address[0], kind: "edge"} for dfs in (first, second)]
    configuration = config(data_flow_segments=segments, settings={"grants": False})
    rig = Rig(configuration, *(first, second)[:connected])
    rig.settle()
    return rig, first, second


def owners(rig: Rig) -> list[int]:
    return [dfs.segment_id for dfs in rig.dfss if isinstance(dfs, LivingDfs) and dfs.is_owner]


def test_one_member_answers_for_the_addresses_and_both_serve_them() -> None:
    rig, first, second = pair_rig()
    rig.advance(0.5)
    assert owners(rig) == [256]
    for dfs in (first, second):
        assert any(isinstance(message, VsList) for message in dfs.csmb)
    assert second.answers_for() == set()


def test_with_multipath_all_members_do() -> None:
    rig, _, _ = pair_rig(kind="multipath")
    rig.advance(0.5)
    assert owners(rig) == [256, 257]


def test_a_member_alone_has_them_after_a_while() -> None:
    rig, first, _ = pair_rig(connected=1)
    rig.advance(1)
    assert not first.csmb
    rig.advance(3)
    assert owners(rig) == [256]


def test_when_its_machine_dies_the_other_has_them_within_a_second() -> None:
    rig, first, _ = pair_rig()
    rig.advance(2)
    first.lives = False
    rig.advance(0.4)
    assert owners(rig) == [256]
    rig.advance(0.4)
    assert 257 in owners(rig)  # the other one does not hear that its time is over
    assert any("takes the virtual addresses" in line for line in rig.cs.log)
    # it comes back, and nothing moves
    first.lives = True
    rig.advance(3)
    assert owners(rig) == [257]


def test_when_its_agent_dies_nothing_moves() -> None:
    """Its kernel ends the connection and refuses others: its data path goes on."""
    rig, first, second = pair_rig()
    rig.advance(2)
    first.lives = False
    first.disconnect(rig)
    rig.cs.connections.connect_failed(0, "Connection refused")
    rig.advance(10)
    assert not second.is_owner
    # then its machine dies
    rig.cs.connections.connect_failed(0, "connecting timed out")
    rig.advance(0.2)
    assert second.is_owner


def test_a_member_that_is_dead_too_gets_nothing() -> None:
    """Or it is the CS that hung."""
    rig, first, second = pair_rig()
    rig.advance(2)
    first.lives = second.lives = False
    rig.advance(1)
    assert owners(rig) == [256]


def test_a_cs_that_starts_finds_the_owner_by_the_flows() -> None:
    other, _, _ = pair_rig()
    reply = other.dfs.query(other)
    assert reply is not None
    fields = (0, reply.flags, reply.serial, *reply.signature, 0, 0, *reply.translation, 0, 0)
    first, second = LivingDfs(0), LivingDfs(1)
    second.flows = [FlowState._make(fields)]
    first.flows = [FlowState._make(fields)._replace(idle_timeout=3600)]
    segments = [{"address": dfs.address[0], "pair": "edge"} for dfs in (first, second)]
    rig = Rig(config(data_flow_segments=segments, settings={"grants": False}), first, second)
    rig.settle()
    rig.advance(1)
    assert owners(rig) == [257]


def test_a_reload_tells_each_member_what_is_its() -> None:
    rig, first, second = pair_rig()
    rig.advance(1)
    rig.advance(1)
    servers = [
        {"name": "w", "address": "203.0.113.11", "port": 80, "protocol": "tcp", "pool": "web"}
    ]
    segments = [{"address": dfs.address[0], "pair": "edge"} for dfs in (first, second)]
    changed = config(
        data_flow_segments=segments, settings={"grants": False}, virtual_servers=servers
    )
    first.csmb.clear()
    second.csmb.clear()
    rig.cs.apply_config(changed, rig.now)
    rig.settle()
    assert len(first.answers_for()) == 1
    assert second.answers_for() == set()
    assert any(isinstance(message, AddVs) for message in second.csmb)


def test_a_member_that_booted_gives_way_to_none_that_knows_less() -> None:
    """It lives: RESET moves no address."""
    rig, first, _ = pair_rig()
    rig.advance(2)
    first.tell(rig, Reset(reset_id=9, detail=ResetReason.BOOT))
    rig.advance(2)
    assert owners(rig) == [256]

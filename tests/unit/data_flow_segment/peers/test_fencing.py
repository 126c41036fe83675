# SPDX-License-Identifier: Apache-2.0
"""A DFS never obeys an older CS after a newer one (wire protocol 11.1)."""

from __future__ import annotations

from typing import Any

import pytest

from csmb.constants import ROLE_EPOCH_MAX
from csmb.constants import ErrorCode as CsmbError
from csmb.constants import Flag as CsmbFlag
from csmb.messages import Config, Hello
from data_flow_segment.peers.fencing import EPOCH_STEP_MAX, NO_CLAIM, Claim, Verdict, judge
from ssmb.constants import Flag
from ssmb.messages import Query
from support.octets.frames import SYN
from support.segments.agent_rig import AgentRig, FakeCs, ready_rig

HEARTBEATS = int(CsmbFlag.SYNC_CAP | CsmbFlag.HEARTBEATS)
ACTIVE = int(CsmbFlag.ACTIVE)


def hello(segment_id: int, role_epoch: int, *, boot_id: int = 1, flags: int = ACTIVE) -> Hello:
    return Hello(flags=flags, segment_id=segment_id, role_epoch=role_epoch, boot_id=boot_id)


@pytest.mark.parametrize(
    ("said", "obeyed", "active", "verdict"),
    [
        # the first claim of a group, whatever its epoch
        (hello(5, 0), NO_CLAIM, None, Verdict.OBEYED),
        (hello(127, 1), NO_CLAIM, None, Verdict.OBEYED),
        # a higher epoch, whoever is there
        (hello(5, 8), Claim(7, 1), hello(1, 7), Verdict.OBEYED),
        (hello(5, 8), Claim(7, 1), None, Verdict.OBEYED),
        # a lower one, whoever is not
        (hello(1, 6), Claim(7, 5), hello(5, 7), Verdict.LOWER),
        (hello(1, 6), Claim(7, 5), None, Verdict.LOWER),
        (hello(5, 6, boot_id=2), Claim(7, 5), hello(5, 7), Verdict.LOWER),  # started again
        # the same epoch: the lower id, whether the other one is there or not
        (hello(1, 7), Claim(7, 5), hello(5, 7), Verdict.OBEYED),
        (hello(5, 7), Claim(7, 1), hello(1, 7), Verdict.LOWER),
        (hello(5, 7), Claim(7, 1), None, Verdict.LOWER),
        (hello(5, 7), Claim(7, 5), None, Verdict.OBEYED),  # itself
        (hello(1, 7), Claim(7, 0), None, Verdict.LOWER),  # of nobody knows whom
        (hello(1, 8), Claim(7, 0), None, Verdict.OBEYED),
        # no claim
        (hello(5, 9, flags=0), Claim(7, 1), hello(1, 7), Verdict.STANDBY),
        (hello(1, 7, flags=0), Claim(7, 1), hello(1, 7), Verdict.STANDBY),  # it steps down
        # of the active CS, overtaken on another connection
        (hello(1, 6), Claim(7, 1), hello(1, 7), Verdict.EARLIER),
        (hello(1, 6, flags=0), Claim(7, 1), hello(1, 7), Verdict.EARLIER),
        # numbers from nowhere
        (hello(5, 7 + EPOCH_STEP_MAX), Claim(7, 1), None, Verdict.OBEYED),
        (hello(5, 8 + EPOCH_STEP_MAX), Claim(7, 1), None, Verdict.TOO_HIGH),
        (hello(5, ROLE_EPOCH_MAX), NO_CLAIM, None, Verdict.TOO_HIGH),
    ],
)
def test_a_claim_is_obeyed_that_is_not_lower_than_the_highest(
    said: Hello, obeyed: Claim, active: Hello | None, verdict: Verdict
) -> None:
    assert judge(said, obeyed, active) is verdict


# --- what the CSs hear ---------------------------------------------------------------------------


def last(cs: FakeCs) -> tuple[CsmbError, bool, int]:
    """What the last HELLO of the DFS said: its code, whether a CS is active, the epoch."""
    heard = cs.hellos[-1]
    return CsmbError(heard.error_code), bool(heard.flags & ACTIVE), heard.role_epoch


def say(cs: FakeCs, *, active: bool, role_epoch: int) -> None:
    """HELLO on its connection; then all get what the DFS has for them."""
    cs.connection.announce(active=active, role_epoch=role_epoch, now=cs.rig.now)
    for each in (cs, *cs.rig.css):
        each.exchange()
    cs.rig.settle()


def pair(**changes: Any) -> tuple[AgentRig, FakeCs, FakeCs]:
    """An active CS with epoch 4, and a standby."""
    rig = AgentRig(**changes)
    first = rig.cs(1, role_epoch=4, flags=HEARTBEATS)
    second = rig.cs(2, active=False, flags=HEARTBEATS)
    return rig, first, second


def leave(cs: FakeCs) -> None:
    cs.leave()
    for each in cs.rig.css:
        if each.is_there:
            each.exchange()


def test_an_old_epoch_is_refused_also_if_no_cs_is_active() -> None:
    rig, first, second = pair()
    leave(first)
    say(second, active=True, role_epoch=3)
    assert last(second) == (CsmbError.NOTACTIVE, False, 4)
    assert rig.agent.peers.active_of(1) is None
    say(second, active=True, role_epoch=5)
    assert last(second) == (CsmbError.OK, True, 5)
    assert rig.agent.peers.active_of(1) is rig.agent.peers.by_identity[2, 1]


def test_a_single_cs_that_is_started_again_claims_with_its_first_epoch() -> None:
    rig = AgentRig()
    for boot_id in range(5, 9):
        cs = rig.cs(boot_id=boot_id, flags=HEARTBEATS)
        assert last(cs) == (CsmbError.OK, True, 1)
        leave(cs)


def test_the_answer_to_a_claim_says_what_came_of_it() -> None:
    """The first one: nobody learns of the claim before from it."""
    _, _, second = pair()
    before = len(second.hellos)
    say(second, active=True, role_epoch=5)
    assert [(bool(each.flags & ACTIVE), each.role_epoch) for each in second.hellos[before:]] == [
        (True, 5)
    ]


def test_standbys_hear_at_once_that_the_active_cs_is_gone() -> None:
    _, first, second = pair()
    assert last(second) == (CsmbError.OK, True, 4)
    before = len(second.hellos)
    leave(first)
    assert last(second) == (CsmbError.OK, False, 4)
    assert len(second.hellos) == before + 1


def test_the_replaced_cs_hears_at_once_that_another_one_is_active() -> None:
    """At the same epoch, too, where ACTIVE and the number say nothing to it."""
    rig, first, second = pair()
    say(second, active=True, role_epoch=5)
    assert last(first) == (CsmbError.NOTACTIVE, True, 5)
    third = rig.cs(3, active=False, flags=HEARTBEATS)
    say(first, active=True, role_epoch=5)
    assert last(second) == (CsmbError.NOTACTIVE, True, 5)
    assert last(third) == (CsmbError.OK, True, 5)


def test_a_cs_that_steps_down_leaves_the_place_free() -> None:
    _, first, second = pair()
    say(first, active=False, role_epoch=4)
    assert last(first) == (CsmbError.OK, False, 4)
    assert last(second) == (CsmbError.OK, False, 4)


def test_a_hello_out_of_turn_says_something_new_or_is_not_sent() -> None:
    _, first, second = pair()
    before = len(first.hellos), len(second.hellos)
    for _ in range(3):
        say(first, active=True, role_epoch=4)
        say(second, active=False, role_epoch=0)
    assert (len(first.hellos), len(second.hellos)) == (before[0] + 3, before[1] + 3)


def test_a_cs_without_heartbeats_gets_no_hello_out_of_turn() -> None:
    rig = AgentRig()
    first, second = rig.cs(1), rig.cs(2, active=False)
    before = len(second.hellos)
    leave(first)
    assert len(second.hellos) == before


def test_the_claim_of_a_cs_that_was_replaced_is_void() -> None:
    """It is not active again because the other one leaves: it knows that it was replaced."""
    rig, first, second = pair()
    say(second, active=True, role_epoch=5)
    leave(second)
    assert rig.agent.peers.active_of(1) is None
    assert last(first) == (CsmbError.NOTACTIVE, False, 5)


def test_an_earlier_hello_on_the_other_connection_changes_nothing() -> None:
    rig, first, _ = pair()
    other = FakeCs(rig, 1, role_epoch=4, flags=HEARTBEATS)
    rig.css.append(other)
    other.exchange()
    say(first, active=True, role_epoch=6)
    assert last(other) == (CsmbError.OK, True, 6)
    say(other, active=True, role_epoch=4)  # was on its way
    assert last(other) == (CsmbError.OK, True, 6)
    assert rig.agent.peers.groups[1].claim == Claim(6, 1)
    assert rig.agent.peers.active_of(1) is rig.agent.peers.by_identity[1, 1]
    assert rig.count("cs_not_active") == 0


def test_a_number_from_nowhere_is_refused_and_logged() -> None:
    rig, _, second = pair()
    say(second, active=True, role_epoch=ROLE_EPOCH_MAX)
    assert last(second) == (CsmbError.NOTACTIVE, True, 4)
    assert rig.count("cs_epoch_too_high") == 1
    (line,) = [line for line in rig.agent.connections.take_log() if "no take-over leads" in line]
    assert "CS 2 of group 1 claims 4294967295, and the last was 4." in line
    say(second, active=True, role_epoch=5)
    assert last(second) == (CsmbError.OK, True, 5)


def test_the_epoch_of_one_group_is_none_of_the_others() -> None:
    rig, _, _ = pair()
    other = rig.cs(3, group_id=2, role_epoch=1, flags=HEARTBEATS)
    assert last(other) == (CsmbError.OK, True, 1)


def test_what_waits_goes_to_the_cs_that_claims_higher() -> None:
    rig, old = ready_rig()
    rig.client_sends(SYN)
    first = old.one(Query)
    new = rig.cs(2, role_epoch=1)
    assert new.take(Query) == []  # refused: it is not the one of this epoch
    say(new, active=True, role_epoch=2)
    new.tell(Config())
    again = new.one(Query)
    assert (again.serial, again.flags & Flag.RETRY) == (first.serial, Flag.RETRY)

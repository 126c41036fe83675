# SPDX-License-Identifier: Apache-2.0
"""The highest claim is on the disk before it is obeyed (wire protocol 11.1)."""

from __future__ import annotations

import pytest

from admin.state import Section, StateError
from csmb.constants import ErrorCode as CsmbError
from csmb.constants import Flag as CsmbFlag
from data_flow_segment.peers.epochs import (
    KEEP_WAIT_S,
    RETRY_S,
    RoleEpochs,
    of_sections,
    sections,
)
from data_flow_segment.peers.fencing import NO_CLAIM, Claim
from support.segments.agent_rig import AgentRig, FakeCs

FLAGS = int(CsmbFlag.SYNC_CAP | CsmbFlag.HEARTBEATS)


def claim(rig: AgentRig, segment_id: int = 1, role_epoch: int = 1) -> FakeCs:
    cs = FakeCs(rig, segment_id, role_epoch=role_epoch, flags=FLAGS)
    rig.css.append(cs)
    cs.exchange()
    return cs


def written(rig: AgentRig) -> None:
    """The disk has answered, as in the runtime."""
    rig.agent.epochs.written()
    answer(rig)


def answer(rig: AgentRig) -> None:
    rig.agent.handle_timer(rig.now)
    for cs in rig.css:
        cs.exchange()
    rig.settle()


def active(rig: AgentRig) -> int | None:
    peer = rig.agent.peers.active_of(1)
    return None if peer is None else peer.hello.segment_id


def test_a_claim_waits_for_the_disk_and_is_obeyed_then() -> None:
    rig = AgentRig(epochs=RoleEpochs({}))
    cs = claim(rig)
    assert (active(rig), len(cs.hellos)) == (None, 1)  # the sealed HELLO is not answered
    assert rig.agent.epochs.take() == {1: Claim(1, 1)}
    assert rig.agent.epochs.take() is None  # once
    written(rig)
    assert (active(rig), len(cs.hellos)) == (1, 2)
    assert cs.hellos[-1].flags & CsmbFlag.ACTIVE


def test_who_waits_for_the_disk_needs_no_place_any_more() -> None:
    rig = AgentRig(epochs=RoleEpochs({}))
    claim(rig)
    assert len(rig.agent.connections._admission) == 0


def test_what_is_on_the_disk_already_waits_for_nothing() -> None:
    rig = AgentRig(epochs=RoleEpochs({1: Claim(7, 2)}))
    cs = claim(rig, 2, role_epoch=7)
    assert (active(rig), rig.agent.epochs.take()) == (2, None)
    assert len(cs.hellos) == 2


def test_after_a_restart_an_older_cs_is_refused() -> None:
    rig = AgentRig(epochs=RoleEpochs({1: Claim(7, 2)}))
    for segment_id, role_epoch in ((1, 6), (3, 7)):
        old = claim(rig, segment_id, role_epoch)
        heard = old.hellos[-1]
        assert (heard.error_code, heard.role_epoch) == (CsmbError.NOTACTIVE, 7)
        assert not heard.flags & CsmbFlag.ACTIVE
    assert active(rig) is None


def test_a_claim_that_came_while_another_was_written_is_judged_after_it() -> None:
    rig = AgentRig(epochs=RoleEpochs({}))
    low = claim(rig, 1, role_epoch=2)
    assert rig.agent.epochs.take() == {1: Claim(2, 1)}
    claim(rig, 2, role_epoch=3)
    assert rig.agent.epochs.take() is None  # one at a time
    rig.agent.epochs.written()
    answer(rig)
    assert active(rig) is None  # the higher one is not there yet
    assert rig.agent.epochs.take() == {1: Claim(3, 2)}
    written(rig)
    assert active(rig) == 2
    assert low.hellos[-1].error_code == CsmbError.NOTACTIVE or low.hellos[-1].role_epoch == 3


def test_a_disk_that_fails_costs_no_connection_and_is_said() -> None:
    rig = AgentRig(epochs=RoleEpochs({}))
    claim(rig)
    rig.agent.epochs.take()
    rig.agent.epochs.failed("No space left on device", rig.now)
    answer(rig)
    assert active(rig) == 1
    (line,) = rig.agent.epochs.take_log()
    assert line.startswith("cannot be written: No space left on device; trying again every 30 s;")
    claim(rig, 2, role_epoch=2)
    assert active(rig) == 2  # it does not wait for what is known to fail
    assert rig.agent.epochs.take() is None
    rig.advance(RETRY_S)
    assert rig.agent.epochs.take() == {1: Claim(2, 2)}
    written(rig)
    assert rig.agent.epochs.take_log() == ["is written again"]


def test_a_disk_that_hangs_is_waited_for_for_half_a_second() -> None:
    rig = AgentRig(epochs=RoleEpochs({}))
    claim(rig)
    rig.agent.epochs.take()
    rig.advance(KEEP_WAIT_S - 0.01)
    assert active(rig) is None
    rig.advance(0.01)
    assert active(rig) == 1
    (line,) = rig.agent.epochs.take_log()
    assert "is not written after 0.5 s" in line
    assert rig.agent.epochs.take() is None  # it hangs still
    written(rig)
    assert rig.agent.epochs.get_timer() is None


def test_a_claim_that_waits_for_the_disk_ends_with_its_connection() -> None:
    rig = AgentRig(epochs=RoleEpochs({}))
    cs = claim(rig)
    rig.agent.epochs.take()
    cs.leave()
    rig.agent.epochs.written()
    rig.agent.handle_timer(rig.now)
    assert active(rig) is None
    assert rig.agent.outbox.faults.take_log() == []


def test_without_a_file_nothing_is_written_and_nothing_waits() -> None:
    rig = AgentRig()
    claim(rig)
    assert (active(rig), rig.agent.epochs.take()) == (1, None)


def test_of_a_group_that_nobody_has_claimed_every_claim_is_obeyed() -> None:
    assert RoleEpochs({}).of(9) == NO_CLAIM


def test_the_file_says_what_was_written() -> None:
    claims = {1: Claim(7, 2), 65535: Claim(0xFFFF_FFFF, 127), 0: Claim(1, 1)}
    assert of_sections(sections(claims)) == claims
    assert of_sections([Section(99, "", 4, b"1234"), *sections({})]) == {}


def test_records_of_another_size_are_an_error() -> None:
    (section,) = sections({1: Claim(1, 1)})
    with pytest.raises(StateError, match="its claims have 9 octets each"):
        of_sections([section._replace(record_size=9)])

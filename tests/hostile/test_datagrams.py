# SPDX-License-Identifier: Apache-2.0
"""Forged, replayed, truncated and oversized datagrams, to an agent and to a CS in the middle of
their work: nothing that either holds changes, but the counters that say why.  `make soak` sends a
million of each kind, `make test` a twentieth.

"Nothing" is everything that can be reached from the object (support.snapshot), and the counters
must add up to the last one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from csmb.constants import DEAD_INTERVALS, HELLO_INTERVAL_S
from ssmb.codec import encode
from ssmb.messages import AuthChallenge, Sync
from support.octets.hostile import (
    BAD_TAG,
    MALFORMED,
    REPLAYED,
    TOO_OLD,
    TOO_SHORT,
    UNKNOWN_SOURCE,
    Attacker,
    Hostile,
    counted,
)
from support.segments.agent_rig import AgentRig
from support.segments.busy import BusyAgent, BusyCs
from support.soak import part

EACH: Final = part(1_000_000)
FEWER: Final = part(50_000)  # where only the version differs
KINDS: Final[dict[str, Callable[[Attacker, int], Iterator[Hostile]]]] = {
    "forged": Attacker.forged,
    "replayed": Attacker.replayed,
    "truncated": Attacker.truncated,
    "oversized": Attacker.oversized,
}
AGENT_COUNTERS: Final = {
    UNKNOWN_SOURCE: "drop_unknown_source",
    BAD_TAG: "drop_bad_tag",
    REPLAYED: "drop_replayed",
    TOO_OLD: "drop_too_old",
    TOO_SHORT: "drop_too_short",
    MALFORMED: "invalid_msg",
}
CS_COUNTERS: Final = {
    UNKNOWN_SOURCE: "unknown_source",
    BAD_TAG: "bad_seal",
    REPLAYED: "replayed",
    TOO_OLD: "too_old",
    TOO_SHORT: "too_short",
    MALFORMED: "invalid_msg",
}

# --- the agent ---------------------------------------------------------------------------------


def agent_rises(expected: Counter[str], **more: int) -> dict[str, int]:
    """The counters' paths, and by how much each has to rise."""
    rises = {AGENT_COUNTERS[drop]: number for drop, number in expected.items()}
    rises |= {"datagrams_received": expected.total(), **more}
    return {f"['count']['{name}']": number for name, number in rises.items()}


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_datagrams_change_nothing_in_an_agent(kind: str) -> None:
    busy = BusyAgent()
    for cs, count in ((busy.active, EACH), (busy.other, FEWER)):
        watch = busy.watch()
        expected = counted(KINDS[kind](busy.attacker(cs), count), busy.receive)
        busy.rig.settle()
        assert expected.total() == count
        assert watch.increases() == agent_rises(expected)


@pytest.mark.parametrize("number", range(len(BusyAgent().messages(BusyAgent().active))))
def test_each_message_would_be_felt_by_the_agent_if_it_came_through(number: int) -> None:
    busy = BusyAgent()
    watch = busy.watch()
    busy.active.send_octets(busy.active.seal(busy.messages(busy.active)[number]))
    felt = [path for path in watch.changes() if not path.startswith("['count']")]
    assert [path for path in felt if ".received" not in path]


def test_old_datagrams_change_nothing_when_keys_change_either() -> None:
    busy = BusyAgent()
    attacker = busy.attacker(busy.active)
    busy.rig.cs(1, prepare=False)  # a second connection: new keys beside the old ones
    watch = busy.watch()
    expected = counted(attacker.replayed(FEWER), busy.receive)
    assert watch.increases() == agent_rises(expected)
    busy.active.leave()
    busy.rig.now += DEAD_INTERVALS * HELLO_INTERVAL_S  # from here on the old key is no more
    watch = busy.watch()
    expected = counted(attacker.known_no_more(FEWER), busy.receive)
    assert watch.increases() == agent_rises(expected)


def test_replays_to_the_other_groups_socket_are_no_forgeries() -> None:
    """A CS that serves two groups from one socket: which key it was decides what it is called."""
    rig = AgentRig()
    first = rig.cs(1)
    second = rig.cs(1, group_id=2)
    assert first.endpoint == second.endpoint
    for cs in (first, second):
        sealed = cs.seal(encode(Sync(sync_id=1), 2))
        cs.send_octets(sealed)
        count = rig.count("drop_replayed")
        cs.send_octets(sealed)
        assert rig.count("drop_replayed") == count + 1
    assert rig.count("drop_bad_tag") == 0


def test_a_standby_with_the_key_may_not_do_what_the_active_cs_may() -> None:
    busy = BusyAgent()
    messages = [
        octets
        for octets in busy.messages(busy.standby)
        if octets[0] not in (encode(Sync(), 2)[0], encode(AuthChallenge(), 2)[0])
    ]
    watch = busy.watch()
    for number in range(FEWER):
        busy.receive(busy.standby.seal(messages[number % len(messages)]), busy.standby.endpoint)
    busy.rig.settle()
    rose = {path: n for path, n in watch.increases().items() if ".received[" not in path}
    assert rose == agent_rises(Counter(), datagrams_received=FEWER, drop_not_active=FEWER)


# --- the Control Segment -----------------------------------------------------------------------


def cs_rises(expected: Counter[str]) -> dict[str, int]:
    """The counters' paths, and by how much each has to rise."""
    return {f"['count']['{CS_COUNTERS[drop]}']": number for drop, number in expected.items()}


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_datagrams_change_nothing_in_a_cs(kind: str) -> None:
    busy = BusyCs()
    for dfs, count in ((busy.rig.dfs, EACH), (busy.old, FEWER)):
        watch = busy.watch()
        expected = busy.deliver(KINDS[kind](busy.attacker(dfs), count))
        assert expected.total() == count
        assert watch.increases() == cs_rises(expected)


@pytest.mark.parametrize("number", range(len(BusyCs().messages(BusyCs().rig.dfs))))
def test_each_message_would_be_felt_by_the_cs_if_it_came_through(number: int) -> None:
    busy = BusyCs()
    watch = busy.watch()
    octets = busy.messages(busy.rig.dfs)[number]
    attacker = busy.attacker(busy.rig.dfs)
    busy.rig.cs.receive_datagram(attacker.seal(octets), attacker.endpoint, busy.rig.now)
    assert watch.changes()


def test_old_datagrams_change_nothing_in_a_cs_when_keys_change_either() -> None:
    busy = BusyCs()
    dfs = busy.rig.dfs
    attacker = busy.attacker(dfs)
    dfs.disconnect(busy.rig)
    dfs.connect(busy.rig)
    watch = busy.watch()
    expected = busy.deliver(attacker.replayed(FEWER))
    assert watch.increases() == cs_rises(expected)
    busy.rig.now += DEAD_INTERVALS * HELLO_INTERVAL_S
    busy.deliver(iter([Hostile(attacker.history[0], attacker.endpoint, BAD_TAG)]))
    watch = busy.watch()
    expected = busy.deliver(attacker.known_no_more(FEWER))
    assert watch.increases() == cs_rises(expected)

# SPDX-License-Identifier: Apache-2.0
"""What is left to the target for each group, as CSs come, change and go."""

from __future__ import annotations

from typing import Any

from csmb.messages import Config
from csmb.settings import ConnectionSettings
from data_flow_segment.peers.offloads import Offloads
from data_flow_segment.targets.contract import AskingPath, Offload
from ssmb.addresses import from_text
from support.segments.agent_rig import DFS_ENDPOINT, DFS_ID, KEY, AgentRig, FakeCs, vs_list

SERIAL_KEY = bytes(range(16))
NOTHING = Offload(1)


def new_rig(**fields: Any) -> AgentRig:
    return AgentRig(serial_key=SERIAL_KEY, **fields)


def path_of(cs: FakeCs) -> AskingPath:
    assert cs.keys is not None
    return AskingPath(
        from_text(cs.endpoint[0]),
        cs.endpoint[1],
        from_text(DFS_ENDPOINT[0]),
        DFS_ENDPOINT[1],
        cs.keys.d2c,
        cs.keys.c2d,
    )


def offload_of(rig: AgentRig, group_id: int = 1) -> Offload:
    """What the target was told last."""
    known = rig.target.data_path.controls.told(group_id)
    return Offload(group_id) if known is None else known


def test_a_cs_that_may_be_asked() -> None:
    rig = new_rig()
    cs = rig.cs(prepare=False)
    assert offload_of(rig) == NOTHING  # it has not proved that it gets its datagrams
    assert rig.agent.offloads.who_asks(1) == "agent: no CS of the group can be asked yet"
    cs.challenge()
    assert offload_of(rig) == Offload(1, ends=True)  # it may be told, and not asked
    cs.acknowledge_resets()
    assert offload_of(rig) == Offload(1, ends=True, path=path_of(cs))
    assert rig.agent.offloads.who_asks(1) == "data path"
    cs.leave()
    assert offload_of(rig).path is None


def test_other_keys_are_another_path() -> None:
    rig = new_rig()
    earlier = rig.cs()
    before = offload_of(rig)
    earlier.leave()
    again = rig.cs()
    after = offload_of(rig)
    assert after == Offload(1, ends=True, path=path_of(again))
    assert before.path is not None
    assert after.path is not None
    assert after.path.sealing_key != before.path.sealing_key
    assert after.path.opening_key != before.path.opening_key


def test_with_standbys_the_target_gives_copies() -> None:
    rig = new_rig()
    active = rig.cs(1)
    standby = rig.cs(2, active=False)
    assert offload_of(rig) == Offload(1, ends=True, path=path_of(active), shared=True)
    standby.leave()
    assert offload_of(rig) == Offload(1, ends=True, path=path_of(active))


def test_a_take_over_is_another_path() -> None:
    rig = new_rig()
    rig.cs(1)
    other = rig.cs(2, role_epoch=2)
    assert offload_of(rig).path == path_of(other)


def test_groups_whose_css_share_an_address_are_the_agents() -> None:
    """A REPLY is told apart by where it comes from."""
    rig = new_rig()
    first = rig.cs(1)
    assert offload_of(rig).path == path_of(first)
    shared = {"ssmb_ipaddr": from_text(first.endpoint[0]), "ssmb_port": first.endpoint[1]}
    second = FakeCs(rig, 2, group_id=2, **shared)
    second.endpoint = first.endpoint
    rig.css.append(second)
    second.exchange()
    rig.settle()
    assert offload_of(rig, 1).path is None
    assert offload_of(rig, 2).path is None


def test_a_laboratory_has_no_seals() -> None:
    rig = new_rig(laboratory=True)
    rig.cs()
    assert offload_of(rig) == Offload(1, ends=True)


def test_each_group_has_its_own() -> None:
    rig = new_rig()
    one, two = rig.cs(1), rig.cs(2, group_id=2)
    assert offload_of(rig, 1).path == path_of(one)
    assert offload_of(rig, 2).path == path_of(two)
    two.leave()
    assert offload_of(rig, 1).path == path_of(one)
    assert offload_of(rig, 2).path is None


def test_a_target_that_cannot_is_told_nothing() -> None:
    rig = AgentRig()
    cs = rig.cs()
    cs.tell(Config())
    cs.tell(vs_list())
    assert rig.target.data_path.controls.told(1) is None
    assert rig.agent.offloads.who_asks(1) == "agent: this target cannot ask"


def test_the_configuration_may_leave_asking_to_the_agent() -> None:
    rig = new_rig()
    agent = rig.agent
    settings = ConnectionSettings(
        segment_id=DFS_ID,
        key=KEY,
        ssmb_ipaddr=from_text(DFS_ENDPOINT[0]),
        ssmb_port=DFS_ENDPOINT[1],
    )
    agent.offloads = Offloads(agent.outbox, agent.peers, rig.target, settings, may_ask=False)
    rig.cs()
    assert offload_of(rig) == Offload(1, ends=True)
    assert agent.offloads.who_asks(1) == "agent: the configuration has ask: agent"


def test_nothing_is_told_twice() -> None:
    rig = new_rig()
    cs = rig.cs()
    told: list[Offload] = []
    rig.agent.flush(rig.now)
    cs.tell(Config(tcp_idle_timeout=77))
    cs.tell(vs_list())
    rig.agent.flush(rig.now)
    told += [each for each in rig.agent.outbox.take_commands() if isinstance(each, Offload)]
    assert told == []

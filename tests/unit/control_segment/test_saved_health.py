# SPDX-License-Identifier: Apache-2.0
"""A CS that starts again sends nobody to a node that it knew to be dead."""

from __future__ import annotations

from typing import Any

from admin.state import Kind, Section, decode, encode
from control_segment.health.machine import Order, Said
from control_segment.health.targets import Target
from control_segment.nodes import Health
from control_segment.saved_health import AGE_MAX_S
from support.segments.dfs_double import CONFIG, Rig, config

WALL = 1_790_000_000.0
WEB1, WEB2, WEB3 = (Target("tcp", f"10.1.1.{number}", 8080) for number in (2, 3, 4))
DOWN, UP = Said("down", reason="refused"), Said("up")


def rig_of(boot_id: int = 1, **pool: Any) -> Rig:
    pools = [{**CONFIG["pools"][0], "monitors": ["tcp"], **pool}]
    return Rig(config(monitors=[{"name": "tcp", "kind": "tcp"}], pools=pools), boot_id=boot_id)


def kept(**said: Said) -> list[Section]:
    """Of a CS that has heard this."""
    rig = rig_of()
    rig.advance(0.1)
    places = {"web1": WEB1, "web2": WEB2, "web3": WEB3}
    rig.cs.monitoring.came([(places[name], each) for name, each in said.items()], rig.now)
    octets = b"".join(encode(1, WALL, rig.cs.saved_health.sections()))
    return decode(octets, 1).sections


def restarted(sections: list[Section], age_s: float = 1.0, **pool: Any) -> tuple[Rig, int]:
    rig = rig_of(boot_id=2, **pool)
    return rig, rig.cs.saved_health.restore(sections, age_s, rig.now)


def chosen(rig: Rig, count: int = 12) -> list[int]:
    """So many new sessions; how many each node got."""
    for _ in range(count):
        rig.now += 1e-6
        rig.dfs.query(rig, port=20000 + rig.dfs.serial)
    return list(rig.active().values())


def test_the_first_session_goes_to_no_node_that_was_down() -> None:
    rig, count = restarted(kept(web1=DOWN, web2=UP))
    assert count == 1
    assert chosen(rig) == [0, 6, 6]
    node = rig.cs.model.pools["web"].nodes["web1"]
    assert node.health is Health.DOWN
    assert node.health_reason == "tcp: it was down before this control segment restarted"


def test_whoever_probes_goes_on_from_there() -> None:
    rig, _ = restarted(kept(web1=DOWN))
    rig.cs.monitoring.follow(claims=True)
    order = {target: said for target, _, said in rig.cs.monitoring.take_order().watch}
    assert (order[WEB1].health, order[WEB2].health) == ("down", "unknown")
    rig.cs.monitoring.came([(WEB1, UP)], rig.now)
    assert chosen(rig) == [4, 4, 4]


def test_what_agents_said_is_known_too() -> None:
    drained = Said("up", order=Order.DRAIN)
    rig, count = restarted(kept(web1=drained, web2=Said("up", percent=50), web3=UP))
    assert count == 2
    nodes = rig.cs.model.pools["web"].nodes
    assert (nodes["web1"].is_closed, nodes["web2"].percent) == (True, 50)
    assert chosen(rig, 6)[0] == 0


def test_old_news_says_nothing() -> None:
    sections = kept(web1=DOWN)
    rig, count = restarted(sections, AGE_MAX_S + 1)
    assert (count, chosen(rig)) == (0, [4, 4, 4])
    assert restarted(sections, AGE_MAX_S)[1] == 1


def test_a_node_that_is_monitored_no_longer_is_not_held_by_it() -> None:
    sections = kept(web1=DOWN)
    rig, count = restarted(sections, monitors=[])
    assert (count, chosen(rig)) == (0, [4, 4, 4])
    moved = [{**node, "port": 81} for node in CONFIG["pools"][0]["nodes"]]
    rig, count = restarted(sections, nodes=moved)
    assert (count, chosen(rig)) == (0, [4, 4, 4])
    # nor later, when a node comes to that place
    rig.cs.apply_config(rig_of().cs.config, rig.now)
    rig.advance(0.1)
    assert not any(node.is_dead for node in rig.cs.model.pools["web"].nodes.values())


def test_records_of_another_kind_or_size_are_passed_over() -> None:
    (section,) = kept(web1=DOWN)
    strange = section._replace(records=section.records[:8] + b"\7" + section.records[9:])
    for each in (
        section._replace(kind=Kind.SESSIONS),
        section._replace(record_size=6, records=bytes(12)),
        strange,
    ):
        rig, count = restarted([each])
        assert (count, chosen(rig)) == (0, [4, 4, 4])


def test_there_is_something_to_keep_while_a_node_is_not_simply_up() -> None:
    rig = rig_of()
    rig.advance(0.1)
    before = rig.cs.saved_health.changes
    rig.cs.monitoring.came([(WEB1, UP)], rig.now)
    assert not rig.cs.saved_health.matters()
    rig.cs.monitoring.came([(WEB1, DOWN)], rig.now)
    assert rig.cs.saved_health.matters()
    assert rig.cs.saved_health.changes == before + 2
    assert len(list(rig.cs.saved_health.sections())) == 1

# SPDX-License-Identifier: Apache-2.0
"""Next hops: found, checked, changed, lost, taken over; and what becomes of frames that wait."""

from __future__ import annotations

from dataclasses import replace

import pytest

from data_flow_segment.targets.interfaces import Route
from data_flow_segment.targets.p4runtime import entries, neighbours
from data_flow_segment.targets.p4runtime.neighbours import (
    ASKED_MAX,
    CHECK_S,
    WAITING_FOR_ONE_MAX,
    WAITING_MAX,
    Neighbours,
)
from data_flow_segment.targets.p4runtime.next_hops import Ask, DropRow, InjectFrame, PutRow
from data_flow_segment.targets.p4runtime.schema import Row
from ssmb.addresses import from_text
from support.targets.neighbours_rig import (
    CLIENT6,
    GATEWAY,
    GATEWAY6,
    OPTIONS,
    OUR_MACS,
    SERVER,
    Rig,
    advertisement,
    arp_reply,
    mac_octets,
    question,
)

MAC, OTHER = "02:00:00:00:00:99", "02:00:00:00:00:aa"
ALL = "ff:ff:ff:ff:ff:ff"
WITHOUT_GATEWAYS = replace(OPTIONS, routes=OPTIONS.routes[:3])


def quiet() -> Rig:
    """Nobody is needed yet."""
    return Rig(WITHOUT_GATEWAYS)


def knowing(address: str = SERVER, port: int = 11) -> Rig:
    """One neighbour is known, and not needed since."""
    rig = quiet()
    rig.want(address)
    rig.answer(address, MAC, port)
    rig.take_asks()
    return rig


# --- asking --------------------------------------------------------------------------------------


def test_gateways_are_asked_for_from_the_start_and_for_ever() -> None:
    rig = Rig()
    assert sorted(rig.asked()) == [(GATEWAY, 1, ALL), (GATEWAY6, 1, "33:33:ff:00:00:fe")]
    rig.wait(100.0)
    assert [who for who, *_ in rig.asked()].count(GATEWAY) == 100


def test_a_route_goes_through_its_gateway_once_it_is_known() -> None:
    rig = Rig()
    assert rig.route("0.0.0.0/0") == 1, "its packets come up meanwhile"
    rig.answer(GATEWAY, MAC, 1)
    assert rig.route("0.0.0.0/0") == (1, mac_octets(MAC))
    assert rig.neighbour(GATEWAY) == (1, mac_octets(MAC)), "it is in a connected network, too"
    assert rig.route("::/0") == 1


def test_a_gateway_outside_of_every_network_is_asked_for_on_its_routes_port() -> None:
    rig = Rig()
    rig.answer(GATEWAY6, MAC, 1)
    assert rig.route("::/0") == (1, mac_octets(MAC))
    assert rig.neighbour(GATEWAY6) is None, "only routes lead there"


def test_a_wanted_address_is_asked_for_three_times_and_then_no_more() -> None:
    rig = quiet()
    rig.want(SERVER)
    assert rig.asked() == [(SERVER, 11, ALL)]
    rig.wait(0.9)
    assert rig.asked() == []
    rig.wait(CHECK_S)
    assert rig.asked() == [(SERVER, 11, ALL)] * 2
    rig.want(SERVER)
    assert rig.asked() == [(SERVER, 11, ALL)], "somebody needs it again"


def test_what_is_still_needed_is_asked_for_each_second() -> None:
    rig = quiet()
    for _ in range(80):
        rig.want(SERVER)
        rig.wait(0.125)
    assert len(rig.take_asks()) == 11, "at once, and then each second"


def test_nobody_is_asked_for_without_a_route() -> None:
    rig = quiet()
    rig.want("192.0.2.1")
    assert rig.take_asks() == []


def test_behind_a_gateway_the_gateway_is_wanted() -> None:
    rig = Rig()
    rig.take_asks()
    rig.want("192.0.2.1")
    assert rig.take_asks() == []
    rig.answer(GATEWAY, MAC, 1)
    rig.want("192.0.2.1")
    assert rig.take_asks() == []


def test_only_so_many_are_asked_for_at_a_time() -> None:
    rig = quiet()
    for host in range(ASKED_MAX + 50):
        rig.want(f"2001:db8:1::{host + 2:x}")
    assert len(rig.take_asks()) == ASKED_MAX
    rig.resolve(question(SERVER, 11))
    assert len(rig.given_up) == 1
    rig.wait(5.0)
    rig.take_asks()
    rig.want(SERVER)
    assert rig.asked() == [(SERVER, 11, ALL)], "the others were forgotten"


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("address", "port"), [(SERVER, 11), (CLIENT6, 1)])
def test_an_answer_makes_a_neighbour_known(address: str, port: int) -> None:
    rig = quiet()
    rig.want(address)
    rig.answer(address, MAC, port)
    assert rig.neighbour(address) == (port, mac_octets(MAC))
    rig.take_asks()
    rig.wait(CHECK_S - 1)
    assert rig.take_asks() == []


def test_a_tagged_answer_is_an_answer() -> None:
    rig = quiet()
    rig.want(SERVER)
    rig.hear(arp_reply(SERVER, MAC, OUR_MACS[11], vlan=5), 11)
    assert rig.neighbour(SERVER) == (11, mac_octets(MAC))


def test_nobody_is_believed_on_another_port() -> None:
    rig = quiet()
    rig.want(SERVER)
    rig.answer(SERVER, MAC, 1)
    assert rig.neighbour(SERVER) is None


def test_nobody_is_believed_who_was_not_asked() -> None:
    rig = quiet()
    before = dict(rig.tables)
    rig.answer(SERVER, MAC, 11)
    rig.answer(CLIENT6, MAC, 1)
    assert rig.tables == before


def test_our_own_voice_is_no_answer() -> None:
    rig = quiet()
    rig.want(SERVER)
    rig.answer(SERVER, OUR_MACS[11], 11)
    assert rig.neighbour(SERVER) is None


def test_an_advertisement_without_a_mac_address_tells_a_beginner_nothing() -> None:
    rig = quiet()
    rig.want(CLIENT6)
    rig.hear(advertisement(CLIENT6, None, OUR_MACS[1]), 1)
    assert rig.neighbour(CLIENT6) is None


def test_a_changed_mac_address_changes_one_row() -> None:
    rig = knowing()
    rig.log.clear()
    rig.answer(SERVER, OTHER, 11)
    (change,) = rig.log
    assert isinstance(change, PutRow)
    assert change.row.table == "next_hops"
    assert rig.neighbour(SERVER) == (11, mac_octets(OTHER))


def test_an_advertisement_that_does_not_override_changes_nothing() -> None:
    rig = knowing(CLIENT6, 1)
    rig.answer(CLIENT6, OTHER, 1, O=0)
    assert rig.neighbour(CLIENT6) == (1, mac_octets(MAC))
    rig.answer(CLIENT6, OTHER, 1, O=1)
    assert rig.neighbour(CLIENT6) == (1, mac_octets(OTHER))


# --- checks --------------------------------------------------------------------------------------


def test_who_is_needed_is_checked_at_its_own_mac_address() -> None:
    rig = knowing()
    for _ in range(3):
        rig.want(SERVER)
        rig.wait(CHECK_S)
        assert rig.asked() == [(SERVER, 11, MAC)]
        rig.answer(SERVER, MAC, 11)


def test_an_advertisement_without_a_mac_address_answers_a_check() -> None:
    rig = knowing(CLIENT6, 1)
    rig.want(CLIENT6)
    rig.wait(CHECK_S)
    rig.hear(advertisement(CLIENT6, None, OUR_MACS[1]), 1)
    rig.wait(10.0)
    assert rig.neighbour(CLIENT6) == (1, mac_octets(MAC))


def test_who_is_known_is_checked_although_nobody_asked_for_him_lately() -> None:
    """A flow may go there that nothing is heard of."""
    rig = knowing()
    for _ in range(3):
        rig.wait(CHECK_S)
        assert rig.asked() == [(SERVER, 11, MAC)]
        rig.answer(SERVER, MAC, 11)
    assert rig.neighbour(SERVER) == (11, mac_octets(MAC))


def test_many_are_checked_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "CHECKS_PER_S", 1 / 40)
    rig = knowing()
    rig.wait(2 * CHECK_S)
    assert (SERVER, 11, MAC) not in rig.asked()


def test_who_spoke_lately_is_not_checked() -> None:
    rig = knowing()
    rig.want(SERVER)
    rig.wait(CHECK_S - 5)
    rig.answer(SERVER, MAC, 11)
    rig.wait(CHECK_S - 1)
    assert rig.take_asks() == []
    rig.wait(1.0)
    assert len(rig.take_asks()) == 1


def test_who_does_not_answer_three_checks_is_lost() -> None:
    rig = knowing()
    rig.want(SERVER)
    rig.wait(CHECK_S + 2.9)
    assert rig.asked() == [(SERVER, 11, MAC)] * 3
    assert rig.neighbour(SERVER) is not None
    rig.log.clear()
    rig.wait(0.1)
    assert [a.row.table for a in rig.log if isinstance(a, DropRow)] == ["neighbours", "next_hops"]
    assert rig.rows("next_hops") == {}
    rig.want(SERVER)
    assert rig.asked() == [(SERVER, 11, ALL)]


def test_a_lost_gateways_route_waits_for_it() -> None:
    rig = Rig()
    rig.answer(GATEWAY, MAC, 1)
    rig.wait(CHECK_S)
    rig.take_asks()
    rig.wait(3.0)
    assert rig.route("0.0.0.0/0") == 1
    rig.take_asks()
    rig.wait(5.0)
    assert (GATEWAY, 1, ALL) in rig.asked()
    rig.answer(GATEWAY, OTHER, 1)
    assert rig.route("0.0.0.0/0") == (1, mac_octets(OTHER))


def test_a_row_that_the_switch_refuses_is_asked_for_anew() -> None:
    rig = knowing()
    (row,) = rig.rows("next_hops").values()
    rig.do(rig.machine.refused(row, rig.now))
    assert rig.rows("next_hops") == rig.rows("neighbours") == {}
    rig.resolve(question(SERVER, 11))
    assert rig.asked() == [(SERVER, 11, ALL)]
    assert rig.machine.refused(row, rig.now) == [], "it is refused once"


# --- frames that wait ----------------------------------------------------------------------------


def test_a_frame_waits_for_its_neighbour_and_goes_on_behind_its_rows() -> None:
    rig = quiet()
    ups = [question(SERVER, 11, bytes([n]) * 60) for n in range(3)]
    for up in ups:
        rig.resolve(up)
    assert rig.machine.waiting == 3
    rig.answer(SERVER, MAC, 11)
    kinds = [type(action) for action in rig.log if not isinstance(action, Ask)]
    assert kinds[-5:] == [PutRow, PutRow, InjectFrame, InjectFrame, InjectFrame]
    assert rig.injected == ups
    assert rig.machine.waiting == 0


def test_a_frame_to_behind_a_gateway_waits_for_the_gateway() -> None:
    rig = Rig()
    up = question("192.0.2.1", 1, arrival=11)
    rig.resolve(up)
    rig.answer(GATEWAY, MAC, 1)
    assert rig.injected == [up]
    kinds = [action.row.table for action in rig.log if isinstance(action, PutRow)]
    assert kinds[-3:] == ["next_hops", "neighbours", "routes"]


def test_a_frame_that_nobody_answers_for_is_given_up() -> None:
    rig = quiet()
    up = question(SERVER, 11)
    rig.resolve(up)
    rig.wait(2.9)
    assert rig.given_up == []
    rig.wait(1.1)
    assert rig.given_up == [up]
    assert rig.machine.waiting == 0


def test_the_oldest_of_too_many_frames_for_one_neighbour_yields() -> None:
    rig = quiet()
    ups = [question(SERVER, 11, bytes([n]) * 60) for n in range(WAITING_FOR_ONE_MAX + 2)]
    for up in ups:
        rig.resolve(up)
    assert rig.given_up == ups[:2]
    rig.answer(SERVER, MAC, 11)
    assert rig.injected == ups[2:]


def test_no_more_frames_wait_than_there_is_room_for() -> None:
    rig = quiet()
    hosts = WAITING_MAX // WAITING_FOR_ONE_MAX + 1
    for host in range(hosts):
        for _ in range(WAITING_FOR_ONE_MAX):
            rig.resolve(question(f"10.2.1.{host + 2}", 11))
    assert rig.machine.waiting == WAITING_MAX
    assert len(rig.given_up) == WAITING_FOR_ONE_MAX
    rig.resolve(question(SERVER, 11))
    assert rig.machine.waiting == WAITING_MAX, "one yields to the new one"


def test_a_frame_that_came_up_too_early_goes_on_at_once() -> None:
    rig = knowing()
    up = question(SERVER, 11)
    rig.resolve(up)
    assert rig.injected == [up]


def test_a_frame_does_not_go_round_for_ever() -> None:
    rig = knowing()
    rig.wait(2.0)
    up = question(SERVER, 11)
    rig.resolve(up)
    assert rig.given_up == [up]


@pytest.mark.parametrize(("address", "port"), [("192.0.2.1", 1), (SERVER, 1)])
def test_a_frame_without_a_place_to_wait_at_is_given_up(address: str, port: int) -> None:
    rig = quiet()
    rig.resolve(question(address, port))
    assert len(rig.given_up) == 1
    assert rig.take_asks() == []


# --- what is there from the start ----------------------------------------------------------------


def test_a_permanent_neighbour_is_known_and_never_asked_for() -> None:
    permanent = {from_text(SERVER): mac_octets(MAC), from_text(GATEWAY): mac_octets(OTHER)}
    rig = Rig(replace(OPTIONS, neighbours=permanent))
    assert rig.neighbour(SERVER) == (11, mac_octets(MAC))
    assert rig.route("0.0.0.0/0") == (1, mac_octets(OTHER))
    rig.want(SERVER)
    rig.answer(SERVER, OTHER, 11)
    rig.wait(600.0)
    assert rig.neighbour(SERVER) == (11, mac_octets(MAC))
    assert {who for who, *_ in rig.asked()} == {GATEWAY6}


def test_a_permanent_neighbour_that_no_route_leads_to_is_left_out() -> None:
    rig = Rig(replace(WITHOUT_GATEWAYS, neighbours={from_text("192.0.2.1"): mac_octets(MAC)}))
    assert rig.rows("next_hops") == {}


def test_connected_networks_are_there_from_the_start() -> None:
    rig = quiet()
    assert rig.route("10.1.1.0/24") == 1
    assert rig.route("2001:db8:1::/64") == 1
    assert rig.route("10.2.1.0/24") == 11


# --- taken over ----------------------------------------------------------------------------------


def left_behind() -> list[Row]:
    """The tables of an agent that knew a server, a gateway and a router of the server's network."""
    rig = Rig()
    rig.want(SERVER)
    rig.answer(GATEWAY6, MAC, 1)
    rig.answer(GATEWAY, OTHER, 1)
    rig.answer(SERVER, MAC, 11)
    return list(rig.tables.values())


def test_a_new_agent_leaves_everything_as_it_is() -> None:
    rows = left_behind()
    rig = Rig(rows=rows)
    assert sorted(rig.tables.values(), key=str) == sorted(rows, key=str)
    assert rig.take_asks() == []


def test_a_new_agent_checks_what_it_took_over() -> None:
    rig = Rig(rows=left_behind())
    rig.wait(CHECK_S)
    first: dict[str, str] = {}
    for who, _, mac in rig.asked():
        first.setdefault(who, mac)
    assert first == {SERVER: MAC, GATEWAY: OTHER, GATEWAY6: MAC}
    rig.wait(10.0)
    assert rig.neighbour(SERVER) is None


def test_numbers_go_on_behind_the_highest() -> None:
    rows = left_behind()
    highest = max(row.match[0] for row in rows if row.table == "next_hops")  # type: ignore[type-var]
    rig = Rig(rows=rows)
    before = set(rig.rows("next_hops"))
    rig.want("10.2.1.8")
    rig.answer("10.2.1.8", MAC, 11)
    (new,) = set(rig.rows("next_hops")) - before
    assert isinstance(highest, int)
    assert new == highest + 1


def test_what_the_options_changed_is_changed_in_the_switch() -> None:
    moved = replace(OPTIONS.interfaces[1], mac=b"\2" * 6, mtu=9000)
    options = replace(OPTIONS, interfaces=(OPTIONS.interfaces[0], moved))
    rig = Rig(options, left_behind())
    (number,) = rig.rows("neighbours")[from_text(SERVER)].parameters
    assert rig.rows("next_hops")[number].parameters == (11, b"\2" * 6, mac_octets(MAC), 9000)


def test_what_no_route_leads_to_any_more_goes() -> None:
    options = replace(OPTIONS, routes=(OPTIONS.routes[0], OPTIONS.routes[1]))
    rig = Rig(options, left_behind())
    assert rig.neighbour(SERVER) is None
    assert len(rig.rows("routes")) == 2
    assert len(rig.rows("next_hops")) == 1, "the gateway is a station of a connected network still"


def test_another_gateway_takes_over_its_routes() -> None:
    routes = (*OPTIONS.routes[:3], Route.to("0.0.0.0/0", 1, "10.1.1.253"))
    rig = Rig(replace(OPTIONS, routes=routes), left_behind())
    assert rig.route("0.0.0.0/0") == 1
    assert rig.asked() == [("10.1.1.253", 1, ALL)]


def test_what_was_wanted_before_the_switch_was_read_may_be_found_in_it() -> None:
    rows = left_behind()
    machine = Neighbours(OPTIONS)
    first = list(machine.want(from_text(SERVER), 10.0))
    assert [type(action) for action in first] == [Ask]
    put = [action.row for action in machine.begin(rows, 11.0) if isinstance(action, PutRow)]
    assert sorted(put, key=str) == sorted(rows, key=str)


def test_half_of_a_neighbour_is_none() -> None:
    rows = [
        entries.neighbour_row(from_text(SERVER), 77),
        entries.next_hop_row(78, OPTIONS.interfaces[1], 11, mac_octets(MAC)),
    ]
    rig = Rig(WITHOUT_GATEWAYS, rows)
    assert rig.rows("neighbours") == rig.rows("next_hops") == {}


def test_a_number_stands_for_one_neighbour() -> None:
    rows = [
        entries.next_hop_row(5, OPTIONS.interfaces[1], 11, mac_octets(MAC)),
        entries.neighbour_row(from_text(SERVER), 5),
        entries.neighbour_row(from_text("10.2.1.8"), 5),
    ]
    rig = Rig(WITHOUT_GATEWAYS, rows)
    assert rig.neighbour(SERVER) == (11, mac_octets(MAC))
    assert rig.neighbour("10.2.1.8") is None


def test_a_permanent_neighbour_keeps_the_number_that_it_had() -> None:
    rows = left_behind()
    options = replace(OPTIONS, neighbours={from_text(SERVER): mac_octets(OTHER)})
    rig = Rig(options, rows)
    assert rig.neighbour(SERVER) == (11, mac_octets(OTHER))
    assert set(rig.rows("next_hops")) == {r.match[0] for r in rows if r.table == "next_hops"}


# --- one network behind several ports ------------------------------------------------------------

RACK = replace(
    WITHOUT_GATEWAYS,
    interfaces=(OPTIONS.interfaces[0], replace(OPTIONS.interfaces[1], more_ports=(12, 13))),
)


def test_somebody_behind_one_of_several_ports_is_asked_for_on_each_of_them() -> None:
    rig = Rig(RACK)
    rig.want(SERVER)
    assert rig.asked() == [(SERVER, port, ALL) for port in (11, 12, 13)]
    rig.resolve(question(SERVER, 11))
    rig.hear(arp_reply(SERVER, MAC, OUR_MACS[11]), 12)
    assert rig.neighbour(SERVER) == (12, mac_octets(MAC))
    assert len(rig.injected) == 1
    assert rig.route("10.2.1.0/24") == 11, "by the first port its packets come up"
    rig.wait(CHECK_S + 0.5)
    assert rig.asked() == [(SERVER, 12, MAC)], "it is checked where it is"


def test_somebody_who_moves_to_another_port_is_followed_at_once() -> None:
    rig = Rig(RACK)
    rig.want(SERVER)
    rig.hear(arp_reply(SERVER, MAC, OUR_MACS[11]), 13)
    rig.hear(arp_reply(SERVER, MAC, OUR_MACS[11]), 11)
    assert rig.neighbour(SERVER) == (11, mac_octets(MAC))
    rig.hear(arp_reply(SERVER, MAC, OUR_MACS[11]), 1)
    assert rig.neighbour(SERVER) == (11, mac_octets(MAC)), "port 1 leads to another network"
    rig.hear(arp_reply(SERVER, MAC, OUR_MACS[11]), 99)
    assert rig.neighbour(SERVER) == (11, mac_octets(MAC)), "port 99 is not ours"


def test_somebody_who_went_away_without_a_word_is_asked_for_everywhere_again() -> None:
    rig = Rig(RACK)
    rig.want(SERVER)
    rig.hear(arp_reply(SERVER, MAC, OUR_MACS[11]), 12)
    rig.take_asks()
    rig.wait(CHECK_S + 3.5)
    assert rig.asked() == [(SERVER, 12, MAC)] * 3
    assert rig.neighbour(SERVER) is None
    rig.want(SERVER)
    assert [port for _, port, _ in rig.asked()] == [11, 12, 13]


def test_the_port_that_an_earlier_agent_found_is_taken_over() -> None:
    rows = [
        entries.neighbour_row(from_text(SERVER), 77),
        entries.next_hop_row(77, RACK.interfaces[1], 13, mac_octets(MAC)),
    ]
    assert Rig(RACK, rows).neighbour(SERVER) == (13, mac_octets(MAC))
    assert Rig(WITHOUT_GATEWAYS, rows).neighbour(SERVER) is None, "13 is not ours any more"

# SPDX-License-Identifier: Apache-2.0
import pytest

from csmb.constants import ErrorCode, Flag
from csmb.messages import VsEntry
from data_flow_segment.peers.virtual_servers import Abilities, VirtualServers, judge
from data_flow_segment.targets.contract import (
    AddVirtualServer,
    RemoveVirtualServer,
    VirtualServerEntry,
    VirtualServerKey,
)
from ssmb.addresses import from_text
from ssmb.constants import AppType, ForwardMode
from ssmb.messages import FlowSignature

VIP = from_text("203.0.113.10")
WEB = VsEntry(virt_ipaddr=VIP, virt_port=80)
KEY = VirtualServerKey(VIP, 80, 6)
NOWHERE = from_text("::ffff:0.0.0.0")


@pytest.mark.parametrize(
    ("entry", "verdict"),
    [
        (WEB, ErrorCode.OK),
        (WEB._replace(protocol=17), ErrorCode.OK),
        (VsEntry(flags=Flag.WILDCARD_ADDR | Flag.WILDCARD_PORT), ErrorCode.OK),
        (WEB._replace(flags=Flag.CS_ASSIST), ErrorCode.OK),
        (WEB._replace(flags=Flag.NOARP_MODE), ErrorCode.OK),
        (WEB._replace(flags=Flag.SSL_PROXY | Flag.HTTP_PROXY), ErrorCode.BADFLAGS),
        (WEB._replace(flags=Flag.RAW_PROXY | Flag.CS_ASSIST), ErrorCode.BADFLAGS),
        (WEB._replace(flags=Flag.HYBRID), ErrorCode.BADFLAGS),
        (WEB._replace(flags=Flag.HTTP_PROXY, protocol=17), ErrorCode.BADFLAGS),
        (WEB._replace(flags=Flag.HYBRID | Flag.CS_ASSIST, protocol=17), ErrorCode.BADFLAGS),
        (WEB._replace(flags=Flag.COOKIE_PROXY), ErrorCode.BADFLAGS),
        (WEB._replace(protocol=1), ErrorCode.BADFLAGS),
        (VsEntry(virt_port=80), ErrorCode.BADFLAGS),
        (WEB._replace(virt_ipaddr=NOWHERE), ErrorCode.BADFLAGS),
        (WEB._replace(next_hop_ipaddr=NOWHERE), ErrorCode.BADFLAGS),
        (WEB._replace(flags=Flag.WILDCARD_ADDR, virt_ipaddr=NOWHERE), ErrorCode.BADFLAGS),
        (WEB._replace(virt_port=0), ErrorCode.BADFLAGS),
        (WEB._replace(flags=Flag.WILDCARD_PORT, virt_port=0), ErrorCode.OK),
        (WEB._replace(next_hop_ipaddr=from_text("127.0.0.1")), ErrorCode.BADFLAGS),
        (WEB._replace(next_hop_ipaddr=from_text("ff02::1")), ErrorCode.BADFLAGS),
        (WEB._replace(next_hop_ipaddr=from_text("10.1.1.1")), ErrorCode.OK),
        (WEB._replace(vs_mode=ForwardMode.L2), ErrorCode.OK),
        (WEB._replace(vs_mode=ForwardMode.TUNNEL), ErrorCode.OK),
        (WEB._replace(vs_mode=ForwardMode.HOP), ErrorCode.UNSUPPORTED),
        (WEB._replace(vs_mode=4), ErrorCode.UNSUPPORTED),
        (WEB._replace(vs_mode=255), ErrorCode.UNSUPPORTED),
        (WEB._replace(flags=Flag.COOKIE_PROXY, app_data=b"id"), ErrorCode.UNSUPPORTED),
        (WEB._replace(flags=Flag.SSL_PROXY), ErrorCode.UNSUPPORTED),
        (WEB._replace(flags=Flag.HTTP_PROXY), ErrorCode.UNSUPPORTED),
        (WEB._replace(flags=Flag.RAW_PROXY), ErrorCode.UNSUPPORTED),
        (WEB._replace(flags=Flag.HYBRID | Flag.CS_ASSIST), ErrorCode.UNSUPPORTED),
    ],
)
def test_flags_are_judged_as_8_2_says(entry: VsEntry, verdict: ErrorCode) -> None:
    assert judge(entry) == verdict


ABLE = Abilities(proxies=True, takes_over=True)
HTTP = WEB._replace(flags=Flag.HTTP_PROXY)
HYBRID = WEB._replace(flags=Flag.HYBRID | Flag.CS_ASSIST)


@pytest.mark.parametrize(
    ("entry", "abilities", "verdict"),
    [
        (WEB._replace(flags=Flag.COOKIE_PROXY, app_data=b"id"), ABLE, ErrorCode.OK),
        (WEB._replace(flags=Flag.COOKIE_PROXY), ABLE, ErrorCode.BADFLAGS),
        (WEB._replace(flags=Flag.SSL_PROXY), ABLE, ErrorCode.OK),
        (WEB._replace(flags=Flag.RAW_PROXY), ABLE, ErrorCode.OK),
        (HTTP, ABLE, ErrorCode.OK),
        (HTTP, Abilities(takes_over=True), ErrorCode.UNSUPPORTED),
        (HTTP._replace(flags=Flag.HTTP_PROXY | Flag.CS_ASSIST), ABLE, ErrorCode.BADFLAGS),
        (HTTP._replace(vs_mode=ForwardMode.L2), ABLE, ErrorCode.UNSUPPORTED),
        (HTTP._replace(vs_mode=ForwardMode.TUNNEL), ABLE, ErrorCode.UNSUPPORTED),
        (HTTP._replace(next_hop_ipaddr=from_text("10.1.1.1")), ABLE, ErrorCode.UNSUPPORTED),
        (HYBRID, ABLE, ErrorCode.OK),
        (HYBRID, Abilities(proxies=True), ErrorCode.UNSUPPORTED),
        (HYBRID._replace(vs_mode=ForwardMode.L2), ABLE, ErrorCode.UNSUPPORTED),
    ],
)
def test_what_the_segments_and_the_target_can_do_decides(
    entry: VsEntry, abilities: Abilities, verdict: ErrorCode
) -> None:
    """8.2, rule 6, and 15.1."""
    assert judge(entry, abilities) == verdict


def test_a_proxied_one_reaches_the_target_and_its_group_needs_cookies() -> None:
    servers = VirtualServers()
    entry = WEB._replace(flags=Flag.COOKIE_PROXY, app_data=b"SID", app_limit=900)
    code, commands = servers.add(entry, 1, ABLE)
    assert (code, commands) == (
        ErrorCode.OK,
        [AddVirtualServer(VirtualServerEntry(KEY, 1, answer_arp=True, proxied=True, app_type=2))],
    )
    server = servers.by_key[KEY]
    assert (server.app_type, server.app_data, server.app_limit) == (AppType.COOKIE, b"SID", 900)
    assert list(servers.proxying) == [1]
    assert servers.add(WEB, 1, ABLE)[1] == [
        AddVirtualServer(VirtualServerEntry(KEY, 1, answer_arp=True))
    ]
    assert not servers.proxying
    servers.add(HTTP, 1, ABLE)
    servers.remove(KEY, 1)
    assert not servers.proxying


def test_of_an_adopted_proxied_one_the_kind_is_not_known() -> None:
    left = VirtualServerEntry(KEY, 1, answer_arp=True, proxied=True, app_type=3)
    servers = VirtualServers([left])
    server = servers.by_key[KEY]
    assert server.proxied
    assert (server.app_type, server.is_raw) == (None, False)
    assert server.entry == left
    assert list(servers.proxying) == [1]
    assert servers.add(HTTP, 1, ABLE) == (ErrorCode.OK, [])  # nothing that the target would see
    assert server.key in servers.by_key
    assert servers.by_key[KEY].app_type is AppType.HTTP_REQUEST


def test_an_adopted_one_of_another_kind_is_told_to_the_target() -> None:
    left = VirtualServerEntry(KEY, 1, answer_arp=True, proxied=True, app_type=3)
    servers = VirtualServers([left])
    raw = WEB._replace(flags=Flag.RAW_PROXY)
    entry = VirtualServerEntry(KEY, 1, answer_arp=True, proxied=True)
    assert servers.add(raw, 1, ABLE) == (ErrorCode.OK, [AddVirtualServer(entry)])


@pytest.mark.parametrize(
    ("flags", "limit", "app_type"),
    [
        (Flag.HTTP_PROXY, 0, 3),
        (Flag.HTTP_PROXY, 512, 3),
        (Flag.HTTP_PROXY, 511, 0),  # a frame might have more
        (Flag.COOKIE_PROXY, 0, 2),
        (Flag.SSL_PROXY, 0, 0),  # the agent reads the node's answer
        (Flag.RAW_PROXY, 0, 0),
    ],
)
def test_what_the_target_may_ask_about_itself(flags: Flag, limit: int, app_type: int) -> None:
    servers = VirtualServers()
    entry = WEB._replace(flags=flags, app_data=b"SID", app_limit=limit)
    _, (command,) = servers.add(entry, 1, ABLE)
    assert isinstance(command, AddVirtualServer)
    assert command.entry.app_type == app_type


MARTIANS = [
    "0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "::", "::1", "fe80::1", "febf::1", "ff02::1",
]  # fmt: skip


@pytest.mark.parametrize("address", MARTIANS)
def test_an_address_that_no_packet_is_forwarded_to_is_no_virtual_servers(address: str) -> None:
    """8.2, rule 5; with the wildcard flag the field is ignored."""
    entry = WEB._replace(virt_ipaddr=from_text(address))
    assert judge(entry) == ErrorCode.BADFLAGS
    wildcard = entry._replace(flags=Flag.WILDCARD_ADDR)
    assert judge(wildcard) == (ErrorCode.BADFLAGS if address == "0.0.0.0" else ErrorCode.OK)


@pytest.mark.parametrize("address", ["1.0.0.0", "169.254.9.9", "223.255.255.255", "fec0::1", "::2"])
def test_any_other_address_may_be_a_virtual_servers(address: str) -> None:
    assert judge(WEB._replace(virt_ipaddr=from_text(address))) == ErrorCode.OK


def test_adding_and_removing_tells_the_target() -> None:
    servers = VirtualServers()
    assert servers.add(WEB, 1) == (
        ErrorCode.OK,
        [AddVirtualServer(VirtualServerEntry(KEY, 1, answer_arp=True))],
    )
    assert servers.remove(KEY, 1) == (ErrorCode.OK, [RemoveVirtualServer(KEY)])
    assert servers.remove(KEY, 1) == (ErrorCode.NOVS, [])


def test_a_repeat_that_changes_nothing_for_the_target_is_not_told_to_it() -> None:
    servers = VirtualServers()
    servers.add(WEB, 1)
    assert servers.add(WEB._replace(idle_timeout=9), 1) == (ErrorCode.OK, [])
    assert servers.by_key[KEY].idle_timeout_s == 9


def test_silence_and_bridging_reach_the_target() -> None:
    servers = VirtualServers()
    _, (command,) = servers.add(WEB._replace(flags=Flag.NOARP_MODE | Flag.CS_ASSIST), 1)
    assert command == AddVirtualServer(VirtualServerEntry(KEY, 1, answer_arp=False, bridged=True))


def test_wildcard_addresses_are_never_answered_for() -> None:
    servers = VirtualServers()
    _, (command,) = servers.add(WEB._replace(flags=Flag.WILDCARD_ADDR), 1)
    key = VirtualServerKey(None, 80, 6)
    assert command == AddVirtualServer(VirtualServerEntry(key, 1, answer_arp=False))


def test_another_groups_virtual_server_stands() -> None:
    servers = VirtualServers()
    servers.add(WEB, 1)
    assert servers.add(WEB, 2) == (ErrorCode.BADFLAGS, [])
    assert servers.remove(KEY, 2) == (ErrorCode.NOVS, [])
    assert servers.by_key[KEY].group_id == 1


def test_a_list_replaces_the_groups_set_and_no_other() -> None:
    servers = VirtualServers()
    other = VsEntry(virt_ipaddr=VIP, virt_port=443)
    servers.add(WEB, 1)
    servers.add(VsEntry(virt_ipaddr=VIP, virt_port=53, protocol=17), 2)
    (added, (add,)), (removed, (remove,)) = servers.replace([other], 1)
    assert (added, removed) == (ErrorCode.OK, ErrorCode.OK)
    assert [type(add), type(remove)] == [AddVirtualServer, RemoveVirtualServer]
    assert {server.key.virt_port for server in servers.by_key.values()} == {443, 53}


def test_one_bad_entry_of_a_list_does_not_take_the_others_along() -> None:
    servers = VirtualServers()
    bad = VsEntry(virt_ipaddr=VIP, virt_port=443, flags=Flag.SSL_PROXY)
    verdicts = [verdict for verdict, _ in servers.replace([bad, WEB], 1)]
    assert verdicts == [ErrorCode.UNSUPPORTED, ErrorCode.OK]
    assert set(servers.by_key) == {KEY}


def test_the_order_of_8_3_for_flows_that_the_cs_originates() -> None:
    servers = VirtualServers()
    for number, flags in enumerate(
        (0, Flag.WILDCARD_PORT, Flag.WILDCARD_ADDR, Flag.WILDCARD_ADDR | Flag.WILDCARD_PORT)
    ):
        servers.add(WEB._replace(flags=flags, idle_timeout=number), 1)

    def found(address: str, port: int) -> int | None:
        signature = FlowSignature(from_text("192.0.2.9"), from_text(address), 9, port, 6)
        server = servers.match(signature)
        return None if server is None else server.idle_timeout_s

    assert found("203.0.113.10", 80) == 0
    assert found("203.0.113.10", 81) == 1
    assert found("203.0.113.11", 80) == 2
    assert found("203.0.113.11", 81) == 3


def test_what_a_target_was_left_with_is_adopted() -> None:
    entry = VirtualServerEntry(KEY, 3, answer_arp=False, bridged=True)
    servers = VirtualServers([entry])
    assert servers.by_key[KEY].entry == entry

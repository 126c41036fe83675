# SPDX-License-Identifier: Apache-2.0
"""APP_QUERY to REPLY: rules, persistence, nodes that fail, repeats (wire protocol 15)."""

from __future__ import annotations

from typing import Any

import pytest

from csmb.constants import Flag as CsmbFlag
from csmb.messages import AddVs, VsList
from ssmb.addresses import from_text, to_text
from ssmb.constants import AppType, CloseReason, ErrorCode, Flag, ResetReason
from ssmb.messages import AppNotify, Delete, FlowState, NewFlow, Reply, Reset, Stats
from support.requests import client_hello, record, request
from support.segments.content_rig import RULES, ContentRig, content_config, proxying
from support.segments.dfs_double import ACK, CLIENT, CONFIG, SERVER, DfsDouble, changed_pool

OTHER = CLIENT[:-1] + b"\x63"
NAT = Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT | Flag.ROUTE_BY_DST_IP | Flag.ADDR16
SSL: dict[str, Any] = {"kind": "ssl", "persistence": {"kind": "ssl_session"}}


def by(kind: str, **more: Any) -> ContentRig:
    """With persistence of a kind, and a node for each request where nothing persists."""
    return ContentRig(content_config(persistence={"kind": kind, **more}))


@pytest.mark.parametrize("parked", [False, True])
def test_a_rule_chooses_the_pool_and_the_dfs_makes_the_connection(parked: bool) -> None:
    rig = ContentRig()
    reply = rig.ask(request("/img/logo.png"), serial=77, port=1234, parked=parked)
    assert reply is not None
    assert reply.flags & ~Flag.PARKED == NAT | Flag.PROXY_SERVER
    assert (reply.serial, reply.src_port, reply.node_port) == (77, 1234, 8080)
    assert bool(reply.frame) is parked
    assert rig.node(request("/img/a"), port=2, parked=parked) == "img2"
    assert rig.node(request("/"), port=3, parked=parked) == "web1"
    content = rig.cs.model.virtual_servers["203.0.113.10", 80, "tcp"].content
    assert content is not None
    assert [rule.matched for rule in content.rules.in_order] == [2, 0]
    assert content.unmatched == 1


@pytest.mark.parametrize("parked", [False, True])
def test_a_rule_refuses(parked: bool) -> None:
    rig = ContentRig()
    assert rig.node(request("/admin"), parked=parked) == "NOTAVAIL"
    assert len(rig.cs.table) == 0
    assert rig.cs.statistics.refused["NOTAVAIL"] == 1


def test_a_frame_that_has_not_all_is_answered_with_more_and_leaves_nothing() -> None:
    rig = ContentRig()
    whole = request("/img/a", x_long="y" * 100)
    assert rig.node(whole[:90], serial=5, parked=True) == "MORE"
    assert len(rig.cs.table) == 0
    assert not rig.cs.statistics.refused
    # the DFS has collected the rest: the same serial
    assert rig.node(whole, serial=5) == "img1"


@pytest.mark.parametrize(
    "octets", [b"\x16\x03\x01\x02\x00\x01", b"GET /\n\n", b"PRI * HTTP/2.0\r\n"]
)
def test_what_is_no_request_is_refused(octets: bytes) -> None:
    rig = ContentRig()
    assert rig.node(octets, parked=True) == "UNKNOWN"
    assert rig.node(octets, port=2) == "UNKNOWN"
    content = rig.cs.model.virtual_servers["203.0.113.10", 80, "tcp"].content
    assert content is not None
    assert (content.unreadable, content.unmatched) == (2, 0)


@pytest.mark.parametrize("parked", [False, True])
def test_a_repeat_gets_the_same_reply_and_counts_once(parked: bool) -> None:
    rig = ContentRig()
    first = rig.ask(serial=5, parked=parked)
    for _ in range(2):
        assert rig.ask(serial=5, parked=parked, flags=Flag.RETRY) == first
    assert rig.cs.model.pools["web"].nodes["web1"].total == 1


def test_another_serial_is_another_connection() -> None:
    rig = ContentRig()
    assert rig.node(serial=5) == "web1"
    assert rig.node(serial=6) == "web2"
    assert len(rig.cs.table) == 1
    assert rig.ask(serial=5) is None  # late
    assert rig.cs.statistics.drops["stale_query"] == 1


def test_the_same_octets_by_another_dfs_get_the_same_node() -> None:
    doubles = [proxying(), proxying(index=1, segment_id=257, address="10.255.0.9", boot_id=9)]
    made = content_config(rules=RULES).model_dump()
    segments = [{"address": "10.255.0.1"}, {"address": "10.255.0.9"}]
    made |= {"data_flow_segments": segments}
    rig = ContentRig(type(content_config()).model_validate(made), *doubles)
    assert rig.node(serial=5) == "web1"
    assert rig.node(serial=5, dfs=1) == "web1"
    assert rig.cs.model.pools["web"].nodes["web1"].total == 1


# --- nodes that fail -------------------------------------------------------------------------


def test_a_node_that_failed_is_set_aside_until_three_have() -> None:
    rig = ContentRig()
    nodes = rig.cs.model.pools["web"].nodes
    assert rig.node(serial=5) == "web1"
    assert rig.node(serial=5, error_code=ErrorCode.NODEFAIL) == "web2"
    # lost: the DFS says the same again
    assert rig.node(serial=5, error_code=ErrorCode.NODEFAIL, flags=Flag.RETRY) == "web2"
    assert rig.node(serial=5, error_code=ErrorCode.NODEFAIL, asked_at=6) == "web3"
    # overtaken: what was said before
    assert rig.node(serial=5, error_code=ErrorCode.NODEFAIL, asked_at=5) == "web3"
    assert [node.failed for node in nodes.values()] == [1, 1, 0]
    assert [node.active for node in nodes.values()] == [0, 0, 1]
    content = rig.cs.model.virtual_servers["203.0.113.10", 80, "tcp"].content
    assert content is not None
    assert content.unmatched == 1  # it is one connection
    assert rig.node(serial=5, error_code=ErrorCode.NODEFAIL, asked_at=7) == "NOTAVAIL"
    assert all(node.has_room for node in nodes.values())
    assert len(rig.cs.table) == 0


def test_persistence_does_not_bring_a_failed_node_back() -> None:
    rig = by("source_address")
    assert rig.node(port=1) == "web1"
    assert rig.node(port=2, serial=9) == "web1"
    assert rig.node(port=2, serial=9, error_code=ErrorCode.NODEFAIL) == "web2"
    assert rig.node(port=3) == "web2"


def test_failures_count_for_outliers() -> None:
    web = changed_pool()[0] | {"outliers": {"failures": 1}}
    rig = ContentRig(content_config(pools=[web]))
    assert rig.node(serial=5) == "web1"
    assert rig.node(serial=5, error_code=ErrorCode.NODEFAIL) == "web2"
    rig.advance(1)
    assert rig.cs.model.pools["web"].nodes["web1"].is_ejected


def test_when_no_other_node_is_left_the_client_is_refused() -> None:
    pool = changed_pool(web2=None, web3=None)
    rig = ContentRig(content_config(pools=pool, at_limit="wait"))
    assert rig.node(serial=5) == "web1"
    assert rig.node(serial=5, error_code=ErrorCode.NODEFAIL) == "NOTAVAIL"


# --- persistence and hash --------------------------------------------------------------------


def test_a_cookie_names_its_node() -> None:
    rig = by("node_cookie", cookie="SRV")
    for value in ("web3", "abc.web3", '"web3"', "web3~abc"):
        assert rig.node(request(cookie=f"a=b; SRV={value}")) == "web3"
    assert rig.node(request(cookie="SRV=web9")) == "web1"  # by the method
    rig.cs.set_nodes("web", ["web3"], weight=None, state="draining", now=rig.now)
    assert rig.node(request(cookie="SRV=web3")) == "web2"


def test_a_cookie_is_remembered_also_for_another_address() -> None:
    rig = by("cookie", cookie="SID")
    first = rig.node(request(cookie="SID=abc"), port=1)
    for port in range(2, 6):
        assert rig.node(request(cookie="SID=abc"), port=port, client=OTHER) == first
    fresh = {rig.node(request(cookie=f"SID={n}"), port=n, client=OTHER) for n in range(100, 130)}
    assert len(fresh) == 3


def test_the_first_request_without_a_cookie_decides_for_its_client() -> None:
    rig = by("cookie", cookie="SID")
    assert [rig.node(port=port) for port in (1, 2)] == ["web1", "web2"]
    assert rig.node(request(cookie="SID=new"), port=3) == "web2"
    assert rig.node(request(cookie="SID=new"), port=4, client=OTHER) == "web2"


def test_a_path_parameter_names_a_node_or_is_remembered() -> None:
    rig = by("path_parameter", parameter="jsessionid")
    assert rig.node(request("/shop;jsessionid=12AB.web3?x=1")) == "web3"
    first = rig.node(request("/shop;jsessionid=77"), port=2)
    assert rig.node(request("/other;jsessionid=77"), port=3, client=OTHER) == first


def test_a_url_is_hashed_to_one_node_and_few_move_when_one_goes() -> None:
    rig = ContentRig(content_config(hash="url"))
    urls = [f"/item/{n}?v={n % 3}" for n in range(40)]
    first = [rig.node(request(url), port=n) for n, url in enumerate(urls, 1)]
    again = [rig.node(request(url), port=n, client=OTHER) for n, url in enumerate(urls, 1)]
    assert first == again
    assert set(first) == {"web1", "web2", "web3"}
    rig.cs.set_nodes("web", ["web3"], weight=None, state="down", now=rig.now)
    moved = [rig.node(request(url), port=n, serial=9000 + n) for n, url in enumerate(urls, 1)]
    stayed = sum(a == b for a, b in zip(first, moved, strict=True) if a != "web3")
    assert "web3" not in moved
    assert stayed >= 0.9 * sum(name != "web3" for name in first)


@pytest.mark.parametrize("parked", [False, True])
def test_a_tls_session_goes_to_the_node_that_made_it(parked: bool) -> None:
    rig = ContentRig(content_config(**SSL))

    def hello(session_id: bytes = b"") -> bytes:
        message = client_hello(session_id)
        return record(message) if parked else message

    assert rig.node(hello(), serial=5, parked=parked) == "web1"
    made = bytes(range(32))
    notify = AppNotify(0, 0, 5, CLIENT, SERVER, 40000, 80, 6, 0, 0, AppType.SSL_SESSION_ID, 0, made)
    rig.dfs.send(rig, notify)
    assert rig.node(hello(), port=2, parked=parked) == "web2"
    assert rig.node(hello(made), port=3, client=OTHER, parked=parked) == "web1"
    assert rig.node(hello(made[:16]), port=4, parked=parked) == "web3"
    rig.now += 301
    assert rig.node(hello(made), port=5, parked=parked) == "web1"  # its turn, by the method
    rig.dfs.send(rig, notify._replace(serial=99))
    assert rig.cs.statistics.drops["stale_notify"] == 1
    rig.dfs.send(rig, notify._replace(flags=Flag.REPLICA))  # a standby's
    assert rig.cs.statistics.drops["invalid_msg"] == 1


def test_the_beginning_of_a_large_client_hello_is_enough() -> None:
    rig = ContentRig(content_config(**SSL))
    whole = record(client_hello(bytes(32), bytes(1000)))
    assert rig.node(whole[:300], parked=True) == "web1"
    assert rig.node(whole[:60], port=2, parked=True) == "MORE"


@pytest.mark.parametrize("parked", [False, True])
def test_kind_cookie_gets_the_cookie_or_the_request(parked: bool) -> None:
    persistence = {"kind": "node_cookie", "cookie": "SRV"}
    rig = ContentRig(content_config(kind="cookie", persistence=persistence))
    said = request(cookie="SRV=x.web2") if parked else b"SRV=x.web2"
    assert rig.node(said, parked=parked) == "web2"
    assert rig.node(request() if parked else b"", port=2, parked=parked) == "web1"
    assert rig.node(b"OTHER=web2", port=3) == "UNKNOWN"


# --- limits ----------------------------------------------------------------------------------


def test_a_connection_waits_for_a_place_with_what_its_client_said() -> None:
    rig = ContentRig(content_config(rules=RULES, connection_limit=1, at_limit="wait"))
    assert rig.node(request("/img/a"), serial=5, port=1) == "img1"
    assert rig.node(request("/img/b"), serial=6, port=2) == "WAIT"
    rig.dfs.send(rig, Delete(serial=5, src_ipaddr=CLIENT, dst_ipaddr=SERVER, src_port=1,
                             dst_port=80, protocol=6, detail=CloseReason.FIN))  # fmt: skip
    rig.settle()
    reply = rig.dfs.ssmb[-1]
    assert isinstance(reply, Reply)
    assert (reply.serial, reply.error_code) == (6, 0)
    assert reply.flags & Flag.PROXY_SERVER
    assert reply.node_ipaddr[-2:] == b"\x02\x02"


def test_a_query_is_no_way_around_the_rules() -> None:
    rig = ContentRig()
    for tcp_flags in (2, ACK):
        reply = rig.dfs.query(rig, tcp_flags=tcp_flags)
        assert reply is not None
        assert reply.error_code == ErrorCode.UNKNOWN


def test_a_spliced_session_goes_on_with_the_offsets_that_its_dfs_reported() -> None:
    rig = ContentRig()
    assert rig.node(serial=5) == "web1"
    rig.dfs.send(rig, Delete(0, Flag.HAS_STATS | Flag.ADD_TCP_OFFSETS, 5, CLIENT, SERVER, 40000, 80,
                             6, 0, 0x1A, CloseReason.OVERFLOW, 0, 0, 9, 9, 9, 9,
                             seq_offset=1, ack_offset=2, ts_offset=3, wscale_shift=-1))  # fmt: skip
    reply = rig.dfs.query(rig, serial=9, tcp_flags=ACK)
    assert reply is not None
    assert reply.flags & (Flag.ADD_TCP_OFFSETS | Flag.PROXY_SERVER) == Flag.ADD_TCP_OFFSETS
    assert (reply.seq_offset, reply.ack_offset, reply.wscale_shift) == (1, 2, -1)
    # a new connection from the same port begins anew
    again = rig.ask(serial=10)
    assert again is not None
    assert again.flags & (Flag.ADD_TCP_OFFSETS | Flag.PROXY_SERVER) == Flag.PROXY_SERVER
    assert again.ack_offset == 0


# --- configuration ---------------------------------------------------------------------------


def announced(double: DfsDouble) -> list[AddVs]:
    """What it was told of virtual servers, the latest last."""
    found: list[AddVs] = []
    for message in double.csmb:
        if isinstance(message, VsList):
            found += [AddVs(*entry) for entry in message.entries]
        elif isinstance(message, AddVs):
            found.append(message)
    return found


@pytest.mark.parametrize(
    ("kind", "more", "flag", "app_data"),
    [
        ("http", {}, CsmbFlag.HTTP_PROXY, b""),
        (
            "http",
            {
                "persistence": {"kind": "cookie", "cookie": "S"},
                "rules": [{"name": "r", "match": {"header": {"X-A": "1"}}, "pool": "web"}],
            },
            CsmbFlag.HTTP_PROXY,
            b"x-a,cookie",
        ),
        (
            "cookie",
            {"persistence": {"kind": "cookie", "cookie": "SID"}},
            CsmbFlag.COOKIE_PROXY,
            b"SID",
        ),
        ("ssl", {}, CsmbFlag.SSL_PROXY, b""),
    ],
)
def test_kinds_are_announced_as_the_protocol_says(
    kind: str, more: dict[str, Any], flag: CsmbFlag, app_data: bytes
) -> None:
    rig = ContentRig(content_config(kind=kind, app_limit=9000, **more))
    (server,) = announced(rig.dfs)
    proxies = CsmbFlag.HTTP_PROXY | CsmbFlag.COOKIE_PROXY | CsmbFlag.SSL_PROXY
    assert server.flags & proxies == flag
    assert (server.app_limit, server.app_data) == (9000, app_data)
    assert rig.dfs.cs_hello.flags & CsmbFlag.APP_PROXY


def test_a_dfs_that_cannot_is_not_told_and_the_log_says_so() -> None:
    rig = ContentRig(None, DfsDouble())
    assert announced(rig.dfs) == []
    assert any("cannot read what clients say" in line for line in rig.cs.log)


def test_changed_rules_are_in_force_for_the_next_connection() -> None:
    rig = ContentRig()
    assert rig.node(request("/img/a"), port=1) == "img1"
    rules = [{"name": "images", "match": {"path_prefix": ["/pictures/"]}, "pool": "images"}]
    rig.cs.apply_config(content_config(rules=rules), rig.now)
    rig.settle()
    assert rig.node(request("/img/a"), port=2) == "web1"
    assert rig.node(request("/pictures/a"), port=3) == "img2"
    content = rig.cs.model.virtual_servers["203.0.113.10", 80, "tcp"].content
    assert content is not None
    assert [rule.matched for rule in content.rules.in_order] == [2]  # its name is the same
    assert len(announced(rig.dfs)) == 1  # nothing that a DFS knows has changed


def test_a_changed_kind_is_announced_anew() -> None:
    rig = ContentRig()
    plain = {**CONFIG["virtual_servers"][0]}
    changed = content_config().model_dump() | {"virtual_servers": [plain]}
    rig.cs.apply_config(type(content_config()).model_validate(changed), rig.now)
    rig.settle()
    first, last = announced(rig.dfs)
    assert first.flags & CsmbFlag.HTTP_PROXY
    assert not last.flags & CsmbFlag.HTTP_PROXY
    # a question that was on its way
    assert rig.node(port=7) == "web1"


def test_the_trace_says_which_rule_and_why() -> None:
    rig = by("node_cookie", cookie="SRV")
    rig.ask(request(cookie="SRV=web3"), port=1)
    rig = ContentRig()
    rig.ask(request("/img/a"), port=1)
    rig.ask(request("/admin"), port=2)
    notes = [what for _, what in rig.cs.trace.matching()]
    assert "virtual server www: node img1 by round_robin, by rule images" in notes
    assert "refused, NOTAVAIL: refused, by rule no admin" in notes


# --- after the splice ------------------------------------------------------------------------

OFFSETS = {"seq_offset": 1, "ack_offset": 2, "ts_offset": 3, "wscale_shift": -1}


def spliced(message: type[FlowState] | type[Stats], serial: int) -> FlowState | Stats:
    """What a DFS says of a flow that it has spliced, to node web1."""
    flags = int(Flag.ADD_TCP_OFFSETS | Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT)
    values: dict[str, Any] = {
        **OFFSETS, "flags": flags, "serial": serial, "src_ipaddr": CLIENT, "dst_ipaddr": SERVER,
        "src_port": 40000, "dst_port": 80, "protocol": 6,
    }  # fmt: skip
    if message is Stats:
        return Stats(**values)
    node = from_text("10.1.1.2")
    return FlowState(**values, node_ipaddr=node, node_port=8080, idle_timeout=300)


@pytest.mark.parametrize("message", [FlowState, Stats])
def test_offsets_that_a_dfs_reports_are_kept(message: type[FlowState] | type[Stats]) -> None:
    rig = ContentRig()
    assert rig.node(serial=5) == "web1"
    unknown = rig.dfs.query(rig, serial=5, tcp_flags=ACK)
    assert unknown is not None
    assert unknown.error_code == ErrorCode.UNKNOWN
    rig.dfs.send(rig, spliced(message, 5))
    reply = rig.dfs.query(rig, serial=6, tcp_flags=ACK)
    assert reply is not None
    assert reply.flags & (Flag.ADD_TCP_OFFSETS | Flag.PROXY_SERVER) == Flag.ADD_TCP_OFFSETS
    assert {name: getattr(reply, name) for name in OFFSETS} == OFFSETS
    assert to_text(reply.node_ipaddr) == "10.1.1.2"


@pytest.mark.parametrize("is_spliced", [False, True])
def test_a_session_outlives_its_dfss_table_only_with_its_offsets(is_spliced: bool) -> None:
    rig = ContentRig()
    assert rig.node(serial=5) == "web1"
    if is_spliced:
        rig.dfs.send(rig, spliced(FlowState, 5))
    rig.dfs.send(rig, Reset(reset_id=9, detail=ResetReason.BOOT))
    reply = rig.dfs.query(rig, serial=6, tcp_flags=ACK)
    assert reply is not None
    assert (reply.error_code == 0) is is_spliced


def test_a_flow_goes_to_the_others_of_a_team_when_its_offsets_are_known() -> None:
    segments = [{"address": f"10.255.0.{n}", "multipath": "edge"} for n in (1, 9)]
    doubles = [proxying(), proxying(index=1, segment_id=257, address="10.255.0.9", boot_id=9)]
    made = content_config(rules=RULES).model_dump() | {"data_flow_segments": segments}
    rig = ContentRig(type(content_config()).model_validate(made), *doubles)
    rig.advance(5)

    def spares() -> list[NewFlow]:
        return [each for each in doubles[1].ssmb if isinstance(each, NewFlow)]

    assert rig.node(serial=5) == "web1"
    rig.advance(1)
    assert spares() == []
    rig.dfs.send(rig, spliced(FlowState, 5))
    rig.advance(1)
    (spare,) = spares()
    assert spare.flags & Flag.ADD_TCP_OFFSETS
    assert {name: getattr(spare, name) for name in OFFSETS} == OFFSETS


# --- what outlives a CS ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "persistence"),
    [("http", {"kind": "cookie", "cookie": "SID"}), ("ssl", {"kind": "ssl_session"})],
)
def test_what_persistence_remembers_of_content_outlives_a_cs(
    kind: str, persistence: dict[str, Any]
) -> None:
    made = content_config(kind=kind, persistence=persistence)
    rig, session_id = ContentRig(made), bytes(range(32))
    said = request(cookie="SID=abc") if kind == "http" else client_hello(session_id)
    if kind == "http":
        assert rig.node(port=1) == "web1"
        assert rig.node(port=2) == "web2"
        assert rig.node(said, port=3) == "web2"  # as the latest without it
    else:
        assert rig.node(client_hello(), port=1, serial=5) == "web1"
        rig.dfs.send(
            rig,
            AppNotify(
                0,
                0,
                5,
                CLIENT,
                SERVER,
                1,
                80,
                6,
                detail=AppType.SSL_SESSION_ID,
                app_data=session_id,
            ),
        )
    before = rig.node(said, port=4, client=OTHER)
    sections = list(rig.cs.model.persistence.sections(rig.now, 5000.0))
    after = ContentRig(made)
    after.cs.model.persistence.restore(sections, after.now, 5010.0)
    assert after.node(said, port=4, client=OTHER) == before


def test_a_standby_knows_which_client_had_which_node_and_so_where_its_cookie_belongs() -> None:
    rig = by("cookie", cookie="SID")
    reply = rig.ask(port=1, serial=5)
    assert reply is not None
    standby = by("cookie", cookie="SID")
    for _ in range(2):
        standby.cs.model.pools["web"].method.pick(b"", 0.0)  # its turn is another one's
    peer = standby.cs.peers[256]
    standby.cs.dispatch.mirror.decided(peer, reply, standby.now)
    assert standby.ask(port=1, serial=5) == reply  # the client's repeat
    assert standby.node(request(cookie="SID=new"), port=2) == "web1"

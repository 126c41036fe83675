# SPDX-License-Identifier: Apache-2.0
"""The configurations of the pair of machines that bench/failover.py compares with."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "bench"))

from pair_configs import (
    CHECK,
    CHECK_PORT,
    PORTS,
    PRIORITIES,
    ROUTED_ADDRESSES,
    VIRTUAL_ADDRESS,
    VRRP,
    Vrrp,
    haproxy,
    keepalived,
    nginx,
)

NODES = ["192.0.2.1", "192.0.2.2"]


def number(text: str, key: str) -> float:
    (found,) = re.findall(rf"^ *{key} ([0-9.]+)$", text, re.MULTILINE)
    return float(found)


@pytest.mark.parametrize(
    ("advert_int_s", "priority", "down_s"),
    [(1, 100, 3.609375), (1, 254, 3.0078125), (0.01, 100, 0.03609375), (1, 255, 3.00390625)],
)
def test_a_backup_waits_three_adverts_and_its_skew(
    advert_int_s: float, priority: int, down_s: float
) -> None:
    assert Vrrp(advert_int_s).detection_s(priority) == pytest.approx(down_s)


@pytest.mark.parametrize("name", VRRP)
def test_the_first_machine_is_to_be_active_and_all_else_is_the_same(name: str) -> None:
    first, second = (keepalived(VRRP[name], machine) for machine in (0, 1))
    assert number(first, "priority") > number(second, "priority")
    assert second == first.replace("router_id lb1", "router_id lb2").replace(
        f"priority {PRIORITIES[0]}", f"priority {PRIORITIES[1]}"
    )


@pytest.mark.parametrize("name", VRRP)
def test_keepalived_is_told_what_the_settings_say(name: str) -> None:
    vrrp = VRRP[name]
    text = keepalived(vrrp, 0)
    assert number(text, "advert_int") == vrrp.advert_int_s
    assert all(re.search(rf"^ *{line}$", text, re.MULTILINE) for line in vrrp.global_lines)
    assert f"{VIRTUAL_ADDRESS}/24" in text
    assert f'"{CHECK}"' in text
    assert text.count("{") == text.count("}")


def test_intervals_below_a_second_have_version_3() -> None:
    for vrrp in VRRP.values():
        assert (
            vrrp.advert_int_s == int(vrrp.advert_int_s)
        ) or "vrrp_version 3" in vrrp.global_lines


def test_haproxy_serves_each_port_from_every_server() -> None:
    listeners = {
        int(port): re.findall(r"server \S+ (\S+)", body)
        for port, body in re.findall(
            r"^  bind :(\d+) .*\n((?:  .*\n)*)", haproxy(NODES), re.MULTILINE
        )
    }
    assert listeners == {port: [f"{node}:{to}" for node in NODES] for port, to in PORTS.items()}


def test_nginx_serves_each_port_from_every_server() -> None:
    text = nginx(NODES, Path("/scratch"))
    upstreams = {
        name: re.findall(r"server ([^;]+);", body)
        for name, body in re.findall(r"upstream (\S+) \{ (.*?) \}", text)
    }
    passed = {
        int(port): name for port, name in re.findall(r"listen (\d+) .*proxy_pass (\S+);", text)
    }
    assert {port: upstreams[name] for port, name in passed.items()} == {
        port: [f"{node}:{to}" for node in NODES] for port, to in PORTS.items()
    }
    assert text.count("{") == text.count("}")


def test_what_is_checked_is_what_each_proxy_answers() -> None:
    assert f"http://127.0.0.1:{CHECK_PORT}/" in CHECK
    assert f"bind 127.0.0.1:{CHECK_PORT}\n" in haproxy(NODES)
    assert f"listen 127.0.0.1:{CHECK_PORT};" in nginx(NODES, Path("/scratch"))


def test_where_no_proxy_ends_connections_both_addresses_move_and_nothing_is_checked() -> None:
    text = keepalived(VRRP["default"], 0, ROUTED_ADDRESSES, check=None)
    held = dict(re.findall(r"^ *(\S+)/24 dev (\S+)$", text, re.MULTILINE))
    assert held == {VIRTUAL_ADDRESS: "eth0", ROUTED_ADDRESSES["eth1"]: "eth1"}
    assert "script" not in text.replace("script_user", "")
    assert text.count("{") == text.count("}")

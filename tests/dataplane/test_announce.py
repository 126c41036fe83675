# SPDX-License-Identifier: Apache-2.0
"""Solicited-node groups of virtual addresses: the kernel is a member while they are answered."""

from __future__ import annotations

from typing import Any

import pytest

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    RemoveVirtualServer,
    VirtualServerEntry,
    VirtualServerKey,
)
from ssmb.addresses import from_text

pytestmark = pytest.mark.dataplane

COUNT = 600  # more than a socket has room for where net.core.optmem_max is 20 KB


def groups(ground: Any, name: str) -> set[str]:
    """What `ip` says that the interface listens to."""
    shown = ground.ip("-6", "maddress", "show", "dev", name)
    return {line.split()[1] for line in shown.splitlines() if "inet6" in line}


def server(number: int, port: int = 80) -> VirtualServerEntry:
    key = VirtualServerKey(from_text(f"2001:db8:2::ab:{number:x}"), port, 6)
    return VirtualServerEntry(key, 1, answer_arp=True)


def test_the_groups_of_virtual_addresses_are_joined_and_left(ground: Any) -> None:
    with ground.inside():
        target = ground.open()
        target.apply([AddVirtualServer(server(1)), AddVirtualServer(server(1, port=81))])
        assert "ff02::1:ffab:1" in groups(ground, "ext0")
        assert "ff02::1:ffab:1" not in groups(ground, "int0")
        target.apply([RemoveVirtualServer(server(1).key)])
        assert "ff02::1:ffab:1" in groups(ground, "ext0")
        target.apply([RemoveVirtualServer(server(1, port=81).key)])
        assert "ff02::1:ffab:1" not in groups(ground, "ext0")


def test_a_new_agent_joins_what_it_adopts(ground: Any) -> None:
    with ground.inside():
        ground.open().apply([AddVirtualServer(server(1))])
        ground.opened.pop().close(detach=False)
        assert "ff02::1:ffab:1" not in groups(ground, "ext0")
        ground.open()
        assert "ff02::1:ffab:1" in groups(ground, "ext0")


def test_there_may_be_many(ground: Any) -> None:
    with ground.inside():
        target = ground.open()
        before = groups(ground, "ext0")
        target.apply([AddVirtualServer(server(number)) for number in range(1, COUNT + 1)])
        expected = {f"ff02::1:ffab:{number:x}" for number in range(1, COUNT + 1)}
        assert groups(ground, "ext0") - before == expected

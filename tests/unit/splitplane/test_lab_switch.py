# SPDX-License-Identifier: Apache-2.0
"""What a laboratory's switch is told, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from admin.errors import MachineError
from data_flow_segment.config.segment import DataFlowSegmentConfig
from splitplane.lab import configs, switch
from splitplane.lab.topology import Topology


def topology(clients: int, servers: int, *, ipv6: bool = True, lab: str = "lab") -> Topology:
    return Topology(lab, clients, servers, 1, ipv6)


@pytest.mark.parametrize("hosts", [1, 3, 250])
@pytest.mark.parametrize("ipv6", [True, False])
def test_the_configuration_of_every_size_is_one_that_the_dfs_takes(hosts: int, ipv6: bool) -> None:
    config = configs.dfs_config(
        topology(hosts, hosts, ipv6=ipv6), Path("/run/lab"), Path("/pins"),
        target="p4runtime", attach="auto", flow_capacity=1024,
    )  # fmt: skip
    section = DataFlowSegmentConfig.model_validate(config).p4runtime
    assert section is not None
    assert len(section.interfaces) == 2 * hosts
    assert {len(interface.addresses) for interface in section.interfaces} == {1 + ipv6}


def test_the_switch_has_the_ports_that_the_configuration_says() -> None:
    laboratory = topology(2, 1)
    command = switch.command(laboratory, Path("/run/lab"))
    assert [word for word in command if word.startswith("-i")] == [
        "-i1@client1", "-i2@client2", "-i251@server1",
    ]  # fmt: skip
    interfaces = switch.section(laboratory, Path("/run/lab"))["interfaces"]
    assert [(each["port"], each["name"]) for each in interfaces] == [
        (1, "client1"), (2, "client2"), (251, "server1"),
    ]  # fmt: skip


def test_two_laboratories_have_two_devices() -> None:
    devices = {
        switch.section(topology(1, 1, lab=name), Path("/run/lab"))["device_id"]
        for name in ("lab", "other")
    }
    assert len(devices) == 2


def test_without_bmv2_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="not installed: simple_switch_grpc") as caught:
        switch.require_switch()
    assert "p4lang-bmv2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nobody_answers_where_no_switch_is(tmp_path: Path) -> None:
    assert not switch.answers(tmp_path)

# SPDX-License-Identifier: Apache-2.0
"""The section of a switch: what is wrong is told where it stands, with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from admin.errors import ConfigError
from data_flow_segment.config.p4runtime import FLOW_CAPACITY_MAX, grpc_address
from data_flow_segment.config.segment import DataFlowSegmentConfig
from data_flow_segment.targets.p4runtime.options import TlsOptions
from splitplane.config import parse

RIGHT = """\
segment_id: 256
target: p4runtime
p4runtime:
  address: 127.0.0.1:9559
  interfaces:
    - port: 1
      name: client1
      mac: "02:5b:00:00:00:01"
      addresses: [10.1.1.1/24, "2001:db8:1:1::1/64"]
      external: true
    - port: 11
      name: server1
      mac: "02:5b:00:00:00:0b"
      addresses: [10.2.1.1/24]
      internal: true
  routes:
    - {to: 0.0.0.0/0, via: 10.1.1.254}
  neighbours:
    10.2.1.2: "02:00:00:00:00:01"
ssmb: {address: 10.255.0.1}
key_file: cluster.key
"""

WRONG = [
    ("port: 11", "port: 1", "dfs.yaml:11: p4runtime.interfaces[1].port: port 1 is that of interfa"),
    ("port: 11", "port: 512", "dfs.yaml:11: p4runtime.interfaces[1].port: port 512 cannot be"),
    ("port: 11", "port: 0", "dfs.yaml:11: p4runtime.interfaces[1].port: 0 is not a port; give"),
    ("port: 11", "port: 511", "dfs.yaml:11: p4runtime.interfaces[1].port: port 511 cannot be use"),
    ("port: 11", "port: 510", "dfs.yaml:11: p4runtime.interfaces[1].port: port 510 leads to the"),
    ("name: server1", "name: client1", "dfs.yaml:12: p4runtime.interfaces[1].name: name client1 "),
    ("00:00:0b", "00:0b", "dfs.yaml:13: p4runtime.interfaces[1].mac: '02:5b:00:00:0b' is not the"),
    ('"02:5b:00:00:00:0b"', '"ff:ff:ff:ff:ff:ff"', "dfs.yaml:13: p4runtime.interfaces[1].mac: '"),
    ('"02:5b:00:00:00:0b"', '"zz:5b:00:00:00:0b"', "dfs.yaml:13: p4runtime.interfaces[1].mac: '"),
    ("10.2.1.1/24", "10.2.1.1", "dfs.yaml:14: p4runtime.interfaces[1].addresses[0]: '10.2.1.1' is"),
    ("10.2.1.1/24", "10.2.1.1/33", "dfs.yaml:14: p4runtime.interfaces[1].addresses[0]: '10.2.1.1"),
    ("10.2.1.1/24", "224.0.0.1/24", "dfs.yaml:14: p4runtime.interfaces[1].addresses[0]: '224.0."),
    ("10.2.1.1/24", "10.1.1.1/28", "dfs.yaml:14: p4runtime.interfaces[1].addresses[0]: address 1"),
    ("10.2.1.1/24", "10.1.1.9/24", "dfs.yaml:14: p4runtime.interfaces[1].addresses[0]: network 1"),
    ("external: true", "external: 1", "dfs.yaml:10: p4runtime.interfaces[0].external: 1 is neith"),
    ("external: true", "external: false", "dfs.yaml:5: p4runtime.interfaces: no interface is ext"),
    ("internal: true", "mtu: 9000", "dfs.yaml:5: p4runtime.interfaces: no interface is internal;"),
    ("internal: true", "internal: true\n      mtu: 576", "dfs.yaml:16: p4runtime.interfaces[1].mt"),
    ("10.1.1.254", "10.9.1.254", "dfs.yaml:17: p4runtime.routes[0].via: 10.9.1.254 is in no int"),
    ("10.1.1.254", "2001:db8:1:1::2", "dfs.yaml:17: p4runtime.routes[0]: 0.0.0.0/0 and 2001:db8:"),
    ("0.0.0.0/0", "10.0.0.1/8", "dfs.yaml:17: p4runtime.routes[0].to: '10.0.0.1/8' has bits set a"),
    ("0.0.0.0/0", "10.2.1.0/24", "dfs.yaml:17: p4runtime.routes[0].to: network 10.2.1.0/24 is th"),
    ("10.2.1.2:", "10.9.1.2:", "dfs.yaml:19: p4runtime.neighbours.10.9.1.2: 10.9.1.2 is in no int"),
    ("127.0.0.1:9559", "127.0.0.1", "dfs.yaml:4: p4runtime.address: '127.0.0.1' is not the addre"),
    ("127.0.0.1:9559", "host:70000", "dfs.yaml:4: p4runtime.address: 'host:70000' is not the ad"),
    ("  address: 127.0.0.1:9559\n", "", "dfs.yaml:3: p4runtime.address: missing; add it"),
    ("key_file", "external: [eth0]\nkey_file", "dfs.yaml:21: external: not used by target p4runt"),
    ("key_file", "attach: auto\nkey_file", "dfs.yaml:21: attach: not used by target p4runtime, w"),
    ("key_file", "pin_path: /p\nkey_file", "dfs.yaml:21: pin_path: not used by target p4runtime,"),
    ("key_file", "flow_capacity: 131073\nkey_file", "dfs.yaml:21: flow_capacity: 131073 is more t"),
    ("target: p4runtime", "target: memory", "dfs.yaml:3: p4runtime: not used by target memory; s"),
]  # fmt: skip


def read(text: str) -> DataFlowSegmentConfig:
    return parse(text, "dfs.yaml", DataFlowSegmentConfig)


def changed(**changes: Any) -> str:
    """RIGHT with fields of the section replaced."""
    config = yaml.safe_load(RIGHT)
    config["p4runtime"].update(changes)
    return yaml.safe_dump(config)


def test_the_least_section_gets_the_documented_defaults() -> None:
    section = read(RIGHT).p4runtime
    assert section is not None
    assert (section.device_id, section.election_id, section.replace_program) == (1, 1, False)
    assert [interface.mtu for interface in section.interfaces] == [1500, 1500]


@pytest.mark.parametrize(("right", "wrong", "said"), WRONG, ids=lambda part: part.strip()[:30])
def test_what_cannot_work_is_told_at_its_line(right: str, wrong: str, said: str) -> None:
    assert right in RIGHT
    with pytest.raises(ConfigError) as caught:
        read(RIGHT.replace(right, wrong))
    assert any(problem.startswith(said) for problem in caught.value.problems), caught.value.problems


NAMED = {"uplink": 1, "rack1": 11, "rack2": 12}
BOTH = {"name": "both", "mac": "02:00:00:00:00:01", "addresses": ["10.1.1.1/16"],
        "external": True, "internal": True}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"ports": ["rack1", "rack3"]},
            r"interfaces\[0\].ports\[1\]: rack3 is not in `port_names`",
        ),
        ({"port": "rack3"}, r"interfaces\[0\].port: rack3 is not in `port_names`; add it"),
        (
            {"ports": ["rack1", 11]},
            r"interfaces\[0\].ports\[1\]: port 11 is that of interfaces\[0\]",
        ),
        ({"ports": []}, r"interfaces\[0\].ports"),
        ({"ports": [True]}, r"interfaces\[0\].ports\[0\]: True is not a port; give its number"),
        ({"port": "1st"}, r"interfaces\[0\].port: '1st' is not a port; give its number"),
        ({"port": 1, "ports": [2]}, r"interfaces\[0\]: give `port`, or `ports` for several"),
        ({}, r"interfaces\[0\]: give `port`, or `ports` for several"),
        ({"ports": [1, 512]}, r"interfaces\[0\].ports\[1\]: port 512 cannot be used with spl"),
    ],
)
def test_ports_that_cannot_be_are_told(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(changed(port_names=NAMED, interfaces=[{**BOTH, **fields}], routes=[], neighbours={}))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"1st": 1}, "'1st' cannot name a port; begin with a letter"),
        ({"first": 0}, r"port_names.first: 0 is not the number of a port; give 1 to 65535"),
        ({"first": "2"}, r"port_names.first: '2' is not the number of a port"),
    ],
)
def test_names_of_ports_that_cannot_be_are_told(names: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(changed(port_names=names))


def test_a_permanent_neighbour_has_one_port() -> None:
    ports = [{**BOTH, "ports": [1, 2]}]
    with pytest.raises(ConfigError, match="may be behind each port of interface both; remove it"):
        read(changed(interfaces=ports, routes=[], neighbours={"10.1.2.3": "02:00:00:00:00:03"}))


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ({"p4info_file": "/p4"}, "give device_config_file, for a program that the agent installs"),
        ({"p4info_file": "/p4", "device_config_file": "/c", "loaded": True}, "give device_config"),
        ({"p4info_file": "p4", "loaded": True}, "'p4' is not an absolute path; give one"),
        ({"loaded": True}, "p4runtime.program.p4info_file: missing; add it"),
        ({"p4info_file": "/p4", "loaded": True, "agent_port": 11}, "port 11 leads to the agent"),
    ],
)
def test_a_program_that_cannot_be_is_told(program: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(changed(program=program))


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ({"certificate_file": "/a.pem"}, "a certificate needs its key"),
        ({"key_file": "/a.key"}, "a certificate needs its key"),
        ({"ca_file": "ca.pem"}, "'ca.pem' is not an absolute path; give one"),
        ({"server_name": "two words"}, "'two words' cannot be a name in a certificate"),
    ],
)
def test_what_cannot_encrypt_is_told(tls: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(changed(tls=tls))


def test_tls_is_given_to_the_target() -> None:
    files = {"ca_file": "/ca.pem", "certificate_file": "/a.pem", "key_file": "/a.key"}
    section = read(changed(tls={**files, "server_name": "switch1"})).p4runtime
    assert section is not None
    told = section.options(1000).tls
    assert told == TlsOptions(Path("/ca.pem"), Path("/a.pem"), Path("/a.key"), "switch1")
    section = read(RIGHT).p4runtime
    assert section is not None
    assert section.options(1000).tls is None


def test_a_target_without_its_section_is_refused() -> None:
    config = yaml.safe_load(RIGHT)
    del config["p4runtime"]
    with pytest.raises(ConfigError, match="needs the section p4runtime; add it"):
        read(yaml.safe_dump(config))


def test_the_programs_room_is_the_most() -> None:
    capacity = FLOW_CAPACITY_MAX
    assert read(RIGHT + f"flow_capacity: {capacity}\n").flow_capacity == capacity
    with pytest.raises(ConfigError, match=f"give at most {capacity}"):
        read(RIGHT + f"flow_capacity: {capacity + 1}\n")


def test_one_arm_is_an_interface_that_is_both() -> None:
    both = {"port": 1, "name": "arm", "mac": "02:00:00:00:00:01", "addresses": ["10.1.1.1/16"]}
    config = read(
        changed(
            interfaces=[{**both, "external": True, "internal": True}],
            routes=[{"to": "10.0.0.0/8", "via": "10.1.2.3"}],
            neighbours={},
        )
    )
    assert config.p4runtime is not None
    assert config.p4runtime.interface_towards("10.1.255.1") is config.p4runtime.interfaces[0]


def test_a_gateway_is_behind_the_narrowest_network_that_has_it() -> None:
    def interface(port: int, address: str) -> dict[str, Any]:
        mac = f"02:00:00:00:00:{port:02x}"
        sides = {"external": True, "internal": True}
        return {"port": port, "name": f"p{port}", "mac": mac, "addresses": [address], **sides}

    config = read(
        changed(
            interfaces=[interface(1, "10.0.0.1/8"), interface(2, "10.1.1.1/24")],
            routes=[],
            neighbours={},
        )
    )
    assert config.p4runtime is not None
    towards = config.p4runtime.interface_towards
    found = [towards(address) for address in ("10.1.1.2", "10.1.2.2", "::1", "11.0.0.1")]
    assert [each and each.port for each in found] == [2, 1, None, None]


@pytest.mark.parametrize("text", ["127.0.0.1:9559", "[::1]:1", "switch-7.lab:9559", "unix:/run/s"])
def test_what_a_switchs_address_may_be(text: str) -> None:
    assert grpc_address(text) == text


@pytest.mark.parametrize("text", ["", "::1:9559", "host:", "host:0", ":9559", "unix:s", "a b:1"])
def test_what_a_switchs_address_cannot_be(text: str) -> None:
    with pytest.raises(ValueError, match="give HOST:PORT"):
        grpc_address(text)

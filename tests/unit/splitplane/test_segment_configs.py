# SPDX-License-Identifier: Apache-2.0
"""The segments' own models through the loader: an error is told at the line where it is mended."""

from __future__ import annotations

import pytest

from admin.errors import ConfigError
from control_segment.config import ControlSegmentConfig
from data_flow_segment.config.segment import DataFlowSegmentConfig
from splitplane.config import parse

CS = """\
segment_id: 1
ssmb: {address: 10.255.0.2}
key_file: cluster.key
data_flow_segments:
  - address: 10.255.0.1
pools:
  - name: web
    nodes:
      - {name: web1, address: 10.1.1.2}
      - {name: web2, address: 10.1.1.3}
virtual_servers:
  - name: www
    address: 203.0.113.10
    port: 80
    protocol: tcp
    pool: web
"""
DFS = """\
segment_id: 256
external: [ext0]
internal: [int0]
ssmb:
  address: 10.255.0.1
key_file: cluster.key
"""

CS_CASES = [
    ("pool: web\n", "pool: wbe\n", "cs.yaml:16: virtual_servers[0].pool: virtual server www"),
    ("web2,", "web1,", "cs.yaml:10: pools[0].nodes[1].name: pool web: node name 'web1' is given"),
    ("10.1.1.3", "fd00::1", "cs.yaml:16: virtual_servers[0].pool: virtual server www: node web2"),
    ("10.1.1.3", "10.1.1.300", "cs.yaml:10: pools[0].nodes[1].address: '10.1.1.300' is not an IP"),
    ("10.1.1.3", "224.0.0.1", "cs.yaml:10: pools[0].nodes[1].address: '224.0.0.1' is not the ad"),
    ("10.1.1.3", "0.0.0.0", "cs.yaml:10: pools[0].nodes[1].address: '0.0.0.0' is not the addr"),
    ("10.1.1.3", "240.0.0.1", "cs.yaml:10: pools[0].nodes[1].address: '240.0.0.1' is not the add"),
    ("10.1.1.3", "127.0.0.1", "cs.yaml:10: pools[0].nodes[1].address: '127.0.0.1' never leaves it"),
    ("203.0.113.10", "127.0.0.1", "cs.yaml:13: virtual_servers[0].address: '127.0.0.1' is not an"),
    ("203.0.113.10", '"fe80::9"', "cs.yaml:13: virtual_servers[0].address: 'fe80::9' is not an ad"),
    ("203.0.113.10", '"::1"', "cs.yaml:13: virtual_servers[0].address: '::1' is not an addr"),
    ("203.0.113.10", "239.1.1.1", "cs.yaml:13: virtual_servers[0].address: '239.1.1.1' is not the"),
    ("203.0.113.10", "255.255.255.255", "cs.yaml:13: virtual_servers[0].address: '255.255.255.255"),
    ("203.0.113.10", "0.0.0.1", "cs.yaml:13: virtual_servers[0].address: '0.0.0.1' is not the add"),
    ("port: 80", "next_hop: 127.0.0.1\n    port: 80", "cs.yaml:14: virtual_servers[0].next_hop: '"),
    ("port: 80", "source_translation: 127.0.0.1\n    port: 80", "cs.yaml:14: virtual_servers[0].s"),
    ("10.255.0.1\n", '"fe80::1"\n', "cs.yaml:5: data_flow_segments[0].address: 'fe80::1' is valid"),
    ("10.1.1.3", "0::ffff:10.1.1.3", "cs.yaml:10: pools[0].nodes[1].address: '0::ffff:10.1.1.3' i"),
    ("10.1.1.3", "fe80::1%eth0", "cs.yaml:10: pools[0].nodes[1].address: 'fe80::1%eth0' is an IP"),
    ("10.255.0.2", "0.0.0.0", "cs.yaml:2: ssmb.address: '0.0.0.0' is not the address of a single"),
    ("segment_id: 1", "segment_id: true", "cs.yaml:1: segment_id: True is not a whole number"),
    ("port: 80", "port: 1:30", "cs.yaml:14: virtual_servers[0].port: '1:30' is not a whole numb"),
    ("cluster.key", '""', "cs.yaml:3: key_file: '' cannot be a file path; give one"),
    ("cluster.key", '"a\\0b"', "cs.yaml:3: key_file: 'a\\x00b' cannot be a file path; give"),
    ("port: 80", "port: http", "cs.yaml:14: virtual_servers[0].port: 'http' is not a whole number"),
    ("protocol: tcp", "protocol: sctp", "cs.yaml:15: virtual_servers[0].protocol: 'sctp' is not"),
    ("protocol: tcp", "next_hop: fd00::1\n    protocol: tcp", "cs.yaml:15: virtual_servers[0].n"),
    ("name: web\n", "name: web\n    method: guess\n", "cs.yaml:8: pools[0].method: unknown"),
    ("  - address: 10", "  - adress: 10", "cs.yaml:5: data_flow_segments[0].adress: unkno"),
    (
        "key_file",
        "metrics: {port: 9160, address: 127.0.0.256}\nkey_file",
        "cs.yaml:3: metrics.address: '127.0.0.256' is not",
    ),
    (
        "key_file",
        "metrics: {port: 9160, address: 224.0.0.1}\nkey_file",
        "cs.yaml:3: metrics.address: '224.0.0.1' is not the address of a single host",
    ),
    ("key_file", "metrics: {}\nkey_file", "cs.yaml:3: metrics.port: missing; add it"),
    ("key_file: cluster.key\n", "", "cs.yaml:1: (the whole file): key_file is missing"),
]  # fmt: skip
DFS_CASES = [
    ("256", "1", "dfs.yaml:1: segment_id: 1 is too small; give at least 256"),
    ("10.255.0.1", "0.0.0.0", "dfs.yaml:5: ssmb.address: '0.0.0.0' is announced to the CSs: give"),
    ("10.255.0.1", "224.0.0.1", "dfs.yaml:5: ssmb.address: '224.0.0.1' is announced to the CSs"),
    ("10.255.0.1", "255.255.255.255", "dfs.yaml:5: ssmb.address: '255.255.255.255' is announced"),
    ("10.255.0.1", "fe80::1%eth0", "dfs.yaml:5: ssmb.address: 'fe80::1%eth0' is announced to"),
    (
        "key_file",
        "csmb: {address: 224.0.0.1}\nkey_file",
        "dfs.yaml:6: csmb.address: '224.0.0.1' is",
    ),
    (
        "key_file",
        "metrics: {port: 9161, address: 0.1.2.3}\nkey_file",
        "dfs.yaml:6: metrics.address: '0.1.2.3' is not an address of this machine",
    ),
    ("cluster.key", '""', "dfs.yaml:6: key_file: '.' cannot be a file path; give one"),
    ("256", "true", "dfs.yaml:1: segment_id: True is not a whole number; give one"),
    ("[ext0]", "[eth0/1]", "dfs.yaml:2: external[0]: 'eth0/1' cannot be the name of an interface"),
    ("[ext0]", "ext0", "dfs.yaml:2: external: 'ext0' is not a list"),
    ("[ext0]", "[]", "dfs.yaml:1: (the whole file): external and internal need at least one"),
    (
        "key_file",
        "attach: somehow\nkey_file",
        "dfs.yaml:6: attach: 'somehow' is not allowed here",
    ),
]


def problems(
    text: str, name: str, model: type[ControlSegmentConfig | DataFlowSegmentConfig]
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, name, model)
    return list(caught.value.problems)


def test_both_examples_are_right() -> None:
    assert parse(CS, "cs.yaml", ControlSegmentConfig).segment_id == 1
    assert parse(DFS, "dfs.yaml", DataFlowSegmentConfig).segment_id == 256


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.1.1", "223.255.255.255"])
def test_a_segment_may_be_on_the_same_machine_or_anywhere_else(address: str) -> None:
    cs, dfs = CS.replace("10.255.0.2", f'"{address}"'), DFS.replace("10.255.0.1", f'"{address}"')
    assert parse(cs, "cs.yaml", ControlSegmentConfig).ssmb.address == address
    assert parse(dfs, "dfs.yaml", DataFlowSegmentConfig).ssmb.address == address


@pytest.mark.parametrize("address", ["169.254.1.1", "1.0.0.0", "223.255.255.255"])
def test_any_address_that_packets_are_forwarded_to_is_a_virtual_servers(address: str) -> None:
    text = CS.replace("203.0.113.10", address)
    assert parse(text, "cs.yaml", ControlSegmentConfig).virtual_servers[0].address == address


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "127.0.0.1", "fe80::1%eth0", "10.0.0.1"])
def test_a_dfs_listens_for_css_at_any_address_of_its_machine(address: str) -> None:
    text = f'{DFS}csmb: {{address: "{address}"}}\n'
    assert parse(text, "dfs.yaml", DataFlowSegmentConfig).csmb.address == address


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::", "::1", "10.0.0.1"])
def test_metrics_are_read_at_any_address_of_the_machine(address: str) -> None:
    more = f'metrics: {{port: 9160, address: "{address}"}}\n'
    for found in (
        parse(CS + more, "cs.yaml", ControlSegmentConfig).metrics,
        parse(DFS + more, "dfs.yaml", DataFlowSegmentConfig).metrics,
    ):
        assert found is not None
        assert (found.address, found.port) == (address, 9160)


@pytest.mark.parametrize(("right", "wrong", "said"), CS_CASES, ids=lambda part: part.strip()[:30])
def test_an_error_in_a_css_file_is_told_at_its_line(right: str, wrong: str, said: str) -> None:
    assert right in CS
    found = problems(CS.replace(right, wrong), "cs.yaml", ControlSegmentConfig)
    assert any(problem.startswith(said) for problem in found), found


@pytest.mark.parametrize(("right", "wrong", "said"), DFS_CASES, ids=lambda part: part.strip()[:30])
def test_an_error_in_a_dfss_file_is_told_at_its_line(right: str, wrong: str, said: str) -> None:
    assert right in DFS
    found = problems(DFS.replace(right, wrong), "dfs.yaml", DataFlowSegmentConfig)
    assert any(problem.startswith(said) for problem in found), found

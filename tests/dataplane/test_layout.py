# SPDX-License-Identifier: Apache-2.0
"""What Python packs is what the compiled program reads: held to the object's BTF."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from data_flow_segment.targets.bpf import counters, layout
from data_flow_segment.targets.bpf.options import ARTIFACT
from data_flow_segment.targets.bpf.sweep import FLOW_TYPE
from support.require import require

pytestmark = pytest.mark.dataplane

STRUCTS = {
    "flow_key": layout.FLOW_KEY,
    "flow": layout.FLOW,
    "virtual_server_key": layout.VIRTUAL_SERVER_KEY,
    "virtual_server": layout.VIRTUAL_SERVER,
    "interface": layout.INTERFACE,
    "meta": layout.META,
    "next_hop_key": layout.NEXT_HOP_KEY,
    "next_hop": layout.NEXT_HOP,
    "event_packet": layout.EVENT_PACKET,
    "event_closed": layout.EVENT_CLOSED,
    "control": layout.CONTROL,
    "cookie_secrets": layout.COOKIE_SECRETS,
    "control_key": layout.CONTROL_KEY,
    "replay_window": layout.WINDOW,
    "due": layout.DUE,
    "request": layout.REQUEST,
    "client_network": layout.CLIENT_NETWORK,
    "questions": layout.QUESTIONS,
    "grants": layout.GRANTS,
    "grant_slot": layout.GRANT_SLOT,
    "granted": layout.GRANTED,
    "granted_node": layout.GRANTED_NODE,
    "granted_client_key": layout.GRANTED_CLIENT_KEY,
    "granted_client": layout.GRANTED_CLIENT,
}
PREFIXES = {  # enumerations of C whose names carry a prefix, and Python's
    "FLOW_": layout.FlowBit,
    "CLOSE_": layout.CloseBit,
    "EVENT_": layout.EventKind,
    "INTERFACE_": layout.InterfaceFlag,
    "VIRTUAL_SERVER_": layout.VirtualServerFlag,
    "CONTROL_": layout.ControlFlag,
    "REPORT_": layout.ReportKind,
}


@pytest.fixture(scope="module")
def types() -> list[dict[str, Any]]:
    reason = None
    if shutil.which("bpftool") is None:
        reason = "the command `bpftool` is needed"
    elif not ARTIFACT.exists():
        reason = "the program is not compiled: make bpf"
    require("dataplane", reason)
    dumped = subprocess.run(
        ["bpftool", "--json", "btf", "dump", "file", str(ARTIFACT)],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found: list[dict[str, Any]] = json.loads(dumped)["types"]
    return found


def struct_of(types: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = [t for t in types if t["kind"] == "STRUCT" and t["name"] == name]
    return found


def constants() -> dict[str, int]:
    """The enumerators of the header; BTF has only those that some type uses."""
    header = re.sub(r"/\*.*?\*/", "", Path("bpf/shared.h").read_text(), flags=re.DOTALL)
    found = {}
    for body in re.findall(r"enum[^{;]*\{([^}]*)\}", header):
        value = -1
        for part in filter(None, (text.strip() for text in body.split(","))):
            name, _, said = (text.strip() for text in part.partition("="))
            shift = re.fullmatch(r"1 << (\d+)", said)
            value = 1 << int(shift[1]) if shift else int(said) if said else value + 1
            found[name] = value
    return found


@pytest.mark.parametrize("name", STRUCTS)
def test_sizes_agree(types: list[dict[str, Any]], name: str) -> None:
    assert struct_of(types, name)["size"] == STRUCTS[name].size


def test_each_member_of_a_flow_lies_where_python_packs_it(types: list[dict[str, Any]]) -> None:
    offset = 0
    expected = []
    for name, code in layout.FLOW_FIELDS:
        expected.append((name, offset))
        offset += struct.calcsize("=" + code)
    members = struct_of(types, "flow")["members"]
    in_c = [(m["name"], m["bits_offset"] // 8) for m in members]
    renamed = {"bytes": "octets"}  # in Python a builtin's name
    assert [(renamed.get(name, name), at) for name, at in in_c] == expected
    assert FLOW_TYPE.fields is not None
    assert [(n, field[1]) for n, field in FLOW_TYPE.fields.items()] == expected
    assert list(layout.Direction._fields) == [name for name, _ in expected]


def test_what_a_decision_does_not_change_is_last_seen_to_tcp_flags(
    types: list[dict[str, Any]],
) -> None:
    at = {m["name"]: m["bits_offset"] // 8 for m in struct_of(types, "flow")["members"]}
    assert slice(at["last_seen"], at["serial"]) == layout.FLOW_SEEN


@pytest.mark.parametrize("prefix", PREFIXES)
def test_enumerations_agree(prefix: str) -> None:
    in_c = constants()
    for member in PREFIXES[prefix]:
        assert in_c[prefix + member.name] == member.value, member


def test_counters_are_in_the_same_order() -> None:
    in_c = {n: v for n, v in constants().items() if n.startswith("COUNTER_")}
    in_order = [n.removeprefix("COUNTER_").lower() for n in sorted(in_c, key=in_c.__getitem__)]
    assert tuple(in_order) == layout.COUNTERS


def test_every_counter_has_a_meaning_and_is_counted_somewhere() -> None:
    assert set(layout.COUNTERS) <= set(counters.MEANINGS)
    sources = "".join(p.read_text() for p in Path("bpf").glob("*") if p.name != "shared.h")
    for name in layout.COUNTERS:
        assert re.search(rf"\bCOUNTER_{name.upper()}\b", sources), name


@pytest.mark.parametrize(
    ("name", "packed", "header"),
    [
        ("merge_flow", layout.MERGE_FLOW, "upgrade.h"),
        ("merge_counter", layout.MERGE_COUNTER, "upgrade.h"),
        ("report", layout.REPORT, "endings.h"),
    ],
)
def test_sizes_of_what_no_map_holds_agree(name: str, packed: struct.Struct, header: str) -> None:
    assert f"sizeof(struct {name}) == {packed.size}" in Path("bpf", header).read_text()


def test_the_layout_version_is_the_headers() -> None:
    header = Path("bpf/shared.h").read_text()
    assert f"#define LAYOUT_VERSION {layout.LAYOUT_VERSION}\n" in header

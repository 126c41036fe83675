# SPDX-License-Identifier: Apache-2.0
"""What the doctor makes of facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from control_segment.runtime.datagrams import BUFFER_SIZE
from data_flow_segment.runtime.sockets import RECEIVE_BUFFER as BUFFER_OF_A_DFS
from splitplane.doctor.evaluation import RECEIVE_BUFFER, Finding, evaluate, is_fit
from splitplane.doctor.facts import Configured, Dfs, Facts, Host, Interface, Port, Reached, Read

ALL = (1 << 41) - 1
HOST = Host(
    kernel="6.1.0-21-amd64", is_root=True, capabilities=ALL, has_btf=True, has_bpffs=True,
    interfaces={
        "eth0": Interface(mtu=1500, is_up=True, addresses=("10.0.0.1",), rp_filter=0),
        "eth1": Interface(mtu=1500, is_up=True, addresses=("10.1.0.1",), rp_filter=0),
    },
    ip_forward=True, ipv6_forwarding=True, rmem_max=RECEIVE_BUFFER, memory_available=1 << 30,
    clock_is_synchronised=True,
)  # fmt: skip
DFS = Configured(
    path=Path("/etc/splitplane/dfs.yaml"), kind="dfs", ssmb_address="10.0.0.1",
    files=(Read(what="key", path=Path("/etc/splitplane/dfs.key")),),
    ports=(Port(what="csmb", address="10.0.0.1", port=61019, protocol="tcp"),),
    reached=(Reached(what="API", target="10.0.0.9 port 8404"),),
    dfs=Dfs(in_kernel=True, external=("eth0",), internal=("eth1",), flow_capacity=65536),
)  # fmt: skip
TAKEN = Port(what="csmb", address="::", port=1, protocol="tcp", error="EADDRINUSE")


def of(host: Host = HOST, *configured: Configured) -> list[Finding]:
    return evaluate(Facts(folder=Path("/etc/splitplane"), host=host, configured=configured))


def bad(findings: list[Finding]) -> list[Finding]:
    return [each for each in findings if each.level != "ok"]


def test_a_host_that_has_everything_gets_no_advice() -> None:
    findings = of(HOST, DFS)
    assert bad(findings) == []
    assert not any(each.do for each in findings)
    assert is_fit(findings)


@pytest.mark.parametrize(
    ("changes", "level", "what", "do"),
    [
        ({"kernel": "5.10.0"}, "error", "Linux 5.10.0 is too old", "boot Linux 5.15 or later"),
        ({"has_btf": False}, "error", "vmlinux does not exist", "CONFIG_DEBUG_INFO_BTF=y"),
        ({"has_bpffs": False}, "error", "no bpf file system", "mount -t bpf bpf /sys/fs/bpf"),
        ({"libbpf": "libbpf.so.1 has no x"}, "error", "has no x", "apt-get install libbpf1"),
        ({"has_program": False}, "error", "no compiled program", "run make bpf before"),
        ({"capabilities": ALL & ~(1 << 39)}, "error", "lacks CAP_BPF", "run it as root; in a"),
        ({"capabilities": 0}, "error", "CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_BPF", "root"),
        ({"bpf_refused": "Operation not permitted"}, "error", "no BPF map: Operation", "seccomp"),
        ({"lockdown": "confidentiality"}, "error", "locked down", "lockdown=integrity"),
        ({"ip_forward": False}, "warning", "ip_forward is 0", "sysctl -w net.ipv4.ip_forward=1"),
        ({"rmem_max": 212992}, "warning", "212992: datagrams", f"rmem_max={RECEIVE_BUFFER}"),
        (
            {"as_python": ("none here (make compiled)",)},
            "warning",
            "none here",
            "before pip install",
        ),
        ({"memory_available": 1 << 24}, "warning", "40 MB of kernel memory, and 16 MB", "lower"),
        ({"clock_is_synchronised": False}, "warning", "not synchronised", "NTP client"),
        ({"is_root": False}, "warning", "not root", "run it as root"),
    ],
)
def test_what_a_host_lacks_is_named_with_what_to_do(
    changes: dict[str, Any], level: str, what: str, do: str
) -> None:
    findings = of(replace(HOST, **changes), DFS)
    (found,) = bad(findings)
    assert found.level == level
    assert what in found.what
    assert do in found.do
    assert is_fit(findings) == (level == "warning")


def test_what_only_the_kernels_target_needs_is_asked_of_nobody_else() -> None:
    host = replace(HOST, kernel="5.4.0", has_btf=False, has_bpffs=False, ip_forward=False)
    cs = replace(DFS, kind="cs", dfs=None)
    switch = replace(DFS, dfs=Dfs(in_kernel=False))
    assert bad(of(host, cs, switch)) == []


@pytest.mark.parametrize(
    ("changes", "level", "what", "do"),
    [
        ({"kind": None}, "warning", "of no CS, DFS or API", "move it"),
        ({"problems": ("dfs.yaml:1: no",)}, "error", "dfs.yaml:1: no", ""),
        ({"written_by_others": True}, "error", "may change it", "chmod go-w /etc/splitplane/dfs"),
        ({"laboratory": True}, "warning", "any host can control", "give key_file"),
        (
            {"files": (Read(what="key", path=Path("k"), problem="k: run chmod 600 k"),)},
            "error", "k: run chmod 600 k", "",
        ),
        (
            {"ports": (TAKEN,)},
            "error", "csmb: TCP :: port 1: EADDRINUSE", "ss -tulpn",
        ),
        (
            {"reached": (Reached(what="API", target="a port 1", error="Connection refused"),)},
            "warning", "API a port 1: Connection refused", "start it",
        ),
        (
            {"dfs": Dfs(in_kernel=True, external=("eth9",), internal=("eth1",))},
            "error", "external: this machine has no interface eth9", "it has: eth0, eth1",
        ),
    ],
)  # fmt: skip
def test_what_a_configuration_asks_in_vain_is_named_with_what_to_do(
    changes: dict[str, Any], level: str, what: str, do: str
) -> None:
    (found,) = bad(of(HOST, replace(DFS, **changes)))
    assert found.level == level
    assert what in found.what
    assert do in found.do
    assert found.subject == "dfs.yaml"


def test_ports_of_a_process_that_runs_are_its_own() -> None:
    assert bad(of(HOST, replace(DFS, ports=(TAKEN,), is_running=True))) == []


def test_interfaces_that_do_not_fit_together_are_warned_of() -> None:
    def host(outside: dict[str, Any], inside: dict[str, Any]) -> Host:
        faces = HOST.interfaces
        changed = {
            "eth0": replace(faces["eth0"], **outside),
            "eth1": replace(faces["eth1"], **inside),
        }
        return replace(HOST, interfaces=changed)

    (found,) = bad(of(host({"mtu": 9000}, {}), DFS))
    assert "clients' side has MTU 9000, nodes' side 1500" in found.what
    (found,) = bad(of(host({}, {"is_up": False}), DFS))
    assert (found.what, found.do) == ("internal: eth1 is down", "ip link set eth1 up")
    found, *_ = bad(of(host({"mtu": 1400}, {}), DFS))
    assert "the interface of 10.0.0.1 has MTU 1400: SSMB's datagrams" in found.what
    strict = host({"rp_filter": 1}, {"rp_filter": 1})
    assert bad(of(strict, DFS)) == []  # with one way there is no other
    two = replace(DFS, dfs=Dfs(in_kernel=True, external=("eth0", "eth1"), internal=("eth1",)))
    (found,) = bad(of(strict, two))
    assert "rp_filter is strict on eth0, eth1" in found.what
    assert "net.ipv4.conf.eth0.rp_filter=2" in found.do


def test_without_a_configuration_it_says_how_to_get_one() -> None:
    (found,) = of(HOST)
    assert (found.level, found.subject) == ("error", "/etc/splitplane")
    assert "run splitplane init" in found.do


def test_the_buffer_is_the_one_that_segments_ask_for() -> None:
    assert RECEIVE_BUFFER == BUFFER_SIZE == BUFFER_OF_A_DFS

# SPDX-License-Identifier: Apache-2.0
"""What facts mean, and what to do about them.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from splitplane.doctor.facts import Configured, Dfs, Facts, Host, Interface, Port
from splitplane.machine import KERNEL_MINIMUM
from ssmb.constants import SSMB_DGRAM_MAX

Level = Literal["ok", "warning", "error"]
FLOW_OCTETS: Final = 640  # of kernel memory (docs/operations.md, Sizing)
RECEIVE_BUFFER: Final = 4 << 20  # that segments ask for
HEADERS: Final = 48  # of IPv6 and UDP
_CAPABILITIES: Final = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW", 38: "CAP_PERFMON", 39: "CAP_BPF"}
_STRICT: Final = 1  # of rp_filter
_SHARE: Final = 0.8  # of the memory that is left


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    what: str
    do: str = ""  # empty: nothing


def evaluate(facts: Facts) -> list[Finding]:
    """All findings, in the order in which people look."""
    if not facts.configured:
        return [
            Finding(
                "error", str(facts.folder), "no configuration of a CS, a DFS or the API",
                "run splitplane init, or give --folder or the files",
            )
        ]  # fmt: skip
    found = list(_host(facts))
    for configured in facts.configured:
        found += _configured(configured, facts.host)
    return found


def is_fit(findings: list[Finding]) -> bool:
    """Whether nothing is wrong; warnings are no obstacle."""
    return all(finding.level != "error" for finding in findings)


# --- the host --------------------------------------------------------------------------------


def _host(facts: Facts) -> Iterator[Finding]:
    host = facts.host
    if not host.is_root:
        yield Finding(
            "warning", "user", "not root: files of other users cannot be read, as their processes"
            " can", "run it as root",
        )  # fmt: skip
    yield _clock(host)
    segments = [each for each in facts.configured if each.kind in ("cs", "dfs")]
    if segments:
        yield _receive_buffer(host)
        yield _machine_code(host)
    in_kernel = [each.dfs for each in segments if each.dfs is not None and each.dfs.in_kernel]
    if in_kernel:
        for look in _OF_KERNEL:
            yield look(host)
        yield _memory(host, in_kernel)


def _clock(host: Host) -> Finding:
    if host.clock_is_synchronised is None:
        return Finding("warning", "clock", "it cannot be seen whether the clock is synchronised")
    if not host.clock_is_synchronised:
        return Finding(
            "warning", "clock", "not synchronised: logs, events and certificates of several"
            " machines will not fit together", "run an NTP client: apt-get install chrony",
        )  # fmt: skip
    return Finding("ok", "clock", "synchronised")


def _receive_buffer(host: Host) -> Finding:
    if host.rmem_max is None or host.rmem_max >= RECEIVE_BUFFER:
        return Finding("ok", "net.core.rmem_max", f"{host.rmem_max}")
    return Finding(
        "warning", "net.core.rmem_max", f"{host.rmem_max}: datagrams of a busy second may be lost",
        f"sysctl -w net.core.rmem_max={RECEIVE_BUFFER}",
    )  # fmt: skip


def _machine_code(host: Host) -> Finding:
    if not host.as_python:
        return Finding("ok", "machine code", "the hot paths are compiled")
    return Finding(
        "warning", "machine code", "all works, at up to twice the processor time per connection: "
        + "; ".join(host.as_python),
        "compile that before pip install (docs/operations.md, Installing)",
    )  # fmt: skip


def _kernel(host: Host) -> Finding:
    least = ".".join(map(str, KERNEL_MINIMUM))
    numbers = re.match(r"(\d+)\.(\d+)", host.kernel)
    if numbers is None or (int(numbers[1]), int(numbers[2])) >= KERNEL_MINIMUM:
        return Finding("ok", "kernel", f"Linux {host.kernel}")
    return Finding(
        "error", "kernel", f"Linux {host.kernel} is too old for target bpf",
        f"boot Linux {least} or later",
    )  # fmt: skip


def _btf(host: Host) -> Finding:
    if host.has_btf:
        return Finding("ok", "BTF", "the kernel has it")
    return Finding(
        "error", "BTF", "/sys/kernel/btf/vmlinux does not exist",
        "boot a kernel with CONFIG_DEBUG_INFO_BTF=y; in a container, mount the host's /sys",
    )  # fmt: skip


def _bpffs(host: Host) -> Finding:
    if host.has_bpffs:
        return Finding("ok", "/sys/fs/bpf", "a bpf file system")
    return Finding(
        "error", "/sys/fs/bpf", "no bpf file system is mounted",
        "mount -t bpf bpf /sys/fs/bpf (in a container: share the host's)",
    )  # fmt: skip


def _libbpf(host: Host) -> Finding:
    if not host.libbpf:
        return Finding("ok", "libbpf", "it is here")
    return Finding("error", "libbpf", host.libbpf, "apt-get install libbpf1")


def _program(host: Host) -> Finding:
    if host.has_program:
        return Finding("ok", "eBPF program", "it is compiled")
    return Finding(
        "error", "eBPF program", "this installation has no compiled program",
        "run make bpf before pip install (docs/operations.md, Installing)",
    )  # fmt: skip


def _permission(host: Host) -> Finding:
    missing = [name for bit, name in _CAPABILITIES.items() if not host.capabilities >> bit & 1]
    if missing:
        return Finding(
            "error", "permissions", f"this process lacks {', '.join(missing)}",
            "run it as root; in a container add these capabilities",
        )  # fmt: skip
    if host.bpf_refused and not host.libbpf:
        return Finding(
            "error", "permissions", f"the kernel makes no BPF map: {host.bpf_refused}",
            "look at the container's seccomp profile, and at /sys/kernel/security/lockdown",
        )  # fmt: skip
    if host.lockdown == "confidentiality":
        return Finding(
            "error", "permissions", "the kernel is locked down (confidentiality): BPF programs may"
            " not read its memory", "boot with lockdown=integrity, or none",
        )  # fmt: skip
    return Finding("ok", "permissions", "BPF maps can be made")


def _forwarding(host: Host) -> Finding:
    off = [
        name
        for name, on in (
            ("net.ipv4.ip_forward", host.ip_forward),
            ("net.ipv6.conf.all.forwarding", host.ipv6_forwarding),
        )
        if on is False
    ]
    if not off:
        return Finding("ok", "forwarding", "the kernel routes")
    orders = " ".join(f"{name}=1" for name in off)
    return Finding(
        "warning", "forwarding", f"the kernel does not route packets: {' and '.join(off)}"
        f" {'is' if len(off) == 1 else 'are'} 0; switch it on after the agent has started",
        f"sysctl -w {orders}",
    )  # fmt: skip


_OF_KERNEL: Final[tuple[Callable[[Host], Finding], ...]] = (
    _kernel, _btf, _bpffs, _libbpf, _program, _permission, _forwarding,
)  # fmt: skip


def _memory(host: Host, dfss: list[Dfs]) -> Finding:
    wanted = sum(dfs.flow_capacity for dfs in dfss) * FLOW_OCTETS
    there = host.memory_available
    said = f"flow_capacity takes {wanted >> 20} MB of kernel memory"
    if there is None or wanted <= there * _SHARE:
        return Finding("ok", "memory", said)
    return Finding(
        "warning", "memory", f"{said}, and {there >> 20} MB are free", "lower flow_capacity"
    )


# --- one configuration -----------------------------------------------------------------------


def _configured(it: Configured, host: Host) -> Iterator[Finding]:
    name = it.path.name
    if it.kind is None:
        yield Finding(
            "warning", name, "of no CS, DFS or API: not looked at", "move it elsewhere if it is not"
        )
    elif it.problems:
        for problem in it.problems:
            yield Finding("error", name, problem)
    else:
        yield Finding("ok", name, f"loads, as the configuration of {_KIND_NAMES[it.kind]}")
        yield from _files(it)
        yield from _network(it, host)
        yield from _others(it)


def _files(it: Configured) -> Iterator[Finding]:
    name = it.path.name
    if it.written_by_others:
        yield Finding(
            "error", name, "users other than its owner may change it", f"chmod go-w {it.path}"
        )
    if it.laboratory:
        yield Finding(
            "warning", name, "laboratory_no_authentication: any host can control this segment",
            "give key_file outside of a laboratory",
        )  # fmt: skip
    for read in it.files:
        level: Level = "error" if read.problem else "ok"
        yield Finding(level, name, read.problem or f"{read.what} {read.path}")


def _network(it: Configured, host: Host) -> Iterator[Finding]:
    yield from _ssmb(it, host)
    if it.dfs is not None and it.dfs.in_kernel:
        yield from _sides(it, it.dfs, host)
    if it.is_running:
        yield Finding("ok", it.path.name, "it runs, so its ports are not looked at")
    else:
        yield from (_port(it.path.name, port) for port in it.ports)


def _others(it: Configured) -> Iterator[Finding]:
    for reached in it.reached:
        named = f"{reached.what} {reached.target}"
        if reached.error:
            yield Finding(
                "warning", it.path.name, f"{named}: {reached.error}",
                "start it, or open the port on the way (ss -tlnp there)",
            )  # fmt: skip
        else:
            yield Finding("ok", it.path.name, f"{named} is reached")


_KIND_NAMES: Final = {"api": "the API", "cs": "a CS", "dfs": "a DFS"}
_PORT_ADVICE: Final = {
    "EADDRINUSE": "another process has it: stop that process, or give another port (ss -tulpn)",
    "EADDRNOTAVAIL": "give an address of this machine (ip address)",
    "EACCES": "run it as root, or give a port above 1023",
}


def _port(name: str, port: Port) -> Finding:
    what = f"{port.what}: {port.protocol.upper()} {port.address} port {port.port}"
    if not port.error:
        return Finding("ok", name, f"{what} is free")
    return Finding("error", name, f"{what}: {port.error}", _PORT_ADVICE.get(port.error, ""))


def _with_address(host: Host, address: str) -> Interface | None:
    for interface in host.interfaces.values():
        if address in interface.addresses:
            return interface
    return None


def _ssmb(it: Configured, host: Host) -> Iterator[Finding]:
    interface = _with_address(host, it.ssmb_address)
    if interface is not None and interface.mtu < SSMB_DGRAM_MAX + HEADERS:
        yield Finding(
            "warning", it.path.name, f"the interface of {it.ssmb_address} has MTU {interface.mtu}:"
            " SSMB's datagrams are fragmented", f"use one with {SSMB_DGRAM_MAX + HEADERS} or more",
        )  # fmt: skip


def _sides(it: Configured, dfs: Dfs, host: Host) -> Iterator[Finding]:
    name, here = it.path.name, host.interfaces
    for side, names in (("external", dfs.external), ("internal", dfs.internal)):
        for each in names:
            if each not in here:
                yield Finding(
                    "error", name, f"{side}: this machine has no interface {each}",
                    f"it has: {', '.join(sorted(here))}",
                )  # fmt: skip
            elif not here[each].is_up:
                yield Finding("warning", name, f"{side}: {each} is down", f"ip link set {each} up")
    outside = [here[each] for each in dfs.external if each in here]
    inside = [here[each] for each in dfs.internal if each in here]
    yield from _mtus(name, outside, inside)
    strict = [each for each in dfs.external if each in here and here[each].rp_filter == _STRICT]
    if strict and len(dfs.external) > 1:
        yield Finding(
            "warning", name, f"rp_filter is strict on {', '.join(strict)}: new flows of clients"
            " whose way back is another interface are dropped (drop_reverse_path)",
            " ".join(f"sysctl -w net.ipv4.conf.{each}.rp_filter=2" for each in strict),
        )  # fmt: skip


def _mtus(name: str, outside: list[Interface], inside: list[Interface]) -> Iterator[Finding]:
    if not outside or not inside:
        return
    most, least = max(each.mtu for each in outside), min(each.mtu for each in inside)
    if most > least:
        yield Finding(
            "warning", name, f"clients' side has MTU {most}, nodes' side {least}: full packets are"
            " fragmented, or answered by ICMP", "give both the same",
        )  # fmt: skip
    else:
        yield Finding("ok", name, f"MTU {most} towards clients, {least} towards nodes")

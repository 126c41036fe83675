# SPDX-License-Identifier: Apache-2.0
"""Nanoseconds that the program itself takes per packet, and kernel memory per flow.

    sudo python bench/program.py [--flows 1024,1048576,4194304] [--json FILE]

BPF_PROG_TEST_RUN runs the data path's own code some hundred thousand times, each time on a packet
of another flow chosen at random, so that the flow table is as cold as it can be, and again on packets
of one flow; the cost of writing the packet is measured separately and subtracted.  Every flow caches its
route for a second, as in real use; the entries are made with a cached route, and as a handshake leaves
them.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_flow_segment.targets.bpf.flows import pack
from data_flow_segment.targets.bpf.layout import (
    FLOW,
    FLOW_KEY,
    INTERFACE,
    META,
    CloseBit,
    InterfaceFlag,
)
from data_flow_segment.targets.bpf.libbpf import BatchOptions, TestRunOptions, library
from data_flow_segment.targets.bpf.pins import prepare_pin_path
from data_flow_segment.targets.bpf.program import Program
from data_flow_segment.targets.bpf.sweep import FLOW_TYPE
from data_flow_segment.targets.contract import FlowEntry
from packets.parse import ACK, SYN
from ssmb.addresses import from_text
from ssmb.constants import Flag
from ssmb.messages import FlowSignature

HERE = Path(__file__).resolve().parent
PIN = Path("/sys/fs/bpf/splitplane/bench-program")
REPEAT, ROUNDS = 200_000, 5
CLIENTS = 0x0B000000
FAR_FUTURE = 2**63
TC_ACT_REDIRECT = 7
STEPS = ("bench_floor", "bench_lookup", "bench_tc")


def compile_bench(into: Path) -> Path:
    """The data path with the harness around it."""
    artifact = into / "program.bpf.o"
    machine = subprocess.run(
        ["gcc", "-print-multiarch"], capture_output=True, text=True, check=False
    ).stdout.strip() or f"{platform.machine()}-linux-gnu"  # fmt: skip
    subprocess.run(
        ["clang", "-O2", "-g", "-target", "bpf", "-mcpu=v3", f"-I/usr/include/{machine}", "-c",
         str(HERE / "program.bpf.c"), "-o", str(artifact)],
        check=True,
    )  # fmt: skip
    return artifact


def entry() -> FlowEntry:
    unset = bytes(16)
    flags = Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT | Flag.ROUTE_BY_DST_IP
    signature = FlowSignature(from_text("11.0.0.0"), from_text("203.0.113.10"), 40000, 80, 6, 0)
    return FlowEntry(
        signature, 1, 1, int(flags), from_text("10.90.2.2"), unset, 8080, 0, unset,
        0, 0, 0, 300, 0, 0, 0,
    )  # fmt: skip


def fill(program: Program, flows: int) -> None:
    """Install flows 11.0.0.0 + i in batches, with a cached route that lasts."""
    home_key, home, back_key, back = pack(entry(), 1)
    update = library().bpf_map_update_batch
    update.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 4]
    options = BatchOptions(ctypes.sizeof(BatchOptions), 0, 0)
    for first in range(0, flows, 65536):
        count = min(65536, flows - first)
        clients = (numpy.arange(first, first + count, dtype="u4") + CLIENTS).astype(">u4")
        octets = clients.view("u1").reshape(count, 4)
        for key, value, key_at, value_at in (
            (home_key, home, 12, 12), (back_key, back, 28, 28)
        ):  # fmt: skip
            keys = numpy.tile(numpy.frombuffer(key, "u1"), (count, 1))
            keys[:, key_at : key_at + 4] = octets
            values = numpy.tile(numpy.frombuffer(value, "u1"), (count, 1))
            values[:, value_at : value_at + 4] = octets
            typed = values.reshape(-1).view(FLOW_TYPE)
            typed["fib_expires"], typed["fib_ifindex"], typed["fib_mtu"] = FAR_FUTURE, 1, 1500
            # after the handshake: a return entry's first segment looks up the client's entry too
            typed["close"] = int(CloseBit.HAVE_SEQ | CloseBit.HAVE_ACK)
            typed["tcp_flags"] = SYN | ACK
            done = ctypes.c_uint32(count)
            failed = update(
                program.flows.fd, keys.ctypes.data, values.ctypes.data,
                ctypes.addressof(done), ctypes.addressof(options),
            )  # fmt: skip
            if failed:
                sys.exit(f"cannot install flows: {os.strerror(-failed)}")


class Globals:
    """The harness's variables, by the skeleton of its .bss and .data maps."""

    def __init__(self, program: Program, artifact: Path) -> None:
        self._maps = {}
        for section in (".bss", ".data"):
            found = library().bpf_object__find_map_by_name(program._object, section.encode())
            if found:
                self._maps[section] = library().bpf_map__fd(found)
        out = subprocess.run(
            ["llvm-objdump", "-t", str(artifact)], capture_output=True, text=True, check=True
        ).stdout
        self._place = {}
        for line in out.splitlines():
            fields = line.split()
            if fields and fields[-1].startswith("bench_") and fields[-3] in self._maps:
                self._place[fields[-1]] = (fields[-3], int(fields[0], 16))

    def set(self, name: str, value: int) -> None:
        section, offset = self._place[name]
        fd = self._maps[section]
        size = int(next(
            line.split()[1] for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
            if line.startswith("value_size")
        ))  # fmt: skip
        buffer = ctypes.create_string_buffer(size)
        zero = bytes(4)
        library().bpf_map_lookup_elem(fd, zero, ctypes.addressof(buffer))
        raw = bytearray(buffer.raw)
        raw[offset : offset + 4] = value.to_bytes(4, sys.byteorder)
        library().bpf_map_update_elem(fd, zero, bytes(raw), 0)


def packet() -> bytes:
    tcp = (
        (40000).to_bytes(2, "big")
        + (80).to_bytes(2, "big")
        + bytes(8)
        + b"\x50\x10\xff\xff"
        + bytes(4)
    )
    ip = b"\x45\x00" + (40).to_bytes(2, "big") + bytes(4) + b"\x40\x06" + bytes(2)
    return bytes(12) + b"\x08\x00" + ip + bytes([11, 0, 0, 0, 203, 0, 113, 10]) + tcp + bytes(6)


def nanoseconds(fd: int) -> tuple[float, int]:
    """For one run, and what the program returned."""
    data = ctypes.create_string_buffer(packet())
    options = TestRunOptions(
        sz=ctypes.sizeof(TestRunOptions), data_in=ctypes.addressof(data),
        data_size_in=len(data.raw) - 1, repeat=REPEAT,
    )  # fmt: skip
    failed = library().bpf_prog_test_run_opts(fd, ctypes.byref(options))
    if failed:
        sys.exit(f"BPF_PROG_TEST_RUN: {os.strerror(-failed)}")
    return float(options.duration), int(options.retval)


def rounds(program: Program) -> dict[str, list[float]]:
    """Nanoseconds of each step, one after the other in each round."""
    took: dict[str, list[float]] = {step: [] for step in STEPS}
    for _ in range(ROUNDS):
        for step in STEPS:
            duration, returned = nanoseconds(program.program_fd(step))
            if step != "bench_floor" and returned != TC_ACT_REDIRECT:
                sys.exit(f"{step} returned {returned}, not a redirect")
            took[step].append(duration)
    return took


def measure(artifact: Path, flows: int) -> dict[str, float]:
    subprocess.run(["rm", "-rf", str(PIN)], check=True)
    prepare_pin_path(PIN)
    program = Program(artifact, PIN, flows)
    try:
        program.meta.update(bytes(4), META.pack(1, 1, 0, 1, 0, bytes(16)))
        # as in a deployment: the node's packets come in by an interface of the internal side
        loopback = INTERFACE.pack(InterfaceFlag.INTERNAL, bytes(6), bytes(16), bytes(16))
        program.interfaces.replace_all({(1).to_bytes(4, sys.byteorder): loopback})
        fill(program, flows)
        variables = Globals(program, artifact)
        figures: dict[str, float] = {"flows": flows}
        for reverse, direction in enumerate(("in", "out")):
            variables.set("bench_reverse", reverse)
            for active, heat in ((1, "hot"), (flows, "cold")):
                variables.set("bench_flows", active)
                took = rounds(program)
                floor = statistics.median(took["bench_floor"])
                for step, label in (("bench_lookup", "lookup"), ("bench_tc", "whole")):
                    figures[f"{direction}_{heat}_{label}_ns"] = (
                        statistics.median(took[step]) - floor
                    )
        text = Path(f"/proc/self/fdinfo/{program.flows.fd}").read_text()
        memory = int(next(line.split()[1] for line in text.splitlines() if "memlock" in line))
        figures["octets_a_flow"] = memory / flows
        return figures
    finally:
        program.close()
        subprocess.run(["rm", "-rf", str(PIN)], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--flows", default="1024,1048576,4194304", help="powers of two")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    assert FLOW.size == FLOW_TYPE.itemsize
    assert FLOW_KEY.size == 40
    with tempfile.TemporaryDirectory() as scratch:
        artifact = compile_bench(Path(scratch))
        rows = [measure(artifact, int(text)) for text in options.flows.split(",")]
    print(
        f"\nkernel {platform.release()}, {os.cpu_count()} cores, {REPEAT} runs, medians of {ROUNDS}\n"
    )
    print(
        "| flows in the table | direction | the same flow every time: look-up / total, ns |"
        " a random flow every time: look-up / total, ns | kernel memory per flow |"
    )
    print("| ---: | --- | ---: | ---: | ---: |")
    for row in rows:
        for name, label in (("in", "to the node"), ("out", "to the client")):
            parts = " | ".join(
                f"{row[f'{name}_{heat}_lookup_ns']:.0f} / {row[f'{name}_{heat}_whole_ns']:.0f}"
                for heat in ("hot", "cold")
            )
            memory = f"{row['octets_a_flow']:.0f} octets"
            print(f"| {int(row['flows']):,} | {label} | {parts} | {memory} |")
    if options.json:
        options.json.write_text(json.dumps({"machine": platform.uname()._asdict(), "rows": rows}))


if __name__ == "__main__":
    main()

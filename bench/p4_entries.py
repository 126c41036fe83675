# SPDX-License-Identifier: Apache-2.0
"""What the agent's side of a switch costs: entries per second, set-up of a flow, reconciliation.

    python bench/p4_entries.py [--flows 100000] [--seconds 5]        (root; simple_switch_grpc on the PATH)

BMv2 between its own virtual cables; everything else is splitplane.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from data_flow_segment.targets.contract import FlowEntry, InstallFlow
from data_flow_segment.targets.p4runtime import entries
from data_flow_segment.targets.p4runtime.driver import Driver
from data_flow_segment.targets.p4runtime.operations import Write, WriteDone
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.program import Program
from data_flow_segment.targets.p4runtime.schema import Schema
from data_flow_segment.targets.p4runtime.target import P4RuntimeTarget
from splitplane.lab import Lab
from splitplane.lab.topology import HTTP_PORT, SERVER_HTTP_PORT, VIRTUAL_ADDRESS
from ssmb.addresses import from_text
from support.octets.packets import TCP_PROTOCOL
from support.targets.bmv2 import DEVICE_ID, Cables, missing_for_bmv2, running_switch
from support.targets.rig import IPV4, MemoryRig
from support.targets.scene import Scene

MEMORY = MemoryRig()
SCENE = Scene(MEMORY, IPV4, TCP_PROTOCOL)
BATCH = 512


def options(address: str, capacity: int) -> P4RuntimeOptions:
    known = MEMORY.options
    return P4RuntimeOptions(
        address,
        known.interfaces,
        known.routes,
        known.neighbours,
        device_id=DEVICE_ID,
        replace_program=True,
        flow_capacity=capacity,
    )


def flow(number: int) -> FlowEntry:
    client = from_text(f"192.0.2.{10 + number // 60000}")
    signature = SCENE.signature()._replace(src_ipaddr=client, src_port=1024 + number % 60000)
    return SCENE.entry(signature=signature, serial=number + 1)


# --- entries per second --------------------------------------------------------------------------


def entries_a_second(address: str, count: int) -> dict[str, float]:
    """Through the driver, as the agent writes them; each flow is two entries."""
    driver = Driver.open(options(address, 1), Program.load())
    schema = Schema(Program.load().p4info)
    found: dict[str, float] = {}
    try:
        driver.wait(5)
        driver.take()
        for name, size in (("one per Write", 1), (f"{BATCH} per Write", BATCH)):
            for kind in ("INSERT", "MODIFY", "DELETE"):
                rows = [
                    row for n in range(count // 2) for row in entries.flow_rows(flow(n), 2 * n, 7)
                ]
                updates = [schema.update(kind, row) for row in rows]
                writes = [
                    Write(tuple(updates[at : at + size]), at) for at in range(0, len(updates), size)
                ]
                began = time.perf_counter()
                driver.submit(writes)
                done = 0
                while done < len(writes):
                    driver.wait(10)
                    for result in driver.take():
                        if isinstance(result, WriteDone):
                            done += 1
                            assert not result.errors, result
                found[f"{kind}, {name}"] = len(updates) / (time.perf_counter() - began)
    finally:
        driver.close(forget=True)
    return found


# --- reconciliation ------------------------------------------------------------------------------


def reconciliation(flows: int) -> dict[str, float]:
    found: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        cables = Cables()
        stack.callback(cables.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p4-")))
        switch = stack.enter_context(contextlib.ExitStack())
        address = switch.enter_context(running_switch(cables, folder))
        target = P4RuntimeTarget.open(options(address, flows))
        wanted = [flow(number) for number in range(flows)]
        began = time.perf_counter()
        for at in range(0, flows, 1000):
            target.apply(map(InstallFlow, wanted[at : at + 1000]))
            wait_for(target, lambda: target.settle(60))
        found[f"{flows:,} flows installed by the agent, s"] = time.perf_counter() - began
        assert target.flow_count() == flows
        target.close(detach=False)
        began, cpu = time.perf_counter(), cpu_s()
        target = P4RuntimeTarget.open(options(address, flows))
        found["a new agent reads and compares them, s"] = time.perf_counter() - began
        found["  processor time of the agent meanwhile, s"] = cpu_s() - cpu
        assert (target.adopted, target.flow_count()) == (True, flows)
        switch.close()  # the switch is gone, and with it its memory
        while target.phase != "lost":
            target.events()
            time.sleep(0.01)
        stack.enter_context(running_switch(cables, folder))
        began, cpu = time.perf_counter(), cpu_s()
        while target.phase != "ready":
            target.events()
            time.sleep(0.001)
        found["the switch restarted: reconnected, program installed, s"] = (
            time.perf_counter() - began
        )
        wait_for(target, lambda: target.settle(60))
        found["  then every flow written again, s"] = time.perf_counter() - began
        found["  processor time of the agent since the restart, s"] = cpu_s() - cpu
        assert target.flow_count() == flows
        target.close(detach=True)
    return found


def wait_for(target: P4RuntimeTarget, is_done: Callable[[], bool]) -> None:
    while not is_done():
        target.events()


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# --- set-up of a flow ----------------------------------------------------------------------------


def set_up_us(lab: Lab, address: str, port: int, seconds: float) -> list[float]:
    """connect() until it returns, one at a time."""
    found: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        with lab.socket("client1") as connection:
            connection.settimeout(5)
            began = time.perf_counter()
            connection.connect((address, port))
            found.append((time.perf_counter() - began) * 1e6)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    return found


def set_up(seconds: float) -> Iterator[tuple[str, list[float]]]:
    with Lab("benchp4", target="p4runtime", clients=1, servers=1) as lab:
        server = lab.host("server1").address
        for name, address, port in (
            ("routed by the same switch", server, SERVER_HTTP_PORT),
            ("to a virtual server: a QUERY, two entries", VIRTUAL_ADDRESS, HTTP_PORT),
        ):
            set_up_us(lab, address, port, 0.5)
            yield name, set_up_us(lab, address, port, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--flows", type=int, default=100_000)
    parser.add_argument("--entries", type=int, default=8192)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    reason = missing_for_bmv2()
    if reason is not None:
        sys.exit(f"p4_entries: {reason}")
    version = subprocess.run(["simple_switch_grpc", "--version"], capture_output=True, text=True)
    print(f"BMv2 {version.stdout.strip()}\n")
    print("| entries of `flows` per second | |\n| --- | ---: |")
    with contextlib.ExitStack() as stack:
        cables = Cables()
        stack.callback(cables.close)
        address = stack.enter_context(running_switch(cables))
        for name, rate in entries_a_second(address, arguments.entries).items():
            print(f"| {name} | {rate:,.0f} |")
    print("\n| connection set-up, one at a time | median us | 99th us |\n| --- | ---: | ---: |")
    for name, times in set_up(arguments.seconds):
        p99 = statistics.quantiles(times, n=100)[98]
        print(f"| {name} | {statistics.median(times):,.0f} | {p99:,.0f} |")
    print("\n| reconciliation | |\n| --- | ---: |")
    for name, value in reconciliation(arguments.flows).items():
        print(f"| {name} | {value:,.2f} |")


if __name__ == "__main__":
    main()

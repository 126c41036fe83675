# SPDX-License-Identifier: Apache-2.0
"""What probes cost, and how many one process makes: TCP and HTTP, against a server on the loopback.

    python bench/probes.py [--targets 20000] [--interval-ms 10000] [--seconds 5] [--kind tcp]

The server runs in a process of its own, so its processor time does not count; the kernel's part of its
side of each connection does, because on the loopback the sender carries that out.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from control_segment.health.config import MonitorConfig
from control_segment.health.machine import Said
from control_segment.health.targets import Target
from control_segment.runtime.probes.runner import Runner

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def serve(listening: socket.socket, kind: str) -> None:
    """Accept for ever; the benchmark ends it."""
    while True:
        accepted, _ = listening.accept()
        try:
            if kind == "http" and accepted.recv(4096):
                accepted.sendall(ANSWER)
        except OSError:
            pass
        accepted.close()


async def measure(choices: argparse.Namespace, port: int) -> None:
    loop = asyncio.get_running_loop()
    monitor = MonitorConfig.model_validate(
        {"name": "m", "kind": choices.kind, "interval_ms": choices.interval_ms}
    )
    failed = 0

    def tell(target: Target, said: Said) -> None:
        nonlocal failed
        failed += said.health == "down"

    async with asyncio.TaskGroup() as tasks:
        runner = Runner(tasks, tell, scripts=None)
        for number in range(choices.targets):
            address = f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"
            runner.schedule.add(Target("m", address, port), monitor, Said(), loop.time())
        runner.go_on()
        await asyncio.sleep(choices.interval_ms / 1000)  # the first ones come faster
        print("| wanted/s | made/s | processor | each | latest is late by | down |")
        print("| ---: | ---: | ---: | ---: | ---: | ---: |")
        for _ in range(3):
            begun, used, since = runner.begun, os.times(), time.monotonic()
            await asyncio.sleep(choices.seconds)
            made, now, seconds = runner.begun - begun, os.times(), time.monotonic() - since
            spent = now.user - used.user + now.system - used.system
            due = runner.schedule.get_timer()
            late_ms = 0.0 if due is None else max(0.0, loop.time() - due) * 1000
            print(f"| {choices.targets / choices.interval_ms * 1000:.0f} | {made / seconds:.0f} | {spent / seconds:.0%} |"
                  f" {spent / max(1, made) * 1e6:.0f} us | {late_ms:.0f} ms | {failed} |")  # fmt: skip
        for target in list(runner.schedule.targets):
            runner.schedule.remove(target)
        runner.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=20_000)
    parser.add_argument("--interval-ms", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--kind", choices=("tcp", "http"), default="tcp")
    choices = parser.parse_args()
    with socket.socket() as listening:
        listening.bind(("0.0.0.0", 0))
        listening.listen(4096)
        server = multiprocessing.get_context("fork").Process(
            target=serve, args=(listening, choices.kind), daemon=True
        )
        server.start()
        try:
            asyncio.run(measure(choices, listening.getsockname()[1]))
        finally:
            server.kill()
            server.join()
    print(f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""What many virtual servers cost a DFS.

    python bench/virtual_servers.py [NUMBER ...]
    unshare --net python bench/virtual_servers.py --bpf [NUMBER ...]                         (root)

A CS announces NUMBER virtual servers, each on an address of its own, takes half of them back one
by one and adds them again.  Agent and target run here, without sockets: processor seconds for all
of it, and the longest of the agent's turns, during which packets wait.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from csmb.codec import split_list
from csmb.connection import Connection
from csmb.constants import Flag, Role
from csmb.messages import AddVs, DelVs, Message, VsEntry
from csmb.settings import ConnectionSettings
from data_flow_segment.agent import Agent
from data_flow_segment.runtime.sockets import READ_AT_ONCE
from data_flow_segment.targets.bpf import BpfOptions, BpfTarget
from data_flow_segment.targets.contract import Target
from data_flow_segment.targets.interfaces import Interface
from data_flow_segment.targets.memory import MemoryTarget
from data_flow_segment.targets.memory.options import MemoryOptions

_KEY = bytes(20)


class Pair:
    """A CS's connection and an agent."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._now = time.monotonic()
        settings = ConnectionSettings(
            segment_id=256, key=_KEY, ssmb_port=61019, ssmb_ipaddr=_address(0)
        )
        self._agent = Agent(
            settings,
            target,
            random_octets=secrets.token_bytes,
            now=self._now,
        )
        self._cs = Connection(
            Role.CS,
            replace(settings, segment_id=1, group_id=1, boot_id=1, active=True),
            random_octets=secrets.token_bytes,
            now=self._now,
        )
        number = self._agent.connections.connection_made(self._now)
        assert number is not None
        self._number = number
        self.longest_s = 0.0
        while not self._cs.is_ready:
            self._exchange()

    def send(self, messages: list[Message]) -> float:
        """Processor seconds that the agent and the target take for them."""
        for message in messages:
            self._cs.send(message, self._now)
        return self._exchange()

    def _exchange(self) -> float:
        octets, total = self._cs.data_to_send(), 0.0
        receive = self._agent.connections.receive
        for start in range(0, len(octets), READ_AT_ONCE):
            piece = octets[start : start + READ_AT_ONCE]
            total += self._turn(partial(receive, self._number, piece, self._now))
        while self._agent.connections.get_timer() == 0.0:
            total += self._turn(partial(self._agent.handle_timer, self._now))
        answer, _ = self._agent.connections.octets_to_send(self._number)
        self._cs.receive_data(answer, self._now)
        while self._cs.next_event() is not None:
            pass
        return total

    def _turn(self, step: Callable[[], None]) -> float:
        started = time.process_time()
        step()
        self._agent.flush(self._now)
        self._target.apply(self._agent.outbox.take_commands())
        took = time.process_time() - started
        self.longest_s = max(self.longest_s, took)
        return took


def _address(number: int) -> bytes:
    return bytes(10) + b"\xff\xff" + (0x0A000001 + number).to_bytes(4, "big")


def _measure(name: str, target: Target, number: int) -> None:
    pair = Pair(target)
    flags = int(Flag.TRANSLATE_ADDR)
    entries = [VsEntry(flags, _address(n), 80, 6, bytes(16), 0, 0, 0, b"") for n in range(number)]
    half = entries[: number // 2]
    steps: list[list[Message]] = [
        list(split_list(entries, 2)),
        [DelVs(0, entry.virt_ipaddr, 80, 6) for entry in half],
        [AddVs(*entry) for entry in half],
    ]
    took = [pair.send(messages) for messages in steps]
    assert len(target.virtual_servers()) == number
    figures = "  ".join(f"{seconds:9.3f}" for seconds in (*took, pair.longest_s))
    print(f"{name:12}{number:6}  {figures}", flush=True)


@contextmanager
def _memory() -> Iterator[Target]:
    options = MemoryOptions((Interface(1, "one", bytes(6), external=True, internal=True),), ())
    yield MemoryTarget(options, time.monotonic)


@contextmanager
def _bpf() -> Iterator[Target]:
    """On a cable of its own, which must not be there yet."""
    name, pins = "bench0", Path(f"/sys/fs/bpf/bench-{os.getpid()}")
    cable = ["ip", "link", "add", name, "type", "veth", "peer", "name", "bench1"]
    subprocess.run(cable, check=True)
    target = BpfTarget.open(BpfOptions(external=(name,), internal=(name,), pin_path=pins))
    try:
        yield target
    finally:
        target.close(detach=True)
        subprocess.run(["ip", "link", "delete", name], check=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("numbers", nargs="*", type=int, default=[1000, 2000, 4000, 8000, 16000])
    parser.add_argument("--bpf", action="store_true")
    chosen = parser.parse_args()
    print("target      number       list  half away  half back    longest turn   (processor s)")
    for number in chosen.numbers:
        with _bpf() if chosen.bpf else _memory() as target:
            _measure(target.__class__.__name__, target, number)


main()

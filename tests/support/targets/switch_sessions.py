# SPDX-License-Identifier: Apache-2.0
"""Sessions with a switch, a fake one or BMv2, and what tests do in them."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Final, Protocol, TypeVar

from finsy.proto import p4r

from data_flow_segment.targets.p4runtime.driver import Driver
from data_flow_segment.targets.p4runtime.operations import (
    Connected,
    Operation,
    PacketUp,
    Read,
    ReadDone,
    Result,
    Send,
    Write,
)
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.program import Program
from support.targets.bmv2 import Cables, running_switch
from support.targets.p4_switch import REPORT, FakeSwitch

WAIT_S: Final = 60.0
Kind = TypeVar("Kind", bound=Result)


class Switch(Protocol):
    """What a test needs of one."""

    address: str

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Fake:
    """In this process."""

    def __init__(self, folder: str) -> None:
        self.address = f"unix:{folder}/grpc"
        self.model: FakeSwitch

    def start(self) -> None:
        self.model = FakeSwitch(self.address)

    def stop(self) -> None:
        self.model.stop()


class Bmv2:
    """simple_switch_grpc."""

    def __init__(self, folder: str, cables: Cables) -> None:
        self.address = f"unix:{folder}/grpc"
        self._folder, self._cables = Path(folder), cables
        self._running = contextlib.ExitStack()

    def start(self) -> None:
        self._running.enter_context(running_switch(self._cables, self._folder))

    def stop(self) -> None:
        self._running.close()


def options(switch: Switch, election_id: int = 1) -> P4RuntimeOptions:
    return P4RuntimeOptions(switch.address, (), election_id=election_id, replace_program=True)


def opened(
    drivers: contextlib.ExitStack, wanted: P4RuntimeOptions, program: Program | None = None
) -> tuple[Driver, Connected]:
    """A driver, and how it found the switch."""
    driver = Driver.open(wanted, program or Program.load())
    drivers.callback(driver.close)
    first, *more = driver.take()
    assert isinstance(first, Connected)
    assert more == []
    return driver, first


def results(driver: Driver, count: int, wait_s: float = WAIT_S) -> list[Result]:
    """The next `count` results."""
    found: list[Result] = []
    deadline = time.monotonic() + wait_s
    while len(found) < count:
        assert driver.wait(max(deadline - time.monotonic(), 0)), f"only {found}"
        found += driver.take()
    assert len(found) == count, found
    return found


def do(driver: Driver, *operations: Operation) -> list[Result]:
    """Submit, and a result for each that has one."""
    driver.submit(operations)
    return results(driver, sum(not isinstance(operation, Send) for operation in operations))


def one(driver: Driver, kind: type[Kind]) -> Kind:
    (result,) = results(driver, 1)
    assert isinstance(result, kind), result
    return result


def address_entry(number: int) -> p4r.Entity:
    """An entry of `local_addresses`."""
    p4info = Program.load().p4info
    table = next(t for t in p4info.tables if t.preamble.alias == "local_addresses")
    action = next(a for a in p4info.actions if a.preamble.alias == "own")
    entry = p4r.TableEntry(table_id=table.preamble.id)
    match = entry.match.add(field_id=1)
    match.exact.value = bytes((number,))
    entry.action.action.action_id = action.preamble.id
    return p4r.Entity(table_entry=entry)


def insert(*numbers: int, token: object = None) -> Write:
    kind = p4r.Update.INSERT
    return Write(tuple(p4r.Update(type=kind, entity=address_entry(n)) for n in numbers), token)


def everything(token: object = None) -> Read:
    table = address_entry(1).table_entry.table_id
    return Read((p4r.Entity(table_entry=p4r.TableEntry(table_id=table)),), token)


def numbers(result: Result) -> set[int]:
    assert isinstance(result, ReadDone)
    assert result.error is None
    return {entity.table_entry.match[0].exact.value[-1] for entity in result.entities}


def report(index: int) -> p4r.PacketOut:
    packet = p4r.PacketOut(payload=bytes(14))
    for field, value in enumerate((REPORT, 0, 0, index), 1):
        octets = value.to_bytes(4, "big").lstrip(b"\0") or b"\0"
        packet.metadata.add(metadata_id=field, value=octets)
    return packet


def flow_index(result: Result) -> int:
    assert isinstance(result, PacketUp)
    return int.from_bytes(result.packet.payload[:4], "big")

# SPDX-License-Identifier: Apache-2.0
"""The driver and a switch: a fake one everywhere, and BMv2 where there is one."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

import grpc
import pytest
from finsy.proto import p4i, p4r

from data_flow_segment.targets.contract import TargetError, Waiting
from data_flow_segment.targets.p4runtime import inbox, line, session
from data_flow_segment.targets.p4runtime.driver import Driver
from data_flow_segment.targets.p4runtime.line import Line
from data_flow_segment.targets.p4runtime.operations import (
    LOST,
    Connected,
    Demoted,
    Fence,
    FenceDone,
    IdleTimeout,
    Lost,
    PacketRefused,
    PacketUp,
    Read,
    ReadDone,
    Result,
    Send,
    Write,
    WriteDone,
)
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.program import Program, split
from support.require import require
from support.targets.bmv2 import missing_for_bmv2, running_switch
from support.targets.switch_sessions import (
    WAIT_S,
    Bmv2,
    Fake,
    Switch,
    address_entry,
    do,
    everything,
    flow_index,
    insert,
    numbers,
    one,
    opened,
    options,
    report,
    results,
)

MINIMAL: Final = Path(__file__).parents[2] / "bench/p4/minimal.json"
INDEX: Final = 131070  # a place that no flow of these tests has


def other_version() -> Program:
    return replace(Program.load(), digest=Program.load().digest ^ 1)


# --- the program ---------------------------------------------------------------------------------


def test_an_empty_switch_gets_the_program(switch: Switch, drivers: contextlib.ExitStack) -> None:
    _, connected = opened(drivers, options(switch))
    assert connected.pushed
    digest, boot_id = split(connected.cookie)
    assert digest == Program.load().digest
    assert boot_id != 0


@pytest.mark.parametrize("kind", ["fake", pytest.param("bmv2", marks=pytest.mark.network)])
def test_a_switch_that_reports_no_program_gets_one_only_when_it_may(
    kind: str, folder: str, drivers: contextlib.ExitStack, request: pytest.FixtureRequest
) -> None:
    """BMv2 runs a program that it was given on its command line, and reports none."""
    with contextlib.ExitStack() as stack:
        if kind == "bmv2":
            require("p4", missing_for_bmv2())
            cables = request.getfixturevalue("cables")
            switch: Switch = Bmv2(folder, cables)
            stack.enter_context(running_switch(cables, Path(folder), program=MINIMAL))
        else:
            switch = Fake(folder)
            switch.start()
            stack.callback(switch.stop)
        told = failure(replace(options(switch), replace_program=False))
        assert told == (
            "the switch reports no program; BMv2 hides one that it was given on its command line:"
            " to install splitplane's, set p4runtime.replace_program: true"
        )
        driver, connected = opened(drivers, options(switch))
        assert connected.pushed
        driver.close()
        # the next one finds it, and needs no permission
        _, connected = opened(drivers, replace(options(switch), replace_program=False))
        assert not connected.pushed
        drivers.close()


def test_the_next_agent_finds_the_program_and_the_entries(
    switch: Switch, drivers: contextlib.ExitStack
) -> None:
    first, before = opened(drivers, options(switch))
    do(first, insert(7))
    first.close()
    second, after = opened(drivers, options(switch))
    assert not after.pushed
    assert after.cookie == before.cookie
    (found,) = do(second, everything())
    assert numbers(found) == {7}


AGENT: Final = """
import os, sys
from data_flow_segment.targets.p4runtime.driver import Driver
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.program import Program

driver = Driver.open(P4RuntimeOptions(sys.argv[1], (), replace_program=True), Program.load())
print(driver.take()[0].cookie, flush=True)
"""


def run_agent(switch: Switch, then: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", AGENT + then, switch.address]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_cookie_survives_an_agent_that_is_killed(
    switch: Switch, drivers: contextlib.ExitStack
) -> None:
    with run_agent(switch, "input()") as agent:
        assert agent.stdout is not None
        cookie = int(agent.stdout.readline())
        agent.kill()
    _, connected = opened(drivers, options(switch))  # with the same election id, at once
    assert connected == Connected(pushed=False, cookie=cookie)


def test_a_process_ends_though_its_driver_is_open(switch: Switch) -> None:
    with run_agent(switch, "") as agent:
        assert agent.wait(WAIT_S) == 0
        assert agent.stderr is not None
        assert agent.stderr.read() == ""


def test_a_session_that_ended_is_no_garbage(
    switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection would stay until somebody collects it."""
    sessions: weakref.WeakSet[session.Session] = weakref.WeakSet()
    arbitrate = session.Session.arbitrate

    async def seen(each: session.Session) -> p4r.MasterArbitrationUpdate:
        sessions.add(each)
        return await arbitrate(each)

    monkeypatch.setattr(session.Session, "arbitrate", seen)
    gc.collect()
    gc.disable()
    try:
        driver = Driver.open(options(switch), Program.load())
        assert len(sessions) == 1
        driver.close()
        del driver
        assert len(sessions) == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("whose", ["another version of this program", "another program"])
def test_what_is_not_ours_is_replaced_only_when_it_may(
    fake: Fake, drivers: contextlib.ExitStack, whose: str
) -> None:
    fake.model.config.p4info.CopyFrom(Program.load().p4info)
    fake.model.config.cookie.cookie = Program.load().cookie(5) ^ 1 << 40
    if whose == "another program":
        fake.model.config.p4info.CopyFrom(p4i.P4Info())
        fake.model.config.cookie.cookie = Program.load().cookie(5)
    with pytest.raises(TargetError) as told:
        Driver.open(replace(options(fake), replace_program=False), Program.load())
    assert str(told.value) == (
        f"switch {fake.address}, device 1: the switch runs {whose}; to replace it, which ends its"
        " flows, set p4runtime.replace_program: true"
    )
    _, connected = opened(drivers, replace(options(fake), replace_program=True))
    assert connected.pushed
    assert split(connected.cookie).boot_id != 5


def test_another_version_is_refused_and_replaced(
    switch: Switch, drivers: contextlib.ExitStack
) -> None:
    first, _ = opened(drivers, options(switch))
    do(first, insert(7))
    first.close()
    careful = replace(options(switch), replace_program=False)
    with pytest.raises(TargetError, match="runs another version of this program; to replace it"):
        Driver.open(careful, other_version())
    wanted = replace(options(switch), replace_program=True)
    second, connected = opened(drivers, wanted, other_version())
    assert connected.pushed
    (found,) = do(second, everything())
    assert numbers(found) == set()


# --- why there is no session ---------------------------------------------------------------------


def failure(wanted: P4RuntimeOptions, program: Program | None = None) -> str:
    with pytest.raises(TargetError) as told:
        Driver.open(wanted, program or Program.load())
    text = str(told.value)
    assert "\n" not in text
    prefix = f"switch {wanted.address}, device {wanted.device_id}: "
    assert text.startswith(prefix)
    return text.removeprefix(prefix)


class Interrupted(Exception):
    """The agent has said for what it waits; that is enough."""


def waits_for(wanted: P4RuntimeOptions, for_another: bool = False) -> str:
    """What an agent says first that waits for its switch."""
    told: list[Waiting] = []

    def hear(waiting: Waiting) -> None:
        told.append(waiting)
        raise Interrupted

    with pytest.raises(Interrupted):
        Driver.open(wanted, Program.load(), on_wait=hear)
    (waiting,) = told
    assert waiting.for_another is for_another
    prefix, ending = f"switch {wanted.address}, device {wanted.device_id}: ", "; waiting for it"
    assert waiting.reason.startswith(prefix)
    assert waiting.reason.endswith(ending)
    assert "\n" not in waiting.reason
    return waiting.reason.removeprefix(prefix).removesuffix(ending)


def test_another_device(switch: Switch) -> None:
    """BMv2 has every device until it has a program; others may only have loaded no device yet."""
    wanted = replace(options(switch), device_id=99)
    told = waits_for(wanted) if isinstance(switch, Fake) else failure(wanted)
    assert told.startswith("there is no such device (")
    assert told.endswith("): correct p4runtime.device_id")


def test_nobody_listens() -> None:
    nobody = "nothing listens there: start the switch, or correct p4runtime.address"
    assert waits_for(P4RuntimeOptions("unix:/nowhere/grpc", ())) == nobody
    assert waits_for(P4RuntimeOptions("127.0.0.1:1", ())) == nobody


@pytest.mark.parametrize("kind", ["fake", pytest.param("bmv2", marks=pytest.mark.network)])
def test_an_agent_that_is_started_before_its_switch_waits_for_it(
    kind: str,
    folder: str,
    drivers: contextlib.ExitStack,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a power cut nobody says which of the two comes first."""
    monkeypatch.setattr(line, "STANDBY_S", 0.1)
    switch: Switch = Fake(folder)
    if kind == "bmv2":
        require("p4", missing_for_bmv2())
        switch = Bmv2(folder, request.getfixturevalue("cables"))
    agent = Patient(drivers, options(switch))
    assert "nothing listens there: start the switch" in agent.heard.get(timeout=WAIT_S)
    switch.start()
    try:
        (connected,) = agent.opened().take()
        assert isinstance(connected, Connected)
        assert connected.pushed
        assert agent.heard.empty()  # once
        drivers.close()
    finally:
        switch.stop()


def test_an_agent_that_only_knew_the_switch_away_lets_the_one_come_first_that_knows_more(
    fake: Fake, drivers: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "STANDBY_S", 2.0)
    known, before = opened(drivers, options(fake, election_id=1))
    fake.stop()
    new = Patient(drivers, options(fake, election_id=2))  # it would be primary
    new.heard.get(timeout=WAIT_S)
    fake.start()
    found: list[Result] = []
    while not any(isinstance(result, Connected) for result in found):
        assert known.wait(WAIT_S)
        found += known.take()
    assert found[-1] == Connected(pushed=True, cookie=before.cookie)
    assert new.opened().take() == [Connected(pushed=False, cookie=before.cookie)]


@pytest.fixture
def no_p4runtime(folder: str) -> Iterator[P4RuntimeOptions]:
    """A gRPC server of something else."""
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_insecure_port(f"unix:{folder}/grpc")
    server.start()
    yield P4RuntimeOptions(f"unix:{folder}/grpc", ())
    server.stop(None).wait()


def test_a_grpc_server_without_p4runtime(no_p4runtime: P4RuntimeOptions) -> None:
    told = failure(no_p4runtime)
    assert told == "a gRPC server without P4Runtime answers there: correct p4runtime.address"


@contextlib.contextmanager
def server_that_says(octets: bytes | None) -> Iterator[P4RuntimeOptions]:
    """Says this to everybody and hangs up; with None it accepts and keeps silent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    if octets is None:
                        kept.append(connection)
                        continue
                    connection.sendall(octets)
                    connection.recv(4096)
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield P4RuntimeOptions(f"127.0.0.1:{listening.getsockname()[1]}", ())
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in kept:
            connection.close()


@pytest.mark.parametrize(
    "octets", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n"], ids=repr
)
def test_something_that_speaks_no_grpc(octets: bytes) -> None:
    with server_that_says(octets) as wanted:
        told = waits_for(wanted)  # a switch that starts or ends may say anything
    assert told.startswith("the server there does not speak P4Runtime (")
    assert told.endswith("): correct p4runtime.address")


def test_something_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ANSWER_S", 0.5)
    with server_that_says(None) as wanted:
        told = waits_for(wanted)
    assert told == "no answer within 0.5 s: is p4runtime.address a P4Runtime switch?"


def test_permission_denied(fake: Fake) -> None:
    fake.model.refuses = grpc.StatusCode.PERMISSION_DENIED, "no certificate"
    told = failure(options(fake))
    assert told == "permission denied (no certificate): configure the switch to accept this agent"


def test_any_other_refusal_is_told_in_the_switchs_words(fake: Fake) -> None:
    fake.model.refuses = grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many\nconnections"
    told = waits_for(options(fake))
    assert told == "the switch ended the session: RESOURCE_EXHAUSTED Too many connections"


def test_an_election_id_that_another_agent_has(
    switch: Switch, drivers: contextlib.ExitStack
) -> None:
    opened(drivers, options(switch))
    assert waits_for(options(switch), for_another=True) == (
        "another agent uses election_id 1: give this one another p4runtime.election_id (the"
        " agent with the highest is primary)"
    )


def test_a_push_that_is_refused(fake: Fake) -> None:
    told = failure(options(fake), replace(Program.load(), device_config=b"refuse me"))
    assert told == (
        "the switch refused the program: INVALID_ARGUMENT bad config: is it a BMv2"
        " simple_switch_grpc (v1model) with --cpu-port 510?"
    )


def test_a_switch_that_keeps_no_cookie(fake: Fake) -> None:
    fake.model.keeps_cookie = False
    assert failure(options(fake)).startswith("the switch does not keep its program's cookie (0 ")


@pytest.mark.parametrize("kind", ["fake", pytest.param("bmv2", marks=pytest.mark.network)])
def test_a_switch_whose_packets_do_not_come_up_is_told_what_it_lacks(
    kind: str,
    folder: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line, "FENCE_S", 0.5)
    if kind == "bmv2":
        require("p4", missing_for_bmv2())
        cables = request.getfixturevalue("cables")
        with running_switch(cables, Path(folder), agent_port=64):
            told = waits_for(options(Bmv2(folder, cables)))
    else:
        fake = Fake(folder)
        fake.start()
        fake.model.answers_reports = False
        told = waits_for(options(fake))
        fake.stop()
    assert told == (
        "what the program sends to the agent does not come up: the agent's port has to be 510:"
        " start simple_switch_grpc with --cpu-port 510"
    )


# --- operations ----------------------------------------------------------------------------------


def test_operations_are_carried_out_in_their_order(
    fake: Fake, drivers: contextlib.ExitStack
) -> None:
    driver, _ = opened(drivers, options(fake))
    fake.model.log.clear()
    driver.submit(
        [
            Send(report(2)), Send(report(4)), Fence(report(INDEX), INDEX), insert(1, token="a"),
            insert(2, token="b"), Send(report(6)), everything("c"), Fence(report(INDEX), INDEX),
            insert(3, token="d"),
        ]
    )  # fmt: skip
    found = results(driver, 9)
    kept = f"packet {INDEX}"
    packet = fake.model.log.index("packet 6")  # nothing holds the next operation back for it
    assert packet in (5, 6)
    del fake.model.log[packet]
    assert fake.model.log == ["packet 2", "packet 4", kept, "insert", "insert", kept, "insert"]
    assert [r.token for r in found if isinstance(r, WriteDone | ReadDone)] == ["a", "b", "c", "d"]


def test_what_is_submitted_piece_by_piece_keeps_its_order(
    switch: Switch, drivers: contextlib.ExitStack
) -> None:
    driver, _ = opened(drivers, options(switch))
    for number in range(1, 101):
        driver.submit([insert(number, token=number)])
    driver.submit([everything("all")])
    *written, read = results(driver, 101)
    assert written == [WriteDone(number, {}) for number in range(1, 101)]
    assert numbers(read) == {*range(1, 101)}


def test_packets_come_up_in_their_order(switch: Switch, drivers: contextlib.ExitStack) -> None:
    driver, _ = opened(drivers, options(switch))
    driver.submit([Send(report(2 * index)) for index in range(100)])
    assert [flow_index(up) for up in results(driver, 100)] == [*range(0, 200, 2)]


def test_each_update_has_its_own_error(switch: Switch, drivers: contextlib.ExitStack) -> None:
    driver, _ = opened(drivers, options(switch))
    do(driver, insert(2, 4))
    (done,) = do(driver, insert(1, 2, 3, 4, 5, token="t"))
    assert isinstance(done, WriteDone)
    assert done.token == "t"
    codes = {position: error.code for position, error in done.errors.items()}
    assert codes == {1: "ALREADY_EXISTS", 3: "ALREADY_EXISTS"}
    assert "exists" in done.errors[1].message
    (found,) = do(driver, everything())
    assert numbers(found) == {1, 2, 3, 4, 5}


def test_a_thousand_errors_fit(switch: Switch, drivers: contextlib.ExitStack) -> None:
    driver, _ = opened(drivers, options(switch))
    do(driver, insert(1))
    (done,) = do(driver, insert(*[1] * 1000))
    assert isinstance(done, WriteDone)
    assert {error.code for error in done.errors.values()} == {"ALREADY_EXISTS"}
    assert [*done.errors] == [*range(1000)]


def test_what_cannot_be_read_says_why(switch: Switch, drivers: contextlib.ExitStack) -> None:
    driver, _ = opened(drivers, options(switch))
    digests = p4r.Entity(digest_entry=p4r.DigestEntry(digest_id=1))
    (done,) = do(driver, Read((digests,), "t"))
    assert isinstance(done, ReadDone)
    assert (done.token, done.entities) == ("t", ())
    assert done.error is not None
    assert done.error.startswith(("UNIMPLEMENTED", "NOT_FOUND", "INVALID_ARGUMENT", "UNKNOWN"))


def test_a_fence_waits_for_its_answer_and_keeps_it(
    switch: Switch, drivers: contextlib.ExitStack
) -> None:
    driver, _ = opened(drivers, options(switch))
    driver.submit([Send(report(2)), Fence(report(INDEX), INDEX), insert(1)])
    up, *done = results(driver, 3)
    assert flow_index(up) == 2
    assert done == [FenceDone(INDEX, answered=True), WriteDone(None, {})]


def test_a_fence_without_an_answer_is_tried_twice(
    fake: Fake, drivers: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "FENCE_S", 0.05)
    driver, _ = opened(drivers, options(fake))
    fake.model.answers_reports = False
    fake.model.log.clear()
    assert do(driver, Fence(report(INDEX), INDEX)) == [FenceDone(INDEX, answered=False)]
    assert fake.model.log == [f"packet {INDEX}"] * 2


def test_two_fences_are_answered_each_by_its_own(
    switch: Switch, drivers: contextlib.ExitStack
) -> None:
    driver, _ = opened(drivers, options(switch))
    fence = Fence(report(INDEX), INDEX)
    assert do(driver, fence, fence, fence) == [FenceDone(INDEX, answered=True)] * 3


def test_a_mistake_in_the_drivers_thread_is_one_sentence(
    fake: Fake, drivers: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, _ = opened(drivers, options(fake))
    monkeypatch.setattr(Line, "_packet_up", lambda *_: 1 // 0)
    driver.submit([Send(report(2))])
    assert driver.wait(WAIT_S)
    with pytest.raises(TargetError, match="thread failed, which is a bug in splitplane: ") as told:
        driver.take()
    assert "\n" not in str(told.value)
    with pytest.raises(TargetError):  # whoever asks
        driver.take()


def test_a_mistake_while_opening_is_one_sentence(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "split", lambda _: 1 // 0)
    with pytest.raises(TargetError, match="a bug in splitplane"):
        Driver.open(options(fake), Program.load())


def test_a_limit_leaves_the_rest_in_its_order(
    switch: Switch, drivers: contextlib.ExitStack
) -> None:
    driver, _ = opened(drivers, options(switch))
    driver.submit([*(Send(report(2 * i)) for i in range(10)), Fence(report(INDEX), INDEX)])
    found: list[Result] = []
    while len(found) < 11:
        assert select.select([driver.fileno()], [], [], WAIT_S)[0]  # while anything is left
        taken = driver.take(3)
        assert len(taken) <= 3
        found += taken
    assert [flow_index(up) for up in found[:-1]] == [*range(0, 20, 2)]
    assert found[-1] == FenceDone(INDEX, answered=True)
    assert driver.take(3) == []
    assert select.select([driver.fileno()], [], [], 0) == ([], [], [])


def test_what_is_not_taken_is_bounded(
    fake: Fake, drivers: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PACKETS_MAX", 8)
    driver, _ = opened(drivers, options(fake))
    taken = 0
    for _ in range(6):
        driver.submit([Send(report(2 * i)) for i in range(8)])
        taken += sum(isinstance(result, PacketUp) for result in driver.take(1))
    until = time.monotonic() + WAIT_S
    while driver.dropped == 0 and time.monotonic() < until:
        assert driver.wait(WAIT_S)
    assert driver.dropped > 0
    assert len(driver.take()) <= 8
    assert taken <= 6


def interface(kind: p4r.Update.Type.ValueType, mac: int = 1) -> p4r.Update:
    """Of one entry of `interfaces`, whose action has values."""
    p4info = Program.load().p4info
    table = next(t for t in p4info.tables if t.preamble.alias == "interfaces")
    action = next(a for a in p4info.actions if a.preamble.alias == "set_interface")
    entry = p4r.TableEntry(table_id=table.preamble.id)
    entry.match.add(field_id=1).exact.value = b"\7"
    if kind != p4r.Update.DELETE:
        entry.action.action.action_id = action.preamble.id
        for param in action.params:
            value = bytes((mac,)) if param.name == "mac" else b"\0"
            entry.action.action.params.add(param_id=param.id, value=value)
    return p4r.Update(type=kind, entity=p4r.Entity(table_entry=entry))


def test_a_key_is_enough_to_modify_and_to_delete(
    switch: Switch, drivers: contextlib.ExitStack
) -> None:
    driver, _ = opened(drivers, options(switch))
    table = interface(p4r.Update.DELETE).entity.table_entry.table_id
    whole = Read((p4r.Entity(table_entry=p4r.TableEntry(table_id=table)),), None)

    def macs() -> list[bytes]:
        (read,) = do(driver, whole)
        assert isinstance(read, ReadDone)
        return [e.table_entry.action.action.params[0].value[-1:] for e in read.entities]

    def code(kind: p4r.Update.Type.ValueType, mac: int = 1) -> str:
        (done,) = do(driver, Write((interface(kind, mac),), None))
        assert isinstance(done, WriteDone)
        return done.errors[0].code if done.errors else ""

    assert code(p4r.Update.MODIFY) == "NOT_FOUND"
    assert code(p4r.Update.INSERT, 1) == ""
    assert code(p4r.Update.INSERT, 2) == "ALREADY_EXISTS"
    assert code(p4r.Update.MODIFY, 3) == ""
    assert macs() == [b"\3"]
    assert code(p4r.Update.DELETE) == ""
    assert code(p4r.Update.DELETE) == "NOT_FOUND"
    assert macs() == []


def test_what_is_refused_to_one_that_is_not_primary_any_more_is_lost(
    fake: Fake, drivers: contextlib.ExitStack
) -> None:
    """The Write comes before the word that another one is primary."""
    driver, _ = opened(drivers, options(fake))
    fake.model.denies = True
    (done,) = do(driver, insert(1, 2))
    assert isinstance(done, WriteDone)
    assert {at: error.code for at, error in done.errors.items()} == {0: LOST, 1: LOST}


def test_idle_entries_are_told(fake: Fake, drivers: contextlib.ExitStack) -> None:
    driver, _ = opened(drivers, options(fake))
    entry = address_entry(1).table_entry
    told = p4r.IdleTimeoutNotification(table_entry=[entry])
    fake.model.say(p4r.StreamMessageResponse(idle_timeout_notification=told))
    assert one(driver, IdleTimeout).entries == (entry,)


def test_a_packet_that_the_switch_refuses_is_told(
    fake: Fake, drivers: contextlib.ExitStack
) -> None:
    driver, _ = opened(drivers, options(fake))
    refusal = p4r.StreamError(canonical_code=3, message="no such port")
    fake.model.say(p4r.StreamMessageResponse(error=refusal))
    assert one(driver, PacketRefused).reason == "no such port"


def test_packets_for_which_there_is_no_room_are_counted(
    fake: Fake, drivers: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PACKETS_MAX", 3)
    driver, _ = opened(drivers, options(fake))
    driver.submit([*(Send(report(2 * i)) for i in range(5)), Fence(report(INDEX), INDEX)])
    found: list[Result] = []
    while not driver.dropped:
        assert driver.wait(WAIT_S)  # without taking anything
    while not any(isinstance(result, FenceDone) for result in found):
        assert driver.wait(WAIT_S)
        found += driver.take()
    assert sum(isinstance(result, PacketUp) for result in found) + driver.dropped == 5


def test_what_was_submitted_before_the_end_is_carried_out(
    fake: Fake, drivers: contextlib.ExitStack
) -> None:
    driver, _ = opened(drivers, options(fake))
    fake.model.log.clear()
    driver.submit([insert(1), *(Send(report(2 * index)) for index in range(50))])
    driver.close()
    assert fake.model.log == ["insert", *(f"packet {2 * index}" for index in range(50))]


def test_nothing_is_to_be_done_to_be_asleep(fake: Fake, drivers: contextlib.ExitStack) -> None:
    driver, _ = opened(drivers, options(fake))
    assert driver.take() == []
    assert not driver.wait(0)
    assert select.select([driver.fileno()], [], [], 0) == ([], [], [])
    driver.submit([insert(1)])
    assert select.select([driver.fileno()], [], [], WAIT_S)[0] == [driver.fileno()]
    assert driver.take() == [WriteDone(None, {})]
    assert select.select([driver.fileno()], [], [], 0) == ([], [], [])


# --- two agents, and losses ----------------------------------------------------------------------


class Patient:
    """An agent that opens its driver while the switch is away, or another agent is primary."""

    def __init__(self, drivers: contextlib.ExitStack, wanted: P4RuntimeOptions) -> None:
        self.heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.driver: Driver
        self._thread = threading.Thread(target=self._open, args=(wanted,))
        self._thread.start()
        self._drivers = drivers

    def _open(self, wanted: P4RuntimeOptions) -> None:
        self.driver = Driver.open(
            wanted, Program.load(), on_wait=lambda waiting: self.heard.put(waiting.reason)
        )

    def is_waiting(self) -> bool:
        return self._thread.is_alive()

    def opened(self) -> Driver:
        self._thread.join(WAIT_S)
        self._drivers.callback(self.driver.close)
        return self.driver


def test_a_lower_agent_stands_by_until_the_higher_one_ends(
    switch: Switch, drivers: contextlib.ExitStack
) -> None:
    high, before = opened(drivers, options(switch, election_id=2))
    low = Patient(drivers, options(switch, election_id=1))
    told = low.heard.get(timeout=WAIT_S)
    words = "the agent with election_id 2 is primary; this one (1) stands by"
    assert told.endswith(f"device 1: {words}")
    assert low.is_waiting()
    high.close()
    assert low.opened().take() == [Connected(pushed=False, cookie=before.cookie)]
    assert low.heard.empty()


def test_a_higher_agent_takes_over_and_gives_back(
    switch: Switch, drivers: contextlib.ExitStack
) -> None:
    low, before = opened(drivers, options(switch, election_id=1))
    high, during = opened(drivers, options(switch, election_id=2**64 + 2))  # it has 128 bits
    assert during == Connected(pushed=False, cookie=before.cookie)
    words = f"election_id {2**64 + 2} is primary; this one (1) stands by"
    assert one(low, Demoted).reason.endswith(words)
    (refused,) = do(low, insert(1, token="t"))
    assert isinstance(refused, WriteDone)
    assert refused.errors[0].code == LOST
    high.close()
    assert one(low, Connected) == Connected(pushed=False, cookie=before.cookie)
    assert do(low, insert(1)) == [WriteDone(None, {})]


def test_a_switch_that_is_started_anew_gets_the_program_anew(
    switch: Switch, drivers: contextlib.ExitStack
) -> None:
    """Also from an agent that may not bring it to a switch that it does not know."""
    opened(drivers, options(switch))[0].close()
    driver, before = opened(drivers, replace(options(switch), replace_program=False))
    do(driver, insert(1))
    switch.stop()
    assert f"{switch.address}, device 1: " in one(driver, Lost).reason
    refused = do(driver, insert(2), everything("t"), Fence(report(INDEX), INDEX))
    assert isinstance(refused[0], WriteDone)
    assert refused[0].errors[0].code == LOST
    assert isinstance(refused[1], ReadDone)
    assert refused[1].error is not None
    assert refused[1].error.startswith(LOST)
    assert refused[2] == FenceDone(INDEX, answered=False)
    switch.start()
    while isinstance(found := results(driver, 1)[0], Lost):
        assert "nothing listens there" in found.reason  # a reason that it has not told yet
    assert isinstance(found, Connected)
    assert found.pushed
    (read,) = do(driver, everything())
    assert numbers(read) == set()
    assert before.cookie >> 32 == found.cookie >> 32


def test_operations_of_a_lost_connection_are_not_carried_out_on_the_next(
    fake: Fake, drivers: contextlib.ExitStack
) -> None:
    """The agent knows nothing yet of the loss, and the driver is connected again already."""
    driver, _ = opened(drivers, options(fake))
    fake.stop()
    fake.start()
    reached = threading.Event()
    fake.model.before_write = reached.set
    assert reached.wait(WAIT_S)  # the clone session: the connection is complete in a moment
    driver.submit([insert(1, token="old")])
    found: list[Result] = []
    while not {type(result) for result in found} >= {Connected, WriteDone}:
        assert driver.wait(WAIT_S)
        found += driver.take()
    done = next(result for result in found if isinstance(result, WriteDone))
    assert done.errors[0].code == LOST
    assert do(driver, insert(1, token="new")) == [WriteDone("new", {})]


def test_the_operation_under_way_is_told_before_the_loss(
    fake: Fake, drivers: contextlib.ExitStack
) -> None:
    driver, _ = opened(drivers, options(fake))
    reached, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        go_on.wait(WAIT_S)

    fake.model.before_write = hold
    driver.submit([insert(1, token="under way"), insert(2, token="behind it")])
    assert reached.wait(WAIT_S)
    stopping = threading.Thread(target=fake.stop)
    stopping.start()
    first, second, lost = results(driver, 3)
    go_on.set()
    stopping.join()
    assert isinstance(first, WriteDone)
    assert isinstance(second, WriteDone)
    assert (first.token, second.token) == ("under way", "behind it")
    assert first.errors[0].code == second.errors[0].code == LOST
    assert isinstance(lost, Lost)
    fake.start()


def test_a_program_that_is_replaced_meanwhile_is_noticed(
    fake: Fake, drivers: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "PULSE_S", 0.05)
    opened(drivers, options(fake))[0].close()
    driver, _ = opened(drivers, replace(options(fake), replace_program=False))
    fake.model.config.CopyFrom(p4r.ForwardingPipelineConfig(p4info=p4i.P4Info()))
    assert one(driver, Lost).reason.endswith("the switch's program was replaced")
    assert "runs another program; to replace it" in one(driver, Lost).reason


def test_a_switch_that_answers_no_more_is_noticed(
    fake: Fake, drivers: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "PULSE_S", 0.05)
    monkeypatch.setattr(session, "ANSWER_S", 0.3)
    driver, _ = opened(drivers, options(fake))
    with fake.model.frozen():
        assert one(driver, Lost).reason.endswith("the switch stopped responding")


def test_an_interrupted_agent_stops_waiting(fake: Fake, drivers: contextlib.ExitStack) -> None:
    opened(drivers, options(fake, election_id=2))

    def interrupt(_: Waiting) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Driver.open(options(fake), Program.load(), on_wait=interrupt)
    fake.model.await_agents({2})


def test_an_agent_that_stands_by_can_be_interrupted(
    fake: Fake, drivers: contextlib.ExitStack
) -> None:
    opened(drivers, options(fake, election_id=2))
    with run_agent(fake, "") as agent:
        fake.model.await_agents({1, 2})
        agent.send_signal(signal.SIGINT)
        assert agent.wait(WAIT_S) == -signal.SIGINT
        assert agent.stderr is not None
        assert agent.stderr.read().endswith("KeyboardInterrupt\n")
    fake.model.await_agents({2})


def test_an_agent_that_stands_by_outlives_the_switch(
    fake: Fake, drivers: contextlib.ExitStack
) -> None:
    high, _ = opened(drivers, options(fake, election_id=2))
    low = Patient(drivers, options(fake, election_id=1))
    low.heard.get(timeout=WAIT_S)
    fake.stop()
    high.close()
    fake.start()
    (connected,) = low.opened().take()
    assert isinstance(connected, Connected)
    assert connected.pushed
    assert low.heard.empty()


def test_an_agent_that_stands_by_lets_the_primary_come_first(
    fake: Fake, drivers: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart of the switch: the primary knows what it held."""
    monkeypatch.setattr(line, "STANDBY_S", 1.0)
    high, before = opened(drivers, options(fake, election_id=2))
    low = Patient(drivers, options(fake, election_id=1))
    low.heard.get(timeout=WAIT_S)
    for _ in range(3):
        fake.stop()
        fake.start()
        found: list[Result] = []
        while not any(isinstance(result, Connected) for result in found):
            assert not any(isinstance(result, Demoted) for result in found)
            assert high.wait(WAIT_S)
            found += high.take()
        fake.model.await_agents({1, 2})
        assert found[-1] == Connected(pushed=True, cookie=before.cookie)  # its own tables' number
    assert high.take() == []
    assert low.is_waiting()
    high.close()
    assert low.opened().take() == [Connected(pushed=False, cookie=before.cookie)]


def test_an_agent_that_the_switch_calls_primary_leads_at_once(
    fake: Fake, drivers: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "STANDBY_S", 1000.0)
    high, before = opened(drivers, options(fake, election_id=2))
    low = Patient(drivers, options(fake, election_id=1))
    low.heard.get(timeout=WAIT_S)
    high.close()
    assert low.opened().take() == [Connected(pushed=False, cookie=before.cookie)]


def test_a_switch_that_says_something_else_before_it_arbitrates(
    fake: Fake, drivers: contextlib.ExitStack
) -> None:
    opened(drivers, options(fake, election_id=2))
    fake.model.greeting = p4r.StreamMessageResponse(packet=p4r.PacketIn(payload=b"old"))

    async def leads() -> bool:
        async with session.Session.open(options(fake), Program.load()) as ours:
            leading = ours.leads(await ours.arbitrate())
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*calls, return_exceptions=True)  # gRPC's own, which were cancelled
        return leading

    assert not asyncio.run(leads())


def test_one_that_is_put_out_before_it_had_begun_tries_again(
    fake: Fake, drivers: contextlib.ExitStack
) -> None:
    """It was primary, but not any more when it came to the first Write."""
    opened(drivers, options(fake))[0].close()
    fake.model.denies = True
    tried = threading.Event()
    fake.model.before_write = tried.set
    low = Patient(drivers, options(fake, election_id=1))
    assert tried.wait(WAIT_S)
    tried.clear()
    assert tried.wait(WAIT_S)
    assert low.is_waiting()
    fake.model.denies = False
    low.opened()


def test_a_target_that_is_taken_off_leaves_an_empty_program(
    switch: Switch, drivers: contextlib.ExitStack
) -> None:
    first, before = opened(drivers, options(switch))
    first.submit([insert(1)])
    first.close(forget=True)
    second, after = opened(drivers, options(switch))
    assert not after.pushed
    assert split(after.cookie).digest == split(before.cookie).digest
    assert split(after.cookie).boot_id != split(before.cookie).boot_id
    (found,) = do(second, everything())
    assert numbers(found) == set()

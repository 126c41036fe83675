# SPDX-License-Identifier: Apache-2.0
"""A real CS and a real DFS answer every command they have in the models' words, and the same thing
with the same words."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from admin import answers
from admin.answers import (
    CS_STATUS,
    DFS_STATUS,
    FLOWS,
    MESSAGES,
    TRACE,
    VIRTUAL_SERVERS,
    ApiLinkStatus,
    Command,
    Identity,
)
from admin.arguments import Arguments
from admin.client import ask
from admin.server import AdminServer
from control_segment.runtime import admin as of_a_cs
from control_segment.runtime.runtime import ControlSegmentRuntime
from data_flow_segment import inspection as of_a_dfs
from data_flow_segment.runtime.segment import DataFlowSegmentRuntime
from ssmb.addresses import to_text
from support.octets.frames import SYN
from support.segments.agent_rig import CLIENT, VIP, ready_rig
from support.segments.both import with_a_flow

ENDS: Final = {"client": f"{to_text(CLIENT[0])}:{CLIENT[1]}", "vip": f"{to_text(VIP[0])}:{VIP[1]}"}
ARGUMENTS: Final[dict[str, dict[str, object]]] = {
    "reap_flow": {**ENDS, "protocol": "tcp"},
    "trace": {**ENDS, "protocol": "tcp"},
    "set_node": {"pool": "web", "node": "one", "weight": 2},
    "set_nodes": {"pool": "web", "nodes": ["one"], "weight": 2},
    "switchover": {"to": 1},  # which it is
}
# what each kind of segment knows of its own, or counts in its own way
FLOW_OF_ONE: Final = {
    "state", "opened_ms", "idle_ms", "packets_in", "bytes_in", "packets_out", "bytes_out",
    "virtual_server", "pool", "node_name", "packets_held", "octets_held",
    "query_repeats", "kind",
}  # fmt: skip


def models_in(answer: object) -> set[type]:
    """All models that an answer is made of."""
    if isinstance(answer, list):
        return set().union(*map(models_in, answer))
    if isinstance(answer, dict):
        return set().union(*map(models_in, answer.values()))
    if not dataclasses.is_dataclass(answer) or isinstance(answer, type):
        return set()
    fields = [getattr(answer, field.name) for field in dataclasses.fields(answer)]
    return {type(answer)}.union(*map(models_in, fields))


def test_every_command_is_answered_and_no_field_is_lost_on_the_way(tmp_path: Path) -> None:
    seen: set[type] = set()

    async def answered(
        path: Path, handle: Callable[[str, dict[str, object]], Any], command: Command[Any]
    ) -> None:
        given: list[object] = []

        async def remember(name: str, arguments: dict[str, object]) -> object:
            answer = handle(name, arguments)
            given.append(await answer if isinstance(answer, Awaitable) else answer)
            return given[-1]

        identity = Identity(role="cs", segment_id=1, release="0", pid=1)
        async with AdminServer(path, identity, remember):
            arguments = ARGUMENTS.get(command.name, {})
            got = await asyncio.to_thread(lambda: ask(path, command, **arguments))
        assert [got] == given, command.name
        assert got, f"{command.name} had nothing to say: the test proves nothing"
        seen.update(models_in(got))

    async def story(cs: ControlSegmentRuntime, dfs: DataFlowSegmentRuntime) -> None:
        for command in of_a_dfs.COMMANDS:
            await answered(tmp_path / "dfs.sock", dfs.handle_admin, command)
        for command in of_a_cs.COMMANDS:
            await answered(tmp_path / "cs.sock", cs.handle_admin, command)

    with_a_flow(story)
    models = {
        it
        for it in vars(answers).values()
        if isinstance(it, type)
        and dataclasses.is_dataclass(it)
        and not {each.__module__ for each in it.__subclasses__()} & {answers.__name__}
    }
    assert seen == models - {Command, Identity, ApiLinkStatus}  # the last one: with a link


def test_each_command_belongs_to_the_segments_that_it_says() -> None:
    elsewhere = {"hello", "reload"}  # admin.server, splitplane.commands.serving
    for role, commands in (("cs", of_a_cs.COMMANDS), ("dfs", of_a_dfs.COMMANDS)):
        said = {command for command in answers.COMMANDS if role in command.roles}
        assert {command for command in said if command.name not in elsewhere} == set(commands)


def test_the_same_flow_is_the_same_at_both_segments() -> None:
    async def story(cs: ControlSegmentRuntime, dfs: DataFlowSegmentRuntime) -> None:
        (at_cs,) = as_list(cs.handle_admin(FLOWS.name, {"client": ENDS["client"]}))
        (at_dfs,) = as_list(await dfs.handle_admin(FLOWS.name, {"client": ENDS["client"]}))
        assert without(at_cs, FLOW_OF_ONE) == without(at_dfs, FLOW_OF_ONE)
        assert None not in without(at_cs, {*FLOW_OF_ONE, "spliced"}).values()
        assert (at_cs.virtual_server, at_cs.pool, at_cs.node_name) == ("www", "web", "one")
        assert (at_dfs.virtual_server, at_dfs.pool, at_dfs.node_name) == (None, None, None)

    with_a_flow(story)


def test_the_same_virtual_servers_and_peers_are_the_same_at_both_segments() -> None:
    async def story(cs: ControlSegmentRuntime, dfs: DataFlowSegmentRuntime) -> None:
        shared = ("address", "port", "protocol", "group_id", "forward_mode", "answer_arp")
        at_cs, at_dfs = (
            {tuple(getattr(server, name) for name in shared) for server in as_list(servers)}
            for servers in (
                cs.handle_admin(VIRTUAL_SERVERS.name, {}),
                await dfs.handle_admin(VIRTUAL_SERVERS.name, {}),
            )
        )
        assert at_cs == at_dfs
        of_cs: Any = cs.handle_admin(CS_STATUS.name, {})
        of_dfs: Any = await dfs.handle_admin(DFS_STATUS.name, {})
        ((dfs_there,), (group,)) = of_cs.data_flow_segments, of_dfs.groups
        assert (dfs_there.segment_id, group.active.segment_id) == (256, 1)
        assert dfs_there.ssmb_version == group.active.ssmb_version
        assert dfs_there.ssmb_authenticated == group.active.ssmb_authenticated is True
        assert dfs_there.flow_capacity == of_dfs.flow_capacity
        assert (of_cs.flows, of_dfs.flows) == (1, 1)
        messages: Any = cs.handle_admin(MESSAGES.name, {})
        of_the_other: Any = await dfs.handle_admin(MESSAGES.name, {})
        for name in ("QUERY", "REPLY"):
            assert messages.sent.get(name, 0) == of_the_other.received.get(name, 0), name
            assert messages.received.get(name, 0) == of_the_other.sent.get(name, 0), name

    with_a_flow(story)


def test_a_pending_flow_says_how_long_it_has_waited_and_what_is_held() -> None:
    rig, _ = ready_rig()
    rig.client_sends(SYN)
    rig.now += 0.02

    def asked(command: Command[Any], **arguments: object) -> list[Any]:
        answer: Any = of_a_dfs.COMMANDS.answer(
            command.name, rig.agent, Arguments(arguments), lambda: rig.now
        )
        return [item for piece in answer for item in piece] if command is FLOWS else answer

    (flow,) = asked(FLOWS)
    assert (flow.state, flow.node, flow.idle_ms, flow.forward_mode) == ("pending", None, None, None)
    assert (flow.packets_held, flow.query_repeats, flow.opened_ms) == (1, 0, 20)
    assert asked(FLOWS, client=ENDS["client"], limit=1) == [flow]
    assert asked(FLOWS, client="192.0.2.1") == []
    assert asked(TRACE, **ENDS)[-1].what == "waits for the CS, 1 packets held"


def as_list(answer: object) -> list[Any]:
    assert isinstance(answer, list)
    return answer


def without(model: Any, names: set[str]) -> dict[str, object]:
    return {name: it for name, it in dataclasses.asdict(model).items() if name not in names}

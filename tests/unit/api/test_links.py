# SPDX-License-Identifier: Apache-2.0
"""Real segments linked to a real API: what is wanted is run, and what is done is seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from admin.answers import CS_STATUS
from admin.link.messages import CLOSE_REVOKED, CLOSE_WRONG, SUBPROTOCOL
from api.access.known import KnownCallers
from api.access.roles import Role
from api.patience import PatientProtocol
from api.segments import links
from support.api.linked import POOL, SERVER, Api, Cs, api, cs, dfs, until
from support.ports import free_port


def run(story: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(180):
            await story

    asyncio.run(in_time())


def config(segment_id: int = 1, dfs_port: int | None = None, **fields: Any) -> dict[str, Any]:
    """A CS's file."""
    return {
        "segment_id": segment_id,
        "ssmb": {"address": "127.0.0.1", "port": free_port()},
        "data_flow_segments": [{"address": "127.0.0.1", "port": dfs_port or free_port()}],
        **fields,
    }


def weighted(weight: int) -> dict[str, Any]:
    first, *others = POOL["nodes"]
    return {**POOL, "nodes": [{**first, "weight": weight}, *others]}


async def follows(at: Api, name: str = "cs-1") -> None:
    await until(lambda: at.status_of(name) == "in_force")


def test_a_cs_gets_what_is_there_and_each_change_and_says_what_it_runs(tmp_path: Path) -> None:
    async def story() -> None:
        async with api(tmp_path) as at:
            await at.configure()
            async with cs(tmp_path, config()) as control:
                await follows(at)
                assert control.nodes == {"web1": 1, "web2": 1}
                servers = control.following.config.virtual_servers
                await at.put("pools/web", weighted(7))
                await until(lambda: control.nodes["web1"] == 7)
                await follows(at)
                assert control.following.generation == at.state.desired.generation == 3
                assert control.following.config.virtual_servers[0] is servers[0]
                [segment] = (await at.get("segments"))["items"]
                assert (segment["name"], segment["generation"]) == ("cs-1", 3)
                assert segment["state"]["api"]["generation"] == 3
                response = await at.client.delete("/api/v1/virtual-servers/www")
                assert response.status_code == 204
                await until(lambda: not control.runtime.segment.model.virtual_servers)

    run(story())


def test_what_a_cs_cannot_run_is_refused_and_shown_and_the_next_generation_is_tried(
    tmp_path: Path,
) -> None:
    monitor = {"name": "m", "kind": "script", "script": {"name": "x"}}

    async def story() -> None:
        async with api(tmp_path) as at:
            await at.configure()
            async with cs(tmp_path, config()) as control:
                await follows(at)
                await at.put("monitors/m", monitor)
                await until(lambda: at.status_of("cs-1") == "refused")
                [segment] = (await at.get("segments"))["items"]
                assert (segment["generation"], segment["refused"]) == (2, 3)
                assert "monitor_scripts" in segment["problems"][0]
                await at.put("pools/web", weighted(5))
                await until(lambda: at.status_of("cs-1") == "refused"
                            and at.hub.segments()[0].refused == 4)  # fmt: skip
                assert control.nodes["web1"] == 1
                await at.client.delete("/api/v1/monitors/m")
                await follows(at)
                assert control.nodes["web1"] == 5
            events = await at.get("events", kind="generation_refused")
            assert events["items"][0]["segment"] == "cs-1"

    run(story())


def test_an_api_that_is_away_is_not_missed_and_tells_when_it_is_back(tmp_path: Path) -> None:
    async def story() -> None:
        own = config()
        async with AsyncExitStack() as first:
            at = await first.enter_async_context(api(tmp_path))
            await at.configure()
            async with cs(tmp_path, own) as control:
                await follows(at)
                await first.aclose()
                assert control.nodes == {"web1": 1, "web2": 1}
                async with api(tmp_path) as again:
                    await again.put("pools/web", weighted(9))
                    await until(lambda: control.nodes["web1"] == 9)
                    await follows(again)
        async with cs(tmp_path, own) as alone:  # nobody answers it
            assert alone.nodes == {"web1": 9, "web2": 1}
            assert alone.following.generation == 3

    run(story())


def test_an_api_with_another_database_sends_all_and_an_empty_one_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        own = config()
        async with api(tmp_path) as at:
            await at.configure()
            async with cs(tmp_path, own):
                await follows(at)
        (tmp_path / "api.db").unlink()
        (tmp_path / "segment.token").unlink()
        (tmp_path / "admin.token").unlink()
        async with api(tmp_path) as at, cs(tmp_path, own) as control:
            await until(lambda: at.status_of("cs-1") == "in_force")
            assert control.nodes == {"web1": 1, "web2": 1}
            await at.put("pools/web", weighted(3))
            await until(lambda: control.nodes["web1"] == 3)
            assert not control.runtime.segment.model.virtual_servers
            await follows(at)
            assert control.following.generation == 1
            # as many generations as before, and other ones
            await at.put("virtual-servers/www", {**SERVER, "port": 81})
            await follows(at)
            await until(lambda: bool(control.runtime.segment.model.virtual_servers))

    run(story())


async def together(stack: AsyncExitStack, folder: Path) -> tuple[Api, list[Cs], Any]:
    """An API, two CSs and a DFS."""
    at = await stack.enter_async_context(api(folder))
    await at.configure()
    dfs_port, ports = free_port(), [free_port(), free_port()]
    controls = []
    data_flow = await stack.enter_async_context(dfs(folder, dfs_port))
    for number in (1, 2):
        other = 3 - number
        own = config(
            number, dfs_port, active=number == 1,
            ssmb={"address": "127.0.0.1", "port": ports[number - 1]},
            control_segments=[
                {"segment_id": other, "address": "127.0.0.1", "port": ports[other - 1]}
            ],
        )  # fmt: skip
        controls.append(await stack.enter_async_context(cs(folder, own)))
        if number == 1:
            await until(lambda: controls[0].runtime.segment.group.election.role.value == "active")
    await until(lambda: len(at.hub.segments()) == 3)
    return at, controls, data_flow


def test_two_css_and_a_dfs_are_seen_and_switched_over_and_follow_both(tmp_path: Path) -> None:
    async def story() -> None:
        async with AsyncExitStack() as stack:
            at, (first, second), _ = await together(stack, tmp_path)
            await follows(at, "cs-1")
            await follows(at, "cs-2")
            items = {each["name"]: each for each in (await at.get("segments"))["items"]}
            assert list(items) == ["cs-1", "cs-2", "dfs-256"]
            assert items["cs-1"]["state"]["group_role"] == "active"
            await until(lambda: second.runtime.segment.peers[256].copy.is_complete
                        if 256 in second.runtime.segment.peers else False)  # fmt: skip
            response = await at.client.post("/api/v1/segments/cs-1/switch-over")
            assert response.status_code == 409, response.text
            response = await at.client.post("/api/v1/segments/cs-2/switch-over?force=true")
            assert (response.status_code, response.json()) == (200, {"segment_id": 2})
            await until(lambda: second.runtime.segment.group.election.role.value == "active")
            await at.put("pools/web", weighted(4))
            await until(lambda: first.nodes["web1"] == second.nodes["web1"] == 4)
            overview = await at.get("live/overview")
            assert overview["totals"]["virtual_servers"] == 1
            assert overview["totals"]["nodes"] == 2
            roles = {each["name"]: each["group_role"] for each in overview["segments"]}
            assert roles == {"cs-1": "standby", "cs-2": "active", "dfs-256": None}
            edges = {(each["control_segment"], each["active"]) for each in overview["edges"]}
            assert edges == {("cs-1", False), ("cs-2", True)}
            await until_event(at, "role", "cs-2")

    run(story())


async def until_event(at: Api, kind: str, segment: str) -> None:
    for _ in range(6000):
        if (await at.get("events", kind=kind, segment=segment))["items"]:
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def test_live_lists_are_of_the_active_cs_and_paged(tmp_path: Path) -> None:
    async def story() -> None:
        async with AsyncExitStack() as stack:
            at, _, __ = await together(stack, tmp_path)
            await follows(at)
            page = await at.get("live/nodes", limit=1)
            assert (page["total"], page["items"][0]["name"]) == (2, "web1")
            assert page["items"][0]["segment"] == "cs-1"
            page = await at.get("live/nodes", limit=1, cursor=page["next"])
            assert ([each["name"] for each in page["items"]], page["next"]) == (["web2"], None)
            assert (await at.get("live/nodes", pool="other"))["items"] == []
            [node] = (await at.get("live/nodes", pool=["none", "web"], per_pool=1))["items"]
            assert node["name"] == "web1"
            for found in (["www", "none"], "www"):
                [server] = (await at.get("live/virtual-servers", name=found))["items"]
            attention = (await at.get("live/overview"))["attention"]
            assert (attention["pools"], attention["failing"], attention["unserved"]) == (1, 0, 0)
            assert [each["pool"] for each in attention["busiest"]] == ["web"]
            assert (server["address"], server["segment"]) == ("203.0.113.10", "cs-1")
            messages = (await at.get("live/messages"))["items"]
            assert [each["segment"] for each in messages] == ["cs-1", "cs-2", "dfs-256"]
            [counters] = (await at.get("live/counters"))["items"]
            assert counters["segment"] == "dfs-256"
            assert (await at.get("flows"))["items"] == []
            trace = await at.get("flows/trace", client="198.51.100.7:1", vip="203.0.113.10:80")
            assert [each["segment"] for each in trace["items"]] == ["cs-1", "cs-2", "dfs-256"]
            response = await at.client.post(
                "/api/v1/flows/reap", json={"client": "198.51.100.7:1", "vip": "203.0.113.10:80"}
            )
            assert response.status_code == 404, response.text
            response = await at.client.post("/api/v1/segments/cs-1/sync")
            assert response.json() == {"data_flow_segments": [256]}
            response = await at.client.post("/api/v1/segments/dfs-256/sync")
            assert response.status_code == 409

    run(story())


def test_a_newer_link_takes_the_place_of_an_older_one_and_a_revoked_token_ends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with api(tmp_path) as at, cs(tmp_path, config()):
            await at.configure()
            await follows(at)
            (tmp_path / "other").mkdir()
            async with cs(tmp_path, config()):
                await until(lambda: "another segment has linked itself as cs-1" in caplog.text)
                assert len(at.hub.segments()) == 1
                await follows(at)
                assert isinstance(at.state.access, KnownCallers)
                [it] = [each for each in at.state.access.keeper.tokens() if each.role == "segment"]
                at.state.access.keeper.revoke(it.id)
                await until(lambda: at.status_of("cs-1") == "unconnected")
                await until(lambda: "is no longer good" in caplog.text)

    run(story())


@pytest.mark.parametrize("path", ["segments/cs-7", "segments/cs-7/sync", "flows?segment=cs-7"])
def test_a_segment_that_was_never_linked_is_404(tmp_path: Path, path: str) -> None:
    async def story() -> None:
        async with api(tmp_path) as at:
            method = "POST" if path.endswith("sync") else "GET"
            response = await at.client.request(method, f"/api/v1/{path}")
            assert response.status_code == 404
            assert "there is no segment 'cs-7'; there are: none" in response.json()["detail"]

    run(story())


def test_a_segment_that_is_gone_is_503_and_still_listed(tmp_path: Path) -> None:
    async def story() -> None:
        async with api(tmp_path) as at:
            async with cs(tmp_path, config()):
                await until(lambda: bool(at.hub.segments()))
                assert (await at.hub.ask("cs-1", CS_STATUS)).segment_id == 1
            await until(lambda: at.status_of("cs-1") == "unconnected")
            response = await at.client.post("/api/v1/segments/cs-1/sync")
            assert response.status_code == 503, response.text
            [segment] = (await at.get("segments"))["items"]
            assert (segment["connected"], segment["state"]) == (False, None)
            await until_event(at, "segment_lost", "cs-1")

    run(story())


@pytest.mark.parametrize(("role", "status"), [("admin", 403), (None, 401)])
def test_a_link_needs_a_token_of_a_segment(
    tmp_path: Path, role: str | None, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with api(tmp_path) as at:
            text = (tmp_path / f"{role}.token").read_text() if role else "splp_unknown"
            (tmp_path / "segment.token").write_text(text)
            async with cs(tmp_path, config()):
                await until(lambda: f"refuses the token in segment.token ({status})" in caplog.text)
            assert at.hub.segments() == []

    run(story())


@asynccontextmanager
async def liar(folder: Path, **hello: Any) -> AsyncIterator[ClientConnection]:
    """A segment that says what it likes, and has said hello."""
    secret = (folder / "segment.token").read_text()
    async with unix_connect(
        str(folder / "api.sock"), uri="ws://localhost/api/v1/link",
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        additional_headers={"Authorization": f"Bearer {secret}"}, max_size=None,
    ) as link:  # fmt: skip
        identity = {"role": "dfs", "segment_id": 300, "release": "0.0.0", "pid": 1}
        said = {"type": "hello", "identity": identity, "host": "a", **hello}
        await link.send(json.dumps(said))
        yield link


def test_a_link_lasts_longer_than_a_request_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what an upgrade leaves unread of its request is no body that does not come
    monkeypatch.setattr(PatientProtocol, "BODY_S", 0.05)
    monkeypatch.setattr(PatientProtocol, "TAKING_S", 0.05)
    monkeypatch.setattr(PatientProtocol, "PATIENCE_S", 0.2)

    async def story() -> None:
        async with api(tmp_path), liar(tmp_path) as link:
            for _ in range(2):  # who says nothing is left, so this time has passed
                reader, writer = await asyncio.open_unix_connection(tmp_path / "api.sock")
                assert await reader.read() == b""
                writer.close()
                await (await link.ping())

    run(story())


async def closed(link: ClientConnection) -> tuple[int, str]:
    """Code and reason, once the API has ended it."""
    await link.wait_closed()
    assert link.close_code is not None
    return link.close_code, link.close_reason or ""


def identity(role: str, segment_id: int) -> dict[str, Any]:
    return {"role": role, "segment_id": segment_id, "release": "0.0.0", "pid": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"identity": identity("cs", 1 << 70), "group_id": 1},
        {"identity": identity("dfs", 0)},
        {"identity": identity("cs", 1), "group_id": -1},
        {"identity": identity("cs", 1), "group_id": 1, "generation": 1 << 70, "made_at": 1.0},
        {"identity": identity("cs", 1), "group_id": 1, "generation": -1, "made_at": 1.0},
    ],
)
def test_numbers_that_no_segment_has_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    async def story() -> None:
        async with api(tmp_path) as at, liar(tmp_path, **wrong) as link:
            assert (await closed(link))[0] == CLOSE_WRONG
            assert at.hub.segments() == []

    run(story())


def test_a_token_that_is_named_as_a_segment_is_good_for_no_other(tmp_path: Path) -> None:
    async def story() -> None:
        async with api(tmp_path) as at:
            assert isinstance(at.state.access, KnownCallers)
            secret = at.state.access.keeper.add_token("dfs-300", Role.SEGMENT, "the test")[1]
            (tmp_path / "segment.token").write_text(secret)
            async with liar(tmp_path, identity=identity("cs", 1), group_id=1) as link:
                said = "the token is that of dfs-300, and this is cs-1"
                assert await closed(link) == (CLOSE_WRONG, said)
            async with liar(tmp_path):
                await until(lambda: at.status_of("dfs-300") == "none")

    run(story())


def test_texts_of_a_segment_are_cut_and_made_fit_for_logs_and_databases(tmp_path: Path) -> None:
    async def story() -> None:
        async with api(tmp_path) as at, liar(tmp_path, host="h" * 100_000) as link:
            await link.send(
                '{"type": "event", "severity": "info", "kind": "k\\u0000", "time": Infinity,'
                ' "what": "a\\u001b[31m\\u202e\\n' + "b" * 100_000 + '",'
                ' "subject": {"pool": "\\u0000' + "p" * 100_000 + '", "other": "x"}}'
            )
            await until_event(at, "k\N{REPLACEMENT CHARACTER}", "dfs-300")
            [kept] = (await at.get("events", kind="k\N{REPLACEMENT CHARACTER}"))["items"]
            assert kept["what"].startswith(
                "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER} b"
            )
            assert len(kept["what"]) == 2000
            assert list(kept["subject"]) == ["pool"]
            assert len(kept["subject"]["pool"]) == 255
            assert 1.7e9 < kept["at"] < 1e11
            assert len(at.hub.segments()[0].host) == 255

    run(story())


@pytest.mark.parametrize("line", ["", "[" * 100_000, '{"ok": true}', '{"ok": false, "error": 1}'])
def test_a_segment_that_answers_garbage_costs_its_own_answer_only(
    tmp_path: Path, line: str
) -> None:
    async def answers(link: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            async for frame in link:
                said = json.loads(frame)
                if said["type"] == "ask":
                    for number in (said["id"] + 1000, said["id"]):  # nobody asked the first
                        await link.send(json.dumps({"type": "answer", "id": number}) + "\n" + line)

    async def story() -> None:
        async with (
            api(tmp_path) as at,
            cs(tmp_path, config()),
            liar(tmp_path) as link,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(answers(link))
            await until(lambda: len(at.hub.segments()) == 2)
            items = (await at.get("segments"))["items"]
            assert [each["state"] is None for each in items] == [False, True]
            await at.get("live/overview")
            response = await at.client.get("/api/v1/segments/dfs-300/answers/status")
            assert response.status_code in (409, 502), response.text
            await link.close()

    run(story())


@pytest.mark.faults
def test_a_link_stays_while_the_database_is_away_and_ends_with_its_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "CHECK_S", 0.02)

    def rename(at: Api, before: str, after: str) -> None:
        with at.state.database.writing() as session:
            session.execute(text(f"ALTER TABLE {before} RENAME TO {after}"))

    async def story() -> None:
        async with api(tmp_path) as at, liar(tmp_path) as link:
            assert isinstance(at.state.access, KnownCallers)
            keeper = at.state.access.keeper
            [it] = [each for each in keeper.tokens() if each.role == "segment"]
            await until(lambda: at.status_of("dfs-300") == "none")
            rename(at, "tokens", "away")
            await until(lambda: "checking the token of a link" in caplog.text)
            await until(lambda: "the 10th of these" in caplog.text)
            assert at.status_of("dfs-300") == "none"
            rename(at, "away", "tokens")
            keeper.revoke(it.id)
            assert (await closed(link))[0] == CLOSE_REVOKED

    run(story())

# SPDX-License-Identifier: Apache-2.0
"""A CS and an API tell what happens: real processes and parts, a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from admin import happened
from admin.alerts.alerts import OUTCOMES, Alerts
from admin.alerts.config import AlertConfig
from admin.answers import SET_NODES
from admin.client import ask
from admin.errors import CommandError
from api.database import Database
from api.events.kept import KeptEvents
from api.events.service import Happened
from api.metrics.alerts import counting
from control_segment.config import ControlSegmentConfig
from control_segment.runtime.runtime import ControlSegmentRuntime
from splitplane.alerting import of_api, of_segment, running
from support.alert_sinks import HOST, HttpSink
from support.ports import free_port

POOLS = [
    {"name": "web", "nodes": [{"name": "web1", "address": "10.1.1.2", "port": 80}]},
    {"name": "sorry", "nodes": [{"name": "s1", "address": "10.1.1.3", "port": 80}]},
]


def cs_document(**changes: Any) -> dict[str, Any]:
    server = {"name": "www", "address": "203.0.113.10", "port": 80, "protocol": "tcp"}
    return {
        "segment_id": 1,
        "ssmb": {"address": HOST, "port": free_port()},
        "laboratory_no_authentication": True,
        "data_flow_segments": [{"address": HOST, "port": free_port()}],
        "pools": POOLS,
        "virtual_servers": [{**server, "pool": "web", "fallback_pool": "sorry"}],
        **changes,
    }


def hook_to(sink: HttpSink) -> dict[str, Any]:
    webhook = {"url": f"http://{HOST}:{sink.port}/"}
    return {"name": "chat", "severity": "info", "batch_s": 0, "webhook": webhook}


def events_of(sink: HttpSink) -> list[dict[str, Any]]:
    return [event for each in sink.requests for event in json.loads(each.body)["events"]]


async def until(condition: Callable[[], object]) -> None:
    for _ in range(12_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


def is_set(socket: Path) -> bool:
    try:
        ask(socket, SET_NODES, pool="web", nodes=["web1"], state="down")
    except CommandError:
        return False  # it is not there yet
    return True


def test_a_cs_with_alerts_tells_what_it_sees(tmp_path: Path) -> None:
    async def run() -> str:
        async with HttpSink() as sink:
            alerts = [{**hook_to(sink), "kinds": ["fallback_begun"]}]
            document = cs_document(admin_socket=str(tmp_path / "cs.sock"), alerts=alerts)
            (tmp_path / "cs.yaml").write_text(yaml.safe_dump(document))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "splitplane", "cs", str(tmp_path / "cs.yaml"),
                stderr=subprocess.PIPE,
            )  # fmt: skip
            try:
                while not await asyncio.to_thread(is_set, tmp_path / "cs.sock"):
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
                await until(lambda: sink.requests)
            finally:
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                _, said = await process.communicate()
            assert process.returncode == 0, said
            (event,) = events_of(sink)
            assert (event["kind"], event["segment"]) == ("fallback_begun", "cs-1")
            assert event["subject"] == {"virtual_server": "www", "pool": "sorry"}
            return said.decode()

    assert "new ones go to fallback pool sorry" in asyncio.run(run())


def test_a_standby_leaves_to_the_active_cs_what_both_see(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = {"segment_id": 2, "address": HOST, "port": free_port()}
    document = cs_document(active=False, control_segments=[other])
    runtime = ControlSegmentRuntime(ControlSegmentConfig.model_validate(document), b"")

    async def run() -> None:
        async with HttpSink() as sink, asyncio.TaskGroup() as tasks:
            alerts = Alerts([AlertConfig.model_validate(hook_to(sink))], tmp_path)
            async with of_segment(alerts, runtime, "cs-1"):
                running = tasks.create_task(runtime.run())
                await until(lambda: runtime.is_running)
                set_down: dict[str, object] = {"pool": "web", "nodes": ["web1"], "state": "down"}
                runtime.handle_admin("set_nodes", set_down)
                await until(lambda: "fallback pool sorry" in caplog.text)
                await until(lambda: events_of(sink))
                runtime.stop()
                await running
            assert {event["kind"] for event in events_of(sink)} == {"role"}

    asyncio.run(run())


def test_the_api_tells_of_its_events_from_any_thread(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/api.db")
    database.migrate()
    events = KeptEvents(database)
    event = Happened(
        at=1_700_000_000.0, severity="error", kind="segment_lost", what="cs-2 is away",
        segment="cs-2", subject={"segment": "cs-2"},
    )  # fmt: skip

    async def run() -> None:
        async with HttpSink() as sink:
            alerts = Alerts([AlertConfig.model_validate(hook_to(sink))], tmp_path)
            async with of_api(alerts, events):
                await asyncio.to_thread(events.add, event)
                await until(lambda: sink.requests)
            events.add(event)  # nobody listens any more
            (told,) = events_of(sink)
            assert (told["kind"], told["segment"]) == ("segment_lost", "cs-2")

    try:
        asyncio.run(run())
    finally:
        database.close()


@pytest.mark.parametrize("command", ["cs", "api"])
def test_a_secret_that_is_not_there_ends_the_command_with_code_3(
    tmp_path: Path, command: str
) -> None:
    webhook = {"url": "https://hooks.example.net/", "secret_file": "hook.secret"}
    alerts = [{"name": "chat", "webhook": webhook}]
    document = cs_document(alerts=alerts)
    if command == "api":
        document = {"listen": {"address": HOST, "port": free_port()}, "alerts": alerts}
    (tmp_path / "it.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [sys.executable, "-m", "splitplane", command, str(tmp_path / "it.yaml")],
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == 3
    assert "hook.secret: there is no such file; create it, with mode 600" in done.stderr


def test_a_test_message_says_which_alerts_get_through(tmp_path: Path) -> None:
    async def run() -> tuple[str, str, int]:
        async with HttpSink(answers=["204 No Content", "403 Forbidden"]) as sink:
            alerts = [hook_to(sink), {**hook_to(sink), "name": "other", "kinds": ["role"]}]
            (tmp_path / "api.yaml").write_text(yaml.safe_dump({"alerts": alerts, "listen": {}}))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "splitplane", "test-alerts", str(tmp_path / "api.yaml"),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            said, errors = await process.communicate()
            assert process.returncode is not None
            assert [event["kind"] for event in events_of(sink)] == ["test", "test"]
            assert "nothing has happened" in events_of(sink)[0]["what"]
            port = str(sink.port)
            return said.decode().replace(port, "PORT"), errors.decode(), process.returncode

    said, errors, code = asyncio.run(run())
    assert said == (
        f"chat: sent to http://{HOST}:PORT\n"
        f"other: not sent to http://{HOST}:PORT: the server answers with status 403\n"
    )
    assert (errors, code) == ("splitplane: not sent: other\n", 1)


def test_messages_are_counted_for_prometheus(tmp_path: Path) -> None:
    registry = CollectorRegistry()

    def counted(outcome: str) -> float | None:
        labels = {"alert": "chat", "outcome": outcome}
        return registry.get_sample_value("splitplane_api_alert_messages_total", labels)

    async def run() -> None:
        async with HttpSink() as sink:
            count = counting(["chat"], registry)
            alerts = Alerts([AlertConfig.model_validate(hook_to(sink))], tmp_path, count)
            assert [counted(outcome) for outcome in OUTCOMES] == [0, 0, 0]
            async with running(alerts):
                alerts.tell(happened.Happened("error", "node_down", "x"), 1.0, None)
                await until(lambda: counted("sent"))
                await until(lambda: alerts.alerts[0].outbox.sent)
                assert [counted(outcome) for outcome in OUTCOMES] == [1, 0, 0]

    asyncio.run(run())
    refusing = {"name": "chat", "batch_s": 0, "webhook": {"url": f"http://{HOST}:{free_port()}/"}}

    async def fail() -> None:
        count = counting(["chat"], CollectorRegistry())
        seen: list[str] = []

        def counts(name: str, outcome: str) -> None:
            count(name, outcome)
            seen.append(outcome)

        alerts = Alerts([AlertConfig.model_validate(refusing)], tmp_path, counts)
        async with running(alerts):
            alerts.tell(happened.Happened("error", "node_down", "x"), 1.0, None)
            await until(lambda: seen)
        assert seen == ["failed"]

    asyncio.run(fail())


def test_a_test_of_an_alert_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "api.yaml").write_text("listen: {}\n")
    done = subprocess.run(
        [sys.executable, "-m", "splitplane", "test-alerts", str(tmp_path / "api.yaml")],
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == 1
    assert "there are no alerts; see docs/operations.md, Alerts" in done.stderr

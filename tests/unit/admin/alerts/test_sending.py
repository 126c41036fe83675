# SPDX-License-Identifier: Apache-2.0
"""Alerts reach a real mail server and a real HTTP server, and secrets reach nobody else."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from admin.alerts import texts
from admin.alerts.alerts import Alerts
from admin.alerts.config import AlertConfig
from admin.alerts.outbox import RETRY_S
from admin.happened import Happened
from support.alert_sinks import HOST, HttpSink, MailSink
from support.certificates import server_context

PASSWORD, TOKEN, SECRET = "correct horse", "Bearer very-secret", "battery staple"
DOWN = Happened(
    "error",
    "node_down",
    "node web1 of pool web is down: it refuses",
    {"pool": "web", "node": "web1"},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in (
        ("password", PASSWORD), ("headers", f"Authorization: {TOKEN}\nX-Team: ops\n"),
        ("secret", f"{SECRET}\n"),
    ):  # fmt: skip
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    return tmp_path


def email_to(port: int, **fields: Any) -> dict[str, Any]:
    return {
        "host": HOST, "port": port, "tls": "none", "from": "lb@example.net",
        "to": ["ops@example.net", "boss@example.net"], **fields,
    }  # fmt: skip


def alerts(folder: Path, **fields: Any) -> Alerts:
    entry = AlertConfig.model_validate({"name": "a", "batch_s": 0, **fields})
    return Alerts([entry], folder)


async def until(condition: Callable[[], object]) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


def told(made: Alerts, condition: Callable[[], object], *events: Happened) -> Awaitable[None]:
    """Run the alerts, tell them of these, and wait."""

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(made.run())
            for event in events:
                made.tell(event, 1_700_000_000.0, "cs-1")
            await until(condition)
            running.cancel()

    return run()


def outbox(made: Alerts) -> Any:
    return made.alerts[0].outbox


def test_an_email_reaches_every_recipient_and_says_what_happened(folder: Path) -> None:
    async def run() -> None:
        async with MailSink() as sink:
            made = alerts(folder, email=email_to(sink.port))
            await told(made, lambda: outbox(made).sent, DOWN)
        (mail,) = sink.mails
        assert (mail.sender, mail.recipients) == (
            "lb@example.net", ["ops@example.net", "boss@example.net"],
        )  # fmt: skip
        message = mail.message
        assert message["Subject"] == "[splitplane] node web1 of pool web is down: it refuses"
        assert message["To"] == "ops@example.net, boss@example.net"
        assert message["Auto-Submitted"] == "auto-generated"
        assert message["Message-ID"].endswith("@example.net>")
        assert message.get_content() == (
            "2023-11-14 22:13:20 UTC  error    node_down: cs-1: node web1 of pool web is down: it"
            " refuses\n"
        )

    asyncio.run(run())


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_an_email_is_encrypted_and_the_password_is_sent_then_only(folder: Path, tls: str) -> None:
    async def run() -> None:
        context = server_context(folder)
        sink = MailSink(
            context if tls == "tls" else None,
            starttls=context if tls == "starttls" else None,
            password=PASSWORD,
        )
        async with sink:
            fields = {"tls": tls, "user": "lb", "password_file": "password", "ca_file": "ca.pem"}
            made = alerts(folder, email=email_to(sink.port, **fields))
            await told(made, lambda: outbox(made).sent, DOWN)
        (mail,) = sink.mails
        assert (mail.encrypted, mail.user) == (True, "lb")

    asyncio.run(run())


def test_a_mail_server_of_another_authority_gets_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with MailSink(starttls=server_context(folder), password=PASSWORD) as sink:
            fields = {"tls": "starttls", "user": "lb", "password_file": "password"}
            made = alerts(folder, email=email_to(sink.port, **fields))
            await told(made, lambda: outbox(made).failed, DOWN)
        assert sink.mails == []

    asyncio.run(run())
    assert "certificate" in caplog.text


def test_a_wrong_password_is_logged_without_it(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with MailSink(password="another") as sink:
            fields = {"user": "lb", "password_file": "password"}
            made = alerts(folder, email=email_to(sink.port, **fields))
            with caplog.at_level(logging.DEBUG):
                await told(made, lambda: outbox(made).failed, DOWN)

    asyncio.run(run())
    assert "the mail server says 535 5.7.8 no such user or password" in caplog.text
    assert PASSWORD not in caplog.text


def test_a_mail_that_is_refused_for_now_is_sent_later(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admin.alerts.outbox.RETRY_S", 0.01)

    async def run() -> None:
        async with MailSink(refusals=["451 greylisted"]) as sink:
            made = alerts(folder, email=email_to(sink.port))
            outbox(made)._retry_s = 0.01
            await told(made, lambda: outbox(made).sent, DOWN)
        assert (sink.refused, len(sink.mails), outbox(made).failed) == (1, 1, 1)

    asyncio.run(run())
    assert "is tried again in 0 s: the mail server says 451 greylisted" in caplog.text


def test_a_mail_server_that_hangs_holds_nobody_up(folder: Path) -> None:
    async def run() -> None:
        async with MailSink(hangs=True) as sink:
            made = alerts(folder, email=email_to(sink.port))
            await told(made, lambda: sink.connections, *[DOWN] * 1000)
        assert sink.mails == []

    asyncio.run(run())
    # the thread's connection was shut when the alerts ended: tests/support/leaks.py looks


def test_a_web_hook_gets_json_that_is_signed(folder: Path) -> None:
    async def run() -> None:
        async with HttpSink() as sink:
            url = f"http://{HOST}:{sink.port}/hooks/x?room=lb"
            hook = {"url": url, "secret_file": "secret", "headers_file": "headers"}
            made = alerts(folder, webhook=hook)
            await told(made, lambda: outbox(made).sent, DOWN)
        (request,) = sink.requests
        assert request.line == "POST /hooks/x?room=lb HTTP/1.1"
        assert request.headers["content-type"] == "application/json"
        assert (request.headers["authorization"], request.headers["x-team"]) == (TOKEN, "ops")
        timestamp = request.headers["x-splitplane-timestamp"]
        signature = texts.signature(SECRET.encode(), timestamp, request.body)
        assert request.headers["x-splitplane-signature"] == signature
        said = json.loads(request.body)
        assert said["events"] == [
            {
                "at": "2023-11-14T22:13:20.000+00:00",
                "severity": "error",
                "kind": "node_down",
                "what": DOWN.what,
                "segment": "cs-1",
                "subject": {"pool": "web", "node": "web1"},
            }
        ]
        assert said["text"].endswith("node_down: cs-1: node web1 of pool web is down: it refuses")
        assert said["left_out"] == {}

    asyncio.run(run())


def test_a_web_hook_with_tls_checks_the_certificate(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with HttpSink(server_context(folder)) as sink:
            url = f"https://{HOST}:{sink.port}/very-secret-path"
            trusting = alerts(folder, webhook={"url": url, "ca_file": "ca.pem"})
            await told(trusting, lambda: outbox(trusting).sent, DOWN)
            doubting = alerts(folder, webhook={"url": url})
            with caplog.at_level(logging.DEBUG):
                await told(doubting, lambda: outbox(doubting).failed, DOWN)
        assert len(sink.requests) == 1

    asyncio.run(run())
    assert "certificate" in caplog.text
    assert "very-secret-path" not in caplog.text


@pytest.mark.parametrize(
    ("answer", "wait_s"),
    [
        ("500 No", RETRY_S),
        ("302 Found\r\nLocation: http://127.0.0.1:1/", RETRY_S),
        ("429 Slow\r\nRetry-After: 90", 90.0),
        ("503 Slow\r\nRetry-After: soon", RETRY_S),
    ],
)
def test_a_web_hook_that_is_not_taken_is_tried_again_when_the_server_says(
    folder: Path, caplog: pytest.LogCaptureFixture, answer: str, wait_s: float
) -> None:
    async def run() -> None:
        async with HttpSink(answers=[answer]) as sink:
            url = f"http://{HOST}:{sink.port}/very-secret-path"
            hook = {"url": url, "headers_file": "headers"}
            made = alerts(folder, webhook=hook)
            await told(made, lambda: outbox(made).failed, DOWN)
        assert len(sink.requests) == 1  # and redirections are not followed

    asyncio.run(run())
    assert f"is tried again in {wait_s:.0f} s" in caplog.text
    assert f"status {answer.partition(' ')[0]}" in caplog.text
    assert "very-secret" not in caplog.text


def test_a_secret_that_is_replaced_needs_no_restart(folder: Path) -> None:
    async def run() -> None:
        async with HttpSink() as sink:
            hook = {"url": f"http://{HOST}:{sink.port}/", "headers_file": "headers"}
            made = alerts(folder, webhook=hook)
            await told(made, lambda: outbox(made).sent, DOWN)
            (folder / "headers").write_text("Authorization: another\n")
            await told(made, lambda: outbox(made).sent == 2, DOWN)
        assert [each.headers["authorization"] for each in sink.requests] == [TOKEN, "another"]

    asyncio.run(run())


def test_events_of_many_threads_are_all_told_and_text_that_is_no_line_stays_one(
    folder: Path,
) -> None:
    strange = Happened("error", "x", "a\r\nBcc: all@example.net\x1b[31m\u2028b", {})

    async def run() -> None:
        async with HttpSink() as hook, MailSink() as mail:
            made = alerts(folder, webhook={"url": f"http://{HOST}:{hook.port}/"})
            by_mail = alerts(folder, email=email_to(mail.port))

            def tell() -> None:
                for _ in range(10):
                    made.tell(DOWN, 1.0, "cs-1")

            def said() -> int:
                return sum(len(json.loads(each.body)["events"]) for each in hook.requests)

            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(made.run())
                threads = [threading.Thread(target=tell) for _ in range(8)]
                for thread in threads:
                    thread.start()
                await until(lambda: said() == 80)
                for thread in threads:
                    thread.join()
                running.cancel()
            await told(by_mail, lambda: outbox(by_mail).sent, strange)
        (message,) = [each.message for each in mail.mails]
        assert message["Bcc"] is None
        assert message["Subject"] == "[splitplane] a Bcc: all@example.net [31m b"
        assert message.get_content().count("\n") == 1

    asyncio.run(run())


def test_what_nobody_wants_to_hear_is_not_told(folder: Path) -> None:
    async def run() -> None:
        async with HttpSink() as sink:
            made = alerts(folder, webhook={"url": f"http://{HOST}:{sink.port}/"}, severity="error")
            quiet = Happened("warning", "node_ejected", "x")
            await told(made, lambda: outbox(made).sent, quiet, DOWN, quiet)
        (request,) = sink.requests
        assert [each["kind"] for each in json.loads(request.body)["events"]] == ["node_down"]

    asyncio.run(run())

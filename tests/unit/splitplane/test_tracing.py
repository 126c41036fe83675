# SPDX-License-Identifier: Apache-2.0
"""Traces go to a collector if one is named, and nothing depends on it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from admin import tracing
from admin.answers import RELOAD
from admin.client import ask
from admin.errors import CommandError
from api.access.roles import Role
from splitplane.reloads import Reloads, Say
from support.api.apps import POOL, app_under_test
from support.collector import collector
from support.ports import free_port
from support.processes import killed_after, said_until

ENDPOINT = tracing.ENDPOINTS[1]
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"


def test_a_request_is_a_span_of_its_callers_trace_without_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as found:
        monkeypatch.setenv(ENDPOINT, found.endpoint)
        with tracing.traced("api", "api", "1.2.3"), app_under_test(tmp_path) as served:
            client = served.client(Role.OPERATOR, traceparent=CALLER)
            assert client.put("/api/v1/pools/web?comment=why", json=POOL).status_code == 201
            token = served.token(Role.OPERATOR)
    ((about, span),) = found.spans
    assert about["service.name"] == "splitplane-api"
    assert about["service.version"] == "1.2.3"
    assert span.name == "PUT /api/v1/pools/{name}"
    assert span.trace_id.hex() == TRACE
    attributes = {it.key: it.value for it in span.attributes}
    assert attributes["http.response.status_code"].int_value == 201
    assert attributes["http.route"].string_value == "/api/v1/pools/{name}"
    for secret in (token, "why", "192.0.2.11"):
        assert secret not in str(span)


def test_a_reload_that_fails_is_a_span_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(say: Say) -> None:
        raise ValueError("ssmb cannot be changed\nand more")

    with collector() as found:
        monkeypatch.setenv(ENDPOINT, found.endpoint)
        with tracing.traced("cs", "cs-7", "1.2.3"), pytest.raises(ValueError, match="ssmb"):
            asyncio.run(Reloads(refused).request())
    ((about, span),) = found.spans
    assert (about["service.instance.id"], span.name) == ("cs-7", "reload")
    assert span.status.message == "ssmb cannot be changed"


@pytest.mark.parametrize("environment", [{}, {ENDPOINT: "http://127.0.0.1:1", tracing.OFF: "True"}])
def test_it_is_off_unless_it_is_wanted(environment: dict[str, str]) -> None:
    with tracing.traced("cs", "cs-1", "1.2.3", environment), tracing.span("reload") as span:
        span.rename("another")
        assert span is tracing._NOTHING


def test_without_the_extra_the_log_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with tracing.traced("cs", "cs-1", "1.2.3", {ENDPOINT: "http://127.0.0.1:1"}):
        pass
    assert "pip install 'splitplane[tracing]'" in caplog.text


def test_a_cs_sends_its_reloads_and_ends_at_once_if_nobody_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "cs.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "segment_id": 1,
                "ssmb": {"address": "127.0.0.1", "port": free_port()},
                "laboratory_no_authentication": True,
                "admin_socket": str(tmp_path / "cs.sock"),
                "data_flow_segments": [{"address": "127.0.0.1", "port": free_port()}],
            }
        )
    )

    def reload(endpoint: str) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "splitplane", "cs", str(path)],
            stderr=subprocess.PIPE, text=True, env={**os.environ, ENDPOINT: endpoint},
        )  # fmt: skip
        with killed_after(process):
            said_until(process, "traces are sent")
            while True:
                try:
                    ask(tmp_path / "cs.sock", RELOAD)
                    break
                except CommandError:
                    assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0

    with collector() as found:
        reload(found.endpoint)
    ((about, span),) = found.spans
    assert (about["service.name"], span.name) == ("splitplane-cs", "reload")
    reload(f"http://127.0.0.1:{free_port()}")

# SPDX-License-Identifier: Apache-2.0
"""`splitplane show`, `trace` and `reap` of all machines' segments, through an API."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.access.keeper import Keeper
from api.access.known import KnownCallers
from api.access.roles import Role
from api.config import ListenConfig
from api.serve import Listeners, Serving
from splitplane.cli import cli
from support.api.apps import app_under_test
from support.api.segments import TwoSegments

FLOW = "198.51.100.7:40000-203.0.113.10:80"


@pytest.fixture
def at(tmp_path: Path) -> Iterator[list[str]]:
    """The options for an API that runs, with tokens of a viewer and an operator in files."""
    listen = ListenConfig.model_validate({"address": None, "socket": "api.sock"})
    with app_under_test(tmp_path, TwoSegments()) as served:
        assert isinstance(served.state.access, KnownCallers)
        for role in (Role.VIEWER, Role.OPERATOR):
            path = tmp_path / role
            path.touch(0o600)
            keeper: Keeper = served.state.access.keeper
            path.write_text(keeper.add_token(role, role, "the test")[1])
        listeners = Listeners(listen, tmp_path)
        loop = asyncio.new_event_loop()
        serving = Serving(served.app, listeners)
        thread = threading.Thread(target=lambda: loop.run_until_complete(serving.run()))
        thread.start()
        try:
            yield ["--api", f"unix:{tmp_path}/api.sock", "--token-file", str(tmp_path / "viewer")]
        finally:
            loop.call_soon_threadsafe(serving.stop)
            thread.join()
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            listeners.close()


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def test_what_is_shown_is_what_the_segments_admin_socket_says(at: list[str]) -> None:
    flows = json.loads(run("show", "flows", "--json", *at).output)
    assert [each["segment"] for each in flows] == ["cs-1", "cs-2"]
    assert flows[0]["api"] == at[1]
    assert flows[0]["data"][0]["client"] == "198.51.100.7:40000"
    nodes = run("show", "nodes", *at)
    assert (nodes.exit_code, "web1" in nodes.output, "cs-1" in nodes.output) == (0, True, True)
    assert run("show", "flows", "--node", "web2", *at).output.count("198.51.100.7") == 0
    assert run("show", "status", *at).exit_code == 0
    assert run("trace", FLOW, *at).exit_code == 0


def test_a_flow_is_reaped_by_who_may(at: list[str]) -> None:
    refused = run("reap", FLOW, *at)
    assert (refused.exit_code, "needs the role operator" in refused.output) == (1, True)
    done = run("reap", FLOW, *at[:-1], at[-1].replace("viewer", "operator"))
    assert (done.exit_code, done.output) == (0, "cs-1: reaped\n")
    done = run("reap", "198.51.100.7:1-203.0.113.10:80", *at[:-1],
               at[-1].replace("viewer", "operator"))  # fmt: skip
    assert (done.exit_code, "no CS knows such a flow" in done.output) == (1, True)


def test_the_environment_may_say_where_the_api_is(
    at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLITPLANE_API", at[1])
    assert "give --token-file" in run("show", "nodes").output
    monkeypatch.setenv("SPLITPLANE_TOKEN_FILE", at[3])
    assert "web1" in run("show", "nodes").output


@pytest.mark.parametrize(
    ("url", "said"),
    [("unix:/nowhere/api.sock", "no API answers there"), ("ftp://x", "is not the URL of an API")],
)
def test_a_wrong_place_is_said(at: list[str], url: str, said: str) -> None:
    result = run("show", "nodes", "--api", url, *at[2:])
    assert result.exit_code in (1, 3)
    assert said in result.output

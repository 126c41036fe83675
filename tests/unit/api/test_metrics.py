# SPDX-License-Identifier: Apache-2.0
"""What the API says of itself to Prometheus."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from admin.answers import Identity
from admin.metrics.exposition import Exposition
from api.access.roles import Role
from api.app import create_app
from api.metrics.collecting import collect
from api.metrics.requests import REQUESTS, SECONDS
from api.segments.hub import Linked
from splitplane import __version__
from support.api.apps import POOL, app_under_test
from support.api.segments import NoSegments
from support.ports import free_port
from support.processes import killed_after, said_until

CS = Linked(
    identity=Identity(role="cs", segment_id=1, release="0.1.0", pid=1),
    group_id=1, host="a", address="10.0.0.1", since=0.0, connected=True, generation=1,
    refused=None, problems=(), status="in_force",
)  # fmt: skip


class OneSegment(NoSegments):
    def segments(self) -> list[Linked]:
        dfs = Identity(role="dfs", segment_id=256, release="0.1.0", pid=1)
        return [CS, replace(CS, identity=dfs, connected=False, generation=None, refused=2)]


def test_requests_are_counted_and_timed_by_route_not_by_name(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    with app_under_test(tmp_path) as served:
        served.app = create_app(served.state, clock=lambda: served.time[0], measured=registry)
        client = served.client(Role.OPERATOR)
        assert client.put("/api/v1/pools/web", json=POOL).status_code == 201
        for name in ("web", "web", "other"):
            client.get(f"/api/v1/pools/{name}")
        client.get("/no/such/thing")
        client.request("BREW", "/api/v1/pools/web")
        text = b"".join(
            Exposition("").pieces(asyncio.run(collect("1.2.3", served.state)), registry)
        ).decode()
    route = "/api/v1/pools/{name}"

    def count(method: str, route: str, status: str) -> float | None:
        labels = {"method": method, "route": route, "status": status}
        return registry.get_sample_value(REQUESTS.name, labels)

    assert count("PUT", route, "201") == 1
    assert count("GET", route, "200") == 2
    assert count("GET", route, "404") == 1
    assert count("GET", "none", "404") == 1
    labels = {"method": "GET", "route": route}
    assert registry.get_sample_value(f"{SECONDS.name}_count", labels) == 3
    methods = {
        sample.labels["method"] for family in registry.collect() for sample in family.samples
    }
    assert methods == {"GET", "PUT", "other"}
    assert f'{REQUESTS.name}{{method="PUT",route="{route}",status="201"}} 1.0\n' in text
    assert "splitplane_api_generation 1.0\n" in text
    assert 'splitplane_api_resources{kind="pool"} 1.0\n' in text


def test_segments_are_seen_with_what_they_run_and_refuse(tmp_path: Path) -> None:
    with app_under_test(tmp_path, OneSegment()) as served:
        readings = asyncio.run(collect("1.2.3", served.state))
    found: dict[tuple[str, Any], float] = {
        (sample.name, sample.labels.get("segment")): sample.value
        for family in text_string_to_metric_families(
            b"".join(Exposition("").pieces(readings)).decode()
        )
        for sample in family.samples
    }
    assert found["splitplane_api_segment_linked", "cs-1"] == 1
    assert found["splitplane_api_segment_linked", "dfs-256"] == 0
    assert found["splitplane_api_segment_generation", "cs-1"] == 1
    assert ("splitplane_api_segment_generation", "dfs-256") not in found
    assert found["splitplane_api_segment_refuses", "dfs-256"] == 1


def test_a_process_has_its_metrics_at_an_address_of_their_own(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    config = tmp_path / "api.yaml"
    config.write_text(f"listen: {{port: {ports[0]}}}\nmetrics: {{port: {ports[1]}}}\n")
    command = [sys.executable, "-m", "splitplane", "api", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with killed_after(process):
        said_until(process, "the API serves")
        with httpx.Client(timeout=60) as client:
            client.get(f"http://127.0.0.1:{ports[0]}/healthz")  # answered when all has begun
            text = client.get(f"http://127.0.0.1:{ports[1]}/metrics").text
            assert client.get(f"http://127.0.0.1:{ports[0]}/metrics").status_code == 404
        assert f'splitplane_api_build_info{{version="{__version__}"' in text
        labels = '{method="GET",route="/healthz",status="200"}'
        assert f"\nsplitplane_api_requests_total{labels} 1.0\n" in text
        assert "\nsplitplane_api_loop_delay_seconds_count " in text
        second = tmp_path / "second.yaml"
        second.write_text(f"listen: {{port: {free_port()}}}\nmetrics: {{port: {ports[1]}}}\n")
        done = subprocess.run(
            [*command[:-1], str(second)], capture_output=True, text=True, check=False, timeout=90
        )
        assert done.returncode == 5, done.stderr
        assert f"metrics: 127.0.0.1 port {ports[1]}: Address already in use" in done.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0

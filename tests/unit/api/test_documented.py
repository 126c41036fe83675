# SPDX-License-Identifier: Apache-2.0
"""docs/api.md: its commands do what it says, and it has every kind of problem."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from api.config import ApiConfig
from splitplane.config import load
from support.ports import free_port
from support.processes import killed_after, said_until
from support.require import require

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/api.md").read_text()


def test_the_walk_through_goes_from_nothing_to_a_virtual_server(tmp_path: Path) -> None:
    require("curl", None if shutil.which("curl") else "curl is not installed")
    first, second, *_ = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    port, python = free_port(), f"{sys.executable} -m splitplane"
    (tmp_path / "api.yaml").write_text(f"listen: {{port: {port}}}\n")
    made = bash(first.replace("splitplane token", f"{python} token"), tmp_path)
    assert made.returncode == 0, made.stderr
    api = subprocess.Popen(
        [sys.executable, "-m", "splitplane", "api", "api.yaml", "--log-format", "text"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with killed_after(api):
        said_until(api, "the API serves")
        walked = bash(second.replace("8404", str(port)), tmp_path)
        assert walked.returncode == 0, walked.stdout + walked.stderr
        token = (tmp_path / "token").read_text().strip()
        url = f"http://127.0.0.1:{port}/api/v1"
        bearer = {"Authorization": f"Bearer {token}"}
        shop = httpx.get(f"{url}/virtual-servers/shop", headers=bearer).json()
        node = httpx.get(f"{url}/pools/web/nodes/web-1", headers=bearer).json()
    assert (shop["pool"], node["state"]) == ("web", "enabled")
    assert "virtual_servers:\n- name: shop\n" in walked.stdout


def bash(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip


def test_every_kind_of_problem_is_in_the_table() -> None:
    table = set(re.findall(r"^\| `([a-z-]+)` \| \d{3} \|", TEXT, re.MULTILINE))
    used = set()
    for path in (ROOT / "api").rglob("*.py"):
        used |= set(re.findall(r'kind="([a-z-]+)"', path.read_text()))
    assert used <= table
    assert table - used <= {"method-not-allowed"}


def test_the_example_of_api_yaml_loads_and_shows_every_field() -> None:
    example = ROOT / "docs/examples/api/api.yaml"
    load(example, ApiConfig)
    text = example.read_text()
    assert {
        field for field in fields(ApiConfig.model_json_schema()) if f"{field}:" not in text
    } == (set())


def fields(schema: object) -> Iterator[str]:
    """All names of fields in a model's JSON schema, at any depth."""
    if isinstance(schema, dict):
        properties = schema.get("properties", {})
        yield from properties
        for below in [*properties.values(), *schema.get("$defs", {}).values()]:
            yield from fields(below)

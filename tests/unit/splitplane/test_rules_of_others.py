# SPDX-License-Identifier: Apache-2.0
"""docs/operations.md, Coming from HAProxy or BIG-IP: both configurations decide the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from control_segment.config import GroupConfig
from control_segment.rule_trying import Words, octets_of_request, try_words

TEXT = (Path(__file__).parents[3] / "docs/operations.md").read_text()
SECTION = TEXT.partition("### Coming from HAProxy or BIG-IP\n")[2].partition("\n## ")[0]
POOLS = ("web", "images", "beta")
CLIENT = bytes(15) + b"\x01"


@pytest.mark.parametrize(
    ("line", "headers", "pool"),
    [
        ("/", ["Host: example.com"], "web"),
        ("/x", ["Host: A.IMG.example.com:80"], "images"),
        ("/x", ["Host: img.example.com"], "web"),
        ("POST /x", ["Host: a.img.example.com"], "web"),
        ("HEAD /css/a", ["Host: example.com"], "images"),
        ("POST /css/a", ["Host: example.com", "Cookie: beta="], "beta"),
        ("/admin/", ["Host: a.img.example.com"], None),
        ("/img/../%61dmin/a", ["Host: example.com"], None),
        ("/admin/", ["Host: example.com", "X-Office: yes"], "web"),
    ],
)
def test_the_example_decides_as_the_configuration_beside_it(
    line: str, headers: list[str], pool: str | None
) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    nodes = [{"name": "one", "address": "192.0.2.1", "port": 80}]
    pools = [{"name": name, "nodes": nodes} for name in POOLS]
    group = GroupConfig.model_validate({"pools": pools, **yaml.safe_load(block)})
    assert try_words(group, "shop", Words(octets_of_request(line, headers)), CLIENT).pool == pool

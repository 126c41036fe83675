# SPDX-License-Identifier: Apache-2.0
"""Answers of the admin socket, made up."""

from __future__ import annotations

from typing import Any

from admin.answers import Flow


def flow(**changes: Any) -> Flow:
    """An established flow; what only one kind of segment knows is left out."""
    fields = {
        "client": "198.51.100.7:40000", "vip": "203.0.113.10:80", "protocol": "tcp",
        "serial": 255, "data_flow_segment": 256, "group_id": 1, "node": "10.1.1.2:8080",
        "forward_mode": "nat", "state": "established", "opened_ms": 1000, "idle_ms": 10,
        "idle_timeout_s": 300, "packets_in": 3, "bytes_in": 120, "packets_out": 2,
        "bytes_out": 80, **changes,
    }  # fmt: skip
    return Flow(**fields)

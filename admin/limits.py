# SPDX-License-Identifier: Apache-2.0
"""Limits that hold in files and in commands alike."""

from __future__ import annotations

from typing import Final

WEIGHT_MAX: Final = 1000
"""Of a node, in a file and in SET_NODE."""
PRIORITY_MAX: Final = 1000
"""Of a node; 0 is the lowest."""

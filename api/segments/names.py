# SPDX-License-Identifier: Apache-2.0
"""How segments are called."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

SegmentName = Annotated[
    str,
    Field(pattern=r"^(cs|dfs)-[1-9][0-9]{0,4}$", examples=["cs-1"], description="cs-1, dfs-256"),
]

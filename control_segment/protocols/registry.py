# SPDX-License-Identifier: Apache-2.0
"""The plug-ins by the names that the configuration has for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from control_segment.protocols.mysql import Mysql
from control_segment.protocols.plugin import Plugin
from control_segment.protocols.redis import Redis

PLUGINS: Final[Mapping[str, Plugin]] = {"mysql": Mysql(), "redis": Redis()}

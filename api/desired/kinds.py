# SPDX-License-Identifier: Apache-2.0
"""The registry of kinds: the model of each, and where a document has it (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from api.desired.resources import Body, Kind
from control_segment.config import PoolConfig, SettingsConfig, VirtualServerConfig
from control_segment.health.config import MonitorConfig


@dataclass(frozen=True, slots=True)
class KindOf:
    """What the desired state has to know of a kind."""

    model: type[BaseModel]
    field: str  # in a document
    word: str  # in a sentence
    one: bool = False  # a document has one of it, not a list
    defaults_depend: bool = False  # on other fields: what was given may have to be kept

    def written(self, model: BaseModel) -> Body:
        """The body, as a person would write it."""
        body = model.model_dump(mode="json", exclude_defaults=True)
        if self.defaults_depend and self.model.model_validate(body) != model:
            return model.model_dump(mode="json", exclude_unset=True)
        return body


KINDS: Final = {
    Kind.SETTINGS: KindOf(SettingsConfig, "settings", "settings", one=True),
    Kind.MONITOR: KindOf(MonitorConfig, "monitors", "monitor", defaults_depend=True),
    Kind.POOL: KindOf(PoolConfig, "pools", "pool"),
    Kind.VIRTUAL_SERVER: KindOf(VirtualServerConfig, "virtual_servers", "virtual server"),
}

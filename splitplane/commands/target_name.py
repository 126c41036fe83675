# SPDX-License-Identifier: Apache-2.0
"""The name of a target on the command line; which ones there are is looked up when one is given."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem


def _names() -> list[str]:
    from data_flow_segment.targets.registry import TARGETS

    return list(TARGETS)


class TargetName(click.ParamType):  # type: ignore[type-arg] # generic in new releases only
    """As click.Choice, without loading a segment for every command."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, or click's error."""
        if value not in _names():
            self.fail(f"{value!r} is not one of {', '.join(_names())}.", param, ctx)
        return str(value)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """As `--help` shows it."""
        return f"[{'|'.join(_names())}]"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """What may follow."""
        return [CompletionItem(name) for name in _names() if name.startswith(incomplete)]

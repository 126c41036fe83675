# SPDX-License-Identifier: Apache-2.0
"""Puts in force what the API wants a CS to run, one generation at a time, and keeps it on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

from admin.errors import CommandError, ConfigError
from admin.link.messages import Applied, Change, LinkError, Refused
from control_segment.config import ControlSegmentConfig, GroupConfig
from control_segment.config_changes import Known, Unfit, changed, with_group
from control_segment.differences import Difference
from control_segment.runtime import memory
from control_segment.runtime.desired.copy import Kept
from control_segment.runtime.desired.frames import Head, configuration_of, group_of, head_of
from control_segment.runtime.desired.keeper import Keeper
from control_segment.runtime.pieces import read_in_process

IN_THREAD_MAX: Final = 64 * 1024
"""Octets of a configuration that a thread parses; a process takes half a second to start."""
PROBLEMS_MAX: Final = 100  # that are sent
_READER: Final = "control_segment.runtime.desired.reader"


class PutInForce(Protocol):
    """The CS's runtime; ValueError, nothing changed: it cannot be done."""

    def __call__(
        self, config: ControlSegmentConfig, difference: Difference | None, /
    ) -> Awaitable[None]:
        """`difference`: all that is other in it; None: that is not known."""


_log = logging.getLogger("control_segment")


class Following:
    """What a CS runs, as the API knows it (`admin.link.client.Configured`)."""

    def __init__(
        self,
        own: ControlSegmentConfig,
        keeper: Keeper | None,
        *,
        in_thread_max: int = IN_THREAD_MAX,
    ) -> None:
        """*own*: the CS's file; *keeper*: None: nothing is kept, and the CS starts empty."""
        self.config = own  # in force, or to be at the start
        self._keeper = keeper
        self._in_thread_max = in_thread_max
        self._running: Head | None = None
        self._put_in_force: PutInForce | None = None
        self._known: Known | None = None  # of what is in force; None: nothing of an API is
        self._is_out_of_step = False
        kept = None if keeper is None else keeper.read()
        if kept is not None:
            self._start_with(kept)

    def _start_with(self, kept: Kept) -> None:
        try:
            group = group_of(kept.head, kept.configuration, self.config.group_id)
            config = with_group(self.config, group)
        except ConfigError as error:
            for problem in error.problems[:PROBLEMS_MAX]:
                _log.error("configuration copy: %s", problem)
            _log.error(
                "the configuration copy cannot be used; this CS has no virtual servers until the"
                " API has sent some"
            )
            return
        self.config, self._running, self._known = config, kept.head, Known(config)
        _log.info(
            "starting with generation %d of the configuration: %d virtual servers, %d pools",
            kept.head.generation, len(group.virtual_servers), len(group.pools),
        )  # fmt: skip

    def applies_by(self, put_in_force: PutInForce) -> None:
        """The CS's runtime does."""
        self._put_in_force = put_in_force

    @property
    def generation(self) -> int | None:
        """In force; None: none of an API, or none that a change can be added to."""
        broken = self._is_out_of_step or (self._keeper is not None and self._keeper.is_broken)
        return None if self._running is None or broken else self._running.generation

    @property
    def made_at(self) -> float | None:
        """When it was made, Unix time, s."""
        return None if self._running is None else self._running.made_at

    async def apply(self, change: Change | bytes) -> Applied | Refused:
        """Put another generation in force, and keep it; LinkError: it is none."""
        assert self._put_in_force is not None
        head, line = self._head(change)
        try:
            if isinstance(change, Change):
                config, replaced = await self._change(change)
            else:
                config = await self._whole(head, line, change)
                await self._put_in_force(config, None)
                self._known = await asyncio.to_thread(Known, config)
                replaced = memory.parts_of(self.config)
        except Unfit as error:
            self._is_out_of_step = True
            raise LinkError(f"generation {head.generation}: {error}") from None
        except ConfigError as error:
            return self._refuse(head, error.problems)
        except (ValueError, CommandError) as error:
            return self._refuse(head, [str(error)])
        self.config, self._running, self._is_out_of_step = config, head, False
        if self._keeper is not None:  # first: this CS may be stopped while it frees the old one
            await self._keeper.put(change)
        await memory.let_go(replaced)
        return Applied(generation=head.generation)

    async def run(self) -> None:
        """Bring what is in force to the disk, until this is cancelled."""
        if self._keeper is not None:
            await self._keeper.run()

    def _head(self, change: Change | bytes) -> tuple[Head, bytes]:
        if isinstance(change, bytes):
            try:
                return head_of(change)
            except ConfigError as error:
                raise LinkError(str(error)) from None
        if self._running is None or change.since != self._running.generation:
            self._is_out_of_step = True
            raise LinkError(f"generation {change.since} is not in force here")
        group_id = self.config.group_id
        return Head(generation=change.generation, made_at=change.made_at, group_id=group_id), b""

    async def _change(self, change: Change) -> tuple[ControlSegmentConfig, list[object]]:
        """The configuration that is in force now, and what it has replaced."""
        assert self._put_in_force is not None
        assert self._known is not None, "there is a generation that it changes"
        # of many virtual servers it takes longer than QUERYs should wait
        checked = await asyncio.to_thread(changed, self.config, self._known, change)
        await self._put_in_force(checked.config, checked.difference)
        replaced = self._known.take(checked)
        return checked.config, replaced

    async def _whole(self, head: Head, line: bytes, frame: bytes) -> ControlSegmentConfig:
        group_id = self.config.group_id
        if len(frame) <= self._in_thread_max:
            group = await asyncio.to_thread(
                lambda: group_of(head, configuration_of(line), group_id)
            )
            return with_group(self.config, group)
        name = f"generation {head.generation}"
        fields = await read_in_process(_READER, frame, name, str(group_id))
        return with_group(self.config, GroupConfig.model_construct(**fields))

    def _refuse(self, head: Head, problems: Sequence[str]) -> Refused:
        shown = list(problems[:PROBLEMS_MAX])
        for problem in shown:
            _log.error("generation %d: %s", head.generation, problem)
        _log.error("generation %d was refused; nothing has changed", head.generation)
        return Refused(generation=head.generation, problems=shown)

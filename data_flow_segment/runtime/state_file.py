# SPDX-License-Identifier: Apache-2.0
"""The DFS's state file: the highest role epochs (wire protocol 11.1), on the disk before a CS is
obeyed for the first time.

The disk is waited for in a thread, and `RoleEpochs` knows for how long.  A file that cannot be read
is logged, put aside and passed over: a load balancer that does not start serves nobody, and the CSs
that are there bring the epochs back with their next HELLOs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from admin.disk import in_daemon, read_state, replace_file
from admin.faults import Faults
from admin.state import StateError, decode, encode
from data_flow_segment.peers.epochs import RoleEpochs, of_sections, sections

_SIZE_MAX: Final = 1 << 20  # 65,536 groups have less
_LOG: Final = logging.getLogger("splitplane.dfs")


class StateFile:
    """The file at one path; None: there is none, and nothing is kept."""

    def __init__(
        self,
        path: Path | None,
        segment_id: int,
        clock: Callable[[], float],
        *,
        # The monotonic clock does not outlive the machine
        wall_time: Callable[[], float] = time.time,  # noqa: TID251
    ) -> None:
        self._path = path
        self._segment_id = segment_id
        self._clock = clock
        self._wall_time = wall_time

    def read(self) -> RoleEpochs:
        """What an earlier process kept."""
        path = self._path
        if path is None:
            return RoleEpochs()
        try:
            octets = read_state(path, _SIZE_MAX)
            known = of_sections(decode(octets, self._segment_id).sections)
        except FileNotFoundError:
            _LOG.info("state file %s: there is none yet", path)
            known = {}
        except (OSError, StateError) as error:
            self._give_up(path, error.strerror if isinstance(error, OSError) else str(error))
            known = {}
        if not os.access(path.parent, os.W_OK | os.X_OK):  # said before it is needed
            _LOG.warning(
                "state file %s cannot be written: its folder is not there, or not writable; make"
                " one that this user may write",
                path,
            )
        return RoleEpochs(known)

    def warn_of_none(self) -> None:
        """That nothing is kept must not happen by oversight."""
        if self._path is None:
            _LOG.warning(
                "no state_file: a DFS that starts again may obey a CS that was replaced meanwhile"
            )

    @staticmethod
    def _give_up(path: Path, reason: str | None) -> None:
        aside = path.with_name(path.name + ".damaged")
        try:
            path.replace(aside)
            where = f"it is {aside} now"
        except OSError as error:
            where = f"it stays where it is ({error.strerror})"
        _LOG.error(
            "state file %s cannot be used: %s; %s. Until the CSs of a group have said HELLO, this"
            " DFS may obey one that was replaced: see that the right one is active",
            path, reason, where,
        )  # fmt: skip

    def follow(self, epochs: RoleEpochs, faults: Faults, then: Callable[[], None]) -> None:
        """Begin to write what is new; call `then` when the disk has answered.  In each wake-up."""
        for line in epochs.take_log():
            _LOG.warning("state file %s %s", self._path, line)
        wanted = epochs.take()
        if wanted is None:
            return
        assert self._path is not None, "nothing is to be written without a file"
        pieces = encode(self._segment_id, self._wall_time(), sections(wanted))
        writing = in_daemon(replace_file, self._path, b"".join(pieces))

        def done(outcome: asyncio.Future[None]) -> None:
            if outcome.cancelled():
                return
            error = outcome.exception()
            if error is None:
                epochs.written()
            elif isinstance(error, OSError):
                epochs.failed(error.strerror or str(error), self._clock())
            else:
                assert isinstance(error, Exception)
                faults.note("writing the state file", error)
                epochs.failed("internal error", self._clock())
            then()

        writing.add_done_callback(done)

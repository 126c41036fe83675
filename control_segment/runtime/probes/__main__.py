# SPDX-License-Identifier: Apache-2.0
"""Probes for a CS in a process of its own: `python -m control_segment.runtime.probes`.

`--scripts` and `--secrets` give the folders of what monitors name.

A hundred thousand nodes keep a processor busy, which the CS needs for QUERYs; and neither a script
nor a regular expression of an operator's may hold it up.  Orders come by the standard input, and
what has changed goes to the standard output (`messages`).  It ends with its input.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import signal
from pathlib import Path
from typing import Final

from control_segment.health.machine import Said
from control_segment.health.orders import Order
from control_segment.health.targets import Target
from control_segment.runtime.probes.messages import ALIVE_S, News, packed, read
from control_segment.runtime.probes.runner import AT_ONCE, Runner

COALESCED_S: Final = 0.002  # what is found within it is told together
_SPARE_FILES: Final = 64


class _Teller:
    """Writes what has changed."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._said: dict[Target, Said] = {}
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, target: Target, said: Said) -> None:
        """Tell it soon."""
        self._said[target] = said
        if self._timer is None:
            self._timer = self._loop.call_later(COALESCED_S, self._write)

    def _write(self) -> None:
        self._timer = None
        self.write([])

    def write(self, log: list[str]) -> None:
        """Tell what is new now, also if nothing is."""
        said, self._said = self._said, {}
        self._writer.write(packed(News(list(said.items()), log)))


async def _serve(scripts: Path | None, secrets: Path | None, at_once: int) -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), os.fdopen(0, "rb", buffering=0)
    )
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(1, "wb", buffering=0)
    )
    teller = _Teller(asyncio.StreamWriter(transport, protocol, None, loop))
    async with asyncio.TaskGroup() as tasks:
        runner = Runner(tasks, teller.tell, scripts=scripts, secrets=secrets, at_once=at_once)
        alive = tasks.create_task(_stay_alive(teller, runner))
        try:
            while True:
                _obey(runner, await read(orders))
        except EOFError:
            alive.cancel()
            runner.close()
            raise SystemExit(0) from None


def _obey(runner: Runner, order: Order) -> None:
    now = asyncio.get_running_loop().time()
    for target in order.forget:
        runner.schedule.remove(target)
    for target, monitor, said in order.watch:
        runner.schedule.add(target, monitor, said, now)
    runner.go_on()


async def _stay_alive(teller: _Teller, runner: Runner) -> None:
    """Let the CS see that this process goes on, and say so if it cannot keep up."""
    loop = asyncio.get_running_loop()
    was_late = False
    while True:
        await asyncio.sleep(ALIVE_S)
        due = runner.schedule.get_timer()
        late_s = 0.0 if due is None else loop.time() - due
        is_late = late_s > ALIVE_S
        log = [f"probes of nodes are {late_s:.0f} s late: this machine cannot make so many"]
        teller.write(log if is_late and not was_late else [])
        was_late = is_late


def main() -> None:
    """Probe until the CS closes the pipe."""
    # They are for the CS, which ends this.  Not SIG_IGN: scripts would inherit it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = AT_ONCE + _SPARE_FILES
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError):  # a unit may forbid it
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
        soft = max(soft, limit)
    parser = argparse.ArgumentParser()
    parser.add_argument("--scripts", type=Path)
    parser.add_argument("--secrets", type=Path)
    folders = parser.parse_args()
    at_once = max(1, min(AT_ONCE, soft - _SPARE_FILES))
    asyncio.run(_serve(folders.scripts, folders.secrets, at_once))


if __name__ == "__main__":
    main()

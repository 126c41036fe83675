# SPDX-License-Identifier: Apache-2.0
"""HTTP requests at a fixed rate, a connection each: for bench/flood.py, which runs it in the client's namespace.

    python bench/legitimate.py ADDRESS PORT PER-SECOND SECONDS

Prints a line for each: the milliseconds until the answer began, or `-` if that took more than a second.
It goes before other processes, because it stands for clients that have machines of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

LIMIT_S = 1.0


async def request(address: str, port: int) -> float | None:
    """Milliseconds, or None: refused, reset or too late."""
    clock = asyncio.get_running_loop().time
    begin = clock()
    writer = None
    with contextlib.suppress(OSError):
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(contextlib.suppress(TimeoutError))
            await stack.enter_async_context(asyncio.timeout(LIMIT_S))
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            if await reader.read(1):
                return (clock() - begin) * 1000
    if writer is not None:
        writer.transport.abort()
    return None


async def main(address: str, port: int, per_second: float, seconds: float) -> None:
    """Each begins when it is due, whatever became of those before."""
    clock = asyncio.get_running_loop().time
    begin = clock()
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(begin + number / per_second - clock())
            tasks.append(group.create_task(request(address, port)))
    for task in tasks:
        took = task.result()
        print("-" if took is None else f"{took:.3f}")


if __name__ == "__main__":
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))

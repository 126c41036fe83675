# SPDX-License-Identifier: Apache-2.0
"""Whether a program says that a node is up: it exits with 0."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from control_segment.health.config import MonitorConfig
from control_segment.health.machine import Observed
from control_segment.health.targets import Target
from control_segment.runtime.children import ended

_OUTPUT_MAX: Final = 200  # octets of what it writes, as the reason
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def probe(
    folder: Path, target: Target, monitor: MonitorConfig, secrets: Mapping[str, str]
) -> Observed:
    """Run it once; when this is cancelled, it and what it has started are killed.

    *secrets*: variables that nobody else may see.
    """
    assert monitor.script is not None, "the configuration requires it"
    path = folder / monitor.script.name
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            *monitor.script.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_environment(target, monitor, secrets),
            start_new_session=True,
        )
    except OSError as error:  # which says nothing of the node
        why = f"{path} cannot be run: {error.strerror}"
        return Observed(None, why, warning=why)
    hidden = sorted((text.encode() for text in secrets.values()), key=len, reverse=True)
    # A secret that is cut off could not be found
    read_max = _OUTPUT_MAX + (len(hidden[0]) if hidden else 0)
    try:
        assert process.stdout is not None
        written = b""
        while octets := await process.stdout.read(4096):
            written += octets[: read_max - len(written)]
        code = await process.wait()
    finally:
        await ended(process, session=True)
    if code == 0:
        return Observed(True, "")
    said = _without(hidden, written).decode("utf-8", "replace").strip().partition("\n")[0]
    shown = "".join(each for each in said if each.isprintable())
    return Observed(False, f"{path.name} exits with {code}" + (f": {shown}" if shown else ""))


def _environment(
    target: Target, monitor: MonitorConfig, secrets: Mapping[str, str]
) -> dict[bytes, bytes]:
    assert monitor.script is not None
    variables = {
        "PATH": _PATH,
        **monitor.script.environment,
        **secrets,
        "NODE_ADDRESS": target.address,
        "NODE_PORT": str(target.port or ""),
        "MONITOR": monitor.name,
        "TIMEOUT_MS": str(monitor.timeout_ms),
    }
    # In UTF-8 whatever the locale: an error of its codec would contain the secret
    return {name.encode(): text.encode() for name, text in variables.items()}


def _without(secrets: Sequence[bytes], written: bytes) -> bytes:
    """The beginning of what a script has written, with stars for secrets; longer ones are first,
    as they may contain others."""
    for each in secrets:
        # Nothing moves, else a part of one at the end would come into the beginning
        written = written.replace(each, b"\0" * len(each))
    return re.sub(rb"\0+", b"***", written[:_OUTPUT_MAX])

# SPDX-License-Identifier: Apache-2.0
"""The compiled P4 program: what a switch is given, and how we know it again.

A switch gives its pipeline's configuration back with the cookie that it was set with.  Ours is

     0                               32                              64
    +-------------------------------+-------------------------------+
    | digest of the program         | boot_id, never 0              |
    +-------------------------------+-------------------------------+

so that the program and the life of its tables survive the agent without a file of its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from finsy.proto import p4i
from google.protobuf import text_format

from data_flow_segment.targets.contract import TargetError

_PACKAGE: Final = Path(__file__).resolve().parents[2]
# In an installed package, in a checkout.
_FOLDERS: Final = (_PACKAGE / "artifacts", _PACKAGE.parent / "p4")
_CONFIG: Final = "dfs.json"
_P4INFO: Final = "dfs.p4info.txtpb"


class Cookie(NamedTuple):
    """What is in a cookie."""

    digest: int
    boot_id: int


@dataclass(frozen=True, slots=True)
class Program:
    """The program for one kind of switch, as P4Runtime wants it."""

    p4info: p4i.P4Info = field(repr=False)
    device_config: bytes = field(repr=False)
    digest: int
    """32 bits that another version of the program does not have."""

    @staticmethod
    def load() -> Program:
        """Ours, read once; TargetError if it is not here."""
        return _load(_folder(_FOLDERS))

    def cookie(self, boot_id: int) -> int:
        """The cookie of this program on a switch whose tables have this boot_id."""
        return self.digest << 32 | boot_id

    def is_ours(self, p4info: p4i.P4Info) -> bool:
        """Whether a switch's program is this one or another version of it.

        Its tables' names show it: every version has `flows` and `virtual_servers` in its own
        controls.
        """
        return {*_KNOWN_BY} <= {table.preamble.name for table in p4info.tables}


_KNOWN_BY: Final = ("SegmentIngress.flows.flows", "SegmentIngress.virtual_servers.virtual_servers")


def split(cookie: int) -> Cookie:
    """The digest and the boot_id in a cookie."""
    return Cookie(cookie >> 32, cookie & 0xFFFFFFFF)


def _folder(folders: tuple[Path, ...]) -> Path:
    for folder in folders:
        if (folder / _CONFIG).exists() and (folder / _P4INFO).exists():
            return folder
    raise TargetError(
        f"the compiled P4 program ({_CONFIG}, {_P4INFO}) is neither in {folders[0]} nor in"
        f" {folders[1]}: reinstall splitplane, or compile it with `make p4`"
    )


@cache
def _load(folder: Path) -> Program:
    text, config = (folder / _P4INFO).read_bytes(), (folder / _CONFIG).read_bytes()
    try:
        p4info = text_format.Parse(text.decode(), p4i.P4Info())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise TargetError(
            f"{folder / _P4INFO} cannot be read ({error}): compile it again with `make p4`"
        ) from None
    parts = hashlib.sha256(text).digest() + hashlib.sha256(config).digest()
    return Program(p4info, config, int.from_bytes(hashlib.sha256(parts).digest()[:4], "big"))

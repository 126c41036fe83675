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
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from finsy.proto import p4i
from google.protobuf import text_format

from data_flow_segment.targets.contract import TargetError
from data_flow_segment.targets.interfaces import Interface
from data_flow_segment.targets.p4runtime.constants import PORT_AGENT
from data_flow_segment.targets.p4runtime.fit import misfit, port_bits
from data_flow_segment.targets.p4runtime.options import ProgramOptions

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

    is_loaded: bool = False
    """The switch has it already; then `device_config` is empty."""

    agent_port: int = PORT_AGENT

    @staticmethod
    def load(options: ProgramOptions | None = None) -> Program:
        """The one for BMv2, read once, or the one that is configured; TargetError if it is not
        there or is not ours."""
        if options is not None:
            return _load_configured(options)
        return _load(_folder(_FOLDERS))

    def require_ports(self, interfaces: Iterable[Interface]) -> None:
        """TargetError if a port's number is more than the program can hold."""
        bits = port_bits(self.p4info)
        for interface in interfaces:
            for port in interface.ports:
                if port >= 1 << bits:
                    raise TargetError(
                        f"p4runtime.interfaces: port {port} of {interface.name}: the program's"
                        f" ports have {bits} bits; give a number below {1 << bits}"
                    )

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
    p4info = _parsed(folder / _P4INFO, text, "compile it again with `make p4`")
    return Program(p4info, config, _digest(text, config))


def _load_configured(options: ProgramOptions) -> Program:
    field, path = "p4runtime.program.p4info_file", options.p4info_file
    text = _octets(field, path)
    config = b""
    if options.device_config_file is not None:
        config = _octets("p4runtime.program.device_config_file", options.device_config_file)
    p4info = _parsed(path, text, f"correct {field}, or compile the program again")
    lacking = misfit(Program.load().p4info, p4info)
    if lacking is not None:
        raise TargetError(
            f"{field}: {path} does not describe splitplane's program of this release: {lacking};"
            " compile p4/ of this release for the switch"
        )
    is_loaded = options.device_config_file is None
    return Program(p4info, config, _digest(text, config), is_loaded, options.agent_port)


def _octets(field: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TargetError(
            f"{field}: {path} cannot be read ({error.strerror}): give a file that this user may"
            " read"
        ) from None


def _parsed(path: Path, text: bytes, remedy: str) -> p4i.P4Info:
    try:
        return text_format.Parse(text.decode(), p4i.P4Info())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise TargetError(f"{path} cannot be read ({error}): {remedy}") from None


def _digest(text: bytes, config: bytes) -> int:
    parts = hashlib.sha256(text).digest() + hashlib.sha256(config).digest()
    return int.from_bytes(hashlib.sha256(parts).digest()[:4], "big")

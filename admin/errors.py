# SPDX-License-Identifier: Apache-2.0
"""What ends the command, with its exit code (docs/operations.md).

    CommandError            1   failed while running
     ├─ ConfigError         3   a configuration or key file is wrong
     ├─ MachineError        4   this machine cannot do it
     └─ AddressError        5   a port or address is in use, or not on this machine

Code 2, wrong use, is click's.  A message has one line per error, without a traceback: what was
wrong, where, and what to do.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence


class CommandError(Exception):
    """Ends the command with one clear line."""

    exit_code = 1


class ConfigError(CommandError):
    """A configuration or key file is wrong; it holds every error that was found."""

    exit_code = 3

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class MachineError(CommandError):
    """This machine cannot do it: not root, no bpffs, a missing kernel feature or program."""

    exit_code = 4


class AddressError(CommandError):
    """A port or address is in use, or not on this machine."""

    exit_code = 5


_MACHINE = {
    errno.EPERM: "run it as root",
    errno.EACCES: "run it as root: other users may not use ports below 1024 or files of root",
    errno.ENOSYS: "this kernel is too old",
    errno.EOPNOTSUPP: "this kernel does not support it",
}


def from_os_error(error: OSError, doing: str, otherwise: str = "") -> CommandError:
    """The error that the command ends with when the system refused something.

    *otherwise*: what to do about it, unless its number suggests something better.
    """
    said = f"{doing}: {error.strerror or error}"
    if error.filename is not None:
        said += f" ({error.filename})"
    if error.errno == errno.EADDRINUSE:
        return AddressError(
            f"{said}; another process uses it: stop that process, or use another port (ss -tulpn)"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return AddressError(f"{said}; use an address of this machine (ip address)")
    if error.errno in _MACHINE:
        return MachineError(f"{said}; {_MACHINE[error.errno]}")
    return CommandError(f"{said}; {otherwise}" if otherwise else said)

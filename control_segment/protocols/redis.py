# SPDX-License-Identifier: Apache-2.0
"""Redis: the first command of a connection (the RESP protocol, version 2 and 3 alike).

A client that authenticates or chooses a database waits for the answer before it goes on, so the
first command is all there is: its user, its database or its key decide.  Clients send commands as
arrays of bulk strings; a person types inline commands.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from control_segment.protocols.plugin import NOT_YET, NotYet, Reading, Told, Unfit, attribute
from splicing.instructions import GreetingEnd

ARGUMENTS_MAX: Final = 1024 * 1024  # as Redis: an array may have as many
READ_MAX: Final = 8  # arguments are read: what decides is among the first
BULK_MAX: Final = 512 * 1024 * 1024  # as Redis' proto-max-bulk-len
INLINE_MAX: Final = 64 * 1024  # as Redis
NUMBER_MAX: Final = 12  # digits with a sign, of a length

# Which word the first key of a command is, where it is not the one behind the command
_KEYS_AT: Final = {
    b"BITOP": 2, b"EVAL": 3, b"EVALSHA": 3, b"EVAL_RO": 3, b"EVALSHA_RO": 3, b"FCALL": 3,
    b"FCALL_RO": 3, b"OBJECT": 2, b"XGROUP": 2, b"XINFO": 2, b"MEMORY": 2,
}  # fmt: skip
# Those with a number of keys before the first one; they may have none
_COUNTED: Final = frozenset((b"EVAL", b"EVALSHA", b"EVAL_RO", b"EVALSHA_RO", b"FCALL", b"FCALL_RO"))
_KEYLESS: Final = frozenset(
    b"AUTH HELLO SELECT CLIENT PING ECHO QUIT INFO CONFIG COMMAND DBSIZE FLUSHALL FLUSHDB KEYS SCAN"
    b" RANDOMKEY TIME ROLE SUBSCRIBE PSUBSCRIBE PUBLISH PUBSUB SCRIPT FUNCTION MULTI EXEC DISCARD"
    b" UNWATCH WAIT LATENCY MODULE MONITOR REPLICAOF SLAVEOF REPLCONF PSYNC SYNC SAVE BGSAVE"
    b" BGREWRITEAOF LASTSAVE SHUTDOWN SLOWLOG SWAPDB CLUSTER READONLY READWRITE ASKING RESET ACL"
    b" XREAD XREADGROUP".split()
)
_TELLING: Final = frozenset((b"AUTH", b"HELLO", b"SELECT"))  # by what is behind them


_Number: TypeAlias = tuple[int, int] | Unfit | None


class Redis:
    """RESP."""

    ATTRIBUTES: tuple[str, ...] = ("command", "key", "user", "database")
    HASHED = "key"
    SPEAKS_FIRST = False
    greeting_end: GreetingEnd | None = None

    def greeting(self, number: int, salt: bytes) -> bytes:
        """Nothing: clients speak first."""
        return b""

    def read(self, octets: bytes) -> Reading:
        """Read the first command."""
        if not octets:
            return NOT_YET
        arguments = _array(octets) if octets[:1] == b"*" else _inline(octets)
        if not isinstance(arguments, list):
            return arguments
        if not arguments:
            return Unfit("the first command is empty")
        return Told(_attributes(arguments))


def _number(octets: bytes, at: int) -> _Number:
    """The number of a line and where the next one begins; None: the line is not whole."""
    end = octets.find(b"\r\n", at, at + NUMBER_MAX + 2)
    if end < 0:
        if len(octets) - at > NUMBER_MAX + 1:
            return Unfit("a length of RESP is longer than any number that may be there")
        return None
    text = octets[at:end]
    if not text.isdigit():
        return Unfit("a length of RESP is no number")
    return int(text), end + 2


def _array(octets: bytes) -> list[bytes] | Reading:
    """The first arguments of a command that is an array of bulk strings."""
    count = _number(octets, 1)
    if count is None:
        return NOT_YET
    if isinstance(count, Unfit):
        return count
    number, at = count
    if number > ARGUMENTS_MAX:
        return Unfit(f"a command of {number} arguments; Redis takes at most {ARGUMENTS_MAX}")
    arguments: list[bytes] = []
    # a value behind the key may be longer than is collected
    while len(arguments) < min(number, READ_MAX) and not _decides(arguments):
        bulk = _bulk(octets, at)
        if isinstance(bulk, (Unfit, NotYet)):
            return bulk
        argument, at = bulk
        arguments.append(argument)
    return arguments


def _bulk(octets: bytes, at: int) -> tuple[bytes, int] | Unfit | NotYet:
    """A bulk string and where what follows it begins."""
    if at >= len(octets):
        return NOT_YET
    if octets[at : at + 1] != b"$":
        return Unfit("an argument of a command is no bulk string")
    length = _number(octets, at + 1)
    if length is None:
        return NOT_YET
    if isinstance(length, Unfit):
        return length
    size, start = length
    end = start + size
    if size > BULK_MAX:
        return Unfit(f"an argument of {size} octets; Redis takes at most {BULK_MAX}")
    if end + 2 > len(octets):
        return NOT_YET
    if octets[end : end + 2] != b"\r\n":
        return Unfit("an argument is longer than its length says")
    return octets[start:end], end + 2


def _decides(arguments: list[bytes]) -> bool:
    """Whether these words are all that a decision needs."""
    if not arguments:
        return False
    command = arguments[0].upper()
    if command in _KEYLESS:
        return command not in _TELLING
    return len(arguments) > _KEYS_AT.get(command, 1)


def _inline(octets: bytes) -> list[bytes] | Reading:
    """A command as a person types it: words in a line."""
    line, ended, _ = octets.partition(b"\n")
    if len(line) > INLINE_MAX:
        return Unfit(f"an inline command of more than {INLINE_MAX} octets")
    if not line[:1].isalpha() and line.strip():
        return Unfit("neither an array nor an inline command of RESP")
    return line.split()[:READ_MAX] if ended else NOT_YET


def _attributes(arguments: list[bytes]) -> dict[str, str]:
    command = arguments[0].upper()
    said = {"command": attribute(command)}
    if command == b"AUTH":
        # with one argument it is the password of the user `default`
        said["user"] = attribute(arguments[1]) if len(arguments) > 2 else "default"
    elif command == b"HELLO":
        words = [each.upper() for each in arguments]
        if b"AUTH" in words[2:-1]:
            said["user"] = attribute(arguments[words.index(b"AUTH", 2) + 1])
    elif command == b"SELECT" and len(arguments) > 1:
        said["database"] = attribute(arguments[1])
    elif command not in _KEYLESS:
        place = _KEYS_AT.get(command, 1)
        if command in _COUNTED:
            has_keys = len(arguments) > place and arguments[2].strip(b"0").isdigit()
            place = place if has_keys else 0
        if 0 < place < len(arguments):
            said["key"] = attribute(hashed_part(arguments[place]))
    return said


def hashed_part(key: bytes) -> bytes:
    """What a Redis Cluster hashes of a key: what is in the first braces, if anything is (the
    cluster specification's hash tags)."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    return key[start + 1 : end] if end > start + 1 else key

# SPDX-License-Identifier: Apache-2.0
"""The last good configuration on disk, from which a CS starts while the API is away.

    PATH          a head (octets, CRC-32, lineage), a line feed, the whole configuration (`frames`)
    PATH.changes  a line for each change since: CRC-32, lineage, the change as the API sent it
    PATH.folding  changes that another process (`folding`) is putting into the whole configuration
    PATH.folded-* what that process makes: it becomes PATH when the CS says so

A small change is a line, so that a large configuration is not written for each.  Every line names
the lineage of the whole one that it belongs to, so what is left over of an earlier one is passed
over.  Only the CS gives and takes names, one after the other: a process that outlives it changes
nothing.  A crash leaves what was in force then, or before a change that was not acknowledged.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from admin.disk import read_state, remove, rename, replace_file, sync_folder, write_all
from admin.errors import ConfigError
from admin.link.messages import Change
from admin.state import StateError
from control_segment.runtime.desired.frames import Head, configuration_of, frame_of, head_of

OCTETS_MAX: Final = 1 << 28
_MAGIC: Final = "splitplane configuration 1"
_LISTS: Final = ("monitors", "pools", "virtual_servers")


@dataclass(slots=True)
class Kept:
    """What is on disk."""

    head: Head
    configuration: dict[str, Any]
    lineage: str
    complaints: list[str] = field(default_factory=list)  # of what could not be used


def changes_path(path: Path) -> Path:
    """Where the changes are."""
    return path.with_name(path.name + ".changes")


def folding_path(path: Path) -> Path:
    """Where those are that another process puts into the whole one."""
    return path.with_name(path.name + ".folding")


# --- reading --------------------------------------------------------------------------------------


def read_copy(path: Path, *, with_changes: bool = True) -> Kept:
    """What is kept; StateError or OSError: nothing that can be used."""
    octets = read_state(path, OCTETS_MAX)
    lineage, body = _whole(octets)
    try:
        head, line = head_of(body)
        kept = Kept(head, configuration_of(line), lineage)
    except ConfigError as error:
        raise StateError(f"it holds no configuration: {error}") from None
    for each in (folding_path(path), changes_path(path)) if with_changes else (folding_path(path),):
        try:
            _take_changes(kept, read_state(each, OCTETS_MAX))
        except FileNotFoundError:
            pass
        except (OSError, StateError) as error:
            kept.complaints.append(f"{each}: {error}; what it has is left out")
            break
    return kept


def _whole(octets: bytes) -> tuple[str, bytes]:
    head, _, body = octets.partition(b"\n")
    words = head.decode(errors="replace").split()
    if " ".join(words[:3]) != _MAGIC or len(words) != 6:
        raise StateError("it is no copy of a configuration, or of another release")
    if words[3] != str(len(body)):
        raise StateError(f"it was cut off: {len(body)} octets of {words[3]}")
    if words[4] != f"{crc32(body):08x}":
        raise StateError("its checksum is wrong")
    return words[5], body


def _take_changes(kept: Kept, octets: bytes) -> None:
    """Fold them into the whole one; StateError where one cannot be used: later ones need it."""
    folding = _Folding(kept.configuration)
    try:
        for change in _changes(octets, kept.lineage):
            if change["generation"] <= kept.head.generation:
                continue  # it is in there
            if change["since"] != kept.head.generation:
                raise StateError(f"generation {change['since']} is missing")
            kept.head = Head(
                generation=change["generation"],
                made_at=change["made_at"],
                group_id=kept.head.group_id,
            )
            folding.take(change)
    finally:
        kept.configuration = folding.configuration()


def _changes(octets: bytes, lineage: str) -> Iterator[dict[str, Any]]:
    *lines, rest = octets.split(b"\n")
    for line in lines:
        checksum, _, content = line.partition(b" ")
        if checksum.decode(errors="replace") != f"{crc32(content):08x}":
            raise StateError("the checksum of a change is wrong")
        named, _, body = content.partition(b" ")
        if named.decode() == lineage:
            yield json.loads(body)
    if rest:
        raise StateError("its last change was cut off")


def fold(configuration: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A configuration after a change, both as JSON has them."""
    folding = _Folding(configuration)
    folding.take(change)
    return folding.configuration()


class _Folding:
    """Takes changes, each of which costs what is in it."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        self._fields = dict(configuration)
        self._items = {
            name: {item["name"]: item for item in configuration.get(name, ())} for name in _LISTS
        }

    def take(self, change: dict[str, Any]) -> None:
        if change.get("settings") is not None:
            self._fields["settings"] = change["settings"]
        for name, items in self._items.items():
            new = {item["name"]: item for item in change.get(name) or ()}
            for each in change.get("gone", {}).get(name, ()):
                if each not in new:
                    items.pop(each, None)
            items.update(new)

    def configuration(self) -> dict[str, Any]:
        lists = {name: list(items.values()) for name, items in self._items.items()}
        named = {name: items for name, items in lists.items() if items or name in self._fields}
        return self._fields | named


# --- writing --------------------------------------------------------------------------------------


def new_lineage() -> str:
    """A name for a whole configuration and what follows it."""
    return secrets.token_hex(8)


def write_whole(path: Path, octets: bytes, lineage: str) -> None:
    """Replace all that is kept; OSError."""
    write_frame(path, octets, lineage)
    for each in (folding_path(path), changes_path(path)):
        remove(each)


def write_frame(path: Path, octets: bytes, lineage: str) -> None:
    """Replace the whole configuration only; OSError."""
    head = f"{_MAGIC} {len(octets)} {crc32(octets):08x} {lineage}\n"
    replace_file(path, head.encode() + octets)


def line_of(change: Change, lineage: str, encoded: str) -> bytes:
    """The line of a change, *encoded* as the API sent it."""
    content = f"{lineage} {encoded}".encode()
    return f"{crc32(content):08x} ".encode() + content + b"\n"


def append_lines(path: Path, lines: bytes, known: int | None = None) -> int:
    """Add changes; return how many octets there are then.  OSError; what was written by half is
    taken back, now or the next time (*known*: how many octets were good behind the last one)."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(changes_path(path), flags, 0o600)
    try:
        before = os.fstat(file).st_size
        if known is not None and known < before:
            os.ftruncate(file, known)
            before = known
        try:
            write_all(file, lines)
            os.fsync(file)
        except OSError:
            os.ftruncate(file, before)
            raise
        if not before:
            sync_folder(path)
        return before + len(lines)
    finally:
        os.close(file)


# --- folding --------------------------------------------------------------------------------------


def set_aside(path: Path) -> bool:
    """Let changes be folded, if none are: later ones go into a new file; return whether there are
    any.  OSError."""
    if folding_path(path).exists():
        return True
    try:
        rename(changes_path(path), folding_path(path))
    except FileNotFoundError:
        return False
    return True


def folded_path(path: Path) -> Path:
    """Where the next folding may write: where none has written."""
    return path.with_name(f"{path.name}.folded-{secrets.token_hex(8)}")


def fold_into(path: Path, folded: Path) -> None:
    """Write the whole configuration with the changes that are set aside; StateError or OSError.
    It changes nothing of what is kept."""
    kept = read_copy(path, with_changes=False)
    if kept.complaints:
        raise StateError(kept.complaints[0])
    write_frame(folded, frame_of(kept.head, kept.configuration), kept.lineage)


def take_folded(path: Path, folded: Path) -> None:
    """What a folding has written is the whole configuration now; OSError."""
    rename(folded, path)
    remove(folding_path(path))


def remove_folded(path: Path) -> None:
    """Take away what foldings left that ended with their CS; OSError."""
    for each in path.parent.iterdir():
        if each.name.startswith(f"{path.name}.folded-"):
            remove(each)

# SPDX-License-Identifier: Apache-2.0
"""From an earlier program's maps to this one's, under traffic (docs/design/0005-upgrades.md).

Maps that the new program cannot use as they are get successors in the folder `upgrade` beside the
pins.  They are filled while the old program runs on; attaching the new one is the switch; then what
the old one did meanwhile is merged in, and the successors take the places of the pins.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from data_flow_segment.targets.bpf import links
from data_flow_segment.targets.bpf.carry import (
    FATES,
    CannotCarryError,
    Facts,
    Fate,
    Plan,
    is_same,
    plan,
)
from data_flow_segment.targets.bpf.layout import LAYOUT_VERSION, META
from data_flow_segment.targets.bpf.libbpf import library
from data_flow_segment.targets.bpf.maps import Map
from data_flow_segment.targets.bpf.merge import (
    Converter,
    copy,
    merge_counters,
    merge_flows,
    wait_for_programs,
)
from data_flow_segment.targets.bpf.pinned import map_ids, maps_of_program, opened, pinned_maps
from data_flow_segment.targets.bpf.pins import UPGRADE_FOLDER, remove_folder
from data_flow_segment.targets.contract import TargetError

_BY_WHICH_FLOWS_BEGIN: Final = ("grants", "controls")


class Upgrade:
    """Where each map of a program is pinned, and what is still to be carried over."""

    def __init__(
        self,
        pin_path: Path,
        wanted: dict[str, Facts],
        flow_capacity: int,
        present: Mapping[str, int],
    ) -> None:
        """`present`: how many elements some maps will hold at once, more than which must fit."""
        self._pin_path, self._folder = pin_path, pin_path / UPGRADE_FOLDER
        # an earlier agent died between the switch and the end, and packets use the successors
        self._resumed = self._is_attached()
        if not self._resumed:
            remove_folder(self._folder)
        self._old = pinned_maps(pin_path)
        self._begun = pinned_maps(self._folder)
        self._refuse_other_meaning()
        self.flow_capacity = self._capacity(flow_capacity)
        self._wanted = dict(wanted)
        self.entries = {name: self._room(name, number) for name, number in present.items()}
        self.entries["flows"] = 2 * self.flow_capacity
        self.entries["lingering"] = self.entries["opening"] = self.flow_capacity
        for name, number in self.entries.items():
            self._wanted[name] = replace(wanted[name], max_entries=number)
        self.pins = {name: self._place(name) for name in FATES}
        self._plans = {name: self._plan(name) for name in self._successors if name in self._old}

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to carry over."""
        return bool(self._successors)

    def begin(self) -> None:
        """Fill the successors, which exist by now; the old program runs on, and is not touched."""
        if self._resumed:
            return
        self._let_nothing_begin()
        for name in self._successors:
            if FATES[name] in (Fate.MERGED, Fate.COPIED):
                self._carry(name, self._copy_into(name))

    def _let_nothing_begin(self) -> None:
        """The old program may enter flows by itself, which would not be among those that are
        copied: it asks nobody and takes no grants from now on, and its new flows wait for the
        agent."""
        for name in _BY_WHICH_FLOWS_BEGIN:
            facts = self._old.get(name)
            if facts is None or not self._successors:
                continue
            with opened(self._pin_path / name) as fd:
                table = Map(name, fd, facts.key_size, facts.value_size)
                for key in list(table.keys()):
                    table.delete(key)
                wait_for_programs(fd)

    def give_up(self) -> None:
        """Leave no successors, unless packets use them already."""
        if self._folder.exists() and not self._is_attached():
            remove_folder(self._folder)

    def finish(self, program_fd: Callable[[str], int]) -> None:
        """The new program runs everywhere: merge in what the old one did, and forget it."""
        with opened(self.pins["flows"]) as fd:
            wait_for_programs(fd)
        for name in self._successors:
            if FATES[name] is Fate.MERGED:
                self._carry(name, self._merge_by(name, program_fd("dfs_merge_flows")))
            elif FATES[name] is Fate.SUMMED and name in self._old:
                self._sum(name, program_fd("dfs_merge_counters"))
            self.pins[name].rename(self._pin_path / name)
            self.pins[name] = self._pin_path / name
        remove_folder(self._folder)

    @property
    def _successors(self) -> list[str]:
        return [name for name in FATES if self.pins[name].parent == self._folder]

    def _is_attached(self) -> bool:
        ids = map_ids(self._folder)
        return any(ids & maps_of_program(number) for number in links.programs(self._pin_path))

    def _place(self, name: str) -> Path:
        wanted = self._wanted[name]
        folder = self._folder if name in self._begun else self._pin_path
        present = self._begun.get(name) or self._old.get(name)
        if present is None or is_same(name, present, wanted):
            return folder / name
        if self._resumed:
            raise TargetError(
                f"another version of splitplane has begun to take over the maps in"
                f" {self._pin_path}, and did not finish: start that version once, then this one"
            )
        return self._folder / name

    def _plan(self, name: str) -> Plan | None:
        if FATES[name] not in (Fate.MERGED, Fate.COPIED):
            return None
        try:
            return plan(name, self._old[name], self._wanted[name])
        except CannotCarryError as error:
            raise self._refusal(str(error)) from error

    def _refusal(self, cause: str) -> TargetError:
        return TargetError(
            f"the maps in {self._pin_path} are of another version of splitplane ({cause}): run that"
            f" version, or end its flows by removing that folder (rm -r {self._pin_path})"
        )

    def _refuse_other_meaning(self) -> None:
        """Members that are the same in name and type may mean something else."""
        meta = self._old.get("meta")
        if meta is None:
            return
        with opened(self._pin_path / "meta") as fd:
            raw = Map("meta", fd, meta.key_size, meta.value_size).lookup(bytes(4)) or b""
        if meta.value is not None:
            boot_id, layout = (
                int.from_bytes(raw[meta.value.at(name)], sys.byteorder)
                for name in ("boot_id", "layout")
            )
        else:
            boot_id, layout = META.unpack(raw)[:2]
        if boot_id and layout != LAYOUT_VERSION:
            raise self._refusal(f"they have layout {layout}, this is {LAYOUT_VERSION}")

    def _capacity(self, wanted: int) -> int:
        held = self._begun.get("flows") or self._old.get("flows")
        if held is None or wanted == held.max_entries // 2:
            return wanted
        present = held.max_entries // 2
        if self._resumed:
            return present
        fits = wanted > present or self._count_flows() <= wanted
        return wanted if fits else present

    def _room(self, name: str, present: int) -> int:
        """A quarter more than there is now, or twice that much where the map is renewed: it is not
        to be renewed at every start, and to have room for what comes while the agent runs."""
        held = self._begun.get(name) or self._old.get(name)
        least = self._wanted[name].max_entries
        if held and (self._resumed or held.max_entries >= max(least, present + present // 4)):
            return held.max_entries
        return max(least, 1 << (2 * present).bit_length())

    def _count_flows(self) -> int:
        old = self._old["flows"]
        total, more = 0, True
        with opened(self._pin_path / "flows") as fd:
            source = Converter("flows", fd, old, Plan(0, (), ()))
            while more:
                keys, _, more = source.next()
                total += len(keys)
        return total // 2

    def _copy_into(self, name: str) -> Callable[[Converter], None]:
        shape = self._wanted[name].value if FATES[name] is Fate.MERGED else None

        def copied(source: Converter) -> None:
            with opened(self.pins[name]) as into:
                copy(source, name, into, shape)

        return copied

    def _merge_by(self, name: str, program: int) -> Callable[[Converter], None]:
        shape = self._wanted[name].value

        def merged(source: Converter) -> None:
            if shape is not None:
                merge_flows(source, shape, program)

        return merged

    def _carry(self, name: str, by: Callable[[Converter], None]) -> None:
        chosen = self._plans.get(name)
        if chosen is None:
            return
        with opened(self._pin_path / name) as fd:
            try:
                by(Converter(name, fd, self._old[name], chosen))
            except CannotCarryError as error:
                raise self._refusal(str(error)) from error

    def _sum(self, name: str, program: int) -> None:
        old, processors = self._old[name], library().libbpf_num_possible_cpus()
        with opened(self._pin_path / name) as fd:
            source = Map(name, fd, old.key_size, old.value_size * processors)
            merge_counters(source, old.counters, self._wanted[name].counters, program)

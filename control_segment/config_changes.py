# SPDX-License-Identifier: Apache-2.0
"""A configuration, and what another generation changes of it (docs/design/0011).

Only what is new or other is parsed, and only what it touches (`control_segment.around`) is checked:
a change of one node costs the same however many virtual servers there are, except for the lists
themselves, in which what did not change is the same object.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from admin.documents.mistakes import mistakes
from admin.documents.places import place_of, pointer
from admin.errors import ConfigError
from admin.link.messages import Change
from control_segment.around import Around, Of, values_of
from control_segment.config import (
    ControlSegmentConfig,
    GroupConfig,
    PoolConfig,
    SettingsConfig,
    VirtualServerConfig,
)
from control_segment.differences import Difference, order_of
from control_segment.fields import Section
from control_segment.health.config import MonitorConfig
from control_segment.references import check_folders, check_group
from csmb.constants import VS_TOTAL_MAX

ModelT = TypeVar("ModelT", bound=BaseModel)

LISTS: Final = tuple(name for name in GroupConfig.model_fields if name != "settings")
"""Of resources that have names."""


class Unfit(Exception):
    """The change is of another configuration than this one."""


class _Changed(Section):
    """What is new or other; the rules across it come later."""

    settings: SettingsConfig | None = None
    monitors: tuple[MonitorConfig, ...] = ()
    pools: tuple[PoolConfig, ...] = ()
    virtual_servers: tuple[VirtualServerConfig, ...] = ()


class Known:
    """The resources of a configuration by name, and who refers to whom."""

    def __init__(self, config: GroupConfig) -> None:
        self.by_name: dict[str, dict[str, Any]] = {
            field: {item.name: item for item in getattr(config, field)} for field in LISTS
        }
        found: dict[Of, dict[Hashable, list[str]]] = {of: {} for of in Of}
        for items in self.by_name.values():
            for item in items.values():
                for of, value in values_of(item):
                    found[of].setdefault(value, []).append(item.name)
        # tuples: of most there is one, and a set of one takes four times the memory
        self._index: dict[Of, dict[Hashable, tuple[str, ...]]] = {
            of: {value: tuple(names) for value, names in index.items()}
            for of, index in found.items()
        }

    def server(self, name: str) -> VirtualServerConfig | None:
        """A virtual server."""
        return self.by_name["virtual_servers"].get(name)

    def pool(self, name: str) -> PoolConfig | None:
        """A pool."""
        return self.by_name["pools"].get(name)

    def names(self, of: Of, value: Any) -> tuple[str, ...]:
        """Of the resources that have the value."""
        return self._index[of].get(value, ())

    def first_server(self, names: Collection[str]) -> str | None:
        """Any does: a message names it."""
        return min(names, default=None)

    def take(self, change: Checked) -> list[object]:
        """The change is in force; return what is not any more."""
        replaced: list[object] = []
        lost: dict[tuple[Of, Hashable], set[str]] = {}
        got: dict[tuple[Of, Hashable], list[str]] = {}
        for field, others in change.after.items():
            items = self.by_name[field]
            for name, after in others.items():
                before = items.get(name)
                if before is not None:
                    replaced.append(before)
                    for at in values_of(before):
                        lost.setdefault(at, set()).add(name)
                if after is None:
                    items.pop(name, None)
                    continue
                items[name] = after
                for at in values_of(after):
                    got.setdefault(at, []).append(name)
        for of, value in lost.keys() | got.keys():
            left = lost.get((of, value), set())
            stay = [name for name in self.names(of, value) if name not in left]
            names = (*stay, *got.get((of, value), ()))
            if names:
                self._index[of][value] = names
            else:
                self._index[of].pop(value, None)
        return replaced


@dataclass(frozen=True, slots=True)
class Checked:
    """A change that may be put in force."""

    config: ControlSegmentConfig
    difference: Difference
    after: Mapping[str, Mapping[str, Any]]  # by field and name; None: gone


def changed(config: ControlSegmentConfig, known: Known, change: Change) -> Checked:
    """The configuration after a change; Unfit, or ConfigError with what is wrong with it.  *known*:
    of the configuration before, and after `take` of the one behind it."""
    new = validated(_Changed, {name: getattr(change, name) for name in _Changed.model_fields})
    after: dict[str, dict[str, Any]] = {}
    for field in LISTS:
        gone, others = change.gone.get(field, []), getattr(new, field)
        for each in gone:
            if each not in known.by_name[field]:
                raise Unfit(f"there is no {each} in {field} to take away")
        after[field] = dict.fromkeys(gone) | {item.name: item for item in others}
    view = _After(known, after)
    try:
        _check(known, view, after)
        if after["monitors"]:
            _check_folders(config, view.those(after["monitors"], "monitors"))
    except PydanticCustomError as error:
        raise ConfigError([error.message()]) from None
    update: dict[str, Any] = {
        field: tuple(_merged(known.by_name[field], others).values())
        for field, others in after.items()
        if others
    }
    if new.settings is not None:
        update["settings"] = new.settings
    changed_config = config.model_copy(update=update)
    return Checked(changed_config, _difference(changed_config, known, new, after), after)


def _merged(items: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """In their places; what is new comes last."""
    both = {**items, **others}
    for name, item in others.items():
        if item is None:
            del both[name]
    return both


def _difference(
    config: ControlSegmentConfig,
    known: Known,
    new: _Changed,
    after: Mapping[str, Mapping[str, Any]],
) -> Difference:
    found = (known.server(name) for name in after["virtual_servers"])
    before = [each for each in found if each is not None]
    keys = {server.key for server in new.virtual_servers}
    return Difference(
        settings=config.settings,
        monitors=new.monitors,
        pools=new.pools,
        virtual_servers=new.virtual_servers,
        gone_monitors=[name for name, item in after["monitors"].items() if item is None],
        gone_pools=[name for name, item in after["pools"].items() if item is None],
        gone_servers=[each.key for each in before if each.key not in keys],
        server_order=order_of(before, new.virtual_servers, config),
    )


def with_group(config: ControlSegmentConfig, group: GroupConfig) -> ControlSegmentConfig:
    """The configuration of a CS with what its group has in common; ConfigError: that is not for
    this CS."""
    try:
        _check_folders(config, group.monitors)
    except PydanticCustomError as error:
        raise ConfigError([error.message()]) from None
    common = {name: getattr(group, name) for name in GroupConfig.model_fields}
    return config.model_copy(update=common)


def _check_folders(config: ControlSegmentConfig, monitors: Sequence[MonitorConfig]) -> None:
    check_folders(monitors, scripts=config.monitor_scripts, secrets=config.monitor_secrets)


def validated(model: type[ModelT], data: dict[str, Any]) -> ModelT:
    """The data as a model; ConfigError with all that is wrong with it."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = mistakes(error, place_of(data), model)
    raise ConfigError([f"{pointer(each.path) or 'it'}: {each.sentence}" for each in found])


class _After:
    """The resources behind a change that nobody has taken yet."""

    def __init__(self, known: Known, after: Mapping[str, Mapping[str, Any]]) -> None:
        self._known = known
        self._after = after
        self._new: dict[tuple[Of, Hashable], list[str]] = {}
        for items in after.values():
            for item in items.values():
                for at in () if item is None else values_of(item):
                    self._new.setdefault(at, []).append(item.name)

    def _get(self, field: str, name: str) -> Any:
        changed = self._after[field]
        return changed[name] if name in changed else self._known.by_name[field].get(name)

    def those(self, names: Iterable[str], field: str) -> list[Any]:
        """Resources of these names, as far as there are any."""
        found = (self._get(field, name) for name in names)
        return [item for item in found if item is not None]

    def names_of(self, field: str) -> _Names:
        """All that there are."""
        return _Names(self._known.by_name[field], self._after[field])

    def server(self, name: str) -> VirtualServerConfig | None:
        found: VirtualServerConfig | None = self._get("virtual_servers", name)
        return found

    def pool(self, name: str) -> PoolConfig | None:
        found: PoolConfig | None = self._get("pools", name)
        return found

    def names(self, of: Of, value: Any) -> list[str]:
        changed = self._after["pools" if of in (Of.MONITOR, Of.NODE) else "virtual_servers"]
        stay = [name for name in self._known.names(of, value) if name not in changed]
        return stay + self._new.get((of, value), [])

    def first_server(self, names: Collection[str]) -> str | None:
        return min(names, default=None)


class _Names:
    """Counted, and listed only if a message needs that."""

    def __init__(self, items: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        self._items = items
        self._after = after

    def __len__(self) -> int:
        new = sum(name not in self._items for name in self._after)
        gone = sum(each is None for each in self._after.values())
        return len(self._items) + new - gone

    def __iter__(self) -> Iterator[str]:
        return iter(_merged(self._items, self._after))


def _check(known: Known, view: _After, after: Mapping[str, Mapping[str, Any]]) -> None:
    count = len(view.names_of("virtual_servers"))
    if count > VS_TOTAL_MAX:
        raise ConfigError([f"{count} virtual servers are too many; {VS_TOTAL_MAX} fit"])
    around = Around(known, view, after["virtual_servers"].keys())
    for name in after["virtual_servers"]:
        around.look_at_server(name)
    for name in after["pools"]:
        around.look_at_pool(name)
    for name in after["monitors"]:
        around.look_at_monitor(name)
    check_group(
        view.those(sorted(around.servers), "virtual_servers"),
        view.those(sorted(around.pools), "pools"),
        view.those(sorted(around.monitors), "monitors"),
        pool_names=view.names_of("pools"),
        monitor_names=view.names_of("monitors"),
    )

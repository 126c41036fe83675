# SPDX-License-Identifier: Apache-2.0
"""YAML text to plain data, and to the lines that its fields are on.

A large file is read in a second: libyaml's events become data without nodes between them, and
without recursion, which deep nesting would let end the process.  Lines are only looked for when
something is wrong, in a second pass.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final, NamedTuple

import yaml

from admin.documents.places import Path_, Place, Problem, Unreadable
from admin.documents.yaml_scalars import NOT_TEXT, TAG, WrongScalar, forbidden, scalar

_Parser: Any
try:
    from yaml._yaml import CParser as _Parser
except ImportError:  # PyYAML was built without libyaml; slower
    from yaml import SafeLoader as _Parser

DEPTH_MAX: Final = 64  # no configuration has more than a few levels


class Document(NamedTuple):
    """What a text says; `place` if it was asked for."""

    data: object
    problems: list[Problem]
    place: Place | None


def read_yaml(text: str, *, with_places: bool = False, repeated_max: int | None = None) -> Document:
    """Raises Unreadable if this cannot be read at all.  *repeated_max*: values of a document with
    aliases, each counted wherever it is repeated, for who walks through all of them."""
    builder = _Builder(with_places=with_places)
    try:
        builder.build(_events(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise _not_yaml(mark.line + 1 if mark else 1, said) from None
    except yaml.reader.ReaderError as error:
        before = text.encode()[: error.position]
        line = before.count(b"\n") + 1
        raise Unreadable(line, f"not YAML: a character {_number(error):#x}; remove it") from None
    line = builder.alias_line
    if repeated_max is not None and line and _size(builder.root, line, {}, 0) > repeated_max:
        raise Unreadable(
            line, f"aliases make more than {repeated_max:,} values of this; write it out"
        )
    return Document(builder.root, builder.problems, builder.place)


def _size(value: object, line: int, known: dict[int, int], depth: int) -> int:
    """Values in *value*, with repetitions; *known*: sizes by id."""
    if not isinstance(value, dict | list):
        return 1
    if depth > DEPTH_MAX:  # also what is in itself
        raise Unreadable(line, "nested too deeply; simplify it")
    size = known.get(id(value))
    if size is None:
        items = value.values() if isinstance(value, dict) else value
        size = known[id(value)] = 1 + sum(_size(each, line, known, depth + 1) for each in items)
    return size


def _number(error: yaml.reader.ReaderError) -> int:
    character: int | str = error.character
    return ord(character) if isinstance(character, str) else character


def _not_yaml(line: int, said: str) -> Unreadable:
    return Unreadable(line, f"not YAML: {said}; check the indentation and quotes")


def _events(text: str) -> Iterator[yaml.Event]:
    parser = _Parser(text)
    try:
        while (event := parser.get_event()) is not None:
            yield event
    finally:
        parser.dispose()


_NO_KEY: Final = object()
_MERGE: Final = object()


class _Frame:
    """A mapping or list that has begun."""

    __slots__ = ("fields", "items", "key", "key_line", "merged", "place", "step")

    def __init__(
        self, fields: dict[Hashable, object] | None, items: list[object], place: Place | None
    ) -> None:
        self.step: Path_ = ()  # to here from what this is in
        self.fields = fields  # None: a list
        self.items = items
        self.place = place
        self.key: Any = _NO_KEY
        self.key_line = 0
        self.merged: list[tuple[object, Place | None]] | None = None


class _Builder:
    """Takes events, of which each has one method here."""

    def __init__(self, *, with_places: bool) -> None:
        self.root: object = None
        self.place: Place | None = None
        self.problems: list[Problem] = []
        self.alias_line = 0  # of the last alias; 0: there is none
        self._with_places = with_places
        self._documents = 0
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[object, Place | None]] = {}
        self._names: dict[str, str] = {}  # of fields, which occur a hundred thousand times

    def build(self, events: Iterator[yaml.Event]) -> None:
        handlers: dict[type[yaml.Event], Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._mapping,
            yaml.SequenceStartEvent: self._sequence,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document,
        }
        for event in events:
            handler = handlers.get(event.__class__)
            if handler is not None:
                handler(event)

    # --- events ------------------------------------------------------------------------------

    def _document(self, event: yaml.DocumentStartEvent) -> None:
        self._documents += 1
        if self._documents > 1:
            raise Unreadable(_line(event), "a second document begins here; keep one")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        frame = self._frames[-1] if self._frames else None
        if frame is not None and frame.fields is not None and frame.key is _NO_KEY:
            self._begin_field(frame, event)
            return
        if event.implicit[0] and event.value[:1] not in NOT_TEXT and event.value:
            value: object = event.value
        else:
            value = self._value(event)
        self._put(frame, value, event)

    def _mapping(self, event: yaml.MappingStartEvent) -> None:
        self._check_tag(event, "map")
        fields: dict[Hashable, object] = {}
        self._open(event, fields, _Frame(fields, [], self._place_of(event)))

    def _sequence(self, event: yaml.SequenceStartEvent) -> None:
        self._check_tag(event, "seq")
        items: list[object] = []
        self._open(event, items, _Frame(None, items, self._place_of(event)))

    def _end(self, event: yaml.Event) -> None:
        frame = self._frames.pop()
        for value, place in frame.merged or ():
            self._merge(frame, value, place)

    def _alias(self, event: yaml.AliasEvent) -> None:
        if event.anchor not in self._anchors:
            raise _not_yaml(_line(event), f"found undefined alias {event.anchor!r}")
        self.alias_line = _line(event)
        value, place = self._anchors[event.anchor]
        frame = self._frames[-1] if self._frames else None
        if frame is not None and frame.fields is not None and frame.key is _NO_KEY:
            if not isinstance(value, Hashable):
                raise _odd_key(event)
            self._name_field(frame, value, event)
        else:
            self._deliver(frame, value, place)

    # --- values ------------------------------------------------------------------------------

    def _open(self, event: Any, container: object, opened: _Frame) -> None:
        frame = self._frames[-1] if self._frames else None
        if frame is not None and frame.fields is not None and frame.key is _NO_KEY:
            raise _odd_key(event)
        if len(self._frames) >= DEPTH_MAX:
            raise Unreadable(_line(event), "nested too deeply; simplify it")
        if event.anchor is not None:  # it may be meant from within
            self._anchors[event.anchor] = container, opened.place
        opened.step = self._own_step()
        self._deliver(frame, container, opened.place)
        self._frames.append(opened)

    def _put(self, frame: _Frame | None, value: object, event: yaml.ScalarEvent) -> None:
        place = self._place_of(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, place
        self._deliver(frame, value, place)

    def _deliver(self, frame: _Frame | None, value: object, place: Place | None) -> None:
        """A value is known: it belongs to the list or the field that has begun."""
        if frame is None:
            self.root, self.place = value, place
            return
        if frame.fields is None:
            frame.items.append(value)
            if frame.place is not None and place is not None:
                frame.place.items.append(place)
            return
        key, frame.key = frame.key, _NO_KEY
        if key is _MERGE:
            assert frame.merged is not None
            frame.merged.append((value, place))
            return
        frame.fields[key] = value
        if frame.place is not None and place is not None:
            frame.place.fields[str(key)] = frame.key_line, place

    # --- fields ------------------------------------------------------------------------------

    def _begin_field(self, frame: _Frame, event: yaml.ScalarEvent) -> None:
        text = event.value
        if event.implicit[0]:
            if text == "<<":
                self._begin_merge(frame, event)
                return
            name = self._value(event) if text[:1] in NOT_TEXT or not text else text
        else:
            name = self._value(event)
        if isinstance(name, str):
            name = self._names.setdefault(name, name)
        if event.anchor is not None:
            self._anchors[event.anchor] = name, self._place_of(event)
        self._name_field(frame, name, event)

    def _name_field(self, frame: _Frame, name: Any, event: yaml.Event) -> None:
        assert frame.fields is not None
        if name in frame.fields:
            self._problem(event, "given twice; keep one", str(name))
        frame.key = name
        if self._with_places:
            frame.key_line = _line(event)

    def _begin_merge(self, frame: _Frame, event: yaml.ScalarEvent) -> None:
        if frame.merged is not None:
            self._problem(event, "given twice; keep one", "<<")
        frame.merged = frame.merged or []
        frame.key, frame.key_line = _MERGE, _line(event)

    def _merge(self, frame: _Frame, value: object, place: Place | None) -> None:
        """What the mapping says itself goes before; of several merged ones, the first does."""
        assert frame.fields is not None
        several: list[Any] = value if isinstance(value, list) else [value]
        places = place.items if place is not None and isinstance(value, list) else [place]
        if not all(isinstance(one, dict) for one in several):
            path = (*self._path(), *frame.step, "<<")
            sentence = "neither a mapping nor a list of mappings; give one of them"
            self.problems.append(Problem(frame.key_line, path, sentence))
            return
        for one in several:
            for key, merged in list(one.items()):
                frame.fields.setdefault(key, merged)
        for at in places:
            if at is not None and frame.place is not None:
                for name, found in list(at.fields.items()):
                    frame.place.fields.setdefault(name, found)

    # --- scalars and tags --------------------------------------------------------------------

    def _value(self, event: yaml.ScalarEvent) -> object:
        """Of anything but a plain word."""
        try:
            return scalar(event)
        except WrongScalar as error:
            self._problem(event, str(error))
            return event.value

    def _check_tag(self, event: Any, kind: str) -> None:
        if event.tag is not None and event.tag not in ("!", TAG + kind):
            self._problem(event, forbidden(event.tag))

    # --- where -------------------------------------------------------------------------------

    def _place_of(self, event: yaml.Event) -> Place | None:
        return Place(_line(event)) if self._with_places else None

    def _problem(self, event: yaml.Event, sentence: str, *further: str) -> None:
        path = self._path()
        if not further:
            path = (*path, *self._own_step())
        self.problems.append(Problem(_line(event), (*path, *further), sentence, not further))

    def _path(self) -> Path_:
        """To the mapping or list that is open."""
        return tuple(step for frame in self._frames for step in frame.step)

    def _own_step(self) -> Path_:
        """From there to the value that comes next."""
        if not self._frames:
            return ()
        frame = self._frames[-1]
        if frame.fields is None:
            return (len(frame.items),)
        return () if frame.key is _NO_KEY else ("<<" if frame.key is _MERGE else str(frame.key),)


def _odd_key(event: yaml.Event) -> Unreadable:
    return _not_yaml(_line(event), "a field's name is a list or a mapping")


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return int(event.start_mark.line) + 1

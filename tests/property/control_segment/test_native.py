# SPDX-License-Identifier: Apache-2.0
"""The native part does what Python does, also with what nobody should send."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admin.native import SWITCH
from control_segment.batches import Answered, Opened
from control_segment.config import ControlSegmentConfig
from control_segment.peers import Address, Datagram
from control_segment.runtime import native
from control_segment.runtime.batch_socket import BatchSocket
from control_segment.runtime.native import Library
from ssmb import seal
from ssmb.codec import decode, encode
from ssmb.constants import ErrorCode, Flag
from ssmb.errors import SealError
from ssmb.messages import AppQuery, Query, Reply
from ssmb.seal import WINDOW, KeyRing
from support.requests import frame, request
from support.require import require
from support.segments.content_rig import RULES, content_config, proxying
from support.segments.dfs_double import CLIENT, KEY, SERVER, DfsDouble, Rig, config
from support.segments.hot_path import (
    LIMITED,
    app_queries,
    batches,
    damaged,
    outcome,
    queries,
)

# Of this process: others may run the same test at the same time
HOST = f"127.{64 + os.getpid() % 64}.{os.getpid() >> 8 & 255}.{1 + os.getpid() % 253}"
OTHER = f"127.{128 + os.getpid() % 64}.{os.getpid() >> 8 & 255}.{1 + os.getpid() % 253}"

near = st.integers(0, 3 * WINDOW)
edges = st.sampled_from([WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 2 * WINDOW + 64])
counters = st.tuples(st.sampled_from([0, 1, 255]), near | edges | st.integers(0, (1 << 56) - 1))


@pytest.fixture(scope="module")
def library() -> Library:
    missing = None if native.ARTIFACT.exists() else f"{native.ARTIFACT.name}: run make bpf"
    require("dataplane", missing)  # where the BPF program must be, a compiler is
    return Library()


def verdict(opener: seal.Opens, datagram: bytes) -> tuple[type[SealError] | None, bytes]:
    try:
        return None, opener.open(datagram)
    except SealError as error:
        return type(error), b""


# --- seals -------------------------------------------------------------------------------------


@given(st.lists(counters, max_size=60))
def test_windows_are_the_same(library: Library, arrivals: list[tuple[int, int]]) -> None:
    theirs, ours = library.opener(KEY), seal.Opener(KEY)
    for lane, counter in arrivals:
        octets = b"body" + (lane << 56 | counter).to_bytes(8, "big")
        octets += seal.tag(KEY, octets)
        assert verdict(theirs, octets) == verdict(ours, octets)
        assert theirs.highest() == ours.highest() % (1 << 64)
        last = ours.latest()
        assert theirs.latest() == last
        assert theirs.missing(last - 100, last) == ours.missing(last - 100, last)


@given(st.lists(st.tuples(near, st.integers(1, 2 * WINDOW)), max_size=3), st.lists(near))
def test_windows_are_the_same_after_counters_in_order(
    library: Library, runs: list[tuple[int, int]], later: list[int]
) -> None:
    theirs, ours = library.opener(KEY), seal.Opener(KEY)
    for first, count in runs:
        for counter in (*range(first, first + count), *later):
            octets = b"body" + counter.to_bytes(8, "big")
            octets += seal.tag(KEY, octets)
            assert verdict(theirs, octets) == verdict(ours, octets)


@given(st.binary(min_size=16, max_size=16), st.lists(st.binary(max_size=1500), max_size=5))
def test_what_one_seals_the_other_opens(library: Library, key: bytes, bodies: list[bytes]) -> None:
    theirs, ours = library.sealer(key), seal.Sealer(key)
    openers = library.opener(key), seal.Opener(key)
    for body in bodies:
        sealed = theirs.seal(body)
        assert sealed == ours.seal(body)
        verdicts = {verdict(opener, sealed) for opener in openers}
        assert verdicts == {verdict(seal.Opener(key), sealed)}


@given(st.binary(max_size=1500))
def test_any_octets_meet_the_same_error(library: Library, octets: bytes) -> None:
    assert verdict(library.opener(KEY), octets) == verdict(seal.Opener(KEY), octets)


# --- whole batches, through a socket -------------------------------------------------------------


class Clock:
    """In place of a loop: the time of a rig, and nobody who waits."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def time(self) -> float:
        return self._rig.now

    def add_reader(self, *_: object) -> None:
        pass

    def remove_reader(self, *_: object) -> None:
        pass


class NativeRig(Rig):
    """A CS behind a `BatchSocket`."""

    def __init__(self, library: Library, *dfss: DfsDouble, configuration: Any) -> None:
        rings = partial(KeyRing, library.opener, library.sealer)
        super().__init__(configuration, *dfss, new_keys=rings)
        self.udp = BatchSocket(HOST, 0, library, self.cs.batches, self._handle)
        self.sockets: list[socket.socket] = []
        for dfs in dfss:
            self.sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            self.sockets[-1].bind(dfs.address)
            self.sockets[-1].connect(self.udp._socket.getsockname())
            self.sockets[-1].setblocking(False)

    def _handle(self, datagrams: list[Opened], now: float) -> tuple[list[Answered], list[Datagram]]:
        answered, others = self.cs.batches.handle_opened(datagrams, now)
        return answered, others + self.cs.datagrams_to_send()

    def exchange(self, datagrams: list[Datagram]) -> list[Datagram]:
        """Send them from their sources; return what comes back."""
        by_address = {each.getsockname(): each for each in self.sockets}
        for octets, address in datagrams:
            by_address[address].send(octets)
        self.udp._readable()
        answers: list[Datagram] = []
        for address, each in by_address.items():
            while True:
                try:
                    answers.append((each.recv(2048), address))
                except BlockingIOError:
                    break
        return answers

    def close(self) -> None:
        self.udp.close()
        for each in self.sockets:
            each.close()


DFSS: Final = [{"address": HOST}, {"address": OTHER}]
PLAIN: Final = config(virtual_servers=LIMITED, data_flow_segments=DFSS)
CONTENT: Final = content_config(rules=RULES, connection_limit=2).model_copy(
    update={"data_flow_segments": PLAIN.data_flow_segments}
)


@contextmanager
def pair(
    library: Library, monkeypatch: pytest.MonkeyPatch, changed: ControlSegmentConfig = PLAIN
) -> Iterator[tuple[NativeRig, Rig]]:
    """Two CSs with two DFSs, the same but for what handles their datagrams."""

    def dfss() -> list[DfsDouble]:
        return [
            proxying(index=index, segment_id=256 + index, address=address)
            for index, address in enumerate((HOST, OTHER))
        ]

    reference = Rig(changed, *dfss())
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: Clock(reference))
    with closing(NativeRig(library, *dfss(), configuration=changed)) as rig:
        yield rig, reference


def opened(rig: Rig, answers: list[Datagram]) -> list[Datagram]:
    """What the DFSs read, in some order; each has its own counter, and all are right."""
    by_address: dict[Address, DfsDouble] = {dfs.address: dfs for dfs in rig.dfss}
    read = []
    for octets, address in answers:
        keys = by_address[address]._keys
        assert keys is not None
        read.append((keys.open(octets, rig.now), address))
    return sorted(read)


Rounds: TypeAlias = list[list[tuple[bytes, str, int]]]  # datagram, how it is sealed, which DFS
kinds = st.sampled_from(["right", "right", "right", "forged", "again", "other key", "lane", "bare"])


def rounds_of(*datagrams: st.SearchStrategy[bytes]) -> st.SearchStrategy[Rounds]:
    """What comes at once, a few times."""
    each = st.tuples(st.one_of(*datagrams), kinds, st.integers(0, 1))
    return st.lists(st.lists(each, max_size=20), max_size=4)


@settings(max_examples=100, deadline=None)
@given(rounds_of(queries(), batches(), damaged(queries()), damaged(batches())))
def test_batches_have_the_outcome_that_they_have_in_python(
    library: Library, rounds: Rounds
) -> None:
    check_rounds(library, rounds, PLAIN)


@settings(max_examples=100, deadline=None)
@given(rounds_of(app_queries(), app_queries(), damaged(app_queries()), queries(), batches()))
def test_questions_about_content_have_the_outcome_that_they_have_in_python(
    library: Library, rounds: Rounds
) -> None:
    check_rounds(library, rounds, CONTENT)


def check_rounds(library: Library, rounds: Rounds, changed: ControlSegmentConfig) -> None:
    """The native part and Python answer the same, and remember the same."""
    firsts: dict[int, bytes] = {}
    with (
        pytest.MonkeyPatch.context() as patched,
        pair(library, patched, changed) as (rig, reference),
    ):
        for number, sent in enumerate(rounds):
            rig.now = reference.now = reference.now + 0.25
            if number == 2:  # a further connection on CSMB: both keys are good (12.4)
                for each in (rig, reference):
                    opening, sealing = b"another opening.", b"another sealing."
                    keys = each.cs.peers[256].keys
                    assert keys is not None
                    keys.add(opening, sealing)
                    each.cs.peers[256].sealer = keys.sealer
                    assert each.dfs._keys is not None
                    each.dfs._keys.add(sealing, opening)
            datagrams = [sealed(rig, firsts, *each) for each in sent]
            assert datagrams == [sealed(reference, firsts, *each) for each in sent]
            answers = opened(rig, rig.exchange(datagrams))
            # what a socket reads of them
            read = [(octets[: native.OCTETS], address) for octets, address in datagrams]
            replies = reference.cs.process_batch(read, reference.now)
            replies += reference.cs.datagrams_to_send()
            assert answers == opened(reference, replies)
            assert outcome(rig) == outcome(reference)
            assert rig.cs.batches.is_touched == reference.cs.batches.is_touched
            assert rig.cs.log == reference.cs.log


def sealed(rig: Rig, firsts: dict[int, bytes], octets: bytes, kind: str, index: int) -> Datagram:
    """A datagram from one of the DFSs."""
    dfs = rig.dfss[index]
    if kind == "bare":
        return octets, dfs.address
    if kind == "other key":
        return seal.Sealer(b"keys of nobody..").seal(octets), dfs.address
    if kind == "lane":
        assert dfs._sealer is not None
        return seal.Sealer(dfs._sealer.key, lane=7).seal(octets), dfs.address
    made = dfs.seal(octets)
    if kind == "forged":
        made = made[:-1] + bytes([made[-1] ^ 1])
    if kind == "again":
        made = firsts.setdefault(index, made)
    return made, dfs.address


def test_a_frame_of_any_length_comes_back(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pair(library, monkeypatch) as (rig, _):
        for length in (1, 54, 60, 74, 511, 512):
            frame = bytes(number % 251 for number in range(length))
            query = Query(0, Flag.PARKED, length, CLIENT, SERVER, length, 81, 6, 0, 2, frame=frame)
            datagram = rig.dfs.seal(encode(query, 2)), rig.dfs.address
            ((reply, _),) = opened(rig, rig.exchange([datagram]))
            assert reply[116:] == frame
            assert reply[2] & 0x10


def test_the_frame_of_a_question_about_content_comes_back(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a node, with MORE and with a refusal."""
    with pair(library, monkeypatch, CONTENT) as (rig, _):
        for number, said in enumerate((request("/img/a"), request()[:30], request("/admin"))):
            asked = frame(said, CLIENT, SERVER, (number, 80))
            signature = CLIENT, SERVER, number, 80, 6, 0
            query = AppQuery(0, Flag.PARKED, number + 1, *signature, 0x18, 3, 5, b"", asked)
            datagram = rig.dfs.seal(encode(query, 2)), rig.dfs.address
            ((octets, _),) = opened(rig, rig.exchange([datagram]))
            reply = decode(octets, 2)
            assert isinstance(reply, Reply)
            assert reply.frame == asked
            assert reply.signature == query.signature
            assert reply.error_code == (0, ErrorCode.MORE, ErrorCode.NOTAVAIL)[number]


def test_datagrams_of_strangers_are_counted_and_never_fill_the_memory(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pair(library, monkeypatch) as (rig, _):
        server = rig.udp._socket.getsockname()
        for _ in range(100):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(bytes(100), server)
                rig.udp._readable()
        assert rig.cs.statistics.drops["unknown_source"] == 100
        monkeypatch.setattr("control_segment.runtime.batch_socket._ADDRESSES_MAX", 3)
        for number in range(10):
            rig.udp._address_of(b"\x02\x00" + bytes(5) + bytes([number]) + bytes(20))
            assert len(rig.udp._addresses) <= 100 + 1


# --- where it comes from -------------------------------------------------------------------------


def test_addresses_are_as_python_has_them(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pair(library, monkeypatch) as (rig, _):
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family, socket.SOCK_DGRAM) as udp:
                udp.bind((host, 0))
                udp.setblocking(False)
                udp.sendto(b"x", udp.getsockname())
                count = library.receive(udp.fileno(), rig.udp._batch.address)
                assert count == 1
                assert rig.udp._address_of(rig.udp._batch.sources[:28]) == udp.getsockname()
                assert library.receive(udp.fileno(), rig.udp._batch.address) < 0


def test_the_environment_switches_it_off() -> None:
    loaded, said = native.load({SWITCH: "0"})
    assert loaded is None
    assert "SPLITPLANE_NATIVE=0" in said


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_bytes(b"no library")])
def test_without_a_library_all_is_python(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "datagrams.so")
    monkeypatch.setattr(native, "ARTIFACT", tmp_path / "datagrams.so")
    loaded, said = native.load({})
    assert loaded is None
    assert "Python alone" in said


def test_a_library_of_another_release_is_not_used(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_LAYOUT", 99)
    with pytest.raises(OSError, match="another release"):
        Library()


def test_only_keys_of_sixteen_octets_are_taken(library: Library) -> None:
    for make in (library.opener, library.sealer):
        with pytest.raises(ValueError, match="16 octets"):
            make(bytes(15))

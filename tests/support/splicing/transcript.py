# SPDX-License-Identifier: Apache-2.0
"""Transcripts of connections in a small language in the spirit of packetdrill: what a client, a
node and the Control Segment do, and what each of them gets.

A file has sequences; `== name` begins one.  Lines that make something happen:

    set NAME VALUE              before all others; see `Setup`
    client> S 0:0(0) win 64240 <mss 1460,sackOK,TS 100 0,wscale 7>
    node> P. 1:11(10) ack 101 win 500 <TS 501 100> "HTTP/1.0 2"
    open [<options>]            a client's SYN with these options, and its ACK of the SYN-ACK
    join [<options>]            a node's SYN-ACK for the SYN that it got
    decide [skip N] [prefix "X"] [greeting N] [mss N]
    refuse | more | unreachable | drop | too_big N | say "X"
    +0.2                        seconds go by

Lines that are awaited, each after the line that causes it: `client<` and `node<` with a segment,
`ask OCTETS [truncated] [failed]`, `splice ...`, `end CAUSE [asked]`.  Nothing else may come.

Numbers are relative to the sender's initial sequence number, each side's own; T is the TSval of the
proxy's SYN-ACK.  Octets without quotes are those of `pattern`.  What moves the packets is a
`Bench`: the machine in virtual time, or a target with an agent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from packets.parse import ACK, FIN, PSH, RST, SYN
from packets.tcp import CWR, ECE, URG, Options, Segment, after
from splicing.instructions import Side

WORD32: Final = 0xFFFFFFFF
MODERN: Final = "<mss 1460,sackOK,TS 100 0,wscale 7>"
_LETTERS: Final = {"S": SYN, "F": FIN, "R": RST, "P": PSH, ".": ACK, "U": URG, "E": ECE, "W": CWR}
_SEGMENT: Final = re.compile(
    r'([SFRP.UEW]+) (\d+):(\d+)\((\d+)\)((?: (?:ack|win|urg|tos) \d+)*)(?: <(.*?)>)?(?: "(.*)")?'
)
_SIDES: Final = {"client": Side.CLIENT, "node": Side.NODE}
_NEAR: Final = 300_000  # a TSval so near to T is written relative to it


@dataclass
class Setup:
    """What `set` changes."""

    enough: int = 100  # octets that are enough for a decision, a whole request; 0: never
    refuses: str = "!"  # octets that begin so are refused
    limit: int = 16384
    buffer: int = 16384
    mss: int = 1460
    stays: int = 0
    half_open: int = 0  # the handshake's state is kept
    server_first: int = 0  # a bare ACK begins state, too
    ecn: int = 1
    idle: int = 300
    client: int = 1000  # C
    node: int = 77000  # S
    only: str = ""  # the one bench that this is for


class Happened(NamedTuple):
    """What came out of a bench: a segment for a side, or a word of its own."""

    to: Side | None
    segment: Segment | None
    text: str = ""


class Bench(Protocol):
    """What moves the packets of one sequence; numbers are absolute."""

    def send(self, origin: Side, segment: Segment) -> None:
        """That side sends."""

    def act(self, verb: str, words: dict[str, str]) -> None:
        """The Control Segment does, or ICMP says: a line's first word, and the others by name."""

    def advance(self, seconds: float) -> None:
        """Time goes by."""

    def happened(self) -> list[Happened]:
        """What came out since the last call."""

    def close(self) -> None:
        """The sequence is over: whatever must be gone by then is gone, or AssertionError."""


class Sequence(NamedTuple):
    """One sequence of a file."""

    name: str
    lines: tuple[str, ...]


def read(path: Path) -> list[Sequence]:
    """The sequences of a file."""
    blocks = re.split(r"^== ", path.read_text(), flags=re.MULTILINE)[1:]
    return [
        Sequence(block.splitlines()[0].strip(), tuple(block.splitlines()[1:])) for block in blocks
    ]


def head(size: int) -> bytes:
    """A request of that many octets, if there is one so short."""
    return (b"GET / HTTP/1.1\r\nX: " + b"x" * size)[: max(0, size - 4)] + b"\r\n\r\n"


def pattern(size: int, start: int, length: int) -> bytes:
    """Octets of a side from the offset `start` on (1 is the first), unless a line says others:
    requests of that many octets."""
    request = head(size)
    return bytes(request[(start - 1 + at) % len(request)] for at in range(length))


def is_awaited(line: str) -> bool:
    """Whether the line says what comes out."""
    return line.split(" ")[0] in ("client<", "node<", "ask", "splice", "end")


@dataclass
class Numbers:
    """The initial sequence numbers: the proxy's become known when it sends them."""

    client: int
    node: int
    proxy: int = 0  # P, towards the client
    stamp: int | None = None  # T

    def of(self, sender: Side, receiver: Side) -> tuple[int, int]:
        """What a segment's `seq` and `ack` are relative to.  Towards the node the proxy uses the
        client's."""
        if Side.NODE in (sender, receiver) and sender != receiver:
            return (self.node, self.client) if sender is Side.NODE else (self.client, self.node)
        return self.client, self.proxy


@dataclass
class Run:
    """One sequence on one bench; `told` is what the transcript should say."""

    bench: Bench
    numbers: Numbers
    size: int  # of a request
    told: list[str] = field(default_factory=list)
    _syn: Segment | None = None  # the latest one that the node got

    def line(self, line: str) -> None:
        """Make a line happen and write down what comes of it."""
        self.told.append(line)
        verb, _, rest = line.partition(" ")
        if verb in ("client>", "node>"):
            side = _SIDES[verb[:-1]]
            self._send(side, self._parse(side, rest))
        elif verb == "open":
            self._open(rest or MODERN)
        elif verb == "join":
            self._join(rest)
        elif verb.startswith("+"):
            self.bench.advance(float(verb))
        else:
            self.bench.act(verb, _words(rest))
        self._tell()

    def _send(self, side: Side, segment: Segment) -> None:
        self.bench.send(side, segment)

    def _open(self, options: str) -> None:
        self._send(Side.CLIENT, self._parse(Side.CLIENT, f"S 0:0(0) win 64240 {options}"))
        self._tell()
        stamps = " <TS 101 T>" if "TS" in options else ""
        line = f". 1:1(0) ack 1 win 502{stamps}"
        self.told.append(f"client> {line}")
        self._send(Side.CLIENT, self._parse(Side.CLIENT, line))

    def _join(self, options: str) -> None:
        assert self._syn is not None, "join: the node got no SYN"
        theirs = self._syn.options
        found = ["mss 1460"]
        if theirs.sack_permitted:
            found.append("sackOK")
        if theirs.timestamps is not None:
            found.append(f"TS 500 {theirs.timestamps[0]}")
        if theirs.window_scale is not None:
            found.append("wscale 6")
        ours = options or f"<{','.join(found)}>"
        self.bench.send(Side.NODE, self._parse(Side.NODE, f"S. 0:0(0) ack 1 win 65160 {ours}"))

    def _tell(self) -> None:
        for happened in self.bench.happened():
            if happened.segment is None or happened.to is None:
                self.told.append(happened.text)
                continue
            segment = happened.segment
            if segment.flags & SYN:
                self._learn(happened.to, segment)
            name = "client" if happened.to is Side.CLIENT else "node"
            self.told.append(f"{name}< {self._render(happened.to, segment)}")

    def _learn(self, to: Side, segment: Segment) -> None:
        if to is Side.NODE:
            self._syn = segment
        elif segment.flags & ACK:
            self.numbers.proxy = segment.seq
            stamps = segment.options.timestamps
            self.numbers.stamp = None if stamps is None else stamps[0]

    # --- text and segments --------------------------------------------------------------------

    def _parse(self, sender: Side, text: str) -> Segment:
        found = _SEGMENT.fullmatch(text)
        assert found, f"not a segment: {text}"
        letters, start, end, length, numbers, options, literal = found.groups()
        assert int(end) == int(start) + int(length), f"{text}: the numbers do not fit the length"
        own, other = self._bases(sender)
        words = dict(pair.split(" ") for pair in re.findall(r"[a-z]+ \d+", numbers))
        if literal is None:
            payload = pattern(self.size, int(start), int(length))
        else:
            payload = literal.encode().replace(b"\\n", b"\n")
        assert len(payload) == int(length), f"{text}: the octets do not fit the length"
        return Segment(
            seq=own + int(start) & WORD32,
            ack=other + int(words["ack"]) & WORD32 if "ack" in words else 0,
            flags=sum(_LETTERS[letter] for letter in letters),
            window=int(words.get("win", 0)),
            options=self._parse_options(options or "", other),
            payload=payload,
            urgent=int(words.get("urg", 0)),
            tos=int(words.get("tos", 0)),
        )

    def _bases(self, sender: Side) -> tuple[int, int]:
        """Of what a side itself sends."""
        if sender is Side.CLIENT:
            return self.numbers.client, self.numbers.proxy
        return self.numbers.node, self.numbers.client

    def _parse_options(self, text: str, other: int) -> Options:
        options = Options()
        for each in filter(None, text.split(",")):
            name, *values = each.split(" ")
            options = self._with_option(options, name, values, other)
        return options

    def _with_option(self, options: Options, name: str, values: list[str], other: int) -> Options:
        if name == "mss":
            return options._replace(mss=int(values[0]))
        if name == "wscale":
            return options._replace(window_scale=int(values[0]))
        if name == "sackOK":
            return options._replace(sack_permitted=True)
        if name == "TS":
            value, echo = (self._stamp(each) for each in values)
            return options._replace(timestamps=(value, echo))
        assert name == "sack", f"no such option: {name}"
        edges = (each.split(":") for each in values)
        blocks = tuple(
            (other + int(left) & WORD32, other + int(right) & WORD32) for left, right in edges
        )
        return options._replace(sack=blocks)

    def _stamp(self, text: str) -> int:
        if not text.startswith("T"):
            return int(text)
        assert self.numbers.stamp is not None, "T is not known: no timestamps were agreed"
        return self.numbers.stamp + int(text[1:] or 0) & WORD32

    def _render(self, to: Side, segment: Segment) -> str:
        own, other = self._bases(Side(1 - to))
        if to is Side.CLIENT:
            own, other = self.numbers.proxy, self.numbers.client
        else:
            own, other = self.numbers.client, self.numbers.node
        start = segment.seq - own & WORD32
        length = len(segment.payload)
        letters = "".join(letter for letter, flag in _LETTERS.items() if segment.flags & flag)
        text = f"{letters} {start}:{start + length}({length})"
        if segment.flags & ACK:
            text += f" ack {segment.ack - other & WORD32}"
        text += f" win {segment.window}"
        if segment.flags & URG:
            text += f" urg {segment.urgent}"
        if segment.tos:
            text += f" tos {segment.tos}"
        if options := self._render_options(segment.options, other):
            text += f" <{options}>"
        if segment.payload != pattern(self.size, start, length):
            text += f' "{_text(segment.payload)}"'
        return text

    def _render_options(self, options: Options, other: int) -> str:
        parts = []
        if options.mss is not None:
            parts.append(f"mss {options.mss}")
        if options.sack_permitted:
            parts.append("sackOK")
        if options.timestamps is not None:
            parts.append("TS " + " ".join(map(self._render_stamp, options.timestamps)))
        if options.window_scale is not None:
            parts.append(f"wscale {options.window_scale}")
        if options.sack:
            blocks = (
                f"{left - other & WORD32}:{right - other & WORD32}" for left, right in options.sack
            )
            parts.append("sack " + " ".join(blocks))
        return ",".join(parts)

    def _render_stamp(self, value: int) -> str:
        if self.numbers.stamp is None or abs(after(value, self.numbers.stamp)) > _NEAR:
            return str(value)
        ahead = after(value, self.numbers.stamp)
        return f"T{ahead:+d}" if ahead else "T"


def setup_of(sequence: Sequence) -> Setup:
    """What its `set` lines say."""
    setup = Setup()
    for line in sequence.lines:
        if line.startswith("set "):
            _, name, value = line.split(" ")
            assert name in {each.name for each in fields(Setup)}, f"set {name}: no such setting"
            setattr(setup, name, type(getattr(setup, name))(value))
    return setup


def play(sequence: Sequence, make: Callable[[Setup], Bench]) -> list[str]:
    """Run a sequence's lines on a new bench; returns all its lines as they should be."""
    setup = setup_of(sequence)
    settings = [line for line in sequence.lines if line.startswith("set ")]
    rest = [line for line in sequence.lines if not line.startswith("set ")]
    bench = make(setup)
    run = Run(bench, Numbers(setup.client, setup.node), setup.enough or 100)
    run.told += settings
    for line in _causes(rest):
        if line.startswith("#") or not line.strip():
            run.told.append(line)
        else:
            run.line(line)
    bench.close()
    return run.told


def _causes(lines: list[str]) -> Iterator[str]:
    """The lines that are not awaited; `open` says its own ACK."""
    opened = False
    for line in lines:
        if is_awaited(line):
            continue
        if opened and line.startswith("client> . 1:1(0) ack 1 "):
            opened = False
            continue
        opened = line.split(" ")[0] == "open"
        yield line


def _words(text: str) -> dict[str, str]:
    """`skip 3 prefix "X"` by name; a single value is named "value"."""
    found = re.findall(r'"([^"]*)"|(\S+)', text)
    values = [quoted or plain for quoted, plain in found]
    if len(values) == 1:
        return {"value": values[0]}
    return dict(zip(values[::2], values[1::2], strict=True))


def _text(octets: bytes) -> str:
    return octets.decode("latin-1").replace("\r", "\\r").replace("\n", "\\n")

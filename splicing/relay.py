# SPDX-License-Identifier: Apache-2.0
"""Every packet of both sides through the machine: translated, with what a node refused of the
options that were agreed with its client repaired (wire protocol 9.6, last point), until both sides
have closed (9.7)."""

from __future__ import annotations

from typing import Final

from packets.parse import ACK, FIN, RST
from packets.tcp import Options, Segment, after, split, write_options
from splicing import offsets
from splicing.instructions import Agreed, Offsets, Settings, Side
from ssmb.constants import CLOSE_TIMEOUT_S, LINGER_MS

_WORD32: Final = 0xFFFFFFFF
_WINDOW_MAX: Final = 0xFFFF


class Relay:
    """A joined connection.  Numbers of both directions are kept as the client has them."""

    __slots__ = (
        "_closed", "_ended", "_mss", "_settings", "_wants", "agreed", "began", "by",
        "inserts_stamps", "last", "scale", "stamp",
        "strips_sack",
    )  # fmt: skip

    def __init__(
        self, agreed: Agreed, answer: Segment, by: Offsets, settings: Settings, now: float
    ) -> None:
        theirs = answer.options
        self.agreed = agreed
        self.by = by
        self._settings = settings
        self.began = self.last = now
        self.scale = 0  # the client's shift, that the node does not know of
        if agreed.window_scale is not None and theirs.window_scale is None:
            self.scale = agreed.window_scale
        self.strips_sack = agreed.sack and not theirs.sack_permitted
        self.inserts_stamps = agreed.own_timestamp is not None and theirs.timestamps is None
        self._mss = [min(agreed.mss, settings.mss), settings.mss]
        self.stamp: int | None = None  # the client's TSval to echo
        self._wants: list[int | None] = [None, None]  # by side: its latest acknowledgement
        self._ended: list[int | None] = [None, None]  # by side: the number behind its FIN
        self._closed = False

    @property
    def is_needed(self) -> bool:
        """Whether the node refused something that constants cannot make good."""
        return bool(self.scale) or self.strips_sack or self.inserts_stamps

    @property
    def is_closed(self) -> bool:
        """Whether both sides have acknowledged the other's FIN."""
        return self._closed

    def timer(self) -> float:
        """When it is over if nothing comes."""
        if self._closed:
            return self.last + LINGER_MS / 1000
        if self._ended != [None, None]:
            return self.last + CLOSE_TIMEOUT_S
        return self.last + self._settings.idle_s

    def limit(self, side: Side, mss: int) -> None:
        """The path to that side takes no longer segments."""
        self._mss[side] = min(self._mss[side], mss)

    # --- the two directions -------------------------------------------------------------------

    def to_node(self, segment: Segment) -> list[Segment]:
        """What the node gets of a client's segment."""
        stamps = segment.options.timestamps
        if stamps is not None and (self.stamp is None or after(stamps[0], self.stamp) > 0):
            self.stamp = stamps[0]
        moved = offsets.to_node(segment, self.by)
        options = Options(
            sack=() if self.strips_sack else moved.options.sack,
            timestamps=None if self.inserts_stamps else moved.options.timestamps,
        )
        window = min(moved.window << self.scale, _WINDOW_MAX)
        return self._cut(Side.NODE, moved._replace(options=options, window=window))

    def to_client(self, segment: Segment, now: float) -> list[Segment]:
        """What the client gets of a node's segment."""
        moved = offsets.to_client(segment, self.by)
        options = moved.options
        stamps = options.timestamps
        if self.inserts_stamps and self.agreed.own_timestamp is not None:
            elapsed = round((now - self.began) * 1000)
            stamps = self.agreed.own_timestamp + elapsed & _WORD32, self.stamp or 0
        moved = moved._replace(options=Options(sack=options.sack, timestamps=stamps))
        return self._cut(Side.CLIENT, moved)

    def _cut(self, side: Side, segment: Segment) -> list[Segment]:
        room = self._mss[side] - len(write_options(segment.options))
        return split(segment, max(room, 1))

    # --- its end ------------------------------------------------------------------------------

    def note(self, origin: Side, segment: Segment, now: float) -> bool:
        """Follow a segment of that side, in the client's numbers; returns whether it is an RST that
        ends the connection."""
        other = Side(1 - origin)
        if segment.flags & RST:
            return segment.seq == self._wants[other]
        self.last = now
        if segment.flags & FIN:
            self._ended[origin] = segment.end
        if segment.flags & ACK:
            self._wants[origin] = segment.ack
            if not self._closed and self._is_acknowledged(origin) and self._is_acknowledged(other):
                self._closed = True
        return False

    def _is_acknowledged(self, by: Side) -> bool:
        """Whether that side has acknowledged the other's FIN."""
        end, wants = self._ended[1 - by], self._wants[by]
        return end is not None and wants is not None and after(wants, end) >= 0

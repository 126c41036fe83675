# SPDX-License-Identifier: Apache-2.0
from ssmb.bridging import INCOMPLETE_MAX, PACKET_MAX, PIECES_MAX, Reassembly, split
from ssmb.constants import BRIDGE_DATA_MAX, Flag
from ssmb.messages import Bridge

PACKET = bytes(range(256)) * 14  # three pieces


def test_a_short_packet_is_one_piece() -> None:
    (piece,) = split(b"abc", 5, int(Flag.OUTBOUND), serial=9)
    assert piece == Bridge(0, int(Flag.OUTBOUND), 9, 5, 0, b"abc")


def test_a_long_packet_is_cut_where_ip_could_cut_it() -> None:
    pieces = split(PACKET, 5, 0)
    assert [bool(piece.flags & Flag.MORE_FRAGS) for piece in pieces] == [True, True, False]
    assert [piece.frag_offset for piece in pieces] == [0, BRIDGE_DATA_MAX, 2 * BRIDGE_DATA_MAX]
    assert BRIDGE_DATA_MAX % 8 == 0


def test_pieces_come_together_in_any_order_and_with_copies() -> None:
    whole = Reassembly()
    first, second, third = split(PACKET, 5, 0)
    for piece in (third, first, first):
        assert whole.add("cs", piece, 1.0) == (None, None)
    assert whole.add("cs", second, 1.0) == (PACKET, None)
    assert whole.get_timer() is None


def test_pieces_of_two_css_do_not_mix() -> None:
    whole = Reassembly()
    first, *rest = split(PACKET, 5, 0)
    whole.add("one", first, 1.0)
    for piece in rest:
        assert whole.add("other", piece, 1.0) == (None, None)


def test_an_incomplete_packet_is_given_up_after_a_second() -> None:
    whole = Reassembly()
    whole.add("cs", split(PACKET, 5, 0)[0], 1.0)
    assert whole.get_timer() == 2.0
    assert whole.handle_timer(1.9) == 0
    assert whole.handle_timer(2.0) == 1


def test_incomplete_packets_are_bounded() -> None:
    whole = Reassembly()
    for number in range(INCOMPLETE_MAX):
        whole.add("cs", split(PACKET, number, 0)[0], 1.0)
    assert whole.add("cs", split(PACKET, 9999, 0)[0], 1.0) == (None, "bridge_overflow")


def test_pieces_beyond_an_ip_packet_are_refused() -> None:
    whole = Reassembly()
    piece = Bridge(0, int(Flag.MORE_FRAGS), 0, 1, 65000, bytes(1000))
    assert whole.add("cs", piece, 1.0) == (None, "invalid_msg")


def test_overlapping_pieces_never_make_a_packet() -> None:
    whole = Reassembly()
    more = int(Flag.MORE_FRAGS)
    whole.add("cs", Bridge(0, more, 0, 1, 0, bytes(16)), 1.0)
    whole.add("cs", Bridge(0, more, 0, 1, 8, bytes(16)), 1.0)
    assert whole.add("cs", Bridge(0, 0, 0, 1, 24, bytes(8)), 1.0) == (None, None)


def test_pieces_that_overlap_do_not_add_up_to_more_than_a_packet() -> None:
    """Somebody with the key sends the same octets at every offset."""
    whole = Reassembly()
    more, lost = int(Flag.MORE_FRAGS), 0
    for number in range(INCOMPLETE_MAX):
        for offset in range(0, 8 * 100, 8):
            piece = Bridge(0, more, 0, number, offset, bytes(BRIDGE_DATA_MAX))
            lost += whole.add("cs", piece, 1.0)[1] == "invalid_msg"
        assert sum(each.held for each in whole._incomplete.values()) <= (number + 1) * PACKET_MAX
    assert lost == 2 * INCOMPLETE_MAX


def test_a_packet_in_crumbs_is_refused() -> None:
    whole = Reassembly()
    crumbs = [Bridge(0, int(Flag.MORE_FRAGS), 0, 1, at, b"x") for at in range(PIECES_MAX + 1)]
    assert [whole.add("cs", crumb, 1.0)[1] for crumb in crumbs][-2:] == [None, "invalid_msg"]
    assert whole.get_timer() is None

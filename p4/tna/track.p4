// SPDX-License-Identifier: Apache-2.0
// What a flow learns from its packets: counts, the four steps of a TCP close, and which RST ends it
// (wire protocol 9.7).  Sequence numbers are the client side's.
//
//   index / 2 -> inbound: cookies, packets, octets, times, next, acks, fin_ends
//                return:  the same
//                flow_closes: cookie 32 | RST, FINs, what was acknowledged, flags 32
//
// A register is touched once by a packet, and a stateful ALU returns 32 bits: so each direction has
// its own registers of 32 bits, and a packet that looks at the other direction does not meet itself.
// A place whose cookie is not the entry's belongs to an earlier flow and counts as empty.
#ifndef SPLITPLANE_TNA_TRACK_P4
#define SPLITPLANE_TNA_TRACK_P4

#include "headers.p4"
#include "metadata.p4"

// flow_closes: closed is whatever is not below TNA_CLOSE_CLOSED
const bit<32> TNA_CLOSE_RESET = 0x80000000;
const bit<32> TNA_CLOSE_CLOSED = 0x78000000;
const bit<32> TNA_CLOSE_INBOUND_FIN = 0x40000000;
const bit<32> TNA_CLOSE_RETURN_FIN = 0x20000000;
const bit<32> TNA_CLOSE_INBOUND_FIN_ACKED = 0x10000000;
const bit<32> TNA_CLOSE_RETURN_FIN_ACKED = 0x08000000;
// 15 to 8: all flags of the return direction, 7 to 0: of the inbound one

typedef bit<FLOW_BITS> place_t;

typedef bit<2> role_t; // of a direction for a packet
const role_t ROLE_OWN = 1;
const role_t ROLE_PEER = 2;
const role_t ROLE_ASKED = 3;

struct half_t { // a report's
    bit<32> cookie;
    bit<32> packets;
    bit<32> octets_high;
    bit<32> octets_low;
    bit<32> time;
    bit<32> next;
}

struct close_t {
    bit<32> cookie;
    bit<32> state;
}

// One direction's counts.
control Counts(inout metadata_t meta, in role_t role, in place_t place, inout half_t half) {
    Register<bit<32>, place_t>(FLOW_PLACES) cookies;
    Register<bit<32>, place_t>(FLOW_PLACES) packets;
    Register<bit<32>, place_t>(FLOW_PLACES) octets_low;
    Register<bit<32>, place_t>(FLOW_PLACES) octets_high;
    Register<bit<32>, place_t>(FLOW_PLACES) times;

    bit<32> fresh = 0;
    bit<32> length = 0;
    bit<32> not_length = 0;
    bit<32> carry = 0;

    RegisterAction<bit<32>, place_t, bit<32>>(cookies) exchange_cookie = {
        void apply(inout bit<32> value, out bit<32> is_fresh) {
            is_fresh = 0;
            if (value != meta.flow.cookie) {
                is_fresh = 1;
            }
            value = meta.flow.cookie;
        }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(cookies) read_cookie = {
        void apply(inout bit<32> value, out bit<32> kept) { kept = value; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(packets) begin_packets = {
        void apply(inout bit<32> value) { value = 1; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(packets) add_packet = {
        void apply(inout bit<32> value) { value = value + 1; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(packets) read_packets = {
        void apply(inout bit<32> value, out bit<32> kept) { kept = value; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(octets_low) begin_octets = {
        void apply(inout bit<32> value) { value = length; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(octets_low) add_octets = {
        void apply(inout bit<32> value, out bit<32> carries) {
            carries = 0;
            if (value > not_length) {
                carries = 1;
            }
            value = value + length;
        }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(octets_low) read_octets = {
        void apply(inout bit<32> value, out bit<32> kept) { kept = value; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(octets_high) begin_high = {
        void apply(inout bit<32> value) { value = 0; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(octets_high) add_carry = {
        void apply(inout bit<32> value) { value = value + carry; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(octets_high) read_high = {
        void apply(inout bit<32> value, out bit<32> kept) { kept = value; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(times) note_time = {
        void apply(inout bit<32> value) { value = meta.now; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(times) read_time = {
        void apply(inout bit<32> value, out bit<32> kept) { kept = value; }
    };

    @hidden action measure() {
        length = 16w0 ++ meta.ip.length;
    }
    @hidden action complement() {
        not_length = ~length;
    }
    @hidden action check_cookie() { fresh = exchange_cookie.execute(place); }
    @hidden action report_cookie() { half.cookie = read_cookie.execute(place); }
    @hidden action first_packet() { begin_packets.execute(place); }
    @hidden action next_packet() { add_packet.execute(place); }
    @hidden action report_packets() { half.packets = read_packets.execute(place); }
    @hidden action first_octets() { begin_octets.execute(place); }
    @hidden action next_octets() { carry = add_octets.execute(place); }
    @hidden action report_octets() { half.octets_low = read_octets.execute(place); }
    @hidden action clear_high() { begin_high.execute(place); }
    @hidden action raise_high() { add_carry.execute(place); }
    @hidden action report_high() { half.octets_high = read_high.execute(place); }
    @hidden action set_time() { note_time.execute(place); }
    @hidden action report_time() { half.time = read_time.execute(place); }

    apply {
        if (role == ROLE_OWN) {
            measure();
            complement();
            check_cookie();
            set_time();
            if (fresh == 1) {
                first_packet();
                first_octets();
                clear_high();
            } else {
                next_packet();
                next_octets();
                raise_high();
            }
        } else if (role == ROLE_ASKED) {
            report_cookie();
            report_packets();
            report_octets();
            report_high();
            report_time();
        }
    }
}

// One direction's sequence numbers.
control Sequences(inout frame_t headers, inout metadata_t meta, in role_t role, in place_t place,
                  inout half_t half, inout bit<32> fin_acked) {
    Register<bit<32>, place_t>(FLOW_PLACES) next; // after all that this direction sent
    Register<bit<32>, place_t>(FLOW_PLACES) acks; // what this direction wants next
    Register<bit<32>, place_t>(FLOW_PLACES) fin_ends; // the number after its FIN

    RegisterAction<bit<32>, place_t, bit<32>>(next) note_next = {
        void apply(inout bit<32> value) { value = meta.tcp.end; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(next) read_next = {
        void apply(inout bit<32> value, out bit<32> kept) { kept = value; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(acks) note_ack = {
        void apply(inout bit<32> value) { value = meta.tcp.ack; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(acks) read_ack = {
        void apply(inout bit<32> value, out bit<32> kept) { kept = value; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(fin_ends) note_fin = {
        void apply(inout bit<32> value) { value = meta.tcp.end; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(fin_ends) compare_fin = {
        void apply(inout bit<32> value, out bit<32> equal) {
            equal = 0;
            if (value == meta.tcp.ack) {
                equal = 1;
            }
        }
    };

    @hidden action set_next() { note_next.execute(place); }
    @hidden action see_next() { meta.tcp.past_next = read_next.execute(place); }
    @hidden action report_next() { half.next = read_next.execute(place); }
    @hidden action set_ack() { note_ack.execute(place); }
    @hidden action see_ack() { meta.tcp.past_ack = read_ack.execute(place); }
    @hidden action set_fin() { note_fin.execute(place); }
    @hidden action check_fin() { fin_acked = compare_fin.execute(place); }

    apply {
        if (role == ROLE_OWN) {
            if (headers.tcp.flags[2:2] == 0) {
                set_next();
                if (headers.tcp.flags[4:4] == 1) {
                    set_ack();
                }
                if (headers.tcp.flags[0:0] == 1) {
                    set_fin();
                }
            }
        } else if (role == ROLE_PEER) {
            if (headers.tcp.flags[2:2] == 1) { // a RST: does it lie where the receiver looks?
                see_next();
                see_ack();
            } else if (headers.tcp.flags[4:4] == 1) {
                check_fin();
            }
        } else if (role == ROLE_ASKED) {
            report_next();
        }
    }
}

// How many octets follow the headers, and how many numbers the packet takes.
control Measure(inout frame_t headers, inout metadata_t meta) {
    @hidden action of_headers(bit<16> octets, bit<16> octets_less_taken) {
        meta.tcp.left = meta.ip.length - octets;
        meta.tcp.takes = meta.ip.length - octets_less_taken;
    }

    @hidden action impossible() {
        meta.tcp.left = 0xffff;
    }

#define OF_HEADERS(family, n, octets)                                                            \
    (family, n, 0 &&& 3) : of_headers(octets, octets);                                           \
    (family, n, 1 &&& 3) : of_headers(octets, octets - 1);                                       \
    (family, n, 2 &&& 3) : of_headers(octets, octets - 1);                                       \
    (family, n, 3 &&& 3) : of_headers(octets, octets - 2);

    @hidden table header_lengths {
        key = {
            headers.ipv4.isValid() : exact;
            headers.tcp.data_offset : exact;
            headers.tcp.flags : ternary; // SYN and FIN take a number each
        }
        actions = {
            of_headers;
            impossible;
        }
        const entries = {
            OF_HEADERS(true, 5, 40) OF_HEADERS(true, 6, 44) OF_HEADERS(true, 7, 48)
            OF_HEADERS(true, 8, 52) OF_HEADERS(true, 9, 56) OF_HEADERS(true, 10, 60)
            OF_HEADERS(true, 11, 64) OF_HEADERS(true, 12, 68) OF_HEADERS(true, 13, 72)
            OF_HEADERS(true, 14, 76) OF_HEADERS(true, 15, 80)
            OF_HEADERS(false, 5, 60) OF_HEADERS(false, 6, 64) OF_HEADERS(false, 7, 68)
            OF_HEADERS(false, 8, 72) OF_HEADERS(false, 9, 76) OF_HEADERS(false, 10, 80)
            OF_HEADERS(false, 11, 84) OF_HEADERS(false, 12, 88) OF_HEADERS(false, 13, 92)
            OF_HEADERS(false, 14, 96) OF_HEADERS(false, 15, 100)
        }
        const default_action = impossible();
        size = 96;
    }

    @hidden action of_udp_ipv4() {
        meta.tcp.left = meta.ip.length - 28;
    }

    @hidden action of_udp_ipv6() {
        meta.tcp.left = meta.ip.length - 48;
    }

    apply {
        if (headers.tcp.isValid()) {
            header_lengths.apply();
        } else if (headers.ipv4.isValid()) {
            of_udp_ipv4();
        } else {
            of_udp_ipv6();
        }
    }
}

control Track(inout frame_t headers, inout metadata_t meta) {
    Counts() inbound_counts;
    Counts() return_counts;
    Sequences() inbound_sequences;
    Sequences() return_sequences;
    Register<close_t, place_t>(FLOW_PLACES) flow_closes;

    place_t place = 0;
    role_t inbound_role = 0;
    role_t return_role = 0;
    half_t inbound = { 0, 0, 0, 0, 0, 0 };
    half_t returning = { 0, 0, 0, 0, 0, 0 };
    bit<32> inbound_fin_acked = 0;
    bit<32> return_fin_acked = 0;

    RegisterAction<close_t, place_t, bit<32>>(flow_closes) note_close = {
        void apply(inout close_t kept, out bit<32> seen) {
            if (kept.cookie == meta.flow.cookie) {
                seen = kept.state;
                kept.state = kept.state | meta.tcp.close_bits;
            } else {
                seen = 0;
                kept.state = meta.tcp.close_bits;
            }
            kept.cookie = meta.flow.cookie;
        }
    };
    RegisterAction<close_t, place_t, bit<32>>(flow_closes) begin_again = { // a client's SYN
        void apply(inout close_t kept, out bit<32> seen) {
            if (kept.cookie == meta.flow.cookie && kept.state >= TNA_CLOSE_CLOSED) {
                seen = kept.state;
            } else {
                seen = 0;
                kept.state = meta.tcp.close_bits;
            }
            kept.cookie = meta.flow.cookie;
        }
    };
    RegisterAction<close_t, place_t, bit<32>>(flow_closes) read_close = {
        void apply(inout close_t kept, out bit<32> seen) { seen = kept.state; }
    };

    @hidden action go_inbound() {
        place = meta.flow.index[FLOW_BITS:1];
        inbound_role = ROLE_OWN;
        return_role = ROLE_PEER;
    }
    @hidden action go_back() {
        place = meta.flow.index[FLOW_BITS:1];
        inbound_role = ROLE_PEER;
        return_role = ROLE_OWN;
    }
    @hidden action answer() {
        place = meta.flow.index[FLOW_BITS:1];
        inbound_role = ROLE_ASKED;
        return_role = ROLE_ASKED;
    }
    @hidden action find_end() {
        meta.tcp.end = meta.tcp.seq + (16w0 ++ meta.tcp.takes);
    }
    @hidden action find_distance() {
        meta.tcp.past_ack = meta.tcp.seq - meta.tcp.past_ack;
        meta.tcp.past_next = meta.tcp.ack - meta.tcp.past_next;
    }
    @hidden action reset() {
        meta.tcp.close_bits[31:31] = 1;
    }
    @hidden action set_inbound_flags() {
        meta.tcp.close_bits[7:0] = headers.tcp.flags;
        meta.tcp.close_bits[30:30] = headers.tcp.flags[0:0];
    }
    @hidden action set_return_flags() {
        meta.tcp.close_bits[15:8] = headers.tcp.flags;
        meta.tcp.close_bits[29:29] = headers.tcp.flags[0:0];
    }
    @hidden action acknowledge_inbound_fin() {
        meta.tcp.close_bits[28:28] = inbound_fin_acked[0:0];
    }
    @hidden action acknowledge_return_fin() {
        meta.tcp.close_bits[27:27] = return_fin_acked[0:0];
    }
    @hidden action close() {
        meta.tcp.close_seen = note_close.execute(place);
    }
    @hidden action restart() {
        meta.tcp.close_seen = begin_again.execute(place);
    }
    @hidden action report_close() {
        headers.report.close = read_close.execute(place);
    }
    @hidden action join() {
        meta.tcp.close_bits = meta.tcp.close_bits | meta.tcp.close_seen;
    }
    @hidden action over() {
        meta.flow.over = 1;
    }
    @hidden action ended() {
        meta.flow.ended = 1;
    }
    @hidden action report() {
        headers.report.setValid();
        headers.report.flow_index = meta.flow.index;
        headers.report.now = meta.now;
        headers.report.inbound_cookie = inbound.cookie;
        headers.report.inbound_packets = inbound.packets;
        headers.report.inbound_octets_high = inbound.octets_high;
        headers.report.inbound_octets_low = inbound.octets_low;
        headers.report.inbound_time = inbound.time;
        headers.report.inbound_next = inbound.next;
        headers.report.return_cookie = returning.cookie;
        headers.report.return_packets = returning.packets;
        headers.report.return_octets_high = returning.octets_high;
        headers.report.return_octets_low = returning.octets_low;
        headers.report.return_time = returning.time;
        headers.report.return_next = returning.next;
    }

    apply {
        if (meta.is_asked == 1) {
            answer();
        } else if (meta.flow.is_return == 0) {
            go_inbound();
        } else {
            go_back();
        }
        if (headers.tcp.isValid()) {
            find_end();
        }
        inbound_counts.apply(meta, inbound_role, place, inbound);
        return_counts.apply(meta, return_role, place, returning);
        inbound_sequences.apply(headers, meta, inbound_role, place, inbound, inbound_fin_acked);
        return_sequences.apply(headers, meta, return_role, place, returning, return_fin_acked);
        if (meta.is_asked == 1) {
            report_close();
            report();
        } else if (headers.tcp.isValid()) {
            if (meta.flow.is_return == 0) {
                set_inbound_flags();
                acknowledge_return_fin();
            } else {
                set_return_flags();
                acknowledge_inbound_fin();
            }
            if (headers.tcp.flags[2:2] == 1) {
                find_distance();
                if (meta.tcp.past_ack[31:20] == 0 || meta.tcp.past_next == 0) {
                    reset();
                }
            }
            if (meta.flow.is_return == 0 && headers.tcp.flags[1:1] == 1
                && headers.tcp.flags[4:4] == 0) {
                restart();
            } else {
                close();
            }
            join();
            if (meta.tcp.close_seen[31:31] == 1 || meta.tcp.close_seen[30:27] == 0xf) {
                // a client's SYN on an entry that only lingers is another connection
                if (meta.flow.is_return == 0 && headers.tcp.flags[1:1] == 1
                    && headers.tcp.flags[4:4] == 0) {
                    over();
                }
            } else if (meta.tcp.close_bits[31:31] == 1 || meta.tcp.close_bits[30:27] == 0xf) {
                ended();
            }
        }
    }
}

#endif

// SPDX-License-Identifier: Apache-2.0
// What a flow learns from its packets: counts, the four steps of a TCP close, and which RST ends it
// (wire protocol 9.7).  Sequence numbers are the client side's.
//
//   index / 2 -> inbound: cookies, packets, octets, times, next, acks, fin_ends
//                return:  the same
//                flow_closes: cookie 32 | RST, FINs, what was acknowledged, flags 32
//
// A register is touched once by a packet, and a stateful ALU returns 32 bits: so each direction
// has registers of its own, of 32 bits, and a packet can look at the other direction's.
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

struct close_t {
    bit<32> cookie;
    bit<32> state;
}

#define PLACE meta.flow.index[FLOW_BITS:1]

// One direction's counts.
control Counts(inout metadata_t meta, in role_t role, inout bit<32> cookie,
               inout bit<32> packets_seen, inout bit<32> octets_high_seen,
               inout bit<32> octets_low_seen, inout bit<32> time_seen) {
    Register<bit<32>, place_t>(FLOW_PLACES) cookies;
    Register<bit<32>, place_t>(FLOW_PLACES) packets;
    Register<bit<32>, place_t>(FLOW_PLACES) octets_low;
    Register<bit<32>, place_t>(FLOW_PLACES) octets_high;
    Register<bit<32>, place_t>(FLOW_PLACES) times;

    bit<32> fresh = 0; // the first packet of its direction
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
        void apply(inout bit<32> value) { value = meta.ip.wide_length; }
    };
    RegisterAction<bit<32>, place_t, bit<32>>(octets_low) add_octets = {
        void apply(inout bit<32> value, out bit<32> carries) {
            carries = 0;
            if (value > not_length) {
                carries = 1;
            }
            value = value + meta.ip.wide_length;
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

    @hidden action complement() { not_length = ~meta.ip.wide_length; }
    @hidden action check_cookie() { fresh = exchange_cookie.execute(PLACE); }
    @hidden action report_cookie() { cookie = read_cookie.execute(PLACE); }
    @hidden action first_packet() { begin_packets.execute(PLACE); }
    @hidden action next_packet() { add_packet.execute(PLACE); }
    @hidden action report_packets() { packets_seen = read_packets.execute(PLACE); }
    @hidden action first_octets() { begin_octets.execute(PLACE); }
    @hidden action next_octets() { carry = add_octets.execute(PLACE); }
    @hidden action report_octets() { octets_low_seen = read_octets.execute(PLACE); }
    @hidden action clear_high() { begin_high.execute(PLACE); }
    @hidden action raise_high() { add_carry.execute(PLACE); }
    @hidden action report_high() { octets_high_seen = read_high.execute(PLACE); }
    @hidden action set_time() { note_time.execute(PLACE); }
    @hidden action report_time() { time_seen = read_time.execute(PLACE); }

    apply {
        if (role == ROLE_OWN) {
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
control Sequences(in bit<8> flags, inout metadata_t meta, in role_t role,
                  inout bit<32> next_seen) {
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

    @hidden action set_next() { note_next.execute(PLACE); }
    @hidden action see_next() { meta.tcp.past_next = read_next.execute(PLACE); }
    @hidden action report_next() { next_seen = read_next.execute(PLACE); }
    @hidden action set_ack() { note_ack.execute(PLACE); }
    @hidden action see_ack() { meta.tcp.past_ack = read_ack.execute(PLACE); }
    @hidden action set_fin() { note_fin.execute(PLACE); }
    @hidden action check_fin() { meta.tcp.fin_acked = compare_fin.execute(PLACE); }

    apply {
        if (role == ROLE_OWN) {
            if (flags[2:2] == 0) {
                set_next();
                if (flags[4:4] == 1) {
                    set_ack();
                }
                if (flags[0:0] == 1) {
                    set_fin();
                }
            }
        } else if (role == ROLE_PEER) {
            if (flags[2:2] == 1) { // a RST: does it lie where the receiver looks?
                see_next();
                see_ack();
            } else if (flags[4:4] == 1) {
                check_fin();
            }
        } else if (role == ROLE_ASKED) {
            report_next();
        }
    }
}

// How many octets follow the headers, and how many numbers the packet takes.
control Measure(inout frame_t headers, inout metadata_t meta) {
    Hash<bit<32>>(HashAlgorithm_t.IDENTITY) same;

    // A move would keep both in containers of one size, and the header's field is of 16 bits.
    @hidden action widen() {
        meta.ip.wide_length = same.get({ 16w0, meta.ip.length });
    }

    // To subtract what an entry holds is no instruction; what is added is modulo 2^16 or 2^32.
    @hidden action of_headers(bit<16> minus_octets, bit<32> taken_minus_octets) {
        meta.tcp.left = meta.ip.length + minus_octets;
        meta.tcp.takes = meta.ip.wide_length + taken_minus_octets;
    }

    @hidden action impossible() {
        meta.tcp.left = 0xffff;
    }

#define NUMBER_SPACE 0x100000000
#define OF_HEADERS(family, n, octets)                                                            \
    (family, n, 0 &&& 3) : of_headers(65536 - octets, NUMBER_SPACE - octets);                    \
    (family, n, 1 &&& 3) : of_headers(65536 - octets, NUMBER_SPACE - octets + 1);                \
    (family, n, 2 &&& 3) : of_headers(65536 - octets, NUMBER_SPACE - octets + 1);                \
    (family, n, 3 &&& 3) : of_headers(65536 - octets, NUMBER_SPACE - octets + 2);

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

    @hidden action find_end() { // of the numbers as they came; see Offsets
        meta.tcp.end = headers.tcp.seq + meta.tcp.takes;
    }

    @hidden action of_udp_ipv4() {
        meta.tcp.left = meta.ip.length - 28;
    }

    @hidden action of_udp_ipv6() {
        meta.tcp.left = meta.ip.length - 48;
    }

    apply {
        widen();
        if (headers.tcp.isValid()) {
            header_lengths.apply();
            find_end();
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

    RegisterAction<close_t, place_t, bit<32>>(flow_closes) note_close = {
        void apply(inout close_t kept, out bit<32> becomes) {
            if (kept.cookie == meta.flow.cookie) {
                kept.state = kept.state | meta.tcp.close_bits;
            } else {
                kept.state = meta.tcp.close_bits;
            }
            kept.cookie = meta.flow.cookie;
            becomes = kept.state;
        }
    };
    // The node took a SYN: what was seen of the close belongs to an earlier connection.  The
    // client's SYN alone says nothing: anybody can send one.
    RegisterAction<close_t, place_t, bit<32>>(flow_closes) begin_again = {
        void apply(inout close_t kept) {
            if (kept.cookie != meta.flow.cookie || kept.state < TNA_CLOSE_CLOSED) {
                kept.state = meta.tcp.close_bits;
            }
            kept.cookie = meta.flow.cookie;
        }
    };
    RegisterAction<close_t, place_t, bit<32>>(flow_closes) read_close = {
        void apply(inout close_t kept, out bit<32> seen) { seen = kept.state; }
    };

    @hidden action answer() {
        headers.report.setValid();
        headers.registers.setValid();
        headers.report.flow_index = meta.flow.index;
        headers.report.now = meta.now;
    }
    @hidden action find_distance() {
        meta.tcp.past_ack = meta.tcp.seq - meta.tcp.past_ack;
        meta.tcp.past_next = meta.tcp.ack - meta.tcp.past_next;
    }
    @hidden action reset() { meta.tcp.close_bits[31:31] = 1; }
    @hidden action set_inbound_bits() {
        meta.tcp.close_bits[7:0] = headers.tcp.flags;
        meta.tcp.close_bits[30:30] = headers.tcp.flags[0:0];
        meta.tcp.close_bits[27:27] = meta.tcp.fin_acked[0:0];
    }
    @hidden action set_return_bits() {
        meta.tcp.close_bits[15:8] = headers.tcp.flags;
        meta.tcp.close_bits[29:29] = headers.tcp.flags[0:0];
        meta.tcp.close_bits[28:28] = meta.tcp.fin_acked[0:0];
    }
    @hidden action close() { meta.tcp.close_seen = note_close.execute(PLACE); }
    @hidden action restart() { begin_again.execute(PLACE); }
    @hidden action note_client_syn() { meta.tcp.close_bits[1:1] = 1; }
    @hidden action report_close() { headers.registers.close = read_close.execute(PLACE); }
    @hidden action over() { meta.flow.over = 1; }
    @hidden action ended() { meta.flow.ended = 1; }

    apply {
        if (meta.is_asked == 1) {
            answer();
        }
        inbound_counts.apply(meta, meta.flow.inbound_role, headers.registers.inbound_cookie,
                             headers.registers.inbound_packets,
                             headers.registers.inbound_octets_high,
                             headers.registers.inbound_octets_low, headers.registers.inbound_time);
        return_counts.apply(meta, meta.flow.return_role, headers.registers.return_cookie,
                            headers.registers.return_packets,
                            headers.registers.return_octets_high,
                            headers.registers.return_octets_low, headers.registers.return_time);
        if (meta.is_asked == 1 || headers.tcp.isValid()) {
            inbound_sequences.apply(headers.tcp.flags, meta, meta.flow.inbound_role,
                                    headers.registers.inbound_next);
            return_sequences.apply(headers.tcp.flags, meta, meta.flow.return_role,
                                   headers.registers.return_next);
        }
        if (meta.is_asked == 1) {
            report_close();
        } else if (headers.tcp.isValid()) {
            if (meta.flow.is_return == 0) {
                set_inbound_bits();
            } else {
                set_return_bits();
            }
            if (headers.tcp.flags[2:2] == 1) {
                find_distance();
                if (meta.tcp.past_ack[31:20] == 0 || meta.tcp.past_next == 0) {
                    reset();
                }
            }
            if (meta.flow.is_return == 1 && headers.tcp.flags[1:1] == 1) {
                note_client_syn();
                restart();
            } else {
                close();
            }
            if (meta.tcp.close_seen[31:31] == 1 || meta.tcp.close_seen[30:27] == 0xf) {
                if (meta.flow.is_return == 0 && headers.tcp.flags[1:1] == 1
                    && headers.tcp.flags[4:4] == 0) { // the entry only lingers
                    over();
                } else if (meta.tcp.close_bits[31:31] == 1 || meta.tcp.close_bits[28:27] != 0) {
                    ended(); // told again if the last step is sent again
                }
            }
        }
    }
}

#endif

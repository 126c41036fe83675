// SPDX-License-Identifier: Apache-2.0
// What a flow learns from its packets: counts, the four steps of a TCP close, and which RST ends it
// (wire protocol 9.7).  Sequence numbers are the client side's.
//
//   index (even: client to node, odd: back) -> flow_counts    cookie 32 | packets 40 | octets 56
//                                              flow_sequences close 16 | flags 8 | scale 8 | next 32
//                                              flow_windows   acknowledged 32 | window 16
//                                              flow_fin_ends  number after the peer's FIN
//                                              flow_times     of the last packet, us
//                                              flow_syns      cookie 32 | scale 8 | next 32
//
// A place whose cookie is not the entry's belongs to an earlier flow and counts as empty: nobody
// needs to clear registers, which P4Runtime cannot do on every switch.  An ordinary packet touches
// its own direction only; SYN, FIN, RST and the acknowledgement of a FIN also look at the other.
//
// A client's SYN on a living flow may be another connection from the same port, or anybody's who knows
// no sequence number.  It waits in flow_syns (at the even place) and counts once the node answers it.
//
// When a flow ends, a copy of the packet tells the agent; and the agent can ask (OPERATION_REPORT).
#ifndef SPLITPLANE_TRACK_P4
#define SPLITPLANE_TRACK_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"

typedef bit<16> close_t; // "own" is the direction of the place
const close_t CLOSE_HAVE_SEQ = 0x01;
const close_t CLOSE_HAVE_ACK = 0x02;
const close_t CLOSE_OWN_FIN = 0x04;
const close_t CLOSE_PEER_FIN = 0x08;
const close_t CLOSE_PEER_FIN_ACKED = 0x10; // by this direction
const close_t CLOSE_OWN_FIN_ACKED = 0x20;
const close_t CLOSE_CLOSED = 0x40; // in both places: the fourth step, or a valid RST
const close_t CLOSE_BY_RST = 0x80;

// How far past what was acknowledged a RST may lie although the window scale is unknown: one guess
// in 65536 hits, RFC 5961 leaves the rest to the receiver.
const bit<32> RST_WINDOW_MIN = 0x10000;

struct direction_t {
    close_t close;
    bit<8> flags;
    bit<8> scale;
    bit<32> next;  // after all that this direction sent
    bit<32> ack;   // what this direction wants next
    bit<16> window;
}

control Track(inout headers_t headers, inout metadata_t meta, in bit<48> now) {
    @id(FLOW_COUNTS_ID)
    register<bit<128>>(FLOW_ENTRIES) flow_counts;
    @id(FLOW_SEQUENCES_ID)
    register<bit<64>>(FLOW_ENTRIES) flow_sequences;
    @id(FLOW_WINDOWS_ID)
    register<bit<48>>(FLOW_ENTRIES) flow_windows;
    @id(FLOW_FIN_ENDS_ID)
    register<bit<32>>(FLOW_ENTRIES) flow_fin_ends;
    @id(FLOW_TIMES_ID)
    register<bit<48>>(FLOW_ENTRIES) flow_times;
    @id(FLOW_SYNS_ID)
    register<bit<72>>(FLOW_ENTRIES) flow_syns;

    direction_t own = { 0, 0, 0, 0, 0, 0 };
    direction_t peer = { 0, 0, 0, 0, 0, 0 };
    bit<32> peer_index = 0;
    bit<8> flags = 0;
    bit<32> seq = 0;
    bit<32> ack = 0;
    bit<32> end = 0; // after this packet
    bit<32> fin_end = 0;
    bit<1> valid_reset = 0;
    bit<1> ended = 0;
    bit<128> counts = 0;
    bit<1> is_known = 0; // the place is this flow's
    bit<72> waiting = 0; // the client's SYN that the node has not answered

    @hidden action read_counts() {
        flow_counts.read(counts, meta.flow.index);
        is_known = counts[127:96] == meta.flow.cookie ? 1w1 : 0;
        counts = is_known == 1 ? counts : meta.flow.cookie ++ 96w0;
    }

    @hidden action count() {
        // the octets first: 56 bits do not overflow
        counts = counts + (128w1 << 56) + (bit<128>)meta.ip.length;
        flow_counts.write(meta.flow.index, counts);
        flow_times.write(meta.flow.index, now);
    }

    @hidden action clear_own() { // what an earlier flow left
        flow_sequences.write(meta.flow.index, 0);
    }

    @hidden action read_own() {
        bit<64> sequence;
        bit<48> window;
        flow_sequences.read(sequence, meta.flow.index);
        flow_windows.read(window, meta.flow.index);
        sequence = is_known == 1 ? sequence : 0;
        own.close = sequence[63:48];
        own.flags = sequence[47:40];
        own.scale = sequence[39:32];
        own.next = sequence[31:0];
        own.ack = window[47:16];
        own.window = window[15:0];
    }

    @hidden action read_peer() {
        bit<128> peer_counts;
        bit<64> sequence;
        bit<48> window;
        peer_index = meta.flow.index ^ 1;
        flow_counts.read(peer_counts, peer_index);
        flow_sequences.read(sequence, peer_index);
        flow_windows.read(window, peer_index);
        sequence = peer_counts[127:96] == meta.flow.cookie ? sequence : 0;
        peer.close = sequence[63:48];
        peer.flags = sequence[47:40];
        peer.scale = sequence[39:32];
        peer.next = sequence[31:0];
        peer.ack = window[47:16];
        peer.window = window[15:0];
        // so that what is written there now is not taken for an earlier flow's
        peer_counts = peer_counts[127:96] == meta.flow.cookie ? peer_counts
                                                               : meta.flow.cookie ++ 96w0;
        flow_counts.write(peer_index, peer_counts);
    }

    @hidden action begins_anew() {
        meta.flow.found = 0;
        meta.way.next_hop = 0;
        meta.flow.is_tunnel = 0;
    }

    @hidden action used_up() {
        meta.verdict = VERDICT_TO_AGENT;
        meta.counter = COUNTER_DROP_TTL;
        meta.up.reason = REASON_TTL;
    }

    // The client side's numbers: what a node sends is looked at after its translation.
    @hidden action measure_inbound() {
        flags = headers.tcp.flags;
        seq = headers.tcp.seq;
        ack = headers.tcp.ack;
    }

    @hidden action measure_return() {
        flags = headers.tcp.flags;
        seq = headers.tcp.seq + meta.flow.seq_add;
        ack = headers.tcp.ack + meta.flow.ack_add;
    }

    @hidden action find_end() {
        end = seq + (bit<32>)(meta.ip.length - meta.ip.header_length
                              - ((bit<16>)headers.tcp.data_offset << 2));
    }

    @hidden action count_syn_and_fin() { // which have a number each
        end = end + (bit<32>)flags[1:1] + (bit<32>)flags[0:0];
    }

    // Before the receiver acknowledged anything: the answer to its SYN (RFC 9293 3.10.7.3).
    @hidden action check_reset() {
        bit<32> window = (bit<32>)peer.window << peer.scale;
        window = window > RST_WINDOW_MIN ? window : RST_WINDOW_MIN;
        valid_reset = peer.close & CLOSE_HAVE_ACK != 0
            ? (seq - peer.ack < window ? 1w1 : 0)
            : (flags & TCP_ACK != 0 && peer.close & CLOSE_HAVE_SEQ != 0
                ? (ack == peer.next ? 1w1 : 0)
                : (own.close & CLOSE_HAVE_SEQ != 0 && seq == own.next ? 1w1 : 0));
    }

    @hidden action reset() {
        own.close = own.close | CLOSE_CLOSED | CLOSE_BY_RST;
        peer.close = peer.close | CLOSE_CLOSED | CLOSE_BY_RST;
        ended = 1;
    }

    @hidden action wait_for_answer() {
        flow_syns.write(meta.flow.index, meta.flow.cookie ++ meta.scale ++ (seq + 1));
    }

    @hidden action read_waiting() {
        flow_syns.read(waiting, peer_index);
    }

    @hidden action begin_again() { // the node took it: another connection, same node
        own.close = 0;
        peer.close = CLOSE_HAVE_SEQ;
        peer.scale = waiting[39:32];
        peer.next = waiting[31:0];
        flow_syns.write(peer_index, 0);
    }

    @hidden action take_scale() {
        own.scale = meta.scale;
    }

    @hidden action advance() {
        own.next = own.close & CLOSE_HAVE_SEQ == 0 || (end - own.next)[31:31] == 0 ? end : own.next;
        own.close = own.close | CLOSE_HAVE_SEQ;
    }

    @hidden action acknowledge() {
        own.window = own.close & CLOSE_HAVE_ACK == 0 || (ack - own.ack)[31:31] == 0
            ? headers.tcp.window : own.window;
        own.ack = own.close & CLOSE_HAVE_ACK == 0 || (ack - own.ack)[31:31] == 0 ? ack : own.ack;
        own.close = own.close | CLOSE_HAVE_ACK;
    }

    @hidden action note_fin() {
        own.close = own.close | CLOSE_OWN_FIN;
        peer.close = peer.close | CLOSE_PEER_FIN;
        flow_fin_ends.write(peer_index, end);
    }

    @hidden action read_fin_end() {
        flow_fin_ends.read(fin_end, meta.flow.index);
    }

    @hidden action note_fin_acknowledged() {
        own.close = own.close | CLOSE_PEER_FIN_ACKED;
        peer.close = peer.close | CLOSE_OWN_FIN_ACKED;
    }

    @hidden action close() {
        own.close = own.close | CLOSE_CLOSED;
        peer.close = peer.close | CLOSE_CLOSED;
        ended = 1;
    }

    @hidden action keep_own() {
        flow_sequences.write(meta.flow.index,
                             own.close ++ (own.flags | flags) ++ own.scale ++ own.next);
        flow_windows.write(meta.flow.index, own.ack ++ own.window);
    }

    @hidden action keep_peer() {
        flow_sequences.write(peer_index, peer.close ++ peer.flags ++ peer.scale ++ peer.next);
    }

    @hidden action asked_for() {
        meta.flow.index = headers.packet_out.value;
        meta.verdict = VERDICT_TO_AGENT;
        meta.up.reason = REASON_REPORT;
    }

    @hidden action report() {
        meta.seen.flow_index = meta.flow.index & 0xfffffffe;
        meta.seen.now = now;
        flow_counts.read(meta.inbound.counts, meta.seen.flow_index);
        flow_sequences.read(meta.inbound.sequence, meta.seen.flow_index);
        flow_times.read(meta.inbound.time, meta.seen.flow_index);
        flow_counts.read(meta.returning.counts, meta.seen.flow_index + 1);
        flow_sequences.read(meta.returning.sequence, meta.seen.flow_index + 1);
        flow_times.read(meta.returning.time, meta.seen.flow_index + 1);
    }

    @hidden action tell_agent() {
        clone_preserving_field_list(CloneType.I2E, CLONE_SESSION_AGENT, FIELDS_REPORT);
    }

    apply {
        if (meta.is_asked == 1) {
            asked_for();
            report();
        } else {
            read_counts();
            if (headers.tcp.isValid()) {
                read_own();
                if (meta.flow.is_return == 0) {
                    measure_inbound();
                } else {
                    measure_return();
                }
                find_end();
            }
            // a client's SYN on an entry that only lingers is another connection
            if (meta.flow.is_return == 0 && flags & (TCP_SYN | TCP_ACK) == TCP_SYN
                && own.close & CLOSE_CLOSED != 0) {
                begins_anew();
            } else if (meta.ip.ttl <= 1) {
                used_up();
            } else {
                count();
                if (headers.tcp.isValid()) {
                    if (flags & (TCP_SYN | TCP_FIN | TCP_RST) == 0
                        && own.close & (CLOSE_PEER_FIN | CLOSE_PEER_FIN_ACKED) != CLOSE_PEER_FIN) {
                        advance();
                        if (flags & TCP_ACK != 0) {
                            acknowledge();
                        }
                    } else {
                        read_peer();
                        count_syn_and_fin();
                        if (meta.flow.is_return == 1 && flags & TCP_ACK != 0
                            && flags & (TCP_SYN | TCP_RST) != 0) {
                            read_waiting();
                        }
                        if (own.close & CLOSE_CLOSED != 0) {
                            // what comes now is only translated
                        } else if (flags & TCP_RST != 0) {
                            if (waiting == meta.flow.cookie ++ waiting[39:32] ++ ack) {
                                valid_reset = 1; // the node refuses
                            } else {
                                check_reset();
                            }
                            if (valid_reset == 1) {
                                reset();
                            }
                        } else if (flags & (TCP_SYN | TCP_ACK) == TCP_SYN
                                   && meta.flow.is_return == 0
                                   && own.close & CLOSE_HAVE_SEQ != 0 && own.next != seq + 1) {
                            wait_for_answer();
                        } else {
                            if (flags & TCP_SYN != 0) {
                                if (waiting == meta.flow.cookie ++ waiting[39:32] ++ ack) {
                                    begin_again();
                                }
                                take_scale();
                            }
                            advance();
                            if (flags & TCP_FIN != 0) {
                                note_fin();
                            }
                            if (flags & TCP_ACK != 0) {
                                acknowledge();
                                read_fin_end();
                                if (own.close & CLOSE_PEER_FIN != 0
                                    && (ack - fin_end)[31:31] == 0) {
                                    note_fin_acknowledged();
                                    if (own.close & CLOSE_OWN_FIN_ACKED != 0) {
                                        close();
                                    }
                                }
                            }
                        }
                        keep_peer();
                    }
                    keep_own();
                    if (ended == 1) {
                        report();
                        tell_agent();
                    }
                } else if (is_known == 0) {
                    clear_own();
                }
            }
        }
    }
}

#endif

// SPDX-License-Identifier: Apache-2.0
// What a flow learns from its packets: counts, the four steps of a TCP close, and which RST ends it
// (wire protocol 9.7).  Sequence numbers are the client side's.
//
//   index (even: client to node, odd: back) -> flow_states    all of one direction, see state_t
//                                              flow_fin_ends  number after the peer's FIN
//   index (even)                            -> flow_syns      a SYN that the node has not answered
//
// A place whose cookie is not the entry's belongs to an earlier flow and counts as empty: nobody
// needs to clear registers, which P4Runtime cannot do on every switch.  An ordinary packet touches
// its own direction only, in one register; SYN, FIN, RST and the acknowledgement of a FIN also look
// at the other.
//
// A client's SYN on a living flow may be another connection from the same port, or anybody's who knows
// no sequence number.  It waits in flow_syns and counts once the node answers it.
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
const bit<32> CLOSE_HAVE_ONE = 0x00010000;  // in a state, CLOSE_HAVE_SEQ
const bit<32> CLOSE_HAVE_BOTH = 0x00030000; // and CLOSE_HAVE_ACK

// How far past what was acknowledged a RST may lie although the window scale is unknown: one guess
// in 65536 hits, RFC 5961 leaves the rest to the receiver.
const bit<32> RST_WINDOW_MIN = 0x10000;

// A register's 288 bits, from the top:
//   cookie 32 | packets 40 | octets 56 | close 16 | flags 8 | scale 8 | next 32 | ack 32 | window 16 |
//   time 48, of the last packet, us
typedef bit<288> state_t;
#define STATE_COOKIE 287:256
#define STATE_COUNTS 287:160
#define STATE_TIME 47:0
#define STATE_CLOSE 159:144
#define STATE_SCALE 135:128
#define STATE_SEEN 159:128     // close, flags, scale
#define STATE_NEXT 127:96
#define STATE_ACK 95:64
#define STATE_WINDOW 63:48

// A packet more; the octets first, 56 bits do not overflow.
#define COUNTED (own_state[STATE_COUNTS] + ((128w1 << 56) + (bit<128>)meta.ip.length))

struct seen_direction_t {
    close_t close;
    bit<8> flags;
    bit<8> scale;
    bit<32> next;  // after all that this direction sent
    bit<32> ack;   // what this direction wants next
    bit<16> window;
}

control Track(inout headers_t headers, inout metadata_t meta, in bit<48> now) {
    @id(FLOW_STATES_ID)
    register<bit<288>>(FLOW_ENTRIES) flow_states;
    @id(FLOW_FIN_ENDS_ID)
    register<bit<32>>(FLOW_ENTRIES) flow_fin_ends;
    @id(FLOW_SYNS_ID)
    register<bit<72>>(FLOW_ENTRIES) flow_syns; // cookie 32 | scale 8 | next 32

    state_t own_state;
    state_t peer_state;
    seen_direction_t own;
    seen_direction_t peer;
    bit<32> peer_index;
    bit<32> seq;
    bit<32> ack;
    bit<32> end; // after this packet
    bit<32> fin_end;
    bit<72> syn;
    bit<1> valid_reset;
    bit<1> waits;
    bit<8> said_scale; // in a SYN

    @hidden action read() {
        flow_states.read(own_state, meta.flow.index);
    }

    @hidden action begin() { // an earlier flow's place
        own_state = meta.flow.cookie ++ 256w0;
    }

    @hidden action measure() {
        seq = headers.tcp.seq;
        ack = headers.tcp.ack;
    }

    // The client side's numbers: what a node sends is looked at after its translation.
    @hidden action translate() {
        seq = seq + meta.flow.seq_add;
        ack = ack + meta.flow.ack_add;
    }

    @hidden action find_end() {
        end = seq + (bit<32>)(meta.ip.payload - ((bit<16>)headers.tcp.data_offset << 2));
    }

    // --- an ordinary packet --------------------------------------------------------------------

    @hidden action sent_again() {
        end = own_state[STATE_NEXT];
    }

    @hidden action keep() {
        flow_states.write(meta.flow.index,
                          COUNTED ++ (own_state[STATE_SEEN] | CLOSE_HAVE_BOTH
                                      | (bit<32>)headers.tcp.flags << 8)
                          ++ end ++ ack ++ headers.tcp.window ++ now);
    }

    @hidden action keep_without_ack() { // it has none, or an old one
        flow_states.write(meta.flow.index,
                          COUNTED ++ (own_state[STATE_SEEN] | CLOSE_HAVE_ONE
                                      | (bit<32>)headers.tcp.flags << 8)
                          ++ end ++ own_state[95:48] ++ now);
    }

    @hidden action keep_count() { // not TCP
        flow_states.write(meta.flow.index, COUNTED ++ own_state[159:48] ++ now);
    }

    // --- SYN, FIN, RST -------------------------------------------------------------------------

    @hidden action begins_anew() {
        meta.direction = DIRECTION_NONE;
        meta.address_delta = 0;
        meta.next_hop = 0;
        meta.room = 0;
    }

    @hidden action used_up() {
        meta.verdict = VERDICT_TO_AGENT;
        meta.counter = COUNTER_DROP_TTL;
        meta.up.reason = REASON_TTL;
    }

    @hidden action read_both() {
        peer_index = meta.flow.index ^ 1;
        flow_states.read(peer_state, peer_index);
        peer_state = peer_state[STATE_COOKIE] == meta.flow.cookie ? peer_state
                                                                  : meta.flow.cookie ++ 256w0;
        flow_syns.read(syn, meta.flow.index & 0xfffffffe);
        own.close = own_state[STATE_CLOSE];
        own.flags = own_state[143:136] | headers.tcp.flags;
        own.scale = own_state[STATE_SCALE];
        own.next = own_state[STATE_NEXT];
        own.ack = own_state[STATE_ACK];
        own.window = own_state[STATE_WINDOW];
        peer.close = peer_state[STATE_CLOSE];
        peer.scale = peer_state[STATE_SCALE];
        peer.next = peer_state[STATE_NEXT];
        peer.ack = peer_state[STATE_ACK];
        peer.window = peer_state[STATE_WINDOW];
        said_scale = headers.options.isValid() ? meta.up.scale : 0;
        // SYN and FIN have a number each
        end = end + (bit<32>)headers.tcp.flags[1:1] + (bit<32>)headers.tcp.flags[0:0];
        // the node answers the SYN that waits
        waits = meta.direction == DIRECTION_RETURNING && headers.tcp.flags & TCP_ACK != 0
            && syn == meta.flow.cookie ++ syn[39:32] ++ ack ? 1w1 : 0;
    }

    // Before the receiver acknowledged anything: the answer to its SYN (RFC 9293 3.10.7.3).
    @hidden action check_reset() {
        bit<32> window = (bit<32>)peer.window << peer.scale;
        window = window > RST_WINDOW_MIN ? window : RST_WINDOW_MIN;
        valid_reset = peer.close & CLOSE_HAVE_ACK != 0
            ? (seq - peer.ack < window ? 1w1 : 0)
            : (headers.tcp.flags & TCP_ACK != 0 && peer.close & CLOSE_HAVE_SEQ != 0
                ? (ack == peer.next ? 1w1 : 0)
                : (own.close & CLOSE_HAVE_SEQ != 0 && seq == own.next ? 1w1 : 0));
        valid_reset = valid_reset | waits;
    }

    @hidden action reset() {
        own.close = own.close | CLOSE_CLOSED | CLOSE_BY_RST;
        peer.close = peer.close | CLOSE_CLOSED | CLOSE_BY_RST;
    }

    // The same ports again: another connection, or somebody who knows no sequence number.
    @hidden action let_wait() {
        flow_syns.write(meta.flow.index, meta.flow.cookie ++ said_scale ++ (seq + 1));
    }

    @hidden action forget_earlier() { // another connection, same node
        own.close = 0;
        peer.close = CLOSE_HAVE_SEQ;
        peer.next = ack;
        peer.scale = syn[39:32];
        flow_syns.write(peer_index, 0);
    }

    @hidden action take_scale() {
        own.scale = said_scale;
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
        flow_fin_ends.read(fin_end, meta.flow.index);
    }

    @hidden action note_fin() {
        own.close = own.close | CLOSE_OWN_FIN;
        peer.close = peer.close | CLOSE_PEER_FIN;
        flow_fin_ends.write(peer_index, end);
    }

    @hidden action note_fin_acknowledged() {
        own.close = own.close | CLOSE_PEER_FIN_ACKED;
        peer.close = peer.close | CLOSE_OWN_FIN_ACKED;
    }

    @hidden action close() {
        own.close = own.close | CLOSE_CLOSED;
        peer.close = peer.close | CLOSE_CLOSED;
    }

    @hidden action keep_both() {
        flow_states.write(meta.flow.index, COUNTED ++ own.close ++ own.flags ++ own.scale ++ own.next
                                           ++ own.ack ++ own.window ++ now);
        flow_states.write(peer_index, peer_state[STATE_COUNTS] ++ peer.close ++ peer_state[143:136]
                                      ++ peer.scale ++ peer.next ++ peer_state[95:0]);
    }

    // --- reports -------------------------------------------------------------------------------

    @hidden action asked_for() {
        meta.flow.index = headers.packet_out.value;
        meta.up.reason = REASON_REPORT;
        meta.counter = COUNTER_NONE;
    }

    @hidden action report() {
        meta.asked = (meta.flow.index & 0xfffffffe) ++ now;
        flow_states.read(own_state, meta.flow.index & 0xfffffffe);
        meta.inbound = own_state[287:96] ++ own_state[STATE_TIME];
        flow_states.read(own_state, meta.flow.index | 1);
        meta.returning = own_state[287:96] ++ own_state[STATE_TIME];
    }

    @hidden action tell_agent() {
        clone_preserving_field_list(CloneType.I2E, CLONE_SESSION_AGENT, FIELDS_REPORT);
    }

    apply {
        if (headers.packet_out.isValid() && meta.direction == DIRECTION_ASKED) {
            asked_for();
            report();
        } else {
            read();
            if (own_state[STATE_COOKIE] != meta.flow.cookie) {
                begin();
            }
            if (headers.tcp.isValid()) {
                measure();
                if (meta.has_offsets == 1) {
                    if (meta.direction == DIRECTION_RETURNING) {
                        translate();
                    }
                }
                find_end();
                if (headers.tcp.flags & (TCP_SYN | TCP_FIN | TCP_RST) == 0
                    && own_state[STATE_CLOSE] & (CLOSE_PEER_FIN | CLOSE_PEER_FIN_ACKED)
                       != CLOSE_PEER_FIN) {
                    if (meta.is_expired == 1) {
                        used_up();
                    } else {
                        if (own_state[STATE_CLOSE] & CLOSE_HAVE_SEQ != 0
                            && (end - own_state[STATE_NEXT])[31:31] == 1) {
                            sent_again();
                        }
                        if (headers.tcp.flags & TCP_ACK == 0
                            || (own_state[STATE_CLOSE] & CLOSE_HAVE_ACK != 0
                                && (ack - own_state[STATE_ACK])[31:31] == 1)) {
                            keep_without_ack();
                        } else {
                            keep();
                        }
                    }
                } else {
                    read_both();
                    // a client's SYN on an entry that only lingers is another connection
                    if (meta.direction == DIRECTION_INBOUND
                        && headers.tcp.flags & (TCP_SYN | TCP_ACK) == TCP_SYN
                        && own.close & CLOSE_CLOSED != 0) {
                        begins_anew();
                    } else if (meta.is_expired == 1) {
                        used_up();
                    } else {
                        if (own.close & CLOSE_CLOSED != 0) {
                            // what comes now is only translated
                        } else if (headers.tcp.flags & TCP_RST != 0) {
                            check_reset();
                            if (valid_reset == 1) {
                                reset();
                                tell_agent();
                            }
                        } else if (meta.direction == DIRECTION_INBOUND
                                   && headers.tcp.flags & (TCP_SYN | TCP_ACK) == TCP_SYN
                                   && own.close & CLOSE_HAVE_SEQ != 0 && own.next != seq + 1) {
                            let_wait();
                        } else {
                            if (headers.tcp.flags & TCP_SYN != 0) {
                                if (waits == 1) {
                                    forget_earlier();
                                }
                                take_scale();
                            }
                            advance();
                            if (headers.tcp.flags & TCP_FIN != 0) {
                                note_fin();
                            }
                            if (headers.tcp.flags & TCP_ACK != 0) {
                                acknowledge();
                                if (own.close & CLOSE_PEER_FIN != 0
                                    && (ack - fin_end)[31:31] == 0) {
                                    note_fin_acknowledged();
                                    if (own.close & CLOSE_OWN_FIN_ACKED != 0) {
                                        close();
                                        tell_agent();
                                    }
                                }
                            }
                        }
                        keep_both();
                        report();
                    }
                }
            } else if (meta.is_expired == 1) {
                used_up();
            } else {
                keep_count();
            }
        }
    }
}

#endif

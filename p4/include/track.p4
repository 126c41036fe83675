// SPDX-License-Identifier: Apache-2.0
// What a flow learns from its packets: counts, the four steps of a TCP close, and which RST ends it
// (wire protocol 9.7).  Sequence numbers are the client side's.
//
//   index (even: client to node, odd: back) -> flow_states  all of one direction, see state_t
//                                              flow_ends    number after the peer's FIN; what was sent
//                                                           beyond a hole
//   index (even)                            -> flow_syns    a SYN that the node has not answered
//
// A place whose cookie is not the entry's belongs to an earlier flow and counts as empty: nobody
// needs to clear registers, which P4Runtime cannot do on every switch.
//
// What a stranger can make up changes nothing: a segment counts if its numbers continue what both
// ends said before; of SYN, FIN and RST the checksums must be right, too.  An ordinary segment touches
// its own direction only, in one register; CLOSE_LOOK says that its place alone does not say enough.
//
// A client's SYN on a living flow may be another connection from the same port, or anybody's who knows
// no sequence number.  It waits in flow_syns and counts once the node answers it.
//
// When a flow ends or goes on after its end, a copy of the packet tells the agent; and the agent can
// ask (OPERATION_REPORT).
#ifndef SPLITPLANE_TRACK_P4
#define SPLITPLANE_TRACK_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"
#include "options.p4"

typedef bit<16> close_t; // "own" is the direction of the place
const close_t CLOSE_HAVE_SEQ = 0x01;
const close_t CLOSE_HAVE_ACK = 0x02;
const close_t CLOSE_OWN_FIN = 0x04;
const close_t CLOSE_PEER_FIN = 0x08;
const close_t CLOSE_PEER_FIN_ACKED = 0x10; // by this direction
const close_t CLOSE_OWN_FIN_ACKED = 0x20;
const close_t CLOSE_CLOSED = 0x40; // in both places: the fourth step, or a valid RST
const close_t CLOSE_BY_RST = 0x80;
const close_t CLOSE_OWN_RST = 0x0100;  // a valid one
const close_t CLOSE_GAP = 0x0200;      // it sent something beyond a hole
const close_t CLOSE_GAP_FIN = 0x0400;  // and a FIN after it
const close_t CLOSE_PEER_GAP = 0x0800;
const close_t CLOSE_LOOK = 0x1000;     // this place alone does not say enough
const close_t CLOSE_SYN_LAST = 0x2000; // the client's last segment was a SYN
const close_t CLOSE_LOOK_FOR = CLOSE_OWN_RST | CLOSE_GAP | CLOSE_PEER_GAP | CLOSE_SYN_LAST;
const close_t CLOSE_ENDED = CLOSE_HAVE_SEQ | CLOSE_CLOSED | CLOSE_OWN_RST; // by its RST
const close_t CLOSE_ORDINARY = CLOSE_HAVE_SEQ | CLOSE_HAVE_ACK | CLOSE_LOOK;

// A window at least, whatever its scale: what was announced may have grown meanwhile.  Pieces beyond
// holes belong together within this distance, too.
const bit<32> WINDOW_MINIMUM = 0x10000;

// The least between two questions about one flow, us: clients repeat a SYN after a second, and a flood
// of one flow's SYNs shall not reach the agent.
const bit<48> ASK_AGAIN = 200000;
// For how long a node that answered before has said nothing when it is sent a SYN that it does not
// answer.  A living one answers (RFC 5961 4), though not every SYN: Linux one in half a second.
const bit<48> SILENT = 1000000;

// A register's 288 bits, from the top:
//   cookie 32 | packets 40 | octets 56 | close 16 | flags 8 | scale 8 | next 32 | ack 32 | window 16 |
//   time 48, of the last packet, us
typedef bit<288> state_t;
#define STATE_COOKIE 287:256
#define STATE_COUNTS 287:160
#define STATE_PACKETS 255:216
#define STATE_TIME 47:0
#define STATE_CLOSE 159:144
#define STATE_FLAGS 143:136
#define STATE_SCALE 135:128
#define STATE_SEEN 159:128     // close, flags, scale
#define STATE_NEXT 127:96
#define STATE_ACK 95:64
#define STATE_WINDOW 63:48

// A packet's share of the counts; the octets first, 56 bits do not overflow.
#define ONE_PACKET ((128w1 << 56) + (bit<128>)meta.ip.length)
#define COUNTED (own_state[STATE_COUNTS] + ONE_PACKET)

#define IS_SYN(headers) (headers.tcp.flags & (TCP_SYN | TCP_ACK) == TCP_SYN)
#define IS_LATER(a, b) ((b - a)[31:31] == 1)
#define IS_HALF_OPEN_STATE(state) (state[STATE_FLAGS] & (TCP_SYN | TCP_ACK) == TCP_SYN)
#define IS_HALF_OPEN(direction) (direction.flags & (TCP_SYN | TCP_ACK) == TCP_SYN)

struct seen_direction_t {
    close_t close;
    bit<8> flags;  // of the segments that count
    bit<8> scale;
    bit<32> next;  // after all that this direction sent
    bit<32> ack;   // what this direction wants next
    bit<16> window;
    bit<32> fin_end; // after the peer's FIN
    bit<32> gap_from;
    bit<32> gap_to;
}

control Track(inout headers_t headers, inout metadata_t meta, in standard_metadata_t standard)(
              register<bit<288>> flow_states, register<bit<96>> flow_ends,
              register<bit<48>> listening) {
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
    bit<72> syn;
    bit<96> ends;
    bit<48> until;
    bit<1> answers_syn; // the one that waits
    bit<1> continues;   // it is known to the other end where it says that it is
    bit<1> is_told;
    bit<1> is_silent;
    bit<1> own_gap_ends;
    bit<1> peer_gap_ends;
    bit<8> said_scale; // in a SYN
    bit<32> distance;
    bit<32> window;
    bit<32> end_of_peer;

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

    // --- an ordinary segment: in order or sent again, its acknowledgement near the last one ---------

    @hidden action sent_again() {
        end = own_state[STATE_NEXT];
    }

    @hidden action keep() {
        flow_states.write(meta.flow.index,
                          COUNTED ++ (own_state[STATE_SEEN] | (bit<32>)headers.tcp.flags << 8)
                          ++ end ++ ack ++ headers.tcp.window ++ standard.ingress_global_timestamp);
    }

    @hidden action keep_acknowledged() { // the acknowledgement is an old one
        flow_states.write(meta.flow.index,
                          COUNTED ++ (own_state[STATE_SEEN] | (bit<32>)headers.tcp.flags << 8)
                          ++ end ++ own_state[95:48] ++ standard.ingress_global_timestamp);
    }

    @hidden action keep_count() { // not TCP, or it changes nothing
        flow_states.write(meta.flow.index,
                          COUNTED ++ own_state[159:48] ++ standard.ingress_global_timestamp);
    }

    // --- all others --------------------------------------------------------------------------------

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

    @hidden action read_peer() {
        peer_index = meta.flow.index ^ 1;
        flow_states.read(peer_state, peer_index);
        peer_state = peer_state[STATE_COOKIE] == meta.flow.cookie ? peer_state
                                                                  : meta.flow.cookie ++ 256w0;
    }

    @hidden action who_listens() {
        listening.read(until, 0);
    }

    @hidden action note_syn() {
        own_state[STATE_CLOSE] = own_state[STATE_CLOSE] | CLOSE_SYN_LAST | CLOSE_LOOK;
    }

    @hidden action note_no_syn() {
        own_state[STATE_CLOSE] = own_state[STATE_CLOSE] & ~CLOSE_SYN_LAST;
    }

    // Whether the node may be dead: it has never answered, or not the SYN before this one.  One SYN
    // alone may be anybody's, but before the handshake is complete there is nothing to lose by it; with
    // direct return nobody sees what the node says.
    @hidden action find_silent() {
        is_silent = standard.ingress_global_timestamp <= until
            && standard.ingress_global_timestamp - own_state[STATE_TIME] >= ASK_AGAIN
            && ((IS_HALF_OPEN_STATE(own_state)
                 && (peer_state[STATE_PACKETS] == 0
                     || peer_state[STATE_TIME] + SILENT <= standard.ingress_global_timestamp))
                || (own_state[STATE_CLOSE] & CLOSE_SYN_LAST != 0
                    && (peer_state[STATE_PACKETS] == 0
                        || peer_state[STATE_TIME] + SILENT <= own_state[STATE_TIME]))) ? 1w1 : 0;
    }

    @hidden action ask_again() {
        meta.verdict = VERDICT_TO_AGENT;
        meta.counter = COUNTER_UP_CALLS;
        meta.up.reason = REASON_UNANSWERED;
    }

    @hidden action unpack() {
        flow_syns.read(syn, meta.flow.index & 0xfffffffe);
        flow_ends.read(ends, meta.flow.index);
        own.close = own_state[STATE_CLOSE];
        own.flags = own_state[STATE_FLAGS];
        own.scale = own_state[STATE_SCALE];
        own.next = own_state[STATE_NEXT];
        own.ack = own_state[STATE_ACK];
        own.window = own_state[STATE_WINDOW];
        own.fin_end = ends[95:64];
        own.gap_from = ends[63:32];
        own.gap_to = ends[31:0];
        flow_ends.read(ends, peer_index);
        peer.close = peer_state[STATE_CLOSE];
        peer.flags = peer_state[STATE_FLAGS];
        peer.scale = peer_state[STATE_SCALE];
        peer.next = peer_state[STATE_NEXT];
        peer.ack = peer_state[STATE_ACK];
        peer.window = peer_state[STATE_WINDOW];
        peer.fin_end = ends[95:64];
        peer.gap_from = ends[63:32];
        peer.gap_to = ends[31:0];
        said_scale = headers.options.isValid() ? meta.up.scale : 0;
        // SYN and FIN have a number each
        end = end + (bit<32>)headers.tcp.flags[1:1] + (bit<32>)headers.tcp.flags[0:0];
        answers_syn = meta.direction == DIRECTION_RETURNING && headers.tcp.flags & TCP_ACK != 0
            && syn == meta.flow.cookie ++ syn[39:32] ++ ack ? 1w1 : 0;
        is_told = 0;
        own_gap_ends = 0;
        peer_gap_ends = 0;
    }

    // Whether the acknowledgement is within a window of what this end acknowledged last, or acknowledges
    // what the other one sent.  Without its SYN the scale is unknown.
    @hidden action find_plausible() {
        distance = IS_LATER(own.ack, ack) ? own.ack - ack : ack - own.ack;
        window = (bit<32>)own.window << (own.flags & TCP_SYN != 0 ? own.scale : WINDOW_SCALE_MAX);
        window = window > WINDOW_MINIMUM ? window : WINDOW_MINIMUM;
        end_of_peer = peer.close & CLOSE_GAP != 0 ? peer.gap_to : peer.next;
        continues = own.close & CLOSE_HAVE_ACK == 0 || distance <= window
            || (IS_LATER(ack, own.ack) && peer.close & CLOSE_HAVE_SEQ != 0
                && !IS_LATER(ack, end_of_peer)) ? 1w1 : 0;
    }

    // The client has received the node's answer: it knows its number.  Where the node has the address
    // itself and answers need not pass here, the client's own number has to do.
    @hidden action find_established() {
        continues = own.next - seq < WINDOW_MINIMUM
            && (peer.close & CLOSE_HAVE_SEQ == 0 ? meta.flow.new_dst_addr == meta.key.dst_addr
                                                 : ack == peer.next || ack == own.ack) ? 1w1 : 0;
    }

    // A node that has not answered the client's SYN and has an earlier connection from the same port
    // acknowledges a number of that.
    @hidden action find_meant() {
        continues = peer.next - ack < WINDOW_MINIMUM ? continues : 0;
    }

    @hidden action take_earlier_answer() { // one of several (SYN cookies)
        peer.next = ack;
    }

    // --- the end -----------------------------------------------------------------------------------

    // The end goes on that is said to have sent a RST: then it was not its own.  What the other end
    // sends may have been on its way.
    @hidden action reopen() {
        own.close = own.close & ~(CLOSE_CLOSED | CLOSE_BY_RST | CLOSE_OWN_RST);
        peer.close = peer.close & ~(CLOSE_CLOSED | CLOSE_BY_RST | CLOSE_OWN_RST);
        is_told = 1;
    }

    // It has the very number that the other end expects (RFC 5961 3.2): what that one acknowledged
    // last, or what comes after all that went there since.  Or it answers a SYN (RFC 9293 3.10.7.3).
    @hidden action find_valid_reset() {
        continues = answers_syn == 1 || (own.close & CLOSE_HAVE_SEQ != 0 && seq == own.next)
            || (peer.close & CLOSE_HAVE_ACK != 0 && seq == peer.ack)
            || (headers.tcp.flags & TCP_ACK != 0 && peer.flags & TCP_ACK == 0
                && peer.close & CLOSE_HAVE_SEQ != 0 && ack == peer.next) ? 1w1 : 0;
    }

    @hidden action reset() {
        own.flags = own.flags | headers.tcp.flags;
        own.close = own.close | CLOSE_CLOSED | CLOSE_BY_RST | CLOSE_OWN_RST;
        peer.close = peer.close | CLOSE_CLOSED | CLOSE_BY_RST;
        is_told = 1;
    }

    @hidden action acknowledge_fin() {
        own.close = own.close | CLOSE_PEER_FIN_ACKED;
        peer.close = peer.close | CLOSE_OWN_FIN_ACKED;
    }

    @hidden action close() {
        own.close = own.close | CLOSE_CLOSED;
        peer.close = peer.close | CLOSE_CLOSED;
        is_told = 1;
    }

    // --- SYN ---------------------------------------------------------------------------------------

    // The same ports again: another connection, or somebody who knows no sequence number.
    @hidden action let_wait() {
        flow_syns.write(meta.flow.index, meta.flow.cookie ++ said_scale ++ (seq + 1));
    }

    @hidden action begin_own_again() { // answers never pass here
        own.close = CLOSE_HAVE_SEQ | CLOSE_SYN_LAST;
        own.next = seq + 1;
        peer.close = 0;
        peer.flags = 0;
        own.flags = TCP_SYN;
    }

    @hidden action begin_peer_again() { // another connection, same node
        own.close = 0;
        own.flags = 0;
        peer.close = CLOSE_HAVE_SEQ | (peer.close & CLOSE_SYN_LAST);
        peer.next = ack;
        peer.flags = TCP_SYN;
        peer.scale = syn[39:32];
        flow_syns.write(peer_index, 0);
    }

    @hidden action take_scale() {
        own.scale = said_scale;
    }

    @hidden action want_answer() { // what the client will want; not acknowledged yet
        peer.ack = end;
    }

    @hidden action answer() {
        own.scale = said_scale;
        own.flags = own.flags | headers.tcp.flags;
        own.next = end;
        own.close = own.close | CLOSE_HAVE_SEQ;
    }

    // --- what was sent -----------------------------------------------------------------------------

    @hidden action note_flags() {
        own.flags = own.flags | headers.tcp.flags;
    }

    @hidden action advance() {
        own.next = end;
        own.close = own.close | CLOSE_HAVE_SEQ;
    }

    @hidden action note_fin() {
        own.close = own.close | CLOSE_OWN_FIN;
        peer.close = peer.close | CLOSE_PEER_FIN;
        peer.fin_end = own.next;
    }

    @hidden action note_peer_fin() {
        peer.close = peer.close | CLOSE_OWN_FIN;
        own.close = own.close | CLOSE_PEER_FIN;
        own.fin_end = peer.next;
    }

    // What was sent before `next` moved may reach beyond it.
    @hidden action pass_gap() {
        own_gap_ends = own.close & CLOSE_GAP_FIN != 0 && !IS_LATER(own.next, own.gap_to) ? 1w1 : 0;
        own.next = IS_LATER(own.next, own.gap_to) ? own.next : own.gap_to;
        own.close = own.close & ~(CLOSE_GAP | CLOSE_GAP_FIN);
        peer.close = peer.close & ~CLOSE_PEER_GAP;
    }

    @hidden action pass_peer_gap() {
        peer_gap_ends = peer.close & CLOSE_GAP_FIN != 0 && !IS_LATER(peer.next, peer.gap_to) ? 1w1 : 0;
        peer.next = IS_LATER(peer.next, peer.gap_to) ? peer.next : peer.gap_to;
        peer.close = peer.close & ~(CLOSE_GAP | CLOSE_GAP_FIN);
        own.close = own.close & ~CLOSE_PEER_GAP;
    }

    @hidden action begin_gap() {
        own.gap_from = seq;
        own.gap_to = end;
    }

    @hidden action widen_gap() {
        own.gap_from = seq - own.next < own.gap_from - own.next ? seq : own.gap_from;
        own.gap_to = IS_LATER(end, own.gap_to) ? end : own.gap_to;
    }

    @hidden action end_gap() { // its last piece so far: whether a FIN is behind it
        own.close = headers.tcp.flags & TCP_FIN != 0 ? own.close | CLOSE_GAP_FIN
                                                     : own.close & ~CLOSE_GAP_FIN;
    }

    @hidden action note_gap() {
        own.close = own.close | CLOSE_GAP;
        peer.close = peer.close | CLOSE_PEER_GAP;
    }

    @hidden action forget_peer_gap() {
        own.close = own.close & ~CLOSE_PEER_GAP;
    }

    @hidden action take_acknowledged() { // the hole hid it from us
        peer.next = ack;
    }

    @hidden action acknowledge() {
        own.window = headers.tcp.window;
        own.ack = ack;
        own.close = own.close | CLOSE_HAVE_ACK;
    }

    // --- back to the registers ---------------------------------------------------------------------

    @hidden action find_look() {
        own.close = own.close & ~CLOSE_LOOK;
        peer.close = peer.close & ~CLOSE_LOOK;
        own.close = own.close & CLOSE_LOOK_FOR != 0
            || own.close & (CLOSE_PEER_FIN | CLOSE_PEER_FIN_ACKED) == CLOSE_PEER_FIN
            || (meta.direction == DIRECTION_INBOUND && IS_HALF_OPEN(own))
            ? own.close | CLOSE_LOOK : own.close;
        peer.close = peer.close & CLOSE_LOOK_FOR != 0
            || peer.close & (CLOSE_PEER_FIN | CLOSE_PEER_FIN_ACKED) == CLOSE_PEER_FIN
            || (meta.direction == DIRECTION_RETURNING && IS_HALF_OPEN(peer))
            ? peer.close | CLOSE_LOOK : peer.close;
    }

    @hidden action keep_both() {
        flow_states.write(meta.flow.index, COUNTED ++ own.close ++ own.flags ++ own.scale ++ own.next
                                           ++ own.ack ++ own.window
                                           ++ standard.ingress_global_timestamp);
        flow_states.write(peer_index, peer_state[STATE_COUNTS] ++ peer.close ++ peer.flags
                                      ++ peer.scale ++ peer.next ++ peer.ack ++ peer.window
                                      ++ peer_state[STATE_TIME]);
        flow_ends.write(meta.flow.index, own.fin_end ++ own.gap_from ++ own.gap_to);
        flow_ends.write(peer_index, peer.fin_end ++ peer.gap_from ++ peer.gap_to);
    }

    // --- reports -------------------------------------------------------------------------------

    @hidden action asked_for() {
        meta.flow.index = headers.packet_out.value;
        meta.up.reason = REASON_REPORT;
        meta.counter = COUNTER_NONE;
    }

    @hidden action report() {
        meta.asked = (meta.flow.index & 0xfffffffe) ++ standard.ingress_global_timestamp;
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
                if (headers.tcp.flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK) == TCP_ACK
                    && own_state[STATE_CLOSE] & CLOSE_ORDINARY == CLOSE_HAVE_SEQ | CLOSE_HAVE_ACK
                    && (own_state[STATE_NEXT] - seq)[31:31] == 0
                    && ack - own_state[STATE_ACK] + WINDOW_MINIMUM <= 2 * WINDOW_MINIMUM) {
                    if (meta.is_expired == 1) {
                        used_up();
                    } else {
                        if (own_state[STATE_NEXT] - seq > end - seq) {
                            sent_again();
                        }
                        if ((ack - own_state[STATE_ACK])[31:31] == 1) {
                            keep_acknowledged();
                        } else {
                            keep();
                        }
                    }
                } else {
                    read_peer();
                    is_silent = 0;
                    if (meta.direction == DIRECTION_INBOUND && IS_SYN(headers)
                        && !headers.packet_out.isValid() && own_state[STATE_PACKETS] != 0) {
                        who_listens();
                        find_silent();
                    }
                    // a client's SYN on an entry that only lingers is another connection
                    if (meta.direction == DIRECTION_INBOUND && IS_SYN(headers)
                        && own_state[STATE_CLOSE] & CLOSE_CLOSED != 0) {
                        begins_anew();
                    // the SYN of a client whose handshake the agent completes met no entry: what it says
                    // then does, with other numbers than before
                    } else if (meta.direction == DIRECTION_INBOUND && meta.has_offsets == 1
                               && own_state[STATE_CLOSE] & (CLOSE_CLOSED | CLOSE_HAVE_SEQ)
                                  == CLOSE_CLOSED | CLOSE_HAVE_SEQ
                               && headers.tcp.flags & (TCP_SYN | TCP_RST | TCP_ACK) == TCP_ACK
                               && seq - own_state[STATE_NEXT] + WINDOW_MINIMUM
                                  >= 2 * WINDOW_MINIMUM) {
                        begins_anew();
                    } else if (is_silent == 1) {
                        ask_again();
                    } else if (meta.is_expired == 1) {
                        used_up();
                    } else {
                        if (meta.direction == DIRECTION_INBOUND && IS_SYN(headers)) {
                            note_syn();
                        } else {
                            note_no_syn();
                        }
                    }
                    if (meta.verdict != VERDICT_OPEN || meta.direction == DIRECTION_NONE) {
                        // it is not the flow's, or goes up
                    } else if ((headers.tcp.flags & TCP_SYN != 0
                                ? headers.tcp.flags & (TCP_FIN | TCP_RST) != 0
                                : headers.tcp.flags & (TCP_RST | TCP_ACK) == 0)
                               || (headers.tcp.flags & (TCP_SYN | TCP_FIN | TCP_RST) != 0
                                   && standard.checksum_error == 1
                                   && !headers.packet_out.isValid())) {
                        keep_count(); // nobody sends it, or the other end drops it
                    } else {
                        unpack();
                        find_plausible();
                        if (own.close & CLOSE_ENDED == CLOSE_ENDED
                            && headers.tcp.flags & (TCP_SYN | TCP_RST | TCP_ACK) == TCP_ACK
                            && seq + 1 - own.next < WINDOW_MINIMUM && continues == 1) {
                            reopen();
                        }
                        if (own.close & CLOSE_CLOSED != 0) {
                            // what comes now is only translated
                        } else if (headers.tcp.flags & TCP_RST != 0) {
                            find_valid_reset();
                            if (continues == 1) {
                                reset();
                            }
                        } else if (headers.tcp.flags & TCP_SYN != 0) {
                            if (meta.direction == DIRECTION_INBOUND) {
                                if (headers.tcp.flags & TCP_ACK == 0) {
                                    if (own.close & CLOSE_HAVE_SEQ != 0 && own.next != seq + 1
                                        && (peer.close & CLOSE_HAVE_SEQ != 0
                                            || own.close & CLOSE_OWN_FIN == 0)) {
                                        let_wait();
                                    } else {
                                        if (own.close & CLOSE_HAVE_SEQ != 0
                                            && own.next != seq + 1) {
                                            begin_own_again();
                                        }
                                        take_scale();
                                        note_flags();
                                        if (own.close & CLOSE_HAVE_SEQ == 0
                                            || own.next - seq <= end - seq) {
                                            advance();
                                        }
                                    }
                                }
                            } else if (headers.tcp.flags & TCP_ACK != 0) {
                                if (answers_syn == 1) {
                                    begin_peer_again();
                                }
                                if ((IS_HALF_OPEN(peer) || own.close & CLOSE_HAVE_SEQ == 0)
                                    && (peer.close & CLOSE_HAVE_SEQ == 0
                                        || peer.next - ack < WINDOW_MINIMUM)) {
                                    if (IS_HALF_OPEN(peer) && own.close & CLOSE_HAVE_SEQ == 0) {
                                        want_answer();
                                    }
                                    answer();
                                    if (own.close & CLOSE_HAVE_ACK == 0
                                        || !IS_LATER(own.ack, ack)) {
                                        acknowledge();
                                    }
                                }
                            }
                        } else {
                            if (meta.direction == DIRECTION_INBOUND && IS_HALF_OPEN(own)) {
                                find_established();
                                if (continues == 1 && peer.close & CLOSE_HAVE_SEQ != 0
                                    && peer.next - ack >= WINDOW_MINIMUM) {
                                    take_earlier_answer();
                                }
                            } else if (meta.direction == DIRECTION_RETURNING && IS_HALF_OPEN(peer)
                                       && own.close & CLOSE_HAVE_SEQ == 0
                                       && peer.close & CLOSE_HAVE_SEQ != 0) {
                                find_meant();
                            }
                            if (continues == 1) {
                                note_flags();
                                if (own.close & CLOSE_HAVE_SEQ == 0
                                    || own.next - seq <= end - seq) {
                                    advance();
                                    if (own.close & CLOSE_GAP != 0
                                        && !IS_LATER(own.gap_from, own.next)) {
                                        pass_gap();
                                    }
                                    if (own_gap_ends == 1 || (headers.tcp.flags & TCP_FIN != 0
                                                              && own.next == end)) {
                                        note_fin();
                                    }
                                } else if (IS_LATER(seq, own.next) && seq != end) {
                                    // Packets were lost before they came here, or overtook each
                                    // other.  A piece far from the known one replaces it if it is
                                    // nearer to the hole, and is ignored if it is not: that is what
                                    // a stranger may have made up.
                                    if (own.close & CLOSE_GAP == 0
                                        || !IS_LATER(own.gap_to, own.next)
                                        || (seq - own.next < own.gap_from - own.next
                                            && IS_LATER(own.gap_from, end + WINDOW_MINIMUM))) {
                                        begin_gap();
                                        end_gap();
                                        note_gap();
                                    } else if (seq - own.next < own.gap_from - own.next
                                               || !IS_LATER(seq, own.gap_to + WINDOW_MINIMUM)) {
                                        if (IS_LATER(end, own.gap_to)) {
                                            end_gap();
                                        }
                                        widen_gap();
                                        note_gap();
                                    }
                                }
                                if (own.close & CLOSE_HAVE_ACK == 0 || !IS_LATER(own.ack, ack)) {
                                    acknowledge();
                                }
                                if (own.close & CLOSE_PEER_GAP != 0) {
                                    if (peer.close & CLOSE_GAP == 0) {
                                        forget_peer_gap();
                                    } else if (IS_LATER(ack, peer.next)
                                               && !IS_LATER(ack, peer.gap_to)) {
                                        take_acknowledged();
                                        if (!IS_LATER(peer.gap_from, peer.next)) {
                                            pass_peer_gap();
                                            if (peer_gap_ends == 1) {
                                                note_peer_fin();
                                            }
                                        }
                                    }
                                }
                                if (own.close & CLOSE_PEER_FIN != 0 && ack == own.fin_end) {
                                    acknowledge_fin();
                                    if (own.close & CLOSE_OWN_FIN_ACKED != 0) {
                                        close();
                                    }
                                }
                            }
                        }
                        find_look();
                        keep_both();
                        if (is_told == 1) {
                            tell_agent();
                            report();
                        }
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

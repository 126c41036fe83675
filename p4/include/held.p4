// SPDX-License-Identifier: Apache-2.0
// A flow whose handshakes the agent completes: its packets go up and change nothing
// (docs/design/0012-content.md).  The same entry without `is_held` is the splice, and keeps the counts.
//
//   index -> flow_states   the counts; and ACK, for the splice begins with an established connection
//            flow_ends     which period 32 | packets in it 32: what Track keeps there begins with bits of
//                          flow_states that are not set yet
#ifndef SPLITPLANE_HELD_P4
#define SPLITPLANE_HELD_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"
#include "track.p4"

// In a period of 131 ms, in one direction: one connection shall not take the agent's time from all others.
const bit<32> HELD_MAX = 512;

control Held(inout headers_t headers, inout metadata_t meta, in standard_metadata_t standard)(
             register<bit<288>> flow_states, register<bit<96>> flow_ends) {
    state_t own_state;
    bit<96> period;
    bit<32> packets;

    @hidden action drop(bit<32> outcome) {
        meta.verdict = VERDICT_DROP;
        meta.counter = outcome;
    }

    @hidden action count_in_period() {
        flow_ends.read(period, meta.flow.index);
        packets = period[95:64] == (bit<32>)(standard.ingress_global_timestamp >> 17)
            ? period[63:32] + 1 : 1;
        flow_ends.write(meta.flow.index, (bit<32>)(standard.ingress_global_timestamp >> 17) ++ packets
                                         ++ 32w0);
    }

    @hidden action up() {
        flow_states.read(own_state, meta.flow.index);
        own_state = own_state[STATE_COOKIE] == meta.flow.cookie ? own_state : meta.flow.cookie ++ 256w0;
        flow_states.write(meta.flow.index,
                          COUNTED ++ own_state[STATE_CLOSE] ++ TCP_ACK ++ own_state[135:48]
                          ++ standard.ingress_global_timestamp);
        meta.verdict = VERDICT_TO_AGENT;
        meta.counter = COUNTER_UP_CALLS;
        meta.up.reason = REASON_HELD;
    }

    apply {
        if (headers.packet_out.isValid() && headers.packet_out.value != INJECT_ARRIVAL) {
            drop(COUNTER_DROP_INJECT_UNMATCHED);
        } else if (meta.kind == KIND_FRAGMENT || meta.rare == RARE_FIRST_FRAGMENT) {
            drop(COUNTER_DROP_FRAGMENT);
        } else {
            count_in_period();
            if (packets > HELD_MAX) {
                drop(COUNTER_DROP_HELD_RATE);
            } else {
                up();
            }
        }
    }
}

#endif

// SPDX-License-Identifier: Apache-2.0
// Whether a packet goes up: somebody must listen, and not more come than it can take.
//
//   OPERATION_LISTEN -> listening    until when the agent wants packets, 2^16 ns
//   a copy           -> up_calls     packets a second; green while the agent has set nothing
//
// A millisecond of OPERATION_LISTEN is 16 * 2^16 ns here, 1.05 ms: nothing multiplies.
#ifndef SPLITPLANE_TNA_UP_CALLS_P4
#define SPLITPLANE_TNA_UP_CALLS_P4

#include "../include/ids.p4"
#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"

// Read at the beginning, because who needs it needs it late.
control Listening(inout frame_t headers, inout metadata_t meta) {
    Register<bit<32>, bit<1>>(2) listening; // place 0

    bit<32> until = 0;

    RegisterAction<bit<32>, bit<1>, bit<32>>(listening) set_listening = {
        void apply(inout bit<32> value) { value = until; }
    };
    RegisterAction<bit<32>, bit<1>, bit<32>>(listening) read_listening = {
        void apply(inout bit<32> value, out bit<32> kept) { kept = value; }
    };

    @hidden action scale() { // value: ms
        until = headers.packet_out.value << 4;
    }

    @hidden action add_now() {
        until = until + meta.now;
    }

    @hidden action listen() {
        set_listening.execute(0);
    }

    @hidden action look() {
        until = read_listening.execute(0);
    }

    @hidden action measure() {
        until = until - meta.now;
    }

    @hidden action note() {
        meta.detached = until[31:31];
    }

    apply {
        if (headers.packet_out.isValid() && headers.packet_out.operation == OPERATION_LISTEN) {
            scale();
            add_now();
            listen();
        } else {
            look();
            measure();
            note();
        }
    }
}

// In the egress, where the copies are.  A refused copy was counted as its outcome already.
control LimitCopies(in bit<8> reason, inout egress_intrinsic_metadata_for_deparser_t deparsing) {
    @id(UP_CALL_METER_ID)
    Meter<bit<1>>(2, MeterType_t.PACKETS) up_calls; // place 0
    @id(REFUSED_COPIES_ID)
    Counter<bit<64>, bit<1>>(2, CounterType_t.PACKETS) refused_copies; // place 0

    bit<8> colour = 0;

    @hidden action meter_it() {
        colour = up_calls.execute(0);
    }

    @hidden action refuse() {
        deparsing.drop_ctl = 1;
        refused_copies.count(0);
    }

    apply {
        if (reason != REASON_ENDED) { // which is nobody's question
            meter_it();
            if (colour == 3) { // red
                refuse();
            }
        }
    }
}

#endif

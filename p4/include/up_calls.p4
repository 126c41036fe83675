// SPDX-License-Identifier: Apache-2.0
// Whether a packet goes up: somebody must listen, and not more come than it can take.
//
//   OPERATION_LISTEN -> listening    until when the agent wants packets, us
//                       up_calls     packets a second; green while the agent has set nothing
//
// P4Runtime does not tell a switch that its agent is gone.  So the agent says again and again for how
// long it will be there, and says 0 when it leaves.
#ifndef SPLITPLANE_UP_CALLS_P4
#define SPLITPLANE_UP_CALLS_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"

control UpCalls(inout headers_t headers, inout metadata_t meta,
                inout standard_metadata_t standard)(register<bit<48>> listening) {
    @id(UP_CALL_METER_ID)
    meter(1, MeterType.packets) up_calls;

    bit<48> until = 0;
    bit<32> colour = 0;

    @hidden action listen() { // value: ms
        listening.write(0, standard.ingress_global_timestamp + (bit<48>)headers.packet_out.value * 1000);
    }

    // Who asks for us also says where he is (RFC 826, RFC 4861 7.2.3).
    @hidden action copy_question(port_t port) {
        meta.asked = ASKED_NEIGHBOUR ++ (bit<48>)port;
        clone_preserving_field_list(CloneType.I2E, CLONE_SESSION_AGENT, FIELDS_REPORT);
    }

    @hidden action look() {
        listening.read(until, 0);
        up_calls.execute_meter(0, colour);
    }

    // What was dropped for another reason anyway keeps that one's counter.
    @hidden action drop(bit<32> outcome) {
        meta.verdict = VERDICT_DROP;
        meta.counter = meta.counter == COUNTER_UP_CALLS ? outcome : meta.counter;
    }

    apply {
        if (headers.packet_out.isValid() && headers.packet_out.operation == OPERATION_LISTEN) {
            listen();
        } else if (meta.verdict == VERDICT_TO_AGENT && meta.up.reason != REASON_REPORT) {
            look();
            if (standard.ingress_global_timestamp > until) {
                drop(COUNTER_DROP_DETACHED);
            } else if (colour == 2) { // red
                drop(COUNTER_DROP_UP_CALL_FULL);
            }
        } else if (meta.verdict == VERDICT_ANSWER && !headers.packet_out.isValid()) {
            look();
            if (standard.ingress_global_timestamp <= until && colour != 2) {
                copy_question(standard.ingress_port);
            }
        }
    }
}

#endif

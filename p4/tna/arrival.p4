// SPDX-License-Identifier: Apache-2.0
// Where a frame came from, and whether it is for us: ../include/arrival.p4.
//
//   port -> interfaces -> (MAC, external?, internal?, OUTBOUND_QUERY?)
//
// A MAC address is compared by what is left of an XOR: a gateway does not compare two fields of
// 48 bits.
#ifndef SPLITPLANE_TNA_ARRIVAL_P4
#define SPLITPLANE_TNA_ARRIVAL_P4

#include "../include/ids.p4"
#include "../include/sizes.p4"
#include "headers.p4"
#include "metadata.p4"

control Arrival(inout frame_t headers, inout metadata_t meta,
                in ingress_intrinsic_metadata_t intrinsic) {
    bit<32> other_high = 0;
    bit<16> other_low = 0;

    @id(INTERFACE_FRAMES_ID)
    DirectCounter<bit<64>>(CounterType_t.PACKETS) interface_frames;

    @id(SET_INTERFACE_ID)
    action set_interface(@id(1) mac_t mac, @id(2) bit<1> external, @id(3) bit<1> internal,
                         @id(4) bit<1> outbound_query) {
        interface_frames.count();
        meta.arrival.mac = mac;
        meta.arrival.external = external;
        meta.arrival.internal = internal;
        meta.arrival.outbound_query = outbound_query;
        other_high = headers.ethernet.dst_addr[47:16] ^ mac[47:16];
        other_low = headers.ethernet.dst_addr[15:0] ^ mac[15:0];
    }

    @hidden action not_for_us() {
        meta.verdict = VERDICT_DROP;
        meta.outcome = (outcome_t)COUNTER_LOCAL;
    }

    @id(NO_INTERFACE_ID)
    action no_interface() {
        meta.verdict = VERDICT_DROP;
        meta.outcome = (outcome_t)COUNTER_LOCAL;
    }

    @id(INTERFACES_ID)
    table interfaces {
        key = {
            meta.arrival.port : exact @id(1) @name("port");
        }
        actions = {
            set_interface;
            @defaultonly no_interface;
        }
        const default_action = no_interface();
        counters = interface_frames;
        size = INTERFACES;
    }

    @hidden action from_port() {
        meta.arrival.port = intrinsic.ingress_port;
        meta.copy_kind = COPY_ARRIVED;
    }

    @hidden action inject() { // as if it arrived now; it must find its flow
        meta.arrival.port = headers.packet_out.port[8:0];
        meta.arrival.injected = 1;
        meta.copy_kind = COPY_INJECTED;
    }

    @hidden action inject_arrival() { // what waited for its next hop, flow or not
        meta.arrival.port = headers.packet_out.port[8:0];
        meta.copy_kind = COPY_INJECTED;
    }

    @hidden action send() {
        meta.verdict = VERDICT_ANSWER;
        meta.outcome = (outcome_t)COUNTER_NONE;
        meta.way.port = headers.packet_out.port[8:0];
    }

    @hidden action route() {
        meta.verdict = VERDICT_ROUTE;
        meta.outcome = (outcome_t)COUNTER_TRANSMITTED;
        meta.arrival.port = headers.packet_out.port[8:0];
        meta.copy_kind = COPY_INJECTED;
    }

    @hidden action report() {
        meta.is_asked = 1;
        meta.flow.inbound_role = ROLE_ASKED;
        meta.flow.return_role = ROLE_ASKED;
        meta.verdict = VERDICT_ANSWER;
        meta.outcome = (outcome_t)COUNTER_NONE;
        meta.way.port = PORT_CPU;
        meta.flow.index = headers.packet_out.value;
    }

    @hidden action obeyed() { // OPERATION_LISTEN, see up_calls.p4
        meta.verdict = VERDICT_DROP;
        meta.outcome = (outcome_t)COUNTER_NONE;
    }

    @hidden table operations {
        key = {
            headers.packet_out.operation : ternary;
            headers.packet_out.value : ternary;
        }
        actions = {
            inject;
            inject_arrival;
            send;
            route;
            report;
            obeyed;
        }
        const entries = {
            (OPERATION_INJECT, INJECT_ARRIVAL) : inject_arrival();
            (OPERATION_INJECT, _) : inject();
            (OPERATION_SEND, _) : send();
            (OPERATION_ROUTE, _) : route();
            (OPERATION_REPORT, _) : report();
        }
        const default_action = obeyed();
        size = 8;
    }

    apply {
        if (headers.packet_out.isValid()) {
            operations.apply();
        } else {
            from_port();
        }
        if (meta.verdict == VERDICT_OPEN) {
            interfaces.apply();
            // another station's frame is heard because a switch before us floods
            if (meta.verdict == VERDICT_OPEN && headers.ethernet.dst_addr[40:40] == 0) {
                if (other_high != 0) {
                    not_for_us();
                } else if (other_low != 0) {
                    not_for_us();
                }
            }
        }
    }
}

#endif

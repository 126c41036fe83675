// SPDX-License-Identifier: Apache-2.0
// Where a frame came from, and whether it is for us.
//
//   port -> interfaces -> (MAC, external?, internal?, OUTBOUND_QUERY?)
//
// A frame from the agent says itself what is to be done with it.
#ifndef SPLITPLANE_ARRIVAL_P4
#define SPLITPLANE_ARRIVAL_P4

#include "headers.p4"
#include "ids.p4"
#include "metadata.p4"

control Arrival(inout headers_t headers, inout metadata_t meta,
                inout standard_metadata_t standard) {
    @id(INTERFACE_FRAMES_ID)
    direct_counter(CounterType.packets) interface_frames;

    @id(SET_INTERFACE_ID)
    action set_interface(@id(1) mac_t mac, @id(2) bit<1> external, @id(3) bit<1> internal,
                         @id(4) bit<1> outbound_query) {
        interface_frames.count();
        meta.arrival.mac = mac;
        meta.arrival.external = external;
        meta.arrival.internal = internal;
        meta.arrival.outbound_query = outbound_query;
    }

    @id(NO_INTERFACE_ID)
    action no_interface() {}

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

    @hidden action from_agent() {
        meta.arrival.port = (port_t)headers.packet_out.port;
        meta.arrival.length = meta.arrival.length - 8; // a packet_out
    }

    @hidden action send() {
        meta.verdict = VERDICT_ANSWER;
        meta.way.port = (port_t)headers.packet_out.port;
    }

    @hidden action route() {
        meta.verdict = VERDICT_ROUTE;
        meta.counter = COUNTER_TRANSMITTED;
        meta.way.towards = meta.key.dst_addr;
    }

    @hidden action obeyed() { // OPERATION_LISTEN, see up_calls.p4
        meta.verdict = VERDICT_DROP;
        meta.counter = COUNTER_NONE;
    }

    @hidden action not_for_us() {
        meta.verdict = VERDICT_DROP;
        meta.counter = COUNTER_LOCAL;
    }

    apply {
        meta.arrival.port = standard.ingress_port;
        meta.arrival.length = standard.packet_length;
        if (headers.packet_out.isValid()) {
            from_agent();
            if (headers.packet_out.operation == OPERATION_SEND) {
                send();
            } else if (headers.packet_out.operation == OPERATION_ROUTE) {
                route();
            } else if (headers.packet_out.operation == OPERATION_INJECT) {
                // what waited for its next hop arrives again; a flow's packet must find the flow
                if (headers.packet_out.value != INJECT_ARRIVAL) {
                    meta.arrival.injected = 1;
                }
            } else if (headers.packet_out.operation == OPERATION_REPORT) {
                meta.is_asked = 1;
            } else {
                obeyed();
            }
        }
        if (meta.verdict == VERDICT_OPEN && meta.is_asked == 0) {
            // another station's frame is heard because a switch before us floods
            if (interfaces.apply().miss || (headers.ethernet.dst_addr != meta.arrival.mac
                                            && headers.ethernet.dst_addr[40:40] == 0)) {
                not_for_us();
            }
        }
    }
}

#endif

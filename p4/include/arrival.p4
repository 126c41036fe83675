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

    // Another station's frame is heard because a switch before us floods.
    @id(SET_INTERFACE_ID)
    action set_interface(@id(1) mac_t mac, @id(2) bit<1> external, @id(3) bit<1> internal,
                         @id(4) bit<1> outbound_query) {
        interface_frames.count();
        meta.arrival.external = external;
        meta.arrival.internal = internal;
        meta.arrival.outbound_query = outbound_query;
        if (headers.ethernet.dst_addr != mac) {
            if (headers.ethernet.dst_addr[40:40] == 0) {
                meta.verdict = VERDICT_DROP;
                meta.kind = KIND_DECIDED;
                meta.counter = COUNTER_LOCAL;
            } else {
                meta.arrival.mac = mac;
            }
        }
    }

    @id(NO_INTERFACE_ID)
    action no_interface() {
        meta.verdict = VERDICT_DROP;
        meta.kind = KIND_DECIDED;
        meta.counter = COUNTER_LOCAL;
    }

    @id(INTERFACES_ID)
    table interfaces {
        key = {
            standard.ingress_port : exact @id(1) @name("port");
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
        standard.ingress_port = (port_t)headers.packet_out.port;
    }

    @hidden action decide(verdict_t verdict) {
        meta.verdict = verdict;
        meta.kind = KIND_DECIDED;
        meta.counter = COUNTER_NONE;
    }

    @hidden action ask() {
        decide(VERDICT_TO_AGENT);
        meta.direction = DIRECTION_ASKED;
    }

    @hidden action send() {
        decide(VERDICT_ANSWER);
        standard.egress_spec = (port_t)headers.packet_out.port;
    }

    @hidden action route() {
        decide(VERDICT_ROUTE);
        meta.counter = COUNTER_TRANSMITTED;
        meta.towards = headers.ipv4.isValid() || headers.ipv6.isValid() ? meta.key.dst_addr : 0;
    }

    apply {
        if (headers.packet_out.isValid()) {
            from_agent();
            if (headers.packet_out.operation == OPERATION_SEND) {
                send();
            } else if (headers.packet_out.operation == OPERATION_ROUTE) {
                route();
            } else if (headers.packet_out.operation == OPERATION_REPORT) {
                ask(); // see track.p4
            } else if (headers.packet_out.operation != OPERATION_INJECT) {
                decide(VERDICT_DROP); // OPERATION_LISTEN, see up_calls.p4
            }
        }
        if (meta.verdict == VERDICT_OPEN) {
            interfaces.apply();
        }
    }
}

#endif

// SPDX-License-Identifier: Apache-2.0
// The last of a packet that goes its way: time to live, tunnel.
#ifndef SPLITPLANE_LEAVE_P4
#define SPLITPLANE_LEAVE_P4

#include "headers.p4"
#include "metadata.p4"
#include "sums.p4"

control Leave(inout headers_t headers, inout metadata_t meta) {
    @hidden action decrement_ipv4() {
        headers.ipv4.ttl = headers.ipv4.ttl - 1;
        headers.ipv4.checksum = ~headers.ipv4.checksum;
        CHECKSUM(headers.ipv4.checksum, { headers.ipv4.checksum, TTL_DELTA })
    }

    @hidden action decrement_ipv6() {
        headers.ipv6.hop_limit = headers.ipv6.hop_limit - 1;
    }

    // The type of service is copied (RFC 2983).
    @hidden action tunnel_ipv4() { // RFC 2003
        headers.outer_ipv4.setValid();
        headers.outer_ipv4.version = 4;
        headers.outer_ipv4.ihl = 5;
        headers.outer_ipv4.tos = headers.ipv4.tos;
        headers.outer_ipv4.total_length = meta.ip.length + 20;
        headers.outer_ipv4.identification = 0;
        headers.outer_ipv4.flags = 2; // don't fragment
        headers.outer_ipv4.fragment_offset = 0;
        headers.outer_ipv4.ttl = TUNNEL_TTL;
        headers.outer_ipv4.protocol = PROTOCOL_IPV4;
        headers.outer_ipv4.checksum = 0;
        headers.outer_ipv4.src_addr = meta.way.tunnel_src[31:0];
        headers.outer_ipv4.dst_addr = meta.flow.node[31:0];
    }

    @hidden action sum_tunnel_ipv4() {
        CHECKSUM(headers.outer_ipv4.checksum,
                 { headers.outer_ipv4.version, headers.outer_ipv4.ihl, headers.outer_ipv4.tos,
                   headers.outer_ipv4.total_length, headers.outer_ipv4.identification,
                   headers.outer_ipv4.flags, headers.outer_ipv4.fragment_offset,
                   headers.outer_ipv4.ttl, headers.outer_ipv4.protocol,
                   headers.outer_ipv4.src_addr, headers.outer_ipv4.dst_addr })
    }

    @hidden action tunnel_ipv6() { // RFC 2473
        headers.outer_ipv6.setValid();
        headers.outer_ipv6.version = 6;
        headers.outer_ipv6.traffic_class = headers.ipv6.traffic_class;
        headers.outer_ipv6.flow_label = 0;
        headers.outer_ipv6.payload_length = meta.ip.length;
        headers.outer_ipv6.next_header = PROTOCOL_IPV6;
        headers.outer_ipv6.hop_limit = TUNNEL_TTL;
        headers.outer_ipv6.src_addr = meta.way.tunnel_src;
        headers.outer_ipv6.dst_addr = meta.flow.node;
    }

    apply {
        // flows and errors have it done with their addresses; the agent's own begin their life here
        if (meta.direction == DIRECTION_NONE && meta.counter == COUNTER_PASSED) {
            if (headers.ipv4.isValid()) {
                decrement_ipv4();
            } else {
                decrement_ipv6();
            }
        }
        if (meta.room != 0) {
            if (headers.ipv4.isValid()) {
                tunnel_ipv4();
                sum_tunnel_ipv4();
            } else {
                tunnel_ipv6();
            }
        }
    }
}

// What goes up to the agent in front of a frame.
control TellAgent(inout headers_t headers, in metadata_t meta,
                  in standard_metadata_t standard) {
    @hidden action describe(bit<8> reason, bit<16> port) {
        headers.packet_in.setValid(); // which makes what is not set 0
        headers.packet_in.reason = reason;
        headers.packet_in.port = port;
    }

    @hidden action add_protocol() {
        headers.packet_in.protocol = meta.key.protocol;
    }

    @hidden action add_ports() {
        headers.packet_in.src_port = meta.key.src_port;
        headers.packet_in.dst_port = meta.key.dst_port;
    }

    @hidden action add_server() {
        headers.packet_in.server = meta.up.server;
    }

    @hidden action add_value() {
        headers.packet_in.value = meta.up.value;
    }

    @hidden action add_report() {
        headers.report.setValid();
        headers.report.asked = meta.asked;
        headers.report.inbound = meta.inbound;
        headers.report.returning = meta.returning;
    }

    @hidden action add_address() {
        headers.resolve.setValid();
        headers.resolve.address = meta.towards;
        headers.resolve.port = (bit<16>)meta.way.port;
    }

    apply {
        if (meta.verdict == VERDICT_TO_AGENT) {
            describe(meta.up.reason, (bit<16>)standard.ingress_port);
            if (headers.ipv4.isValid() || headers.ipv6.isValid()) {
                add_protocol();
            }
            if (meta.kind >= KIND_TCP && meta.kind <= KIND_SOURCE_ROUTED) {
                add_ports();
            }
        } else if (meta.asked[79:48] == ASKED_NEIGHBOUR) { // a copy has no verdict, and no port
            describe(REASON_NEIGHBOUR, meta.asked[15:0]);
        } else {
            describe(REASON_CLOSED, 0);
        }
        if (headers.packet_in.reason == REASON_CLOSED
            || headers.packet_in.reason == REASON_REPORT) {
            add_report();
        } else if (headers.packet_in.reason == REASON_RESOLVE) {
            add_value();
            add_address();
        } else if (headers.packet_in.reason == REASON_TOO_BIG) {
            add_value();
        } else if (headers.packet_in.reason == REASON_NEW_FLOW
                   || headers.packet_in.reason == REASON_BRIDGED
                   || headers.packet_in.reason == REASON_PROXIED) {
            add_server();
        }
    }
}

#endif

// SPDX-License-Identifier: Apache-2.0
// The last of a packet that goes its way.
//
//   ports -> the flow's;  time to live -> one less;  in a tunnel: -> outer header in front
#ifndef SPLITPLANE_TNA_LEAVE_P4
#define SPLITPLANE_TNA_LEAVE_P4

#include "headers.p4"
#include "metadata.p4"

control Leave(inout frame_t headers, inout metadata_t meta) {
    @hidden action set_ports() {
        headers.ports.src_port = meta.flow.new_src_port;
        headers.ports.dst_port = meta.flow.new_dst_port;
    }

    @hidden action decrement_ipv4() {
        headers.ipv4.ttl = headers.ipv4.ttl - 1;
    }

    @hidden action decrement_ipv6() {
        headers.ipv6.hop_limit = headers.ipv6.hop_limit - 1;
    }

    // The type of service is copied (RFC 2983); tunnel_sources has set the source.
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
        headers.outer_ipv4.dst_addr = meta.way.towards[31:0];
    }

    @hidden action tunnel_ipv6() { // RFC 2473
        headers.outer_ipv6.setValid();
        headers.outer_ipv6.version = 6;
        headers.outer_ipv6.traffic_class = headers.ipv6.traffic_class;
        headers.outer_ipv6.flow_label = 0;
        headers.outer_ipv6.payload_length = meta.ip.length;
        headers.outer_ipv6.next_header = PROTOCOL_IPV6;
        headers.outer_ipv6.hop_limit = TUNNEL_TTL;
        headers.outer_ipv6.dst_addr = meta.way.towards;
    }

    apply {
        if (meta.flow.found == 1 && headers.ports.isValid()) {
            set_ports();
        }
        if (meta.is_own_packet == 0) { // the agent's own begin their life here
            if (headers.ipv4.isValid()) {
                decrement_ipv4();
            } else if (headers.ipv6.isValid()) {
                decrement_ipv6();
            }
        }
        if (meta.flow.is_tunnel == 1) {
            if (headers.ipv4.isValid()) {
                tunnel_ipv4();
            } else {
                tunnel_ipv6();
            }
        }
    }
}

#endif

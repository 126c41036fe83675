// SPDX-License-Identifier: Apache-2.0
// Puts the headers back into the order in which they were found, finishes their checksums with
// what they hold now, and makes the copies for the agent.
//
//   frame: packet_in? report?  ethernet vlan* outer? ip ... -> the port that the ingress chose
//   copy:  words, the frame as it arrived                   -> MIRROR_SESSION_AGENT, copies.p4
#ifndef SPLITPLANE_TNA_DEPARSER_P4
#define SPLITPLANE_TNA_DEPARSER_P4

#include "headers.p4"
#include "metadata.p4"

control SegmentDeparser(packet_out packet, inout frame_t headers, in metadata_t meta,
                        in ingress_intrinsic_metadata_for_deparser_t deparsing) {
    Checksum() ipv4_sum;
    Checksum() outer_ipv4_sum;
    Checksum() tcp_sum;
    Checksum() udp_sum;
    Checksum() nd_sum;
    Mirror() up;
    Mirror() up_resolve;

    apply {
        if (deparsing.mirror_type == MIRROR_UP) {
            up.emit<copy_t>(meta.session, { meta.copy_kind, meta.reason, meta.ip.protocol,
                                            meta.up_port, meta.ports, meta.server,
                                            meta.value });
        }
        if (deparsing.mirror_type == MIRROR_RESOLVE) {
            up_resolve.emit<copy_resolve_t>(meta.session, { meta.copy_kind, meta.reason,
                                                            meta.up_port, meta.up_out_port,
                                                            meta.way.towards });
        }
        if (headers.ipv4.isValid()) {
            headers.ipv4.checksum = ipv4_sum.update({
                headers.ipv4.version, headers.ipv4.ihl, headers.ipv4.tos,
                headers.ipv4.total_length, headers.ipv4.identification, headers.ipv4.flags,
                headers.ipv4.fragment_offset, headers.ipv4.ttl, headers.ipv4.protocol,
                headers.ipv4.src_addr, headers.ipv4.dst_addr });
        }
        if (headers.outer_ipv4.isValid()) {
            headers.outer_ipv4.checksum = outer_ipv4_sum.update({
                headers.outer_ipv4.version, headers.outer_ipv4.ihl, headers.outer_ipv4.tos,
                headers.outer_ipv4.total_length, headers.outer_ipv4.identification,
                headers.outer_ipv4.flags, headers.outer_ipv4.fragment_offset,
                headers.outer_ipv4.ttl, headers.outer_ipv4.protocol,
                headers.outer_ipv4.src_addr, headers.outer_ipv4.dst_addr });
        }
        if (headers.tcp.isValid()) {
            headers.tcp.checksum = tcp_sum.update({
                headers.ipv4.src_addr, headers.ipv4.dst_addr, headers.ipv6.src_addr,
                headers.ipv6.dst_addr, headers.ports.src_port, headers.ports.dst_port,
                headers.tcp.seq, headers.tcp.ack, headers.tcp.window,
                headers.tcp_timestamps.value, headers.tcp_timestamps.echo,
                headers.tcp_sack_4.left, headers.tcp_sack_4.right,
                headers.tcp_sack_3.left, headers.tcp_sack_3.right,
                headers.tcp_sack_2.left, headers.tcp_sack_2.right,
                headers.tcp_sack_1.left, headers.tcp_sack_1.right, meta.tcp_sum });
        }
        if (meta.has_udp_sum == 1) { // where none was made none is made up (RFC 768)
            headers.udp.checksum = udp_sum.update({
                headers.ipv4.src_addr, headers.ipv4.dst_addr, headers.ipv6.src_addr,
                headers.ipv6.dst_addr, headers.ports.src_port, headers.ports.dst_port,
                meta.udp_sum }, true);
        }
        if (headers.nd_link_address.isValid()) {
            headers.icmp.checksum = nd_sum.update({
                headers.ipv6.src_addr, headers.ipv6.dst_addr, headers.ipv6.payload_length,
                headers.icmp.kind, headers.icmp.code, headers.icmp.rest,
                headers.nd_target.target, headers.nd_link_address.kind,
                headers.nd_link_address.length, headers.nd_link_address.mac, meta.nd_sum });
        }
        packet.emit(headers.packet_in);
        packet.emit(headers.report);
        packet.emit(headers.registers);
        packet.emit(headers.ethernet);
        packet.emit(headers.vlan);
        packet.emit(headers.arp);
        packet.emit(headers.outer_ipv4);
        packet.emit(headers.outer_ipv6);
        packet.emit(headers.ipv4);
        packet.emit(headers.ipv6);
        packet.emit(headers.ipv6_fragment);
        packet.emit(headers.icmp);
        packet.emit(headers.nd_target);
        packet.emit(headers.nd_option);
        packet.emit(headers.nd_link_address);
        packet.emit(headers.ports);
        packet.emit(headers.tcp);
        packet.emit(headers.tcp_timestamps);
        packet.emit(headers.tcp_sack);
        packet.emit(headers.tcp_sack_4);
        packet.emit(headers.tcp_sack_3);
        packet.emit(headers.tcp_sack_2);
        packet.emit(headers.tcp_sack_1);
        packet.emit(headers.udp);
    }
}

#endif

// SPDX-License-Identifier: Apache-2.0
// Finds a frame's headers, and takes out of its checksums what may change: the deparser adds what
// has come instead, so that a right one stays right, a wrong one wrong, and no payload is read.
//
//   packet_out?  ethernet  vlan* -+- arp
//                                 +- ipv4 ------------+- ports -+- tcp (timestamps? sack?)
//                                 +- ipv6 fragment? --+         +- udp
//                                                     +- icmp -- nd_target nd_option?
//
//   bits -> headers; checksum less addresses, ports, numbers -> tcp_sum, udp_sum, nd_sum
//
// What stands behind IPv4 options or IPv6 extension headers is not read: such a packet is the
// agent's to look at, if it is for a virtual server.
#ifndef SPLITPLANE_TNA_PARSER_P4
#define SPLITPLANE_TNA_PARSER_P4

#include "headers.p4"
#include "metadata.p4"

const bit<32> OPTIONS_TIMESTAMPS = 0x0101080a;
const bit<32> OPTIONS_SACK_1 = 0x0101050a;
const bit<32> OPTIONS_SACK_2 = 0x01010512;
const bit<32> OPTIONS_SACK_3 = 0x0101051a;
const bit<32> OPTIONS_SACK_4 = 0x01010522;

parser SegmentParser(packet_in packet, out frame_t headers, out metadata_t meta,
                     out ingress_intrinsic_metadata_t intrinsic) {
    Checksum() ipv4_sum;
    Checksum() tcp_sum;
    Checksum() udp_sum;
    Checksum() nd_sum;

    state start {
        packet.extract(intrinsic);
        packet.advance(PORT_METADATA_SIZE);
        transition select(intrinsic.ingress_port) {
            PORT_CPU: parse_packet_out;
            default: parse_ethernet;
        }
    }

    state parse_packet_out {
        packet.extract(headers.packet_out);
        transition select(headers.packet_out.operation) {
            OPERATION_INJECT: parse_ethernet;
            OPERATION_ROUTE: note_own;
            default: parse_only_ethernet; // so that no table is asked about the rest
        }
    }

    state parse_only_ethernet {
        packet.extract(headers.ethernet);
        transition accept;
    }

    state note_own {
        meta.is_own_packet = 1;
        transition parse_ethernet;
    }

    // --- link ------------------------------------------------------------------------------------

    state parse_ethernet {
        packet.extract(headers.ethernet);
        transition select(headers.ethernet.ether_type) {
            TYPE_IPV4: parse_ipv4;
            TYPE_IPV6: parse_ipv6;
            TYPE_ARP: parse_arp;
            TYPE_VLAN: parse_vlan;
            TYPE_PROVIDER_VLAN: parse_vlan;
            default: accept;
        }
    }

    state parse_vlan {
        packet.extract(headers.vlan.next);
        transition select(headers.vlan.last.ether_type) {
            TYPE_IPV4: parse_ipv4;
            TYPE_IPV6: parse_ipv6;
            TYPE_ARP: parse_arp;
            TYPE_VLAN: parse_inner_vlan;
            TYPE_PROVIDER_VLAN: parse_inner_vlan;
            default: accept;
        }
    }

    state parse_inner_vlan { // a third tag is payload
        packet.extract(headers.vlan.next);
        transition select(headers.vlan.last.ether_type) {
            TYPE_IPV4: parse_ipv4;
            TYPE_IPV6: parse_ipv6;
            TYPE_ARP: parse_arp;
            default: accept;
        }
    }

    state parse_arp {
        packet.extract(headers.arp);
        transition select(headers.arp.operation) {
            1: parse_arp_request;
            2: note_neighbour;
            default: accept;
        }
    }

    state parse_arp_request {
        transition select(headers.arp.hardware, headers.arp.protocol) {
            (1, TYPE_IPV4): parse_arp_lengths;
            default: accept;
        }
    }

    state parse_arp_lengths {
        transition select(headers.arp.hardware_length, headers.arp.protocol_length) {
            (6, 4): note_question;
            default: accept;
        }
    }

    state note_question {
        meta.is_question = 1;
        transition accept;
    }

    // --- IPv4 ------------------------------------------------------------------------------------

    state parse_ipv4 {
        packet.extract(headers.ipv4);
        ipv4_sum.add(headers.ipv4);
        meta.ip.bad_checksum = ipv4_sum.verify();
        tcp_sum.subtract({ headers.ipv4.src_addr, headers.ipv4.dst_addr });
        udp_sum.subtract({ headers.ipv4.src_addr, headers.ipv4.dst_addr });
        transition select(headers.ipv4.ihl) {
            5: parse_ipv4_payload;
            4: accept; // Decide drops what is too short
            0 &&& 0xc: accept;
            default: unreadable;
        }
    }

    state parse_ipv4_payload {
        transition select(headers.ipv4.flags, headers.ipv4.fragment_offset) {
            (0 &&& 1, 0): parse_ipv4_transport;
            (1 &&& 1, 0): parse_ipv4_first_fragment;
            default: later_fragment;
        }
    }

    state parse_ipv4_first_fragment {
        meta.ip.first_fragment = 1;
        transition parse_ipv4_transport;
    }

    state parse_ipv4_transport {
        transition select(headers.ipv4.protocol) {
            PROTOCOL_TCP: parse_tcp;
            PROTOCOL_UDP: parse_udp;
            PROTOCOL_ICMP: parse_icmp;
            default: accept;
        }
    }

    state later_fragment { // its ports went by in the first one
        meta.ip.later_fragment = 1;
        meta.ip.is_transport = 1; // if its protocol is TCP or UDP; tables look at that
        transition accept;
    }

    state unreadable {
        meta.ip.unreadable = 1;
        transition accept;
    }

    // --- IPv6 ------------------------------------------------------------------------------------

    state parse_ipv6 {
        packet.extract(headers.ipv6);
        tcp_sum.subtract({ headers.ipv6.src_addr, headers.ipv6.dst_addr });
        udp_sum.subtract({ headers.ipv6.src_addr, headers.ipv6.dst_addr });
        nd_sum.subtract({ headers.ipv6.src_addr, headers.ipv6.dst_addr,
                          headers.ipv6.payload_length });
        transition select(headers.ipv6.next_header) {
            PROTOCOL_TCP: parse_tcp;
            PROTOCOL_UDP: parse_udp;
            PROTOCOL_ICMPV6: parse_icmpv6;
            PROTOCOL_FRAGMENT: parse_ipv6_fragment;
            PROTOCOL_HOP_BY_HOP: unreadable;
            PROTOCOL_ROUTING: unreadable;
            PROTOCOL_DESTINATION: unreadable;
            default: accept;
        }
    }

    state parse_ipv6_fragment {
        packet.extract(headers.ipv6_fragment);
        transition select(headers.ipv6_fragment.place) {
            0 &&& 0xfff9: parse_ipv6_transport; // the only one
            1 &&& 0xfff9: parse_ipv6_first_fragment;
            default: later_fragment;
        }
    }

    state parse_ipv6_first_fragment {
        meta.ip.first_fragment = 1;
        transition parse_ipv6_transport;
    }

    state parse_ipv6_transport {
        transition select(headers.ipv6_fragment.next_header) {
            PROTOCOL_TCP: parse_tcp;
            PROTOCOL_UDP: parse_udp;
            default: unreadable;
        }
    }

    // --- transport -------------------------------------------------------------------------------

    state parse_tcp {
        packet.extract(headers.ports);
        packet.extract(headers.tcp);
        meta.ip.is_transport = 1;
        tcp_sum.subtract({ headers.ports.src_port, headers.ports.dst_port, headers.tcp.seq,
                           headers.tcp.ack, headers.tcp.window, headers.tcp.checksum });
        transition select(headers.tcp.data_offset) {
            8: parse_options_8;
            10: expect_sack_2;
            11: parse_timestamps;
            12: expect_sack_3;
            13: parse_timestamps;
            14: expect_sack_4;
            15: parse_timestamps;
            5: end_tcp;
            default: unreadable_options;
        }
    }

    state parse_options_8 { // 12 octets
        transition select(packet.lookahead<bit<32>>()) {
            OPTIONS_TIMESTAMPS: parse_timestamps;
            OPTIONS_SACK_1: parse_sack_1;
            default: unreadable_options;
        }
    }

    state parse_timestamps {
        transition select(packet.lookahead<bit<32>>()) {
            OPTIONS_TIMESTAMPS: take_timestamps;
            default: unreadable_options;
        }
    }

    state take_timestamps {
        packet.extract(headers.tcp_timestamps);
        tcp_sum.subtract({ headers.tcp_timestamps.value, headers.tcp_timestamps.echo });
        transition select(headers.tcp.data_offset) {
            11: expect_sack_1;
            13: expect_sack_2;
            15: expect_sack_3;
            default: end_tcp;
        }
    }

#define SACK(n)                                                                                  \
    state expect_sack_##n {                                                                      \
        transition select(packet.lookahead<bit<32>>()) {                                         \
            OPTIONS_SACK_##n: parse_sack_##n;                                                    \
            default: unreadable_options;                                                         \
        }                                                                                        \
    }                                                                                            \
    state parse_sack_##n {                                                                       \
        packet.extract(headers.tcp_sack);                                                        \
        transition parse_block_##n;                                                              \
    }
#define SACK_BLOCK(n, following)                                                                 \
    state parse_block_##n {                                                                      \
        packet.extract(headers.tcp_sack_##n);                                                    \
        tcp_sum.subtract({ headers.tcp_sack_##n.left, headers.tcp_sack_##n.right });             \
        transition following;                                                                    \
    }
    SACK(1) SACK(2) SACK(3) SACK(4)
    SACK_BLOCK(4, parse_block_3) SACK_BLOCK(3, parse_block_2) SACK_BLOCK(2, parse_block_1)
    SACK_BLOCK(1, end_tcp)

    state unreadable_options { // a flow with offsets is the agent's with such a packet
        meta.tcp.options_unreadable = 1;
        transition end_tcp;
    }

    state end_tcp {
        tcp_sum.subtract_all_and_deposit(meta.tcp_sum);
        transition accept;
    }

    state parse_udp {
        packet.extract(headers.ports);
        packet.extract(headers.udp);
        meta.ip.is_transport = 1;
        udp_sum.subtract({ headers.ports.src_port, headers.ports.dst_port, headers.udp.checksum });
        udp_sum.subtract_all_and_deposit(meta.udp_sum);
        transition accept;
    }

    // --- ICMP ------------------------------------------------------------------------------------

    state parse_icmp {
        packet.extract(headers.icmp);
        transition select(headers.icmp.kind) {
            3: note_error; // a redirect (5) concerns one link and stays there
            4: note_error;
            11: note_error;
            12: note_error;
            default: accept;
        }
    }

    state note_error {
        meta.ip.is_error = 1;
        transition accept;
    }

    state parse_icmpv6 {
        packet.extract(headers.icmp);
        nd_sum.subtract({ headers.icmp.kind, headers.icmp.code, headers.icmp.checksum,
                          headers.icmp.rest });
        transition select(headers.icmp.kind) {
            1: note_error;
            2: note_error;
            3: note_error;
            4: note_error;
            ICMPV6_SOLICITATION: parse_solicitation;
            ICMPV6_ADVERTISEMENT: parse_advertisement;
            default: accept;
        }
    }

    state parse_solicitation { // RFC 4861 7.1.1: what has passed a router is not one
        transition select(headers.icmp.code, headers.ipv6.hop_limit) {
            (0, 255): parse_solicitation_length;
            default: accept;
        }
    }

    state parse_solicitation_length { // with more options it is the agent's to answer
        transition select(headers.ipv6.payload_length) {
            24: parse_nd_target;
            32: parse_nd_target_option;
            default: note_neighbour;
        }
    }

    state parse_nd_target {
        packet.extract(headers.nd_target);
        nd_sum.subtract({ headers.nd_target.target });
        transition end_nd;
    }

    state parse_nd_target_option {
        packet.extract(headers.nd_target);
        packet.extract(headers.nd_option);
        nd_sum.subtract({ headers.nd_target.target, headers.nd_option.data });
        transition end_nd;
    }

    state end_nd {
        nd_sum.subtract_all_and_deposit(meta.nd_sum);
        transition note_question;
    }

    state parse_advertisement {
        transition select(headers.ipv6.hop_limit) {
            255: note_neighbour;
            default: accept;
        }
    }

    state note_neighbour {
        meta.is_neighbour = 1;
        transition accept;
    }
}

#endif

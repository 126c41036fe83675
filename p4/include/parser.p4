// SPDX-License-Identifier: Apache-2.0
// Finds a frame's headers.
//
//   packet_out?  ethernet  vlan* -+- arp
//                                 +- ipv4 options? ---+- tcp options*
//                                 +- ipv6 extension* -+- udp
//                                                     +- icmp -+- nd_target nd_options?
//                                                              +- quoted ipv4|ipv6 - tcp | udp
//
// Lengths that contradict each other are the ingress's to find (classify.p4); here nothing is read
// beyond the frame, which is what `parser_error` says then.
#ifndef SPLITPLANE_PARSER_P4
#define SPLITPLANE_PARSER_P4

#include "headers.p4"
#include "metadata.p4"

parser FrameParser(packet_in packet, out headers_t headers, inout metadata_t meta,
                   inout standard_metadata_t standard) {
    state start {
        transition select(standard.ingress_port, meta.rare) {
            (PORT_AGENT, _): parse_packet_out;
            (0, RARE_AGAIN): come_again; // BMv2 forgets the port
            default: parse_ethernet;
        }
    }

    state come_again {
        standard.ingress_port = meta.came_by;
        transition parse_ethernet;
    }

    state parse_packet_out {
        packet.extract(headers.packet_out);
        meta.extra = 8;
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
        meta.extra = meta.extra + 4;
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
        meta.extra = meta.extra + 4;
        transition select(headers.vlan.last.ether_type) {
            TYPE_IPV4: parse_ipv4;
            TYPE_IPV6: parse_ipv6;
            TYPE_ARP: parse_arp;
            default: accept;
        }
    }

    state parse_arp {
        packet.extract(headers.arp);
        meta.kind = KIND_ARP;
        transition accept;
    }

    // --- IPv4 ------------------------------------------------------------------------------------

    state parse_ipv4 {
        packet.extract(headers.ipv4);
        meta.key.src_addr = IPV4_PREFIX ++ headers.ipv4.src_addr;
        meta.key.dst_addr = IPV4_PREFIX ++ headers.ipv4.dst_addr;
        meta.key.protocol = headers.ipv4.protocol;
        meta.ip.length = headers.ipv4.total_length;
        meta.ip.payload = headers.ipv4.total_length - ((bit<16>)headers.ipv4.ihl << 2);
        transition select(headers.ipv4.version, headers.ipv4.ihl, headers.ipv4.ttl,
                          headers.ipv4.flags, headers.ipv4.fragment_offset,
                          headers.ipv4.protocol) {
            (4, 5 .. 15, 0 &&& 0xfe, _, _, _): parse_ipv4_expired;
            (4, 5, _, 0 &&& 1, 0, PROTOCOL_TCP): parse_tcp; // most are
            (4, 5, _, 0 &&& 1, 0, PROTOCOL_UDP): parse_udp;
            (4, 5, _, _, _, _): parse_ipv4_payload;
            (4, 6 .. 15, _, _, _, _): parse_ipv4_options;
            default: malformed;
        }
    }

    state parse_ipv4_expired {
        meta.is_expired = 1;
        transition select(headers.ipv4.ihl) {
            5: parse_ipv4_payload;
            default: parse_ipv4_options;
        }
    }

    state malformed {
        meta.kind = KIND_MALFORMED;
        transition accept;
    }

    // A source route is looked for before the options are taken whole: a varbit cannot be read.
    state parse_ipv4_options {
        transition select(headers.ipv4.ihl) {
            6: look_at_options_6;
            7: look_at_options_7;
            8: look_at_options_8;
            9: look_at_options_9;
            10: look_at_options_10;
            11: look_at_options_11;
            12: look_at_options_12;
            13: look_at_options_13;
            14: look_at_options_14;
            15: look_at_options_15;
            default: malformed;
        }
    }

    state look_at_options_6 {
        meta.ip.options = packet.lookahead<bit<32>>() ++ 288w0;
        transition find_source_route;
    }

    state look_at_options_7 {
        meta.ip.options = packet.lookahead<bit<64>>() ++ 256w0;
        transition find_source_route;
    }

    state look_at_options_8 {
        meta.ip.options = packet.lookahead<bit<96>>() ++ 224w0;
        transition find_source_route;
    }

    state look_at_options_9 {
        meta.ip.options = packet.lookahead<bit<128>>() ++ 192w0;
        transition find_source_route;
    }

    state look_at_options_10 {
        meta.ip.options = packet.lookahead<bit<160>>() ++ 160w0;
        transition find_source_route;
    }

    state look_at_options_11 {
        meta.ip.options = packet.lookahead<bit<192>>() ++ 128w0;
        transition find_source_route;
    }

    state look_at_options_12 {
        meta.ip.options = packet.lookahead<bit<224>>() ++ 96w0;
        transition find_source_route;
    }

    state look_at_options_13 {
        meta.ip.options = packet.lookahead<bit<256>>() ++ 64w0;
        transition find_source_route;
    }

    state look_at_options_14 {
        meta.ip.options = packet.lookahead<bit<288>>() ++ 32w0;
        transition find_source_route;
    }

    state look_at_options_15 {
        meta.ip.options = packet.lookahead<bit<320>>();
        transition find_source_route;
    }

    // What is not an option's end is shifted out at the left; zeros, which are the end, come in.
    state find_source_route {
        transition select(meta.ip.options[319:312], meta.ip.options[311:304]) {
            (IP_OPTION_END, _): take_ipv4_options;
            (IP_OPTION_NOTHING, _): skip_nothing;
            (IP_OPTION_LOOSE_SOURCE_ROUTE, _): note_source_route;
            (IP_OPTION_STRICT_SOURCE_ROUTE, _): note_source_route;
            (_, 0 .. 1): take_ipv4_options; // without a length nothing can be found behind it
            (_, 40 .. 255): take_ipv4_options; // nothing is
            default: skip_option;
        }
    }

    state skip_nothing {
        meta.ip.options = meta.ip.options << 8;
        transition find_source_route;
    }

    state skip_option {
        bit<8> half = meta.ip.options[311:304] << 2; // of its bits: BMv2 shifts by 255 at most
        meta.ip.options = meta.ip.options << half << half;
        transition find_source_route;
    }

    state note_source_route {
        meta.rare = meta.rare | RARE_SOURCE_ROUTED;
        transition take_ipv4_options;
    }

    state take_ipv4_options {
        packet.extract(headers.ipv4_options, ((bit<32>)headers.ipv4.ihl - 5) << 5);
        meta.extra = meta.extra + (((bit<16>)headers.ipv4.ihl << 2) - 20);
        transition parse_ipv4_payload;
    }

    state parse_ipv4_payload {
        transition select(headers.ipv4.flags, headers.ipv4.fragment_offset) {
            (0 &&& 1, 0): parse_ipv4_transport;
            default: parse_ipv4_fragment;
        }
    }

    state parse_ipv4_fragment {
        meta.ip.identification = (bit<32>)headers.ipv4.identification;
        transition select(headers.ipv4.fragment_offset) {
            0: parse_ipv4_first_fragment;
            default: later_fragment;
        }
    }

    state parse_ipv4_first_fragment {
        meta.rare = meta.rare | RARE_FIRST_FRAGMENT;
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
        transition select(meta.key.protocol) {
            PROTOCOL_TCP: note_later_fragment;
            PROTOCOL_UDP: note_later_fragment;
            default: accept;
        }
    }

    state note_later_fragment {
        meta.kind = KIND_LATER;
        transition accept;
    }

    // --- IPv6 ------------------------------------------------------------------------------------

    state parse_ipv6 {
        packet.extract(headers.ipv6);
        meta.key.src_addr = headers.ipv6.src_addr;
        meta.key.dst_addr = headers.ipv6.dst_addr;
        meta.key.protocol = headers.ipv6.next_header;
        meta.ip.length = headers.ipv6.payload_length + 40;
        meta.ip.payload = headers.ipv6.payload_length;
        meta.extra = meta.extra + 20;
        transition select(headers.ipv6.version, headers.ipv6.hop_limit, headers.ipv6.src_addr,
                          headers.ipv6.dst_addr) {
            (6, _, MAPPED_ADDRESS, _): mapped;
            (6, _, _, MAPPED_ADDRESS): mapped;
            (6, 0 &&& 0xfe, _, _): parse_ipv6_expired;
            (6, _, _, _): parse_ipv6_payload;
            default: malformed;
        }
    }

    state mapped {
        meta.kind = KIND_MAPPED;
        transition accept;
    }

    state parse_ipv6_expired {
        meta.is_expired = 1;
        transition parse_ipv6_payload;
    }

    state parse_ipv6_payload {
        transition select(meta.key.protocol) {
            PROTOCOL_TCP: parse_tcp;
            PROTOCOL_UDP: parse_udp;
            PROTOCOL_ICMPV6: parse_icmpv6;
            PROTOCOL_HOP_BY_HOP: parse_extension;
            PROTOCOL_ROUTING: parse_routing_header;
            PROTOCOL_DESTINATION: parse_extension;
            PROTOCOL_FRAGMENT: parse_fragment_header;
            default: accept;
        }
    }

    state parse_extension {
        packet.extract(headers.extensions.next,
                       (bit<32>)packet.lookahead<bit<16>>()[7:0] << 6);
        meta.key.protocol = headers.extensions.last.next_header;
        meta.ip.payload = meta.ip.payload - 8 - ((bit<16>)headers.extensions.last.length << 3);
        meta.extra = meta.extra + 8 + ((bit<16>)headers.extensions.last.length << 3);
        transition parse_ipv6_payload;
    }

    state parse_routing_header { // its third octet is the type, its fourth how many are left
        transition select(packet.lookahead<bit<32>>()[7:0]) {
            0: parse_extension;
            default: note_segments_left;
        }
    }

    state note_segments_left {
        meta.rare = meta.rare | RARE_SOURCE_ROUTED;
        transition parse_extension;
    }

    state parse_fragment_header {
        packet.extract(headers.extensions.next, 0);
        meta.key.protocol = headers.extensions.last.next_header;
        meta.ip.payload = meta.ip.payload - 8;
        meta.extra = meta.extra + 8;
        meta.ip.identification = headers.extensions.last.identification;
        transition select(headers.extensions.last.place) {
            0 &&& 0xfff9: parse_ipv6_payload; // the only one
            1 &&& 0xfff9: parse_ipv6_first_fragment;
            default: later_fragment;
        }
    }

    state parse_ipv6_first_fragment {
        meta.rare = meta.rare | RARE_FIRST_FRAGMENT;
        transition parse_ipv6_payload;
    }

    // --- transport -------------------------------------------------------------------------------

    state parse_tcp {
        packet.extract(headers.tcp);
        meta.kind = KIND_TCP;
        meta.key.src_port = headers.tcp.src_port;
        meta.key.dst_port = headers.tcp.dst_port;
        transition parse_tcp_options;
    }

    // n = data_offset - 5 words: a header for each of the bits 8, 4, 2 and 1 of n
    state parse_tcp_options {
        transition select(headers.tcp.data_offset) {
            13 .. 15: parse_tcp_options_8;
            9 .. 12: parse_tcp_options_4;
            7 .. 8: parse_tcp_options_2;
            6: parse_tcp_options_1;
            default: accept;
        }
    }

    state parse_tcp_options_8 {
        packet.extract(headers.tcp_options_8);
        transition select(headers.tcp.data_offset) {
            15: parse_tcp_options_2;
            14: parse_tcp_options_1;
            default: accept;
        }
    }

    state parse_tcp_options_4 {
        packet.extract(headers.tcp_options_4);
        transition select(headers.tcp.data_offset) {
            11 .. 12: parse_tcp_options_2;
            10: parse_tcp_options_1;
            default: accept;
        }
    }

    state parse_tcp_options_2 {
        packet.extract(headers.tcp_options_2);
        transition select(headers.tcp.data_offset) {
            8: parse_tcp_options_1;
            12: parse_tcp_options_1;
            default: accept;
        }
    }

    state parse_tcp_options_1 {
        packet.extract(headers.tcp_options_1);
        transition accept;
    }

    state parse_udp {
        packet.extract(headers.udp);
        meta.kind = KIND_UDP;
        meta.key.src_port = headers.udp.src_port;
        meta.key.dst_port = headers.udp.dst_port;
        transition accept;
    }

    // --- ICMP ------------------------------------------------------------------------------------

    state parse_icmp {
        packet.extract(headers.icmp);
        meta.kind = KIND_ICMP;
        transition select(headers.icmp.kind) {
            3 .. 4: parse_quoted_ipv4; // a redirect (5) concerns one link and stays there
            11 .. 12: parse_quoted_ipv4;
            default: accept;
        }
    }

    state parse_icmpv6 {
        packet.extract(headers.icmp);
        meta.kind = KIND_ICMP;
        transition select(headers.icmp.kind) {
            1 .. 4: parse_quoted_ipv6;
            ICMPV6_SOLICITATION: parse_solicitation;
            ICMPV6_ADVERTISEMENT: parse_advertisement;
            default: accept;
        }
    }

    state parse_solicitation { // RFC 4861 7.1.1: what has passed a router is not one
        transition select(headers.icmp.code, headers.ipv6.hop_limit, headers.ipv6.next_header,
                          headers.ipv6.payload_length) {
            (0, 255, PROTOCOL_ICMPV6, 24): parse_nd_target;
            (0, 255, PROTOCOL_ICMPV6, 25 .. 1500): parse_nd_target_options;
            default: accept;
        }
    }

    state parse_nd_target {
        packet.extract(headers.nd_target);
        meta.kind = KIND_SOLICITATION;
        transition accept;
    }

    state parse_nd_target_options {
        packet.extract(headers.nd_target);
        packet.extract(headers.nd_options,
                       ((bit<32>)headers.ipv6.payload_length - 24) << 3);
        meta.kind = KIND_SOLICITATION;
        transition accept;
    }

    state parse_advertisement {
        transition select(headers.ipv6.hop_limit) {
            255: note_advertisement;
            default: accept;
        }
    }

    state note_advertisement {
        meta.kind = KIND_NEIGHBOUR;
        transition accept;
    }

    // The key becomes the one of packets that answer the quoted one: the error goes their way.
    state parse_quoted_ipv4 {
        packet.extract(headers.quoted_ipv4);
        meta.key.src_addr = IPV4_PREFIX ++ headers.quoted_ipv4.dst_addr;
        meta.key.dst_addr = IPV4_PREFIX ++ headers.quoted_ipv4.src_addr;
        meta.key.protocol = headers.quoted_ipv4.protocol;
        meta.ip.quoted_left = meta.ip.payload - 8 - ((bit<16>)headers.quoted_ipv4.ihl << 2);
        transition select(headers.quoted_ipv4.version, headers.quoted_ipv4.ihl,
                          headers.quoted_ipv4.fragment_offset) {
            (4, 5, 0): parse_quoted_transport;
            (4, 6 .. 15, 0): parse_quoted_ipv4_options;
            default: accept;
        }
    }

    state parse_quoted_ipv4_options {
        packet.extract(headers.quoted_ipv4_options, ((bit<32>)headers.quoted_ipv4.ihl - 5) << 5);
        transition parse_quoted_transport;
    }

    state parse_quoted_ipv6 {
        packet.extract(headers.quoted_ipv6);
        meta.key.src_addr = headers.quoted_ipv6.dst_addr;
        meta.key.dst_addr = headers.quoted_ipv6.src_addr;
        meta.key.protocol = headers.quoted_ipv6.next_header;
        meta.ip.quoted_left = meta.ip.payload - 48;
        transition select(headers.quoted_ipv6.version, headers.quoted_ipv6.src_addr,
                          headers.quoted_ipv6.dst_addr) {
            (6, MAPPED_ADDRESS, _): accept; // no flow's
            (6, _, MAPPED_ADDRESS): accept;
            (6, _, _): parse_quoted_ipv6_payload;
            default: accept;
        }
    }

    state parse_quoted_ipv6_payload {
        transition select(meta.key.protocol) {
            PROTOCOL_HOP_BY_HOP: parse_quoted_extension;
            PROTOCOL_ROUTING: parse_quoted_extension;
            PROTOCOL_DESTINATION: parse_quoted_extension;
            PROTOCOL_FRAGMENT: parse_quoted_fragment_header;
            default: parse_quoted_transport;
        }
    }

    state parse_quoted_extension {
        packet.extract(headers.quoted_extensions.next,
                       (bit<32>)packet.lookahead<bit<16>>()[7:0] << 6);
        meta.key.protocol = headers.quoted_extensions.last.next_header;
        meta.ip.quoted_left = meta.ip.quoted_left - 8
                              - ((bit<16>)headers.quoted_extensions.last.length << 3);
        transition parse_quoted_ipv6_payload;
    }

    state parse_quoted_fragment_header {
        packet.extract(headers.quoted_extensions.next, 0);
        meta.key.protocol = headers.quoted_extensions.last.next_header;
        meta.ip.quoted_left = meta.ip.quoted_left - 8;
        transition select(headers.quoted_extensions.last.place) {
            0 &&& 0xfff8: parse_quoted_ipv6_payload;
            default: accept;
        }
    }

    // Below zero is above 32767.  A quoted packet shorter than 8 octets has no ports.
    state parse_quoted_transport {
        transition select(meta.key.protocol, meta.ip.quoted_left) {
            (PROTOCOL_UDP, 8 .. 32767): parse_quoted_udp;
            (PROTOCOL_TCP, 8 .. 17): parse_quoted_tcp_beginning;
            (PROTOCOL_TCP, 18 .. 19): parse_quoted_tcp_part;
            (PROTOCOL_TCP, 20 .. 32767): parse_quoted_tcp;
            default: accept;
        }
    }

    state parse_quoted_udp {
        packet.extract(headers.udp);
        meta.key.src_port = headers.udp.dst_port;
        meta.key.dst_port = headers.udp.src_port;
        meta.kind = KIND_QUOTED;
        transition accept;
    }

    state parse_quoted_tcp_beginning {
        packet.extract(headers.tcp_beginning);
        meta.key.src_port = headers.tcp_beginning.dst_port;
        meta.key.dst_port = headers.tcp_beginning.src_port;
        meta.kind = KIND_QUOTED;
        transition accept;
    }

    state parse_quoted_tcp_part {
        packet.extract(headers.tcp_part);
        meta.key.src_port = headers.tcp_part.dst_port;
        meta.key.dst_port = headers.tcp_part.src_port;
        meta.kind = KIND_QUOTED;
        transition accept;
    }

    state parse_quoted_tcp {
        packet.extract(headers.tcp);
        meta.key.src_port = headers.tcp.dst_port;
        meta.key.dst_port = headers.tcp.src_port;
        meta.kind = KIND_QUOTED;
        transition select((bit<16>)headers.tcp.data_offset << 2 <= meta.ip.quoted_left) {
            true: parse_tcp_options;
            default: note_options_missing;
        }
    }

    state note_options_missing {
        meta.kind = KIND_QUOTED_PART;
        transition accept;
    }
}

#endif

// SPDX-License-Identifier: Apache-2.0
// Puts the headers back into the order in which they were found.
#ifndef SPLITPLANE_DEPARSER_P4
#define SPLITPLANE_DEPARSER_P4

#include "headers.p4"

control FrameDeparser(packet_out packet, in headers_t headers) {
    apply {
        packet.emit(headers.packet_in);
        packet.emit(headers.report);
        packet.emit(headers.resolve);
        packet.emit(headers.ethernet);
        packet.emit(headers.vlan);
        packet.emit(headers.arp);
        packet.emit(headers.outer_ipv4);
        packet.emit(headers.outer_ipv6);
        packet.emit(headers.ipv4);
        packet.emit(headers.ipv4_options);
        packet.emit(headers.ipv6);
        packet.emit(headers.extensions);
        packet.emit(headers.icmp);
        packet.emit(headers.nd_target);
        packet.emit(headers.nd_options);
        packet.emit(headers.nd_link_address);
        packet.emit(headers.quoted_ipv4);
        packet.emit(headers.quoted_ipv4_options);
        packet.emit(headers.quoted_ipv6);
        packet.emit(headers.quoted_extensions);
        packet.emit(headers.tcp);
        packet.emit(headers.tcp_beginning);
        packet.emit(headers.tcp_part);
        packet.emit(headers.tcp_options_8);
        packet.emit(headers.tcp_options_4);
        packet.emit(headers.tcp_options_2);
        packet.emit(headers.tcp_options_1);
        packet.emit(headers.udp);
    }
}

#endif

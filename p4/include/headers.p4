// SPDX-License-Identifier: Apache-2.0
// Every header, in the order in which they stand in a frame.
#ifndef SPLITPLANE_HEADERS_P4
#define SPLITPLANE_HEADERS_P4

#include "constants.p4"
#include "sizes.p4"

// --- between the agent and the switch ------------------------------------------------------------

@controller_header("packet_in")
header packet_in_t {
    @id(1) bit<8> reason;
    @id(2) bit<8> protocol; // the signature's; 0: nothing of a flow
    @id(3) bit<16> port;    // where it arrived
    @id(4) bit<16> src_port; // of a later fragment too
    @id(5) bit<16> dst_port;
    @id(6) bit<32> server;  // the virtual server that matched; 0: none
    @id(7) bit<32> value;   // by reason
}

@controller_header("packet_out")
header packet_out_t {
    @id(1) bit<8> operation;
    @id(2) bit<8> reserved;
    @id(3) bit<16> port;
    @id(4) bit<32> value;
}

// What was seen of a flow: its registers, see track.p4.
header report_t {
    bit<80> asked;      // the even index 32, now 48: us since the switch's start, as are other times
    bit<240> inbound;   // counts 128, sequence 64, time 48
    bit<240> returning; // the same
}

header resolve_t {
    bit<128> address;
    bit<16> port;
}

// --- link ----------------------------------------------------------------------------------------

header ethernet_t {
    mac_t dst_addr;
    mac_t src_addr;
    bit<16> ether_type;
}

header vlan_t {
    bit<16> tag;
    bit<16> ether_type;
}

header arp_t { // RFC 826, for IPv4 on Ethernet
    bit<16> hardware;
    bit<16> protocol;
    bit<8> hardware_length;
    bit<8> protocol_length;
    bit<16> operation;
    mac_t sender_mac;
    bit<32> sender;
    mac_t target_mac;
    bit<32> target;
}

// --- internet ------------------------------------------------------------------------------------

header ipv4_t { // RFC 791 3.1
    bit<4> version;
    bit<4> ihl;
    bit<8> tos;
    bit<16> total_length;
    bit<16> identification;
    bit<3> flags;
    bit<13> fragment_offset;
    bit<8> ttl;
    bit<8> protocol;
    bit<16> checksum;
    bit<32> src_addr;
    bit<32> dst_addr;
}

header ipv4_options_t {
    varbit<320> options;
}

header ipv6_t { // RFC 8200 3
    bit<4> version;
    bit<8> traffic_class;
    bit<20> flow_label;
    bit<16> payload_length;
    bit<8> next_header;
    bit<8> hop_limit;
    address_t src_addr;
    address_t dst_addr;
}

header ipv6_extension_t { // RFC 8200 4.3 to 4.6; a fragment header's length is reserved
    bit<8> next_header;
    bit<8> length;
    bit<16> place;         // a fragment header's
    bit<32> identification; // a fragment header's
    varbit<EXTENSION_BITS_MAX> more;
}

header icmp_t { // RFC 792, RFC 4443
    bit<8> kind;
    bit<8> code;
    bit<16> checksum;
    bit<32> rest;
}

header nd_target_t { // RFC 4861 4.3, 4.4
    address_t target;
}

header nd_options_t {
    varbit<12000> options; // those of a solicitation; they are not answered to
}

header nd_link_address_t { // RFC 4861 4.6.1
    bit<8> kind;
    bit<8> length;
    mac_t mac;
}

// --- transport -----------------------------------------------------------------------------------

header tcp_t { // RFC 9293 3.1
    bit<16> src_port;
    bit<16> dst_port;
    bit<32> seq;
    bit<32> ack;
    bit<4> data_offset;
    bit<4> reserved;
    bit<8> flags;
    bit<16> window;
    bit<16> checksum;
    bit<16> urgent;
}

header tcp_beginning_t { // what an ICMP error must quote at least
    bit<16> src_port;
    bit<16> dst_port;
    bit<32> seq;
}

header tcp_part_t { // a quoted one that ends behind its checksum
    bit<16> src_port;
    bit<16> dst_port;
    bit<32> seq;
    bit<64> not_changed; // acknowledgement number, flags, window
    bit<16> checksum;
}

// Options of n words are at most one header of each size, the largest first.
header tcp_options_8_t { bit<256> data; }
header tcp_options_4_t { bit<128> data; }
header tcp_options_2_t { bit<64> data; }
header tcp_options_1_t { bit<32> data; }

header udp_t { // RFC 768
    bit<16> src_port;
    bit<16> dst_port;
    bit<16> length;
    bit<16> checksum;
}

// --- never sent: what only some packets need, as headers because v1model clears all metadata of
// every packet.  setValid makes them 0, and a checksum takes nothing from an invalid one.

header options_t { // of TCP; see options.p4
    bit<160> high; // not looked at yet, the next one at the top
    bit<160> low;
    bit<160> done_high;
    bit<160> done_low;
    bit<8> left;   // octets of options not looked at
    bit<8> more;   // the walk goes on
    bit<8> kind;
    bit<8> length;
    bit<8> half;   // bits to move by, twice
    bit<8> rest;   // 160 less these
}

header sum_t { // what a checksum is made of
    bit<16> not_quoted_ipv4;
    bit<16> not_icmp;
    bit<16> not_options;
    bit<16> options;
    bit<32> not_seq;
    bit<32> seq;
    bit<32> not_ack;
    bit<32> ack;
    bit<16> not_window;
    bit<16> window;
    bit<16> icmp_address; // see icmp_errors.p4
    bit<16> icmp_not_address;
    bit<16> icmp_port;
    bit<32> icmp_not_seq;
    bit<32> icmp_seq;
    address_t not_src_addr;
    address_t not_dst_addr;
    address_t src_addr;
    address_t dst_addr;
}

// One set of transport headers: a packet has its own or, if it is an ICMP error, the quoted one's.
struct headers_t {
    packet_in_t packet_in;
    packet_out_t packet_out;
    report_t report;
    resolve_t resolve;
    ethernet_t ethernet;
    vlan_t[VLAN_TAGS_MAX] vlan;
    arp_t arp;
    ipv4_t outer_ipv4; // of a tunnel
    ipv6_t outer_ipv6;
    ipv4_t ipv4;
    ipv4_options_t ipv4_options;
    ipv6_t ipv6;
    ipv6_extension_t[EXTENSIONS_MAX] extensions;
    icmp_t icmp;
    nd_target_t nd_target;
    nd_options_t nd_options;
    nd_link_address_t nd_link_address;
    ipv4_t quoted_ipv4;
    ipv4_options_t quoted_ipv4_options;
    ipv6_t quoted_ipv6;
    ipv6_extension_t[QUOTED_EXTENSIONS_MAX] quoted_extensions;
    tcp_t tcp;
    tcp_beginning_t tcp_beginning;
    tcp_part_t tcp_part;
    tcp_options_8_t tcp_options_8;
    tcp_options_4_t tcp_options_4;
    tcp_options_2_t tcp_options_2;
    tcp_options_1_t tcp_options_1;
    udp_t udp;
    options_t options;
    sum_t sum;
}

#endif

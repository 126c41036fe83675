// SPDX-License-Identifier: Apache-2.0
// The frame as Tofino reads it.  Headers are ../include/headers.p4's but where a field of fixed
// place is needed: ports are a header of their own, so that TCP and UDP are rewritten alike, and
// nothing has a variable length.
#ifndef SPLITPLANE_TNA_HEADERS_P4
#define SPLITPLANE_TNA_HEADERS_P4

#include "../include/headers.p4"
#include "constants.p4"
#include "sizes.p4"

header copy_t { // in front of a copy for the agent: what packet_in will say
    bit<8> kind;
    bit<8> reason;
    bit<8> protocol;
    bit<16> port;
    bit<32> ports; // source, destination
    bit<32> server;
    bit<32> value;
}

header copy_resolve_t { // the same with an address; 32 octets is all that a copy can carry
    bit<8> kind;
    bit<8> reason;
    bit<16> port;
    bit<16> out_port;
    address_t address;
}

// One flow, or what its place in the registers holds.  Times are 2^16 ns since the switch's start.
header tna_report_t {
    bit<32> flow_index; // the even one
    bit<32> now;
}

header tna_registers_t { // the rest of a report; apart, because it takes other headers' room
    bit<32> close;      // TNA_CLOSE_*
    bit<32> inbound_cookie;
    bit<32> inbound_packets;
    bit<32> inbound_octets_high;
    bit<32> inbound_octets_low;
    bit<32> inbound_time;
    bit<32> inbound_next;
    bit<32> return_cookie;
    bit<32> return_packets;
    bit<32> return_octets_high;
    bit<32> return_octets_low;
    bit<32> return_time;
    bit<32> return_next;
}

header ipv6_fragment_t { // RFC 8200 4.5
    bit<8> next_header;
    bit<8> reserved;
    bit<16> place;
    bit<32> identification;
}

header nd_option_t { // the one that a solicitation may have
    bit<64> data;
}

header ports_t {
    bit<16> src_port;
    bit<16> dst_port;
}

header tcp_rest_t {
    bit<32> seq;
    bit<32> ack;
    bit<4> data_offset;
    bit<4> reserved;
    bit<8> flags;
    bit<16> window;
    bit<16> checksum;
    bit<16> urgent;
}

header udp_rest_t {
    bit<16> length;
    bit<16> checksum;
}

// TCP options as every system writes them on an open connection: NOP NOP TIMESTAMPS, then
// NOP NOP SACK with one to four blocks; each is optional.
header tcp_timestamps_t {
    bit<32> kind; // 0x0101080a
    bit<32> value;
    bit<32> echo;
}

header tcp_sack_t {
    bit<32> kind; // 0x010105nn
}

header tcp_sack_block_t {
    bit<32> left;
    bit<32> right;
}

struct frame_t {
    packet_in_t packet_in;
    packet_out_t packet_out;
    tna_report_t report;
    tna_registers_t registers;
    ethernet_t ethernet;
    vlan_t[VLAN_TAGS_MAX] vlan;
    arp_t arp;
    ipv4_t outer_ipv4;
    ipv6_t outer_ipv6;
    ipv4_t ipv4;
    ipv6_t ipv6;
    ipv6_fragment_t ipv6_fragment;
    icmp_t icmp;
    nd_target_t nd_target;
    nd_option_t nd_option;
    nd_link_address_t nd_link_address;
    ports_t ports;
    tcp_rest_t tcp;
    tcp_timestamps_t tcp_timestamps;
    tcp_sack_t tcp_sack;
    tcp_sack_block_t tcp_sack_4; // of as many blocks as there are the last is always 1
    tcp_sack_block_t tcp_sack_3;
    tcp_sack_block_t tcp_sack_2;
    tcp_sack_block_t tcp_sack_1;
    udp_rest_t udp;
}

#endif

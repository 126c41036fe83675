// SPDX-License-Identifier: Apache-2.0
// What is known about a packet beside its headers.  The ingress decides and rewrites; the egress
// only sees copies for the agent, so nothing of this crosses over.
#ifndef SPLITPLANE_TNA_METADATA_P4
#define SPLITPLANE_TNA_METADATA_P4

#include "headers.p4"

struct arrival_t {
    bit<1> external;
    bit<1> internal;
    bit<1> outbound_query;
    bit<1> injected;
    port_t port; // of an injected packet the one where it first came in
    mac_t mac;
}

struct ip_t {
    bit<16> length; // total length
    bit<1> first_fragment;
    bit<1> later_fragment;
    bit<1> is_transport;
    bit<1> ports_unknown;
    bit<1> unreadable;    // IPv4 options, IPv6 extension headers: the agent's
    bool bad_checksum;
    bit<1> is_error;      // an ICMP error with a quoted packet
    bit<8> protocol;
    bit<8> ttl;
    bit<32> identification;
}

struct flow_t {
    bit<1> found;
    bit<1> is_return;
    bit<1> has_offsets;
    bit<1> is_tunnel;
    bit<1> fresh; // the first of its direction since the entry was made
    bit<1> ended;
    bit<1> over;  // it ended before this SYN: another connection
    bit<32> index;
    bit<32> cookie;
    bit<16> new_src_port;
    bit<16> new_dst_port;
}

struct way_t {
    address_t towards;
    bit<32> next_hop; // 0: by `towards`
    port_t port;
    bit<16> mtu;
    bit<16> room;     // what this packet leaves of it; below 0 is above 32767
}

struct tcp_seen_t { // in the client side's numbers
    bit<32> seq;
    bit<32> ack;
    bit<32> end;        // the number after this packet
    bit<16> left;       // octets after the headers; below 0 is above 32767
    bit<16> takes;      // numbers that the packet takes: octets, SYN, FIN
    bit<32> close_bits; // what this packet adds to the close
    bit<32> close_seen; // as it was before
    bit<32> past_ack;   // how far a RST lies past what was acknowledged
    bit<32> past_next;  // 0: it acknowledges all that was sent
    bit<1> options_unreadable;
    bit<5> shift_window; // 1 to 14 left, 17 to 30 right
}

struct metadata_t {
    bit<8> verdict;
    outcome_t outcome;
    bit<8> reason;
    bit<8> copy_kind;
    bit<1> is_asked;
    bit<1> is_neighbour;
    bit<1> is_question; // ARP or neighbour discovery: who has `wanted`?
    bit<1> is_local;
    bit<1> is_own;
    bit<1> is_virtual;
    bit<1> is_answered;
    address_t wanted; // the destination, or the address that is asked for
    bit<16> src_port; // of a later fragment too
    bit<16> dst_port;
    bit<32> server;
    bit<32> value;
    bit<16> up_port;     // where it arrived, for a copy
    bit<16> up_out_port; // where it would leave
    bit<32> now;      // 2^16 ns
    bit<16> tcp_sum; // a checksum without what may change
    bit<16> udp_sum;
    bit<16> nd_sum;
    bit<1> has_udp_sum;
    MirrorId_t session;
    arrival_t arrival;
    ip_t ip;
    flow_t flow;
    way_t way;
    tcp_seen_t tcp;
}

const bit<8> VERDICT_OPEN = 0; // as in ../include/metadata.p4
const bit<8> VERDICT_ROUTE = 1;
const bit<8> VERDICT_LEAVE = 2;
const bit<8> VERDICT_ANSWER = 3;
const bit<8> VERDICT_TO_AGENT = 4;
const bit<8> VERDICT_DROP = 5;

#endif

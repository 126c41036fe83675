// SPDX-License-Identifier: Apache-2.0
// What is known about a packet beside its headers.  The ingress decides and rewrites; the egress
// only sees copies for the agent, so nothing of this crosses over.
#ifndef SPLITPLANE_TNA_METADATA_P4
#define SPLITPLANE_TNA_METADATA_P4

#include "headers.p4"

typedef bit<8> verdict_t; // as in ../include/metadata.p4
const verdict_t VERDICT_OPEN = 0;
const verdict_t VERDICT_ROUTE = 1;
const verdict_t VERDICT_LEAVE = 2;
const verdict_t VERDICT_ANSWER = 3;
const verdict_t VERDICT_TO_AGENT = 4;
const verdict_t VERDICT_DROP = 5;

// Of 16 bits, as a table's key asks: a field of which one bit is looked at is kept in pieces.
#define BELOW_0 0x8000 &&& 0x8000

struct arrival_t {
    bit<1> external;
    bit<1> internal;
    bit<1> outbound_query;
    bit<1> injected;
    port_t port; // of an injected packet the one where it first came in
    mac_t mac;
}

struct ip_t {
    bit<16> length;       // total length
    bit<32> wide_length;  // the same
    bit<16> leaving;      // with a tunnel's outer header
    bit<1> first_fragment;
    bit<1> later_fragment;
    bit<1> is_transport;
    bit<1> ports_unknown;
    bit<1> unreadable;    // IPv4 options, IPv6 extension headers: the agent's
    bit<1> contradictory;
    bit<1> is_error;      // an ICMP error with a quoted packet
    bool bad_checksum;
    bit<8> protocol;
    bit<8> ttl;
}

typedef bit<2> role_t; // of a direction's registers for a packet; see track.p4
const role_t ROLE_OWN = 1;
const role_t ROLE_PEER = 2;
const role_t ROLE_ASKED = 3;

struct flow_t {
    bit<1> found;
    bit<1> is_return;
    bit<1> has_offsets;
    bit<1> is_tunnel;
    role_t inbound_role;
    role_t return_role;
    bit<1> ended;
    bit<1> over;  // it ended before this SYN: another connection
    bit<32> index;
    bit<32> cookie;
    bit<16> new_src_port;
    bit<16> new_dst_port;
}

typedef bit<2> trouble_t; // of a packet on its way
const trouble_t TROUBLE_NONE = 0;
const trouble_t TROUBLE_NO_ROUTE = 1;
const trouble_t TROUBLE_NO_NEIGHBOUR = 2;
const trouble_t TROUBLE_NO_NEXT_HOP = 3;

struct way_t {
    address_t towards;
    bit<32> next_hop; // 0: by `towards`
    port_t port;
    trouble_t trouble;
    bit<32> mtu;      // as wide as what the agent is told
    bit<16> room;     // what this packet leaves of it; below 0 is above 32767
}

struct tcp_seen_t { // in the client side's numbers
    bit<32> seq;
    bit<32> ack;
    bit<32> end;        // the number after this packet
    bit<16> left;       // octets after the headers; below 0 is above 32767
    bit<32> takes;      // numbers that the packet takes: octets, SYN, FIN
    bit<32> close_bits; // what this packet adds to the close
    bit<32> close_seen; // what has come together
    bit<32> past_ack;   // how far a RST lies past what was acknowledged
    bit<32> past_next;  // 0: it acknowledges all that was sent
    bit<32> fin_acked;  // 1: it acknowledges the other direction's FIN
    bit<1> options_unreadable;
    bit<5> shift_window; // 1 to 14 left, 17 to 30 right
}

struct metadata_t {
    verdict_t verdict;
    outcome_t outcome;
    bit<8> reason;
    bit<8> copy_kind;
    bit<1> is_asked;
    bit<1> is_own_packet; // the agent's, to be routed
    bit<1> is_neighbour;
    bit<1> is_question; // ARP or neighbour discovery: who has `wanted`?
    bit<1> is_local;
    bit<1> is_own;
    bit<1> is_virtual;
    bit<1> is_answered;
    address_t wanted; // the destination, or the address that is asked for
    bit<32> ports;    // source, destination; of a later fragment too
    bit<32> server;
    bit<1> has_server;
    bit<1> is_bridged;
    bit<32> value;
    bit<16> up_port;     // where it arrived, for a copy
    bit<16> up_out_port; // where it would leave
    bit<32> now;      // 2^16 ns
    bit<16> tcp_sum;  // a checksum without what may change
    bit<16> udp_sum;
    bit<16> nd_sum;
    bit<1> has_udp_sum;
    bit<1> detached;  // no agent wants packets
    MirrorId_t session;
    arrival_t arrival;
    ip_t ip;
    flow_t flow;
    way_t way;
    tcp_seen_t tcp;
}

#endif

// SPDX-License-Identifier: Apache-2.0
// What is known about a packet beside its headers: found by the parser, decided in the ingress,
// done in the egress.
#ifndef SPLITPLANE_METADATA_P4
#define SPLITPLANE_METADATA_P4

#include "constants.p4"

// What becomes of a packet; the ingress goes on while it is VERDICT_OPEN.
typedef bit<8> verdict_t;
const verdict_t VERDICT_OPEN = 0;
const verdict_t VERDICT_ROUTE = 1;    // to `way.towards`, or by `way.next_hop` if that is not 0
const verdict_t VERDICT_LEAVE = 2;    // out of `way.port` with new MAC addresses
const verdict_t VERDICT_ANSWER = 3;   // out of `way.port`; its headers are complete
const verdict_t VERDICT_TO_AGENT = 4; // as it arrived
const verdict_t VERDICT_DROP = 5;

struct key_t { // a flow's; of an ICMP error that of the packets which answer the quoted one
    address_t src_addr;
    address_t dst_addr;
    bit<16> src_port;
    bit<16> dst_port;
    bit<8> protocol;
}

struct arrival_t {
    bit<1> external;
    bit<1> internal;
    bit<1> outbound_query;
    bit<1> injected;
    port_t port;       // of an injected packet the one where it first came in
    mac_t mac;         // of that interface
    bit<32> length;    // of the frame
}

struct ip_t {
    bit<16> length;        // total length
    bit<16> header_length; // with options and extension headers
    bit<8> ttl;
    bit<1> first_fragment;
    bit<1> later_fragment;
    bit<1> is_transport;   // TCP or UDP, with its ports or as a later fragment
    bit<1> ports_unknown;  // a later fragment whose first did not come by
    bit<1> options_missing; // of a quoted TCP header
    bit<1> quoted;         // an ICMP error whose quoted packet was read
    bit<32> identification;
    bit<16> quoted_left;   // octets of the quoted packet after its IP header
}

struct flow_t {
    bit<1> found;
    bit<1> is_return;
    bit<1> has_offsets;
    bit<1> is_tunnel;
    bit<32> index;
    bit<32> cookie;
    address_t new_src_addr;
    address_t new_dst_addr;
    bit<16> new_src_port;
    bit<16> new_dst_port;
    bit<16> address_delta; // one's complement: new addresses minus old ones
    bit<16> port_delta;
    bit<32> seq_add;
    bit<32> ack_add;
    bit<32> ts_value_add;
    bit<32> ts_echo_add;
    bit<8> shift_left;     // of the window
    bit<8> shift_right;
    address_t node;        // the far end of a tunnel
}

struct way_t {
    address_t towards;
    bit<32> next_hop; // 0: by `towards`
    port_t port;
    mac_t src_mac;
    mac_t dst_mac;
    bit<16> mtu;
    address_t tunnel_src;
}

struct sums_t { // which checksums follow a change, see checksums.p4
    bit<1> ipv4;
    bit<1> tcp;
    bit<1> shifted_tcp;
    bit<1> icmp_error;
}

// What goes up with a packet.
struct up_t {
    @field_list(FIELDS_REPORT) bit<8> reason;
    bit<32> server;
    bit<32> value;
}

struct half_t { // one direction's registers
    @field_list(FIELDS_REPORT) bit<128> counts;
    @field_list(FIELDS_REPORT) bit<64> sequence;
    @field_list(FIELDS_REPORT) bit<48> time;
}

struct seen_t { // of a flow; see track.p4
    @field_list(FIELDS_REPORT) bit<32> flow_index;
    @field_list(FIELDS_REPORT) bit<48> now;
}

struct metadata_t {
    verdict_t verdict;
    bit<32> counter;
    bit<8> scale;        // of the window, in a SYN
    bit<1> has_options;  // `options.done_*` are the ones to be sent
    bit<1> is_asked;     // the agent wants a report
    bit<1> is_neighbour; // an ARP reply or advertisement that the agent wants
    bit<1> is_solicitation;
    bit<1> is_local;     // no wildcard catches its destination
    bit<1> is_own;       // its destination is the switch's
    bit<1> is_virtual;   // its destination is a virtual server's
    bit<1> is_answered;
    key_t key;
    arrival_t arrival;
    ip_t ip;
    flow_t flow;
    way_t way;
    sums_t sums;
    up_t up;
    seen_t seen;
    half_t inbound;      // for a report
    half_t returning;
}

#endif

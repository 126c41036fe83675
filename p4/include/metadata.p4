// SPDX-License-Identifier: Apache-2.0
// What is known about a packet beside its headers: found by the parser, decided in the ingress,
// done in the egress.
//
// v1model clears all of it for every packet, field by field, which costs BMv2 more than anything
// else.  So most of it stands in structs that are always written before they are read;
// scripts/p4_compact.py puts those where nobody clears them.
#ifndef SPLITPLANE_METADATA_P4
#define SPLITPLANE_METADATA_P4

#include "constants.p4"

// What becomes of a packet; what is OPEN at the end of all questions is routed.
typedef bit<8> verdict_t;
const verdict_t VERDICT_OPEN = 0;
const verdict_t VERDICT_ROUTE = 1;    // the agent's own: to `towards`
const verdict_t VERDICT_LEAVE = 2;    // a port and MAC addresses are found
const verdict_t VERDICT_ANSWER = 3;   // its headers are complete
const verdict_t VERDICT_TO_AGENT = 4; // as it arrived
const verdict_t VERDICT_DROP = 5;

// What a packet is, as far as a flow goes; found by the parser.
typedef bit<8> kind_t;
const kind_t KIND_OTHER = 0;
const kind_t KIND_TCP = 1;            // 1 to 7 have a flow's key
const kind_t KIND_UDP = 2;
const kind_t KIND_FRAGMENT = 3;       // a later one of TCP or UDP, its ports known
const kind_t KIND_QUOTED = 4;         // an ICMP error whose quoted packet was read
const kind_t KIND_QUOTED_PART = 5;    // its TCP options were not quoted
const kind_t KIND_SOURCE_ROUTED = 6;  // TCP or UDP, by a way that its sender chose
const kind_t KIND_AGAIN = 7;          // a SYN that comes by again, with the key of its answer
const kind_t KIND_LATER = 15;         // a later fragment of TCP or UDP
const kind_t KIND_LOST = 13;          // its first one did not come by
const kind_t KIND_ICMP = 16;
const kind_t KIND_SOLICITATION = 8;
const kind_t KIND_NEIGHBOUR = 9;      // an ARP reply or an advertisement that the agent wants
const kind_t KIND_ARP = 10;
const kind_t KIND_MALFORMED = 11;
const kind_t KIND_DECIDED = 12;       // there is nothing more to find out
const kind_t KIND_MAPPED = 14;        // IPv6 with an address that stands for an IPv4 one

const bit<8> RARE_FIRST_FRAGMENT = 1;
const bit<8> RARE_SOURCE_ROUTED = 2;
const bit<8> RARE_AGAIN = 4;

struct key_t { // a flow's; of an ICMP error that of the packets which answer the quoted one
    address_t src_addr;
    address_t dst_addr;
    bit<16> src_port;
    bit<16> dst_port;
    bit<8> protocol;
}

typedef bit<8> direction_t;
const direction_t DIRECTION_NONE = 0;
const direction_t DIRECTION_INBOUND = 1;   // client to node
const direction_t DIRECTION_RETURNING = 2;
const direction_t DIRECTION_ASKED = 3;     // the agent asks for a report

// --- what is written before it is read: scripts/p4_compact.py sees to it that nobody clears it ----

struct arrival_t {
    bit<1> external;
    bit<1> internal;
    bit<1> outbound_query;
    mac_t mac;             // of the interface, for a frame to a group
}

struct ip_t {
    bit<16> length;        // total length
    bit<16> payload;       // after all of its headers; below zero is above 32767
    bit<32> identification; // of a fragment
    bit<16> quoted_left;   // octets of the quoted packet after its IP header
    bit<320> options;      // of an IPv4 packet that has some, not looked at yet
}

struct flow_t { // if `flow_kind` is not 0; offsets and shifts only if `has_offsets` is 1
    bit<32> index;
    bit<32> cookie;
    bit<1> is_outside;     // only of a returning packet: no node is where it came from
    bit<1> is_held;        // its packets go up
    address_t new_src_addr;
    address_t new_dst_addr;
    bit<16> new_src_port;
    bit<16> new_dst_port;
    bit<32> seq_add;
    bit<32> ack_add;
    bit<32> ts_value_add;
    bit<32> ts_echo_add;
    bit<8> shift_left;     // of the window
    bit<8> shift_right;
    address_t node;        // the far end of a tunnel
}

struct way_t {
    port_t port;           // of a connected network
    address_t tunnel_src;
}

// What is known of a destination without a flow; see neighbours.p4.
struct whose_t {
    bit<1> is_own;       // the switch's
    bit<1> is_virtual;   // a virtual server's
    bit<1> is_answered;  // asked for, it is answered for
    bit<1> is_nobodys;   // no host's, or one link's only
    bit<1> is_owned;     // a virtual server's, answered for, and nobody else's
    bit<1> no_wildcard;  // only virtual servers with this very address take it
    bit<1> from_own;     // the same of its source; see sources.p4
    bit<1> from_virtual;
    bit<1> from_nobody;
}

// No flow's index.
const bit<32> ASKED_NEIGHBOUR = 0xffffffff;

struct up_t { // what goes up with a packet
    bit<8> reason;
    bit<32> server;      // if a virtual server is the reason
    bit<32> value;       // if the reason has one
    bit<8> scale;        // not of what goes up: of the window, in a SYN
}

struct metadata_t {
    // cleared for every packet
    verdict_t verdict;
    kind_t kind;
    direction_t direction; // of the flow that was found
    @field_list(FIELDS_AGAIN) bit<8> rare; // what few packets are: a first fragment, source-routed
    bit<1> is_expired;    // its time to live ends here
    bit<1> has_offsets;
    bit<16> extra;        // octets before the IP payload that a plain IPv4 frame has not
    bit<16> room;         // for a tunnel's header; 0: no tunnel
    bit<32> next_hop;     // 0: by `towards`
    // written before they are read
    key_t key;
    address_t towards;    // where it goes, if there is no next hop; or the address that is asked for
    bit<1> is_local;      // no wildcard catches its destination
    @field_list(FIELDS_AGAIN) port_t came_by; // of what comes by again
    bit<16> address_delta; // one's complement: new addresses minus old ones
    bit<16> port_delta;
    // for a report, which a copy of a packet takes along; see track.p4
    @field_list(FIELDS_REPORT) bit<80> asked;      // a flow's even index 32, now 48; or
                                                   // ASKED_NEIGHBOUR 32, port 48
    @field_list(FIELDS_REPORT) bit<240> inbound;   // counts 128, sequence 64, time 48
    @field_list(FIELDS_REPORT) bit<240> returning;
    bit<32> counter;
    arrival_t arrival;
    ip_t ip;
    flow_t flow;
    way_t way;
    whose_t whose;
    up_t up;
}

#endif

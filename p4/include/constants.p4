// SPDX-License-Identifier: Apache-2.0
// Numbers of the protocols, and what the agent and the switch say to each other by number.
#ifndef SPLITPLANE_CONSTANTS_P4
#define SPLITPLANE_CONSTANTS_P4

typedef bit<128> address_t; // IPv4 as ::ffff:a.b.c.d
typedef bit<48> mac_t;
typedef bit<9> port_t;

const bit<96> IPV4_PREFIX = 0xffff;
// Valid within a machine only, never in a packet (RFC 4291 2.5.5.2).
#define MAPPED_ADDRESS 0xffff00000000 &&& 0xffffffffffffffffffffffff00000000

const bit<16> TYPE_IPV4 = 0x0800;
const bit<16> TYPE_ARP = 0x0806;
const bit<16> TYPE_IPV6 = 0x86dd;
const bit<16> TYPE_VLAN = 0x8100;
const bit<16> TYPE_PROVIDER_VLAN = 0x88a8;

// RFC 791 3.1
const bit<8> IP_OPTION_END = 0;
const bit<8> IP_OPTION_NOTHING = 1;
const bit<8> IP_OPTION_LOOSE_SOURCE_ROUTE = 131;
const bit<8> IP_OPTION_STRICT_SOURCE_ROUTE = 137;

const bit<8> PROTOCOL_HOP_BY_HOP = 0;
const bit<8> PROTOCOL_ICMP = 1;
const bit<8> PROTOCOL_IPV4 = 4;
const bit<8> PROTOCOL_TCP = 6;
const bit<8> PROTOCOL_UDP = 17;
const bit<8> PROTOCOL_IPV6 = 41;
const bit<8> PROTOCOL_ROUTING = 43;
const bit<8> PROTOCOL_FRAGMENT = 44;
const bit<8> PROTOCOL_ICMPV6 = 58;
const bit<8> PROTOCOL_DESTINATION = 60;

const bit<8> TCP_FIN = 0x01;
const bit<8> TCP_SYN = 0x02;
const bit<8> TCP_RST = 0x04;
const bit<8> TCP_ACK = 0x10;

const bit<8> ICMPV6_SOLICITATION = 135;
const bit<8> ICMPV6_ADVERTISEMENT = 136;
const bit<32> ADVERTISEMENT_SOLICITED = 0x40000000;
const bit<32> ADVERTISEMENT_OVERRIDE = 0x20000000;

const bit<8> TUNNEL_TTL = 64;

// --- between the agent and the switch -----------------------------------------------------------
// The port and the clone session that lead to the agent.
const port_t PORT_AGENT = 510;
const bit<32> CLONE_SESSION_AGENT = 1;

// Why a packet came up: 1 to 3, 10 to 13, 20 and 21 are the contract's PacketReason, the rest is for the target
// itself.
const bit<8> REASON_NEW_FLOW = 1;
const bit<8> REASON_BRIDGED = 2;
const bit<8> REASON_OUTBOUND = 3;
const bit<8> REASON_TTL = 4;       // its sender is to be told; value: 0
const bit<8> REASON_TOO_BIG = 5;   // its sender is to be told; value: what fits
const bit<8> REASON_NEIGHBOUR = 6; // an ARP reply or a neighbour advertisement
const bit<8> REASON_RESOLVE = 7;   // the next hop's MAC is not known; a `resolve` header follows
const bit<8> REASON_CLOSED = 8;    // a copy of the packet that ended a flow, or took it back;
                                   // a `report` follows
const bit<8> REASON_REPORT = 9;    // the answer to OPERATION_REPORT; a `report` follows
const bit<8> REASON_UNANSWERED = 10; // a SYN on a living flow whose node is silent
const bit<8> REASON_UNSERVED = 11; // to a virtual address, and no virtual server takes it
const bit<8> REASON_ASLEEP = 12;   // a node's packet of a flow that fell asleep
const bit<8> REASON_COLLISION = 13; // a SYN to a node itself from a flow's own port
const bit<8> REASON_EARLY_FRAGMENT = 14; // a later one whose first one did not come by
const bit<8> REASON_PROXIED = 20; // no flow, and the agent completes the client's handshake
const bit<8> REASON_HELD = 21;    // of a flow whose handshakes are not complete, or an error about one

// What the agent asks for with a packet.
const bit<8> OPERATION_INJECT = 1; // handle it as if it arrived at `port` now
const bit<32> INJECT_ARRIVAL = 1;  // as `value`: whether a flow matches or not
const bit<8> OPERATION_SEND = 2;   // out of `port` as it is
const bit<8> OPERATION_ROUTE = 3;  // an IP packet of the agent's own: by route lookup
const bit<8> OPERATION_REPORT = 4; // tell what was seen of the flow with index `value`
const bit<8> OPERATION_LISTEN = 5; // for `value` ms the agent wants packets

// Every packet raises one of these; the names are the contract's.
const bit<32> COUNTER_NONE = 0; // what the switch says to its own agent
const bit<32> COUNTER_FLOW_PACKETS = 1;
const bit<32> COUNTER_PASSED = 2;
const bit<32> COUNTER_LOCAL = 3;
const bit<32> COUNTER_UP_CALLS = 4;
const bit<32> COUNTER_ICMP_TRANSLATED = 5;
const bit<32> COUNTER_ARP_ANSWERED = 6;
const bit<32> COUNTER_TRANSMITTED = 7;
const bit<32> COUNTER_DROP_MALFORMED = 8;
const bit<32> COUNTER_DROP_FRAGMENT = 9;
const bit<32> COUNTER_DROP_TTL = 10;
const bit<32> COUNTER_DROP_TOO_BIG = 11;
const bit<32> COUNTER_DROP_NO_ROUTE = 12;
const bit<32> COUNTER_DROP_NO_NEIGHBOUR = 13;
const bit<32> COUNTER_DROP_INJECT_UNMATCHED = 14;
const bit<32> COUNTER_DROP_UP_CALL_FULL = 15;
const bit<32> COUNTER_DROP_DETACHED = 16;
const bit<32> COUNTER_DROP_MARTIAN = 17;
const bit<32> COUNTER_DROP_OWN_SOURCE = 18;
const bit<32> COUNTER_DROP_MAPPED = 19;
const bit<32> COUNTER_DROP_SOURCE_ROUTED = 20;
const bit<32> COUNTER_DROP_UNSERVED = 21;
const bit<32> COUNTER_ECHO_ANSWERED = 22;
const bit<32> COUNTER_DROP_RETURN_OUTSIDE = 23;
const bit<32> COUNTER_DROP_TCP_FLAGS = 24;
const bit<32> COUNTER_DROP_ASLEEP = 25;
const bit<32> COUNTER_DROP_GROUP_SOURCE = 27; // of questions; of packets that come up the agent counts
const bit<32> COUNTER_AGAIN = 26; // comes by again, and is counted then
const bit<32> COUNTER_COOKIE_ACKS = 28;
const bit<32> COUNTER_DROP_HELD_RATE = 29;
const bit<32> COUNTERS = 32;

// Which metadata a copy of a packet keeps (@field_list).
#define FIELDS_REPORT 1
#define FIELDS_AGAIN 2

#endif

/* SPDX-License-Identifier: GPL-2.0-only */
/* What the program and the agent both read: keys, values, records of the event ring, counters.
 * Declared here once; data_flow_segment/targets/bpf/layout.py is checked against the BTF of the
 * compiled object by a test.  Integers are in the machine's order, ports and addresses in the
 * network's.  An address is 16 octets, IPv4 as ::ffff:a.b.c.d.
 */
#ifndef SPLITPLANE_SHARED_H
#define SPLITPLANE_SHARED_H

#include <linux/types.h>

/* What the numbers in pinned maps mean.  An agent carries maps over to its own program member by
 * member, by name and type (BTF), so a new member, counter or size needs no new version: a new
 * member's zero must mean what flows without it did.  Raise this when a member keeps its name and
 * type and means something else: an agent refuses maps of another version.
 */
#define LAYOUT_VERSION 1

struct flow_key {
	__be32 src[4];
	__be32 dst[4];
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 pad[3];
};

/* flow.bits */
enum {
	FLOW_RETURN = 1 << 0, /* node to client; the other entry is the flow's home */
	FLOW_OFFSETS = 1 << 1, /* ADD_TCP_OFFSETS */
	FLOW_TUNNEL = 1 << 2,
	FLOW_VIA_NEXT_HOP = 1 << 3, /* route by next_hop, not by the resulting destination */
	FLOW_VIA_NODE = 1 << 4, /* route by node: L2 and TUNNEL leave the destination alone */
	FLOW_FROM_INSIDE = 1 << 5, /* a return entry's: its packets come from the internal side */
	FLOW_SYN_LAST = 1 << 6, /* a home entry's: its last packet was a SYN */
	/* Its packets come up to the agent, which completes handshakes; or, with PARKED in the home
	 * entry's flags, the program completes that with the node (splice.h). */
	FLOW_HELD = 1 << 7,
};

/* flow.close; "own" is the entry's direction, "opposite" the other one */
enum {
	CLOSE_HAVE_SEQ = 1 << 0,
	CLOSE_HAVE_ACK = 1 << 1,
	CLOSE_OWN_FIN = 1 << 2,
	CLOSE_OPPOSITE_FIN = 1 << 3,
	CLOSE_OPPOSITE_FIN_ACKED = 1 << 4, /* by this direction */
	CLOSE_OWN_FIN_ACKED = 1 << 5, /* kept in the home entry only */
	CLOSE_CLOSED = 1 << 6, /* home only: the fourth step, or a valid RST */
	CLOSE_BY_RST = 1 << 7,
	CLOSE_REPORTED = 1 << 8, /* EVENT_CLOSED was sent to the agent */
	CLOSE_OWN_RST = 1 << 9, /* it was this direction's */
	CLOSE_GAP = 1 << 10, /* gap_from, gap_to: this direction sent beyond a hole */
	CLOSE_GAP_FIN = 1 << 11, /* what it sent there ends with its FIN */
	CLOSE_OPPOSITE_GAP = 1 << 12,
};
#define CLOSE_BITS 0x1fffu /* all of them */
/* During an upgrade (upgrade.h) an entry's bits as they were when it was copied lie above its own,
 * and CLOSE_COPIED says that what the old program did since is not merged in yet. */
#define CLOSE_COPIED_SHIFT 16
#define CLOSE_COPIED (1u << 30)

/* One direction of a flow.  A flow is two of these, each found by its own packets' key. */
struct flow {
	/* what its packets become; equal to the key where nothing is translated */
	__be32 new_src[4];
	__be32 new_dst[4];
	__be16 new_sport;
	__be16 new_dport;
	__u16 address_delta; /* one's complement: new addresses minus old ones */
	__u16 port_delta;
	__u8 bits;
	__s8 window_shift;
	__u8 forward_mode;
	__u8 tos; /* of the flow's first packet */
	__u32 seq_add;
	__u32 ack_add;
	__u32 ts_value_add;
	__u32 ts_echo_add;
	/* the route, cached for a second */
	__u32 fib_ifindex;
	__u8 fib_dmac[6];
	__u8 fib_smac[6];
	__u16 fib_mtu;
	__u16 fib_peer; /* the route leads to a veth whose peer is in another namespace */
	__u64 fib_expires; /* ns, CLOCK_MONOTONIC_COARSE */
	/* what was observed */
	__u64 last_seen; /* ns, CLOCK_MONOTONIC_COARSE */
	__u64 packets;
	__u64 bytes; /* IP total length */
	/* the close tracker; sequence numbers are the client side's */
	__u32 next_seq; /* after all that this direction sent */
	__u32 ack; /* what this direction wants next */
	__u32 fin_end; /* sequence number after the opposite direction's FIN */
	__u32 close;
	__u16 window;
	__u8 scale;
	__u8 tcp_flags; /* of all packets, ORed */
	/* what the CS decided, for the agent that adopts the table; home entries only */
	__u32 serial; /* a return entry's: where its packets come from, dfs.bpf.c */
	__u64 opened_ms; /* a return entry's: a SYN that the node has not answered, track.h */
	__u32 idle_timeout_s;
	__u16 group_id;
	__u16 flags;
	__be16 node_port;
	__be16 snat_port;
	__u32 ts_offset;
	__be32 node[4];
	__be32 snat[4];
	__be32 next_hop[4];
	/* with CLOSE_GAP: what this direction sent beyond the nearest hole */
	__u32 gap_from; /* of a held flow: a period, and in gap_to the packets that came up in it */
	__u32 gap_to;
};

struct virtual_server_key {
	__be32 address[4]; /* zero: any */
	__be16 port; /* zero: any */
	__u8 protocol;
	__u8 pad;
};

enum {
	VIRTUAL_SERVER_BRIDGED = 1 << 0,
	VIRTUAL_SERVER_ANSWER_ARP = 1 << 1,
	VIRTUAL_SERVER_PROXIED = 1 << 2, /* clients' handshakes are completed for it */
};

struct virtual_server {
	__u16 flags;
	__u16 group_id;
	__u8 app_type; /* of an APP_QUERY that the program may ask itself; 0: none */
	__u8 pad[3];
};

enum { ADDRESS_ANSWER = 1 << 0 }; /* ARP and neighbour solicitations */

enum { /* values of local_addresses */
       ADDRESS_RESERVED = 1 << 0, /* every one: wildcards do not catch it */
       ADDRESS_OWN = 1 << 1, /* an interface of this machine has it */
       ADDRESS_BROADCAST = 1 << 2, /* all hosts of a network of this machine */
};

enum {
	INTERFACE_EXTERNAL = 1 << 0,
	INTERFACE_INTERNAL = 1 << 1,
	INTERFACE_PEER = 1 << 2,
	INTERFACE_LOOSE = 1 << 3, /* rp_filter: a source needs a route */
	INTERFACE_STRICT = 1 << 4, /* rp_filter: one that leads back out here */
	INTERFACE_TAP = 1 << 5, /* the agent's, where it puts packets back */
};

struct interface {
	__u32 flags;
	__u8 mac[6];
	__u8 pad[2];
	__be32 address4[4]; /* zero: none; the source of tunnelled packets */
	__be32 address6[4];
};

struct fragment_key {
	__be32 src[4];
	__be32 dst[4];
	__be32 id;
	__u8 protocol;
	__u8 pad[3];
};

struct fragment {
	__be16 sport;
	__be16 dport;
	__u32 pad;
	__u64 seen; /* ns */
};

struct next_hop_key {
	__be32 address[4];
	__u32 ifindex;
};

struct next_hop {
	__u64 used; /* ns, CLOCK_MONOTONIC_COARSE: when a route to it was last looked up */
	__u32 unresolved; /* it had no neighbour entry then */
	__u32 pad;
};

enum { QUIET_ECHO = 1 << 0, QUIET_UNSERVED = 1 << 1 };

/* control.flags */
enum {
	CONTROL_ENDS = 1 << 0, /* the program reports ends, and takes out what lingered */
	CONTROL_ASKS = 1 << 1, /* it asks about new flows; keys and addresses are set */
	CONTROL_SHARED = 1 << 2, /* the group has standbys: REPORT_REPLY */
	CONTROL_REFUSED = 1 << 3, /* some flows are in `refused` */
};

/* What the program does itself for the flows of a group, and with whom (wire protocol 6.8, 12.4). */
struct control {
	__u64 sealing_key[2]; /* keys, as SipHash loads them */
	__u64 opening_key[2];
	__be32 address[4]; /* of the active CS */
	__be32 own[4];
	__be16 port;
	__be16 own_port;
	__u16 group_id;
	__u16 flags;
	__u64 half_open_ns;
};

struct control_key {
	__be32 address[4];
	__be16 port;
	__u16 pad;
};

#define COOKIE_SECRETS 4

/* What a group's SYN cookies are made with (cookie.h). */
struct cookie_secrets {
	__u64 keys[2 * COOKIE_SECRETS]; /* by their number modulo 4, as SipHash loads them */
	__u16 mss_less; /* octets that the MSS is announced less */
	__u8 current; /* number of the secret of new ones */
	__u8 valid; /* bit n: the secret with number n is good */
	__u8 ecn; /* agreed with who asks */
	__u8 pad[3];
};

#define LANES 4 /* of a CS whose REPLYs the program opens; others are the agent's */
#define WINDOW 1024 /* counters, wire protocol 12.4 */
#define WINDOW_WORDS 32 /* a power of two, with room for more than a window */

enum report_kind {
	REPORT_DELETE = 1,
	REPORT_REPLY = 2, /* that the program carried out; for the standbys */
	REPORT_TAKEN = 3, /* what became of a grant: a flow of TAKEN */
	REPORT_NOTHING = 4, /* room that was not needed after all */
};

#define REPORT_OCTETS 120 /* a multiple of eight; of the longest message, and more */

/* A finished message of version 2, for the agent to send in batches. */
struct report {
	__u16 group_id;
	__u8 kind;
	__u8 pad[5];
	__u8 octets[REPORT_OCTETS];
};

/* Grants (wire protocol 13): decisions that the CS made ahead.  A generation of a virtual server has a
 * slot, of its own until it has ended: a part of each of the arrays below. */
#define GRANT_SLOTS 256
#define GRANTED_MAX 1024 /* decisions of a slot that are not taken; a power of two */
#define GRANT_NODES_MAX 64
#define GRANT_TABLE_MAX 16384
#define GRANT_ENTRIES 64 /* of a table, in one element */

/* grants.kind */
enum {
	GRANT_KIND_NODES = 0,
	GRANT_KIND_HASH = 1,
	GRANT_KIND_HASH_SOURCE = 2,
	GRANT_KIND_CLIENTS = 3
};

/* The agent's: the current generation of a virtual server. */
struct grants {
	__u32 slot;
	__u32 tail; /* decisions that were given */
	__u32 table_size;
	__u16 group_id;
	__u8 kind;
	__u8 inside; /* good for packets from the nodes' side, too */
	__u32 generation; /* for the agent */
	__u32 pad;
	__u64 use; /* of the slot; another one each time */
};

/* grant_slot.counts, wire protocol 13.5 */
enum grant_count {
	GRANT_TAKEN,
	GRANT_INSIDE,
	GRANT_OLD,
	GRANT_UNKNOWN,
	GRANT_DRY,
	GRANT_RACED,
	GRANT_FULL,
	GRANT_COUNTS,
};

#define GRANT_CLOSED (1u << 31) /* in head: nothing is taken any more */

/* The program's. */
struct grant_slot {
	__u32 head; /* decisions that were taken */
	__u32 pad;
	__u64 counts[GRANT_COUNTS];
};

struct granted {
	__u32 serial;
	__u16 node;
	__be16 snat_port;
};

struct granted_node {
	__be32 node[4];
	__be32 snat[4];
	__be32 next_hop[4];
	__be16 node_port;
	__u16 flags; /* as in a REPLY */
	__u32 idle_timeout_s; /* 0: there is no such node */
	__u8 forward_mode;
	__u8 pad[7];
};

struct granted_entries {
	__u8 nodes[GRANT_ENTRIES];
};

struct granted_client_key {
	__be32 address[4];
	__u64 use;
};

struct granted_client {
	__u64 until; /* ns, CLOCK_MONOTONIC */
	__u32 node;
	__u32 pad;
};

/* Where a client is, for what is known of clients: an IPv4 address, or an IPv6 network of 64 bits. */
struct client_network {
	__be32 octets[2];
};

#define REQUEST_FRAME 512 /* as long as a PARKED frame may be */

/* What a client said first, of a flow that the program splices itself (splice.h), as it lay in the
 * QUERY, and what its node's answer is held to. */
struct request {
	__u32 client_isn;
	__u32 own_isn; /* the cookie */
	__u32 own_timestamp;
	__u16 length;
	__u16 l4; /* where its TCP header begins */
	__u8 has_timestamps;
	__u8 pad[7];
	__u8 frame[REQUEST_FRAME];
};

/* Questions that CSs have not answered yet; those of long ago count for less. */
struct questions {
	__u64 since; /* ns, CLOCK_MONOTONIC_COARSE */
	__s64 unanswered;
};

/* A flow that is to be looked at later. */
struct due {
	struct flow_key key;
	__u32 serial;
	__u32 pad;
	__u64 at; /* ns, CLOCK_MONOTONIC_COARSE */
};

struct meta {
	__u64 boot_id; /* 0: the table is new */
	__u32 layout;
	__u32 outbound_query;
	__u64 listening; /* 0: no agent listens */
	__u64 quiet; /* what packets to virtual addresses are not answered */
	__u64 serial_key[2]; /* of the hash that serials are made with */
};

enum event_kind {
	EVENT_PACKET = 1, /* reason: PacketReason */
	EVENT_TTL = 2, /* a packet whose time to live ended here; frame: its beginning */
	EVENT_TOO_BIG = 3, /* likewise, too long for `mtu` */
	EVENT_CLOSED = 4,
	EVENT_FRAGMENT = 5, /* a later fragment that came before its first one */
	EVENT_SPLIT =
		6, /* too long for `mtu`, and its sender allows fragments; frame: all of it */
	EVENT_REOPENED = 7, /* struct event_closed: it goes on */
};

struct event_packet {
	__u8 kind;
	__u8 reason;
	__u8 tcp_flags;
	__u8 tos;
	__u32 ifindex;
	__u16 vlan_tci;
	__be16 vlan_proto; /* 0: no tag taken off by the NIC */
	__u16 frame_length;
	__u16 mtu;
	struct flow_key key;
	struct virtual_server_key server; /* protocol 0: none */
};

struct event_closed {
	__u8 kind;
	__u8 by_rst;
	__u8 opposite_tcp_flags;
	__u8 pad[5];
	struct flow_key key;
	struct flow home;
	__u64 opposite_last_seen;
	__u64 opposite_packets;
	__u64 opposite_bytes;
};

/* an upgrade's input: what the old program knew last of one direction (upgrade.h) */
struct merge_flow {
	struct flow_key key;
	__u64 last_seen;
	__u64 packets;
	__u64 bytes;
	__u64 opened_ms;
	__u32 next_seq;
	__u32 ack;
	__u32 fin_end;
	__u32 close;
	__u16 window;
	__u8 scale;
	__u8 tcp_flags;
	__u32 pad;
};

struct merge_counter {
	__u64 counter;
	__u64 packets;
};

#define MERGE_HEADER 16 /* the input is a packet, with what tc wants for a link header */
#define MERGE_FLOWS 32 /* records at once; a test run takes a little less than a page */
#define MERGE_COUNTERS 128

/* Names are what an upgrade knows counters by, so BTF has them: a global function's parameter is
 * of this type. */
enum counter {
	COUNTER_FLOW_PACKETS,
	COUNTER_PASSED,
	COUNTER_LOCAL,
	COUNTER_UP_CALLS,
	COUNTER_ICMP_TRANSLATED,
	COUNTER_ARP_ANSWERED,
	COUNTER_DROP_MALFORMED,
	COUNTER_DROP_CHECKSUM,
	COUNTER_DROP_FRAGMENT,
	COUNTER_DROP_TTL,
	COUNTER_DROP_TOO_BIG,
	COUNTER_DROP_NO_ROUTE,
	COUNTER_DROP_NO_NEIGHBOUR,
	COUNTER_DROP_FORWARDING_OFF,
	COUNTER_DROP_INJECT_UNMATCHED,
	COUNTER_DROP_UP_CALL_FULL,
	COUNTER_DROP_UP_CALL_TOO_LONG,
	COUNTER_DROP_DETACHED,
	COUNTER_DROP_NO_ROOM,
	COUNTER_DROP_MARTIAN,
	COUNTER_DROP_OWN_SOURCE,
	COUNTER_DROP_MAPPED,
	COUNTER_DROP_SOURCE_ROUTED,
	COUNTER_DROP_REVERSE_PATH,
	COUNTER_DROP_UNSERVED,
	COUNTER_ECHO_ANSWERED,
	COUNTER_DROP_RETURN_OUTSIDE,
	COUNTER_DROP_TCP_FLAGS,
	COUNTER_DROP_ASLEEP,
	COUNTER_DROP_GROUP_SOURCE,
	COUNTER_TAGGED,
	COUNTER_ASKED,
	COUNTER_DROP_CROWDED,
	COUNTER_DROP_NODE_UNKNOWN,
	COUNTER_COOKIES_MADE,
	COUNTER_COOKIE_ACKS,
	COUNTER_DROP_COOKIE,
	COUNTER_DROP_ICMP_UNREADABLE,
	COUNTER_DROP_BRIDGED,
	COUNTER_DROP_HELD_RATE,
	/* not packets from here on */
	COUNTER_REPLY_REPLAYED,
	COUNTER_REPLY_STALE,
	COUNTER_INSTALLED,
	COUNTER_TAKEN_OUT,
	COUNTER_ENDED,
	COUNTER_HALF_OPEN_ENDED,
	COUNTER_HALF_OPEN_EVICTED,
	COUNTER_LINGERING_REPLACED,
	COUNTER_SHORT_ASKED,
	COUNTER_SHORT_SPLICED,
	COUNTER_SHORT_LEFT,
	COUNTER_EVENT_LOST, /* EVENT_CLOSED found no room; a sweep reports it */
	COUNTERS,
};

#endif

/* SPDX-License-Identifier: GPL-2.0-only */
/* Every map.  All are pinned by the agent, so that flows survive the agent. */
#ifndef SPLITPLANE_MAPS_H
#define SPLITPLANE_MAPS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "shared.h"

#define FRAME_MAX 9216 /* of an up-call; longer is a segmentation-offload packet */
#define SCRATCH_FRAME (FRAME_MAX + 1024) /* room for a checksum's whole last chunk */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct flow_key);
	__type(value, struct flow);
	__uint(max_entries, 131072); /* the agent sets it: two for each flow */
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct virtual_server_key);
	__type(value, struct virtual_server);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} virtual_servers SEC(".maps");

/* addresses of virtual servers: which are answered for, and whose fragments are expected */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __be32[4]);
	__type(value, __u32);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} addresses SEC(".maps");

/* addresses that wildcard virtual servers never catch */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __be32[4]);
	__type(value, __u32);
	__uint(max_entries, 65536); /* at least: the agent sizes it by the host's addresses */
	__uint(map_flags, BPF_F_NO_PREALLOC);
} local_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32); /* ifindex */
	__type(value, struct interface);
	__uint(max_entries, 4096); /* at least, likewise */
	__uint(map_flags, BPF_F_NO_PREALLOC);
} interfaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
	__uint(max_entries, 16384);
} fragments SEC(".maps");

/* The key of the node's packets of a TCP flow that fell asleep -> that of its client's: the entries
 * are gone, but the CS remembers the session.  The agent enters them; the oldest yields. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, struct flow_key);
	__uint(max_entries, 65536);
} asleep SEC(".maps");

/* The keys of packets that are nobody's although they look so: that answer what the internal side
 * sent of itself, where a wildcard would take them for a client's, and those of a node to somebody who
 * talks to it itself.  When the other end's last packet came.  The oldest yields. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, __u64); /* ns, CLOCK_MONOTONIC_COARSE */
	__uint(max_entries, 65536);
} outgoing SEC(".maps");

/* where nodes take translated packets, and send their answers from; port 0: any */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct virtual_server_key);
	__type(value, __u32);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} node_places SEC(".maps");

/* next hops of flows: the agent has the kernel check that they still have their MAC addresses */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct next_hop_key);
	__type(value, struct next_hop);
	__uint(max_entries, 4096);
} next_hops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct meta);
	__uint(max_entries, 1);
} meta SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, COUNTERS);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20); /* octets: some 80,000 SYNs */
} events SEC(".maps");

/* Messages about flows that wait for companions: of events the agent looks at each one. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20); /* octets: some 120,000 messages */
} reports SEC(".maps");

/* by group */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct control);
	__uint(max_entries, 256);
} controls SEC(".maps");

/* where CSs send from -> their group */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct control_key);
	__type(value, __u32);
	__uint(max_entries, 256);
} control_groups SEC(".maps");

/* what SYN cookies are made with, by group */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct cookie_secrets);
	__uint(max_entries, 256);
} cookies SEC(".maps");

/* The counters that were seen of a lane of the current key; the key is group << 8 | lane. */
struct replay_window {
	struct bpf_spin_lock lock;
	__u32 pad;
	__u64 highest;
	__u64 seen[WINDOW_WORDS]; /* bit n: of the latest counter that is n modulo their number */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct replay_window);
	__uint(max_entries, 256 * LANES);
} windows SEC(".maps");

/* the counter of the seal: each processor is a lane of its own */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} sealed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct questions);
	__uint(max_entries, 1);
} questions SEC(".maps");

/* clients that completed a handshake; when the latest was noted */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct client_network);
	__type(value, __u64); /* ns, CLOCK_MONOTONIC_COARSE */
	__uint(max_entries, 65536);
} known_clients SEC(".maps");

/* flows that a CS refused a moment ago: the agent answers them */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, __u64); /* until when; ns, CLOCK_MONOTONIC_COARSE */
	__uint(max_entries, 65536);
} refused SEC(".maps");

/* Clients' first segments that were asked about, by their key: when.  What else they say before there
 * is a flow is theirs; the oldest yields. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, __u64); /* ns, CLOCK_MONOTONIC_COARSE */
	__uint(max_entries, 16384);
} asked SEC(".maps");

/* what clients said first whose nodes have not answered yet, by the key of their packets; the oldest
 * yields, and its client says it again */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, struct request);
	__uint(max_entries, 16384);
} requests SEC(".maps");

/* Sessions of UDP whose flow the agent took out -> what makes the serial of the next one another */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, __u32);
	__uint(max_entries, 16384);
} renewed SEC(".maps");

/* Flows in the order in which they are to be looked at: those that closed, ... */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__type(value, struct due);
	__uint(max_entries, 65536); /* the agent sets it: one for each flow */
} lingering SEC(".maps");

/* ... and those that began. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__type(value, struct due);
	__uint(max_entries, 65536); /* likewise */
} opening SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct virtual_server_key);
	__type(value, struct grants);
	__uint(max_entries, GRANT_SLOTS);
} grants SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32); /* slot */
	__type(value, struct grant_slot);
	__uint(max_entries, GRANT_SLOTS);
} grant_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32); /* slot * GRANTED_MAX + a position modulo GRANTED_MAX */
	__type(value, struct granted);
	__uint(max_entries, GRANT_SLOTS *GRANTED_MAX);
} grant_rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32); /* slot * GRANT_NODES_MAX + index */
	__type(value, struct granted_node);
	__uint(max_entries, GRANT_SLOTS *GRANT_NODES_MAX);
} grant_nodes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32); /* (slot * GRANT_TABLE_MAX + entry) / GRANT_ENTRIES */
	__type(value, struct granted_entries);
	__uint(max_entries, GRANT_SLOTS *GRANT_TABLE_MAX / GRANT_ENTRIES);
} grant_tables SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct granted_client_key);
	__type(value, struct granted_client);
	__uint(max_entries, 65536);
} grant_clients SEC(".maps");

/* group -> until when its grants may be used; ns, CLOCK_MONOTONIC */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 256);
} leases SEC(".maps");

#define HEADROOM 44 /* with the event: a QUERY, and what it is sent in, before the frame */

struct scratch {
	__u8 headroom[HEADROOM];
	struct event_packet event;
	__u8 frame[SCRATCH_FRAME];
	struct due due;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct scratch);
	__uint(max_entries, 1);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct event_closed);
	__uint(max_entries, 1);
} scratch_closed SEC(".maps");

/* notifications of senders in the current period, by event kind */
struct rate_limit {
	__u64 since; /* ns */
	__u64 number;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct rate_limit);
	__uint(max_entries, 9);
} rate_limit SEC(".maps");

static __always_inline struct interface *interface_at(__u32 ifindex)
{
	return bpf_map_lookup_elem(&interfaces, &ifindex);
}

static __always_inline void count(enum counter counter)
{
	__u32 number = counter;
	__u64 *value = bpf_map_lookup_elem(&counters, &number);

	if (value)
		(*value)++;
}

#endif

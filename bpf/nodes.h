/* SPDX-License-Identifier: GPL-2.0-only */
/* Packets of nodes that no flow knows.  Routed on, a client would get them from an address that it
 * never heard of, and answer with a RST: the agent asks the CS whose they are.  Whoever talks to a
 * node itself is known by its own packets to the node.
 */
#ifndef SPLITPLANE_NODES_H
#define SPLITPLANE_NODES_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "maps.h"
#include "parse.h"
#include "shared.h"
#include "upcall.h"

enum whose { NOBODYS, A_NODES, A_NODES_TO_DROP };

/* Whether translated packets go there; the port is lost. */
static __always_inline bool is_place(struct virtual_server_key *place)
{
	if (bpf_map_lookup_elem(&node_places, place))
		return true;
	place->port = 0;
	return bpf_map_lookup_elem(&node_places, place);
}

/* Of a packet that neither a flow nor a virtual server wants. */
static __always_inline int whose(struct context *c, struct packet *p)
{
	struct virtual_server_key place = {
		.protocol = PROTOCOL_TCP,
		.port = p->key.dport,
	};
	struct interface *interface;
	struct flow_key key = {
		.sport = p->key.dport,
		.dport = p->key.sport,
		.protocol = PROTOCOL_TCP,
	};
	__u64 now;

	if (p->key.protocol != PROTOCOL_TCP || bpf_map_lookup_elem(&local_addresses, p->key.dst))
		return NOBODYS;
	__builtin_memcpy(place.address, p->key.dst, 16);
	if (is_place(&place)) {
		__builtin_memcpy(key.src, p->key.dst, 16);
		__builtin_memcpy(key.dst, p->key.src, 16);
		now = bpf_ktime_get_coarse_ns();
		bpf_map_update_elem(&outgoing, &key, &now, BPF_ANY);
	}
	interface = interface_at(c->ifindex);
	if (!interface || !(interface->flags & INTERFACE_INTERNAL) || is_syn(p))
		return NOBODYS;
	__builtin_memcpy(place.address, p->key.src, 16);
	place.port = p->key.sport;
	if (!is_place(&place) || bpf_map_lookup_elem(&outgoing, &p->key))
		return NOBODYS;
	return p->tcp_flags & TCP_RST || !may_notify(RATE_NODE) ? A_NODES_TO_DROP : A_NODES;
}

GLOBAL_FUNCTION(whose, (), ())

#endif

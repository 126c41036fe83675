/* SPDX-License-Identifier: GPL-2.0-only */
/* Answers before questions (wire protocol 13.5): a new flow takes a decision that the CS made ahead,
 * and its first packet goes on at once.  Which flow took which decision goes to the CS in a TAKEN
 * that is written here.
 */
#ifndef SPLITPLANE_GRANTS_H
#define SPLITPLANE_GRANTS_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "entries.h"
#include "maps.h"
#include "parse.h"
#include "shared.h"
#include "siphash.h"
#include "ssmb.h"

#define TRIES 8 /* of an atomic step that other processors take as well */
#define HASH_KEY_0 0x616c7074696c7073ull /* "splitplane nodes", as SipHash loads it */
#define HASH_KEY_1 0x7365646f6e20656eull
#define HASHED_AT 0 /* in the scratch */

/* Results of `take_grant`. */
#define GRANT_NONE 0 /* the packet is to be asked about */
#define GRANT_USED 1 /* its flow is there now */

static __always_inline int count_grant(struct grant_slot *slot, enum grant_count what)
{
	__sync_fetch_and_add(&slot->counts[what], 1);
	return GRANT_NONE;
}

static __always_inline bool is_leased(__u32 group_id)
{
	__u64 *until = bpf_map_lookup_elem(&leases, &group_id);

	return until && *until > bpf_ktime_get_ns();
}

/* The hash of control_segment/methods/hashing.py, of the session's key or of the client's address. */
static __always_inline int hash_of(struct packet *p, __u8 kind, __u64 *hash)
{
	struct hashing hashing = {
		.key = { HASH_KEY_0, HASH_KEY_1 },
		.from = HASHED_AT,
		.length = kind == GRANT_KIND_HASH_SOURCE ? 16 : 37,
	};
	__u32 zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	int failed;

	if (!s)
		return -1;
	/* a key lies as a QUERY has it: addresses, ports, protocol */
	__builtin_memcpy((__u8 *)s + HASHED_AT, &p->key, sizeof(p->key));
	failed = siphash(&hashing);
	*hash = little_endian(hashing.hash);
	return failed;
}

/* The index of the node that the packet's flow gets, if it does not depend on the decision; -1: none.
 */
static __always_inline int find_node(struct packet *p, const struct grants *g)
{
	struct granted_entries *entries;
	__u32 entry, at;
	__u64 hash;

	if (g->kind == GRANT_KIND_CLIENTS) {
		struct granted_client_key key = { .use = g->use };
		struct granted_client *client;

		__builtin_memcpy(key.address, p->key.src, 16);
		client = bpf_map_lookup_elem(&grant_clients, &key);
		return client && client->until > bpf_ktime_get_ns() ? client->node : -1;
	}
	if (!g->table_size || hash_of(p, g->kind, &hash))
		return -1;
	entry = hash % g->table_size;
	at = (g->slot * GRANT_TABLE_MAX + entry) / GRANT_ENTRIES;
	entries = bpf_map_lookup_elem(&grant_tables, &at);
	return entries ? entries->nodes[entry & (GRANT_ENTRIES - 1)] : -1;
}

static __always_inline struct granted_node *node_at(const struct grants *g, __u32 index)
{
	__u32 at = g->slot * GRANT_NODES_MAX + index;
	struct granted_node *node;

	if (index >= GRANT_NODES_MAX)
		return NULL;
	node = bpf_map_lookup_elem(&grant_nodes, &at);
	return node && node->idle_timeout_s ? node : NULL;
}

static __always_inline bool is_dry(struct grant_slot *slot, const struct grants *g)
{
	__u32 head = *(volatile __u32 *)&slot->head;

	return head & GRANT_CLOSED || head == g->tail;
}

/* Move the head on by one; the position of the decision, GRANT_CLOSED if there is none. */
static __always_inline __u32 pop(struct grant_slot *slot, const struct grants *g)
{
	int i;

	for (i = 0; i < TRIES; i++) {
		__u32 head = *(volatile __u32 *)&slot->head;

		if (head & GRANT_CLOSED || head == g->tail)
			return GRANT_CLOSED;
		if (__sync_val_compare_and_swap(&slot->head, head, head + 1) == head)
			return head;
	}
	return GRANT_CLOSED;
}

static __always_inline void decide(struct decision *d, struct packet *p, const struct grants *g,
				   const struct granted *granted, const struct granted_node *node)
{
	__builtin_memset(d, 0, sizeof(*d));
	d->key = p->key;
	d->tos = p->tos & 0xfc;
	d->serial = granted->serial;
	d->group_id = g->group_id;
	d->flags = node->flags;
	d->node_port = node->node_port;
	d->snat_port = granted->snat_port;
	d->idle_timeout_s = node->idle_timeout_s;
	d->forward_mode = node->forward_mode;
	d->half_open = p->key.protocol == PROTOCOL_TCP;
	__builtin_memcpy(d->node, node->node, 16);
	__builtin_memcpy(d->snat, node->snat, 16);
	__builtin_memcpy(d->next_hop, node->next_hop, 16);
}

static __always_inline void write_taken(struct report *written, struct packet *p,
					const struct grants *g, __u32 serial, __u8 node,
					__u8 error_code)
{
	struct taken_flow *m = (void *)written->octets;

	written->group_id = g->group_id;
	written->kind = REPORT_TAKEN;
	m->beginning.type = SSMB_TAKEN;
	m->beginning.error_code = error_code;
	m->beginning.flags = bpf_htons(SSMB_ADDR16);
	m->beginning.serial = bpf_htonl(serial);
	__builtin_memcpy(m->beginning.src, p->key.src, 16);
	__builtin_memcpy(m->beginning.dst, p->key.dst, 16);
	m->beginning.sport = p->key.sport;
	m->beginning.dport = p->key.dport;
	m->beginning.protocol = p->key.protocol;
	m->beginning.tos = p->tos & 0xfc;
	m->beginning.tcp_flags = p->tcp_flags;
	m->beginning.detail = node;
	/* one decision comes back, or when the flow began */
	m->timestamp = bpf_htonl(error_code ? 1 : bpf_ktime_get_coarse_ns() / NS_PER_MS);
	bpf_ringbuf_submit(written, 0);
}

/* Take the next decision for the packet, and enter its flow. */
static __always_inline int use_decision(struct packet *p, const struct grants *g,
					struct grant_slot *slot, int index)
{
	struct report *written;
	struct granted_node *node;
	struct granted *granted;
	struct making *made;
	__u32 zero = 0, position, at;
	int entered;

	made = bpf_map_lookup_elem(&making, &zero);
	if (!made || is_dry(slot, g))
		return count_grant(slot, GRANT_DRY);
	/* no decision is taken of which the CS would not hear */
	written = bpf_ringbuf_reserve(&reports, sizeof(*written), 0);
	if (!written)
		return count_grant(slot, GRANT_FULL);
	position = pop(slot, g);
	at = g->slot * GRANTED_MAX + (position & (GRANTED_MAX - 1));
	granted = bpf_map_lookup_elem(&grant_rings, &at);
	if (position & GRANT_CLOSED || !granted) {
		written->kind = REPORT_NOTHING;
		bpf_ringbuf_submit(written, 0);
		return count_grant(slot, GRANT_DRY);
	}
	if (index < 0)
		index = granted->node;
	node = node_at(g, index);
	entered = ENTERED_LEFT;
	if (node) {
		decide(&made->decision, p, g, granted, node);
		entered = enter_flow();
	}
	write_taken(written, p, g, granted->serial, index,
		    entered == ENTERED	    ? SSMB_OK :
		    entered == ENTERED_LEFT ? SSMB_NORESOURCE :
					      SSMB_CONNALIVE);
	if (entered == ENTERED_LEFT)
		return count_grant(slot, GRANT_FULL);
	count_grant(slot, entered == ENTERED ? GRANT_TAKEN : GRANT_RACED);
	return GRANT_USED;
}

/* Whether the virtual server whose key lies in `making` has grants. */
static __always_inline bool has_grants(void)
{
	__u32 zero = 0;
	struct making *made = bpf_map_lookup_elem(&making, &zero);

	return made && bpf_map_lookup_elem(&grants, &made->server);
}

/* For the first packet of a flow to that virtual server. */
__noinline int take_grant(struct packet *p, bool is_inside)
{
	struct grant_slot *slot;
	struct making *made;
	struct grants *g;
	__u32 zero = 0, number;
	int index = -1;

	if (!p)
		return GRANT_NONE;
	made = bpf_map_lookup_elem(&making, &zero);
	g = made ? bpf_map_lookup_elem(&grants, &made->server) : NULL;
	if (!g)
		return GRANT_NONE;
	number = g->slot;
	slot = bpf_map_lookup_elem(&grant_slots, &number);
	if (!slot)
		return GRANT_NONE;
	if (is_inside && !g->inside)
		return count_grant(slot, GRANT_INSIDE);
	if (!is_leased(g->group_id))
		return count_grant(slot, GRANT_OLD);
	if (g->kind != GRANT_KIND_NODES) {
		struct granted_node *node;

		index = find_node(p, g);
		node = index < 0 ? NULL : node_at(g, index);
		if (!node || is_mapped(node->node) != is_mapped(p->key.src))
			return count_grant(slot, GRANT_UNKNOWN);
	}
	return use_decision(p, g, slot, index);
}

/* By the agent (BPF_PROG_TEST_RUN, the slot in the second four octets): nothing of the slot is taken
 * any more; how far its head came. */
SEC("tc")
int dfs_close_grants(struct __sk_buff *skb)
{
	struct grant_slot *slot;
	__u32 number;

	if (bpf_skb_load_bytes(skb, 14, &number, 4))
		return -1;
	slot = bpf_map_lookup_elem(&grant_slots, &number);
	if (!slot)
		return -1;
	return __sync_fetch_and_or(&slot->head, GRANT_CLOSED) & ~GRANT_CLOSED;
}

#endif

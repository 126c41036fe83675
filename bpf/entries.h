/* SPDX-License-Identifier: GPL-2.0-only */
/* A decision of a CS as two entries, entered by the program itself: what
 * data_flow_segment/targets/bpf/flows.py does for the agent.  The return direction is entered first
 * and taken out last, so that no packet ever meets half of a flow.
 */
#ifndef SPLITPLANE_ENTRIES_H
#define SPLITPLANE_ENTRIES_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "endings.h"
#include "filter.h"
#include "maps.h"
#include "parse.h"
#include "segment.h"
#include "shared.h"
#include "ssmb.h"
#include "sums.h"

#define DECIDED                                                                                  \
	(SSMB_TRANSLATE_ADDR | SSMB_TRANSLATE_PORT | SSMB_TRANSLATE_SRC | SSMB_ROUTE_BY_DST_IP)
#define SHORT_WAY (SSMB_PROXY_SERVER | SSMB_PARKED) /* in a home entry's flags */
#define EEXIST_ 17
#define E2BIG_ 7

enum entered {
	ENTERED,
	ENTERED_BEFORE, /* the same flow is there */
	ENTERED_STALE, /* its flow is over, or another one has its place */
	ENTERED_LEFT, /* the agent has to look at it: what is rare, and what cannot be */
	ENTERED_FULL, /* the table is */
};

struct decision {
	struct flow_key key;
	__be32 node[4];
	__be32 snat[4];
	__be32 next_hop[4];
	__be16 node_port;
	__be16 snat_port;
	__u16 group_id;
	__u16 flags; /* of REPLY */
	__u32 serial;
	__u32 idle_timeout_s;
	__u8 forward_mode;
	__u8 tos;
	__u8 half_open; /* the flow begins with a SYN */
	__u8 is_short; /* the program completes the handshake with the node (splice.h) */
	__u8 pad[4];
};

/* Too much for a stack. */
struct making {
	struct virtual_server_key server; /* that a new flow's packet is for */
	__u32 pad;
	struct decision decision;
	struct flow_key back_key;
	struct flow home;
	struct flow back;
	struct packet packet; /* of programs that need their stack for what they call */
	struct request kept; /* splice.h */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct making);
	__uint(max_entries, 1);
} making SEC(".maps");

static __always_inline __u32 address_sum(const __be32 *address)
{
	__u64 sum = (__u64)address[0] + address[1] + address[2] + address[3];

	return fold((sum & 0xffffffff) + (sum >> 32));
}

/* What turns the complement of a checksum over `before` into one over `after`; equal sums are 0. */
static __always_inline __u16 sum_change(__u32 before, __u32 after)
{
	__u16 change = fold((__u64)after + (__u16)~before);

	return change == 0xffff ? 0 : change;
}

/* Another machine's, of the flow's family: otherwise packets could go round for ever. */
static __always_inline bool may_be_end(const struct decision *d, const __be32 *address)
{
	__u8 version = is_mapped(d->key.src) ? 4 : 6;

	return is_mapped(address) == (version == 4) && !is_martian(version, address) &&
	       !is_ours(address);
}

/* What the program can carry out; of the rest the agent says why not. */
static __always_inline bool is_plain(const struct decision *d)
{
	bool is_nat = d->forward_mode == SSMB_NAT;

	if (d->flags & ~DECIDED || d->forward_mode > SSMB_TUNNEL || !d->idle_timeout_s)
		return false;
	if (is_ours(d->key.src))
		return false;
	if ((d->flags & SSMB_TRANSLATE_ADDR || !is_nat) && !may_be_end(d, d->node))
		return false;
	if (d->flags & SSMB_TRANSLATE_PORT && is_nat && !d->node_port)
		return false;
	/* the source may be an address of this machine */
	if (d->flags & SSMB_TRANSLATE_SRC && (is_mapped(d->snat) != is_mapped(d->key.src) ||
					      is_martian(is_mapped(d->snat) ? 4 : 6, d->snat)))
		return false;
	if (!(d->next_hop[0] | d->next_hop[1] | d->next_hop[2] | d->next_hop[3]))
		return d->flags & SSMB_ROUTE_BY_DST_IP; /* the agent knows the next hop */
	return !is_martian(is_mapped(d->next_hop) ? 4 : 6, d->next_hop) &&
	       (d->flags & SSMB_ROUTE_BY_DST_IP || !is_ours(d->next_hop));
}

static __always_inline void make_entries(struct making *m, __u64 now)
{
	const struct decision *d = &m->decision;
	struct flow *home = &m->home, *back = &m->back;
	bool is_nat = d->forward_mode == SSMB_NAT;
	__u32 before, after;

	__builtin_memset(home, 0, sizeof(*home));
	__builtin_memset(back, 0, sizeof(*back));
	__builtin_memcpy(home->new_src,
			 is_nat && d->flags & SSMB_TRANSLATE_SRC ? d->snat : d->key.src, 16);
	__builtin_memcpy(home->new_dst,
			 is_nat && d->flags & SSMB_TRANSLATE_ADDR ? d->node : d->key.dst, 16);
	home->new_sport = is_nat && d->flags & SSMB_TRANSLATE_SRC && d->snat_port ? d->snat_port :
										    d->key.sport;
	home->new_dport = is_nat && d->flags & SSMB_TRANSLATE_PORT ? d->node_port : d->key.dport;
	__builtin_memcpy(back->new_src, d->key.dst, 16);
	__builtin_memcpy(back->new_dst, d->key.src, 16);
	back->new_sport = d->key.dport;
	back->new_dport = d->key.sport;
	before = address_sum(d->key.src) + address_sum(d->key.dst);
	after = address_sum(home->new_src) + address_sum(home->new_dst);
	home->address_delta = sum_change(fold(before), fold(after));
	back->address_delta = sum_change(fold(after), fold(before));
	before = (__u32)d->key.sport + d->key.dport;
	after = (__u32)home->new_sport + home->new_dport;
	home->port_delta = sum_change(fold(before), fold(after));
	back->port_delta = sum_change(fold(after), fold(before));
	if (!(d->flags & SSMB_ROUTE_BY_DST_IP))
		home->bits = FLOW_VIA_NEXT_HOP;
	else if (!is_nat)
		home->bits = FLOW_VIA_NODE;
	if (d->forward_mode == SSMB_TUNNEL)
		home->bits |= FLOW_TUNNEL;
	back->bits = FLOW_RETURN | FLOW_FROM_INSIDE;
	if (d->is_short) {
		home->bits |= FLOW_HELD;
		back->bits |= FLOW_HELD;
	}
	home->forward_mode = d->forward_mode;
	back->forward_mode = d->forward_mode;
	home->tos = d->tos;
	back->tos = d->tos;
	home->last_seen = now;
	back->last_seen = now;
	if (d->half_open)
		home->tcp_flags = TCP_SYN;
	home->serial = d->serial;
	home->opened_ms = (__u32)(now / NS_PER_MS);
	home->idle_timeout_s = d->idle_timeout_s;
	home->group_id = d->group_id;
	home->flags = d->is_short ? d->flags | SHORT_WAY : d->flags;
	home->node_port = bpf_ntohs(d->node_port); /* as the agent writes them */
	home->snat_port = bpf_ntohs(d->snat_port);
	__builtin_memcpy(home->node, d->node, 16);
	__builtin_memcpy(home->snat, d->snat, 16);
	__builtin_memcpy(home->next_hop, d->next_hop, 16);
	opposite_key(home, d->key.protocol, &m->back_key);
}

static __always_inline bool same_key(const struct flow_key *a, const struct flow_key *b)
{
	return same_address(a->src, b->src) && same_address(a->dst, b->dst) &&
	       a->sport == b->sport && a->dport == b->dport;
}

/* The entry in the way of the return direction may be that of a flow that only lingers: its source
 * port was given out again. */
static __always_inline bool drop_lingering(const struct flow_key *back_key)
{
	struct flow *back = bpf_map_lookup_elem(&flows, back_key), *home;
	struct flow_key key;

	if (!back || !(back->bits & FLOW_RETURN))
		return false;
	opposite_key(back, back_key->protocol, &key);
	home = bpf_map_lookup_elem(&flows, &key);
	if (!home || !(home->close & CLOSE_CLOSED) || !(home->close & CLOSE_REPORTED))
		return false;
	take_out(&key, home);
	count(COUNTER_LINGERING_REPLACED);
	return true;
}

static __always_inline int enter_both(struct making *m)
{
	long failed = bpf_map_update_elem(&flows, &m->back_key, &m->back, BPF_NOEXIST);

	if (failed)
		return failed;
	failed = bpf_map_update_elem(&flows, &m->decision.key, &m->home, BPF_NOEXIST);
	if (failed)
		bpf_map_delete_elem(&flows, &m->back_key);
	return failed;
}

/* Enter the decision that lies in `making`, if there is room. */
__noinline int try_to_enter(void)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct decision *d;
	struct making *m;
	struct flow *known;
	__u32 zero = 0;
	int failed;

	m = bpf_map_lookup_elem(&making, &zero);
	if (!m)
		return ENTERED_LEFT;
	d = &m->decision;
	known = bpf_map_lookup_elem(&flows, &d->key);
	if (known) {
		if (known->bits & FLOW_RETURN)
			return ENTERED_LEFT;
		if (!(known->close & CLOSE_CLOSED))
			return known->serial == d->serial ? ENTERED_BEFORE : ENTERED_STALE;
		if (known->serial == d->serial)
			return ENTERED_STALE;
		if (!(known->close & CLOSE_REPORTED))
			return ENTERED_LEFT;
	}
	if (!is_plain(d))
		return ENTERED_LEFT;
	make_entries(m, now);
	if (same_key(&d->key, &m->back_key))
		return ENTERED_LEFT;
	if (known)
		take_out(&d->key, known);
	failed = enter_both(m);
	if (failed == -EEXIST_ && drop_lingering(&m->back_key))
		failed = enter_both(m);
	if (failed)
		return failed == -E2BIG_ ? ENTERED_FULL : ENTERED_LEFT;
	bpf_map_delete_elem(&asleep, &m->back_key); /* it was taken out before, and goes on */
	count(COUNTER_INSTALLED);
	if (d->key.protocol == PROTOCOL_TCP) {
		struct control *control = control_of(d->group_id);

		if (control)
			look_later(&opening, &d->key, d->serial, now + control->half_open_ns);
	}
	return ENTERED;
}

/* Enter the decision that lies in `making`; enum entered. */
static __always_inline int enter_flow(void)
{
	int entered = try_to_enter();

	if (entered == ENTERED_FULL && make_room())
		entered = try_to_enter();
	if (entered == ENTERED)
		tend();
	return entered == ENTERED_FULL ? ENTERED_LEFT : entered;
}

#endif

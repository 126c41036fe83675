/* SPDX-License-Identifier: GPL-2.0-only */
/* The end of an upgrade (docs/design/0005-upgrades.md): this program runs, on entries that the agent
 * copied while the old program went on changing its own.  The agent runs these two functions
 * (BPF_PROG_TEST_RUN) with what the old program knew last.  An entry is changed in place and a
 * record takes effect once, however often it comes: packets are forwarded meanwhile, and an
 * agent that dies has its successor do it all again.
 */
#ifndef SPLITPLANE_UPGRADE_H
#define SPLITPLANE_UPGRADE_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "parse.h"
#include "segment.h"
#include "shared.h"
#include "track.h"

_Static_assert(sizeof(struct merge_flow) == 96,
	       "as data_flow_segment/targets/bpf/layout.py packs it");
_Static_assert(sizeof(struct merge_counter) == 16, "likewise");

/* Numbers that both programs moved on: the later one holds.  `began` says that the old program
 * saw another connection begin since the copy, so that the entry's are of the one before. */
static __always_inline void merge_numbers(struct flow *f, const struct merge_flow *old,
					  bool began)
{
	if (old->close & CLOSE_HAVE_SEQ &&
	    (began || !(f->close & CLOSE_HAVE_SEQ) || is_later(old->next_seq, f->next_seq)))
		f->next_seq = old->next_seq;
	if (old->close & CLOSE_HAVE_ACK &&
	    (began || !(f->close & CLOSE_HAVE_ACK) || is_later(old->ack, f->ack))) {
		f->ack = old->ack;
		f->window = old->window;
	}
	if (old->close & CLOSE_OPPOSITE_FIN && (began || !(f->close & CLOSE_OPPOSITE_FIN)))
		f->fin_end = old->fin_end;
	if (began || !f->scale)
		f->scale = old->scale;
}

static __always_inline void merge_one(struct flow *f, const struct merge_flow *old)
{
	__u32 copied = (f->close >> CLOSE_COPIED_SHIFT) & CLOSE_BITS, set = 0, cleared = 0;
	bool untouched = !f->packets;

	__sync_fetch_and_add(&f->packets, old->packets);
	__sync_fetch_and_add(&f->bytes, old->bytes);
	if (f->last_seen < old->last_seen)
		f->last_seen = old->last_seen;
	f->tcp_flags |= old->tcp_flags;
	/* A step that this program cleared was an earlier connection's (begin_again), and so is all
	 * that the old program knew: its packets came before. */
	if (!(copied & CLOSE_PROGRESS & ~f->close)) {
		cleared = copied & CLOSE_PROGRESS & ~old->close;
		merge_numbers(f, old, cleared != 0);
		/* where a hole was is not merged: the numbers that come show it again */
		set = old->close & CLOSE_BITS & ~CLOSE_GAPS;
		/* a SYN whose answer neither program has seen */
		if (untouched && f->bits & FLOW_RETURN)
			f->opened_ms = old->opened_ms;
	}
	__sync_fetch_and_or(&f->close, set);
	__sync_fetch_and_and(&f->close, CLOSE_BITS & ~cleared);
}

/* One program saw the FIN and the other one its acknowledgement. */
static __always_inline void merge_steps(struct flow *f, __u8 protocol)
{
	struct flow *home = f, *opposite;
	struct flow_key key;

	if (f->close & CLOSE_OPPOSITE_FIN && f->close & CLOSE_HAVE_ACK &&
	    !is_later(f->fin_end, f->ack))
		__sync_fetch_and_or(&f->close, CLOSE_OPPOSITE_FIN_ACKED);
	if (f->bits & FLOW_RETURN) {
		opposite_key(f, protocol, &key);
		opposite = bpf_map_lookup_elem(&flows, &key);
		if (!opposite)
			return;
		home = opposite;
		if (f->close & CLOSE_OPPOSITE_FIN_ACKED)
			__sync_fetch_and_or(&home->close, CLOSE_OWN_FIN_ACKED);
	}
	if (home->close & CLOSE_OPPOSITE_FIN_ACKED && home->close & CLOSE_OWN_FIN_ACKED)
		__sync_fetch_and_or(&home->close,
				    CLOSE_CLOSED); /* the agent's first sweep reports it */
}

__noinline int merge_at(struct __sk_buff *skb, __u32 offset)
{
	__u8 *data = (void *)(long)skb->data;
	struct merge_flow old;
	struct flow *f;

	if (offset > MERGE_HEADER + MERGE_FLOWS * sizeof(old))
		return 0;
	data += offset;
	if (data + sizeof(old) > (__u8 *)(long)skb->data_end)
		return 0;
	__builtin_memcpy(&old, data, sizeof(old));
	f = bpf_map_lookup_elem(&flows, &old.key);
	if (f && f->close & CLOSE_COPIED) {
		merge_one(f, &old);
		if (old.key.protocol == PROTOCOL_TCP)
			merge_steps(f, old.key.protocol);
	}
	return f ? 1 : 0;
}

/* Records of struct merge_flow behind the header; the answer is how many entries are there. */
SEC("tc")
int dfs_merge_flows(struct __sk_buff *skb)
{
	int i, found = 0;

	for (i = 0; i < MERGE_FLOWS; i++)
		found += merge_at(skb, MERGE_HEADER + i * sizeof(struct merge_flow));
	return found;
}

__noinline int merge_counter_at(struct __sk_buff *skb, __u32 offset)
{
	__u8 *data = (void *)(long)skb->data;
	struct merge_counter *record;
	__u64 *value;
	__u32 number;

	if (offset > MERGE_HEADER + MERGE_COUNTERS * sizeof(*record))
		return 0;
	record = (void *)(data + offset);
	if ((void *)(record + 1) > (void *)(long)skb->data_end)
		return 0;
	number = record->counter;
	value = bpf_map_lookup_elem(&counters, &number);
	if (value) /* packets of this processor count in between */
		__sync_fetch_and_add(value, record->packets);
	return value ? 1 : 0;
}

/* Records of struct merge_counter behind the header. */
SEC("tc")
int dfs_merge_counters(struct __sk_buff *skb)
{
	int i, found = 0;

	for (i = 0; i < MERGE_COUNTERS; i++)
		found += merge_counter_at(skb, MERGE_HEADER + i * sizeof(struct merge_counter));
	return found;
}

#endif

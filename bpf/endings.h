/* SPDX-License-Identifier: GPL-2.0-only */
/* The end of a flow without the agent (wire protocol 9.8): the CS hears of it by a DELETE that is
 * written here, and the entry is taken out here when it has lingered (9.2).  So it is for half-open
 * flows, which anybody can begin.  What is rare, and what finds no room in a ring or a queue, is left
 * to the agent and its sweeps.
 */
#ifndef SPLITPLANE_ENDINGS_H
#define SPLITPLANE_ENDINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "segment.h"
#include "shared.h"
#include "ssmb.h"

#define LINGER_NS 2000000000ull /* LINGER */
_Static_assert(sizeof(struct report) == 128,
	       "as data_flow_segment/targets/bpf/layout.py packs it");

#define TENDED_AT_ONCE 64
#define VICTIMS_LOOKED_AT 8

static __always_inline struct control *control_of(__u32 group_id)
{
	return bpf_map_lookup_elem(&controls, &group_id);
}

/* False if the ring has no room. */
static __always_inline bool report_end(const struct flow_key *key, struct flow *home,
				       struct flow *back, __u8 reason, __u64 now)
{
	struct report *written = bpf_ringbuf_reserve(&reports, sizeof(*written), 0);
	__u64 seen = home->last_seen > back->last_seen ? home->last_seen : back->last_seen;
	struct delete_message *m;

	if (!written)
		return false;
	written->group_id = home->group_id;
	written->kind = REPORT_DELETE;
	m = (void *)written->octets;
	m->beginning.type = SSMB_DELETE;
	m->beginning.error_code = 0;
	m->beginning.flags = bpf_htons((home->flags & (SSMB_OUTBOUND | SSMB_ADD_TCP_OFFSETS)) |
				       SSMB_HAS_STATS | SSMB_ADDR16);
	m->beginning.serial = bpf_htonl(home->serial);
	__builtin_memcpy(m->beginning.src, key->src, 16);
	__builtin_memcpy(m->beginning.dst, key->dst, 16);
	m->beginning.sport = key->sport;
	m->beginning.dport = key->dport;
	m->beginning.protocol = key->protocol;
	m->beginning.tos = home->tos;
	m->beginning.tcp_flags = home->tcp_flags | back->tcp_flags;
	m->beginning.detail = reason;
	m->timestamp = bpf_htonl(home->opened_ms);
	m->idle_ms = bpf_htonl(now > seen ? (now - seen) / NS_PER_MS : 0);
	m->packets_in = bpf_cpu_to_be64(home->packets);
	m->bytes_in = bpf_cpu_to_be64(home->bytes);
	m->packets_out = bpf_cpu_to_be64(back->packets);
	m->bytes_out = bpf_cpu_to_be64(back->bytes);
	m->seq_offset = bpf_htonl(home->seq_add);
	m->ack_offset = bpf_htonl(home->ack_add);
	m->ts_offset = bpf_htonl(home->ts_offset);
	m->wscale_shift = back->window_shift;
	m->reserved[0] = 0;
	m->reserved[1] = 0;
	m->reserved[2] = 0;
	bpf_ringbuf_submit(written, 0);
	return true;
}

static __always_inline void take_out(const struct flow_key *key, struct flow *home)
{
	struct flow_key back;

	opposite_key(home, key->protocol, &back);
	if (bpf_map_delete_elem(&flows, key))
		return; /* another CPU was first */
	bpf_map_delete_elem(&flows, &back);
	count(COUNTER_TAKEN_OUT);
}

/* Where such a record is put together: stacks are small. */
static __always_inline struct due *due_scratch(void)
{
	__u32 zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);

	return s ? &s->due : NULL;
}

/* Look at a flow later; false if the queue is full. */
static __always_inline bool look_later(void *queue, const struct flow_key *key, __u32 serial,
				       __u64 at)
{
	struct due *due = due_scratch();

	if (!due)
		return false;
	due->key = *key;
	due->serial = serial;
	due->at = at;
	return !bpf_map_push_elem(queue, due, 0);
}

static __always_inline bool look_again(void *queue, struct due *due, __u64 at)
{
	due->at = at;
	return !bpf_map_push_elem(queue, due, 0);
}

/* It closed: written it, and have it lingering.  0: the agent does all that. */
/* It closed: look at it when it may have lingered.  0: the agent ends it. */
__noinline int linger(const struct flow_key *key, struct flow *home)
{
	struct control *control;

	if (!key || !home)
		return 0;
	control = control_of(home->group_id);
	return control && control->flags & CONTROL_ENDS &&
	       look_later(&lingering, key, home->serial, bpf_ktime_get_coarse_ns() + LINGER_NS);
}

/* It closed, and lingers; 0: the agent reports it. */
__noinline int report_closed(const struct flow_key *key, struct flow *home, struct flow *back)
{
	if (!key || !home || !back ||
	    !report_end(key, home, back,
			home->close & CLOSE_BY_RST ? SSMB_REASON_RST : SSMB_REASON_FIN,
			bpf_ktime_get_coarse_ns()))
		return 0;
	count(COUNTER_ENDED);
	return 1;
}

static __always_inline struct flow *home_of(const struct due *due)
{
	struct flow *home = bpf_map_lookup_elem(&flows, &due->key);

	return home && !(home->bits & FLOW_RETURN) && home->serial == due->serial ? home : NULL;
}

static __always_inline struct flow *back_of(const struct flow_key *key, struct flow *home)
{
	struct flow_key back;

	opposite_key(home, key->protocol, &back);
	return bpf_map_lookup_elem(&flows, &back);
}

/* Take out one flow that has lingered enough, or if `at_once` the one that has longest. */
static __always_inline int tend_lingering(__u64 now, bool at_once)
{
	struct flow *home, *back;
	struct due *due = due_scratch();
	__u64 seen;

	if (!due || bpf_map_peek_elem(&lingering, due) || (!at_once && due->at > now) ||
	    bpf_map_pop_elem(&lingering, due))
		return 0;
	home = home_of(due);
	if (!home || !(home->close & CLOSE_CLOSED))
		return 1; /* it is gone, or goes on */
	back = back_of(&due->key, home);
	seen = home->last_seen;
	if (back && back->last_seen > seen)
		seen = back->last_seen;
	if (!at_once && seen + LINGER_NS > now)
		look_again(&lingering, due, seen + LINGER_NS);
	else
		take_out(&due->key, home);
	return 1;
}

/* End one half-open flow whose client has said nothing for too long, or if `at_once` the oldest. */
static __always_inline int tend_opening(__u64 now, bool at_once)
{
	struct control *control;
	struct flow *home, *back;
	struct due *due = due_scratch();
	__u64 at;

	if (!due || bpf_map_peek_elem(&opening, due) || (!at_once && due->at > now) ||
	    bpf_map_pop_elem(&opening, due))
		return 0;
	home = home_of(due);
	if (!home || !is_half_open(home) || home->close & CLOSE_CLOSED)
		return 1;
	if (home->bits & FLOW_HELD && !(home->flags & SSMB_PARKED))
		return 1; /* the agent went on with it */
	control = control_of(home->group_id);
	back = back_of(&due->key, home);
	if (!control || !(control->flags & CONTROL_ENDS) || !back)
		return 1; /* the agent's sweep ends it */
	at = home->last_seen + control->half_open_ns;
	if (!at_once && at > now) {
		look_again(&opening, due, at);
		return 1;
	}
	if (!report_end(&due->key, home, back, at_once ? SSMB_REASON_OVERFLOW : SSMB_REASON_IDLE,
			now))
		return 1;
	take_out(&due->key, home);
	count(at_once ? COUNTER_HALF_OPEN_EVICTED : COUNTER_HALF_OPEN_ENDED);
	return 1;
}

/* Look at what is due, some of it. */
__noinline int tend(void)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	return tend_lingering(now, false) + tend_opening(now, false);
}

/* The table is full: take out what is worth least (wire protocol 9.8).  0: nothing was found. */
__noinline int make_room(void)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	__u32 taken_out = COUNTER_TAKEN_OUT;
	__u64 *before = bpf_map_lookup_elem(&counters, &taken_out), was;
	int i;

	if (!before)
		return 0;
	was = *before;
	for (i = 0; i < VICTIMS_LOOKED_AT && *before == was; i++) {
		if (!tend_lingering(now, true) && !tend_opening(now, true))
			break;
	}
	return *before != was;
}

/* By the agent (BPF_PROG_TEST_RUN), while no packets come; how many flows were looked at. */
SEC("tc")
int dfs_tend(struct __sk_buff *skb)
{
	int i, looked_at = 0, more;

	for (i = 0; i < TENDED_AT_ONCE; i++) {
		more = tend();
		if (!more)
			break;
		looked_at += more;
	}
	return looked_at;
}

#endif

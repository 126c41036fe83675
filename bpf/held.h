/* SPDX-License-Identifier: GPL-2.0-only */
/* Held flows (docs/design/0012-content.md): the agent completes handshakes with both ends, and gets all
 * that they send.
 */
#ifndef SPLITPLANE_HELD_H
#define SPLITPLANE_HELD_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "entries.h"
#include "parse.h"
#include "segment.h"
#include "shared.h"
#include "splice.h"
#include "sums.h"
#include "track.h"
#include "upcall.h"

#define HELD_PERIOD_SHIFT 27 /* 134 ms */
#define HELD_MAX 512 /* packets in a period, of a direction: some 3,800 per second */

/* A packet of a held flow, or an ICMP error about one of its packets, whose client's key lies in
 * `making`.  Of a flow that the program was to splice the agent gets first what the client said. */
static __always_inline int hold(struct context *c, struct packet *p)
{
	__u32 zero = 0;
	struct making *made = bpf_map_lookup_elem(&making, &zero);

	if (!made)
		return context_drop(c, COUNTER_DROP_MALFORMED);
	if (goes_short(&made->decision.key)) {
		if (p->key.protocol == PROTOCOL_TCP && !CALL(sum_is_right, c, p))
			return context_drop(c, COUNTER_DROP_CHECKSUM);
		hand_over();
	}
	return send_up(c, p, REASON_HELD, NULL, &made->decision.key);
}

GLOBAL_FUNCTION(hold, (), ())

/* Leave the client's key of the flow in `making`. */
static __always_inline void note_holder(struct packet *p, struct flow *f,
					const struct flow_key *key)
{
	__u32 zero = 0;
	struct making *made = bpf_map_lookup_elem(&making, &zero);

	if (!made)
		return;
	if (f->bits & FLOW_RETURN)
		opposite_key(f, PROTOCOL_TCP, &made->decision.key);
	else
		made->decision.key = *key;
}

/* Whether more come up of this direction than any connection needs: the agent has others.  Nothing is
 * tracked of a held flow, so the members of a gap are free. */
static __always_inline bool is_too_many(struct flow *f, __u64 now)
{
	__u32 period = now >> HELD_PERIOD_SHIFT;

	if (f->gap_from != period) {
		f->gap_from = period;
		f->gap_to = 0;
	}
	return f->gap_to++ >= HELD_MAX;
}

/* A node's SYN-ACK, which may complete a handshake that the program began. */
static __always_inline bool may_join(const struct packet *p, const struct flow *f)
{
	return f->bits & FLOW_RETURN && p->fragment == WHOLE &&
	       (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == (TCP_SYN | TCP_ACK);
}

/* Of a held flow, whose packets count and do nothing else. */
static __always_inline int held(struct context *c, struct packet *p, struct flow *f)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	if (c->injected)
		return context_drop(c, COUNTER_DROP_INJECT_UNMATCHED);
	if (p->fragment != WHOLE)
		return context_drop(c, COUNTER_DROP_FRAGMENT);
	if (is_too_many(f, now))
		return context_drop(c, COUNTER_DROP_HELD_RATE);
	count_packet(c, p, f, now);
	note_holder(p, f, &p->key);
	return may_join(p, f) ? JOIN : HOLD;
}

#endif

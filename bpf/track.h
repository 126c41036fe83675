/* SPDX-License-Identifier: GPL-2.0-only */
/* What a flow's packets change in its entry: counters, time, the four steps of a TCP close, and
 * which RST ends it (wire protocol 9.7).  Sequence numbers are the client side's.
 *
 * What a stranger can make up changes nothing: a segment counts if its numbers continue what both
 * ends said before.  An ordinary packet touches its own entry only (track_tcp).  SYN, FIN, RST and
 * what is out of the ordinary also look up the opposite entry (track_across).
 */
#ifndef SPLITPLANE_TRACK_H
#define SPLITPLANE_TRACK_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "crowd.h"
#include "endings.h"
#include "maps.h"
#include "parse.h"
#include "segment.h"
#include "shared.h"
#include "sums.h"

#define CLOSE_PROGRESS                                                                           \
	(CLOSE_HAVE_SEQ | CLOSE_HAVE_ACK | CLOSE_OWN_FIN | CLOSE_OPPOSITE_FIN |                  \
	 CLOSE_OPPOSITE_FIN_ACKED | CLOSE_OWN_FIN_ACKED)
#define CLOSE_GAPS (CLOSE_GAP | CLOSE_GAP_FIN | CLOSE_OPPOSITE_GAP)

/* --- what was sent ------------------------------------------------------------------------ */

static __always_inline void note_fin(struct flow *f, struct flow *opposite)
{
	opposite->fin_end = f->next_seq;
	set_close(f, CLOSE_OWN_FIN);
	set_close(opposite, CLOSE_OPPOSITE_FIN);
}

/* What was sent before next_seq moved may reach beyond it. */
static __always_inline void pass_gap(struct flow *f, struct flow *opposite)
{
	__u32 close = f->close;

	if (!(close & CLOSE_GAP) || is_later(f->gap_from, f->next_seq))
		return;
	clear_close(f, CLOSE_GAP | CLOSE_GAP_FIN);
	clear_close(opposite, CLOSE_OPPOSITE_GAP);
	if (is_later(f->next_seq, f->gap_to))
		return;
	f->next_seq = f->gap_to;
	if (close & CLOSE_GAP_FIN)
		note_fin(f, opposite);
}

/* A piece beyond a hole: packets were lost before they came here, or overtook each other.  One far
 * from the known piece replaces it if it is nearer to the hole, and is ignored if it is not: that
 * is what a stranger may have made up. */
static __always_inline void note_gap(struct flow *f, struct flow *opposite,
				     const struct segment *s)
{
	bool known = f->close & CLOSE_GAP && is_later(f->gap_to, f->next_seq);
	bool nearer = s->seq - f->next_seq < f->gap_from - f->next_seq, last = true;

	if (!known || (nearer && (__s32)(f->gap_from - s->end) > WINDOW_MINIMUM)) {
		f->gap_from = s->seq;
		f->gap_to = s->end;
	} else if (nearer || !is_later(s->seq, f->gap_to + WINDOW_MINIMUM)) {
		if (nearer)
			f->gap_from = s->seq;
		last = is_later(s->end, f->gap_to);
		if (last)
			f->gap_to = s->end;
	} else {
		return;
	}
	if (last && !(s->flags & TCP_FIN))
		clear_close(f, CLOSE_GAP_FIN);
	set_close(f, last && s->flags & TCP_FIN ? CLOSE_GAP | CLOSE_GAP_FIN : CLOSE_GAP);
	set_close(opposite, CLOSE_OPPOSITE_GAP);
}

static __always_inline void note_sent(struct flow *f, struct flow *opposite,
				      const struct segment *s)
{
	if (!(f->close & CLOSE_HAVE_SEQ) || f->next_seq - s->seq <= s->end - s->seq) {
		f->next_seq = s->end;
		set_close(f, CLOSE_HAVE_SEQ);
		pass_gap(f, opposite);
		if (s->flags & TCP_FIN && f->next_seq == s->end)
			note_fin(f, opposite);
	} else if (is_later(s->seq, f->next_seq) && s->seq != s->end) {
		note_gap(f, opposite, s);
	}
}

static __always_inline void note_acknowledged(struct flow *f, const struct segment *s)
{
	if (f->close & CLOSE_HAVE_ACK && is_later(f->ack, s->ack))
		return;
	f->ack = s->ack;
	f->window = s->window;
	set_close(f, CLOSE_HAVE_ACK);
}

/* The other end's hole may have hidden from us what this one has received. */
static __always_inline void acknowledge_gap(struct flow *f, struct flow *opposite, __u32 ack)
{
	if (!(f->close & CLOSE_OPPOSITE_GAP))
		return;
	if (!(opposite->close & CLOSE_GAP)) {
		clear_close(f, CLOSE_OPPOSITE_GAP);
		return;
	}
	if (is_later(ack, opposite->next_seq) && !is_later(ack, opposite->gap_to)) {
		opposite->next_seq = ack;
		pass_gap(opposite, f);
	}
}

/* --- the end ------------------------------------------------------------------------------ */

static __always_inline void notify_agent(struct flow *home, struct flow *back,
					 const struct flow_key *home_key, __u8 kind)
{
	__u32 zero = 0;
	struct event_closed *event = bpf_map_lookup_elem(&scratch_closed, &zero);

	if (!event)
		return;
	event->kind = kind;
	event->by_rst = home->close & CLOSE_BY_RST ? 1 : 0;
	event->opposite_tcp_flags = back->tcp_flags;
	event->key = *home_key;
	event->home = *home;
	event->opposite_last_seen = back->last_seen;
	event->opposite_packets = back->packets;
	event->opposite_bytes = back->bytes;
	if (bpf_ringbuf_output(&events, event, sizeof(*event), 0))
		count(COUNTER_EVENT_LOST);
	else if (kind == EVENT_CLOSED)
		set_close(home, CLOSE_REPORTED);
}

static __always_inline void close_flow(struct flow *home, struct flow *back,
				       const struct flow_key *home_key, __u32 bits)
{
	if (__sync_fetch_and_or(&home->close, bits | CLOSE_CLOSED) & CLOSE_CLOSED)
		return; /* another CPU was first */
	if (linger(home_key, home) && report_closed(home_key, home, back))
		set_close(home, CLOSE_REPORTED);
	else
		notify_agent(home, back, home_key, EVENT_CLOSED);
}

static __always_inline void reopen_flow(struct flow *home, struct flow *back,
					const struct flow_key *home_key)
{
	clear_close(back, CLOSE_OWN_RST);
	if (__sync_fetch_and_and(&home->close, ~(CLOSE_CLOSED | CLOSE_BY_RST | CLOSE_OWN_RST |
						 CLOSE_REPORTED)) &
	    CLOSE_CLOSED)
		notify_agent(home, back, home_key, EVENT_REOPENED);
}

/* --- SYN ---------------------------------------------------------------------------------- */

/* The window scale that a SYN offers; 0 without the option. */
static __always_inline int window_scale(__u8 *data, __u8 *end, __u32 l4, __u32 stop)
{
	UNTRACKED next = 20;
	int i;

	if (l4 > L4_MAX)
		return 0;
	data += l4;
	for (i = 0; i < 40; i++) {
		__u32 at = next;
		__u8 *option = data + at;

		if (at + 3 > stop || at > 57 || option + 3 > end || option[0] == 0)
			return 0;
		if (option[0] == 1) {
			next = at + 1;
			continue;
		}
		if (option[0] == 3)
			return option[2] > SCALE_MAX ? SCALE_MAX : option[2];
		if (option[1] < 2)
			return 0;
		next = at + option[1];
	}
	return 0;
}

__noinline int window_scale_tc(struct __sk_buff *skb, __u32 l4, __u32 stop)
{
	return window_scale((void *)(long)skb->data, (void *)(long)skb->data_end, l4, stop);
}

__noinline int window_scale_xdp(struct xdp_md *xdp, __u32 l4, __u32 stop)
{
	return window_scale((void *)(long)xdp->data, (void *)(long)xdp->data_end, l4, stop);
}

/* Another connection, same ports, same node. */
static __always_inline void begin_again(struct flow *home, struct flow *back, __u32 next_seq,
					__u8 scale)
{
	back->opened_ms = 0;
	__sync_fetch_and_and(&home->close, ~(CLOSE_PROGRESS | CLOSE_GAPS));
	__sync_fetch_and_and(&back->close, ~(CLOSE_PROGRESS | CLOSE_GAPS));
	back->tcp_flags = 0;
	home->tcp_flags = TCP_SYN;
	home->next_seq = next_seq;
	home->scale = scale;
	set_close(home, CLOSE_HAVE_SEQ);
}

static __always_inline void note_question(struct flow *home, struct flow *back,
					  const struct segment *s, __u8 scale)
{
	if (home->close & CLOSE_HAVE_SEQ && home->next_seq != s->seq + 1) {
		if (back->close & CLOSE_HAVE_SEQ || !(home->close & CLOSE_OWN_FIN)) {
			back->opened_ms = SYN_PENDING | (__u64)scale << 32 | (s->seq + 1);
			return;
		}
		begin_again(home, back, s->seq + 1, scale); /* answers never pass here */
	}
	home->scale = scale;
	note_flags(home, s->flags);
	note_sent(home, back, s);
}

static __always_inline void note_answer(struct flow *home, struct flow *back,
					const struct segment *s, __u8 scale)
{
	if (answers_syn(back, s->ack))
		begin_again(home, back, (__u32)back->opened_ms, back->opened_ms >> 32);
	if (!is_half_open(home) && back->close & CLOSE_HAVE_SEQ)
		return; /* it was answered before */
	if (home->close & CLOSE_HAVE_SEQ && home->next_seq - s->ack >= WINDOW_MINIMUM)
		return;
	if (is_half_open(home) && !(back->close & CLOSE_HAVE_SEQ))
		home->ack = s->end; /* what the client will want; not acknowledged yet */
	back->scale = scale;
	note_flags(back, s->flags);
	back->next_seq = s->end;
	set_close(back, CLOSE_HAVE_SEQ);
	note_acknowledged(back, s);
}

/* --- segments ----------------------------------------------------------------------------- */

static __always_inline int track_across(struct context *c, struct packet *p, struct flow *f)
{
	struct flow *opposite, *home, *back;
	struct flow_key key, *home_key;
	bool was_half_open;
	struct segment s;

	if (!f || !read_segment(c, p, f, &s))
		return 0;
	opposite_key(f, p->key.protocol, &key);
	opposite = bpf_map_lookup_elem(&flows, &key);
	if (!opposite)
		return 0;
	home = f->bits & FLOW_RETURN ? opposite : f;
	back = f->bits & FLOW_RETURN ? f : opposite;
	home_key = f->bits & FLOW_RETURN ? &key : &p->key;
	if (s.flags & (TCP_SYN | TCP_FIN | TCP_RST) && !p->injected && !CALL(sum_is_right, c, p))
		return 0; /* the other end drops it */
	if (home->close & CLOSE_CLOSED) {
		if (!goes_on(f, opposite, &s))
			return 0;
		reopen_flow(home, back, home_key);
	}
	if (s.flags & TCP_RST) {
		if (valid_reset(f, opposite, &s)) {
			note_flags(f, s.flags);
			set_close(f, CLOSE_OWN_RST);
			close_flow(home, back, home_key, CLOSE_BY_RST);
		}
		return 0;
	}
	if (s.flags & TCP_SYN) {
		__u8 scale = c->xdp ? window_scale_xdp(XDP(c), p->l4, p->payload_at) :
				      window_scale_tc(SKB(c), p->l4, p->payload_at);

		if (f == home && !(s.flags & TCP_ACK))
			note_question(home, back, &s, scale);
		else if (f == back && s.flags & TCP_ACK)
			note_answer(home, back, &s, scale);
		return 0;
	}
	was_half_open = f == home && is_half_open(home);
	if (was_half_open ? !establishes(home, back, p->key.dst, &s) :
			    !is_plausible(f, opposite, s.ack) || !means_syn(home, back, s.ack))
		return 0;
	if (was_half_open)
		note_client(home_key);
	note_flags(f, s.flags);
	note_sent(f, opposite, &s);
	note_acknowledged(f, &s);
	acknowledge_gap(f, opposite, s.ack);
	if (!(f->close & CLOSE_OPPOSITE_FIN) || s.ack != f->fin_end)
		return 0;
	set_close(f, CLOSE_OPPOSITE_FIN_ACKED);
	if (f == back)
		set_close(home, CLOSE_OWN_FIN_ACKED);
	if ((home->close & (CLOSE_OPPOSITE_FIN_ACKED | CLOSE_OWN_FIN_ACKED)) ==
	    (CLOSE_OPPOSITE_FIN_ACKED | CLOSE_OWN_FIN_ACKED))
		close_flow(home, back, home_key, 0);
	return 0;
}

GLOBAL_FUNCTION(track_across, (struct flow *f), (f))

/* A segment whose own entry says all that it needs. */
static __always_inline bool is_ordinary(const struct flow *f, const struct segment *s)
{
	if (f->close & (CLOSE_OWN_RST | CLOSE_GAP | CLOSE_OPPOSITE_GAP) ||
	    (f->close & (CLOSE_OPPOSITE_FIN | CLOSE_OPPOSITE_FIN_ACKED)) == CLOSE_OPPOSITE_FIN)
		return false;
	if (!(f->bits & FLOW_RETURN) ? is_half_open(f) : !(f->close & CLOSE_HAVE_ACK))
		return false;
	/* in order, or sent again */
	return is_near(f, s->ack) &&
	       (!(f->close & CLOSE_HAVE_SEQ) || !is_later(s->seq, f->next_seq));
}

static __always_inline void note_whether_syn(struct packet *p, struct flow *f)
{
	bool was = f->bits & FLOW_SYN_LAST, is = is_syn(p);

	if (was == is || f->bits & FLOW_RETURN)
		return;
	if (is) /* other CPUs may say the same at once */
		f->bits |= FLOW_SYN_LAST;
	else
		f->bits &= ~FLOW_SYN_LAST;
}

static __always_inline int track_tcp(struct context *c, struct packet *p, struct flow *f)
{
	struct segment s;

	if (!f)
		return 0;
	note_whether_syn(p, f);
	if (!read_segment(c, p, f, &s))
		return 0;
	if (s.flags & (TCP_SYN | TCP_FIN | TCP_RST)) {
		/* nobody sends a SYN with one of the others */
		if (s.flags & TCP_SYN ? s.flags & (TCP_FIN | TCP_RST) :
					!(s.flags & (TCP_RST | TCP_ACK)))
			return 0;
		return CALL(track_across, c, p, f);
	}
	if (!(s.flags & TCP_ACK))
		return 0;
	if (!is_ordinary(f, &s))
		return CALL(track_across, c, p, f);
	note_flags(f, s.flags);
	if (!(f->close & CLOSE_HAVE_SEQ) || f->next_seq - s.seq <= s.end - s.seq) {
		f->next_seq = s.end;
		set_close(f, CLOSE_HAVE_SEQ);
	}
	note_acknowledged(f, &s);
	return 0;
}

GLOBAL_FUNCTION(track_tcp, (struct flow *f), (f))

static __always_inline void count_packet(struct context *c, struct packet *p, struct flow *f,
					 __u64 now)
{
	__u32 gso = 0, segments = context_segments(c, &gso),
	      header = p->l4 - p->l3 + p->payload_at;

	__sync_fetch_and_add(&f->packets, segments);
	__sync_fetch_and_add(&f->bytes, p->length + (segments - 1) * header);
	f->last_seen = now;
}

static __always_inline void observe(struct context *c, struct packet *p, struct flow *f,
				    __u64 now)
{
	if (c->injected == INJECTED_SYN) /* nobody sent it */
		return;
	count_packet(c, p, f, now);
	if (p->key.protocol == PROTOCOL_TCP && p->fragment != LATER_FRAGMENT)
		CALL(track_tcp, c, p, f);
}

#endif

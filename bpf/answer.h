/* SPDX-License-Identifier: GPL-2.0-only */
/* The answer to a question of the program's own (ask.h): a REPLY with PARKED is opened, carried out
 * and taken off the packet that it carries.  Every other datagram, and a REPLY that is not plain, is
 * left to the agent's socket.
 */
#ifndef SPLITPLANE_ANSWER_H
#define SPLITPLANE_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "ask.h"
#include "crowd.h"
#include "endings.h"
#include "entries.h"
#include "maps.h"
#include "parse.h"
#include "shared.h"
#include "siphash.h"
#include "ssmb.h"

/* Results of open_reply other than the length of the frame that the REPLY carries. */
#define REPLY_LEFT -1 /* not for the program */
#define REPLY_DROPPED -2 /* and counted */

/* Where the messages of the datagram are copied to in the scratch. */
#define REPLY_AT 0
#define PARKED_AT (REPLY_AT + sizeof(struct reply_message))

/* Whether this counter was not seen before; it was now. */
static __always_inline bool is_new_counter(struct replay_window *w, __u64 counter)
{
	__u32 word = (counter >> 6) & (WINDOW_WORDS - 1);
	__u64 bit = 1ull << (counter & 63), ahead;
	bool is_new = false;
	int i;

	bpf_spin_lock(&w->lock);
	if (counter > w->highest) {
		ahead = (counter >> 6) - (w->highest >> 6);
		/* the words that are begun anew held counters of a window before */
		for (i = 1; i <= WINDOW_WORDS; i++) {
			if ((__u64)i > ahead)
				break;
			w->seen[((w->highest >> 6) + i) & (WINDOW_WORDS - 1)] = 0;
		}
		w->highest = counter;
		w->seen[word] |= bit;
		is_new = true;
	} else if (w->highest - counter < WINDOW && !(w->seen[word] & bit)) {
		w->seen[word] |= bit;
		is_new = true;
	}
	bpf_spin_unlock(&w->lock);
	return is_new;
}

/* The seal of the `size` octets in the scratch: -1 it is not this key's, 0 seen before, 1 right. */
static __always_inline int open_seal(struct scratch *s, struct control *control, __u32 size)
{
	struct hashing hashing = {
		.key = { control->opening_key[0], control->opening_key[1] },
		.from = REPLY_AT,
	};
	__u64 counter, tag;
	struct replay_window *w;
	__u32 at, key;

	at = size - sizeof(struct ssmb_seal);
	barrier_var(at);
	if (at > HASHED_MAX)
		return -1;
	__builtin_memcpy(&counter, (__u8 *)s + REPLY_AT + at, 8);
	__builtin_memcpy(&tag, (__u8 *)s + REPLY_AT + at + 8, 8);
	counter = bpf_be64_to_cpu(counter);
	key = (__u32)control->group_id << 8 | counter >> LANE_SHIFT;
	w = bpf_map_lookup_elem(&windows, &key);
	hashing.length = size - sizeof(tag);
	if (!w || siphash(&hashing) || hashing.hash != tag)
		return -1;
	return is_new_counter(w, counter & ((1ull << LANE_SHIFT) - 1));
}

static __always_inline bool is_reply(const struct reply_message *m)
{
	__u16 flags = bpf_ntohs(m->beginning.flags);

	return m->beginning.type == SSMB_REPLY && !m->beginning.error_code &&
	       !(flags &
		 ~(DECIDED | SSMB_PARKED | SSMB_ADDR16 | SSMB_RETRY | SSMB_PROXY_SERVER)) &&
	       flags & SSMB_PARKED && flags & SSMB_ADDR16 && m->beginning.serial &&
	       !(m->beginning.serial & bpf_htonl(0x80000000)) && !m->seq_offset &&
	       !m->ack_offset && !m->ts_offset && !m->wscale_shift && m->idle_timeout &&
	       (m->beginning.protocol == PROTOCOL_TCP || m->beginning.protocol == PROTOCOL_UDP);
}

/* The TCP flags of the frame that a REPLY in the scratch carries; 0 where they are not at once found. */
static __always_inline __u8 flags_of_frame(struct scratch *s)
{
	__u8 *frame = (__u8 *)s + PARKED_AT;
	__u32 l4 = LINK_HEADER + sizeof(struct ipv6hdr);

	if (*(__be16 *)(frame + 12) == bpf_htons(ETHERTYPE_IPV4))
		l4 = LINK_HEADER + (frame[LINK_HEADER] & 15) * 4;
	else if (frame[LINK_HEADER + offsetof(struct ipv6hdr, nexthdr)] != PROTOCOL_TCP)
		return 0;
	barrier_var(l4);
	return l4 > L4_MAX ? 0 : frame[l4 + 13];
}

/* Whether the program completes the handshake with the node, whose SYN goes by the routes: it brought
 * back what a client said after its own. */
static __always_inline bool may_be_short(struct scratch *s, const struct reply_message *m,
					 __u32 frame)
{
	return frame && m->beginning.protocol == PROTOCOL_TCP && m->forward_mode == SSMB_NAT &&
	       m->beginning.flags & bpf_htons(SSMB_ROUTE_BY_DST_IP) &&
	       (flags_of_frame(s) & (TCP_SYN | TCP_ACK)) == TCP_ACK;
}

static __always_inline void read_decision(struct decision *d, const struct reply_message *m,
					  __u16 group_id)
{
	__builtin_memset(d, 0, sizeof(*d));
	__builtin_memcpy(d->key.src, m->beginning.src, 16);
	__builtin_memcpy(d->key.dst, m->beginning.dst, 16);
	d->key.sport = m->beginning.sport;
	d->key.dport = m->beginning.dport;
	d->key.protocol = m->beginning.protocol;
	d->tos = m->beginning.tos;
	d->serial = bpf_ntohl(m->beginning.serial);
	d->flags = bpf_ntohs(m->beginning.flags) & DECIDED;
	d->group_id = group_id;
	__builtin_memcpy(d->node, m->node_ipaddr, 16);
	__builtin_memcpy(d->snat, m->snat_ipaddr, 16);
	__builtin_memcpy(d->next_hop, m->next_hop_ipaddr, 16);
	d->node_port = m->node_port;
	d->snat_port = m->snat_port;
	d->idle_timeout_s = bpf_ntohs(m->idle_timeout);
	d->forward_mode = m->forward_mode;
	d->is_short = !!(m->beginning.flags & bpf_htons(SSMB_PROXY_SERVER));
}

/* A REPLY with PARKED that is for the program: its decision lies in `making` then. */
__noinline int open_reply(struct __sk_buff *skb, struct packet *p)
{
	struct control_key from = {};
	struct control *control;
	struct reply_message *m;
	struct scratch *s;
	struct making *made;
	__u32 zero = 0, *group_id, size, at, frame;
	__be16 udp[4];
	int opened;

	if (!p)
		return REPLY_LEFT;
	__builtin_memcpy(from.address, p->key.src, 16);
	from.port = p->key.sport;
	group_id = bpf_map_lookup_elem(&control_groups, &from);
	control = group_id ? control_of(*group_id) : NULL;
	s = bpf_map_lookup_elem(&scratch, &zero);
	made = bpf_map_lookup_elem(&making, &zero);
	if (!control || !s || !made || !(control->flags & CONTROL_ASKS) ||
	    p->key.dport != control->own_port || !same_address(p->key.dst, control->own))
		return REPLY_LEFT;
	/* No CS sends so, but somebody who has its datagrams recorded might, so that the agent is given
	 * what was carried out here. */
	if (p->fragment != WHOLE || p->l3 != LINK_HEADER || skb->pkt_type) {
		count(COUNTER_DROP_MALFORMED);
		return REPLY_DROPPED;
	}
	if (skb->gso_size || bpf_skb_load_bytes(skb, p->l4, udp, sizeof(udp)))
		return REPLY_LEFT;
	size = bpf_ntohs(udp[2]) - UDP_HEADER;
	at = p->l4 + UDP_HEADER;
	barrier_var(size);
	barrier_var(at);
	if (size < sizeof(*m) + sizeof(struct ssmb_seal) ||
	    size > sizeof(*m) + SSMB_FRAME_MAX + sizeof(struct ssmb_seal) ||
	    p->length - (p->l4 - p->l3) < UDP_HEADER + size ||
	    bpf_skb_load_bytes(skb, at, (__u8 *)s + REPLY_AT, size))
		return REPLY_LEFT;
	m = (void *)s + REPLY_AT;
	frame = size - sizeof(*m) - sizeof(struct ssmb_seal);
	if (!is_reply(m) || (frame && frame < LINK_HEADER + sizeof(struct iphdr)))
		return REPLY_LEFT;
	if (m->beginning.flags & bpf_htons(SSMB_PROXY_SERVER) && !may_be_short(s, m, frame))
		return REPLY_LEFT;
	opened = open_seal(s, control, size);
	if (opened < 0)
		return REPLY_LEFT;
	if (!opened) {
		count(COUNTER_REPLY_REPLAYED);
		return REPLY_DROPPED;
	}
	note_answered();
	read_decision(&made->decision, m, control->group_id);
	/* only a SYN is asked about; without its frame nothing says so */
	made->decision.half_open = frame && made->decision.key.protocol == PROTOCOL_TCP;
	return frame;
}

/* A copy for the standbys, if there are any, which the agent sends on (wire protocol 11.3). */
__noinline int share_reply(void)
{
	__u32 zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	struct making *made = bpf_map_lookup_elem(&making, &zero);
	struct control *control;
	struct reply_message *copy;
	struct report *written;

	if (!s || !made)
		return 0;
	control = control_of(made->decision.group_id);
	if (!control || !(control->flags & CONTROL_SHARED))
		return 0;
	written = bpf_ringbuf_reserve(&reports, sizeof(*written), 0);
	if (!written) {
		count(COUNTER_EVENT_LOST);
		return 0;
	}
	written->group_id = made->decision.group_id;
	written->kind = REPORT_REPLY;
	copy = (void *)written->octets;
	__builtin_memcpy(copy, (__u8 *)s + REPLY_AT, sizeof(*copy));
	copy->beginning.flags &= ~bpf_htons(SSMB_PARKED);
	bpf_ringbuf_submit(written, 0);
	return 1;
}

/* Take everything off the packet but the frame of `size` octets that it carries. */
__noinline int unpack_frame(struct __sk_buff *skb, struct packet *p, __u32 size)
{
	__u32 zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	bool is_ipv4;
	__u8 *frame;
	__u32 taken;

	if (!p || !s)
		return false;
	frame = (__u8 *)s + PARKED_AT;
	is_ipv4 = *(__be16 *)(frame + 12) == bpf_htons(ETHERTYPE_IPV4);
	/* the outer link header stays, and becomes the inner one */
	taken = p->l4 + UDP_HEADER + sizeof(struct reply_message) - p->l3 + LINK_HEADER;
	/* a checksum that was left to the NIC is forgotten, as in ask.h: its header is not there */
	if (change_family(skb, p, is_ipv4, &taken) &&
	    !bpf_skb_adjust_room(skb, -(__s32)taken, BPF_ADJ_ROOM_MAC, 0) &&
	    !bpf_skb_store_bytes(skb, 0, frame, LINK_HEADER,
				 BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH) &&
	    !bpf_skb_change_tail(skb, size, 0))
		return true;
	count(COUNTER_DROP_NO_ROOM);
	return false;
}

/* Where the frame came in, by which it was asked about. */
static __always_inline __u32 arrival_of(struct __sk_buff *skb)
{
	__u32 ifindex = 0;

	bpf_skb_load_bytes(skb, 8, &ifindex, 4);
	return ifindex;
}

#endif

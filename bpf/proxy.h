/* SPDX-License-Identifier: GPL-2.0-only */
/* Proxied virtual servers (docs/design/0012-content.md): a client's SYN is answered here, with a
 * cookie, and its first segment with data comes up.
 */
#ifndef SPLITPLANE_PROXY_H
#define SPLITPLANE_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "ask.h"
#include "context.h"
#include "cookie.h"
#include "entries.h"
#include "maps.h"
#include "neighbours.h"
#include "parse.h"
#include "rewrite.h"
#include "segment.h"
#include "shared.h"
#include "sums.h"
#include "upcall.h"

#define NO_SCALE 15
#define OWN_WINDOW 65535
#define OWN_SCALE 7
#define ETHERNET_MTU 1500
#define ANSWER_TTL 64
#define TICK_NS 2000000 /* of TSvals, whose bit 0 is not the clock's */
#define TCP_ECE 0x40
#define TCP_CWR 0x80
#define ASK_CONTENT -5 /* by ask_app_tc, from where the stack has room for it */
#define LINK_AT 64 /* in the scratch: behind what is hashed, before the frame */
#define ANSWER_MAX (sizeof(struct ipv6hdr) + TCP_HEADER + 20)

/* The options of a SYN. */
struct syn_options {
	__be32 ts_value;
	__be32 ts_echo;
	__u16 mss; /* 0: none */
	__u8 scale; /* NO_SCALE: none */
	__u8 has_sack;
	__u8 has_timestamps;
	__u8 pad[3];
};

/* Each iteration looks at one option, for few verifier paths. */
static __always_inline int read_syn(__u8 *data, __u8 *end, __u32 l4, __u32 stop,
				    struct syn_options *o)
{
	UNTRACKED next = TCP_HEADER;
	int i;

	if (!o || l4 > L4_MAX)
		return 0;
	data += l4;
	for (i = 0; i < 40; i++) {
		__u32 at = next, length;
		__u8 *option = data + at;

		if (at + 2 > stop || at > 58 || option + 2 > end || option[0] == 0)
			break;
		length = option[0] == 1 ? 1 : option[1];
		if (at + length > stop || (option[0] != 1 && length < 2))
			break;
		if (option[0] == 2 && length == 4 && option + 4 <= end) {
			o->mss = option[2] << 8 | option[3];
		} else if (option[0] == 3 && length == 3 && option + 3 <= end) {
			o->scale = option[2] > SCALE_MAX ? SCALE_MAX : option[2];
		} else if (option[0] == 4 && length == 2) {
			o->has_sack = 1;
		} else if (option[0] == OPTION_TIMESTAMPS && length == 10 && option + 10 <= end) {
			__builtin_memcpy(&o->ts_value, option + 2, 4);
			__builtin_memcpy(&o->ts_echo, option + 6, 4);
			o->has_timestamps = 1;
		}
		next = at + length;
	}
	return 0;
}

__noinline int read_syn_tc(struct __sk_buff *skb, __u32 l4, __u32 stop, struct syn_options *o)
{
	return read_syn((void *)(long)skb->data, (void *)(long)skb->data_end, l4, stop, o);
}

__noinline int read_syn_xdp(struct xdp_md *xdp, __u32 l4, __u32 stop, struct syn_options *o)
{
	return read_syn((void *)(long)xdp->data, (void *)(long)xdp->data_end, l4, stop, o);
}

/* Of the largest entry of splicing/cookies.py's table that is at most the client's MSS. */
static __always_inline __u32 mss_index(__u32 mss)
{
	return (mss >= 1220) + (mss >= 1300) + (mss >= 1360) + (mss >= 1400) + (mss >= 1440) +
	       (mss >= 1460) + (mss >= 8900);
}

/* The options `o` of a SYN at `at`, in whole words; where they end. */
static __always_inline __u8 *write_options(__u8 *at, const struct syn_options *o)
{
	at[0] = 2;
	at[1] = 4;
	at[2] = o->mss >> 8;
	at[3] = o->mss & 0xff;
	at += 4;
	if (o->scale != NO_SCALE) {
		at[0] = 1;
		at[1] = 3;
		at[2] = 3;
		at[3] = o->scale;
		at += 4;
	}
	if (o->has_timestamps || o->has_sack) {
		at[0] = 1;
		at[1] = 1;
		if (o->has_sack) {
			at[o->has_timestamps ? 0 : 2] = 4;
			at[o->has_timestamps ? 1 : 3] = 2;
		}
		if (o->has_timestamps) {
			at[2] = OPTION_TIMESTAMPS;
			at[3] = 10;
			__builtin_memcpy(at + 4, &o->ts_value, 4);
			__builtin_memcpy(at + 8, &o->ts_echo, 4);
			at += 8;
		}
		at += 4;
	}
	return at;
}

/* An IP header before `length` octets of TCP. */
static __always_inline void write_ip(__u8 *at, __u8 version, const __be32 *src, const __be32 *dst,
				     __u8 tos, __u32 length)
{
	if (version == 4) {
		struct iphdr *ip = (void *)at;

		__builtin_memset(ip, 0, sizeof(*ip));
		ip->version = 4;
		ip->ihl = 5;
		ip->tos = tos;
		ip->tot_len = bpf_htons(sizeof(*ip) + length);
		ip->frag_off = bpf_htons(0x4000);
		ip->ttl = ANSWER_TTL;
		ip->protocol = PROTOCOL_TCP;
		ip->saddr = src[3];
		ip->daddr = dst[3];
		ip->check = ~fold((__u32)bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
	} else {
		struct ipv6hdr *ip = (void *)at;

		__builtin_memset(ip, 0, sizeof(*ip));
		ip->version = 6;
		ip->priority = tos >> 4;
		ip->flow_lbl[0] = tos << 4;
		ip->payload_len = bpf_htons(length);
		ip->nexthdr = PROTOCOL_TCP;
		ip->hop_limit = ANSWER_TTL;
		__builtin_memcpy(&ip->saddr, src, 16);
		__builtin_memcpy(&ip->daddr, dst, 16);
	}
}

/* Whether the packet's checksum was left to the NIC: then so is the answer's.  That of the pseudo
 * header is found there in one of 65,536 finished ones, too. */
static __always_inline bool sum_is_left(struct context *c, struct packet *p, __u16 check)
{
	return !c->xdp && check == pseudo_sum(p, p->length - (p->l4 - p->l3)) &&
	       bpf_csum_level(SKB(c), BPF_CSUM_LEVEL_QUERY) < 0 && bpf_csum_update(SKB(c), 0) < 0;
}

/* Make it `size` octets long.  Only in front does every driver have room for more; what lies behind
 * the link header is written anew in any case. */
static __always_inline bool resize(struct context *c, struct packet *p, struct scratch *s,
				   __u32 size)
{
	__u32 l3 = p->l3;
	int more = (int)size - (int)context_length(c);
	__u8 *link = (__u8 *)s + LINK_AT;

	if (!c->xdp)
		return !bpf_skb_change_tail(SKB(c), size, 0);
	if (more <= 0)
		return !bpf_xdp_adjust_tail(XDP(c), more);
	barrier_var(l3);
	return l3 >= 14 && l3 <= L3_MAX && !bpf_xdp_load_bytes(XDP(c), 0, link, l3) &&
	       !bpf_xdp_adjust_head(XDP(c), -more) && !bpf_xdp_store_bytes(XDP(c), 0, link, l3);
}

/* Make the packet the answer of `length` octets that lies in the scratch, back to where it came from. */
static __always_inline bool become_answer(struct context *c, struct packet *p, struct scratch *s,
					  __u32 length)
{
	__u8 *data = context_data(c), mac[6];

	if (data + 14 > context_end(c))
		return false;
	__builtin_memcpy(mac, data, 6);
	__builtin_memcpy(data, data + 6, 6);
	__builtin_memcpy(data + 6, mac, 6);
	if (!resize(c, p, s, p->l3 + length))
		return false;
	barrier_var(length);
	if (length < sizeof(struct iphdr) + TCP_HEADER || length > ANSWER_MAX)
		return false;
	if (c->xdp)
		return !bpf_xdp_store_bytes(XDP(c), p->l3, s->frame, length);
	return !bpf_skb_store_bytes(SKB(c), p->l3, s->frame, length,
				    BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH);
}

/* The facts of the cookie for a SYN. */
static __always_inline __u32 facts_of(const struct cookie_secrets *secrets,
				      const struct syn_options *o)
{
	return (__u32)(secrets->current & 3) << COOKIE_NUMBER_SHIFT |
	       mss_index(o->mss) << COOKIE_MSS_SHIFT | (__u32)o->scale << COOKIE_SCALE_SHIFT |
	       (o->has_sack ? COOKIE_SACK : 0);
}

/* Answer a SYN whose checksum is right; sum_is_right has left the packet in the scratch. */
static __always_inline int answer_syn(struct context *c, struct packet *p)
{
	__u32 zero = 0, header = p->l4 - p->l3, facts, hash = 0, isn, length, ticks;
	__u32 ip = p->version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	struct cookie_secrets *secrets = secrets_of(p->group_id);
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	struct syn_options o = { .scale = NO_SCALE }, ours;
	__u8 *h, *tcp, *end;
	bool ecn, unfinished;
	__u16 sum;

	h = context_at(c, p->l4, L4_MAX);
	if (!secrets || !s || !h || h + TCP_HEADER > context_end(c))
		return context_drop(c, COUNTER_DROP_COOKIE);
	isn = bpf_ntohl(*(__be32 *)(h + 4));
	unfinished = sum_is_left(c, p, *(__u16 *)(h + 16));
	if (unfinished && header != ip) /* the kernel would write the sum into another place */
		return context_drop(c, COUNTER_DROP_NO_ROOM);
	if (c->xdp)
		read_syn_xdp(XDP(c), p->l4, p->payload_at, &o);
	else
		read_syn_tc(SKB(c), p->l4, p->payload_at, &o);
	facts = facts_of(secrets, &o);
	if (!hash_cookie(secrets, &p->key, isn, facts, &hash))
		return context_drop(c, COUNTER_DROP_COOKIE);
	ecn = secrets->ecn && o.has_timestamps &&
	      (p->tcp_flags & (TCP_ECE | TCP_CWR)) == (TCP_ECE | TCP_CWR);
	ticks = bpf_ktime_get_coarse_ns() / TICK_NS;
	tcp = s->frame + ip;
	ours = o;
	ours.mss = ETHERNET_MTU - TCP_HEADER - ip - secrets->mss_less;
	ours.scale = o.scale == NO_SCALE ? NO_SCALE : OWN_SCALE;
	ours.ts_value = bpf_htonl(ticks << 1 | ecn);
	ours.ts_echo = o.ts_value;
	end = write_options(tcp + TCP_HEADER, &ours);
	length = end - tcp;
	*(__be16 *)tcp = p->key.dport;
	*(__be16 *)(tcp + 2) = p->key.sport;
	*(__be32 *)(tcp + 4) = bpf_htonl(facts | hash);
	*(__be32 *)(tcp + 8) = bpf_htonl(isn + 1);
	tcp[12] = length / 4 << 4;
	tcp[13] = TCP_SYN | TCP_ACK | (ecn ? TCP_ECE : 0);
	*(__be16 *)(tcp + 14) = bpf_htons(OWN_WINDOW);
	*(__be32 *)(tcp + 16) = 0;
	sum = sum_of_pseudo(p->key.dst, p->key.src, PROTOCOL_TCP, length);
	if (!unfinished)
		sum = ~fold((__u64)sum + (__u32)sum_frame(ip, length));
	*(__u16 *)(tcp + 16) = sum;
	write_ip(s->frame, p->version, p->key.dst, p->key.src, 0, length);
	if (!become_answer(c, p, s, ip + length))
		return context_drop(c, COUNTER_DROP_NO_ROOM);
	return reflect(c, COUNTER_COOKIES_MADE);
}

GLOBAL_FUNCTION(answer_syn, (), ())

/* What the program does not ask about itself; its virtual server lies in `making`. */
static __always_inline int pass_proxied(struct context *c, struct packet *p)
{
	__u32 zero = 0;
	struct making *made = bpf_map_lookup_elem(&making, &zero);

	return made ? up_call(c, p, REASON_PROXIED, &made->server) :
		      context_drop(c, COUNTER_DROP_COOKIE);
}

GLOBAL_FUNCTION(pass_proxied, (), ())

/* --- all packets -------------------------------------------------------------------------- */

/* A whole TCP packet of no flow, to a proxied virtual server of p->group_id, whose key lies in
 * `making`. */
static __always_inline int proxied(struct context *c, struct packet *p)
{
	__u32 zero = 0;
	struct making *made = bpf_map_lookup_elem(&making, &zero);
	__u8 flags = p->tcp_flags;

	if (!made || !secrets_of(p->group_id))
		return context_drop(c, COUNTER_DROP_COOKIE);
	if ((flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		return CALL(sum_is_right, c, p) ? CALL(answer_syn, c, p) :
						  context_drop(c, COUNTER_DROP_CHECKSUM);
	if (flags & TCP_RST)
		return context_drop(c, COUNTER_COOKIE_ACKS);
	if (flags & TCP_SYN || !(flags & TCP_ACK))
		return context_drop(c, COUNTER_DROP_TCP_FLAGS);
	if (!has_something_to_say(p))
		return context_drop(c, COUNTER_COOKIE_ACKS);
	if (CALL(has_cookie, c, p))
		return is_request(p) && asks(p->group_id) ?
			       ASK_CONTENT :
			       up_call(c, p, REASON_PROXIED, &made->server);
	/* of a request whose first segment is late, or of a flow that is gone: the agent knows */
	if (!may_notify(RATE_STRAY))
		return context_drop(c, COUNTER_DROP_COOKIE);
	return up_call(c, p, REASON_NEW_FLOW, &made->server);
}

GLOBAL_FUNCTION(proxied, (), ())

#endif

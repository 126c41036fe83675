/* SPDX-License-Identifier: GPL-2.0-only */
/* ICMP and ICMPv6 errors about a flow's packets: forwarded to the end that they concern, the
 * quoted packet translated back to the addresses that end uses (RFC 5508 4.2).
 */
#ifndef SPLITPLANE_ICMP_H
#define SPLITPLANE_ICMP_H

#include <stdbool.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "forward.h"
#include "parse.h"
#include "rewrite.h"
#include "shared.h"
#include "sums.h"

#define QUOTE_OFFSET 8 /* from the ICMP header */

static __always_inline bool is_error(__u8 version, __u8 type)
{
	/* a redirect (5) concerns one link and stays there */
	return version == 4 ? type == 3 || type == 4 || type == 11 || type == 12 :
			      type >= 1 && type <= 4;
}

struct quote {
	__u32 l3; /* of the quoted packet, from the frame's beginning */
	__u32 l4;
	struct flow_key key; /* as quoted */
};

enum quote_result {
	QUOTE_READ,
	QUOTE_OTHER, /* neither TCP nor UDP: of no flow */
	QUOTE_UNREADABLE, /* cut too short, or a later fragment: of nobody knows which flow */
};

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP;
}

/* Find the transport header behind the extension headers of a quoted packet; false if it is not
 * there.  Each iteration does one thing, for few verifier paths. */
static __always_inline bool skip_quoted_headers(struct context *c, struct quote *q, __u8 next)
{
	UNTRACKED following = next;
	__u32 at = q->l3 + sizeof(struct ipv6hdr);
	int i;

	for (i = 0; i < EXTENSIONS_MAX; i++) {
		__u8 type = following, *h;

		if (type != 0 && type != 43 && type != 60 && type != PROTOCOL_FRAGMENT)
			break;
		h = context_at(c, at, L4_MAX);
		if (!h || h + 8 > context_end(c))
			return false;
		/* a first fragment has the ports */
		if (type == PROTOCOL_FRAGMENT && has_ports(h[0]) &&
		    bpf_ntohs(*(__be16 *)(h + 2)) & 0xfff8)
			return false;
		at += type == PROTOCOL_FRAGMENT ? 8 : 8 + h[1] * 8;
		following = h[0];
	}
	q->l4 = at;
	q->key.protocol = following;
	return true;
}

static __always_inline enum quote_result read_quote(struct context *c, struct packet *p,
						    struct quote *q)
{
	__u8 *end = context_end(c), *h;
	__u32 l3 = p->l4 + QUOTE_OFFSET;

	__builtin_memset(q, 0, sizeof(*q));
	h = context_at(c, l3, L4_MAX);
	if (!h)
		return QUOTE_UNREADABLE;
	q->l3 = l3;
	if (p->version == 4) {
		struct iphdr *ip = (void *)h;
		__u32 header;

		if ((void *)(ip + 1) > (void *)end)
			return QUOTE_UNREADABLE;
		header = ip->ihl * 4;
		if (ip->version != 4 || header < 20 || bpf_ntohs(ip->tot_len) < header)
			return QUOTE_UNREADABLE;
		if (bpf_ntohs(ip->frag_off) & 0x1fff)
			return has_ports(ip->protocol) ? QUOTE_UNREADABLE : QUOTE_OTHER;
		q->key.protocol = ip->protocol;
		map_ipv4(q->key.src, ip->saddr);
		map_ipv4(q->key.dst, ip->daddr);
		q->l4 = l3 + header;
	} else {
		struct ipv6hdr *ip = (void *)h;

		if ((void *)(ip + 1) > (void *)end || ip->version != 6)
			return QUOTE_UNREADABLE;
		__builtin_memcpy(q->key.src, &ip->saddr, 16);
		__builtin_memcpy(q->key.dst, &ip->daddr, 16);
		if (is_mapped(q->key.src) || is_mapped(q->key.dst))
			return QUOTE_OTHER;
		if (!skip_quoted_headers(c, q, ip->nexthdr))
			return QUOTE_UNREADABLE;
	}
	if (!has_ports(q->key.protocol))
		return QUOTE_OTHER;
	if (q->l4 + 8 > p->l3 + p->length)
		return QUOTE_UNREADABLE;
	h = context_at(c, q->l4, L4_MAX);
	if (!h || h + 8 > end)
		return QUOTE_UNREADABLE;
	q->key.sport = *(__be16 *)h;
	q->key.dport = *(__be16 *)(h + 2);
	return QUOTE_READ;
}

/* Rewrite the quoted packet to the addresses that the receiver of `f`'s direction uses; returns
 * what the error's own checksum must change by, -1 if the packet is not as it was parsed. */
static __always_inline int rewrite_quote(struct context *c, struct packet *p, struct quote *q,
					 struct flow *f)
{
	__u8 *end = context_end(c), *h;
	__u32 inner, delta = 0;
	__be32 new[8]; /* source and destination, as they lie in a key */
	__u16 address, check_at;

	if (!q || !f)
		return -1;
	__builtin_memcpy(new, f->new_dst, 16);
	__builtin_memcpy(new + 4, f->new_src, 16);
	address = fold((__u32)bpf_csum_diff(q->key.src, 32, new, 32, 0));
	h = context_at(c, q->l3, L4_MAX);
	if (!h)
		return -1;
	if (p->version == 4) {
		struct iphdr *ip = (void *)h;

		if ((void *)(ip + 1) > (void *)end)
			return -1;
		ip->saddr = new[3];
		ip->daddr = new[7];
		ip->check = csum_add16(ip->check, address); /* so its sum stays what it was */
	} else {
		struct ipv6hdr *ip = (void *)h;

		if ((void *)(ip + 1) > (void *)end)
			return -1;
		__builtin_memcpy(&ip->saddr, new, 16);
		__builtin_memcpy(&ip->daddr, new + 4, 16);
		delta += address;
	}
	h = context_at(c, q->l4, L4_MAX);
	if (!h || h + 8 > end)
		return -1;
	*(__be16 *)h = f->new_dport;
	*(__be16 *)(h + 2) = f->new_sport;
	inner = (__u32)f->new_dport + (__u16)~q->key.sport + f->new_sport + (__u16)~q->key.dport;
	if (f->bits & FLOW_OFFSETS && q->key.protocol == PROTOCOL_TCP) {
		/* the opposite direction's offsets are this one's with the sides
		 * exchanged; a window cannot be shifted back */
		struct shifts shifts = {
			.ack_add = f->seq_add,
			.ts_value_add = f->ts_echo_add,
			.ts_echo_add = f->ts_value_add,
			.l4 = q->l4,
			.stop = p->l3 + p->length - q->l4,
		};

		add_in_place(h + 4, f->ack_add, false, &inner);
		if (h + 20 <= end && shifts.stop >= 20) {
			__u32 header = (h[12] >> 4) * 4;

			if (shifts.stop > header)
				shifts.stop = header;
			shifts.acknowledges = h[13] & TCP_ACK;
			if (shifts.acknowledges)
				add_in_place(h + 8, f->seq_add, false, &inner);
			if (shifts.stop > 20)
				inner = fold((__u64)inner + shift_options(c, &shifts));
		}
	}
	delta += inner;
	check_at = q->key.protocol == PROTOCOL_TCP ? 16 : 6;
	if (q->l4 + check_at + 2 > p->l3 + p->length)
		return fold(delta); /* the quote is too short to have a checksum */
	end = context_end(c);
	h = context_at(c, q->l4, L4_MAX);
	if (!h || h + check_at + 2 > end)
		return fold(delta);
	h += check_at;
	if (q->key.protocol == PROTOCOL_UDP && *(__u16 *)h == 0)
		return fold(delta);
	{
		__u16 was = *(__u16 *)h, is = csum_add16(was, fold(inner + address));

		if (is == 0 && q->key.protocol == PROTOCOL_UDP)
			is = 0xffff;
		*(__u16 *)h = is;
		delta += is + (__u16)~was;
	}
	return fold(delta);
}

GLOBAL_FUNCTION(rewrite_quote, (struct quote *q, struct flow *f), (q, f))

static __always_inline bool finish_error(struct context *c, struct packet *p, __u32 delta)
{
	__u8 *h = context_at(c, p->l4, L4_MAX);

	if (!h || h + 4 > context_end(c))
		return false;
	*(__u16 *)(h + 2) = csum_add16(*(__u16 *)(h + 2), fold(delta));
	return true;
}

/* The error goes in the direction of the packets that answer the quoted one. */
static __always_inline int forward_error(struct context *c, struct packet *p, struct quote *q,
					 struct flow *f)
{
	bool keep_src = !(f->bits & FLOW_RETURN) && !same_address(p->key.src, q->key.dst);
	enum route_result found;
	struct route route = {};
	__be32 new[8]; /* source and destination, as they lie in a key */
	__u32 delta = 0;
	__u16 address;

	if (p->ttl <= 1)
		return context_drop(c, COUNTER_DROP_TTL);
	found = flow_route(c, p, f, bpf_ktime_get_coarse_ns(), &route);
	if (found != ROUTE_FOUND && found != ROUTE_NO_NEIGHBOUR)
		return drop_unroutable(c, found);
	if (p->length > route.mtu)
		return context_drop(c, COUNTER_DROP_TOO_BIG);
	/* from the node side the client sees the virtual server as the source, whatever sent it;
	 * a router on the client side keeps its own address */
	if (keep_src || f->forward_mode != 0)
		__builtin_memcpy(new, p->key.src, 16);
	else
		__builtin_memcpy(new, f->new_src, 16);
	__builtin_memcpy(new + 4, f->new_dst, 16);
	address = fold((__u32)bpf_csum_diff(p->key.src, 32, new, 32, 0));
	if (p->version == 6)
		delta += address;
	if (f->forward_mode == 0) {
		int change = CALL(rewrite_quote, c, p, q, f);

		if (change < 0 || !set_addresses(c, p, new, new + 4, address) ||
		    !finish_error(c, p, delta + change))
			return context_drop(c, COUNTER_DROP_NO_ROOM);
	}
	if (!decrement_ttl(c, p, 0))
		return context_drop(c, COUNTER_DROP_NO_ROOM);
	return send_on_route(c, p, f, &route, found, COUNTER_ICMP_TRANSLATED);
}

#endif

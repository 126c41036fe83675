/* SPDX-License-Identifier: GPL-2.0-only */
/* Virtual addresses are this machine's, beyond the ports of their virtual servers: echo requests
 * are answered here, TCP and UDP by the agent, and nothing is routed on, or it would come back from
 * the router until its time to live ends.
 */
#ifndef SPLITPLANE_OWN_H
#define SPLITPLANE_OWN_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "filter.h"
#include "maps.h"
#include "neighbours.h"
#include "parse.h"
#include "rewrite.h"
#include "shared.h"
#include "upcall.h"

#define ECHO_TTL 64

/* A virtual address that is answered for; with NOARP_MODE a router owns it.  What the kernel has
 * too is the kernel's to answer. */
static __always_inline bool is_owned(const __be32 *address)
{
	__u32 *flags = bpf_map_lookup_elem(&addresses, address);

	return flags && *flags & ADDRESS_ANSWER &&
	       !bpf_map_lookup_elem(&local_addresses, address);
}

static __always_inline bool may_answer(__u32 quiet, __u32 rate)
{
	__u32 zero = 0;
	struct meta *m = bpf_map_lookup_elem(&meta, &zero);

	return m && !(m->quiet & quiet) && may_notify(rate);
}

/* Turn the request around; the sums of the headers and of the whole packet stay right. */
static __always_inline bool turn_around(struct context *c, struct packet *p)
{
	__u8 *header = context_at(c, p->l3, L3_MAX), *end = context_end(c);

	if (!header)
		return false;
	if (p->version == 4) {
		struct iphdr *ip = (void *)header;
		__be32 src;

		if ((void *)(ip + 1) > (void *)end)
			return false;
		src = ip->saddr;
		ip->saddr = ip->daddr;
		ip->daddr = src;
		ip->check = csum_add16(ip->check, (__u32)bpf_htons(ECHO_TTL << 8) +
							  (__u16)~bpf_htons(ip->ttl << 8));
		ip->ttl = ECHO_TTL;
	} else {
		struct ipv6hdr *ip = (void *)header;
		__u8 was;

		if ((void *)(ip + 1) > (void *)end)
			return false;
		was = ip->hop_limit;
		__builtin_memcpy(&ip->saddr, p->key.dst, 16);
		__builtin_memcpy(&ip->daddr, p->key.src, 16);
		ip->hop_limit = ECHO_TTL;
		if (!c->xdp) /* as in decrement_ttl */
			bpf_csum_update(SKB(c),
					(__u32)bpf_htons(ECHO_TTL) + (__u16)~bpf_htons(was));
	}
	return true;
}

/* ICMP to a virtual address that concerns no flow. */
static __always_inline int answer_echo(struct context *c, struct packet *p)
{
	__u8 request = p->version == 4 ? 8 : 128, reply = p->version == 4 ? 0 : 129;
	__u8 *data, *h, mac[6];

	if (is_ours(p->key.src))
		return context_drop(c, COUNTER_DROP_OWN_SOURCE);
	if (is_from_group(c))
		return context_drop(c, COUNTER_DROP_GROUP_SOURCE);
	if (is_martian(p->version, p->key.src) || is_broadcast(p->key.src))
		return context_drop(c, COUNTER_DROP_MARTIAN);
	if (CALL(is_from_elsewhere, c, p))
		return context_drop(c, COUNTER_DROP_REVERSE_PATH);
	/* with options or in fragments: nobody's monitor pings so */
	if (p->fragment != WHOLE || p->l4 != p->l3 + (p->version == 4 ? 20 : 40))
		return context_drop(c, COUNTER_DROP_UNSERVED);
	data = context_data(c);
	h = context_at(c, p->l4, L4_MAX);
	if (!h || data + 14 > context_end(c) || h + 8 > context_end(c) || h[0] != request ||
	    h[1] || !may_answer(QUIET_ECHO, RATE_ECHO))
		return context_drop(c, COUNTER_DROP_UNSERVED);
	h[0] = reply;
	*(__u16 *)(h + 2) =
		csum_add16(*(__u16 *)(h + 2),
			   (__u32)bpf_htons(reply << 8) + (__u16)~bpf_htons(request << 8));
	__builtin_memcpy(mac, data, 6);
	__builtin_memcpy(data, data + 6, 6);
	__builtin_memcpy(data + 6, mac, 6);
	if (!turn_around(c, p))
		return context_drop(c, COUNTER_DROP_NO_ROOM);
	return reflect(c, COUNTER_ECHO_ANSWERED);
}

GLOBAL_FUNCTION(answer_echo, (), ())

#endif

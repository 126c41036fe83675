/* SPDX-License-Identifier: GPL-2.0-only */
/* Answers to "who has this virtual address?": ARP (RFC 826), neighbour discovery (RFC 4861 7.2).
 * The kernel answers for the machine's own addresses.
 */
#ifndef SPLITPLANE_NEIGHBOURS_H
#define SPLITPLANE_NEIGHBOURS_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "filter.h"
#include "maps.h"
#include "parse.h"
#include "shared.h"
#include "sums.h"
#include "upcall.h"

struct arp_ipv4 {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__u8 target[4];
};

struct solicitation {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 flags;
	__be32 target[4];
	__u8 option; /* in the advertisement: 2, the target's link-layer address */
	__u8 option_length; /* in units of 8 octets */
	__u8 mac[6];
};

static __always_inline struct interface *answering_interface(struct context *c, __be32 *address)
{
	__u32 *flags = bpf_map_lookup_elem(&addresses, address);

	if (!flags || !(*flags & ADDRESS_ANSWER))
		return NULL;
	return interface_at(c->ifindex);
}

static __always_inline int reflect(struct context *c, enum counter counter)
{
	count(counter);
	return c->xdp ? XDP_TX : bpf_redirect(c->ifindex, 0);
}

static __always_inline int answer_arp(struct context *c, struct packet *p)
{
	__u32 l3 = p->l3;
	__u8 *data, address[4];
	struct interface *interface;
	struct arp_ipv4 *arp;
	__be32 wanted[4], ipv4;

	context_pull(c, L3_MAX + sizeof(*arp));
	data = context_data(c);
	if (l3 > L3_MAX)
		goto pass;
	arp = (void *)(data + l3);
	if (data + 14 > context_end(c) || (void *)(arp + 1) > (void *)context_end(c))
		goto pass;
	if (arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETHERTYPE_IPV4) ||
	    arp->hardware_length != 6 || arp->protocol_length != 4 ||
	    arp->operation != bpf_htons(1))
		goto pass;
	__builtin_memcpy(&ipv4, arp->target, 4);
	map_ipv4(wanted, ipv4);
	interface = answering_interface(c, wanted);
	if (!interface)
		goto pass;
	if (is_from_group(c) || arp->sender_mac[0] & 1)
		return context_drop(c, COUNTER_DROP_GROUP_SOURCE);
	__builtin_memcpy(address, arp->target, 4);
	__builtin_memcpy(arp->target_mac, arp->sender_mac, 6);
	__builtin_memcpy(arp->target, arp->sender, 4);
	__builtin_memcpy(arp->sender_mac, interface->mac, 6);
	__builtin_memcpy(arp->sender, address, 4);
	arp->operation = bpf_htons(2);
	__builtin_memcpy(data, arp->target_mac, 6);
	__builtin_memcpy(data + 6, interface->mac, 6);
	return reflect(c, COUNTER_ARP_ANSWERED);
pass:
	count(COUNTER_LOCAL);
	return context_pass(c);
}

GLOBAL_FUNCTION(answer_arp, (), ())

static __always_inline bool is_solicitation(struct context *c, struct packet *p)
{
	__u8 *h = context_at(c, p->l4, L4_MAX);

	if (p->version != 6 || p->ttl != 255 || !h || p->length < p->l4 - p->l3 + 24 ||
	    h + 24 > context_end(c))
		return false;
	return h[0] == 135 && h[1] == 0;
}

/* RFC 4861 7.1.1: a solicitation with a wrong checksum is discarded. */
static __always_inline bool solicitation_checksum_is_right(struct context *c, struct packet *p)
{
	__u32 rest = p->length - (p->l4 - p->l3), length = p->l3 + p->length;
	struct scratch *s;
	__u64 pseudo;

	if (length > FRAME_MAX)
		return false;
	s = copy_frame(c, p, length);
	if (!s)
		return false;
	pseudo = (__u64)(__u32)bpf_csum_diff(NULL, 0, p->key.src, 32, 0) +
		 bpf_htons(PROTOCOL_ICMPV6) + bpf_htons(rest);
	return fold(pseudo + sum_frame(p->l4, rest)) == 0xffff;
}

/* Turn the solicitation into the advertisement that answers it. */
static __always_inline int answer_solicitation(struct context *c, struct packet *p)
{
	__u32 l4 = p->l4, size = l4 + sizeof(struct solicitation);
	__be32 target[4], receiver[4];
	struct interface *interface;
	struct solicitation *s;
	struct ipv6hdr *ip;
	__u8 *data, mac[6];
	__u64 sum;

	/* RFC 4861 allows no extension headers in front of it */
	if (l4 != p->l3 + sizeof(*ip) || p->l3 > L3_MAX)
		goto pass;
	data = context_data(c);
	s = (void *)context_at(c, l4, L4_MAX);
	if (!s || data + 14 > context_end(c) || (__u8 *)s + 24 > context_end(c))
		goto pass;
	__builtin_memcpy(target, s->target, 16);
	__builtin_memcpy(mac, data + 6, 6);
	interface = is_mapped(target) ? NULL : answering_interface(c, target);
	if (!interface || !solicitation_checksum_is_right(c, p))
		goto pass;
	if (mac[0] & 1)
		return context_drop(c, COUNTER_DROP_GROUP_SOURCE);
	if (*(__u8 *)p->key.src == 0xff)
		return context_drop(c, COUNTER_DROP_MARTIAN);
	__builtin_memcpy(receiver, p->key.src, 16);
	if (c->xdp) {
		if (bpf_xdp_adjust_tail(XDP(c), (int)size - (int)context_length(c)))
			return context_drop(c, COUNTER_DROP_NO_ROOM);
	} else if (bpf_skb_change_tail(SKB(c), size, 0)) {
		return context_drop(c, COUNTER_DROP_NO_ROOM);
	}
	context_pull(c, size);
	data = context_data(c);
	ip = (void *)context_at(c, p->l3, L3_MAX);
	if (!ip)
		goto pass;
	s = (void *)(ip + 1);
	if (data + 14 > context_end(c) || (void *)(s + 1) > (void *)context_end(c))
		return context_drop(c, COUNTER_DROP_NO_ROOM);
	s->type = 136;
	s->code = 0;
	s->checksum = 0;
	s->flags = bpf_htonl(0x60000000); /* solicited, override */
	if (!(receiver[0] | receiver[1] | receiver[2] | receiver[3])) {
		/* duplicate address detection: answer to all nodes */
		receiver[0] = bpf_htonl(0xff020000);
		receiver[3] = bpf_htonl(1);
		__builtin_memcpy(mac, "\x33\x33\x00\x00\x00\x01", 6);
		s->flags = bpf_htonl(0x20000000);
	}
	s->option = 2;
	s->option_length = 1;
	__builtin_memcpy(s->mac, interface->mac, 6);
	ip->payload_len = bpf_htons(sizeof(*s));
	ip->hop_limit = 255;
	__builtin_memcpy(&ip->saddr, target, 16);
	__builtin_memcpy(&ip->daddr, receiver, 16);
	__builtin_memcpy(data, mac, 6);
	__builtin_memcpy(data + 6, interface->mac, 6);
	sum = (__u64)(__u32)bpf_csum_diff(NULL, 0, target, 16, 0) +
	      (__u32)bpf_csum_diff(NULL, 0, receiver, 16, 0) + bpf_htons(PROTOCOL_ICMPV6) +
	      bpf_htons(sizeof(*s)) + (__u32)bpf_csum_diff(NULL, 0, (__be32 *)s, sizeof(*s), 0);
	s->checksum = ~fold(sum);
	return reflect(c, COUNTER_ARP_ANSWERED);
pass:
	count(COUNTER_LOCAL);
	return context_pass(c);
}

GLOBAL_FUNCTION(answer_solicitation, (), ())

#endif

/* SPDX-License-Identifier: GPL-2.0-only */
/* Parses a packet's headers once.  Nothing is read before its bound was checked. */
#ifndef SPLITPLANE_PARSE_H
#define SPLITPLANE_PARSE_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "shared.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_QINQ 0x88a8
#define VLAN_NUMBER 0x0fff /* of a tag; 0: it only has a priority (IEEE 802.1Q 9.6) */

#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_FRAGMENT 44
#define PROTOCOL_ICMPV6 58

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_URG 0x20

#define AF_INET_ 2
#define AF_INET6_ 10

#define EXTENSIONS_MAX 6 /* more than legitimate packets have; the loop needs a limit */
#define L3_MAX 22
#define L4_MAX 2048 /* highest offset of a transport header */

enum packet_kind {
	KIND_OTHER,
	KIND_ARP,
	KIND_TRANSPORT,
	KIND_ICMP,
	KIND_MALFORMED,
	KIND_TAGGED, /* of a VLAN, so of another interface */
	KIND_MAPPED, /* IPv6 with an address that stands for an IPv4 one */
	KIND_SHORT, /* more of the packet must be made linear */
};

/* A global function is verified once, for any arguments, and has its own stack frame; it must
 * name the type of its context, so there is one per type.  `name` is the inline function. */
#define GLOBAL_FUNCTION(name, parameters, arguments)                                             \
	__noinline int name##_tc(struct __sk_buff *skb, struct packet *p EXPAND parameters)      \
	{                                                                                        \
		struct context c = { .raw = skb };                                               \
                                                                                                 \
		if (!p)                                                                          \
			return TC_ACT_SHOT;                                                      \
		c.ifindex = p->ifindex;                                                          \
		c.injected = p->injected;                                                        \
		return name(&c, p EXPAND arguments);                                             \
	}                                                                                        \
	__noinline int name##_xdp(struct xdp_md *xdp, struct packet *p EXPAND parameters)        \
	{                                                                                        \
		struct context c = { .raw = xdp, .xdp = true };                                  \
                                                                                                 \
		if (!p)                                                                          \
			return XDP_DROP;                                                         \
		c.ifindex = p->ifindex;                                                          \
		c.injected = p->injected;                                                        \
		return name(&c, p EXPAND arguments);                                             \
	}
#define EXPAND(...) , ##__VA_ARGS__
#define CALL(name, c, p, ...)                                                                    \
	((c)->xdp ? name##_xdp(XDP(c), p, ##__VA_ARGS__) : name##_tc(SKB(c), p, ##__VA_ARGS__))

enum { WHOLE, FIRST_FRAGMENT, LATER_FRAGMENT };

struct packet {
	__u32 l3;
	__u32 l4;
	__u32 length; /* IP total length */
	__u32 payload_at; /* from l4 */
	__be32 fragment_id;
	__u32 ifindex; /* of the context, for global functions, which are passed the packet */
	__u32 injected;
	__u32 group_id; /* of the virtual server that a new flow is for */
	__u8 version;
	__u8 ttl;
	__u8 tos;
	__u8 tcp_flags;
	__u8 fragment;
	__u8 source_routed; /* IPv6 only: dst is a stop on the way (RFC 8200 4.4) */
	__u8 app_type; /* of the virtual server that a new flow is for */
	struct flow_key key;
};

static __always_inline void map_ipv4(__be32 *address, __be32 ipv4)
{
	address[0] = 0;
	address[1] = 0;
	address[2] = bpf_htonl(0xffff);
	address[3] = ipv4;
}

/* Valid within a machine only (RFC 4291 2.5.5.2), where it is how keys have IPv4. */
static __always_inline bool is_mapped(const __be32 *address)
{
	return !(address[0] | address[1]) && address[2] == bpf_htonl(0xffff);
}

static __always_inline bool same_address(const __be32 *a, const __be32 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

/* A client's, which opens a connection. */
static __always_inline bool is_syn(const struct packet *p)
{
	return p->key.protocol == PROTOCOL_TCP && p->fragment != LATER_FRAGMENT &&
	       (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline enum packet_kind parse_transport(struct context *c, struct packet *p,
							__u8 *data, __u8 *end)
{
	__u8 protocol = p->key.protocol;
	__u32 l4 = p->l4, rest;
	__u8 *h;

	if (p->length < l4 - p->l3)
		return KIND_MALFORMED;
	rest = p->length - (l4 - p->l3);
	if (protocol == PROTOCOL_TCP) {
		__u32 header;

		if (p->fragment == LATER_FRAGMENT)
			return KIND_TRANSPORT;
		if (rest < 20)
			return KIND_MALFORMED;
		if (l4 > L4_MAX)
			return KIND_OTHER;
		h = data + l4;
		if (h + 20 > end)
			return KIND_SHORT;
		header = (h[12] >> 4) * 4;
		if (header < 20 || header > rest)
			return KIND_MALFORMED;
		if (h + header > end)
			return KIND_SHORT;
		p->tcp_flags = h[13];
		p->payload_at = header;
	} else if (protocol == PROTOCOL_UDP) {
		if (p->fragment == LATER_FRAGMENT)
			return KIND_TRANSPORT;
		if (rest < 8)
			return KIND_MALFORMED;
		if (l4 > L4_MAX)
			return KIND_OTHER;
		h = data + l4;
		if (h + 8 > end)
			return KIND_SHORT;
		p->payload_at = 8;
	} else if (protocol == (p->version == 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6)) {
		if (p->fragment == LATER_FRAGMENT)
			return KIND_OTHER;
		if (rest < 8)
			return KIND_MALFORMED;
		return l4 > L4_MAX ? KIND_OTHER : KIND_ICMP;
	} else {
		return KIND_OTHER;
	}
	p->key.sport = *(__be16 *)h;
	p->key.dport = *(__be16 *)(h + 2);
	return KIND_TRANSPORT;
}

static __always_inline enum packet_kind parse_ipv4(struct context *c, struct packet *p,
						   __u8 *data, __u8 *end)
{
	struct iphdr *ip = (void *)(data + p->l3);
	__u32 total = context_length(c), header;
	__u16 frag_off;

	if ((void *)(ip + 1) > (void *)end)
		return total < p->l3 + sizeof(*ip) ? KIND_MALFORMED : KIND_SHORT;
	header = ip->ihl * 4;
	p->length = bpf_ntohs(ip->tot_len);
	if (p->length == 0 && !c->xdp && SKB(c)->gso_size)
		p->length = total - p->l3; /* longer than the field can express (BIG TCP) */
	if (ip->version != 4 || header < 20 || p->length < header || p->l3 + p->length > total)
		return KIND_MALFORMED;
	frag_off = bpf_ntohs(ip->frag_off);
	p->fragment = frag_off & 0x1fff ? LATER_FRAGMENT :
		      frag_off & 0x2000 ? FIRST_FRAGMENT :
					  WHOLE;
	p->fragment_id = ip->id;
	p->version = 4;
	p->ttl = ip->ttl;
	p->tos = ip->tos;
	p->l4 = p->l3 + header;
	p->key.protocol = ip->protocol;
	map_ipv4(p->key.src, ip->saddr);
	map_ipv4(p->key.dst, ip->daddr);
	return parse_transport(c, p, data, end);
}

static __always_inline enum packet_kind parse_ipv6(struct context *c, struct packet *p,
						   __u8 *data, __u8 *end)
{
	struct ipv6hdr *ip = (void *)(data + p->l3);
	__u32 total = context_length(c), offset = p->l3 + sizeof(*ip);
	__u8 next;
	int i;

	if ((void *)(ip + 1) > (void *)end)
		return total < p->l3 + sizeof(*ip) ? KIND_MALFORMED : KIND_SHORT;
	p->length = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (ip->payload_len == 0 && !c->xdp && SKB(c)->gso_size)
		p->length = total - p->l3;
	if (ip->version != 6 || p->l3 + p->length > total)
		return KIND_MALFORMED;
	p->version = 6;
	p->ttl = ip->hop_limit;
	p->tos = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	__builtin_memcpy(p->key.src, &ip->saddr, 16);
	__builtin_memcpy(p->key.dst, &ip->daddr, 16);
	if (is_mapped(p->key.src) || is_mapped(p->key.dst))
		return KIND_MAPPED;
	next = ip->nexthdr;
	for (i = 0; i < EXTENSIONS_MAX; i++) {
		__u8 *h = data + offset;

		if (next != 0 && next != 43 && next != 60 && next != PROTOCOL_FRAGMENT)
			break;
		if (offset + 8 > p->l3 + p->length)
			return KIND_MALFORMED;
		if (offset > L4_MAX)
			return KIND_OTHER;
		if (h + 8 > end)
			return KIND_SHORT;
		if (next == PROTOCOL_FRAGMENT) {
			__u16 frag_off = bpf_ntohs(*(__be16 *)(h + 2));

			p->fragment_id = *(__be32 *)(h + 4);
			p->fragment = frag_off & 0xfff8 ? LATER_FRAGMENT :
				      frag_off & 1	? FIRST_FRAGMENT :
							  WHOLE;
			next = h[0];
			offset += 8;
			if (p->fragment == LATER_FRAGMENT)
				break;
		} else {
			if (next == 43 && h[3])
				p->source_routed = 1;
			next = h[0];
			offset += 8 + h[1] * 8;
		}
	}
	p->l4 = offset;
	p->key.protocol = next;
	return parse_transport(c, p, data, end);
}

static __always_inline enum packet_kind parse(struct context *c, struct packet *p)
{
	__u8 *data = context_data(c), *end = context_end(c);
	__u32 offset = 14;
	__be16 type;

	__builtin_memset(p, 0, sizeof(*p));
	p->ifindex = c->ifindex;
	p->injected = c->injected;
	if (data + 14 > end)
		return context_length(c) < 14 ? KIND_MALFORMED : KIND_SHORT;
	if (!c->xdp && SKB(c)->vlan_present && SKB(c)->vlan_tci & VLAN_NUMBER)
		return KIND_TAGGED;
	type = *(__be16 *)(data + 12);
	if (type == bpf_htons(ETHERTYPE_VLAN) || type == bpf_htons(ETHERTYPE_QINQ)) {
		if (data + 18 > end)
			return context_length(c) < 18 ? KIND_MALFORMED : KIND_SHORT;
		if (*(__be16 *)(data + 14) & bpf_htons(VLAN_NUMBER))
			return KIND_TAGGED;
		type = *(__be16 *)(data + 16);
		offset = 18;
		if (type == bpf_htons(ETHERTYPE_VLAN) || type == bpf_htons(ETHERTYPE_QINQ)) {
			if (data + 22 > end)
				return context_length(c) < 22 ? KIND_MALFORMED : KIND_SHORT;
			if (*(__be16 *)(data + 18) & bpf_htons(VLAN_NUMBER))
				return KIND_TAGGED;
			type = *(__be16 *)(data + 20);
			offset = 22;
		}
	}
	p->l3 = offset;
	if (type == bpf_htons(ETHERTYPE_IPV4))
		return parse_ipv4(c, p, data, end);
	if (type == bpf_htons(ETHERTYPE_IPV6))
		return parse_ipv6(c, p, data, end);
	return type == bpf_htons(ETHERTYPE_ARP) ? KIND_ARP : KIND_OTHER;
}

static __always_inline enum packet_kind parse_all(struct context *c, struct packet *p)
{
	enum packet_kind kind = parse(c, p);

	if (kind == KIND_SHORT && !c->xdp) {
		context_pull(c, 256);
		kind = parse(c, p);
	}
	return kind;
}

/* What a route is looked up for: the same members for every question, but for ports and length. */
static __always_inline void route_between(struct bpf_fib_lookup *fib, bool is_ipv4, __u8 tos,
					  const __be32 *src, const __be32 *dst)
{
	if (is_ipv4) {
		fib->family = AF_INET_;
		fib->tos = tos;
		fib->ipv4_src = src[3];
		fib->ipv4_dst = dst[3];
	} else {
		fib->family = AF_INET6_;
		fib->flowinfo = bpf_htonl((__u32)tos << 20);
		__builtin_memcpy(fib->ipv6_src, src, 16);
		__builtin_memcpy(fib->ipv6_dst, dst, 16);
	}
}

#endif

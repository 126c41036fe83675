/* SPDX-License-Identifier: GPL-2.0-only */
/* How a packet leaves: the kernel's routes and neighbours, tunnels, the link header. */
#ifndef SPLITPLANE_FORWARD_H
#define SPLITPLANE_FORWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "maps.h"
#include "parse.h"
#include "rewrite.h"
#include "shared.h"
#include "sums.h"
#include "track.h"
#include "upcall.h"

#define ROUTE_LIFETIME_NS 1000000000ull
#define TUNNEL_TTL 64
#define IPV6_MTU_MIN 1280 /* RFC 8200 5 */

enum route_result { ROUTE_FOUND, ROUTE_NO_NEIGHBOUR, ROUTE_NONE, ROUTE_FORWARDING_OFF };

struct route {
	__be32 next_hop[4]; /* set when it has no neighbour entry yet */
	__u32 family; /* of next_hop: an IPv4 route may lead over an IPv6 one (RFC 5549) */
	__u32 ifindex;
	__u16 mtu;
	__u16 peer;
	__u8 dmac[6];
	__u8 smac[6];
};

static __always_inline enum route_result find_route(struct context *c, struct packet *p,
						    struct flow *f, const __be32 *dst,
						    struct route *route)
{
	struct bpf_fib_lookup fib = {};
	struct interface *interface;
	long result;

	fib.ifindex = c->ifindex;
	fib.l4_protocol = p->key.protocol;
	if (p->key.protocol == PROTOCOL_TCP || p->key.protocol == PROTOCOL_UDP) {
		/* policy rules and multipath routes may depend on them */
		fib.sport = f->new_sport;
		fib.dport = f->new_dport;
	}
	/* any length that fits everywhere: without one the result is the device's MTU, not the
	 * route's, and "too long" is returned without the MTU */
	fib.tot_len = 1;
	route_between(&fib, p->version == 4, p->tos, f->new_src, dst);
	result = bpf_fib_lookup(c->raw, &fib, sizeof(fib), 0);
	if (result == BPF_FIB_LKUP_RET_FWD_DISABLED)
		return ROUTE_FORWARDING_OFF;
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return ROUTE_NONE;
	route->family = fib.family;
	if (fib.family == AF_INET_)
		map_ipv4(route->next_hop, fib.ipv4_dst);
	else
		__builtin_memcpy(route->next_hop, fib.ipv6_dst, 16);
	route->ifindex = fib.ifindex;
	route->peer = 0;
	/* no MTU is returned without a neighbour entry: the field holds what was asked for.  A
	 * sender of packets that are too long is notified once there is one. */
	route->mtu = 0xffff;
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH)
		return ROUTE_NO_NEIGHBOUR;
	if (fib.mtu_result)
		route->mtu = fib.mtu_result;
	interface = interface_at(fib.ifindex);
	route->peer = interface && interface->flags & INTERFACE_PEER;
	__builtin_memcpy(route->dmac, fib.dmac, 6);
	__builtin_memcpy(route->smac, fib.smac, 6);
	return ROUTE_FOUND;
}

/* Send a packet whose link header is right. */
static __always_inline int transmit(struct context *c, __u32 ifindex, bool peer,
				    enum counter counter)
{
	count(counter);
	if (c->xdp)
		return ifindex == c->ifindex ? XDP_TX : bpf_redirect(ifindex, 0);
	return peer ? bpf_redirect_peer(ifindex, 0) : bpf_redirect(ifindex, 0);
}

static __always_inline bool set_macs(struct context *c, const __u8 *dmac, const __u8 *smac)
{
	__u8 *data = context_data(c);

	if (data + 14 > context_end(c))
		return false;
	__builtin_memcpy(data, dmac, 6);
	__builtin_memcpy(data + 6, smac, 6);
	return true;
}

/* Send a packet to a next hop whose MAC address is not known yet; the kernel resolves it. */
static __always_inline int transmit_unresolved(struct context *c, struct packet *p,
					       struct route *route, bool by_destination,
					       enum counter counter)
{
	struct bpf_redir_neigh next = {};

	if (c->xdp) {
		/* only the kernel's own forwarding resolves a neighbour; it routes by destination */
		if (!by_destination)
			return context_drop(c, COUNTER_DROP_NO_NEIGHBOUR);
		count(counter);
		return XDP_PASS;
	}
	count(counter);
	if (route->family == AF_INET_) {
		next.nh_family = AF_INET_;
		next.ipv4_nh = route->next_hop[3];
	} else {
		next.nh_family = AF_INET6_;
		__builtin_memcpy(next.ipv6_nh, route->next_hop, 16);
	}
	return bpf_redirect_neigh(route->ifindex, &next, sizeof(next), 0);
}

/* Make room behind the link header and write an outer IP header there.  `size` is a constant. */
static __always_inline bool push_outer_header(struct context *c, __u32 l3, void *ip, __u32 size,
					      __u64 room, __u64 store)
{
	__u8 *data;

	if (l3 != 14 && l3 != 18 && l3 != 22)
		return false;
	if (!c->xdp)
		return !bpf_skb_adjust_room(SKB(c), size, BPF_ADJ_ROOM_MAC,
					    room | BPF_F_ADJ_ROOM_FIXED_GSO) &&
		       !bpf_skb_store_bytes(SKB(c), l3, ip, size, store);
	if (bpf_xdp_adjust_head(XDP(c), -(int)size))
		return false;
	data = context_data(c);
	if (data + L3_MAX + 2 * size > context_end(c))
		return false;
	__builtin_memmove(data, data + size, L3_MAX);
	if (l3 == 14)
		__builtin_memcpy(data + 14, ip, size);
	else if (l3 == 18)
		__builtin_memcpy(data + 18, ip, size);
	else
		__builtin_memcpy(data + 22, ip, size);
	return true;
}

/* Encapsulate the packet in another one to the node.  The link header stays in front; its
 * addresses are set later.  The type of service is copied (RFC 2983). */
static __always_inline int encapsulate(struct context *c, struct packet *p, struct flow *f,
				       __u32 ifindex)
{
	struct interface *interface = interface_at(ifindex);

	if (!f || !interface)
		return false;
	if (p->version == 4) {
		struct iphdr ip = {
			.version = 4,
			.ihl = 5,
			.tos = p->tos,
			.tot_len = bpf_htons(p->length + sizeof(ip)),
			.frag_off = bpf_htons(0x4000),
			.ttl = TUNNEL_TTL,
			.protocol = 4, /* RFC 2003 */
			.saddr = interface->address4[3],
			.daddr = f->node[3],
		};

		if (!ip.saddr)
			return false;
		ip.check = ~fold((__u32)bpf_csum_diff(NULL, 0, (__be32 *)&ip, sizeof(ip), 0));
		return push_outer_header(c, p->l3, &ip, sizeof(ip), BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
					 0);
	} else {
		struct ipv6hdr ip = {
			.version = 6,
			.priority = p->tos >> 4,
			.payload_len = bpf_htons(p->length),
			.nexthdr = 41, /* RFC 2473 */
			.hop_limit = TUNNEL_TTL,
		};

		ip.flow_lbl[0] = p->tos << 4;
		__builtin_memcpy(&ip.saddr, interface->address6, 16);
		__builtin_memcpy(&ip.daddr, f->node, 16);
		if (!(interface->address6[0] | interface->address6[3]))
			return false;
		/* an IPv4 header sums to zero, this one does not */
		return push_outer_header(c, p->l3, &ip, sizeof(ip), BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
					 BPF_F_RECOMPUTE_CSUM);
	}
}

GLOBAL_FUNCTION(encapsulate, (struct flow *f, __u32 ifindex), (f, ifindex))

/* The kernel takes its neighbour entries for unused, because packets of flows do not pass its own
 * forwarding: without the agent it would never notice that one has another MAC address. */
static __always_inline void note_next_hop(struct route *route, bool is_resolved)
{
	struct next_hop_key key = { .ifindex = route->ifindex };
	struct next_hop value = { .used = bpf_ktime_get_coarse_ns(), .unresolved = !is_resolved };
	struct next_hop *known;

	__builtin_memcpy(key.address, route->next_hop, 16);
	known = bpf_map_lookup_elem(&next_hops, &key);
	if (known) {
		known->used = value.used;
		known->unresolved = value.unresolved;
	} else {
		bpf_map_update_elem(&next_hops, &key, &value, BPF_ANY);
	}
}

/* Ask the kernel for the route of this direction, and cache its answer in the entry. */
static __always_inline int look_up_route(struct context *c, struct packet *p, struct flow *f,
					 struct route *route)
{
	enum route_result result;

	if (!f || !route)
		return ROUTE_NONE;
	result = find_route(c, p, f,
			    f->bits & FLOW_VIA_NEXT_HOP ? f->next_hop :
			    f->bits & FLOW_VIA_NODE	? f->node :
							  f->new_dst,
			    route);
	if (result == ROUTE_FOUND || result == ROUTE_NO_NEIGHBOUR)
		note_next_hop(route, result == ROUTE_FOUND);
	/* policy routing may send an ICMP error elsewhere */
	if (result == ROUTE_FOUND &&
	    (p->key.protocol == PROTOCOL_TCP || p->key.protocol == PROTOCOL_UDP)) {
		f->fib_ifindex = route->ifindex;
		f->fib_mtu = route->mtu;
		f->fib_peer = route->peer;
		__builtin_memcpy(f->fib_dmac, route->dmac, 6);
		__builtin_memcpy(f->fib_smac, route->smac, 6);
		f->fib_expires = bpf_ktime_get_coarse_ns() + ROUTE_LIFETIME_NS;
	}
	return result;
}

GLOBAL_FUNCTION(look_up_route, (struct flow *f, struct route *route), (f, route))

static __always_inline enum route_result flow_route(struct context *c, struct packet *p,
						    struct flow *f, __u64 now,
						    struct route *route)
{
	if (f->fib_expires <= now)
		return CALL(look_up_route, c, p, f, route);
	route->ifindex = f->fib_ifindex;
	route->mtu = f->fib_mtu;
	route->peer = f->fib_peer;
	__builtin_memcpy(route->dmac, f->fib_dmac, 6);
	__builtin_memcpy(route->smac, f->fib_smac, 6);
	return ROUTE_FOUND;
}

static __always_inline int drop_unroutable(struct context *c, enum route_result result)
{
	return context_drop(c, result == ROUTE_FORWARDING_OFF ? COUNTER_DROP_FORWARDING_OFF :
								COUNTER_DROP_NO_ROUTE);
}

static __always_inline int send_on_route(struct context *c, struct packet *p, struct flow *f,
					 struct route *route, enum route_result found,
					 enum counter counter)
{
	if (f->bits & FLOW_TUNNEL && !CALL(encapsulate, c, p, f, route->ifindex))
		return context_drop(c, COUNTER_DROP_NO_ROOM);
	if (found == ROUTE_NO_NEIGHBOUR)
		return transmit_unresolved(
			c, p, route, !(f->bits & (FLOW_VIA_NEXT_HOP | FLOW_VIA_NODE)), counter);
	if (!set_macs(c, route->dmac, route->smac))
		return context_drop(c, COUNTER_DROP_NO_ROOM);
	return transmit(c, route->ifindex, route->peer, counter);
}

static __always_inline bool may_be_split(struct context *c, struct packet *p)
{
	struct iphdr *ip = (void *)context_at(c, p->l3, L3_MAX);

	return p->version == 4 && ip && (__u8 *)(ip + 1) <= context_end(c) &&
	       !(ip->frag_off & bpf_htons(0x4000));
}

static __always_inline int forward_flow(struct context *c, struct packet *p, struct flow *f)
{
	__u32 gso = 0, on_wire;
	enum route_result found;
	struct route route = {};
	__u64 now;

	if (p->ttl <= 1)
		return CALL(notify_sender, c, p, EVENT_TTL, 0, COUNTER_DROP_TTL);
	now = bpf_ktime_get_coarse_ns();
	found = flow_route(c, p, f, now, &route);
	if (found != ROUTE_FOUND && found != ROUTE_NO_NEIGHBOUR) {
		observe(c, p, f, now); /* its flow lives by what comes, not by what can be sent */
		return drop_unroutable(c, found);
	}
	on_wire = p->length;
	context_segments(c, &gso);
	if (gso)
		on_wire = p->l4 - p->l3 + p->payload_at + gso;
	if (f->bits & FLOW_TUNNEL)
		route.mtu -= p->version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	if (f->bits & FLOW_TUNNEL && p->version == 6 && route.mtu < IPV6_MTU_MIN) {
		/* no sender makes packets as small: the agent fragments the outer one */
		if (!gso && on_wire > route.mtu && on_wire <= IPV6_MTU_MIN) {
			observe(c, p, f, now);
			return CALL(split, c, p, route.mtu);
		}
		route.mtu = IPV6_MTU_MIN;
	}
	if (on_wire > route.mtu && !gso && may_be_split(c, p))
		return CALL(split, c, p, route.mtu);
	if (on_wire > route.mtu)
		return CALL(notify_sender, c, p, EVENT_TOO_BIG, route.mtu, COUNTER_DROP_TOO_BIG);
	observe(c, p, f, now);
	if (!decrement_ttl(c, p, f->forward_mode == 0 ? f->address_delta : 0) ||
	    (f->forward_mode == 0 && !translate(c, p, f)))
		return context_drop(c, COUNTER_DROP_NO_ROOM);
	return send_on_route(c, p, f, &route, found, COUNTER_FLOW_PACKETS);
}

#endif

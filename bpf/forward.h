/* SPDX-License-Identifier: GPL-2.0-only */
/* Where a packet leaves: the kernel's routes and neighbours, tunnels, the link header. */
#ifndef SPLITPLANE_FORWARD_H
#define SPLITPLANE_FORWARD_H

#include "rewrite.h"

#define FIB_LIFE_NS 1000000000ull
#define TUNNEL_TTL 64
#define AF_INET_ 2
#define AF_INET6_ 10

enum way_result { WAY_FOUND, WAY_NO_NEIGHBOUR, WAY_NONE, WAY_FORWARDING_OFF };

struct way {
	__be32 towards[4]; /* the next hop that has no neighbour entry yet */
	__u32 family; /* its; an IPv4 route may lead over an IPv6 one (RFC 5549) */
	__u32 ifindex;
	__u16 mtu;
	__u16 peer;
	__u8 dmac[6];
	__u8 smac[6];
};

static __always_inline enum way_result find_way(struct context *c, struct packet *p,
						struct flow *f, const __be32 *towards,
						struct way *way)
{
	const __be32 *src = f->new_src;
	struct bpf_fib_lookup fib = {};
	struct interface *interface;
	long result;

	fib.ifindex = c->ifindex;
	fib.l4_protocol = p->key.protocol;
	if (p->key.protocol == PROTOCOL_TCP || p->key.protocol == PROTOCOL_UDP) {
		/* rules and paths of equal cost may go by them */
		fib.sport = f->new_sport;
		fib.dport = f->new_dport;
	}
	/* any length that fits everywhere: without one the answer is the device's MTU, not the
	 * route's, and "too long" comes without saying for what */
	fib.tot_len = 1;
	if (p->version == 4) {
		fib.family = AF_INET_;
		fib.tos = p->tos;
		fib.ipv4_src = src[3];
		fib.ipv4_dst = towards[3];
	} else {
		fib.family = AF_INET6_;
		fib.flowinfo = bpf_htonl((__u32)p->tos << 20);
		__builtin_memcpy(fib.ipv6_src, src, 16);
		__builtin_memcpy(fib.ipv6_dst, towards, 16);
	}
	result = bpf_fib_lookup(c->raw, &fib, sizeof(fib), 0);
	if (result == BPF_FIB_LKUP_RET_FWD_DISABLED)
		return WAY_FORWARDING_OFF;
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return WAY_NONE;
	way->family = fib.family;
	if (fib.family == AF_INET_)
		map_ipv4(way->towards, fib.ipv4_dst);
	else
		__builtin_memcpy(way->towards, fib.ipv6_dst, 16);
	way->ifindex = fib.ifindex;
	way->peer = 0;
	/* no MTU comes with a neighbour that is not known: the field holds what was asked.  Who
	 * sends too much hears it once there is one. */
	way->mtu = 0xffff;
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH)
		return WAY_NO_NEIGHBOUR;
	if (fib.mtu_result)
		way->mtu = fib.mtu_result;
	interface = interface_at(fib.ifindex);
	way->peer = interface && interface->flags & INTERFACE_PEER;
	__builtin_memcpy(way->dmac, fib.dmac, 6);
	__builtin_memcpy(way->smac, fib.smac, 6);
	return WAY_FOUND;
}

/* Send a packet whose link header is right. */
static __always_inline int leave(struct context *c, __u32 ifindex, bool peer, __u32 counter)
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

/* Send a packet to a next hop whose MAC address is not known yet: the kernel finds it out. */
static __always_inline int leave_unresolved(struct context *c, struct packet *p, struct way *way,
					    bool by_destination, __u32 counter)
{
	struct bpf_redir_neigh next = {};

	if (c->xdp) {
		/* only the kernel's own forwarding asks for a neighbour; it goes by destination */
		if (!by_destination)
			return context_drop(c, COUNTER_DROP_NO_NEIGHBOUR);
		count(counter);
		return XDP_PASS;
	}
	count(counter);
	if (way->family == AF_INET_) {
		next.nh_family = AF_INET_;
		next.ipv4_nh = way->towards[3];
	} else {
		next.nh_family = AF_INET6_;
		__builtin_memcpy(next.ipv6_nh, way->towards, 16);
	}
	return bpf_redirect_neigh(way->ifindex, &next, sizeof(next), 0);
}

/* Make room behind the link header and write an outer IP header there.  `size` is a constant. */
static __always_inline bool put_in_front(struct context *c, __u32 l3, void *ip, __u32 size,
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

/* Put the packet into another one to the node.  The link header stays in front; its addresses
 * are set later.  The type of service is copied (RFC 2983). */
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
		return put_in_front(c, p->l3, &ip, sizeof(ip), BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, 0);
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
		return put_in_front(c, p->l3, &ip, sizeof(ip), BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
				    BPF_F_RECOMPUTE_CSUM);
	}
}

OWN_FUNCTION(encapsulate, (struct flow *f, __u32 ifindex), (f, ifindex))

/* Ask the kernel where packets of this direction go, and keep its answer for a while. */
static __always_inline int ask_way(struct context *c, struct packet *p, struct flow *f,
				   struct way *way)
{
	enum way_result result;

	if (!f || !way)
		return WAY_NONE;
	result = find_way(c, p, f,
			  f->bits & FLOW_VIA_NEXT_HOP ? f->next_hop :
			  f->bits & FLOW_VIA_NODE     ? f->node :
							f->new_dst,
			  way);
	/* an ICMP error's way may be another by the rules */
	if (result == WAY_FOUND &&
	    (p->key.protocol == PROTOCOL_TCP || p->key.protocol == PROTOCOL_UDP)) {
		f->fib_ifindex = way->ifindex;
		f->fib_mtu = way->mtu;
		f->fib_peer = way->peer;
		__builtin_memcpy(f->fib_dmac, way->dmac, 6);
		__builtin_memcpy(f->fib_smac, way->smac, 6);
		f->fib_expires = bpf_ktime_get_coarse_ns() + FIB_LIFE_NS;
	}
	return result;
}

OWN_FUNCTION(ask_way, (struct flow *f, struct way *way), (f, way))

static __always_inline enum way_result flow_way(struct context *c, struct packet *p,
						struct flow *f, __u64 now, struct way *way)
{
	if (f->fib_expires <= now)
		return CALL(ask_way, c, p, f, way);
	way->ifindex = f->fib_ifindex;
	way->mtu = f->fib_mtu;
	way->peer = f->fib_peer;
	__builtin_memcpy(way->dmac, f->fib_dmac, 6);
	__builtin_memcpy(way->smac, f->fib_smac, 6);
	return WAY_FOUND;
}

static __always_inline int no_way(struct context *c, enum way_result why)
{
	return context_drop(c, why == WAY_FORWARDING_OFF ? COUNTER_DROP_FORWARDING_OFF :
							   COUNTER_DROP_NO_ROUTE);
}

static __always_inline int send_along(struct context *c, struct packet *p, struct flow *f,
				      struct way *way, enum way_result found, __u32 counter)
{
	if (f->bits & FLOW_TUNNEL && !CALL(encapsulate, c, p, f, way->ifindex))
		return context_drop(c, COUNTER_DROP_NO_ROOM);
	if (found == WAY_NO_NEIGHBOUR)
		return leave_unresolved(c, p, way, !(f->bits & (FLOW_VIA_NEXT_HOP | FLOW_VIA_NODE)),
					counter);
	if (!set_macs(c, way->dmac, way->smac))
		return context_drop(c, COUNTER_DROP_NO_ROOM);
	return leave(c, way->ifindex, way->peer, counter);
}

static __always_inline int forward_flow(struct context *c, struct packet *p, struct flow *f)
{
	__u32 gso = 0, on_wire;
	enum way_result found;
	struct way way = {};
	__u64 now;

	if (p->ttl <= 1)
		return CALL(tell_sender, c, p, EVENT_TTL, 0, COUNTER_DROP_TTL);
	now = bpf_ktime_get_coarse_ns();
	found = flow_way(c, p, f, now, &way);
	if (found != WAY_FOUND && found != WAY_NO_NEIGHBOUR)
		return no_way(c, found);
	on_wire = p->length;
	context_segments(c, &gso);
	if (gso)
		on_wire = p->l4 - p->l3 + p->payload_at + gso;
	if (f->bits & FLOW_TUNNEL)
		way.mtu -= p->version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	if (on_wire > way.mtu)
		return CALL(tell_sender, c, p, EVENT_TOO_BIG, way.mtu, COUNTER_DROP_TOO_BIG);
	observe(c, p, f, now);
	if (!decrement_ttl(c, p, f->forward_mode == 0 ? f->address_delta : 0) ||
	    (f->forward_mode == 0 && !translate(c, p, f)))
		return context_drop(c, COUNTER_DROP_NO_ROOM);
	return send_along(c, p, f, &way, found, COUNTER_FLOW_PACKETS);
}

#endif

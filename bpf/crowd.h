/* SPDX-License-Identifier: GPL-2.0-only */
/* More new flows than the CS answers: a flood of SYNs with made-up sources.  Clients that completed a
 * handshake before are asked about all the same; who never did waits, by its own repeats, until the CS
 * keeps up.  So what waits at the CS is bounded, and with it how late an answer is.
 */
#ifndef SPLITPLANE_CROWD_H
#define SPLITPLANE_CROWD_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "parse.h"
#include "shared.h"

#define PERIOD_NS 250000000ull
#define UNANSWERED_MAX 1024 /* some 20 ms of a CS's time */

static __always_inline void network_of(const __be32 *address, struct client_network *network)
{
	bool is_ipv4 = is_mapped(address);

	network->octets[0] = is_ipv4 ? 0 : address[0];
	network->octets[1] = is_ipv4 ? address[3] : address[1];
}

/* A client has acknowledged its node's answer, so it is where it says. */
__noinline int note_client(const struct flow_key *key)
{
	__u64 now = bpf_ktime_get_coarse_ns(), *known;
	struct client_network network;

	if (!key)
		return 0;
	network_of(key->src, &network);
	known = bpf_map_lookup_elem(&known_clients, &network);
	if (known)
		*known = now;
	else
		bpf_map_update_elem(&known_clients, &network, &now, BPF_ANY);
	return 0;
}

static __always_inline struct questions *open_questions(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&questions, &zero);
}

/* Whether a question about this client has to wait; otherwise it counts as asked.  `has_shaken`: it
 * has completed a handshake. */
static __always_inline bool is_crowded_out(const __be32 *client, bool has_shaken)
{
	struct questions *q = open_questions();
	__u64 now = bpf_ktime_get_coarse_ns();
	struct client_network network;

	if (!q)
		return false;
	if (q->since + PERIOD_NS <= now) { /* some were lost, which is known of none */
		q->since = now;
		q->unanswered = q->unanswered > 0 ? q->unanswered >> 1 : 0;
	}
	if (q->unanswered >= UNANSWERED_MAX && !has_shaken) {
		network_of(client, &network);
		if (!bpf_map_lookup_elem(&known_clients, &network))
			return true;
	}
	__sync_fetch_and_add(&q->unanswered, 1);
	return false;
}

static __always_inline void note_answered(void)
{
	struct questions *q = open_questions();

	if (q)
		__sync_fetch_and_add(&q->unanswered, -1);
}

#endif

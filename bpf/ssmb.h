/* SPDX-License-Identifier: GPL-2.0-only */
/* The messages of SSMB that the program itself writes and reads, as they lie in version 2 (wire
 * protocol 6.4 to 6.6).  Everything is in network order.
 */
#ifndef SPLITPLANE_SSMB_H
#define SPLITPLANE_SSMB_H

#include <linux/types.h>

#define NS_PER_MS 1000000

enum { SSMB_QUERY = 1, SSMB_REPLY = 2, SSMB_APP_QUERY = 3, SSMB_DELETE = 5, SSMB_TAKEN = 70 };

/* error_code */
enum { SSMB_OK = 0, SSMB_CONNALIVE = 4, SSMB_NORESOURCE = 18 };

/* flags */
enum {
	SSMB_OUTBOUND = 0x0001,
	SSMB_ADD_TCP_OFFSETS = 0x0002,
	SSMB_TRANSLATE_ADDR = 0x0004,
	SSMB_TRANSLATE_PORT = 0x0008,
	SSMB_ROUTE_BY_DST_IP = 0x0010,
	SSMB_TRANSLATE_SRC = 0x0020,
	SSMB_PROXY_SERVER = 0x0040,
	SSMB_HAS_STATS = 0x0080,
	SSMB_RETRY = 0x0100,
	SSMB_PARKED = 0x1000,
	SSMB_ADDR16 = 0x4000,
};

/* forward_mode */
enum { SSMB_NAT = 0, SSMB_L2 = 1, SSMB_TUNNEL = 2 };

/* detail of DELETE */
enum { SSMB_REASON_FIN = 1, SSMB_REASON_RST = 2, SSMB_REASON_IDLE = 3, SSMB_REASON_OVERFLOW = 4 };

struct ssmb_beginning {
	__u8 type;
	__u8 error_code;
	__be16 flags;
	__be32 serial;
	__be32 src[4];
	__be32 dst[4];
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 tos;
	__u8 tcp_flags;
	__u8 detail;
};

struct query_message {
	struct ssmb_beginning beginning;
	__be32 timestamp;
};

/* APP_QUERY, as far as it goes on before its frame (wire protocol 15.2) */
struct app_query_message {
	struct query_message query;
	__be16 app_length;
	__be16 reserved;
};

/* a flow of TAKEN, which has the layout of a QUERY */
#define taken_flow query_message

struct reply_message {
	struct ssmb_beginning beginning;
	__be32 node_ipaddr[4];
	__be32 snat_ipaddr[4];
	__be16 node_port;
	__be16 snat_port;
	__be32 next_hop_ipaddr[4];
	__be32 seq_offset;
	__be32 ack_offset;
	__be32 ts_offset;
	__be16 idle_timeout;
	__s8 wscale_shift;
	__u8 forward_mode;
};

struct delete_message {
	struct ssmb_beginning beginning;
	__be32 timestamp;
	__be32 idle_ms;
	__be64 packets_in;
	__be64 bytes_in;
	__be64 packets_out;
	__be64 bytes_out;
	__be32 seq_offset;
	__be32 ack_offset;
	__be32 ts_offset;
	__s8 wscale_shift;
	__u8 reserved[3];
};

/* behind the messages of a datagram */
struct ssmb_seal {
	__be64 number; /* its first octet is the lane */
	__u64 tag;
};

#define SSMB_FRAME_MAX 512 /* of a PARKED frame, octets */

_Static_assert(sizeof(struct query_message) == 52, "wire protocol 6.1");
_Static_assert(sizeof(struct app_query_message) == 56, "wire protocol 6.1");
_Static_assert(sizeof(struct reply_message) == 116, "wire protocol 6.1");
_Static_assert(sizeof(struct delete_message) == 104, "wire protocol 6.1");
_Static_assert(sizeof(struct ssmb_seal) == 16, "wire protocol 12.4");

#endif

// SPDX-License-Identifier: Apache-2.0
/* Sends packets as fast as one processor does, or at a rate, past the kernel's IP layer:
 *
 *     generator INTERFACE DESTINATION-MAC syn DESTINATION PORT SECONDS [RATE]
 *     generator INTERFACE DESTINATION-MAC udp DESTINATION PORT FIRST-SOURCE COUNT [RATE]
 *
 * syn: SYNs, each from another address in 11.0.0.0 to 126.255.255.255 and another port, at random.
 * udp: one empty datagram from each of COUNT addresses.  RATE: packets per second, 0 for no limit.
 * It prints how many packets were sent and the seconds that took; IPv4 only. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 64
#define FIRST_OCTET 11
#define OCTETS 116 /* how many first octets; all of them unicast, none private nor loopback */
#define SOURCE_PORT 40000

struct frame {
	struct ether_header eth;
	struct iphdr ip;
	union {
		struct tcphdr tcp;
		struct udphdr udp;
	};
} __attribute__((packed));

static uint64_t state;

static uint64_t next_random(void)
{
	state ^= state << 13; /* Marsaglia, Xorshift RNGs (2003) */
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static uint32_t sum(const void *data, size_t length, uint32_t so_far)
{
	const uint8_t *octets = data;

	for (size_t i = 0; i + 1 < length; i += 2)
		so_far += octets[i] << 8 | octets[i + 1];
	return so_far;
}

static uint16_t folded(uint32_t so_far)
{
	while (so_far >> 16)
		so_far = (so_far & 0xffff) + (so_far >> 16);
	return htons(~so_far & 0xffff);
}

static void finish(struct frame *f, bool syn, uint32_t source, uint16_t port, uint32_t seq)
{
	size_t length = syn ? sizeof(f->tcp) : sizeof(f->udp);
	uint32_t pseudo;

	f->ip.saddr = htonl(source);
	f->ip.check = 0;
	f->ip.check = folded(sum(&f->ip, sizeof(f->ip), 0));
	pseudo = sum(&f->ip.saddr, 8, f->ip.protocol + length);
	if (syn) {
		f->tcp.source = htons(port);
		f->tcp.seq = htonl(seq);
		f->tcp.check = 0;
		f->tcp.check = folded(sum(&f->tcp, length, pseudo));
	} else {
		f->udp.source = htons(port);
		f->udp.check = 0;
		f->udp.check = folded(sum(&f->udp, length, pseudo));
	}
}

static void begin(struct frame *f, const uint8_t *from, const char *mac, bool syn,
		  const char *destination, uint16_t port)
{
	size_t length = syn ? sizeof(f->tcp) : sizeof(f->udp);
	unsigned int m[ETH_ALEN];

	memset(f, 0, sizeof(*f));
	if (sscanf(mac, "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) !=
	    ETH_ALEN) {
		fprintf(stderr, "%s is not a MAC address\n", mac);
		exit(2);
	}
	for (int i = 0; i < ETH_ALEN; i++)
		f->eth.ether_dhost[i] = m[i];
	memcpy(f->eth.ether_shost, from, ETH_ALEN);
	f->eth.ether_type = htons(ETHERTYPE_IP);
	f->ip.version = 4;
	f->ip.ihl = sizeof(f->ip) / 4;
	f->ip.tot_len = htons(sizeof(f->ip) + length);
	f->ip.ttl = 64;
	f->ip.protocol = syn ? IPPROTO_TCP : IPPROTO_UDP;
	if (inet_pton(AF_INET, destination, &f->ip.daddr) != 1) {
		fprintf(stderr, "%s is not an IPv4 address\n", destination);
		exit(2);
	}
	if (syn) {
		f->tcp.dest = htons(port);
		f->tcp.doff = sizeof(f->tcp) / 4;
		f->tcp.syn = 1;
		f->tcp.window = htons(65535);
	} else {
		f->udp.dest = htons(port);
		f->udp.len = htons(length);
	}
}

static int packet_socket(const char *interface, struct ifreq *request)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET,
				  .sll_ifindex = if_nametoindex(interface) };
	int fd = socket(AF_PACKET, SOCK_RAW, 0); /* protocol 0: it receives nothing */

	snprintf(request->ifr_name, sizeof(request->ifr_name), "%s", interface);
	if (fd < 0 || !at.sll_ifindex || bind(fd, (struct sockaddr *)&at, sizeof(at)) ||
	    ioctl(fd, SIOCGIFHWADDR, request)) {
		perror(interface);
		exit(1);
	}
	return fd;
}

/* Sends all of them, again where the queue was full. */
static void send_all(int fd, struct mmsghdr *messages, int count)
{
	for (int sent = 0; sent < count;) {
		int now = sendmmsg(fd, messages + sent, count - sent, 0);

		if (now > 0) {
			sent += now;
		} else if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR) {
			perror("sendmmsg");
			exit(1);
		}
	}
}

int main(int argc, char **argv)
{
	static struct frame frames[BATCH];
	static struct iovec parts[BATCH];
	static struct mmsghdr messages[BATCH];
	bool syn = argc > 3 && !strcmp(argv[3], "syn");
	int rate_at = syn ? 7 : 8;
	struct in_addr first = { 0 };
	struct ifreq request = { 0 };
	double started, limit = 0, rate;
	uint64_t sent = 0, count = UINT64_MAX;
	int fd;

	if (argc < rate_at || argc > rate_at + 1 || (!syn && strcmp(argv[3], "udp"))) {
		fprintf(stderr, "usage: see the head of generator.c\n");
		return 2;
	}
	if (syn) {
		limit = atof(argv[6]);
	} else {
		count = strtoull(argv[7], NULL, 10);
		if (inet_pton(AF_INET, argv[6], &first) != 1) {
			fprintf(stderr, "%s is not an IPv4 address\n", argv[6]);
			return 2;
		}
	}
	rate = argc > rate_at ? atof(argv[rate_at]) : 0;
	fd = packet_socket(argv[1], &request);
	for (int i = 0; i < BATCH; i++) {
		size_t length = sizeof(frames[i].eth) + sizeof(frames[i].ip) +
				(syn ? sizeof(frames[i].tcp) : sizeof(frames[i].udp));

		begin(&frames[i], (uint8_t *)request.ifr_hwaddr.sa_data, argv[2], syn, argv[4],
		      atoi(argv[5]));
		parts[i] = (struct iovec){ &frames[i], length };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1 };
	}
	started = seconds_now();
	state = (uint64_t)(started * 1e9) | 1;
	while (sent < count && (!syn || seconds_now() - started < limit)) {
		int batch = count - sent < BATCH ? count - sent : BATCH;

		for (int i = 0; i < batch; i++) {
			uint64_t r = next_random();
			uint32_t octet = FIRST_OCTET + (r >> 56) * OCTETS / 256;

			if (syn)
				finish(&frames[i], true, octet << 24 | (r & 0xffffff),
				       1024 + (r >> 24 & 0xffff) % 64512, r >> 20);
			else
				finish(&frames[i], false, ntohl(first.s_addr) + sent + i,
				       SOURCE_PORT, 0);
		}
		send_all(fd, messages, batch);
		sent += batch;
		while (rate > 0 && sent / rate > seconds_now() - started) {
			struct timespec pause = { .tv_nsec = 50000 };

			nanosleep(&pause, NULL);
		}
	}
	printf("%llu %.6f\n", (unsigned long long)sent, seconds_now() - started);
	return 0;
}

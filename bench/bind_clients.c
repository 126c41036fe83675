// SPDX-License-Identifier: Apache-2.0
/* For LD_PRELOAD: every connection by IPv4 comes from another client address, in turn from one of the
 * first KNOWN and from one that was not used yet.  All of 10.128.0.0/10 must be the host's own.  The
 * environment's BIND_CLIENTS_FROM says how many addresses were used before. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#define CLIENTS 0x0a800000u /* 10.128.0.0 */
#define SPREAD 0x3fffffu
#define KNOWN 1000

typedef int connect_function(int, const struct sockaddr *, socklen_t);

static connect_function *real_connect;
static uint32_t used_before;
static _Atomic uint32_t connections;

__attribute__((constructor)) static void prepare(void)
{
	const char *before = getenv("BIND_CLIENTS_FROM");

	real_connect = (connect_function *)dlsym(RTLD_NEXT, "connect");
	used_before = before ? strtoul(before, NULL, 10) : 0;
}

int connect(int fd, const struct sockaddr *to, socklen_t length)
{
	if (to->sa_family == AF_INET) {
		uint32_t number = atomic_fetch_add(&connections, 1);
		uint32_t client =
			number & 1 ? KNOWN + used_before + number / 2 : number / 2 % KNOWN;
		struct sockaddr_in from = {
			.sin_family = AF_INET,
			.sin_addr.s_addr = htonl(CLIENTS + 1 + client % (SPREAD - 1)),
		};
		int one = 1;

		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
		if (bind(fd, (struct sockaddr *)&from, sizeof(from)))
			return -1;
	}
	return real_connect(fd, to, length);
}

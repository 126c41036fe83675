// SPDX-License-Identifier: Apache-2.0
/* Asks for one object over HTTP/1.1 again and again, and throws its octets away unread:
 *
 *     objects ADDRESS PORT HOST PATH SECONDS AT-ONCE close|keep
 *
 * AT-ONCE threads, each with a connection per object (close) or one for all (keep).  The kernel drops
 * the octets of a body (MSG_TRUNC of tcp(7)), so that what is measured is what lies between the ends.
 * It prints the whole objects, the octets of bodies, the seconds, and the exchanges that failed: no
 * answer 200 with a Content-Length, an end before it, or ten seconds of silence.  IPv4 only. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE_MAX 256
#define HEAD_MAX 4096
#define SILENCE_S 10
#define DISCARD (1 << 20)

static struct sockaddr_in server = { .sin_family = AF_INET };
static char request[1024];
static size_t request_length;
static bool keep;
static double deadline;
static atomic_ullong objects, octets, failed;

static double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int connected(void)
{
	struct timeval silence = { .tv_sec = SILENCE_S };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
	if (connect(fd, (struct sockaddr *)&server, sizeof(server))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* What of the body came with the head, and the length of the whole; -1: no such answer. */
static long long read_head(int fd, long long *length)
{
	char head[HEAD_MAX + 1], *end = NULL, *field;
	size_t have = 0;

	while (!end) {
		ssize_t now = recv(fd, head + have, HEAD_MAX - have, 0);

		if (now <= 0)
			return -1;
		have += now;
		head[have] = 0;
		end = strstr(head, "\r\n\r\n");
	}
	field = strcasestr(head, "\r\nContent-Length:");
	if (strncmp(head, "HTTP/1.1 200 ", 13) || !field || field > end)
		return -1;
	*length = atoll(field + strlen("\r\nContent-Length:"));
	return have - (end + 4 - head);
}

/* Whether the object came whole; *in_time is cleared where the time ended before it had. */
static bool exchange(int fd, bool *in_time)
{
	long long length, have;

	if (send(fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length)
		return false;
	have = read_head(fd, &length);
	if (have < 0)
		return false;
	octets += have;
	while (have < length) {
		size_t most = length - have < DISCARD ? length - have : DISCARD;
		ssize_t now = recv(fd, NULL, most, MSG_TRUNC);

		if (now <= 0)
			return false;
		if (seconds_now() >= deadline) {
			*in_time = false;
			return false;
		}
		have += now;
		octets += now;
	}
	objects++;
	return true;
}

static void *client(void *unused)
{
	bool in_time = true;
	int fd = -1;

	while (in_time && seconds_now() < deadline) {
		if (fd < 0)
			fd = connected();
		if (fd < 0 || !exchange(fd, &in_time)) {
			failed += in_time;
			if (fd >= 0)
				close(fd);
			fd = -1;
		} else if (!keep) {
			close(fd);
			fd = -1;
		}
	}
	if (fd >= 0)
		close(fd);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t threads[AT_ONCE_MAX];
	double started;
	int at_once;

	if (argc != 8 || (strcmp(argv[7], "keep") && strcmp(argv[7], "close"))) {
		fprintf(stderr, "usage: see the head of objects.c\n");
		return 2;
	}
	keep = !strcmp(argv[7], "keep");
	at_once = atoi(argv[6]);
	if (inet_pton(AF_INET, argv[1], &server.sin_addr) != 1 || at_once < 1 ||
	    at_once > AT_ONCE_MAX) {
		fprintf(stderr, "usage: see the head of objects.c\n");
		return 2;
	}
	server.sin_port = htons(atoi(argv[2]));
	request_length =
		snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n",
			 argv[4], argv[3], keep ? "" : "Connection: close\r\n");
	if (request_length >= sizeof(request)) {
		fprintf(stderr, "the request is too long\n");
		return 2;
	}
	started = seconds_now();
	deadline = started + atof(argv[5]);
	for (int i = 0; i < at_once; i++) {
		if (pthread_create(&threads[i], NULL, client, NULL)) {
			fprintf(stderr, "no thread\n");
			return 1;
		}
	}
	for (int i = 0; i < at_once; i++)
		pthread_join(threads[i], NULL);
	printf("%llu %llu %.6f %llu\n", (unsigned long long)objects, (unsigned long long)octets,
	       seconds_now() - started, (unsigned long long)failed);
	return 0;
}

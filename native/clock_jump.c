// SPDX-License-Identifier: Apache-2.0
/* Makes the real-time clock of one process jump, for failover drills:
 *
 *     LD_PRELOAD=clock_jump.so CLOCK_JUMP_FILE=FILE PROGRAM
 *
 * FILE holds a little-endian signed 64-bit integer: the seconds that this process sees the clock ahead
 * (or behind).  It is mapped, so that a drill changes it while the program runs.  The monotonic clock
 * is left alone, as a step of the machine's clock leaves it.  Only libc's functions are replaced: a
 * program that calls the kernel by itself sees the machine's clock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

static const volatile int64_t *ahead_s;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void prepare(void)
{
	const char *path = getenv("CLOCK_JUMP_FILE");
	void *mapped;
	int file;

	real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (file < 0)
		return;
	mapped = mmap(NULL, sizeof(*ahead_s), PROT_READ, MAP_SHARED, file, 0);
	if (mapped != MAP_FAILED)
		ahead_s = mapped;
	close(file);
}

EXPORTED int clock_gettime(clockid_t clock, struct timespec *now)
{
	int result;

	if (!real_clock_gettime) /* another library's constructor came before ours */
		real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	result = real_clock_gettime(clock, now);
	if (result == 0 && ahead_s &&
	    (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
		now->tv_sec += *ahead_s;
	return result;
}

EXPORTED int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec fine;

	(void)zone; /* obsolete, and nobody sets it */
	if (clock_gettime(CLOCK_REALTIME, &fine) != 0)
		return -1;
	now->tv_sec = fine.tv_sec;
	now->tv_usec = fine.tv_nsec / 1000;
	return 0;
}

EXPORTED time_t time(time_t *now)
{
	struct timespec fine;

	if (clock_gettime(CLOCK_REALTIME, &fine) != 0)
		return -1;
	if (now)
		*now = fine.tv_sec;
	return fine.tv_sec;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Senders are cancelled at random times, with
// signals about. Each stream has its bytes in their order, and an end; nothing hangs.
#include "case.h"

enum { ROUNDS = 150 };
static int sockets[2];
static volatile unsigned place;
static volatile int slow;
static unsigned seed = 1;

static unsigned below(unsigned limit)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % limit;
}

static void fill(unsigned char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (place + i) * 167 >> 3;
}

static void *sender(void *start)
{
	static unsigned char bytes[40000];
	size_t length = *(size_t *)start;

	for (;;) {
		fill(bytes, length);
		ssize_t sent = write(sockets[0], bytes, length);
		if (sent < 0) {
			CHECK(errno == EINTR, "%s", strerror(errno));
			continue;
		}
		// No more than one send's bytes are in doubt when it is cancelled.
		place += sent;
	}
	return NULL;
}

static void *reader(void *start)
{
	static unsigned char got[65536];
	unsigned at = 0;
	ssize_t n;

	(void)start;
	while ((n = read(sockets[1], got, slow ? 2000 : sizeof got)) > 0) {
		for (ssize_t i = 0; i < n; i++, at++)
			CHECK(got[i] == (unsigned char)(at * 167 >> 3), "the byte at %u", at);
		if (slow)
			usleep(200);
	}
	CHECK(n == 0, "%s", strerror(errno));
	CHECK(at >= place, "%u of %u", at, place);
	return NULL;
}

static void on_signal(int signal)
{
	(void)signal;
}

static void one(void)
{
	static const size_t lengths[] = { 7, 300, 5000, 40000 };
	size_t length = lengths[below(4)];
	int small = below(2) ? 16384 : 0;
	pthread_t from, to;
	void *ended;

	place = 0;
	slow = below(2);
	connection(sockets, small, small);
	pthread_create(&to, NULL, reader, NULL);
	pthread_create(&from, NULL, sender, &length);
	for (unsigned signals = below(4); signals > 0; signals--) {
		usleep(below(2000));
		pthread_kill(from, SIGUSR1);
	}
	usleep(below(10000));
	CHECK(pthread_cancel(from) == 0);
	CHECK(pthread_join(from, &ended) == 0 && ended == PTHREAD_CANCELED);
	slow = 0;
	close(sockets[0]);
	CHECK(pthread_join(to, NULL) == 0);
	close(sockets[1]);
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGUSR1, &action, NULL);
	for (int round = 0; round < ROUNDS; round++)
		one();
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// One thread sends while another ends the stream: what was accepted arrives, and the rest was not
// accepted.
#include "case.h"

enum { ROUNDS = 1500 };
static int pair[2];
static long accepted;

static void *sender(void *start)
{
	static const char bytes[100];
	ssize_t sent;

	(void)start;
	while ((sent = send(pair[0], bytes, sizeof bytes, MSG_NOSIGNAL)) > 0)
		accepted += sent;
	CHECK(errno == EPIPE, "%s", strerror(errno));
	return NULL;
}

static void *reader(void *start)
{
	static char room[1 << 16];
	long *got = start;
	ssize_t n;

	while ((n = read(pair[1], room, sizeof room)) > 0)
		*got += n;
	CHECK(n == 0, "%s", strerror(errno));
	return NULL;
}

int main(void)
{
	pthread_t from, to;

	for (int round = 0; round < ROUNDS; round++) {
		long got = 0;

		accepted = 0;
		connection(pair, 0, 0);
		pthread_create(&to, NULL, reader, &got);
		pthread_create(&from, NULL, sender, NULL);
		usleep(round % 100);
		CHECK(shutdown(pair[0], round % 2 ? SHUT_WR : SHUT_RDWR) == 0);
		pthread_join(from, NULL);
		pthread_join(to, NULL);
		CHECK(got == accepted, "%ld of %ld", got, accepted);
		close(pair[0]);
		close(pair[1]);
	}
	return 0;
}

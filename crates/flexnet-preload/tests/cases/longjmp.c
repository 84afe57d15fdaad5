// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// A request is timed out by siglongjmp out of a blocking write from the stack, small
// or large. The peer gets nothing but the request's bytes, the next request works, and
// the stream ends when the socket is closed.
#include "case.h"
#include <setjmp.h>

static sigjmp_buf top;
static int sockets[2];

static void on_alarm(int signal)
{
	(void)signal;
	siglongjmp(top, 1);
}

__attribute__((noinline)) static void request(size_t length)
{
	char buffer[100000];
	struct itimerspec soon = { .it_value.tv_nsec = 150000000 };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
	timer_t timer;

	memset(buffer, 'A', sizeof buffer);
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &soon, NULL);
	for (;;)
		CHECK(write(sockets[0], buffer, length) > 0);
}

__attribute__((noinline)) static void other(void)
{
	volatile char secret[99000];

	for (size_t i = 0; i < sizeof secret; i++)
		secret[i] = 'S';
}

static void one(size_t length)
{
	static char got[65536];
	struct pollfd readable = { .events = POLLIN };
	ssize_t n;
	volatile long all = 0;

	connection(sockets, 16384, 16384);
	readable.fd = sockets[1];
	if (!sigsetjmp(top, 1))
		request(length);
	other();
	while (poll(&readable, 1, 300) > 0 && (n = read(sockets[1], got, sizeof got)) > 0)
		for (ssize_t i = 0; i < n; i++, all++)
			CHECK(got[i] == 'A', "byte %ld of %zu-byte requests is %d", all, length,
			      got[i]);
	CHECK(all > 0);
	CHECK(write(sockets[0], "next", 4) == 4);
	CHECK(recv(sockets[1], got, 4, MSG_WAITALL) == 4 && memcmp(got, "next", 4) == 0);
	close(sockets[0]);
	CHECK(poll(&readable, 1, 5000) == 1, "no end of the stream");
	CHECK(read(sockets[1], got, 1) == 0);
	close(sockets[1]);
}

int main(void)
{
	signal(SIGALRM, on_alarm);
	for (int round = 0; round < 3; round++) {
		one(100);
		one(10000);
		one(100000);
	}
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// A thread is blocked in a send, since its peer reads nothing. What ends the kernel's
// own wait ends this one: shutdown() by another thread, cancellation, the peer's
// reset. A signal returns the part of a large send that was taken.
#include "case.h"

static int sockets[2];
static volatile long sent, result, error;
static size_t length;

static void *writer(void *start)
{
	char *bytes = calloc(1, length);

	(void)start;
	while ((result = write(sockets[0], bytes, length)) > 0)
		sent++;
	error = errno;
	free(bytes);
	return NULL;
}

static pthread_t blocked(size_t record)
{
	pthread_t thread;

	length = record;
	sent = record >= 100000; // its one write is not done
	connection(sockets, 16384, 16384);
	pthread_create(&thread, NULL, writer, NULL);
	wait_until_blocked(&sent);
	return thread;
}

static void ends_within_3_s(pthread_t thread, const char *what, void *expected)
{
	struct timespec until;
	void *value = NULL;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 3;
	CHECK(pthread_timedjoin_np(thread, &value, &until) == 0, "%s, %zu bytes", what, length);
	CHECK(value == expected, "%s", what);
}

static void by_shutdown(size_t record, int how)
{
	pthread_t thread = blocked(record);

	CHECK(shutdown(sockets[0], how) == 0);
	ends_within_3_s(thread, "shutdown", NULL);
	CHECK(result > 0 || error == EPIPE, "%ld", error);
}

static void by_cancellation(size_t record)
{
	pthread_t thread = blocked(record);

	CHECK(pthread_cancel(thread) == 0);
	ends_within_3_s(thread, "cancellation", PTHREAD_CANCELED);
	// The socket is as it was: what was accepted arrives, then the end.
	close(sockets[0]);
	static char room[65536];
	ssize_t n;
	while ((n = read(sockets[1], room, sizeof room)) > 0)
		;
	CHECK(n == 0);
}

static void by_reset(size_t record)
{
	pthread_t thread = blocked(record);
	struct linger now = { 1, 0 };

	setsockopt(sockets[1], SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(sockets[1]);
	ends_within_3_s(thread, "reset", NULL);
	CHECK(error == ECONNRESET || error == EPIPE, "%ld", error);
}

// What was accepted arrives, and the thread ends with the number.
static void by_close(size_t record)
{
	pthread_t thread = blocked(record);
	static char room[65536];
	long accepted = sent * (long)record, got = 0;
	ssize_t n;

	close(sockets[0]);
	while ((n = read(sockets[1], room, sizeof room)) > 0)
		got += n;
	CHECK(n == 0, "%s", strerror(errno));
	CHECK(got >= accepted, "%ld of %ld", got, accepted);
	ends_within_3_s(thread, "close", NULL);
	CHECK(error == EBADF, "%ld", error);
	close(sockets[1]);
}

static volatile int handled;
static void on_signal(int signal)
{
	(void)signal;
	handled = 1;
}

static void by_signal(int flags)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = flags };
	pthread_t thread;

	sigaction(SIGUSR1, &action, NULL);
	handled = 0;
	thread = blocked(4000000);
	pthread_kill(thread, SIGUSR1);
	while (!handled || result == 0)
		usleep(1000);
	CHECK(result > 0 && result < 4000000, "%ld, flags %x", result, flags);
	// It tries again, and is blocked again.
	shutdown(sockets[0], SHUT_RDWR);
	ends_within_3_s(thread, "shutdown", NULL);
}

int main(void)
{
	static const size_t records[] = { 32, 9000, 100000 };

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
		by_shutdown(records[i], SHUT_RDWR);
		by_shutdown(records[i], SHUT_WR);
		by_cancellation(records[i]);
		by_reset(records[i]);
	}
	by_signal(0);
	by_signal(SA_RESTART);
	by_close(32);
	return 0;
}

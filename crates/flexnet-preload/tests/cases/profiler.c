// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// A program blocks SIGPROF in all of its threads and reads it from a descriptor. No
// thread of the library takes the signal, which would end the program.
#include "case.h"
#include <sys/signalfd.h>

static int sockets[2];

static void *reader(void *start)
{
	static char room[65536];

	(void)start;
	while (read(sockets[1], room, sizeof room) > 0)
		;
	return NULL;
}

int main(void)
{
	char record[1000] = { 0 };
	struct signalfd_siginfo info;
	struct pollfd waits;
	pthread_t thread;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGPROF);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	waits.fd = signalfd(-1, &set, 0);
	waits.events = POLLIN;
	CHECK(waits.fd >= 0);
	connection(sockets, 0, 0);
	CHECK(pthread_create(&thread, NULL, reader, NULL) == 0);
	for (int i = 0; i < 2000; i++)
		CHECK(write(sockets[0], record, sizeof record) == sizeof record);
	for (int i = 0; i < 20; i++) {
		CHECK(kill(getpid(), SIGPROF) == 0);
		CHECK(poll(&waits, 1, 10000) == 1, "the signal is gone");
		CHECK(read(waits.fd, &info, sizeof info) == sizeof info);
		CHECK(info.ssi_signo == SIGPROF);
	}
	shutdown(sockets[0], SHUT_WR);
	CHECK(pthread_join(thread, NULL) == 0);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// main() leaves by pthread_exit, or is cancelled. The process ends with its last
// thread, status 0, and until then a signal finds a thread that takes it.
#include "case.h"

static int sockets[2];
static long records;

static void *reader(void *start)
{
	static char room[65536];

	(void)start;
	while (read(sockets[1], room, sizeof room) > 0)
		;
	return NULL;
}

static void *writer(void *start)
{
	char record[32] = { 0 };

	(void)start;
	for (long i = 0; i < records; i++)
		CHECK(write(sockets[0], record, sizeof record) == sizeof record);
	shutdown(sockets[0], SHUT_WR);
	return NULL;
}

static void *canceller(void *thread)
{
	CHECK(pthread_cancel(*(pthread_t *)thread) == 0);
	return NULL;
}

static void *sleeper(void *told)
{
	CHECK(write(*(int *)told, "x", 1) == 1);
	for (;;)
		pause();
}

static void offload(void)
{
	connection(sockets, 0, 0);
	for (int i = 0; i < 100; i++)
		CHECK(write(sockets[0], "x", 1) == 1);
}

static int status_of(pid_t child)
{
	int status;
	double until = now() + 10;

	while (waitpid(child, &status, WNOHANG) == 0) {
		if (now() > until) {
			kill(child, SIGKILL);
			CHECK(0, "the process does not end");
		}
		usleep(1000);
	}
	return status;
}

static void ends(long count, int cancelled)
{
	pid_t child = fork();
	pthread_t self, thread;

	if (child == 0) {
		records = count;
		offload();
		pthread_create(&thread, NULL, reader, NULL);
		pthread_detach(thread);
		pthread_create(&thread, NULL, writer, NULL);
		pthread_detach(thread);
		if (!cancelled)
			pthread_exit(NULL);
		self = pthread_self();
		pthread_create(&thread, NULL, canceller, &self);
		for (;;)
			pause();
	}
	CHECK(status_of(child) == 0, "%ld records, cancelled %d", count, cancelled);
}

static void can_be_ended(void)
{
	int told[2];
	char byte;
	pid_t child;
	int status;

	CHECK(pipe(told) == 0);
	child = fork();
	if (child == 0) {
		pthread_t thread;

		offload();
		pthread_create(&thread, NULL, sleeper, &told[1]);
		pthread_exit(NULL);
	}
	CHECK(read(told[0], &byte, 1) == 1);
	usleep(50000);
	kill(child, SIGTERM);
	status = status_of(child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "%x", status);
}

int main(void)
{
	ends(0, 0);
	ends(100, 0);
	ends(300000, 0);
	ends(100, 1);
	can_be_ended();
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// What ends the executors may wait for a peer that takes nothing. fork() of another thread does not
// wait for that.
#include "case.h"
#include <fcntl.h>
#include <sched.h>

static atomic_int begins, ended;
static char room[900];

static void *unshares(void *none)
{
	begins = 1;
	CHECK(unshare(0) == 0);
	ended = 1;
	return none;
}

static void *filters(void *none)
{
	struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog program = { 1, code };

	begins = 1;
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
	ended = 1;
	return none;
}

static void forks_meanwhile(void *(*waits)(void *))
{
	int pair[2];
	pthread_t thread;

	connection(pair, 16384, 16384);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	while (write(pair[0], room, sizeof room) > 0)
		;
	CHECK(errno == EAGAIN);
	refuse_buffers();
	CHECK(pthread_create(&thread, NULL, waits, NULL) == 0);
	while (!begins)
		sched_yield();
	while (!ended) {
		double begun = now();
		pid_t child = fork();

		if (child == 0)
			_exit(0);
		CHECK(waitpid(child, NULL, 0) == child);
		CHECK(now() - begun < 2, "fork took %.1f s", now() - begun);
	}
	CHECK(pthread_join(thread, NULL) == 0);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	void *(*const waits[])(void *) = { unshares, filters };

	for (int i = 0; i < 2; i++) {
		int status;
		pid_t child = fork();

		if (child == 0) {
			forks_meanwhile(waits[i]);
			// What is left has a peer no more.
			_exit(0);
		}
		CHECK(waitpid(child, &status, 0) == child && status == 0, "%d: %x", i, status);
	}
	return 0;
}

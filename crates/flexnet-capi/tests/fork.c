/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fork(2) beside threads that use the library. Without sanitizers: the lock of
 * gcc 12's own allocator may be held by a thread that the child does not have.
 */
#include "check.h"
#include <stdatomic.h>
#include <sys/wait.h>

/* While others make and close flows: the child must not inherit their locks. */
struct churn {
	struct flexnet_runtime *runtime;
	_Atomic bool stop;
};

static void *makes_and_closes(void *argument)
{
	struct churn *churn = argument;
	struct flexnet_flow *flow;

	while (!churn->stop) {
		EXPECT(flexnet_flow_create(churn->runtime, &flow), 0);
		EXPECT(flexnet_close(flow), 0);
	}
	return NULL;
}

static void in_the_child(struct flexnet_runtime *parents, struct flexnet_flow *parents_flow)
{
	struct flexnet_runtime *runtime;
	int ours, theirs;

	EXPECT(flexnet_try_send(parents_flow, "x", 1), -EINVAL);
	EXPECT(flexnet_flush(parents_flow), -EINVAL);
	EXPECT(flexnet_close(parents_flow), -EINVAL);
	EXPECT(flexnet_runtime_destroy(parents), -EINVAL);
	runtime = runtime_alone(1);
	CHECK(runtime != parents);
	connected_pair(SOCK_STREAM, false, &ours, &theirs);
	struct flexnet_flow *flow = adopted(runtime, ours);
	CHECK(flow != parents_flow);
	EXPECT(flexnet_send(flow, "child", 5), 5);
	EXPECT(flexnet_close(flow), 0);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
	char got[5];
	EXPECT(recv(theirs, got, 5, MSG_WAITALL), 5);
	_exit(0);
}

static void a_child_has_none_of_the_parents_handles(void)
{
	struct churn churn = { .runtime = runtime_alone(1) };
	pthread_t thread;
	int ours, theirs;

	connected_pair(SOCK_STREAM, false, &ours, &theirs);
	struct flexnet_flow *flow = adopted(churn.runtime, ours);
	CHECK(!pthread_create(&thread, NULL, makes_and_closes, &churn));
	for (int i = 0; i < 20; i++) {
		int status;
		pid_t child = fork();

		CHECK(child >= 0);
		if (!child)
			in_the_child(churn.runtime, flow);
		EXPECT(flexnet_send(flow, "parent", 6), 6);
		EXPECT(waitpid(child, &status, 0), child);
		EXPECT(status, 0);
	}
	churn.stop = true;
	CHECK(!pthread_join(thread, NULL));
	EXPECT(flexnet_close(flow), 0);
	EXPECT(flexnet_runtime_destroy(churn.runtime), 0);
	for (int i = 0; i < 20; i++) {
		char got[6];

		EXPECT(recv(theirs, got, 6, MSG_WAITALL), 6);
		EXPECT(memcmp(got, "parent", 6), 0);
	}
	expect_end(theirs);
	close(theirs);
}

int main(void)
{
	RUN(a_child_has_none_of_the_parents_handles);
	return 0;
}

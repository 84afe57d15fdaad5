/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Many threads on one handle: sends stay whole, and closing a flow or ending a
 * runtime under its users is safe: their calls succeed, or say -EINVAL.
 */
#include "check.h"
#include <stdatomic.h>
#include <sched.h>

#define SENDERS 4
#define MESSAGES 2000

struct sender {
	struct flexnet_flow *flow;
	unsigned char number;
};

static void *sends_many(void *argument)
{
	struct sender *sender = argument;

	/* Up to 32 KiB are accepted whole; larger ones are no less, one by one. */
	for (int i = 0; i < MESSAGES; i++) {
		unsigned char message[64];

		memset(message, sender->number, sizeof(message));
		memcpy(message + 8, &i, sizeof(i));
		EXPECT(flexnet_send(sender->flow, message, sizeof(message)), sizeof(message));
	}
	return NULL;
}

static void messages_of_threads_stay_whole(void)
{
	struct flexnet_runtime *runtime = runtime_alone(2);
	struct sender senders[SENDERS];
	pthread_t threads[SENDERS];
	int ours, theirs, next[SENDERS] = { 0 };

	connected_pair(SOCK_STREAM, false, &ours, &theirs);
	struct flexnet_flow *flow = adopted(runtime, ours);
	for (int i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){ flow, (unsigned char)i };
		CHECK(!pthread_create(&threads[i], NULL, sends_many, &senders[i]));
	}
	for (int i = 0; i < SENDERS * MESSAGES; i++) {
		unsigned char message[64];
		int number, sender;

		EXPECT(recv(theirs, message, sizeof(message), MSG_WAITALL), sizeof(message));
		sender = message[0];
		CHECK(sender < SENDERS);
		memcpy(&number, message + 8, sizeof(number));
		EXPECT(number, next[sender]++);
		for (size_t at = 12; at < sizeof(message); at++)
			EXPECT(message[at], sender);
	}
	for (int i = 0; i < SENDERS; i++)
		CHECK(!pthread_join(threads[i], NULL));
	EXPECT(flexnet_close(flow), 0);
	expect_end(theirs);
	close(theirs);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
}

/* Uses a flow until it is closed under it. */
struct user {
	struct flexnet_runtime *runtime;
	struct flexnet_flow *flow;
	_Atomic int calls;
};

static int step(void *state, struct flexnet_context *context)
{
	(void)state;
	(void)context;
	return FLEXNET_DONE;
}

static void *uses(void *argument)
{
	struct user *user = argument;
	struct flexnet_coroutine coroutine = { .size = sizeof(coroutine), .step = step };
	struct flexnet_runtime_state state = { .size = sizeof(state) };
	ssize_t outcome;

	do {
		outcome = flexnet_try_send(user->flow, "0123456789", 10);
		/* Closed, and its runtime ended, in the middle of a call: canceled. */
		CHECK(outcome == 10 || outcome == -EAGAIN || outcome == -ECANCELED ||
		      outcome == -EINVAL);
		int submitted = flexnet_submit(user->flow, &coroutine);
		CHECK(!submitted || submitted == -EAGAIN || submitted == -ENOBUFS ||
		      submitted == -ECANCELED || submitted == -EINVAL);
		flexnet_runtime_get_state(user->runtime, &state);
		atomic_fetch_add(&user->calls, 1);
	} while (outcome != -EINVAL);
	return NULL;
}

static void *reads_to_the_end(void *argument)
{
	int fd = *(int *)argument;
	char buffer[4096];

	while (recv(fd, buffer, sizeof(buffer), 0) > 0)
		;
	return NULL;
}

static void flows_are_closed_under_their_users(void)
{
	for (int round = 0; round < 50; round++) {
		struct flexnet_runtime *runtime = runtime_alone(1);
		struct user user = { .runtime = runtime };
		pthread_t threads[3];
		int ours, theirs;

		connected_pair(SOCK_STREAM, false, &ours, &theirs);
		user.flow = adopted(runtime, ours);
		CHECK(!pthread_create(&threads[0], NULL, uses, &user));
		CHECK(!pthread_create(&threads[1], NULL, uses, &user));
		CHECK(!pthread_create(&threads[2], NULL, reads_to_the_end, &theirs));
		while (user.calls < 100)
			sched_yield();
		EXPECT(flexnet_close(user.flow), 0);
		EXPECT(flexnet_close(user.flow), -EINVAL);
		EXPECT(flexnet_runtime_destroy(runtime), 0);
		for (int i = 0; i < 3; i++)
			CHECK(!pthread_join(threads[i], NULL));
		close(theirs);
	}
}

/* Of the threads that close a flow at once, one does. */
static void *closes(void *argument)
{
	return (void *)(intptr_t)flexnet_close(argument);
}

static void one_of_many_closes(void)
{
	struct flexnet_runtime *runtime = runtime_alone(1);

	for (int round = 0; round < 200; round++) {
		struct flexnet_flow *flow;
		pthread_t threads[3];
		int closed = 0;

		EXPECT(flexnet_flow_create(runtime, &flow), 0);
		for (int i = 0; i < 3; i++)
			CHECK(!pthread_create(&threads[i], NULL, closes, flow));
		for (int i = 0; i < 3; i++) {
			void *result;

			CHECK(!pthread_join(threads[i], &result));
			CHECK(result == NULL || (intptr_t)result == -EINVAL);
			closed += result == NULL;
		}
		EXPECT(closed, 1);
	}
	EXPECT(flexnet_runtime_destroy(runtime), 0);
}

int main(void)
{
	RUN(messages_of_threads_stay_whole);
	RUN(flows_are_closed_under_their_users);
	RUN(one_of_many_closes);
	return 0;
}

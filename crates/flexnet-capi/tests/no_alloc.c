/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * No send allocates, on any thread: this program's allocator counts. Without
 * sanitizers, which have an allocator of their own.
 */
#include "check.h"
#include <stdatomic.h>

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

static _Atomic long allocations;

void *malloc(size_t bytes)
{
	atomic_fetch_add(&allocations, 1);
	return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
	atomic_fetch_add(&allocations, 1);
	return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
	atomic_fetch_add(&allocations, 1);
	return __libc_realloc(old, bytes);
}

int posix_memalign(void **to, size_t alignment, size_t bytes)
{
	atomic_fetch_add(&allocations, 1);
	*to = __libc_memalign(alignment, bytes);
	return *to ? 0 : ENOMEM;
}

static void *reads_to_the_end(void *argument)
{
	static char buffer[1 << 20];

	while (recv(*(int *)argument, buffer, sizeof(buffer), 0) > 0)
		;
	return NULL;
}

static int yields_once(void *state, struct flexnet_context *context)
{
	(void)context;
	return (*(int *)state)++ ? FLEXNET_DONE : FLEXNET_YIELD;
}

static void every_kind_of_send(struct flexnet_flow *flow)
{
	static char bytes[100000];
	struct flexnet_completion completion = { .size = sizeof(completion) };
	char state[FLEXNET_STATE_BYTES] = { 0 };
	struct flexnet_coroutine coroutine = { .size = sizeof(coroutine),
					       .state_bytes = sizeof(state),
					       .state = state,
					       .step = yields_once };

	for (int i = 0; i < 300; i++) {
		for (int small = 0; small < 20; small++)
			EXPECT(flexnet_send(flow, bytes, 64), 64);
		EXPECT(flexnet_send_async(flow, bytes, sizeof(bytes), &completion), 0);
		EXPECT(flexnet_submit(flow, &coroutine), 0);
		EXPECT(flexnet_send(flow, bytes, sizeof(bytes)), sizeof(bytes));
		EXPECT(flexnet_completion_wait(&completion, -1), 0);
		EXPECT(completion.result, sizeof(bytes));
		EXPECT(flexnet_flush(flow), 0);
	}
}

int main(void)
{
	struct flexnet_runtime *runtime = runtime_alone(2);
	pthread_t reader;
	int ours, theirs;

	connected_pair(SOCK_STREAM, false, &ours, &theirs);
	CHECK(!pthread_create(&reader, NULL, reads_to_the_end, &theirs));
	struct flexnet_flow *flow = adopted(runtime, ours);
	every_kind_of_send(flow); /* what is made once is made now */
	long before = allocations;
	CHECK(before > 0);
	every_kind_of_send(flow);
	EXPECT(allocations - before, 0);
	EXPECT(flexnet_close(flow), 0);
	CHECK(!pthread_join(reader, NULL));
	close(theirs);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
	return 0;
}

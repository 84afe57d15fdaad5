/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a program can get wrong is told, and changes nothing: handles that are
 * none, structures of other versions, numbers out of range, descriptors that
 * cannot be adopted. And the layout that both sides of the interface rely on.
 */
#include "check.h"
#include <stddef.h>
#include <sys/un.h>

_Static_assert(sizeof(struct flexnet_runtime_options) == 72, "");
_Static_assert(offsetof(struct flexnet_runtime_options, stack_bytes) == 56, "of the first version");
_Static_assert(offsetof(struct flexnet_runtime_options, linger_ns) == 48, "");
_Static_assert(offsetof(struct flexnet_runtime_options, cores_guaranteed) == 40, "");
_Static_assert(sizeof(struct flexnet_runtime_state) == 104, "of the first version");
_Static_assert(offsetof(struct flexnet_runtime_state, design) == 40, "");
_Static_assert(sizeof(struct flexnet_completion) == 48, "of the first version");
_Static_assert(offsetof(struct flexnet_completion, callback) == 16, "");
_Static_assert(sizeof(struct flexnet_coroutine) == 32, "of the first version");
_Static_assert(offsetof(struct flexnet_coroutine, step) == 16, "");

static int done_at_once(void *state, struct flexnet_context *context)
{
	(void)state;
	(void)context;
	return FLEXNET_DONE;
}

/* Every function that takes a flow, with one that is none. */
static void expect_no_flow(struct flexnet_flow *flow)
{
	struct flexnet_completion completion = { .size = sizeof(completion) };
	struct flexnet_coroutine coroutine = { .size = sizeof(coroutine), .step = done_at_once };

	EXPECT(flexnet_flow_fd(flow), -EINVAL);
	EXPECT(flexnet_flow_set_kind(flow, 1), -EINVAL);
	EXPECT(flexnet_try_send(flow, "x", 1), -EINVAL);
	EXPECT(flexnet_send(flow, "x", 1), -EINVAL);
	EXPECT(flexnet_send_async(flow, "x", 1, &completion), -EINVAL);
	EXPECT(completion.state, FLEXNET_COMPLETION_IDLE);
	EXPECT(flexnet_flush(flow), -EINVAL);
	EXPECT(flexnet_shutdown(flow), -EINVAL);
	EXPECT(flexnet_submit(flow, &coroutine), -EINVAL);
	EXPECT(flexnet_close(flow), -EINVAL);
}

static void expect_no_runtime(struct flexnet_runtime *runtime)
{
	struct flexnet_runtime_state state = { .size = sizeof(state) };
	struct flexnet_flow *flow = NULL;

	EXPECT(flexnet_runtime_set_hints(runtime, 0, 0), -EINVAL);
	EXPECT(flexnet_runtime_get_state(runtime, &state), -EINVAL);
	EXPECT(flexnet_flow_create(runtime, &flow), -EINVAL);
	EXPECT(flexnet_flow_adopt(runtime, 0, 0, &flow), -EINVAL);
	CHECK(!flow);
	EXPECT(flexnet_runtime_destroy(runtime), -EINVAL);
}

static void *moved(void *handle, ptrdiff_t bytes)
{
	return (void *)((uintptr_t)handle + (uintptr_t)bytes);
}

static void handles_that_are_none(void)
{
	struct flexnet_runtime *runtime = runtime_alone(1), *other = runtime_alone(1);
	struct flexnet_flow *flow, *closed;
	long on_the_stack[16] = { 0 };
	void *on_the_heap = calloc(1, 4096);

	EXPECT(flexnet_flow_create(runtime, &flow), 0);
	EXPECT(flexnet_flow_create(runtime, &closed), 0);
	EXPECT(flexnet_close(closed), 0);
	EXPECT(flexnet_runtime_destroy(other), 0);

	void *const none[] = { NULL,
			       moved(NULL, 16),
			       on_the_stack,
			       on_the_heap,
			       (void *)-1,
			       moved(flow, 1),
			       moved(flow, 8),
			       moved(flow, 16 * 100),
			       moved(flow, -1),
			       moved(runtime, 2) };
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		expect_no_flow(none[i]);
		expect_no_runtime(none[i]);
	}
	expect_no_flow(closed);
	expect_no_flow((void *)runtime);
	expect_no_runtime(other);
	expect_no_runtime((void *)flow);

	/* Nor does a closed handle come to name what is made later: among so many
	 * somebody has its place. */
	struct flexnet_flow *later[300];
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 300; i++) {
			EXPECT(flexnet_flow_create(runtime, &later[i]), 0);
			CHECK(later[i] != closed);
			expect_no_flow(closed);
		}
		for (int i = 0; i < 300; i++)
			EXPECT(flexnet_close(later[i]), 0);
	}

	EXPECT(flexnet_runtime_destroy(runtime), -EBUSY);
	EXPECT(flexnet_flush(flow), 0);
	EXPECT(flexnet_close(flow), 0);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
	expect_no_runtime(runtime);
	expect_no_flow(flow);
	free(on_the_heap);
}

static void structures_of_other_versions(void)
{
	struct {
		struct flexnet_runtime_options known;
		uint64_t unknown;
	} newer = { .known = options_alone(1) };
	struct flexnet_runtime_options *options = &newer.known;
	struct flexnet_runtime *runtime = NULL;

	options->size = 0;
	EXPECT(flexnet_runtime_create(options, &runtime), -EINVAL);
	options->size = offsetof(struct flexnet_runtime_options, stack_bytes) - 1;
	EXPECT(flexnet_runtime_create(options, &runtime), -EINVAL);
	options->size = sizeof(newer);
	newer.unknown = 1;
	EXPECT(flexnet_runtime_create(options, &runtime), -E2BIG);
	EXPECT(flexnet_runtime_create(moved(options, 1), &runtime), -EINVAL);
	EXPECT(flexnet_runtime_create(options, NULL), -EINVAL);
	EXPECT(flexnet_runtime_create(options, moved(&runtime, 1)), -EINVAL);
	CHECK(!runtime);
	newer.unknown = 0;
	EXPECT(flexnet_runtime_create(options, &runtime), 0);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
	/* Of before there was a stack size, whose bytes are something else. */
	options->size = offsetof(struct flexnet_runtime_options, stack_bytes);
	options->stack_bytes = 1;
	EXPECT(flexnet_runtime_create(options, &runtime), 0);

	struct {
		struct flexnet_runtime_state known;
		char unknown[8];
	} state = { .known.size = sizeof(state), .unknown = "stays" };
	EXPECT(flexnet_runtime_get_state(runtime, &state.known), 0);
	EXPECT(state.known.size, sizeof(state.known));
	EXPECT(state.known.executors, 1);
	EXPECT(state.known.attached, 0);
	EXPECT(strcmp(state.known.design, "flexnet"), 0);
	EXPECT(strcmp(state.unknown, "stays"), 0);
	state.known.size = 4;
	EXPECT(flexnet_runtime_get_state(runtime, &state.known), -EINVAL);
	EXPECT(flexnet_runtime_get_state(runtime, NULL), -EINVAL);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
}

static void expect_no_options(struct flexnet_runtime_options options)
{
	struct flexnet_runtime *runtime = NULL;

	EXPECT(flexnet_runtime_create(&options, &runtime), -EINVAL);
	CHECK(!runtime);
}

static void numbers_out_of_range(void)
{
	struct flexnet_runtime_options options = options_alone(17);
	struct flexnet_runtime *runtime;

	expect_no_options(options);
	options = options_alone(1);
	options.flow_class = 2;
	expect_no_options(options);
	options = options_alone(1);
	options.coroutines = (1u << 20) + 1;
	expect_no_options(options);
	options = options_alone(1);
	options.weight = 10001;
	expect_no_options(options);
	options = options_alone(1);
	options.reserved = 1;
	expect_no_options(options);
	options = options_alone(1);
	options.stack_bytes = 65535;
	expect_no_options(options);
	options.stack_bytes = (1ull << 30) + 1;
	expect_no_options(options);
	options = options_alone(1);
	options.ring_bytes = 4095;
	expect_no_options(options);
	options.ring_bytes = (1ull << 30) + 1;
	expect_no_options(options);

	runtime = runtime_alone(1);
	EXPECT(flexnet_runtime_set_hints(runtime, 10001, 0), -EINVAL);
	EXPECT(flexnet_runtime_set_hints(runtime, 10000, UINT32_MAX), 0);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
	EXPECT(flexnet_set_class("/nowhere/at/all", (enum flexnet_class)7), -EINVAL);
	EXPECT(flexnet_set_class("/nowhere/at/all", FLEXNET_CLASS_LATENCY), -ENOENT);
}

static void descriptors_that_cannot_be_adopted(void)
{
	struct flexnet_runtime *runtime = runtime_alone(1);
	struct flexnet_flow *flow = NULL;
	int ours, theirs, pipes[2], unix_pair[2];

	CHECK(!pipe(pipes));
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, unix_pair));
	int unconnected = socket(AF_INET, SOCK_STREAM, 0);
	connected_pair(SOCK_STREAM, false, &ours, &theirs);

	EXPECT(flexnet_flow_adopt(runtime, -1, 0, &flow), -EBADF);
	EXPECT(flexnet_flow_adopt(runtime, pipes[1], 0, &flow), -ENOTSOCK);
	EXPECT(flexnet_flow_adopt(runtime, unix_pair[0], 0, &flow), -EPROTONOSUPPORT);
	EXPECT(flexnet_flow_adopt(runtime, unconnected, 0, &flow), -ENOTCONN);
	EXPECT(flexnet_flow_adopt(runtime, ours, 2, &flow), -EINVAL);
	EXPECT(flexnet_flow_adopt(runtime, ours, 0, NULL), -EINVAL);
	CHECK(!flow);
	/* All of them are the caller's as before. */
	EXPECT(send(ours, "x", 1, 0), 1);
	EXPECT(close(ours) | close(theirs) | close(unconnected), 0);
	EXPECT(close(pipes[0]) | close(pipes[1]) | close(unix_pair[0]) | close(unix_pair[1]), 0);

	/* A flow without a socket sends nothing. */
	struct flexnet_completion completion = { .size = sizeof(completion) };
	EXPECT(flexnet_flow_create(runtime, &flow), 0);
	EXPECT(flexnet_flow_fd(flow), -ENOTSOCK);
	EXPECT(flexnet_try_send(flow, "x", 1), -ENOTSOCK);
	EXPECT(flexnet_send(flow, "x", 1), -ENOTSOCK);
	EXPECT(flexnet_send_async(flow, "x", 1, &completion), -ENOTSOCK);
	EXPECT(flexnet_shutdown(flow), -EOPNOTSUPP);
	EXPECT(flexnet_close(flow), 0);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
}

static void arguments_of_sends_and_coroutines(void)
{
	struct flexnet_runtime *runtime = runtime_alone(1);
	char state[FLEXNET_STATE_BYTES] = { 0 };
	struct flexnet_completion completion = { .size = sizeof(completion) };
	struct flexnet_coroutine coroutine = { .size = sizeof(coroutine), .step = done_at_once };
	int ours, theirs;

	connected_pair(SOCK_STREAM, false, &ours, &theirs);
	struct flexnet_flow *flow = adopted(runtime, ours);
	EXPECT(flexnet_try_send(flow, NULL, 1), -EINVAL);
	EXPECT(flexnet_try_send(flow, NULL, 0), 0);
	EXPECT(flexnet_try_send(flow, "x", SIZE_MAX), -EINVAL);
	EXPECT(flexnet_send(flow, NULL, 1), -EINVAL);
	EXPECT(flexnet_send_async(flow, NULL, 1, &completion), -EINVAL);
	EXPECT(flexnet_send_async(flow, "x", 1, NULL), -EINVAL);
	EXPECT(flexnet_send_async(flow, "x", 1, moved(&completion, 4)), -EINVAL);
	completion.size = 8;
	EXPECT(flexnet_send_async(flow, "x", 1, &completion), -EINVAL);
	EXPECT(flexnet_completion_poll(&completion), -EINVAL);
	EXPECT(flexnet_completion_wait(&completion, -1), -EINVAL);
	completion.size = sizeof(completion) + 8;
	EXPECT(flexnet_send_async(flow, "x", 1, &completion), -E2BIG);
	completion.size = sizeof(completion);
	completion.state = FLEXNET_COMPLETION_PENDING;
	EXPECT(flexnet_send_async(flow, "x", 1, &completion), -EBUSY);
	completion.state = 77;
	EXPECT(flexnet_send_async(flow, "x", 1, &completion), -EINVAL);
	EXPECT(flexnet_completion_poll(&completion), -EINVAL);
	EXPECT(flexnet_completion_poll(NULL), -EINVAL);

	EXPECT(flexnet_submit(flow, NULL), -EINVAL);
	EXPECT(flexnet_submit(flow, moved(&coroutine, 4)), -EINVAL);
	coroutine.state_bytes = 1;
	EXPECT(flexnet_submit(flow, &coroutine), -EINVAL);
	coroutine.state = state;
	coroutine.state_bytes = FLEXNET_STATE_BYTES + 1;
	EXPECT(flexnet_submit(flow, &coroutine), -E2BIG);
	coroutine.state_bytes = FLEXNET_STATE_BYTES;
	EXPECT(flexnet_submit(flow, &coroutine), 0);
	coroutine.step = NULL;
	EXPECT(flexnet_submit(flow, &coroutine), -EINVAL);

	/* A context is one in its step only. */
	EXPECT(flexnet_sleep(NULL, 1), -EINVAL);
	EXPECT(flexnet_wait_writable((void *)state, ours), -EINVAL);
	EXPECT(flexnet_wait_result((void *)state), -EINVAL);
	EXPECT(flexnet_should_yield(NULL), -EINVAL);

	EXPECT(flexnet_close(flow), 0);
	expect_end(theirs);
	close(theirs);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
}

static void versions_and_texts(void)
{
	char version[64];

	snprintf(version, sizeof(version), "%d.%d.%d", FLEXNET_VERSION_MAJOR, FLEXNET_VERSION_MINOR,
		 FLEXNET_VERSION_PATCH);
	EXPECT(strcmp(flexnet_version(), version), 0);
	EXPECT(strcmp(flexnet_strerror(-EDEADLK), flexnet_strerror(EDEADLK)), 0);
	CHECK(strstr(flexnet_strerror(-EDEADLK), "step"));
	EXPECT(strcmp(flexnet_strerror(-4095), "unknown error"), 0);
	EXPECT(strcmp(flexnet_strerror(-2147483647 - 1), "unknown error"), 0);
}

int main(void)
{
	RUN(handles_that_are_none);
	RUN(structures_of_other_versions);
	RUN(numbers_out_of_range);
	RUN(descriptors_that_cannot_be_adopted);
	RUN(arguments_of_sends_and_coroutines);
	RUN(versions_and_texts);
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * With the scheduler: run by tests/scheduler in the virtual machine, as root.
 * The runtime finds it, its executors are granted a core, classes and hints are
 * taken.
 */
#include "check.h"
#include <time.h>

#define SEND_BYTES 100000

static void *reads_to_the_end(void *argument)
{
	static char buffer[1 << 16];

	while (recv(*(int *)argument, buffer, sizeof(buffer), 0) > 0)
		;
	return NULL;
}

static struct flexnet_runtime_state state_of(struct flexnet_runtime *runtime)
{
	struct flexnet_runtime_state state = { .size = sizeof(state) };

	EXPECT(flexnet_runtime_get_state(runtime, &state), 0);
	return state;
}

int main(void)
{
	struct flexnet_runtime_options options = { .size = sizeof(options),
						   .name = "from-c",
						   .executors = 2 };
	static const char bytes[SEND_BYTES];
	struct flexnet_runtime *runtime;
	pthread_t reader;
	int ours, theirs;

	options.cores_guaranteed = 1;
	EXPECT(flexnet_runtime_create(&options, &runtime), 0);
	EXPECT(flexnet_runtime_set_hints(runtime, 500, 1), 0);
	struct flexnet_runtime_state state = state_of(runtime);
	EXPECT(state.attached, 1);
	EXPECT(state.executors, 2);
	EXPECT(state.cores_guaranteed, 1);
	CHECK(state.executors_wanted >= 1 && state.executors_wanted <= 2);
	EXPECT(strncmp(state.design, "flexnet", 7), 0);
	EXPECT(flexnet_set_class(NULL, FLEXNET_CLASS_LATENCY), 0);
	EXPECT(flexnet_set_class(FLEXNET_SOCKET_PATH, FLEXNET_CLASS_NORMAL), 0);

	connected_pair(SOCK_STREAM, false, &ours, &theirs);
	CHECK(!pthread_create(&reader, NULL, reads_to_the_end, &theirs));
	struct flexnet_flow *flow = adopted(runtime, ours);
	time_t end = time(NULL) + 60;
	while (!state_of(runtime).cores_granted) {
		EXPECT(flexnet_send(flow, bytes, SEND_BYTES), SEND_BYTES);
		CHECK(time(NULL) < end);
	}
	EXPECT(flexnet_close(flow), 0);
	CHECK(!pthread_join(reader, NULL));
	close(theirs);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
	puts("a core was granted");
	return 0;
}

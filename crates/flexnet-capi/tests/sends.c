/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sends over real sockets: every kind in one order, datagrams whole, peers that
 * stop reading or go away, completions by callback and by waiting.
 */
#include "check.h"

#define LARGE (3u << 20)

static void *read_all(void *argument)
{
	int fd = *(int *)argument;

	expect_stream(fd, 0, LARGE);
	expect_end(fd);
	return NULL;
}

static void every_kind_of_send_in_one_order(void)
{
	struct flexnet_runtime *runtime = runtime_alone(2);
	unsigned char *bytes = stream_of(LARGE);
	struct flexnet_completion completions[2] = { { .size = sizeof(completions[0]) },
						     { .size = sizeof(completions[1]) } };
	int ours, theirs;

	connected_pair(SOCK_STREAM, false, &ours, &theirs);
	struct flexnet_flow *flow = adopted(runtime, ours);
	EXPECT(flexnet_flow_fd(flow), ours);
	EXPECT(flexnet_flow_set_kind(flow, 3), 0);

	size_t at = 0;
	EXPECT(flexnet_try_send(flow, bytes, 100), 100);
	at += 100;
	EXPECT(flexnet_send_async(flow, bytes + at, 1000000, &completions[0]), 0);
	at += 1000000;
	EXPECT(flexnet_try_send(flow, bytes + at, 7), 7);
	at += 7;
	EXPECT(flexnet_send_async(flow, bytes + at, 70000, &completions[1]), 0);
	at += 70000;
	/* Nobody reads yet: what does not fit the socket waits in its order. */
	size_t rest = LARGE - at;
	pthread_t reader;
	CHECK(!pthread_create(&reader, NULL, read_all, &theirs));
	EXPECT(flexnet_send(flow, bytes + at, rest), rest);
	EXPECT(flexnet_completion_wait(&completions[0], -1), 0);
	EXPECT(flexnet_completion_wait(&completions[1], -1), 0);
	EXPECT(completions[0].result, 1000000);
	EXPECT(completions[1].result, 70000);
	EXPECT(flexnet_flush(flow), 0);
	EXPECT(flexnet_shutdown(flow), 0);
	CHECK(!pthread_join(reader, NULL));

	/* The other way the socket is the kernel's. */
	EXPECT(send(theirs, "reply", 5, 0), 5);
	char reply[5];
	EXPECT(recv(flexnet_flow_fd(flow), reply, 5, MSG_WAITALL), 5);
	EXPECT(memcmp(reply, "reply", 5), 0);
	EXPECT(flexnet_close(flow), 0);
	close(theirs);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
	free(bytes);
}

static void closing_sends_first(void)
{
	struct flexnet_runtime *runtime = runtime_alone(1);
	unsigned char *bytes = stream_of(1 << 20);
	struct flexnet_flow *flow;
	int ours, theirs;

	connected_pair(SOCK_STREAM, false, &ours, &theirs);
	EXPECT(flexnet_flow_adopt(runtime, ours, FLEXNET_ADOPT_DUPLICATE, &flow), 0);
	CHECK(flexnet_flow_fd(flow) != ours);
	EXPECT(close(ours), 0);
	size_t sent = 0;
	ssize_t accepted;
	while (sent < (1 << 20) &&
	       (accepted = flexnet_try_send(flow, bytes + sent, (1 << 20) - sent)) > 0)
		sent += (size_t)accepted;
	EXPECT(flexnet_close(flow), 0);
	free(bytes);
	expect_stream(theirs, 0, sent);
	expect_end(theirs);
	close(theirs);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
}

static void datagrams_stay_whole(void)
{
	struct flexnet_runtime *runtime = runtime_alone(1);
	static const size_t sizes[] = { 64, 64, 64, 0, 1400, 1400, 700, 1, 65507, 9 };
	unsigned char *bytes = stream_of(65508), got[65508];
	struct flexnet_completion completion = { .size = sizeof(completion) };
	int ours, theirs;

	connected_pair(SOCK_DGRAM, false, &ours, &theirs);
	struct flexnet_flow *flow = adopted(runtime, ours);
	EXPECT(flexnet_try_send(flow, bytes, 65508), -EMSGSIZE);
	EXPECT(flexnet_send(flow, bytes, 65508), -EMSGSIZE);
	EXPECT(flexnet_send_async(flow, bytes, 65508, &completion), -EMSGSIZE);
	EXPECT(flexnet_shutdown(flow), -EOPNOTSUPP);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (i % 3 == 2) {
			EXPECT(flexnet_send_async(flow, bytes, sizes[i], &completion), 0);
			EXPECT(flexnet_completion_wait(&completion, -1), 0);
			EXPECT(completion.result, sizes[i]);
		} else {
			EXPECT(flexnet_send(flow, bytes, sizes[i]), sizes[i]);
		}
		EXPECT(recv(theirs, got, sizeof(got), 0), sizes[i]);
		EXPECT(memcmp(got, bytes, sizes[i]), 0);
	}
	/* Nobody is there any more: told by an operation that comes after. */
	ssize_t sent;
	close(theirs);
	do
		sent = flexnet_send(flow, bytes, 1);
	while (sent == 1);
	EXPECT(sent, -ECONNREFUSED);
	EXPECT(flexnet_close(flow), 0);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
	free(bytes);
}

static size_t fill(struct flexnet_flow *flow, const unsigned char *bytes, size_t length)
{
	size_t sent = 0;

	for (;;) {
		ssize_t accepted = flexnet_try_send(flow, bytes + sent, length - sent);

		if (accepted == -EAGAIN)
			return sent;
		CHECK(accepted > 0);
		sent += (size_t)accepted;
		CHECK(sent < length);
	}
}

static void a_peer_that_stops_reading_and_goes_on(void)
{
	struct flexnet_runtime *runtime = runtime_alone(2);
	unsigned char *bytes = stream_of(8 << 20);
	struct flexnet_completion completion = { .size = sizeof(completion) };
	struct flexnet_runtime_state state = { .size = sizeof(state) };
	int ours, theirs;

	connected_pair(SOCK_STREAM, true, &ours, &theirs);
	struct flexnet_flow *flow = adopted(runtime, ours);
	EXPECT(flexnet_send_async(flow, bytes, 1 << 20, &completion), 0);
	EXPECT(flexnet_completion_wait(&completion, 1000000), -ETIMEDOUT);
	EXPECT(flexnet_completion_poll(&completion), 0);
	EXPECT(flexnet_send_async(flow, bytes, 1, &completion), -EBUSY);
	size_t sent = (1 << 20) + fill(flow, bytes + (1 << 20), 7 << 20);
	EXPECT(flexnet_runtime_get_state(runtime, &state), 0);
	CHECK(state.depth > 0);
	EXPECT(state.flows, 1);
	expect_stream(theirs, 0, sent);
	EXPECT(flexnet_flush(flow), 0);
	EXPECT(flexnet_completion_poll(&completion), 1);
	EXPECT(completion.result, 1 << 20);
	EXPECT(flexnet_close(flow), 0);
	expect_end(theirs);
	close(theirs);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
	free(bytes);
}

/* What is still pending when the runtime ends is told, and nothing leaks. */
static void a_peer_that_never_reads(void)
{
	struct flexnet_runtime_options options = options_alone(1);
	struct flexnet_runtime *runtime;
	unsigned char *bytes = stream_of(8 << 20);
	struct flexnet_completion completion = { .size = sizeof(completion) };
	int ours[2], theirs[2];

	options.linger_ns = 1;
	EXPECT(flexnet_runtime_create(&options, &runtime), 0);
	for (int i = 0; i < 2; i++)
		connected_pair(SOCK_STREAM, true, &ours[i], &theirs[i]);
	struct flexnet_flow *copies = adopted(runtime, ours[0]),
			    *without = adopted(runtime, ours[1]);
	fill(copies, bytes, 8 << 20);
	EXPECT(flexnet_send_async(without, bytes, 8 << 20, &completion), 0);
	EXPECT(flexnet_close(copies), 0);
	EXPECT(flexnet_close(without), 0);
	EXPECT(flexnet_runtime_destroy(runtime), 1);
	EXPECT(flexnet_completion_wait(&completion, -1), 0);
	EXPECT(completion.result, -ECANCELED);
	for (int i = 0; i < 2; i++)
		close(theirs[i]);
	free(bytes);
}

static void a_peer_that_goes_away(void)
{
	struct flexnet_runtime *runtime = runtime_alone(1);
	unsigned char *bytes = stream_of(1 << 20);
	struct flexnet_completion completion = { .size = sizeof(completion) };
	struct linger reset = { .l_onoff = 1 };
	int ours, theirs;
	ssize_t sent;

	connected_pair(SOCK_STREAM, false, &ours, &theirs);
	struct flexnet_flow *flow = adopted(runtime, ours);
	CHECK(!setsockopt(theirs, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)));
	EXPECT(close(theirs), 0);
	/* No SIGPIPE ends this program; the error comes, and stays. */
	do
		sent = flexnet_try_send(flow, bytes, 100);
	while (sent > 0 || sent == -EAGAIN);
	CHECK(sent == -EPIPE || sent == -ECONNRESET);
	EXPECT(flexnet_try_send(flow, bytes, 1), sent);
	EXPECT(flexnet_send(flow, bytes, 1), sent);
	EXPECT(flexnet_send(flow, bytes, 1 << 20), sent);
	EXPECT(flexnet_send_async(flow, bytes, 1, &completion), sent);
	EXPECT(flexnet_flush(flow), sent);
	EXPECT(flexnet_close(flow), 0);

	/* In the middle of a send without a copy. */
	connected_pair(SOCK_STREAM, true, &ours, &theirs);
	flow = adopted(runtime, ours);
	EXPECT(flexnet_send_async(flow, bytes, 1 << 20, &completion), 0);
	char some[100];
	EXPECT(recv(theirs, some, sizeof(some), MSG_WAITALL), sizeof(some));
	CHECK(!setsockopt(theirs, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)));
	EXPECT(close(theirs), 0);
	EXPECT(flexnet_completion_wait(&completion, -1), 0);
	CHECK(completion.result == -EPIPE || completion.result == -ECONNRESET);
	EXPECT(flexnet_try_send(flow, bytes, 1), completion.result);
	EXPECT(flexnet_close(flow), 0);

	/* Of this end: what is sent next fails, nothing after it leaves. */
	connected_pair(SOCK_STREAM, false, &ours, &theirs);
	flow = adopted(runtime, ours);
	CHECK(!shutdown(ours, SHUT_WR));
	EXPECT(flexnet_send_async(flow, bytes, 10, &completion), 0);
	EXPECT(flexnet_completion_wait(&completion, -1), 0);
	EXPECT(completion.result, -EPIPE);
	EXPECT(flexnet_send(flow, bytes, 10), -EPIPE);
	EXPECT(flexnet_close(flow), 0);
	expect_end(theirs);
	close(theirs);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
	free(bytes);
}

/* Each send has a completion of its own on the heap, which the callback frees,
 * and starts the next one. */
struct chain {
	struct flexnet_flow *flow;
	const unsigned char *bytes;
	size_t at, length;
	int waits;
	int done[2];
};

static void start_next(struct chain *chain);

static void completed(struct flexnet_completion *completion)
{
	struct chain *chain = completion->data;
	char byte = 1;

	EXPECT(completion->result, 1000);
	EXPECT(completion->state, FLEXNET_COMPLETION_DONE);
	chain->waits = flexnet_flush(chain->flow);
	memset(completion, 0xff, sizeof(*completion));
	free(completion);
	if (chain->at < chain->length)
		start_next(chain);
	else
		EXPECT(write(chain->done[1], &byte, 1), 1);
}

static void start_next(struct chain *chain)
{
	struct flexnet_completion *completion = calloc(1, sizeof(*completion));

	CHECK(completion);
	completion->size = sizeof(*completion);
	completion->callback = completed;
	completion->data = chain;
	const unsigned char *from = chain->bytes + chain->at;
	chain->at += 1000;
	EXPECT(flexnet_send_async(chain->flow, from, 1000, completion), 0);
}

static void callbacks_free_and_send_again(void)
{
	struct flexnet_runtime *runtime = runtime_alone(1);
	struct chain chain = { .bytes = stream_of(200000), .length = 200000 };
	int ours, theirs;
	char byte;

	connected_pair(SOCK_STREAM, false, &ours, &theirs);
	CHECK(!pipe(chain.done));
	chain.flow = adopted(runtime, ours);
	start_next(&chain);
	expect_stream(theirs, 0, 200000);
	EXPECT(read(chain.done[0], &byte, 1), 1);
	EXPECT(chain.waits, -EDEADLK);
	EXPECT(flexnet_close(chain.flow), 0);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
	EXPECT(close(theirs) | close(chain.done[0]) | close(chain.done[1]), 0);
	free((void *)chain.bytes);
}

int main(void)
{
	RUN(every_kind_of_send_in_one_order);
	RUN(closing_sends_first);
	RUN(datagrams_stay_whole);
	RUN(a_peer_that_stops_reading_and_goes_on);
	RUN(a_peer_that_never_reads);
	RUN(a_peer_that_goes_away);
	RUN(callbacks_free_and_send_again);
	return 0;
}

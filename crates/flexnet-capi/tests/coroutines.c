/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Coroutines: their state is copied and stays, they wait in every way there is,
 * run in the flow's order, and tell their end once, whatever it was.
 */
#include "check.h"
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#define NOT_YET 12345

/* Where a coroutine's end is told. */
struct end {
	_Atomic int result;
	_Atomic int times;
};

static struct end *end_new(void)
{
	struct end *end = calloc(1, sizeof(*end));

	CHECK(end);
	end->result = NOT_YET;
	return end;
}

static int end_of(struct end *end)
{
	int result = end->result;

	EXPECT(end->times, 1);
	free(end);
	return result;
}

/* What all coroutines here begin with. */
struct base {
	struct end *end;
	struct flexnet_flow *flow;
	int at;
};

static void finish(void *state, int result)
{
	struct base *base = state;

	/* Nothing that waits may be called from here. */
	EXPECT(flexnet_flush(base->flow), -EDEADLK);
	atomic_fetch_add(&base->end->times, 1);
	base->end->result = result;
}

static int submit(struct flexnet_flow *flow, const void *state, size_t bytes,
		  int (*step)(void *, struct flexnet_context *))
{
	struct flexnet_coroutine coroutine = { .size = sizeof(coroutine) };

	coroutine.state = state;
	coroutine.state_bytes = (uint32_t)bytes;
	coroutine.step = step;
	coroutine.finish = finish;
	return flexnet_submit(flow, &coroutine);
}

/* Waits in every way, and looks whether the state is what it was. */
struct tour {
	struct base base;
	struct flexnet_runtime *runtime;
	int fd;
	void *self;
	unsigned char filling[FLEXNET_STATE_BYTES - 48];
};
_Static_assert(sizeof(struct tour) == FLEXNET_STATE_BYTES, "as much as there may be");

static int tour_step(void *state, struct flexnet_context *context)
{
	struct tour *tour = state;

	EXPECT((uintptr_t)state % 16, 0);
	for (size_t i = 0; i < sizeof(tour->filling); i++)
		EXPECT(tour->filling[i], byte_at(i));
	if (!tour->self)
		tour->self = tour;
	EXPECT(tour->self == tour, 1);
	switch (tour->base.at++) {
	case 0:
		EXPECT(flexnet_wait_result(context), 0);
		EXPECT(flexnet_wait_writable(context, -1), -EINVAL);
		EXPECT(flexnet_sleep((struct flexnet_context *)state, 1), -EINVAL);
		EXPECT(flexnet_send(tour->base.flow, "x", 1), -EDEADLK);
		EXPECT(flexnet_shutdown(tour->base.flow), -EDEADLK);
		EXPECT(flexnet_runtime_destroy(tour->runtime), -EDEADLK);
		EXPECT(flexnet_set_class(NULL, FLEXNET_CLASS_BATCH), -EDEADLK);
		return FLEXNET_YIELD;
	case 1:
		return flexnet_sleep(context, 1000000);
	case 2:
		return flexnet_sleep(context, 0);
	case 3:
		return flexnet_wait_writable(context, tour->fd);
	case 4:
		EXPECT(flexnet_wait_result(context), 0);
		EXPECT(send(tour->fd, "end", 3, MSG_DONTWAIT), 3);
		return flexnet_wait_writable(context, 1000000);
	case 5:
		EXPECT(flexnet_wait_result(context), 0); /* poll(2) says: an error to fetch */
		CHECK(flexnet_should_yield(context) >= 0);
		return FLEXNET_DONE;
	}
	return -EIO;
}

static void state_stays_through_every_wait(void)
{
	struct flexnet_runtime *runtime = runtime_alone(2);
	struct tour tour = { .base.end = end_new(), .runtime = runtime };
	int ours, theirs;
	char buffer[4096] = { 0 };

	EXPECT(flexnet_flow_create(runtime, &tour.base.flow), 0);
	connected_pair(SOCK_STREAM, true, &ours, &theirs);
	tour.fd = ours;
	size_t full = 0;
	for (ssize_t sent; (sent = send(ours, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0;)
		full += (size_t)sent;
	for (size_t i = 0; i < sizeof(tour.filling); i++)
		tour.filling[i] = byte_at(i);
	EXPECT(submit(tour.base.flow, &tour, sizeof(tour), tour_step), 0);
	memset(tour.filling, 0xff, sizeof(tour.filling)); /* it has a copy */
	for (size_t read = 0; read < full;)
		read += (size_t)recv(theirs, buffer,
				     sizeof(buffer) < full - read ? sizeof(buffer) : full - read,
				     0);
	EXPECT(recv(theirs, buffer, 3, MSG_WAITALL), 3);
	EXPECT(flexnet_flush(tour.base.flow), 0);
	EXPECT(end_of(tour.base.end), 0);
	EXPECT(flexnet_close(tour.base.flow), 0);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
	close(ours);
	close(theirs);
}

/* Returns what it was made to. */
struct returns {
	struct base base;
	int value;
};

static int returns_step(void *state, struct flexnet_context *context)
{
	struct returns *returns = state;

	(void)context;
	return returns->value;
}

static void every_end_is_reported(void)
{
	static const int ends[][2] = {
		{ FLEXNET_DONE, 0 },
		{ -ENOSPC, -ENOSPC },
		{ 42, -EINVAL },
		/* Without having said for what or how long. */
		{ FLEXNET_SLEEP, -EINVAL },
		{ FLEXNET_WAIT_WRITABLE, -EINVAL },
	};
	struct flexnet_runtime *runtime = runtime_alone(1);
	struct returns returns;

	memset(&returns, 0, sizeof(returns));
	EXPECT(flexnet_flow_create(runtime, &returns.base.flow), 0);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		returns.base.end = end_new();
		returns.value = ends[i][0];
		EXPECT(submit(returns.base.flow, &returns, sizeof(returns), returns_step), 0);
		EXPECT(flexnet_flush(returns.base.flow), 0);
		EXPECT(end_of(returns.base.end), ends[i][1]);
	}
	EXPECT(flexnet_close(returns.base.flow), 0);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
}

/* Sleeps for longer than any test runs. */
static int sleeps_step(void *state, struct flexnet_context *context)
{
	(void)state;
	return flexnet_sleep(context, 3600ull * 1000000000);
}

static void what_is_refused_is_not_reported_what_is_given_up_is(void)
{
	struct flexnet_runtime_options options = options_alone(1);
	struct flexnet_runtime *runtime;
	struct base base = { 0 };
	struct end *accepted[5000], *refused;
	int count = 0, error;

	options.coroutines = 1;
	options.linger_ns = 1;
	EXPECT(flexnet_runtime_create(&options, &runtime), 0);
	EXPECT(flexnet_flow_create(runtime, &base.flow), 0);
	for (;;) {
		base.end = end_new();
		error = submit(base.flow, &base, sizeof(base), sleeps_step);
		if (error)
			break;
		CHECK(count < 5000);
		accepted[count++] = base.end;
	}
	EXPECT(error, -ENOBUFS);
	refused = base.end;
	EXPECT(flexnet_close(base.flow), 0);
	CHECK(flexnet_runtime_destroy(runtime) >= 0);
	CHECK(count > 0);
	while (count--)
		EXPECT(end_of(accepted[count]), -ECANCELED);
	EXPECT(refused->times, 0);
	free(refused);

	/* The same with more cells than fit a flow's ring. */
	options.coroutines = 100000;
	EXPECT(flexnet_runtime_create(&options, &runtime), 0);
	EXPECT(flexnet_flow_create(runtime, &base.flow), 0);
	base.end = end_new();
	while (!(error = submit(base.flow, &base, sizeof(base), sleeps_step)))
		count++;
	EXPECT(error, -EAGAIN);
	CHECK(count > 1000);
	EXPECT(flexnet_close(base.flow), 0);
	CHECK(flexnet_runtime_destroy(runtime) >= 0);
	EXPECT(base.end->times, count + 1);
	free(base.end);
}

/* Runs between the sends it was submitted between, and sends from a step. */
struct between {
	struct base base;
	struct flexnet_flow *to;
	int fd;
};

static int between_step(void *state, struct flexnet_context *context)
{
	struct between *between = state;

	(void)context;
	/* Past the flow, on its socket: only because its order allows it. */
	EXPECT(send(between->fd, "B", 1, 0), 1);
	EXPECT(flexnet_try_send(between->to, "told", 4), 4);
	/* Behind what is there already. */
	EXPECT(flexnet_try_send(between->base.flow, "D", 1), 1);
	return FLEXNET_DONE;
}

static void coroutines_run_between_the_sends(void)
{
	struct flexnet_runtime *runtime = runtime_alone(2);
	struct between between = { .base.at = 0 };
	int ours[2], theirs[2];
	char got[4];

	for (int i = 0; i < 2; i++)
		connected_pair(SOCK_STREAM, false, &ours[i], &theirs[i]);
	struct flexnet_flow *flow = adopted(runtime, ours[0]), *to = adopted(runtime, ours[1]);
	between.base.flow = flow;
	between.to = to;
	between.fd = ours[0];
	for (int round = 0; round < 1000; round++) {
		between.base.end = end_new();
		EXPECT(flexnet_send(flow, "A", 1), 1);
		EXPECT(submit(flow, &between, sizeof(between), between_step), 0);
		EXPECT(flexnet_send(flow, "C", 1), 1);
		EXPECT(recv(theirs[0], got, 4, MSG_WAITALL), 4);
		/* C was there before the step ran, or not. */
		CHECK(!memcmp(got, "ABCD", 4) || !memcmp(got, "ABDC", 4));
		EXPECT(recv(theirs[1], got, 4, MSG_WAITALL), 4);
		EXPECT(memcmp(got, "told", 4), 0);
		EXPECT(flexnet_flush(flow), 0);
		EXPECT(end_of(between.base.end), 0);
	}
	for (int i = 0; i < 2; i++) {
		EXPECT(flexnet_close(i ? flow : to), 0);
		close(theirs[i]);
	}
	EXPECT(flexnet_runtime_destroy(runtime), 0);
}

/* Two on one executor: neither goes on for more than a turn without the other. */
#define TURNS 200
struct turns {
	struct base base;
	_Atomic int *mine, *others;
	int seen, alone;
};

static int turns_step(void *state, struct flexnet_context *context)
{
	struct turns *turns = state;
	int others = *turns->others;

	if (!*turns->mine)
		*turns->mine = 1;
	if (!others)
		return FLEXNET_YIELD; /* until the other has begun, too */
	if (atomic_fetch_add(turns->mine, 1) >= TURNS || others >= TURNS)
		return FLEXNET_DONE;
	turns->alone = others == turns->seen ? turns->alone + 1 : 0;
	CHECK(turns->alone <= 2);
	turns->seen = others;
	/* Waits that are over at once, among real ones. */
	return turns->base.at++ % 2 ? flexnet_sleep(context, 0) : FLEXNET_YIELD;
}

static void those_that_yield_alternate(void)
{
	struct flexnet_runtime *runtime = runtime_alone(1);
	_Atomic int steps[2] = { 0 };
	struct end *ends[2];
	struct flexnet_flow *flows[2];

	for (int i = 0; i < 2; i++) {
		EXPECT(flexnet_flow_create(runtime, &flows[i]), 0);
		ends[i] = end_new();
		struct turns turns = { .base = { .end = ends[i], .flow = flows[i] } };
		turns.mine = &steps[i];
		turns.others = &steps[!i];
		EXPECT(submit(flows[i], &turns, sizeof(turns), turns_step), 0);
	}
	for (int i = 0; i < 2; i++) {
		EXPECT(flexnet_flush(flows[i]), 0);
		EXPECT(end_of(ends[i]), 0);
		EXPECT(flexnet_close(flows[i]), 0);
	}
	EXPECT(flexnet_runtime_destroy(runtime), 0);
}

static int yields_for_ever_step(void *state, struct flexnet_context *context)
{
	(void)state;
	(void)context;
	return FLEXNET_YIELD;
}

static int naps_for_ever_step(void *state, struct flexnet_context *context)
{
	(void)state;
	return flexnet_sleep(context, 100000);
}

static double now(void)
{
	struct timespec now;

	CHECK(!clock_gettime(CLOCK_MONOTONIC, &now));
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The linger time is kept whatever steps do, and each hears of its end. */
static void the_linger_time_holds_for_coroutines(void)
{
	int (*const steps[])(void *, struct flexnet_context *) = { yields_for_ever_step,
								   naps_for_ever_step,
								   sleeps_step };

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct flexnet_runtime_options options = options_alone(2);
		struct flexnet_runtime *runtime;
		struct base base = { .end = end_new() };

		options.linger_ns = 100000000;
		EXPECT(flexnet_runtime_create(&options, &runtime), 0);
		EXPECT(flexnet_flow_create(runtime, &base.flow), 0);
		EXPECT(submit(base.flow, &base, sizeof(base), steps[i]), 0);
		EXPECT(flexnet_close(base.flow), 0);
		double start = now();
		EXPECT(flexnet_runtime_destroy(runtime), 0);
		CHECK(now() - start < 20);
		EXPECT(end_of(base.end), -ECANCELED);
	}
}

/* Uses more stack than an executor has by default. */
static int deep_step(void *state, struct flexnet_context *context)
{
	volatile char bytes[300000];

	(void)state;
	(void)context;
	memset((void *)bytes, 1, sizeof(bytes));
	return bytes[100] - 1;
}

static void the_stack_is_as_large_as_asked_for(void)
{
	struct flexnet_runtime_options options = options_alone(1);
	struct flexnet_runtime *runtime;
	struct base base = { .end = end_new() };

	options.stack_bytes = 1000000;
	EXPECT(flexnet_runtime_create(&options, &runtime), 0);
	EXPECT(flexnet_flow_create(runtime, &base.flow), 0);
	EXPECT(submit(base.flow, &base, sizeof(base), deep_step), 0);
	EXPECT(flexnet_flush(base.flow), 0);
	EXPECT(end_of(base.end), 0);
	EXPECT(flexnet_close(base.flow), 0);
	EXPECT(flexnet_runtime_destroy(runtime), 0);
}

static void reports_the_crash(int signal)
{
	(void)signal;
	_exit(3);
}

static int faulty_step(void *state, struct flexnet_context *context)
{
	(void)state;
	(void)context;
	raise(SIGSEGV);
	return -EIO;
}

/* A program's handler runs for a fault in a step. */
static void crash_reporters_work(void)
{
	int status;
	pid_t child = fork();

	CHECK(child >= 0);
	if (!child) {
		struct flexnet_runtime *runtime = runtime_alone(1);
		struct base base = { .end = end_new() };

		signal(SIGSEGV, reports_the_crash);
		EXPECT(flexnet_flow_create(runtime, &base.flow), 0);
		EXPECT(submit(base.flow, &base, sizeof(base), faulty_step), 0);
		flexnet_flush(base.flow);
		_exit(1);
	}
	EXPECT(waitpid(child, &status, 0), child);
	CHECK(WIFEXITED(status));
	EXPECT(WEXITSTATUS(status), 3);
}

int main(void)
{
	RUN(state_stays_through_every_wait);
	RUN(every_end_is_reported);
	RUN(what_is_refused_is_not_reported_what_is_given_up_is);
	RUN(coroutines_run_between_the_sends);
	RUN(those_that_yield_alternate);
	RUN(the_linger_time_holds_for_coroutines);
	RUN(the_stack_is_as_large_as_asked_for);
	RUN(crash_reporters_work);
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * coroutine.h - packet work of the application's own.
 *
 * A part of flexnet.h, which includes it and says what all parts promise.
 */
#ifndef FLEXNET_COROUTINE_H
#define FLEXNET_COROUTINE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct flexnet_context;
struct flexnet_flow;

/* What a step returns, or a negative error. */
enum flexnet_step {
	FLEXNET_DONE = 0,	   /* the coroutine ends */
	FLEXNET_YIELD = 1,	   /* others go first, then the next step */
	FLEXNET_WAIT_WRITABLE = 2, /* what flexnet_wait_writable() returns */
	FLEXNET_SLEEP = 3,	   /* what flexnet_sleep() returns */
};

/* Bytes of state a coroutine may have. */
#define FLEXNET_STATE_BYTES 160u

/**
 * struct flexnet_coroutine - packet work of the application's own
 * @size: sizeof(struct flexnet_coroutine)
 * @state_bytes: bytes of @state, up to FLEXNET_STATE_BYTES (160)
 * @state: what the steps work on; copied when it is submitted
 * @step: one step. Returns FLEXNET_DONE at the end, FLEXNET_YIELD to let others
 *	go first, the value of flexnet_wait_writable() or flexnet_sleep() to
 *	wait, or a negative error, which ends it, too.
 * @finish: called once, when it has ended: with 0, the error a step returned,
 *	-EINVAL when a step returned what it may not, or -ECANCELED when the flow
 *	was closed and its runtime gave it up; NULL: nobody wants to know
 *
 * Both get the copy of the state, aligned to 16 bytes, which stays where it is
 * in between. Steps run on executors' threads only, never two at once, but not
 * always on the same. @finish runs there, too, or, where there is no executor any
 * more, on a thread that calls the library. Both must return soon and not throw
 * exceptions.
 */
struct flexnet_coroutine {
	uint32_t size;
	uint32_t state_bytes;
	const void *state;
	int (*step)(void *state, struct flexnet_context *context);
	void (*finish)(void *state, int result);
};

/**
 * flexnet_submit() - puts a coroutine on a flow
 * @flow: which
 * @coroutine: copied, as its state is
 *
 * It runs after everything submitted to the flow before, sends included, and
 * before what comes later: an encapsulation of one's own between the sends. What
 * it waits for lets other flows go on.
 *
 * Steps and their finish callbacks may call flexnet_try_send() (also on other
 * flows), flexnet_send_async(), flexnet_submit(), flexnet_close() and
 * everything else that does not wait. What waits returns -EDEADLK.
 *
 * Return: 0, or a negative error; then finish is not called.
 *
 * Errors:
 * -EINVAL: no flow; @coroutine is null or misaligned, its size too small, its
 * step null, or its state null and state_bytes not 0.
 * -E2BIG: more state than FLEXNET_STATE_BYTES, or a size larger than the library
 * knows of where what it does not know is not zero.
 * -EAGAIN: the flow's ring is full.
 * -ENOBUFS: all coroutines of the runtime are in use.
 * -ECANCELED: the flow was closed by another thread, and its runtime has ended.
 *
 * Context: Any thread, also from a step or a callback. Never waits.
 */
int flexnet_submit(struct flexnet_flow *flow, const struct flexnet_coroutine *coroutine);

/**
 * flexnet_wait_writable() - the next step comes when a descriptor takes bytes
 * @context: the step's
 * @fd: open until then; a socket, pipe or whatever else can be polled
 *
 * For: return flexnet_wait_writable(context, fd). It also ends the wait when the
 * descriptor has an error to report, or is not open: the write tells.
 * flexnet_wait_result() tells the next step whether it could be waited for.
 *
 * Return: FLEXNET_WAIT_WRITABLE, or a negative error.
 *
 * Errors:
 * -EINVAL: @context is not the running step's, or @fd is negative.
 *
 * Context: From a step only, with its own context.
 */
int flexnet_wait_writable(struct flexnet_context *context, int fd);

/**
 * flexnet_sleep() - the next step comes after a while
 * @context: the step's
 * @nanoseconds: how long at least
 *
 * For: return flexnet_sleep(context, nanoseconds).
 *
 * Return: FLEXNET_SLEEP, or a negative error.
 *
 * Errors:
 * -EINVAL: @context is not the running step's.
 *
 * Context: From a step only, with its own context.
 */
int flexnet_sleep(struct flexnet_context *context, uint64_t nanoseconds);

/**
 * flexnet_wait_result() - how the wait before this step went
 * @context: the step's
 *
 * Return: 0, or a negative error.
 *
 * Errors:
 * -EINVAL: @context is not the running step's.
 * -EPERM, -ENOMEM, -ENOSPC: the descriptor of flexnet_wait_writable() could not
 * be waited for: epoll(7) said so.
 * -ECANCELED: the executors have ended.
 *
 * Context: From a step only, with its own context.
 */
int flexnet_wait_result(const struct flexnet_context *context);

/**
 * flexnet_should_yield() - is it the turn of others?
 * @context: the step's
 *
 * A checkpoint for long steps, to be called every microsecond or so: is the
 * quantum of the stack's design over, or does the scheduler want the core for
 * others? Then keep in the state how far it got, and return FLEXNET_YIELD.
 *
 * Return: 1: yield; 0: go on; or a negative error.
 *
 * Errors:
 * -EINVAL: @context is not the running step's.
 *
 * Context: From a step only, with its own context. Costs a clock's reading.
 */
int flexnet_should_yield(const struct flexnet_context *context);

#ifdef __cplusplus
}
#endif

#endif /* FLEXNET_COROUTINE_H */

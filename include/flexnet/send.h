/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * send.h - sends on flows, and their outcomes.
 *
 * A part of flexnet.h, which includes it and says what all parts promise.
 */
#ifndef FLEXNET_SEND_H
#define FLEXNET_SEND_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct flexnet_flow;

/**
 * flexnet_try_send() - has bytes sent without waiting
 * @flow: on which
 * @buffer: what is sent; the caller's again when this returns
 * @length: bytes of it
 *
 * TCP: accepts as much as there is room for, at most a quarter of the ring
 * (32,768 bytes). UDP: one
 * datagram, whole, of up to 65,507 bytes. Accepted bytes leave in the order of
 * the calls, also when the flow is closed right after.
 *
 * While an executor runs this makes no system call. While it is parked and
 * nothing is queued, it sends here and now, since waking costs more.
 *
 * When it returns -EAGAIN, wait for room by poll(2) on the descriptor or in
 * flexnet_send().
 *
 * Return: bytes accepted, or a negative error.
 *
 * Errors:
 * -EINVAL: no flow, or @buffer is null and @length is not 0.
 * -EAGAIN: the flow's ring is full and the socket takes nothing just now, or the
 * stack's design has no room for the flow.
 * -EMSGSIZE: too long for a datagram.
 * -ENOTSOCK: the flow has no socket.
 * -EPIPE, -ECONNRESET, ...: the socket's error, also of an earlier send. It
 * stays on TCP; on UDP it is reported once, and this datagram is not taken. No
 * SIGPIPE is raised.
 *
 * Context: Any thread, also from a step or a callback; several at once, whose
 * sends stay whole as far as they were accepted. Never waits.
 */
ssize_t flexnet_try_send(struct flexnet_flow *flow, const void *buffer, size_t length);

/**
 * flexnet_send() - has bytes sent, waiting for room
 * @flow: on which
 * @buffer: what is sent; the caller's again when this returns
 * @length: bytes of it
 *
 * All of it. On TCP, from 16,384 bytes on they are not copied: an executor
 * sends from @buffer while this waits until the kernel has them. Smaller ones
 * are accepted, as by flexnet_try_send().
 *
 * There is no timeout; shutdown(2) of the descriptor by another thread ends the
 * wait. On error a part may have been sent.
 *
 * Return: @length, or a negative error.
 *
 * Errors: those of flexnet_try_send() but -EAGAIN, and:
 * -EDEADLK: called from a step or a callback: its executor would wait for
 * itself.
 *
 * Context: Any thread but in a step or a callback. Waits.
 */
ssize_t flexnet_send(struct flexnet_flow *flow, const void *buffer, size_t length);

/* State of a completion. */
#define FLEXNET_COMPLETION_IDLE 0u
#define FLEXNET_COMPLETION_PENDING 1u
#define FLEXNET_COMPLETION_DONE 2u

/**
 * struct flexnet_completion - the outcome of one send, in the caller's memory
 * @size: sizeof(struct flexnet_completion)
 * @state: the library's; zero before the first use
 * @result: once it is done: bytes that were sent, or a negative error
 * @callback: called when it is done, or NULL: wait or look by
 *	flexnet_completion_wait() and flexnet_completion_poll()
 * @data: the caller's
 * @reserved: zero
 *
 * It may be used again, and freed, when it is done: with a callback from there
 * on, without one when a call has said so.
 */
struct flexnet_completion {
	uint32_t size;
	uint32_t state;
	int64_t result;
	void (*callback)(struct flexnet_completion *completion);
	void *data;
	uint64_t reserved[2];
};

/**
 * flexnet_send_async() - sends without a copy, and tells when it is done
 * @flow: on which
 * @buffer: what is sent; the library's until the completion is done
 * @length: bytes of it; on UDP one datagram
 * @completion: where the outcome goes; the library's until then
 *
 * An executor sends from @buffer, after all that was sent before on the flow
 * and before what comes later. It is done when the kernel has all of it, when
 * the flow fails, or with -ECANCELED when the flow was closed and its runtime
 * gives it up. The callback runs once, on an executor's thread or, where there
 * is none, on one that calls the library; it may call what steps may.
 *
 * Each costs a system call of its own: for small messages flexnet_try_send(),
 * which coalesces them, is cheaper.
 *
 * Return: 0, or a negative error; then there is no outcome.
 *
 * Errors:
 * -EINVAL: no flow; @buffer is null and @length is not 0; @completion is null,
 * misaligned, or its @size too small.
 * -E2BIG: its @size is larger than the library knows of.
 * -EBUSY: the completion is in use.
 * -EAGAIN: the flow's ring is full.
 * -ENOBUFS: all coroutines of the runtime are in use.
 * -ECANCELED: the flow was closed by another thread, and its runtime has ended.
 * -EMSGSIZE: too long for a datagram.
 * -ENOTSOCK: the flow has no socket.
 * -EPIPE, -ECONNRESET, ...: the flow failed earlier.
 *
 * Context: Any thread, also from a step or a callback. Never waits.
 */
int flexnet_send_async(struct flexnet_flow *flow, const void *buffer, size_t length,
		       struct flexnet_completion *completion);

/**
 * flexnet_completion_poll() - is a send done?
 * @completion: of the send, one without a callback
 *
 * Return: 1 when it is done (or was never used), 0 while it is not, or a
 * negative error.
 *
 * Errors:
 * -EINVAL: @completion is null or misaligned, or its @size wrong.
 *
 * Context: Any thread, also from a step or a callback. Never waits.
 */
int flexnet_completion_poll(const struct flexnet_completion *completion);

/**
 * flexnet_completion_wait() - waits until a send is done
 * @completion: of the send, one without a callback
 * @timeout_ns: how long at most, in nanoseconds; negative: as long as it takes
 *
 * Return: 0 when it is done (or was never used), or a negative error.
 *
 * Errors:
 * -EINVAL: @completion is null or misaligned, or its @size wrong.
 * -ETIMEDOUT: not done in time; it goes on.
 * -EDEADLK: not done, and called from a step or a callback.
 *
 * Context: Any thread but in a step or a callback; several may wait for one.
 */
int flexnet_completion_wait(const struct flexnet_completion *completion, int64_t timeout_ns);

/**
 * flexnet_flush() - waits until the kernel has all that was accepted
 * @flow: whose sends, and coroutines, of before this call
 *
 * Return: 0, or a negative error.
 *
 * Errors:
 * -EINVAL: no flow.
 * -EDEADLK: called from a step or a callback.
 * -EPIPE, -ECONNRESET, ...: the flow failed; on UDP, a datagram did, reported once.
 *
 * Context: Any thread but in a step or a callback. Waits, without a timeout:
 * shutdown(2) of the descriptor ends it.
 */
int flexnet_flush(struct flexnet_flow *flow);

/**
 * flexnet_shutdown() - flushes a TCP flow, and ends its stream
 * @flow: whose peer reads the end of the stream then
 *
 * Receiving goes on. The flow stays open: flexnet_close() it.
 *
 * Return: 0, or a negative error.
 *
 * Errors: those of flexnet_flush(), and:
 * -EOPNOTSUPP: the flow is not TCP.
 * -ENOTCONN: the connection is gone.
 *
 * Context: Any thread but in a step or a callback. Waits.
 */
int flexnet_shutdown(struct flexnet_flow *flow);

#ifdef __cplusplus
}
#endif

#endif /* FLEXNET_SEND_H */

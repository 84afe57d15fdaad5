/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow.h - flows: ordered queues of packet work, made of sockets.
 *
 * A part of flexnet.h, which includes it and says what all parts promise.
 */
#ifndef FLEXNET_FLOW_H
#define FLEXNET_FLOW_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct flexnet_flow;
struct flexnet_runtime;

/* flexnet_flow_adopt(): works on a duplicate, the caller keeps its own. */
#define FLEXNET_ADOPT_DUPLICATE 1u

/**
 * flexnet_flow_adopt() - a flow of a connected TCP or UDP socket
 * @runtime: whose executors do its sends
 * @fd: the socket; IPv4 or IPv6
 * @flags: 0 or FLEXNET_ADOPT_DUPLICATE
 * @flow: where the handle is stored; left alone on error
 *
 * From success on the descriptor is the flow's, which closes it when it is
 * closed itself and everything accepted is given to the kernel. Until
 * flexnet_close() the caller goes on using it for all but writing and closing:
 * receiving, polling, options. A write past the flow mixes up the bytes. On
 * error it stays the caller's.
 *
 * With FLEXNET_ADOPT_DUPLICATE the flow works on a duplicate, and the caller
 * closes @fd when it likes; the connection ends when both are closed.
 *
 * The socket's blocking mode is left as it is, and means nothing to the flow:
 * flexnet_send() waits, flexnet_try_send() never does.
 *
 * Return: 0, or a negative error.
 *
 * Errors:
 * -EINVAL: no runtime, unknown flags, or @flow is null or misaligned.
 * -EBADF: @fd is not open.
 * -ENOTSOCK: it is no socket.
 * -EPROTONOSUPPORT: neither TCP nor UDP over IP.
 * -ENOTCONN: it is not connected (yet).
 * -EAGAIN, -ENOMEM, -EMFILE: no threads, memory or descriptors left.
 *
 * Context: Any thread, also from a step or a callback.
 */
int flexnet_flow_adopt(struct flexnet_runtime *runtime, int fd, uint32_t flags,
		       struct flexnet_flow **flow);

/**
 * flexnet_flow_create() - a flow without a socket, for coroutines
 * @runtime: whose executors resume them
 * @flow: where the handle is stored; left alone on error
 *
 * An ordered queue of packet work: see flexnet_submit(). Nothing can be sent on
 * it.
 *
 * Return: 0, or a negative error.
 *
 * Errors:
 * -EINVAL: no runtime, or @flow is null or misaligned.
 * -EAGAIN, -ENOMEM: no threads or memory left.
 *
 * Context: Any thread, also from a step or a callback.
 */
int flexnet_flow_create(struct flexnet_runtime *runtime, struct flexnet_flow **flow);

/**
 * flexnet_flow_fd() - the descriptor of a flow
 * @flow: whose
 *
 * For receiving, polling and socket options, until the flow is closed. With
 * FLEXNET_ADOPT_DUPLICATE: the duplicate.
 *
 * Return: the descriptor, or a negative error.
 *
 * Errors:
 * -EINVAL: no flow.
 * -ENOTSOCK: it has no socket.
 *
 * Context: Any thread, also from a step or a callback. Never waits.
 */
int flexnet_flow_fd(struct flexnet_flow *flow);

/**
 * flexnet_flow_set_kind() - what kind of work a flow's is
 * @flow: whose
 * @kind: 0 (the default) to 3; more count as 3
 *
 * For designs that distinguish types of requests: shinjuku gives each an
 * objective of its own. Holds from the flow's next turn on.
 *
 * Return: 0, or a negative error.
 *
 * Errors:
 * -EINVAL: no flow.
 *
 * Context: Any thread, also from a step or a callback. Never waits.
 */
int flexnet_flow_set_kind(struct flexnet_flow *flow, uint32_t kind);

/**
 * flexnet_close() - lets go of a flow
 * @flow: whose handle is no name of anything afterwards
 *
 * Does not wait: what was accepted is sent by the executors first, then the
 * descriptor is closed (unless it is a duplicate of the caller's). What went
 * wrong then nobody hears of: flexnet_flush() or flexnet_shutdown() before
 * tells. Coroutines that were submitted run to their end. A call that waits on
 * the flow in another thread goes on waiting; shutdown(2) of the descriptor
 * ends its wait.
 *
 * Return: 0, or a negative error.
 *
 * Errors:
 * -EINVAL: no flow, or it is closed.
 *
 * Context: Any thread, also from a step or a callback.
 */
int flexnet_close(struct flexnet_flow *flow);

#ifdef __cplusplus
}
#endif

#endif /* FLEXNET_FLOW_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flexnet.h - executors for network sends, from C and C++.
 *
 * What it is for: the library's whole public interface to C. Packet work is
 * enqueued on a flow; executors, threads of the library that the scheduler
 * scx_flexnet can give cores of their own, do it. flexnet(7) is the overview.
 * Programs include this header; it includes its parts: runtime.h, flow.h, send.h
 * and coroutine.h.
 *
 * What it promises: nothing here panics, prints, or lets an exception of the
 * library out; errors are negative errno values. No send allocates but to make
 * its flow's ring larger, up to the option ring_bytes. Structures begin with
 * their size, so that later versions may add to them; symbols and the meaning of
 * fields stay as long as the library's name is libflexnet.so.0.
 *
 * Handles (struct flexnet_runtime *, struct flexnet_flow *) are names, not
 * addresses. A handle that is null, foreign (any other pointer), misaligned or
 * closed always gives -EINVAL: no name is used twice.
 *
 * What it leaves to others: the wire between executors and the scheduler is
 * abi.h, whose classes are used here.
 *
 * The manual pages are made of the comments here and in the parts
 * (docs/man/generate.py), which have the form of the kernel's kernel-doc. "Context:" says from where a call may be made.
 */
#ifndef FLEXNET_FLEXNET_H
#define FLEXNET_FLEXNET_H

#include <flexnet/abi.h>
#include <flexnet/coroutine.h>
#include <flexnet/flow.h>
#include <flexnet/runtime.h>
#include <flexnet/send.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FLEXNET_VERSION_MAJOR 0
#define FLEXNET_VERSION_MINOR 1
#define FLEXNET_VERSION_PATCH 0

/**
 * flexnet_version() - the version of the library that is linked
 *
 * It may be another than the header's FLEXNET_VERSION_MAJOR, _MINOR and _PATCH,
 * which the program was compiled with.
 *
 * Return: "MAJOR.MINOR.PATCH", static.
 *
 * Context: Any thread, also from a step or a callback. Never waits.
 */
const char *flexnet_version(void);

/**
 * flexnet_strerror() - what an error of the library means
 * @error: an errno value or its negative, as the library returns it
 *
 * Errors that the library gives a meaning of its own are told in its words.
 *
 * Return: a text that is static; of values that nobody knows, "unknown error".
 *
 * Context: Any thread, also from a step or a callback. Never waits.
 */
const char *flexnet_strerror(int error);

/**
 * flexnet_set_class() - the scheduling class of the calling thread
 * @socket_path: the scheduler's control socket, or NULL for FLEXNET_SOCKET_PATH
 * @task_class: FLEXNET_CLASS_NORMAL, FLEXNET_CLASS_LATENCY or FLEXNET_CLASS_BATCH
 *
 * Latency threads go before normal ones on general cores, batch threads take
 * what is left. What the thread forks or executes later inherits its class;
 * threads that exist keep theirs. Needs scx_flexnet; without it nothing
 * changes, and a program goes on as an ordinary one.
 *
 * Return: 0, or a negative error.
 *
 * Errors:
 * -EINVAL: @task_class is none of the three.
 * -ENOENT, -ECONNREFUSED: no scheduler listens there.
 * -EACCES: the socket is another group's.
 * -ETIMEDOUT: the scheduler does not answer.
 * -EDEADLK: called from a step or a callback, whose thread is an executor.
 *
 * Context: Any thread, for itself. Waits for the scheduler's answer.
 */
int flexnet_set_class(const char *socket_path, enum flexnet_class task_class);

#ifdef __cplusplus
}
#endif

#endif /* FLEXNET_FLEXNET_H */

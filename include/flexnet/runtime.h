/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * runtime.h - executors, and what goes on in them.
 *
 * A part of flexnet.h, which includes it and says what all parts promise.
 */
#ifndef FLEXNET_RUNTIME_H
#define FLEXNET_RUNTIME_H

#include <flexnet/abi.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct flexnet_runtime;

/**
 * struct flexnet_runtime_options - what a runtime is made of
 * @size: sizeof(struct flexnet_runtime_options)
 * @executors: threads, 1 to FLEXNET_EXECUTORS_MAX (16); 0: one
 * @name: of the threads (NAME/0, NAME/1, ...) and in flexnet status, where 15
 *	bytes of it are shown; NULL: "flexnet"
 * @socket_path: the scheduler's control socket; NULL: FLEXNET_SOCKET_PATH;
 *	"": no scheduler is looked for
 * @flow_class: FLEXNET_FLOW_THROUGHPUT (0), or FLEXNET_FLOW_LATENCY: its flows
 *	go first on granted cores, within a budget
 * @coroutines: coroutines that may be alive at once, up to 1,048,576; 0: 4,096.
 *	Each takes 256 bytes.
 * @weight: as in flexnet_runtime_set_hints()
 * @max_cores: as in flexnet_runtime_set_hints()
 * @cores_guaranteed: cores that are this process's own while it has work, under
 *	designs in which applications claim cores (shenango); root's to ask for
 * @reserved: zero
 * @linger_ns: how long flexnet_runtime_destroy() waits for peers that take
 *	nothing, and for coroutines, in nanoseconds; 0: 5 s
 * @stack_bytes: of an executor, 65,536 to 1 GiB; 0: 256 KiB. What a step has for
 *	its locals and for what it calls; the library needs less than 16 KiB of
 *	it. A step that needs more ends the process by SIGSEGV.
 * @ring_bytes: of a flow's ring at most, 4,096 to 1 GiB, rounded up to a power of
 *	two: what a flow accepts beyond what its socket takes. It has 2 KiB at
 *	first and grows by need. 0: 128 KiB for TCP, 256 KiB for UDP, which never
 *	has less, and 64 KiB without a socket.
 *
 * All zero but @size is a runtime as most want it.
 */
struct flexnet_runtime_options {
	uint32_t size;
	uint32_t executors;
	const char *name;
	const char *socket_path;
	uint32_t flow_class;
	uint32_t coroutines;
	uint32_t weight;
	uint32_t max_cores;
	uint32_t cores_guaranteed;
	uint32_t reserved;
	uint64_t linger_ns;
	uint64_t stack_bytes;
	uint64_t ring_bytes;
};

/**
 * flexnet_runtime_create() - executors, and their link to the scheduler
 * @options: what it is made of, or NULL for the defaults
 * @runtime: where the handle is stored; left alone on error
 *
 * The threads start with the first flow. When there is no scheduler they are
 * ordinary threads, and the runtime looks for one once a second. They block all
 * signals but those of their own faults (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP,
 * SIGSYS), so crash reporters work. SIGPROF, the profilers', stays as the thread has
 * it that makes them.
 *
 * After fork(2) the child has no executors. The parent's handles are -EINVAL
 * there, their descriptors are open in it as any others, and what is not sent yet
 * the parent sends. The child may create a runtime of its own.
 *
 * Return: 0, or a negative error.
 *
 * Errors:
 * -EINVAL: @runtime is null or misaligned, @size too small, or a number out of
 * its range.
 * -E2BIG: @size is larger than the library knows of, and what it does not know
 * is not zero.
 * -EMFILE, -ENFILE, -ENOMEM, -EAGAIN: the process has no descriptors, memory or
 * threads left.
 *
 * Context: Any thread. Waits for the scheduler's answer where there is one.
 */
int flexnet_runtime_create(const struct flexnet_runtime_options *options,
			   struct flexnet_runtime **runtime);

/**
 * flexnet_runtime_destroy() - finishes what was accepted and ends the executors
 * @runtime: its flows closed
 *
 * Waits until everything that its flows accepted is given to the kernel, at
 * most as long as the option linger_ns says. Coroutines and sends that are not
 * done then are ended with -ECANCELED. A step that does not return, 1 s after
 * that, is left to its thread: it counts as a flow that was given up, and its
 * finish callback comes when it returns.
 *
 * Return: how many closed flows were given up with bytes that their peers did
 * not take, usually 0; or a negative error.
 *
 * Errors:
 * -EINVAL: no runtime.
 * -EBUSY: it has flows that are not closed, and lives on.
 * -EDEADLK: called from a step or a callback.
 *
 * Context: Any thread. Waits.
 */
int flexnet_runtime_destroy(struct flexnet_runtime *runtime);

/**
 * flexnet_runtime_set_hints() - weight and most cores of the application
 * @runtime: whose
 * @weight: share on granted cores against other applications, 1 to 10,000; 0:
 *	the default, 100
 * @max_cores: most granted cores it wants; 0: no wish
 *
 * Hints: the scheduler clamps them, and the operator's settings go first. Kept
 * for a scheduler that comes later.
 *
 * Return: 0, or a negative error.
 *
 * Errors:
 * -EINVAL: no runtime, or @weight above 10,000.
 *
 * Context: Any thread, also from a step or a callback. Never waits.
 */
int flexnet_runtime_set_hints(struct flexnet_runtime *runtime, uint32_t weight, uint32_t max_cores);

/**
 * struct flexnet_runtime_state - what goes on in a runtime
 * @size: sizeof(struct flexnet_runtime_state); how much was filled in, after
 *	the call
 * @attached: 1 while a scheduler is there
 * @executors: threads it was made with
 * @executors_wanted: how many of them the scheduler wants to run; all without
 * @cores_granted: cores granted to executors, all applications together
 * @saturated: 1: executors wait for cores, and no more can be granted
 * @cores_guaranteed: of those asked for, what the scheduler gave
 * @flows: flows that are not closed
 * @depth: messages that are accepted and not done
 * @design: the stack's design, as operators write it
 */
struct flexnet_runtime_state {
	uint32_t size;
	uint32_t attached;
	uint32_t executors;
	uint32_t executors_wanted;
	uint32_t cores_granted;
	uint32_t saturated;
	uint32_t cores_guaranteed;
	uint32_t flows;
	uint64_t depth;
	char design[FLEXNET_DESIGN_BYTES];
};

/**
 * flexnet_runtime_get_state() - what goes on in a runtime
 * @runtime: whose
 * @state: its size filled in by the caller
 *
 * Return: 0, or a negative error.
 *
 * Errors:
 * -EINVAL: no runtime; @state is null, misaligned, or shorter than its first
 * version.
 *
 * Context: Any thread, also from a step or a callback.
 */
int flexnet_runtime_get_state(struct flexnet_runtime *runtime, struct flexnet_runtime_state *state);

#ifdef __cplusplus
}
#endif

#endif /* FLEXNET_RUNTIME_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flexnet.h - executors for network sends, from C and C++.
 *
 * What it is for: the library's whole public interface to C. Packet work is
 * enqueued on a flow; executors, threads of the library that the scheduler
 * scx_flexnet can give cores of their own, do it. flexnet(7) is the overview.
 *
 * What it promises: nothing here panics, prints, or lets an exception of the
 * library out; errors are negative errno values. No send allocates. Structures
 * begin with their size, so that later versions may add to them; symbols and
 * the meaning of fields stay as long as the library's name is libflexnet.so.0.
 *
 * Handles (struct flexnet_runtime *, struct flexnet_flow *) are names, not
 * addresses. A handle that is null, foreign (any other pointer), misaligned or
 * closed always gives -EINVAL: no name is used twice.
 *
 * What it leaves to others: the wire between executors and the scheduler is
 * abi.h, whose classes are used here.
 *
 * The manual pages are made of the comments below (docs/man/generate.py),
 * which have the form of the kernel's kernel-doc. "Context:" says from where a call may be made.
 */
#ifndef FLEXNET_FLEXNET_H
#define FLEXNET_FLEXNET_H

#include <flexnet/abi.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FLEXNET_VERSION_MAJOR 0
#define FLEXNET_VERSION_MINOR 1
#define FLEXNET_VERSION_PATCH 0

struct flexnet_runtime;
struct flexnet_flow;
struct flexnet_context;

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
};

/**
 * flexnet_runtime_create() - executors, and their link to the scheduler
 * @options: what it is made of, or NULL for the defaults
 * @runtime: where the handle is stored; left alone on error
 *
 * The threads start with the first flow. When there is no scheduler they are
 * ordinary threads, and the runtime looks for one once a second. They block all
 * signals but those of their own faults (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP,
 * SIGSYS) and SIGPROF, so crash reporters and profilers work.
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
 * done then are ended with -ECANCELED. A step that does not return, 0.1 s after
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

/**
 * flexnet_try_send() - has bytes sent without waiting
 * @flow: on which
 * @buffer: what is sent; the caller's again when this returns
 * @length: bytes of it
 *
 * TCP: accepts as much as there is room for, at most 32,768 bytes. UDP: one
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
 * sends stay whole as far as they were accepted. Never waits, never allocates.
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
 * Context: Any thread, also from a step or a callback. Never waits, never
 * allocates.
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
 * in between. They run on an executor's thread or, where there is none, on one
 * that calls the library: never two at once, but not always on the same. They
 * must return soon and not throw exceptions.
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
 * Context: Any thread, also from a step or a callback. Never waits, never
 * allocates.
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

#endif /* FLEXNET_FLEXNET_H */

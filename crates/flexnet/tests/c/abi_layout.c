/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Prints what the C compiler makes of include/flexnet/abi.h, for
 * tests/abi_layout.rs to compare with src/abi.rs, and asserts at compile time
 * what abi.h promises by itself. C11 and C++17.
 */
#include <flexnet/abi.h>
#include <stddef.h>
#include <stdio.h>

#ifdef __cplusplus
#define ASSERT(condition) static_assert(condition, #condition)
#define ALIGN_OF(type) alignof(type)
#else
#define ASSERT(condition) _Static_assert(condition, #condition)
#define ALIGN_OF(type) _Alignof(type)
#endif

ASSERT(FLEXNET_PAGE_BYTES == 16384);
ASSERT(sizeof(struct flexnet_page) == FLEXNET_PAGE_BYTES);
ASSERT((FLEXNET_STAMPS & (FLEXNET_STAMPS - 1)) == 0);
ASSERT((FLEXNET_STAMP_EVERY & (FLEXNET_STAMP_EVERY - 1)) == 0);

/* Each kind of writer has lines of its own. */
#define ASSERT_LINES(type)                                \
	ASSERT(ALIGN_OF(type) == FLEXNET_LINE_BYTES);     \
	ASSERT(sizeof(type) % FLEXNET_LINE_BYTES == 0)
#define ASSERT_LINE(type)                           \
	ASSERT(ALIGN_OF(type) == FLEXNET_LINE_BYTES); \
	ASSERT(sizeof(type) == FLEXNET_LINE_BYTES)
#define ASSERT_STARTS_LINE(type, field) \
	ASSERT(offsetof(type, field) % FLEXNET_LINE_BYTES == 0)

ASSERT_LINE(struct flexnet_page_header);
ASSERT_LINE(struct flexnet_page_client);
ASSERT_LINE(struct flexnet_page_grant);
ASSERT_LINES(struct flexnet_page_design);
ASSERT_LINE(struct flexnet_executor_foreign);
ASSERT_LINE(struct flexnet_executor_own);
ASSERT_LINE(struct flexnet_executor_sched);
ASSERT_LINES(struct flexnet_executor);
ASSERT_LINES(struct flexnet_page);
ASSERT_STARTS_LINE(struct flexnet_executor, foreign);
ASSERT_STARTS_LINE(struct flexnet_executor, own);
ASSERT_STARTS_LINE(struct flexnet_executor, sched);
ASSERT_STARTS_LINE(struct flexnet_executor, stamps);
ASSERT_STARTS_LINE(struct flexnet_page, header);
ASSERT_STARTS_LINE(struct flexnet_page, client);
ASSERT_STARTS_LINE(struct flexnet_page, grant);
ASSERT_STARTS_LINE(struct flexnet_page, design);
ASSERT_STARTS_LINE(struct flexnet_page, executors);

#define CONSTANT(name) printf("constant %s %llu\n", #name, (unsigned long long)(name))
#define STRUCT(type) \
	printf("struct %s %zu %zu\n", #type, sizeof(struct type), ALIGN_OF(struct type))
#define FIELD(type, field)                          \
	printf("field %s.%s %zu %zu\n", #type, #field, \
	       offsetof(struct type, field), sizeof(((struct type *)0)->field))

static void print_constants(void)
{
	CONSTANT(FLEXNET_ABI_VERSION);
	CONSTANT(FLEXNET_PAGE_MAGIC);
	CONSTANT(FLEXNET_PAGE_BYTES);
	CONSTANT(FLEXNET_EXECUTORS_MAX);
	CONSTANT(FLEXNET_CLIENTS_MAX);
	CONSTANT(FLEXNET_STAMPS);
	CONSTANT(FLEXNET_STAMP_EVERY);
	CONSTANT(FLEXNET_CLASS_NORMAL);
	CONSTANT(FLEXNET_CLASS_LATENCY);
	CONSTANT(FLEXNET_CLASS_BATCH);
	CONSTANT(FLEXNET_CLASS_EXECUTOR);
	CONSTANT(FLEXNET_ORIGIN_DEFAULT);
	CONSTANT(FLEXNET_ORIGIN_PARENT);
	CONSTANT(FLEXNET_ORIGIN_RULE);
	CONSTANT(FLEXNET_ORIGIN_REGISTRATION);
	CONSTANT(FLEXNET_ORIGIN_KERNEL);
	CONSTANT(FLEXNET_QUEUE_DIRECT);
	CONSTANT(FLEXNET_QUEUE_LATENCY);
	CONSTANT(FLEXNET_QUEUE_GENERAL);
	CONSTANT(FLEXNET_QUEUE_CPU);
	CONSTANT(FLEXNET_QUEUE_EXECUTOR);
	CONSTANT(FLEXNET_QUEUE_COUNT);
	CONSTANT(FLEXNET_WHY_THREADS);
	CONSTANT(FLEXNET_TRACE_GRANT);
	CONSTANT(FLEXNET_TRACE_RECLAIM);
	CONSTANT(FLEXNET_TRACE_PREEMPT);
	CONSTANT(FLEXNET_TRACE_ON_CPU);
	CONSTANT(FLEXNET_TRACE_OFF_CPU);
	CONSTANT(FLEXNET_TRACE_SUBMIT);
	CONSTANT(FLEXNET_TRACE_RESUME);
	CONSTANT(FLEXNET_TRACE_YIELD);
	CONSTANT(FLEXNET_TRACE_FINISH);
	CONSTANT(FLEXNET_TRACE_NO_EXECUTOR);
	CONSTANT(FLEXNET_MESSAGE_TRACE);
	CONSTANT(FLEXNET_FLOW_THROUGHPUT);
	CONSTANT(FLEXNET_FLOW_LATENCY);
	CONSTANT(FLEXNET_EXECUTOR_ABSENT);
	CONSTANT(FLEXNET_EXECUTOR_RUNNING);
	CONSTANT(FLEXNET_EXECUTOR_PARKED);
	CONSTANT(FLEXNET_EXECUTOR_WAITING);
	CONSTANT(FLEXNET_MESSAGE_HELLO);
	CONSTANT(FLEXNET_MESSAGE_REGISTER_EXECUTOR);
	CONSTANT(FLEXNET_MESSAGE_UNREGISTER_EXECUTOR);
	CONSTANT(FLEXNET_MESSAGE_SET_CLASS);
	CONSTANT(FLEXNET_MESSAGE_STATUS);
	CONSTANT(FLEXNET_MESSAGE_DETACH);
	CONSTANT(FLEXNET_MESSAGE_DESIGN);
	CONSTANT(FLEXNET_MESSAGE_WHY);
	CONSTANT(FLEXNET_DESIGN_BYTES);
	CONSTANT(FLEXNET_MESSAGE_RELOAD);
	CONSTANT(FLEXNET_RELOAD_BYTES);
	CONSTANT(FLEXNET_MESSAGE_TAKEOVER);
	CONSTANT(FLEXNET_STATUS_CHANGES);
	CONSTANT(FLEXNET_STATUS_CPUS);
	CONSTANT(FLEXNET_PID_KERNEL);
	CONSTANT(FLEXNET_CPU_ABSENT);
	CONSTANT(FLEXNET_CPU_IDLE);
	CONSTANT(FLEXNET_CPU_BUSY);
	CONSTANT(FLEXNET_CPU_LATENCY);
	CONSTANT(FLEXNET_CPU_GRANTED_IDLE);
	CONSTANT(FLEXNET_CPU_EXECUTOR);
	CONSTANT(FLEXNET_CPU_LENT);
	printf("text FLEXNET_SOCKET_PATH %s\n", FLEXNET_SOCKET_PATH);
}

static void print_page(void)
{
	STRUCT(flexnet_page_header);
	FIELD(flexnet_page_header, magic);
	FIELD(flexnet_page_header, version);
	FIELD(flexnet_page_header, page_bytes);
	FIELD(flexnet_page_header, client);
	FIELD(flexnet_page_header, executors_max);
	FIELD(flexnet_page_header, reserved);
	STRUCT(flexnet_page_client);
	FIELD(flexnet_page_client, weight);
	FIELD(flexnet_page_client, max_cores);
	FIELD(flexnet_page_client, reserved);
	STRUCT(flexnet_page_grant);
	FIELD(flexnet_page_grant, generation);
	FIELD(flexnet_page_grant, attached);
	FIELD(flexnet_page_grant, executors_wanted);
	FIELD(flexnet_page_grant, cores_granted);
	FIELD(flexnet_page_grant, saturated);
	FIELD(flexnet_page_grant, reserved);
	STRUCT(flexnet_page_design);
	FIELD(flexnet_page_design, generation);
	FIELD(flexnet_page_design, text);
	FIELD(flexnet_page_design, reserved);
	STRUCT(flexnet_executor_foreign);
	FIELD(flexnet_executor_foreign, enqueued);
	FIELD(flexnet_executor_foreign, moved);
	FIELD(flexnet_executor_foreign, reserved);
	STRUCT(flexnet_executor_own);
	FIELD(flexnet_executor_own, completed);
	FIELD(flexnet_executor_own, run_start_ns);
	FIELD(flexnet_executor_own, state);
	FIELD(flexnet_executor_own, flow_class);
	FIELD(flexnet_executor_own, parks);
	FIELD(flexnet_executor_own, resumes);
	FIELD(flexnet_executor_own, reserved);
	STRUCT(flexnet_executor_sched);
	FIELD(flexnet_executor_sched, on_cpu);
	FIELD(flexnet_executor_sched, park_request);
	FIELD(flexnet_executor_sched, quantum_expired);
	FIELD(flexnet_executor_sched, on_granted_core);
	FIELD(flexnet_executor_sched, generation);
	FIELD(flexnet_executor_sched, reserved);
	STRUCT(flexnet_executor);
	FIELD(flexnet_executor, foreign);
	FIELD(flexnet_executor, own);
	FIELD(flexnet_executor, sched);
	FIELD(flexnet_executor, reserved);
	FIELD(flexnet_executor, stamps);
	STRUCT(flexnet_page);
	FIELD(flexnet_page, header);
	FIELD(flexnet_page, client);
	FIELD(flexnet_page, grant);
	FIELD(flexnet_page, design);
	FIELD(flexnet_page, reserved);
	FIELD(flexnet_page, executors);
	FIELD(flexnet_page, reserve);
}

static void print_messages(void)
{
	STRUCT(flexnet_message);
	FIELD(flexnet_message, size);
	FIELD(flexnet_message, type);
	FIELD(flexnet_message, version);
	FIELD(flexnet_message, sequence);
	FIELD(flexnet_message, status);
	STRUCT(flexnet_hello);
	FIELD(flexnet_hello, message);
	FIELD(flexnet_hello, name);
	FIELD(flexnet_hello, executors);
	FIELD(flexnet_hello, cores_guaranteed);
	FIELD(flexnet_hello, reserved);
	STRUCT(flexnet_welcome);
	FIELD(flexnet_welcome, message);
	FIELD(flexnet_welcome, client);
	FIELD(flexnet_welcome, page_bytes);
	FIELD(flexnet_welcome, executors_max);
	FIELD(flexnet_welcome, cores_guaranteed);
	FIELD(flexnet_welcome, objective_ns);
	STRUCT(flexnet_register);
	FIELD(flexnet_register, message);
	FIELD(flexnet_register, slot);
	FIELD(flexnet_register, flow_class);
	STRUCT(flexnet_set_class);
	FIELD(flexnet_set_class, message);
	FIELD(flexnet_set_class, task_class);
	FIELD(flexnet_set_class, reserved);
	STRUCT(flexnet_design_text);
	FIELD(flexnet_design_text, message);
	FIELD(flexnet_design_text, text);
	STRUCT(flexnet_reload);
	FIELD(flexnet_reload, message);
	FIELD(flexnet_reload, text);
	STRUCT(flexnet_takeover);
	FIELD(flexnet_takeover, message);
	FIELD(flexnet_takeover, detached_ns);
	STRUCT(flexnet_why_ask);
	FIELD(flexnet_why_ask, message);
	FIELD(flexnet_why_ask, after);
	FIELD(flexnet_why_ask, reserved);
	STRUCT(flexnet_why_thread);
	FIELD(flexnet_why_thread, tid);
	FIELD(flexnet_why_thread, task_class);
	FIELD(flexnet_why_thread, class_origin);
	FIELD(flexnet_why_thread, policy);
	FIELD(flexnet_why_thread, client);
	FIELD(flexnet_why_thread, slot);
	FIELD(flexnet_why_thread, on_cpu);
	FIELD(flexnet_why_thread, last_queue);
	FIELD(flexnet_why_thread, name);
	FIELD(flexnet_why_thread, run_ns);
	FIELD(flexnet_why_thread, last_wait_ns);
	FIELD(flexnet_why_thread, waiting_ns);
	FIELD(flexnet_why_thread, preemptions);
	FIELD(flexnet_why_thread, wait_ns);
	FIELD(flexnet_why_thread, waits);
	FIELD(flexnet_why_thread, cpus);
	STRUCT(flexnet_why);
	FIELD(flexnet_why, message);
	FIELD(flexnet_why, pid);
	FIELD(flexnet_why, threads);
	FIELD(flexnet_why, more);
	FIELD(flexnet_why, reserved);
	FIELD(flexnet_why, thread);
	STRUCT(flexnet_trace_ask);
	FIELD(flexnet_trace_ask, message);
	FIELD(flexnet_trace_ask, on);
	FIELD(flexnet_trace_ask, pid);
	STRUCT(flexnet_trace_reply);
	FIELD(flexnet_trace_reply, message);
	FIELD(flexnet_trace_reply, probes);
	FIELD(flexnet_trace_reply, reserved);
	FIELD(flexnet_trace_reply, lost);
	STRUCT(flexnet_trace_event);
	FIELD(flexnet_trace_event, at_ns);
	FIELD(flexnet_trace_event, value);
	FIELD(flexnet_trace_event, kind);
	FIELD(flexnet_trace_event, cpu);
	FIELD(flexnet_trace_event, tid);
	FIELD(flexnet_trace_event, pid);
	FIELD(flexnet_trace_event, executor);
	STRUCT(flexnet_status_client);
	FIELD(flexnet_status_client, client);
	FIELD(flexnet_status_client, pid);
	FIELD(flexnet_status_client, name);
	FIELD(flexnet_status_client, executors);
	FIELD(flexnet_status_client, executors_wanted);
	FIELD(flexnet_status_client, depth);
	FIELD(flexnet_status_client, delay_ns);
	FIELD(flexnet_status_client, run_ns);
	FIELD(flexnet_status_client, cores);
	FIELD(flexnet_status_client, flow_classes);
	STRUCT(flexnet_status_change);
	FIELD(flexnet_status_change, at_ns);
	FIELD(flexnet_status_change, since_ns);
	FIELD(flexnet_status_change, before);
	FIELD(flexnet_status_change, after);
	FIELD(flexnet_status_change, reason);
	FIELD(flexnet_status_change, reserved);
	STRUCT(flexnet_status);
	FIELD(flexnet_status, message);
	FIELD(flexnet_status, cpus);
	FIELD(flexnet_status, cores_granted);
	FIELD(flexnet_status, cores_max);
	FIELD(flexnet_status, clients);
	FIELD(flexnet_status, grants);
	FIELD(flexnet_status, reclaims);
	FIELD(flexnet_status, preemptions);
	FIELD(flexnet_status, granted_core_ns);
	FIELD(flexnet_status, uptime_ns);
	FIELD(flexnet_status, version);
	FIELD(flexnet_status, design);
	FIELD(flexnet_status, client);
	FIELD(flexnet_status, cpu);
	FIELD(flexnet_status, gap_ns);
	FIELD(flexnet_status, takebacks);
	FIELD(flexnet_status, flag_kicks);
	FIELD(flexnet_status, anti_starvation);
	FIELD(flexnet_status, changes);
	FIELD(flexnet_status, change);
}

int main(void)
{
	print_constants();
	print_page();
	print_messages();
	return 0;
}

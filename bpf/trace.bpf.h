/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * trace.bpf.h - events for `flexnet trace`, while a trace runs.
 *
 * The scheduler reports grants, reclaims, preemptions, and executors on and off CPUs. Applications
 * report submits, resumes, yields and finishes: their library has USDT probes, and the daemon
 * attaches the programs below to them.
 *
 * What it promises: without a trace it costs one load and a branch. It never waits: if the ring is
 * full, events are lost and counted. What it leaves to others: which users may trace, and the form
 * of a trace (the daemon, the tool).
 */
#ifndef FLEXNET_TRACE_BPF_H
#define FLEXNET_TRACE_BPF_H

#include <bpf/usdt.bpf.h>

/* Set by the loader while somebody traces. */
u32 tracing;
u64 trace_lost;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} trace_events SEC(".maps");

/* Not static: so the verifier checks it once, not at each of its callers. */
__noinline int trace_emit(u32 kind, s32 cpu, u32 executor, u64 value, u64 thread)
{
	struct flexnet_trace_event *event;

	event = bpf_ringbuf_reserve(&trace_events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&trace_lost, 1);
		return 0;
	}
	event->at_ns = bpf_ktime_get_ns();
	event->value = value;
	event->kind = kind;
	event->cpu = cpu;
	event->tid = thread;
	event->pid = thread >> 32;
	event->executor = executor;
	/* The reader looks by itself: a wakeup here would be traced in turn. */
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Something about a core. */
static __always_inline void trace_core(u32 kind, s32 cpu, u64 value)
{
	if (READ_ONCE(tracing))
		trace_emit(kind, cpu, FLEXNET_TRACE_NO_EXECUTOR, value, 0);
}

/* An executor comes onto a CPU or leaves it. */
static __always_inline void trace_executor(u32 kind, s32 cpu, u32 executor, struct task_struct *p)
{
	if (READ_ONCE(tracing))
		trace_emit(kind, cpu, executor, 0, (u64)(u32)p->tgid << 32 | (u32)p->pid);
}

static __always_inline int trace_here(u32 kind, u64 flow)
{
	if (READ_ONCE(tracing))
		trace_emit(kind, bpf_get_smp_processor_id(), FLEXNET_TRACE_NO_EXECUTOR, flow,
			   bpf_get_current_pid_tgid());
	return 0;
}

SEC("usdt")
int BPF_USDT(trace_submit, u64 flow)
{
	return trace_here(FLEXNET_TRACE_SUBMIT, flow);
}

SEC("usdt")
int BPF_USDT(trace_resume, u64 flow)
{
	return trace_here(FLEXNET_TRACE_RESUME, flow);
}

SEC("usdt")
int BPF_USDT(trace_yield, u64 flow)
{
	return trace_here(FLEXNET_TRACE_YIELD, flow);
}

SEC("usdt")
int BPF_USDT(trace_finish, u64 flow)
{
	return trace_here(FLEXNET_TRACE_FINISH, flow);
}

#endif /* FLEXNET_TRACE_BPF_H */

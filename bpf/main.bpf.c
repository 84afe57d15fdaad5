/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * scx_flexnet - a sched_ext scheduler whose first class are network executors.
 *
 * Executors (threads that drain network queues, registered by their process
 * over the control socket) run on cores granted to them by load; everything
 * else is scheduled by fair virtual time on the rest, latency tasks first.
 * ARCHITECTURE.md follows a decision from queue depth to a core.
 *
 * This file is the table of operations and what is common to them:
 *   state.bpf.h      maps, globals, per-task and per-CPU state
 *   queues.bpf.h     what waits in the queues, seen without a call
 *   histograms.bpf.h how long tasks, messages and cores were waited for
 *   trace.bpf.h      events, while somebody traces
 *   clients.bpf.h    registrations and the shared pages
 *   pages.bpf.h      which of the pages live
 *   why.bpf.h        what a task has been through
 *   napi.bpf.h       the kernel's own network threads
 *   quanta.bpf.h     budgets of executors on granted cores
 *   claims.bpf.h     whose granted cores are, where applications claim them
 *   dedicated.bpf.h  granted cores, and which executor runs on them
 *   rounds.bpf.h     the arbiter's rounds
 *   designs.bpf.h    switching the design while it runs
 *   latency_batch.bpf.h  which task a latency task preempts, and how often
 *   pinned.bpf.h     latency tasks that can run on one CPU only
 *   groups.bpf.h     shares of cgroups
 *   general.bpf.h    all other tasks
 *   bandwidth.bpf.h  limits of cgroups
 *   rules.bpf.h      the operator's rules
 *   classes.bpf.h    class, weight and accounting of a task
 */
#include <scx/common.bpf.h>
#include "intf.h"
#include <flexnet/latency_batch.h>
#include <flexnet/bandwidth.h>
#include <flexnet/designs.h>
#include <flexnet/shares.h>

char _license[] SEC("license") = "GPL";
UEI_DEFINE(uei);

#include "state.bpf.h"
#include "queues.bpf.h"
#include "histograms.bpf.h"
#include "trace.bpf.h"
#include "clients.bpf.h"
#include "pages.bpf.h"
#include "why.bpf.h"
#include "napi.bpf.h"
#include "quanta.bpf.h"
#include "claims.bpf.h"
#include "dedicated.bpf.h"
#include "latency_batch.bpf.h"
#include "pinned.bpf.h"
#include "groups.bpf.h"
#include "general.bpf.h"
#include "bandwidth.bpf.h"
#include "classes.bpf.h"
#include "rules.bpf.h"
#include "rounds.bpf.h"
#include "designs.bpf.h"

/*
 * A task wakes. An executor stays where it was unless a granted core is idle:
 * where it runs is decided at dispatch. Anything else goes at once to an idle
 * CPU, if there is one, or (latency tasks) ahead of somebody less urgent.
 */
s32 BPF_STRUCT_OPS(flexnet_select_cpu, struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	struct task_ctx *tctx = task_ctx_of(p);
	u64 now = scx_bpf_now(), enq_flags = 0;
	u32 task_class;
	s32 cpu;

	if (!tctx)
		return prev_cpu;
	task_class = class_of(tctx);
	if (task_class == FLEXNET_CLASS_EXECUTOR || bandwidth_account(p, tctx, now))
		return prev_cpu;
	cpu = idle_cpu_for(p, prev_cpu, wake_flags);
	if (cpu < 0 && task_class == FLEXNET_CLASS_LATENCY)
		cpu = place_latency(p, tctx, prev_cpu, wake_flags, now, &enq_flags);
	if (cpu < 0)
		return prev_cpu;
	task_waits(tctx, now);
	waits_in(tctx, FLEXNET_QUEUE_DIRECT);
	tctx->slice_ns = slice_of(task_class);
	tctx->vtime = start_vtime(tctx, task_class, cpu, is_pinned(p));
	tctx->out_of_order = false;
	scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, tctx->slice_ns, enq_flags);
	stat_add(direct_dispatches, 1);
	return cpu;
}

/* A task is runnable and was not placed by select_cpu. */
void BPF_STRUCT_OPS(flexnet_enqueue, struct task_struct *p, u64 enq_flags)
{
	struct task_ctx *tctx = task_ctx_of(p);
	u64 now = scx_bpf_now(), until;
	u32 task_class;

	if (!tctx) {
		/* Cannot be: init_task makes it. Any queue beats a stall. */
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, settings.slice_ns, enq_flags);
		return;
	}
	task_class = class_now(p, tctx);
	until = bandwidth_account(p, tctx, now);
	if (until) {
		bandwidth_throttle(p, until, enq_flags, now);
		return;
	}
	group_counts(p, tctx);
	task_waits(tctx, now);
	/* The last one here, and let go of for a limit that was lifted meanwhile. */
	if (enq_flags & SCX_ENQ_LAST) {
		waits_in(tctx, FLEXNET_QUEUE_DIRECT);
		tctx->slice_ns = slice_of(task_class);
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, tctx->slice_ns, enq_flags);
		/* The CPU is about to idle, and would not look again. */
		scx_bpf_kick_cpu(scx_bpf_task_cpu(p), SCX_KICK_IDLE);
		return;
	}
	/* Per-CPU kernel threads work for everybody on their CPU, and others
	 * wait for them: first come, first served ahead of the queues. But one
	 * that used up its turn (ksoftirqd, a backlog NAPI thread in a receive
	 * livelock) goes on by virtual time, as fair as a normal task. */
	if (task_class == FLEXNET_CLASS_KTHREAD && (p->scx.slice || (enq_flags & SCX_ENQ_WAKEUP))) {
		waits_in(tctx, FLEXNET_QUEUE_DIRECT);
		tctx->out_of_order = true;
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, settings.latency_slice_ns, enq_flags);
		if (tctx->backlog)
			preempt_for_pinned(scx_bpf_task_cpu(p), now);
		return;
	}
	if (task_class == FLEXNET_CLASS_EXECUTOR) {
		napi_waits(tctx);
		executor_woke(tctx, executor_index(tctx), scx_bpf_task_cpu(p));
		if (is_ahead(tctx) && may_run_granted(p) && !is_migration_disabled(p)) {
			enqueue_executor(p, tctx, enq_flags, now);
			return;
		}
		/* No granted core for it: it is as urgent as its flows are. */
		task_class =
			is_normal_executor(tctx) ? FLEXNET_CLASS_NORMAL : FLEXNET_CLASS_LATENCY;
	}
	enqueue_general(p, tctx, task_class, enq_flags, now);
}

/* Serves the first task of a queue that no general core is in the affinity of. */
__noinline int dispatch_granted_only(s32 cpu, u64 dsq)
{
	struct bpf_cpumask *general;
	struct task_struct *p;
	bool moved = false;

	if (queued(dsq) <= 0)
		return false;
	bpf_rcu_read_lock();
	general = general_cpumask;
	bpf_for_each(scx_dsq, p, dsq, 0) {
		if (!general || bpf_cpumask_intersects(cast_mask(general), p->cpus_ptr) ||
		    !bpf_cpumask_test_cpu(cpu, p->cpus_ptr))
			continue;
		moved = scx_bpf_dsq_move(BPF_FOR_EACH_ITER, p, SCX_DSQ_LOCAL_ON | cpu, 0);
		break;
	}
	bpf_rcu_read_unlock();
	return moved;
}

/* General tasks on a granted core: when it is lent everybody; else, and whatever
 * executors want when it is due (settings.starvation_ns after the last general task),
 * those that can run nowhere else. */
static bool dispatch_general_on_granted(s32 cpu, struct cpu_ctx *cctx, u64 now, bool due)
{
	bool moved;

	if (!due)
		moved = settings.lend ? dispatch_general(cpu, now) :
					scx_bpf_dsq_move_to_local(pinned_dsq(cpu), 0);
	else
		moved = scx_bpf_dsq_move_to_local(pinned_dsq(cpu), 0) ||
			dispatch_granted_only(cpu, DSQ_GENERAL_LATENCY) ||
			dispatch_granted_only(cpu, DSQ_GENERAL);
	if (moved && due)
		stat_add(anti_starvation, 1);
	if (moved || due)
		cctx->general_served_ns = now;
	return moved;
}

/* Since when the task that leaves a CPU runs, if it is an executor; else 0. Its
 * account comes after the CPU has looked for its next task. */
static __always_inline u64 executor_start(struct task_struct *prev)
{
	struct task_ctx *tctx = prev ? task_ctx_of(prev) : NULL;

	return tctx && class_of(tctx) == FLEXNET_CLASS_EXECUTOR ? tctx->run_start_ns : 0;
}

/* A CPU looks for its next task. */
void BPF_STRUCT_OPS(flexnet_dispatch, s32 cpu, struct task_struct *prev)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	u64 now = switch_now(cpu);
	struct task_ctx *tctx;
	bool due;

	if (!cctx)
		return;
	/* It gives way, to no other task if there is none. */
	if (bandwidth_is_spent(prev, now))
		prev = NULL;
	if (READ_ONCE(cctx->granted)) {
		/* Tasks that wait on a CPU which a real-time task has, too: this may be the only
		 * other CPU. */
		if (serve_starved_preempted(cpu, now) ||
		    serve_starved_aged(cpu, cctx, settings.lend, now))
			return;
		due = now - cctx->general_served_ns > settings.starvation_ns;
		if (due && dispatch_general_on_granted(cpu, cctx, now, true))
			return;
		if (quanta_spent(cctx, executor_start(prev), now) &&
		    dispatch_general_on_granted(cpu, cctx, now, false))
			return;
		if (executor_stays(cpu, cctx, prev, now) || dispatch_executors(cctx))
			return;
		/* The executor that ran goes on before a general task does. */
		if (prev && (prev->scx.flags & SCX_TASK_QUEUED) && (tctx = task_ctx_of(prev)) &&
		    class_of(tctx) == FLEXNET_CLASS_EXECUTOR && is_ahead(tctx)) {
			executor_goes_on(tctx, now);
			prev->scx.slice = settings.slice_ns;
			return;
		}
		if ((settings.lend && prev && latency_goes_on(cpu, prev, now)) ||
		    dispatch_general_on_granted(cpu, cctx, now, false))
			return;
	} else {
		if (serve_starved_preempted(cpu, now) || serve_starved_aged(cpu, cctx, true, now) ||
		    (queued(DSQ_EXECUTOR_LATENCY) > 0 &&
		     serve_starved_executor(cpu, DSQ_EXECUTOR_LATENCY, now)) ||
		    (queued(DSQ_EXECUTOR_THROUGHPUT) > 0 &&
		     serve_starved_executor(cpu, DSQ_EXECUTOR_THROUGHPUT, now)) ||
		    goes_on(cpu, cctx, prev, now) || (prev && latency_goes_on(cpu, prev, now)) ||
		    dispatch_general(cpu, now))
			return;
		/* Nothing else to do: executors that wait for a core. */
		if (queued(DSQ_EXECUTOR_LATENCY) + queued(DSQ_EXECUTOR_THROUGHPUT) > 0 &&
		    (scx_bpf_dsq_move_to_local(DSQ_EXECUTOR_LATENCY, 0) ||
		     scx_bpf_dsq_move_to_local(DSQ_EXECUTOR_THROUGHPUT, 0)))
			return;
	}
	if (prev && (prev->scx.flags & SCX_TASK_QUEUED)) {
		tctx = task_ctx_of(prev);
		if (tctx && (class_of(tctx) == FLEXNET_CLASS_NORMAL ||
			     class_of(tctx) == FLEXNET_CLASS_BATCH))
			begin_next_turn(prev, tctx, cctx, now);
		else
			prev->scx.slice = slice_of(tctx ? class_of(tctx) : FLEXNET_CLASS_NORMAL);
	}
}

/* A task gives way. If another one runs instead, the task pays for the rest of its turn, as in EEVDF
 * since 6.18: else two that wait this way would take turns while the task that they wait for does
 * not run. It pays a slice at most, whatever its weight, so that no clock runs away. */
bool BPF_STRUCT_OPS(flexnet_yield, struct task_struct *from, struct task_struct *to)
{
	struct task_ctx *tctx = task_ctx_of(from);
	u64 now = scx_bpf_now(), ran, rest;

	/* To a certain thread, and not just to any: the kernel does without. */
	if (to)
		return false;
	from->scx.slice = 0;
	if (!tctx ||
	    (class_of(tctx) != FLEXNET_CLASS_NORMAL && class_of(tctx) != FLEXNET_CLASS_BATCH))
		return false;
	ran = turn_run_ns(tctx, now);
	rest = virtual_ns(from, tctx, tctx->slice_ns > ran ? tctx->slice_ns - ran : 0);
	tctx->yielded_ns = rest < settings.slice_ns ? rest + 1 : settings.slice_ns;
	/* There is nothing to go on with. */
	tctx->slice_ns = 0;
	return false;
}

void BPF_STRUCT_OPS(flexnet_running, struct task_struct *p)
{
	struct task_ctx *tctx = task_ctx_of(p);
	s32 cpu = scx_bpf_task_cpu(p);

	if (tctx)
		task_runs(p, tctx, cpu, switch_now(cpu));
}

void BPF_STRUCT_OPS(flexnet_stopping, struct task_struct *p, bool runnable)
{
	struct task_ctx *tctx = task_ctx_of(p);
	s32 cpu = scx_bpf_task_cpu(p);

	if (tctx)
		/* The kernel still has the time where a task falls asleep. */
		task_stops(p, tctx, cpu, runnable, runnable ? switch_now(cpu) : scx_bpf_now());
}

/* A new task starts half a turn late, as in EEVDF: with none to make up for,
 * endless forks would each be the next to run, and virtual time stand still. It
 * keeps its time over a visit to another scheduling class. */
void BPF_STRUCT_OPS(flexnet_enable, struct task_struct *p)
{
	struct task_ctx *tctx = task_ctx_of(p);

	if (tctx && !tctx->vtime)
		tctx->vtime = vtime_now + virtual_ns(p, tctx, settings.slice_ns / 2);
}

/* It left for another scheduling class, or the scheduler goes. */
void BPF_STRUCT_OPS(flexnet_disable, struct task_struct *p)
{
	struct task_ctx *tctx = task_ctx_of(p);

	if (tctx)
		task_leaves(tctx);
}

s32 BPF_STRUCT_OPS_SLEEPABLE(flexnet_init_task, struct task_struct *p,
			     struct scx_init_task_args *args)
{
	struct task_ctx *tctx =
		bpf_task_storage_get(&task_ctxs, p, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!tctx)
		return -ENOMEM;
	classify_new_task(p, tctx, args->fork);
	return 0;
}

void BPF_STRUCT_OPS(flexnet_exit_task, struct task_struct *p, struct scx_exit_task_args *args)
{
	struct task_ctx *tctx = task_ctx_of(p);

	if (!tctx)
		return;
	task_leaves(tctx);
	napi_exits(tctx);
}

s32 BPF_STRUCT_OPS_SLEEPABLE(flexnet_cgroup_init, struct cgroup *cgrp,
			     struct scx_cgroup_init_args *args)
{
	s32 error = group_starts(cgrp, args->weight);

	if (!error && bpf_core_field_exists(args->bw_quota_us))
		group_set_bandwidth(own_group_of(cgrp), args->bw_period_us, args->bw_quota_us,
				    args->bw_burst_us);
	return error;
}

void BPF_STRUCT_OPS(flexnet_cgroup_exit, struct cgroup *cgrp)
{
	group_ends(cgrp);
}

void BPF_STRUCT_OPS(flexnet_cgroup_set_weight, struct cgroup *cgrp, u32 weight)
{
	struct group_ctx *group = group_of(own_group_of(cgrp));

	if (group)
		group_set_weight(own_group_of(cgrp), weight, group->idle);
}

/* cpu.max or cpu.max.burst was written. */
void BPF_STRUCT_OPS(flexnet_cgroup_set_bandwidth, struct cgroup *cgrp, u64 period_us, u64 quota_us,
		    u64 burst_limit_us)
{
	group_set_bandwidth(own_group_of(cgrp), period_us, quota_us, burst_limit_us);
}

/* A task's nice value has changed. It is counted anew when it is queued or starts next. */
void BPF_STRUCT_OPS(flexnet_set_weight, struct task_struct *p, u32 weight)
{
	struct task_ctx *tctx = task_ctx_of(p);

	if (tctx)
		group_task_sleeps(tctx);
}

void BPF_STRUCT_OPS(flexnet_cgroup_move, struct task_struct *p, struct cgroup *from,
		    struct cgroup *to)
{
	struct task_ctx *tctx = task_ctx_of(p);

	if (!tctx)
		return;
	/* It is counted anew when it is queued or starts next. */
	group_task_sleeps(tctx);
	tctx->group = group_index_of(to);
	tctx->group_known = true;
}

/* RT or deadline tasks took the CPU: what waits in its local queue goes on
 * elsewhere. The loader leaves this out where the kernel does it by itself. */
void BPF_STRUCT_OPS(flexnet_cpu_release, s32 cpu, struct scx_cpu_release_args *args)
{
	scx_bpf_reenqueue_local();
}

void BPF_STRUCT_OPS(flexnet_dump, struct scx_dump_ctx *dctx)
{
	scx_bpf_dump("granted %u of %u, rounds %llu, armed %u, active %llx", arbiter.granted,
		     settings.net_cores_max, arbiter.rounds, timer_armed, active_clients);
	scx_bpf_dump("queued: executors %d+%d, latency %d, general %d",
		     queued(DSQ_EXECUTOR_LATENCY), queued(DSQ_EXECUTOR_THROUGHPUT),
		     queued(DSQ_GENERAL_LATENCY), queued(DSQ_GENERAL));
}

s32 BPF_STRUCT_OPS_SLEEPABLE(flexnet_init)
{
	s32 error;

	error = create_queues();
	if (error)
		return error;
	error = create_masks();
	if (error)
		return error;
	error = create_cooldown_timers();
	/* The timer of the rounds is start_rounds'. */
	return error ?: create_bandwidth_timer();
}

void BPF_STRUCT_OPS(flexnet_exit, struct scx_exit_info *info)
{
	struct round_timer *timer;
	u32 zero = 0;

	UEI_RECORD(uei, info);
	/* Before the next scheduler attaches: the kernel takes what a timer of
	 * ours still asks for as that one's mistake. */
	WRITE_ONCE(detached, 1);
	timer = bpf_map_lookup_elem(&round_timers, &zero);
	if (timer)
		bpf_timer_cancel(&timer->timer);
	cancel_cooldown_timers();
	cancel_bandwidth_timer();
}

SCX_OPS_DEFINE(flexnet_ops, .select_cpu = (void *)flexnet_select_cpu,
	       .enqueue = (void *)flexnet_enqueue, .dispatch = (void *)flexnet_dispatch,
	       .running = (void *)flexnet_running, .stopping = (void *)flexnet_stopping,
	       .yield = (void *)flexnet_yield, .enable = (void *)flexnet_enable,
	       .set_weight = (void *)flexnet_set_weight, .disable = (void *)flexnet_disable,
	       .init_task = (void *)flexnet_init_task, .exit_task = (void *)flexnet_exit_task,
	       .cgroup_init = (void *)flexnet_cgroup_init,
	       .cgroup_exit = (void *)flexnet_cgroup_exit,
	       .cgroup_set_weight = (void *)flexnet_cgroup_set_weight,
	       .cgroup_set_bandwidth = (void *)flexnet_cgroup_set_bandwidth,
	       .cgroup_move = (void *)flexnet_cgroup_move,
	       .cpu_release = (void *)flexnet_cpu_release, .dump = (void *)flexnet_dump,
	       .init = (void *)flexnet_init, .exit = (void *)flexnet_exit, .timeout_ms = 10000,
	       .name = "flexnet");

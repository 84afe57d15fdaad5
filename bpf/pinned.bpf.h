/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pinned.bpf.h - latency tasks that can run on one CPU only, by their affinity or because the
 * machine has one.
 *
 * The problem: the tasks of one CPU wait in one queue, by virtual time. A latency task there would
 * have its turn after normal tasks that are behind it.
 *
 * The mechanism: it goes ahead of the task that it preempts, as other latency tasks do. Where it may
 * not preempt now, it waits in the CPU's queue ahead of all normal tasks. Its place in the queue says
 * that it is one: it is so far ahead.
 *
 * What it promises: once latency tasks have had their budget on the CPU, a normal task of the queue
 * has a turn. What it leaves to others: the queue itself (general.bpf.h), the preemption cooldown
 * (latency_batch.bpf.h).
 */
#ifndef FLEXNET_PINNED_BPF_H
#define FLEXNET_PINNED_BPF_H

/* By how much a latency task is ahead of its virtual time in a CPU's queue, ns: more than any two
 * tasks of the queue differ, and less than the clocks begin with. */
#define PINNED_LATENCY_AHEAD (VTIME_START / 2)
/* Tasks of a CPU's queue looked at for a normal one. */
#define PINNED_SCAN_MAX 64

/* Is this the place of a latency task in the CPU's queue? */
static __always_inline bool is_latency_vtime(struct cpu_ctx *cctx, u64 vtime)
{
	return vtime != ~0ULL && time_before(vtime + PINNED_LATENCY_AHEAD / 2, cctx->vtime_now);
}

/* Have the latency tasks that are bound to this CPU had their budget? Then normal tasks run until they
 * have had a slice for it, also in many pieces: a latency task that each of these pieces wakes, such
 * as a network thread by its sender, would leave them nothing else. */
static __always_inline bool pinned_budget_spent(struct cpu_ctx *cctx)
{
	return cctx->pinned_used_ns >= settings.starvation_ns;
}

/* A task has run here: counts it against that budget, or for it. */
static __always_inline void pinned_account(struct cpu_ctx *cctx, bool latency, bool pinned, u64 ran)
{
	u64 slices = settings.slice_ns ? settings.starvation_ns / settings.slice_ns + 1 : 1;

	if (latency) {
		if (pinned)
			cctx->pinned_used_ns += ran;
		return;
	}
	ran *= slices;
	cctx->pinned_used_ns -= ran < cctx->pinned_used_ns ? ran : cctx->pinned_used_ns;
}

/* A latency task waits that can run on this CPU only: whom it finds there makes
 * way, now or when the preemption cooldown ends. False: nobody is to. */
static bool preempt_for_pinned(s32 cpu, u64 now)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);

	if (!cctx || !preemptible(cctx))
		return false;
	if (pinned_budget_spent(cctx))
		return true;
	if (preemptible_from_ns(cctx, now) <= now)
		preempt_cpu(cpu, now);
	else
		arm_cooldown_timer(cpu, cctx, now);
	return true;
}

/* Is the first of the tasks that can run here only a latency task? */
static bool latency_pinned(s32 cpu)
{
	struct task_struct *p;
	bool latency = false;

	bpf_for_each(scx_dsq, p, pinned_dsq(cpu), 0) {
		struct task_ctx *tctx = task_ctx_of(p);

		latency = tctx && class_of(tctx) == FLEXNET_CLASS_LATENCY;
		break;
	}
	return latency;
}

/* Puts a waking latency task ahead of the task that it preempts; false: it may not preempt now. */
static __always_inline bool place_pinned_latency(struct task_struct *p, struct task_ctx *tctx,
						 s32 cpu, struct cpu_ctx *cctx, u64 slice,
						 u64 enq_flags, u64 now)
{
	if (!preemptible(cctx) || pinned_budget_spent(cctx) ||
	    preemptible_from_ns(cctx, now) > now || !claim_cpu(cpu, now))
		return false;
	waits_in(tctx, FLEXNET_QUEUE_DIRECT);
	scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, slice, enq_flags | SCX_ENQ_PREEMPT);
	stat_add(direct_dispatches, 1);
	return true;
}

/* Serves the first task of a CPU's queue that is no latency task; false: none. */
__noinline int serve_pinned_normal(s32 cpu)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct task_struct *p;
	bool moved = false;

	if (!cctx)
		return false;
	cctx->scanned = 0;
	bpf_rcu_read_lock();
	bpf_for_each(scx_dsq, p, pinned_dsq(cpu), 0) {
		if (cctx->scanned++ >= PINNED_SCAN_MAX)
			break;
		if (is_latency_vtime(cctx, p->scx.dsq_vtime))
			continue;
		moved = scx_bpf_dsq_move(BPF_FOR_EACH_ITER, p, SCX_DSQ_LOCAL_ON | cpu, 0);
		if (moved)
			break;
	}
	bpf_rcu_read_unlock();
	return moved;
}

#endif /* FLEXNET_PINNED_BPF_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * latency_batch.bpf.h - which task a latency task preempts, and how often.
 *
 * The problem: a switch to another process costs what cold caches and a cold TLB cost. It costs
 * that twice, since the preempted task pays again when it returns. A service of short requests
 * would take a core from its neighbours at each request.
 *
 * The mechanism: after latency tasks ran on a core, the core has a preemption cooldown
 * (settings.preemption_cooldown_ns). Latency tasks may not preempt there until it is over. A task
 * that wakes during the cooldown waits, unless the core switches anyway; a timer ends the wait. A
 * task that wakes rarely does not notice.
 *
 * Once a task was preempted, the cost is paid. What follows on that core is one **latency batch**:
 * latency tasks that wait, or wake meanwhile, run back to back, and a task whose slice is over
 * goes on. The latency batch ends when they have run for settings.latency_batch_ns in all. The
 * preemption cooldown follows. So a service and its peer that wake each other do not wait for a
 * cooldown at each step. But a task gets few turns per latency batch: under an open load there is
 * always one more request. A run for one request costs as much as a run for all requests that
 * arrive in a cooldown.
 *
 * What it promises, on a core that runs normal work: a latency task waits at most for the rest of
 * a latency batch, for the cooldown after it, and for the latency tasks ahead of it in the next
 * one. If latency tasks want the core all the time, normal work keeps
 * cooldown / (cooldown + batch) of it.
 *
 * What it leaves to others: the queues (general.bpf.h); which task has a turn, and how long a
 * latency batch lasts (include/flexnet/latency_batch.h).
 */
#ifndef FLEXNET_LATENCY_BATCH_BPF_H
#define FLEXNET_LATENCY_BATCH_BPF_H

/* CPUs looked at for a victim: beyond that, the next one that switches serves
 * the waiting task soon enough. */
#define VICTIM_CPUS_MAX 32

static __always_inline bool preemptible(struct cpu_ctx *cctx)
{
	return cctx->current_class == FLEXNET_CLASS_NORMAL ||
	       cctx->current_class == FLEXNET_CLASS_BATCH;
}

/* Is any general core in this task's affinity? */
static __always_inline bool may_run_general(struct task_struct *p)
{
	struct bpf_cpumask *mask;
	bool ret = true;

	if (!READ_ONCE(arbiter.granted))
		return true;
	bpf_rcu_read_lock();
	mask = general_cpumask;
	if (mask)
		ret = bpf_cpumask_intersects(cast_mask(mask), p->cpus_ptr);
	bpf_rcu_read_unlock();
	return ret;
}

/* The time, of scx_bpf_now(), from which a latency task may preempt the task on that CPU. A task
 * whose slice is over still runs when the CPU looks for the next task. */
static __always_inline u64 preemptible_from_ns(struct cpu_ctx *cctx, u64 now)
{
	return (cctx->latency_start_ns ? now : cctx->latency_end_ns) +
	       settings.preemption_cooldown_ns;
}

/* A task of this class starts: latency tasks and executors make a latency batch, which
 * ordinary tasks end and the kernel's threads do not change. */
static __always_inline void latency_batch_continues(s32 cpu, struct cpu_ctx *cctx,
						    struct task_ctx *tctx, u32 task_class, u64 now)
{
	cctx->latency_start_ns = task_class == FLEXNET_CLASS_LATENCY ? now : 0;
	if (task_class != FLEXNET_CLASS_LATENCY && task_class != FLEXNET_CLASS_EXECUTOR) {
		if (task_class != FLEXNET_CLASS_KTHREAD)
			cctx->latency_batch.id = 0;
		return;
	}
	flexnet_latency_batch_begin(&cctx->latency_batch, now, cpu);
	if (task_class == FLEXNET_CLASS_LATENCY)
		flexnet_latency_batch_run(&cctx->latency_batch, &tctx->latency_batch);
}

/* Does a task that woke belong into the latency batch here? */
static __always_inline bool may_join(struct cpu_ctx *cctx, struct task_ctx *tctx)
{
	return flexnet_latency_batch_has_turn(&cctx->latency_batch, &tctx->latency_batch);
}

/* Does the latency batch here go on? */
static __always_inline bool in_latency_batch(struct cpu_ctx *cctx, u64 now)
{
	u64 used = cctx->higher_used_ns;

	if (cctx->latency_start_ns && now > cctx->latency_start_ns)
		used += now - cctx->latency_start_ns;
	return flexnet_latency_batch_lasts(&cctx->latency_batch, used, settings.latency_batch_ns,
					   settings.starvation_ns);
}

/* Starts the timer that gives the core to the waiting tasks after its preemption cooldown. */
static void arm_cooldown_timer(s32 cpu, struct cpu_ctx *cctx, u64 now)
{
	u64 until = preemptible_from_ns(cctx, now);
	struct cooldown_timer *timer;
	u32 key = cpu;

	if (READ_ONCE(cctx->cooldown_armed) ||
	    __sync_val_compare_and_swap(&cctx->cooldown_armed, 0, 1) != 0)
		return;
	timer = bpf_map_lookup_elem(&cooldown_timers, &key);
	/* 7.x may refuse with -ENOMEM: then there is no preemption cooldown. */
	if (timer && !bpf_timer_start(&timer->timer, until > now ? until - now : 0, 0))
		return;
	WRITE_ONCE(cctx->cooldown_armed, 0);
	preempt_cpu(cpu, now);
}

static int cooldown_ends(void *map, u32 *key, struct cooldown_timer *timer)
{
	s32 cpu = *key;
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);

	if (!cctx || READ_ONCE(detached))
		return 0;
	WRITE_ONCE(cctx->cooldown_armed, 0);
	if (preemptible(cctx) && (queued(DSQ_GENERAL_LATENCY) || queued(pinned_dsq(cpu)) ||
				  scx_bpf_dsq_nr_queued(SCX_DSQ_LOCAL_ON | cpu)))
		preempt_cpu(cpu, scx_bpf_now());
	return 0;
}

static s32 create_cooldown_timers(void)
{
	struct cooldown_timer *timer;
	s32 error = 0;
	u32 cpu;

	bpf_for(cpu, 0, machine.cpus) {
		u32 key = cpu;

		timer = bpf_map_lookup_elem(&cooldown_timers, &key);
		if (!timer)
			return -ENOENT;
		error = bpf_timer_init(&timer->timer, &cooldown_timers, CLOCK_MONOTONIC);
		error = error ?: bpf_timer_set_callback(&timer->timer, cooldown_ends);
		if (error)
			break;
	}
	return error;
}

static void cancel_cooldown_timers(void)
{
	struct cooldown_timer *timer;
	u32 cpu;

	bpf_for(cpu, 0, machine.cpus) {
		u32 key = cpu;

		timer = bpf_map_lookup_elem(&cooldown_timers, &key);
		if (timer)
			bpf_timer_cancel(&timer->timer);
	}
}

/* A CPU whose task a latency task may preempt: its last CPU if possible, else one that runs batch
 * work, else one that runs normal work. -1: none now; with `arm` a timer is started for the CPU whose
 * preemption cooldown ends first. Granted cores are left to executors and to the tasks they are
 * lent to: a latency task there would itself be preempted soon. */
__noinline s32 victim_for(struct task_struct *p __arg_trusted, s32 prev_cpu, u64 now, bool arm)
{
	struct cpu_ctx *cctx = cpu_ctx_of(prev_cpu);
	bool general = may_run_general(p);
	s32 best = -1, later = -1;
	u64 until, soonest = ~0ULL;
	u32 i;

	if (cctx && preemptible(cctx) && !(general && cctx->granted) &&
	    bpf_cpumask_test_cpu(prev_cpu, p->cpus_ptr)) {
		soonest = preemptible_from_ns(cctx, now);
		if (soonest <= now)
			return prev_cpu;
		later = prev_cpu;
	}
	bpf_for(i, 0, VICTIM_CPUS_MAX) {
		s32 cpu = prev_cpu + 1 + (s32)i;

		if (i >= machine.cpus)
			break;
		if (cpu >= (s32)machine.cpus)
			cpu -= machine.cpus;
		cctx = cpu_ctx_of(cpu);
		if (!cctx || !cctx->online || !preemptible(cctx) || (general && cctx->granted) ||
		    !bpf_cpumask_test_cpu(cpu, p->cpus_ptr))
			continue;
		until = preemptible_from_ns(cctx, now);
		if (until > now) {
			if (until < soonest) {
				soonest = until;
				later = cpu;
			}
			continue;
		}
		if (cctx->current_class == FLEXNET_CLASS_BATCH)
			return cpu;
		if (best < 0)
			best = cpu;
	}
	if (arm && best < 0 && later >= 0 && (cctx = cpu_ctx_of(later)))
		arm_cooldown_timer(later, cctx, now);
	return best;
}

#endif /* FLEXNET_LATENCY_BATCH_BPF_H */

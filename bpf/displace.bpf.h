/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * displace.bpf.h - whom a latency task displaces, and how often.
 *
 * The problem: a switch to another process costs what its cold caches and its
 * TLB cost, twice, since the displaced task pays on its return. A service of
 * short requests would take a core from its neighbours at each of them.
 *
 * The mechanism: after latency tasks ran on a core, it has a respite
 * (settings.respite_ns) before they may displace somebody there again. Who
 * wakes in it waits, unless the core switches anyway; a timer ends the wait. A
 * task that wakes rarely does not notice.
 *
 * Who was displaced has paid. What follows on that core is one **burst**: latency
 * tasks that wait or wake meanwhile are served one after the other, and one whose
 * slice is over goes on, until they have run for settings.burst_ns in all; then
 * comes the respite. So a service and its peer that wake each other are not a
 * respite apart at each step. But a burst is there and back: under an open load
 * there is always one more request, and a run for it alone costs what a run for
 * all costs that come in a respite.
 *
 * What it promises: no latency task waits longer than what is left of a burst, the
 * respite after it and the latency tasks ahead of it in the next, for a core that
 * runs normal work, and normal work keeps respite / (respite + burst)
 * of a core that latency tasks want all the time. What it leaves to others: the
 * queues (general.bpf.h); whose turn it is and how long a burst lasts
 * (include/flexnet/burst.h).
 */
#ifndef FLEXNET_DISPLACE_BPF_H
#define FLEXNET_DISPLACE_BPF_H

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

/* From when on a latency task may displace who runs there, scx_bpf_now() time.
 * The one whose slice is over still runs when the CPU looks for the next. */
static __always_inline u64 displaceable_ns(struct cpu_ctx *cctx, u64 now)
{
	return (cctx->latency_start_ns ? now : cctx->latency_end_ns) + settings.respite_ns;
}

/* A task of this class starts: latency tasks and executors make a burst, which
 * ordinary tasks end and the kernel's threads do not change. */
static __always_inline void burst_goes_on(s32 cpu, struct cpu_ctx *cctx, struct task_ctx *tctx,
					  u32 task_class, u64 now)
{
	cctx->latency_start_ns = task_class == FLEXNET_CLASS_LATENCY ? now : 0;
	if (task_class != FLEXNET_CLASS_LATENCY && task_class != FLEXNET_CLASS_EXECUTOR) {
		if (task_class != FLEXNET_CLASS_KTHREAD)
			cctx->burst.id = 0;
		return;
	}
	flexnet_burst_begin(&cctx->burst, now, cpu);
	if (task_class == FLEXNET_CLASS_LATENCY)
		flexnet_burst_run(&cctx->burst, &tctx->burst);
}

/* Does a task that woke belong into the burst here? */
static __always_inline bool may_join(struct cpu_ctx *cctx, struct task_ctx *tctx)
{
	return flexnet_burst_has_turn(&cctx->burst, &tctx->burst);
}

/* Does the burst here go on? */
static __always_inline bool in_burst(struct cpu_ctx *cctx, u64 now)
{
	u64 used = cctx->higher_used_ns;

	if (cctx->latency_start_ns && now > cctx->latency_start_ns)
		used += now - cctx->latency_start_ns;
	return flexnet_burst_lasts(&cctx->burst, used, settings.burst_ns, settings.starvation_ns);
}

/* Sees to it that the waiting get the core when its respite is over. */
static void respite_arm(s32 cpu, struct cpu_ctx *cctx, u64 now)
{
	u64 until = displaceable_ns(cctx, now);
	struct respite_timer *timer;
	u32 key = cpu;

	if (READ_ONCE(cctx->respite_armed) ||
	    __sync_val_compare_and_swap(&cctx->respite_armed, 0, 1) != 0)
		return;
	timer = bpf_map_lookup_elem(&respite_timers, &key);
	/* 7.x may refuse with -ENOMEM: then there is no respite. */
	if (timer && !bpf_timer_start(&timer->timer, until > now ? until - now : 0, 0))
		return;
	WRITE_ONCE(cctx->respite_armed, 0);
	preempt_cpu(cpu, now);
}

static int respite_ends(void *map, u32 *key, struct respite_timer *timer)
{
	s32 cpu = *key;
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);

	if (!cctx || READ_ONCE(detached))
		return 0;
	WRITE_ONCE(cctx->respite_armed, 0);
	if (preemptible(cctx) && (queued(DSQ_GENERAL_LATENCY) || queued(pinned_dsq(cpu)) ||
				  scx_bpf_dsq_nr_queued(SCX_DSQ_LOCAL_ON | cpu)))
		preempt_cpu(cpu, scx_bpf_now());
	return 0;
}

static s32 create_respite_timers(void)
{
	struct respite_timer *timer;
	s32 error = 0;
	u32 cpu;

	bpf_for(cpu, 0, machine.cpus) {
		u32 key = cpu;

		timer = bpf_map_lookup_elem(&respite_timers, &key);
		if (!timer)
			return -ENOENT;
		error = bpf_timer_init(&timer->timer, &respite_timers, CLOCK_MONOTONIC);
		error = error ?: bpf_timer_set_callback(&timer->timer, respite_ends);
		if (error)
			break;
	}
	return error;
}

static void cancel_respite_timers(void)
{
	struct respite_timer *timer;
	u32 cpu;

	bpf_for(cpu, 0, machine.cpus) {
		u32 key = cpu;

		timer = bpf_map_lookup_elem(&respite_timers, &key);
		if (timer)
			bpf_timer_cancel(&timer->timer);
	}
}

/* A CPU whose task a latency task may displace: its last one when it can, else
 * one that runs batch, else one that runs normal work. -1: none now; the first
 * whose respite ends will see to it. Granted cores are left to executors and to
 * whom they are lent: a latency task there would only be displaced in turn. */
static s32 victim_for(struct task_struct *p, s32 prev_cpu, u64 now)
{
	struct cpu_ctx *cctx = cpu_ctx_of(prev_cpu);
	bool general = may_run_general(p);
	s32 best = -1, later = -1;
	u64 until, soonest = ~0ULL;
	u32 i;

	if (cctx && preemptible(cctx) && !(general && cctx->granted) &&
	    bpf_cpumask_test_cpu(prev_cpu, p->cpus_ptr)) {
		soonest = displaceable_ns(cctx, now);
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
		until = displaceable_ns(cctx, now);
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
	if (best < 0 && later >= 0 && (cctx = cpu_ctx_of(later)))
		respite_arm(later, cctx, now);
	return best;
}

#endif /* FLEXNET_DISPLACE_BPF_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * bandwidth.bpf.h - limits of cgroups: cpu.max and cpu.max.burst.
 *
 * The mechanism: a group with a limit has an account of CPU time, which each period refills
 * (bandwidth.h). A task's run is charged to the accounts of all groups that it is in. A task of a
 * group whose account is empty waits in a queue of its own, ordered by when it may run again. A
 * timer lets it out then, into the queue that it would have waited in. A task is stopped at a tick
 * only, so a group may run more than it has: that is a debt, and it waits for longer.
 *
 * A task waits for THROTTLE_NS_MAX at most. It then has a turn, and its groups a debt. So the
 * kernel's watchdog sees no stall, whatever the limits are, and a task can be killed. A task that is
 * let out behind others, which have used the time up, is stopped as soon as it starts.
 *
 * What it promises: over many periods a group runs for its quota, on whatever cores and as whatever
 * class. That includes executors on granted cores, and a throttled executor holds no core. While no
 * group has a limit, all this costs one load. A task inside an RCU section is not throttled, since
 * others would wait for it. A dying task is not, since the kernel queues it by itself. What it leaves
 * to others: shares (groups.bpf.h), and the queues (general.bpf.h).
 */
#ifndef FLEXNET_BANDWIDTH_BPF_H
#define FLEXNET_BANDWIDTH_BPF_H

/* A task is throttled for so long at most: two fifths of the watchdog's limit. */
#define THROTTLE_NS_MAX 4000000000ULL
/* The timer is never set for less, so that a task is in its queue when it fires. */
#define TIMER_NS_MIN 50000ULL
/* It should have fired so long ago: it was not started. */
#define TIMER_NS_LATE 10000000ULL
/* A group's largest debt of CPU time, ns. */
#define DEBT_NS_MAX 1000000000LL
/* Tasks that the timer lets out at a time. */
#define RELEASE_MAX 256
/* When it tries again where it could not, ns. */
#define UNTHROTTLE_AGAIN_NS 1000000ULL

struct bandwidth_timer {
	struct bpf_timer timer;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct bandwidth_timer);
} bandwidth_timers SEC(".maps");

/* When it fires, 0: it is not armed. */
static u64 bandwidth_armed_ns;
/* A limit has changed: some that are throttled may run now. */
static u32 bandwidth_changed;
/* The first limit is there since, ns. */
u64 limits_since_ns;
/* Of a release. In memory, as cpu_ctx.scanned. */
u32 bandwidth_scanned;

__noinline int bandwidth_arm(u64 until, u64 now);

/* The kernel told a group's limit. */
static void group_set_bandwidth(u32 index, u64 period_us, u64 quota_us, u64 burst_limit_us)
{
	struct group_ctx *group = group_of(index);
	u64 before, quota = 0;

	if (!group || index == GROUP_ROOT)
		return;
	if (quota_us <= FLEXNET_QUOTA_US_MAX)
		quota = quota_us * 1000;
	before = group->bandwidth.quota_ns;
	group->bandwidth.period_ns = period_us * 1000;
	group->bandwidth.burst_limit_ns =
		burst_limit_us <= FLEXNET_QUOTA_US_MAX ? burst_limit_us * 1000 : 0;
	group->bandwidth.period_start_ns = scx_bpf_now();
	group->bandwidth.left_ns = quota;
	group->bandwidth.quota_ns = quota;
	if (!before && quota && !__sync_fetch_and_add(&groups_limited, 1))
		limits_since_ns = scx_bpf_now();
	else if (before && !quota)
		__sync_fetch_and_sub(&groups_limited, 1);
	if (before) {
		WRITE_ONCE(bandwidth_changed, 1);
		bandwidth_arm(scx_bpf_now(), scx_bpf_now());
	}
}

/* Adds what the periods since the last call give. */
static __always_inline void bandwidth_refill(struct flexnet_bandwidth *bandwidth, u64 now)
{
	u64 start = READ_ONCE(bandwidth->period_start_ns), periods;
	s64 left;

	periods = flexnet_bandwidth_periods(bandwidth, start, now);
	if (!periods ||
	    __sync_val_compare_and_swap(&bandwidth->period_start_ns, start,
					start + periods * bandwidth->period_ns) != start)
		return;
	left = READ_ONCE(bandwidth->left_ns);
	__sync_fetch_and_add(&bandwidth->left_ns,
			     flexnet_bandwidth_refill(bandwidth, left, periods) - left);
}

/* Charges a run to all limits that a group is under. Returns until when its tasks have to wait,
 * 0: they may run. */
__noinline u64 bandwidth_charge(u32 index, u64 ran, u64 now)
{
	u64 until = 0;
	u32 level;

	bpf_for(level, 0, GROUP_LEVELS_MAX) {
		struct group_ctx *group = group_of(index);
		u64 then;

		if (!group || index == GROUP_ROOT)
			break;
		if (group->bandwidth.quota_ns) {
			bandwidth_refill(&group->bandwidth, now);
			/* What it can never pay is forgiven. */
			if (ran && group->bandwidth.left_ns > -DEBT_NS_MAX)
				__sync_fetch_and_add(&group->bandwidth.left_ns, -ran);
			then = flexnet_bandwidth_until(&group->bandwidth,
						       group->bandwidth.period_start_ns,
						       group->bandwidth.left_ns);
			if (then > until)
				until = then;
		}
		index = group->parent;
	}
	return until;
}

/* Is this task under any limit? */
static __always_inline bool is_limited(struct task_ctx *tctx)
{
	return READ_ONCE(groups_limited) && tctx->group != GROUP_ROOT;
}

/* Charges what a task under limits ran of its turn since it was charged last. Returns until when it
 * has to wait, 0: it may run. Not static: so the verifier checks it once. */
__noinline u64 limits_account(struct task_struct *p __arg_trusted, u64 now)
{
	struct task_ctx *tctx = task_ctx_of(p);
	u64 from, ran = 0, until;

	if (!tctx)
		return 0;
	if (tctx->run_start_ns) {
		from = tctx->run_start_ns + tctx->bandwidth_charged_ns;
		/* What it ran before there was any limit is not charged. */
		if (from < limits_since_ns)
			from = limits_since_ns;
		ran = now > from ? now - from : 0;
		tctx->bandwidth_charged_ns = turn_run_ns(tctx, now);
	}
	until = bandwidth_charge(tctx->group, ran, now);
	if ((p->flags & PF_EXITING) || in_rcu_reader(p))
		return 0;
	/* It has waited for as long as it may. */
	if (tctx->throttled_ns && now - tctx->throttled_ns >= THROTTLE_NS_MAX)
		return 0;
	return until;
}

/* The same for any task. */
static __always_inline u64 bandwidth_account(struct task_struct *p, struct task_ctx *tctx, u64 now)
{
	return is_limited(tctx) ? limits_account(p, now) : 0;
}

/* Does the limit of its group end the turn of the task that runs? */
static __always_inline bool bandwidth_is_spent(struct task_struct *prev, u64 now)
{
	struct task_ctx *tctx;

	if (!READ_ONCE(groups_limited))
		return false;
	if (!prev || !(prev->scx.flags & SCX_TASK_QUEUED))
		return false;
	tctx = task_ctx_of(prev);
	return tctx && bandwidth_account(prev, tctx, now);
}

/* Has the timer fire at that time, or before. */
__noinline int bandwidth_arm(u64 until, u64 now)
{
	struct bandwidth_timer *timer;
	u32 zero = 0, tries;

	timer = bpf_map_lookup_elem(&bandwidth_timers, &zero);
	if (!timer)
		return -ENOENT;
	if (until < now + TIMER_NS_MIN)
		until = now + TIMER_NS_MIN;
	bpf_for(tries, 0, 4) {
		u64 armed = READ_ONCE(bandwidth_armed_ns);

		if (armed && armed <= until && now <= armed + TIMER_NS_LATE)
			return 0;
		if (__sync_val_compare_and_swap(&bandwidth_armed_ns, armed, until) != armed)
			continue;
		if (bpf_timer_start(&timer->timer, until - now, 0))
			break;
		/* Another CPU may have started it for an earlier time, before this did. */
		armed = READ_ONCE(bandwidth_armed_ns);
		if (armed && armed < until)
			bpf_timer_start(&timer->timer, armed > now ? armed - now : 0, 0);
		return 0;
	}
	/* 7.x may refuse with -ENOMEM: the next task that is throttled tries again. */
	WRITE_ONCE(bandwidth_armed_ns, 0);
	return -ENOMEM;
}

/* Has a task wait until its groups have CPU time again. */
__noinline int bandwidth_throttle(struct task_struct *p __arg_trusted, u64 until, u64 enq_flags,
				  u64 now)
{
	struct task_ctx *tctx = task_ctx_of(p);
	struct executor_ctx *ectx;

	if (!tctx)
		return -ENOENT;
	if (class_of(tctx) == FLEXNET_CLASS_EXECUTOR) {
		ectx = executor_ctx_of(executor_index(tctx));
		if (ectx)
			WRITE_ONCE(ectx->runnable, 0);
	}
	/* Its siblings divide what it leaves. */
	group_task_sleeps(tctx);
	if (!tctx->throttled_ns)
		tctx->throttled_ns = now;
	if (until > tctx->throttled_ns + THROTTLE_NS_MAX)
		until = tctx->throttled_ns + THROTTLE_NS_MAX;
	scx_bpf_dsq_insert_vtime(p, DSQ_THROTTLED, settings.slice_ns, until, enq_flags);
	return bandwidth_arm(until, now);
}

/* The queue of a task that may run again. */
static __always_inline u64 release_queue(struct task_struct *p, struct task_ctx *tctx, u64 now)
{
	u32 task_class = class_of(tctx);
	bool pinned = is_pinned(p);
	s32 cpu = scx_bpf_task_cpu(p);

	/* An executor goes back to its own queue with its next turn. */
	if (task_class == FLEXNET_CLASS_EXECUTOR)
		task_class =
			is_normal_executor(tctx) ? FLEXNET_CLASS_NORMAL : FLEXNET_CLASS_LATENCY;
	tctx->slice_ns = slice_of(task_class);
	tctx->vtime = start_vtime(tctx, task_class, cpu, pinned);
	tctx->out_of_order = false;
	/* It did not wait for a CPU. */
	tctx->enqueued_ns = now;
	waits_in(tctx, pinned				   ? FLEXNET_QUEUE_CPU :
		       task_class == FLEXNET_CLASS_LATENCY ? FLEXNET_QUEUE_LATENCY :
							     FLEXNET_QUEUE_GENERAL);
	return pinned				   ? pinned_dsq(cpu) :
	       task_class == FLEXNET_CLASS_LATENCY ? DSQ_GENERAL_LATENCY :
						     DSQ_GENERAL;
}

/* Lets out tasks whose time has come. Returns when the next one may run, 0: none is throttled. */
__noinline u64 bandwidth_unthrottle(u64 now)
{
	u32 changed = __sync_lock_test_and_set(&bandwidth_changed, 0);
	struct task_struct *p;
	u64 next = 0, again = 0;

	bandwidth_scanned = 0;
	bpf_rcu_read_lock();
	bpf_for_each(scx_dsq, p, DSQ_THROTTLED, 0) {
		struct task_ctx *tctx = task_ctx_of(p);
		u64 until = p->scx.dsq_vtime, dsq;
		s32 cpu;

		if ((!changed && until > now) || bandwidth_scanned++ >= RELEASE_MAX) {
			/* The tasks that were passed over are due before. */
			if (!next)
				next = until > now ? until : now;
			break;
		}
		if (!tctx)
			continue;
		/* The limit that has changed is another one's. */
		if (until > now && bandwidth_charge(tctx->group, 0, now)) {
			if (!next)
				next = until;
			continue;
		}
		dsq = release_queue(p, tctx, now);
		queue_used(dsq);
		scx_bpf_dsq_move_set_slice(BPF_FOR_EACH_ITER, tctx->slice_ns);
		scx_bpf_dsq_move_set_vtime(BPF_FOR_EACH_ITER, tctx->vtime);
		if (!scx_bpf_dsq_move_vtime(BPF_FOR_EACH_ITER, p, dsq, 0)) {
			/* It has gone, or this is no time to move it. */
			again = now + UNTHROTTLE_AGAIN_NS;
			continue;
		}
		cpu = is_pinned(p) ? scx_bpf_task_cpu(p) : scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
		if (cpu >= 0)
			scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
	}
	bpf_rcu_read_unlock();
	return again && (!next || again < next) ? again : next;
}

static int bandwidth_returns(void *map, u32 *key, struct bandwidth_timer *timer)
{
	u64 now = scx_bpf_now(), next;

	if (READ_ONCE(detached))
		return 0;
	WRITE_ONCE(bandwidth_armed_ns, 0);
	next = bandwidth_unthrottle(now);
	if (next)
		bandwidth_arm(next, now);
	return 0;
}

static s32 create_bandwidth_timer(void)
{
	struct bandwidth_timer *timer;
	u32 zero = 0;
	s32 error;

	timer = bpf_map_lookup_elem(&bandwidth_timers, &zero);
	if (!timer)
		return -ENOENT;
	error = bpf_timer_init(&timer->timer, &bandwidth_timers, CLOCK_MONOTONIC);
	return error ?: bpf_timer_set_callback(&timer->timer, bandwidth_returns);
}

static void cancel_bandwidth_timer(void)
{
	struct bandwidth_timer *timer;
	u32 zero = 0;

	timer = bpf_map_lookup_elem(&bandwidth_timers, &zero);
	if (timer)
		bpf_timer_cancel(&timer->timer);
}

#endif /* FLEXNET_BANDWIDTH_BPF_H */

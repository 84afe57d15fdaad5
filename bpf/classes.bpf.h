/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * classes.bpf.h - what class a task has, what it is charged, and what is
 * counted of it.
 *
 * A class comes from registration (clients.bpf.h), from a rule (rules.bpf.h) or
 * from the parent. Virtual time is charged when a task stops; the per-CPU view
 * other headers decide by (cpu_ctx) is written here and nowhere else.
 */
#ifndef FLEXNET_CLASSES_BPF_H
#define FLEXNET_CLASSES_BPF_H

/* A new task has its parent's class, an executor's child none; what ran before
 * the scheduler did is normal. */
static void classify_new_task(struct task_struct *p, struct task_ctx *tctx, bool fork)
{
	struct task_struct *parent;
	struct task_ctx *from;

	tctx->task_class = FLEXNET_CLASS_NORMAL;
	tctx->class_origin = FLEXNET_ORIGIN_DEFAULT;
	if (is_percpu_kthread(p)) {
		tctx->task_class = FLEXNET_CLASS_KTHREAD;
		tctx->class_origin = FLEXNET_ORIGIN_KERNEL;
		return;
	}
	if (!fork || (p->flags & PF_KTHREAD))
		return;
	parent = bpf_get_current_task_btf();
	from = task_ctx_of(parent);
	if (!from || from->task_class == FLEXNET_CLASS_EXECUTOR)
		return;
	tctx->rules_epoch = from->rules_epoch;
	if (from->asked) {
		tctx->born = from->asked;
	} else {
		tctx->born = from->born;
		tctx->born_rule = from->rule ?: from->born_rule;
	}
	tctx->inherited = from->asked ?: from->ruled ?: from->inherited;
	settle_class(tctx);
}

/* The class of a task about to wait. A kernel thread is bound to its CPU only after
 * its fork, and may be let go again. */
static __always_inline u32 class_now(struct task_struct *p, struct task_ctx *tctx)
{
	u32 task_class = class_of(tctx);

	if (task_class == FLEXNET_CLASS_KTHREAD && !is_percpu_kthread(p)) {
		tctx->task_class = FLEXNET_CLASS_NORMAL;
		tctx->class_origin = FLEXNET_ORIGIN_DEFAULT;
	} else if (task_class == FLEXNET_CLASS_NORMAL &&
		   tctx->class_origin == FLEXNET_ORIGIN_DEFAULT && is_percpu_kthread(p)) {
		tctx->task_class = FLEXNET_CLASS_KTHREAD;
		tctx->class_origin = FLEXNET_ORIGIN_KERNEL;
	}
	return tctx->task_class;
}

/* A task waits from now, if it did not already: changes of affinity, weight or
 * class queue it anew, and must not make it young. */
static __always_inline void task_waits(struct task_ctx *tctx, u64 now)
{
	if (!tctx->enqueued_ns)
		tctx->enqueued_ns = now;
}

static __always_inline void task_leaves(struct task_ctx *tctx)
{
	struct executor_ctx *ectx;

	tctx->enqueued_ns = 0;
	group_task_sleeps(tctx);
	if (class_of(tctx) != FLEXNET_CLASS_EXECUTOR)
		return;
	ectx = executor_ctx_of(executor_index(tctx));
	if (ectx) {
		ectx->runnable = 0;
		ectx->cpu = -1;
	}
	publish_on_cpu(tctx, -1, false);
}

/* A task starts on a CPU. */
static __always_inline void task_runs(struct task_struct *p, struct task_ctx *tctx, s32 cpu,
				      u64 now)
{
	u32 task_class = class_of(tctx);
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct executor_ctx *ectx;
	u64 *vtime;

	tctx->run_start_ns = now;
	tctx->bandwidth_charged_ns = 0;
	group_counts(p, tctx);
	/* It was let out behind others that have used up what there was. */
	tctx->bounced = bandwidth_account(p, tctx, now) > 0;
	if (tctx->bounced)
		scx_bpf_kick_cpu(cpu, SCX_KICK_PREEMPT);
	tctx->slice_left_ns = 0;
	tctx->yielded_ns = 0;
	if (cctx) {
		latency_batch_continues(cpu, cctx, tctx, task_class, now);
		cctx->current_class = task_class;
		cctx->executor = 0;
		if (cctx->kick_claim_ns)
			cctx->kick_claim_ns = 0;
	}
	if (task_class < FLEXNET_CLASS_COUNT && tctx->enqueued_ns) {
		wait_ends(tctx, now);
		count_time(task_class, tctx->history.last_wait_ns);
	}
	tctx->enqueued_ns = 0;
	if (task_class != FLEXNET_CLASS_EXECUTOR) {
		if (cctx)
			clocks_follow(tctx, cctx);
		return;
	}
	ectx = executor_ctx_of(executor_index(tctx));
	vtime = client_vtime_of(tctx->client);
	if (!ectx || !cctx)
		return;
	/* An executor whose client has no core runs on a granted one as a general task does. */
	if (is_ahead(tctx))
		cctx->executor = executor_index(tctx) + 1;
	else
		cctx->current_class = FLEXNET_CLASS_LATENCY;
	trace_executor(FLEXNET_TRACE_ON_CPU, cpu, executor_index(tctx), p);
	if (cctx->granted && cctx->executor)
		grant_served(cctx);
	if (!cctx->granted && is_normal_executor(tctx))
		cctx->current_class = FLEXNET_CLASS_NORMAL;
	ectx->cpu = cpu;
	ectx->flagged_ns = 0;
	ectx->run_start_ns = now;
	ectx->quantum_start_ns = now;
	/* As for general tasks: what the one that is behind all others starts with,
	 * and not what one of little weight has come to at its turn's end. */
	if (vtime && executor_vtime_now < *vtime)
		executor_vtime_now = *vtime;
	WRITE_ONCE(ectx->runnable, 1);
	publish_on_cpu(tctx, cpu, cctx->granted && cctx->executor);
}

/* An executor's part of task_stops. */
static __always_inline void executor_stops(struct task_ctx *tctx, struct cpu_ctx *cctx, u64 ran,
					   bool runnable)
{
	struct flexnet_client_state *client = client_of(tctx->client);
	struct executor_ctx *ectx = executor_ctx_of(executor_index(tctx));
	struct flexnet_page *page = page_of(tctx->client);
	u64 *vtime = client_vtime_of(tctx->client);

	if (ectx) {
		ectx->cpu = -1;
		ectx->run_start_ns = 0;
		ectx->flagged_ns = 0;
		WRITE_ONCE(ectx->runnable, runnable);
	}
	__sync_fetch_and_add(&executors_run_ns, ran);
	if (client)
		__sync_fetch_and_add(&client->run_ns, ran);
	if (tctx->flow_class == FLEXNET_FLOW_LATENCY) {
		__sync_fetch_and_add(&latency_executors_run_ns, ran);
		cctx->latency_used_ns += ran;
	} else {
		cctx->latency_used_ns = 0;
	}
	if (vtime && page)
		*vtime += flexnet_scale_by_weight(ran, client_weight(client, page));
	publish_on_cpu(tctx, -1, false);
}

/* A task leaves its CPU, to sleep or (runnable) to wait for another turn. */
static __always_inline void task_stops(struct task_struct *p, struct task_ctx *tctx, s32 cpu,
				       bool runnable, u64 now)
{
	u32 task_class = class_of(tctx);
	struct flexnet_cpu_stats *stats = stats_here();
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	u64 ran = turn_run_ns(tctx, now);
	bool dedicated;

	bandwidth_account(p, tctx, now);
	if (!tctx->bounced || !runnable)
		tctx->throttled_ns = 0;
	tctx->bounced = false;
	tctx->run_start_ns = 0;
	tctx->latency_batch.slept = !runnable;
	if (!runnable)
		group_task_sleeps(tctx);
	if (stats && task_class < FLEXNET_CLASS_COUNT)
		stats->run_ns[task_class] += ran;
	turn_ends(tctx, ran, runnable && cctx && cctx->kick_claim_ns);
	if (!cctx)
		return;
	/* As the core's own, not as a general task or elsewhere. */
	dedicated = cctx->granted && cctx->executor;
	cctx->current_class = CLASS_NONE;
	cctx->executor = 0;
	cctx->latency_start_ns = 0;
	tctx->slice_left_ns = 0;
	if (runnable && cctx->kick_claim_ns && tctx->slice_ns > ran + TURN_LEFT_MIN)
		tctx->slice_left_ns = tctx->slice_ns - ran;
	if (runnable)
		extend_reader(p, tctx, cctx, ran);
	if (task_class == FLEXNET_CLASS_EXECUTOR) {
		trace_executor(FLEXNET_TRACE_OFF_CPU, cpu, executor_index(tctx), p);
		/* On a core of its own it takes from nobody. */
		if (dedicated) {
			quanta_account(cctx, now - ran, now);
		} else {
			tctx->vtime += virtual_ns(p, tctx, ran);
			/* What waits has its turn beside it, too. */
			cctx->higher_used_ns =
				is_normal_executor(tctx) ? 0 : cctx->higher_used_ns + ran;
		}
		napi_ran(tctx, ran, runnable);
		executor_stops(tctx, cctx, ran, runnable);
		return;
	}
	tctx->vtime += virtual_ns(p, tctx, ran);
	if (tctx->backlog) {
		__sync_fetch_and_add(&backlog.run_ns, ran);
		cctx->latency_end_ns = now;
	}
	if (task_class != FLEXNET_CLASS_KTHREAD)
		pinned_account(cctx, task_class == FLEXNET_CLASS_LATENCY, is_pinned(p), ran);
	if (task_class == FLEXNET_CLASS_LATENCY) {
		cctx->higher_used_ns += ran;
		cctx->latency_end_ns = now;
	} else if (task_class != FLEXNET_CLASS_KTHREAD || !p->scx.slice) {
		/* ksoftirqd's moments are no turn of a lower class. */
		cctx->higher_used_ns = 0;
	}
}

static s32 create_queues(void)
{
	s32 cpu, error;

	error = scx_bpf_create_dsq(DSQ_EXECUTOR_LATENCY, -1);
	error = error ?: scx_bpf_create_dsq(DSQ_EXECUTOR_THROUGHPUT, -1);
	error = error ?: scx_bpf_create_dsq(DSQ_GENERAL_LATENCY, -1);
	error = error ?: scx_bpf_create_dsq(DSQ_GENERAL, -1);
	error = error ?: scx_bpf_create_dsq(DSQ_THROTTLED, -1);
	bpf_for(cpu, 0, machine.cpus) {
		if (error)
			break;
		error = scx_bpf_create_dsq(pinned_dsq(cpu), -1);
	}
	return error;
}

/* Both masks, with every CPU general. */
static s32 create_masks(void)
{
	const struct cpumask *online;
	struct bpf_cpumask *mask;
	struct cpu_ctx *cctx;
	s32 cpu;

	mask = bpf_cpumask_create();
	if (!mask)
		return -ENOMEM;
	mask = bpf_kptr_xchg(&granted_cpumask, mask);
	if (mask)
		bpf_cpumask_release(mask);

	mask = bpf_cpumask_create();
	if (!mask)
		return -ENOMEM;
	bpf_for(cpu, 0, machine.cpus)
		bpf_cpumask_set_cpu(cpu, mask);
	mask = bpf_kptr_xchg(&general_cpumask, mask);
	if (mask)
		bpf_cpumask_release(mask);

	online = scx_bpf_get_online_cpumask();
	bpf_for(cpu, 0, machine.cpus) {
		cctx = cpu_ctx_of(cpu);
		if (!cctx)
			continue;
		cctx->current_class = CLASS_NONE;
		cctx->vtime_now = VTIME_START;
		cctx->online = bpf_cpumask_test_cpu(cpu, online);
	}
	scx_bpf_put_cpumask(online);
	return 0;
}

#endif /* FLEXNET_CLASSES_BPF_H */

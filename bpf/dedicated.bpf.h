/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * dedicated.bpf.h - granted cores: which they are, what runs on them, and when
 * that changes.
 *
 * The problem: executors shall have cores of their own exactly while they have
 * work, and the decision must follow load within a few hundred microseconds
 * without a tick on an idle machine.
 *
 * The mechanism: decisions are taken on events (an executor becomes runnable)
 * and in rounds of one bpf_timer, armed while executors are runnable, queues
 * were not empty at the last sample, cores are granted or clients send by
 * themselves for want of cores. A round looks at the active clients only, hands
 * the sums to arbiter.h and acts on its answer.
 *
 * What it promises: one round at a time. An event arms the timer, the first one
 * by compare-and-swap on `timer_armed`; `round_after` may bring it forward. It is
 * cancelled when the kernel detaches the scheduler (flexnet_exit in main.bpf.c). What it leaves
 * to others: the arithmetic (arbiter.h, designs.h), and all that is no executor (general.bpf.h).
 */
#ifndef FLEXNET_DEDICATED_BPF_H
#define FLEXNET_DEDICATED_BPF_H

/* Executors looked at for one that waits in vain, and after how many times
 * settings.starvation_ns a granted core that is not free counts as lost: more
 * than 100 executors taking turns on it do not reach that. */
#define STARVED_SCAN_MAX 64
#define STARVED_TURNS 10

/* Granted CPUs and the rest, for the idle-CPU kfuncs; kept with
 * arbiter.granted_mask. */
private(MASKS) struct bpf_cpumask __kptr *granted_cpumask;
private(MASKS) struct bpf_cpumask __kptr *general_cpumask;

struct flexnet_arbiter_memory arbiter_memory;
static u32 arbiter_busy; /* 1: somebody decides */
static u32 timer_armed;
static u32 timer_rests; /* it is armed for the end of a hold only */
/* Executors' CPU time at the last round, and the part of latency flows. */
static u64 run_ns_seen, latency_run_ns_seen;

static __always_inline bool arbiter_try_lock(void)
{
	return __sync_val_compare_and_swap(&arbiter_busy, 0, 1) == 0;
}

static __always_inline void arbiter_unlock(void)
{
	__sync_lock_test_and_set(&arbiter_busy, 0);
}

/* Moves one CPU between the granted and the general set. */
__noinline int set_granted(s32 cpu, bool granted)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct bpf_cpumask *mask;
	u64 word = (u32)cpu / 64;

	if (!cctx || word >= FLEXNET_CPU_WORDS)
		return 0;
	barrier_var(word);
	WRITE_ONCE(cctx->granted, granted);
	bpf_rcu_read_lock();
	mask = granted_cpumask;
	if (mask) {
		if (granted)
			bpf_cpumask_set_cpu(cpu, mask);
		else
			bpf_cpumask_clear_cpu(cpu, mask);
	}
	mask = general_cpumask;
	if (mask) {
		if (granted)
			bpf_cpumask_clear_cpu(cpu, mask);
		else
			bpf_cpumask_set_cpu(cpu, mask);
	}
	bpf_rcu_read_unlock();
	if (granted)
		__sync_fetch_and_or(&arbiter.granted_mask[word], 1ULL << (cpu & 63));
	else
		__sync_fetch_and_and(&arbiter.granted_mask[word], ~(1ULL << (cpu & 63)));
	return 0;
}

/* The i-th CPU in the order of granting, -1 past its end. */
static __always_inline s32 candidate(u64 i)
{
	if (i >= FLEXNET_CPUS_MAX)
		return -1;
	barrier_var(i);
	return machine.grant_order[i];
}

/* A CPU's last-level cache, -1 where that is unknown. */
static __always_inline s32 llc_of(s32 cpu)
{
	u64 index = (u32)cpu;

	if (index >= FLEXNET_CPUS_MAX)
		return -1;
	barrier_var(index);
	return machine.llc_of[index];
}

/* The next CPU to grant: the first candidate in the order that is not granted,
 * preferring the last-level cache of `near`. -1 when there is none. */
__noinline s32 core_to_grant(s32 near)
{
	s32 best = -1, cache = llc_of(near);
	u32 i;

	bpf_for(i, 0, machine.grant_candidates) {
		s32 cpu = candidate(i);
		struct cpu_ctx *cctx = cpu_ctx_of(cpu);

		if (!cctx || cctx->granted || !cctx->online)
			continue;
		if (llc_of(cpu) == cache)
			return cpu;
		if (best < 0)
			best = cpu;
	}
	return best;
}

/* The CPU to give back: the last granted one in the order, so that what stays
 * granted is packed at the front of it. */
__noinline s32 core_to_reclaim(void)
{
	s32 last = -1;
	u32 i;

	bpf_for(i, 0, machine.grant_candidates) {
		s32 cpu = candidate(i);

		if (cpu_granted(cpu))
			last = cpu;
	}
	return last;
}

static __always_inline void record_transition(const struct flexnet_arbiter_decision *decision,
					      u32 before, u64 now)
{
	struct flexnet_transition *entry =
		&arbiter.transition[arbiter.transitions & (FLEXNET_TRANSITIONS - 1)];

	entry->at_ns = now;
	entry->cause_ns = decision->cause_ns;
	entry->before = before;
	entry->after = arbiter.granted;
	entry->rounds = decision->rounds;
	entry->reason = decision->reason;
	barrier();
	arbiter.transitions++;
}

/* Grants or reclaims one core towards `wanted`; 0 when there is nothing more to
 * do. `near`: a CPU close to whose work it is, or -1; `cause_ns`: since when it
 * is wanted. */
__noinline int move_one_core(u32 wanted, s32 near, u64 cause_ns)
{
	struct cpu_ctx *cctx;
	s32 cpu;

	if (arbiter.granted == wanted)
		return 0;
	if (arbiter.granted < wanted) {
		cpu = core_to_grant(near);
		if (cpu < 0)
			return 0;
		set_granted(cpu, true);
		cctx = cpu_ctx_of(cpu);
		if (cctx)
			grant_begins(cctx, cause_ns);
		trace_core(FLEXNET_TRACE_GRANT, cpu, cause_ns);
		arbiter.granted++;
		arbiter.grants++;
	} else {
		cpu = core_to_reclaim();
		if (cpu < 0)
			return 0;
		set_granted(cpu, false);
		cctx = cpu_ctx_of(cpu);
		if (cctx)
			grant_begins(cctx, 0);
		trace_core(FLEXNET_TRACE_RECLAIM, cpu, 0);
		arbiter.granted--;
		arbiter.reclaims++;
	}
	/* It looks at the queues that are its own now; those it served before
	 * are shared, so nothing is left behind in them. */
	scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
	return 1;
}

static void notify_loader_of_grants(void)
{
	if (machine.steer && __sync_val_compare_and_swap(&arbiter.grants_event_pending, 0, 1) == 0)
		send_event(FLEXNET_EVENT_GRANTS, 0);
}

/* Acts on a decision. Called with the arbiter locked. */
static void apply_decision(const struct flexnet_arbiter_decision *decision, s32 near, u64 now)
{
	u32 before = arbiter.granted;
	u32 i;

	if (decision->cores == before)
		return;
	if (arbiter.granted_since_ns)
		arbiter.granted_core_ns += before * (now - arbiter.granted_since_ns);
	arbiter.granted_since_ns = now;
	bpf_for(i, 0, FLEXNET_CPUS_MAX)
		if (!move_one_core(decision->cores, near, decision->cause_ns))
			break;
	if (arbiter.granted != before)
		record_transition(decision, before, now);
	notify_loader_of_grants();
}

/* What the design that is on says, with the operator's numbers. */
static __always_inline void arbiter_params(struct flexnet_design_params *design_params)
{
	struct flexnet_arbiter_params *params = &design_params->arbiter;

	*design_params = design.params;
	params->objective_ns = settings.objective_ns;
	params->low_mark_ns = settings.low_mark_ns;
	params->interval_ns = settings.interval_ns;
	params->idle_delay_ns = settings.idle_delay_ns;
	params->cores_max = settings.net_cores_max < machine.grant_candidates ?
				    settings.net_cores_max :
				    machine.grant_candidates;
}

/* Claims a CPU to preempt it for a task that waits, once: pile-ups of preemptors on one
 * victim are what the claim is for. It lapses when the CPU switches or after a
 * millisecond, should the kick have hit a task of another class. */
static bool claim_cpu(s32 cpu, u64 now)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	u64 claimed;

	if (!cctx)
		return false;
	claimed = READ_ONCE(cctx->kick_claim_ns);
	if (claimed && now - claimed < 1000000)
		return false;
	if (__sync_val_compare_and_swap(&cctx->kick_claim_ns, claimed, now) != claimed)
		return false;
	stat_add(preemptions, 1);
	trace_core(FLEXNET_TRACE_PREEMPT, cpu, 0);
	return true;
}

static bool preempt_cpu(s32 cpu, u64 now)
{
	if (!claim_cpu(cpu, now))
		return false;
	scx_bpf_kick_cpu(cpu, SCX_KICK_PREEMPT);
	return true;
}

static void timer_arm(void)
{
	struct round_timer *timer;
	u32 zero = 0;

	if (READ_ONCE(timer_armed) || __sync_val_compare_and_swap(&timer_armed, 0, 1) != 0)
		return;
	timer = bpf_map_lookup_elem(&round_timers, &zero);
	/* 7.x may refuse with -ENOMEM: the next event tries again. */
	if (!timer || bpf_timer_start(&timer->timer, settings.interval_ns, 0))
		__sync_lock_test_and_set(&timer_armed, 0);
	else
		__sync_fetch_and_add(&arbiter.timer_starts, 1);
}

/* The rule for cores. Not static: what follows its many paths is verified once. */
__noinline int design_round(const struct flexnet_design_params *params __arg_nonnull,
			    const struct flexnet_arbiter_sample *sample __arg_nonnull,
			    struct flexnet_arbiter_memory *memory __arg_nonnull,
			    struct flexnet_arbiter_decision *decision __arg_nonnull)
{
	flexnet_design_round(params, sample, memory, decision);
	return 0;
}

/* General tasks that wait for a CPU, where the design asks. */
static __always_inline u32 tasks_waiting(void)
{
	s32 waiting = queued(DSQ_GENERAL);

	return design.params.design == FLEXNET_DESIGN_FLEXNET && waiting > 0 ? waiting : 0;
}

/* Grants the first core to work that has none. */
__noinline int grant_first_core(s32 near, bool latency)
{
	struct flexnet_design_params params;
	struct flexnet_arbiter_decision decision = {};
	struct flexnet_arbiter_sample sample = {};

	if (!arbiter_try_lock())
		return 0;
	if (!arbiter.granted) {
		arbiter_params(&params);
		sample.now_ns = bpf_ktime_get_ns(); /* as in the rounds */
		sample.runnable = 1;
		sample.latency_runnable = latency;
		sample.waiting = tasks_waiting();
		/* The next round counts from here. */
		run_ns_seen = READ_ONCE(executors_run_ns);
		latency_run_ns_seen = READ_ONCE(latency_executors_run_ns);
		design_round(&params, &sample, &arbiter_memory, &decision);
		apply_decision(&decision, near, sample.now_ns);
	}
	arbiter_unlock();
	return 0;
}

/* Work of a client that holds no core claims one at once. */
__noinline int claim_first_core(u32 client)
{
	if (!arbiter_try_lock())
		return 0;
	claim_cores(client, 1, 0);
	arbiter_unlock();
	return 0;
}

/* A round after this time, instead of when the timer is due. */
static void round_after(u64 ns)
{
	struct round_timer *timer;
	u32 zero = 0;

	timer = bpf_map_lookup_elem(&round_timers, &zero);
	if (timer && !bpf_timer_start(&timer->timer, ns, 0))
		WRITE_ONCE(timer_armed, 1);
}

/* The class of its flows is its process' to say, at any time. */
static __always_inline void refresh_flow_class(struct task_ctx *tctx)
{
	struct flexnet_page *page = page_of(tctx->client);
	struct flexnet_executor *executor = page ? page_executor(page, tctx->slot) : NULL;

	if (executor && !is_kernel_client(tctx->client))
		tctx->flow_class = executor_flow_class(executor);
}

/* An executor became runnable. Grants the first core at once; rounds do all else. */
static __always_inline void executor_woke(struct task_ctx *tctx, u32 index, s32 near)
{
	struct executor_ctx *ectx = executor_ctx_of(index);
	u32 client = tctx->client;
	u64 bit = 1ULL << (client & 63);
	bool latency;

	refresh_flow_class(tctx);
	latency = tctx->flow_class == FLEXNET_FLOW_LATENCY;
	if (ectx) {
		ectx->flow_class = tctx->flow_class;
		WRITE_ONCE(ectx->runnable, 1);
	}
	if (!(READ_ONCE(active_clients) & bit))
		__sync_fetch_and_or(&active_clients, bit);
	timer_arm();
	if (READ_ONCE(timer_rests) && latency) {
		WRITE_ONCE(timer_rests, 0);
		round_after(settings.interval_ns);
	}
	if (!READ_ONCE(arbiter.granted) && settings.net_cores_max &&
	    (latency || arbiter.saturated != FLEXNET_SATURATED_ALL))
		grant_first_core(near, latency);
	else if (flexnet_design_is_eager(&design.params) &&
		 arbiter.granted < settings.net_cores_max)
		round_after(0);
	if (!holds_core(client))
		claim_first_core(client);
}

/* Is it one of its own process that wakes it from this CPU, as a general task on it? Such a
 * one is about to hand over more: preempted at each message, it would have every
 * one sent by itself, for two switches. The executor is next when it sleeps, and
 * takes the core back in the next round if it does not. */
static __always_inline bool submitter_here(struct task_struct *p, s32 cpu)
{
	return cpu == (s32)bpf_get_smp_processor_id() &&
	       bpf_get_current_task_btf()->tgid == p->tgid;
}

/* Does a latency task that a granted core is lent to keep it for now? Throughput flows can wait for
 * the end of its slice; it cannot wait for theirs. */
static __always_inline bool borrower_stays(struct cpu_ctx *cctx, u32 flow_class, u64 now)
{
	u64 start = cctx->latency_start_ns;

	return flow_class == FLEXNET_FLOW_THROUGHPUT && start &&
	       cctx->current_class == FLEXNET_CLASS_LATENCY &&
	       now < start + settings.latency_slice_ns;
}

/* Where a waking executor should go at once: an idle granted core, else a lent one or a lower class's. */
__noinline s32 granted_core_for(struct task_struct *p __arg_trusted, u32 flow_class, u64 now,
				bool *idle __arg_nonnull)
{
	struct bpf_cpumask *mask;
	s32 cpu = -1;
	u32 i;

	*idle = false;
	bpf_rcu_read_lock();
	mask = granted_cpumask;
	if (mask)
		cpu = scx_bpf_pick_idle_cpu(cast_mask(mask), 0);
	bpf_rcu_read_unlock();
	if (cpu >= 0 && bpf_cpumask_test_cpu(cpu, p->cpus_ptr)) {
		*idle = true;
		return cpu;
	}
	bpf_for(i, 0, machine.grant_candidates) {
		struct cpu_ctx *cctx;

		cpu = candidate(i);
		cctx = cpu_ctx_of(cpu);
		if (!cctx || !cctx->granted || !bpf_cpumask_test_cpu(cpu, p->cpus_ptr))
			continue;
		/* The turn of others, until the budget is whole again. */
		if (quanta_spent(cctx, 0, now))
			continue;
		/* Between two tasks it looks at the queue by itself. */
		if (cctx->current_class != FLEXNET_CLASS_EXECUTOR &&
		    cctx->current_class != FLEXNET_CLASS_KTHREAD &&
		    cctx->current_class != CLASS_NONE) {
			if (submitter_here(p, cpu) || borrower_stays(cctx, flow_class, now))
				continue;
			return cpu;
		}
		if (flow_class == FLEXNET_FLOW_LATENCY && cctx->executor) {
			struct executor_ctx *running = executor_ctx_of(cctx->executor - 1);

			if (running && running->flow_class == FLEXNET_FLOW_THROUGHPUT)
				return cpu;
		}
	}
	return -1;
}

/* Is any granted core in this task's affinity? */
static __always_inline bool may_run_granted(struct task_struct *p)
{
	struct bpf_cpumask *mask;
	bool ret = false;

	if (!READ_ONCE(arbiter.granted))
		return false;
	bpf_rcu_read_lock();
	mask = granted_cpumask;
	if (mask)
		ret = bpf_cpumask_intersects(cast_mask(mask), p->cpus_ptr);
	bpf_rcu_read_unlock();
	return ret;
}

/* Puts a runnable executor into the queue of its flow class, by its client's virtual time. */
static void enqueue_executor(struct task_struct *p, struct task_ctx *tctx, u64 enq_flags, u64 now)
{
	u64 *vtime = client_vtime_of(tctx->client), dsq;
	bool idle;
	s32 cpu;

	waits_in(tctx, FLEXNET_QUEUE_EXECUTOR);
	dsq = tctx->flow_class == FLEXNET_FLOW_LATENCY ? DSQ_EXECUTOR_LATENCY :
							 DSQ_EXECUTOR_THROUGHPUT;
	if (vtime)
		*vtime = flexnet_wakeup_vtime(*vtime, executor_vtime_now, settings.quantum_ns);
	queue_used(dsq);
	scx_bpf_dsq_insert_vtime(p, dsq, settings.slice_ns, vtime ? *vtime : 0, enq_flags);
	cpu = granted_core_for(p, tctx->flow_class, now, &idle);
	if (cpu < 0) {
		/* A general core with nothing to do serves it meanwhile. */
		cpu = scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
		idle = true;
	}
	if (cpu < 0)
		return;
	if (idle) {
		stat_add(kicks, 1);
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
	} else if (preempt_cpu(cpu, now)) {
		stat_add(takebacks, 1);
	}
}

/* Serves, on a general core, an executor that waits for a granted one in vain: the only one in its
 * affinity was given back, or a real-time task holds it. */
__noinline int serve_starved_executor(s32 cpu, u64 dsq, u64 now)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct bpf_cpumask *granted;
	struct task_struct *p;
	struct task_ctx *tctx;
	bool moved = false;

	if (!cctx || queued(dsq) <= 0)
		return false;
	cctx->scanned = 0;
	bpf_rcu_read_lock();
	granted = granted_cpumask;
	bpf_for_each(scx_dsq, p, dsq, 0) {
		if (cctx->scanned++ >= STARVED_SCAN_MAX)
			break;
		tctx = task_ctx_of(p);
		if (!tctx || !granted || !bpf_cpumask_test_cpu(cpu, p->cpus_ptr))
			continue;
		if (bpf_cpumask_intersects(cast_mask(granted), p->cpus_ptr) &&
		    (now < tctx->enqueued_ns ||
		     now - tctx->enqueued_ns < STARVED_TURNS * settings.starvation_ns))
			continue;
		moved = scx_bpf_dsq_move(BPF_FOR_EACH_ITER, p, SCX_DSQ_LOCAL_ON | cpu, 0);
		break;
	}
	bpf_rcu_read_unlock();
	if (moved)
		stat_add(anti_starvation, 1);
	return moved;
}

/* Have latency flows had their budget on this core, with what one of their executors has run since?
 * Then throughput flows that wait have a turn: a client that calls all its flows latency must not
 * starve the others. */
static __always_inline bool latency_budget_spent(struct cpu_ctx *cctx, u64 ran)
{
	return flexnet_lower_class_first(cctx->latency_used_ns + ran, 4 * settings.quantum_ns,
					 queued(DSQ_EXECUTOR_THROUGHPUT) > 0);
}

/* Does the executor whose turn on a granted core is over have another, since by its client's weight
 * it is still behind those that wait? The kernel queues it only after the CPU has looked for its next
 * task: without this, two would take turns whatever their weights and flow classes. */
static bool executor_stays(s32 cpu, struct cpu_ctx *cctx, struct task_struct *prev, u64 now)
{
	struct flexnet_client_state *client;
	struct flexnet_executor *executor;
	struct flexnet_page *page;
	struct task_ctx *tctx;
	u64 ran, first, *vtime;
	bool latency;
	s32 others;

	if (!prev || !(prev->scx.flags & SCX_TASK_QUEUED) ||
	    !bpf_cpumask_test_cpu(cpu, prev->cpus_ptr))
		return false;
	tctx = task_ctx_of(prev);
	if (!tctx || class_of(tctx) != FLEXNET_CLASS_EXECUTOR || !is_ahead(tctx))
		return false;
	client = client_of(tctx->client);
	page = page_of(tctx->client);
	vtime = client_vtime_of(tctx->client);
	executor = page ? page_executor(page, tctx->slot) : NULL;
	if (!client || !vtime || !executor)
		return false;
	latency = tctx->flow_class == FLEXNET_FLOW_LATENCY;
	if (!client->ifindex && executor_flow_class(executor) != tctx->flow_class)
		return false;
	ran = turn_run_ns(tctx, now);
	others = queued(latency ? DSQ_EXECUTOR_THROUGHPUT : DSQ_EXECUTOR_LATENCY);
	if (others > 0 && (!latency || latency_budget_spent(cctx, ran)))
		return false;
	first = first_vtime(latency ? DSQ_EXECUTOR_LATENCY : DSQ_EXECUTOR_THROUGHPUT);
	if (first == ~0ULL ?
		    !others :
		    *vtime + flexnet_scale_by_weight(ran, client_weight(client, page)) >= first)
		return false;
	executor_goes_on(tctx, now);
	/* The client that claimed the core has been looked at. */
	cctx->kick_claim_ns = 0;
	prev->scx.slice = settings.slice_ns;
	return true;
}

/* Serves executors on a CPU; true when one was moved to it. */
static bool dispatch_executors(struct cpu_ctx *cctx)
{
	u64 first = DSQ_EXECUTOR_LATENCY, second = DSQ_EXECUTOR_THROUGHPUT;

	if (latency_budget_spent(cctx, 0)) {
		first = DSQ_EXECUTOR_THROUGHPUT;
		second = DSQ_EXECUTOR_LATENCY;
	}
	if (scx_bpf_dsq_move_to_local(first, 0))
		return true;
	return scx_bpf_dsq_move_to_local(second, 0);
}

#endif /* FLEXNET_DEDICATED_BPF_H */

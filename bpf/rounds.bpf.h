/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * rounds.bpf.h - the arbiter's rounds: look at the active clients, decide, tell.
 *
 * A round runs in the bpf_timer's callback. It reads depth and age of every
 * active client's queues, has arbiter.h decide, publishes to the pages, raises
 * and enforces preemption flags, and looks after tasks a higher class kept
 * waiting. It arms itself again while there is something to look at, with the
 * race against a late arrival closed by looking once more after disarming.
 */
#ifndef FLEXNET_ROUNDS_BPF_H
#define FLEXNET_ROUNDS_BPF_H

/* What a round adds up over clients. */
struct round_sum {
	u64 delay_ns;
	u64 depth;
	u64 run_ns;
	u32 runnable;
	s32 near;
};

/* Adds one executor; returns 1 when its thread may run or runs. */
static int look_at_executor(struct flexnet_page *page, u32 client, u32 slot, u64 now,
			    struct flexnet_client_state *state, struct round_sum *sum, bool *parked)
{
	struct executor_ctx *ectx = executor_ctx_of(client * FLEXNET_EXECUTORS_MAX + slot);
	struct flexnet_executor *executor = page_executor(page, slot);
	u64 depth, age, start;

	if (!ectx || !executor || !ectx->registered)
		return 0;
	depth = executor_look(executor, now, &age);
	state->depth += depth;
	sum->depth += depth;
	if (age > state->delay_ns)
		state->delay_ns = age;
	if (depth && READ_ONCE(executor->own.state) != FLEXNET_EXECUTOR_PARKED)
		*parked = false;
	if (!READ_ONCE(ectx->runnable))
		return 0;
	/* Delay that another core could lower: somebody runnable has it. */
	if (age > sum->delay_ns)
		sum->delay_ns = age;
	sum->runnable++;
	start = ectx->run_start_ns;
	if (ectx->cpu >= 0) {
		sum->near = ectx->cpu;
		if (start && now > start)
			sum->run_ns += now - start;
	}
	return 1;
}

/* Asks a client's surplus executors to park: the ones with the highest slots,
 * whose work the others then take. Never all of them. */
static void publish_parks(struct flexnet_page *page, u32 client, u32 wanted, u64 now)
{
	u32 slot, running = 0;

	bpf_for(slot, 0, FLEXNET_EXECUTORS_MAX) {
		struct executor_ctx *ectx = executor_ctx_of(client * FLEXNET_EXECUTORS_MAX + slot);
		struct flexnet_executor *executor = page_executor(page, slot);
		u32 park;

		if (!ectx || !executor || !ectx->registered)
			continue;
		park = ectx->runnable && running >= wanted;
		if (ectx->runnable)
			running++;
		if (READ_ONCE(executor->sched.park_request) != park)
			WRITE_ONCE(executor->sched.park_request, park);
	}
}

static void look_at_client(u32 id, u64 now, struct round_sum *sum)
{
	struct flexnet_client_state *state = client_of(id);
	struct flexnet_page *page = page_of(id);
	u32 slot, runnable = 0, wanted;
	bool parked = true;
	u64 bit = 1ULL << (id & 63);

	if (!state || !page || !(state->generation & 1)) {
		__sync_fetch_and_and(&active_clients, ~bit);
		return;
	}
	state->depth = 0;
	state->delay_ns = 0;
	bpf_for(slot, 0, FLEXNET_EXECUTORS_MAX)
		runnable += look_at_executor(page, id, slot, now, state, sum, &parked);
	wanted = flexnet_executors_wanted(runnable ? state->executors : 1, arbiter.granted);
	publish_grant(id, state, page, wanted, arbiter.granted, false);
	publish_parks(page, id, wanted, now);
	if (runnable)
		return;
	if (!state->depth) {
		__sync_fetch_and_and(&active_clients, ~bit);
		return;
	}
	/* Work, and all who could do it are parked: only the client's own
	 * process can wake them, so the loader rings its doorbell. */
	if (parked && now - state->bell_ns > 1000000) {
		state->bell_ns = now;
		send_event(FLEXNET_EVENT_DOORBELL, id);
	}
}

/* Raises the flag of an executor whose quantum is over while others wait for
 * its core, and kicks one that ignored it. */
static void enforce_quantum(s32 cpu, struct cpu_ctx *cctx, u64 now)
{
	u32 index = cctx->executor;
	struct executor_ctx *ectx;
	struct flexnet_executor *executor;
	struct flexnet_page *page;

	if (!index)
		return;
	index--;
	ectx = executor_ctx_of(index);
	if (!ectx)
		return;
	switch (flexnet_preempt_step(now, ectx->run_start_ns, ectx->flagged_ns, settings.quantum_ns,
				     settings.grace_ns)) {
	case FLEXNET_PREEMPT_FLAG:
		page = page_of(index / FLEXNET_EXECUTORS_MAX);
		executor = page ? page_executor(page, index % FLEXNET_EXECUTORS_MAX) : NULL;
		if (executor)
			WRITE_ONCE(executor->sched.quantum_expired, 1);
		ectx->flagged_ns = now;
		stat_add(flags_raised, 1);
		break;
	case FLEXNET_PREEMPT_KICK:
		if (preempt_cpu(cpu, now))
			stat_add(flag_kicks, 1);
		break;
	}
}

/* Granted cores: quanta where executors wait, takeback of lent cores, and the
 * turn of general tasks that can run nowhere else. */
static void look_at_granted_cores(u64 now)
{
	u32 waiting = scx_bpf_dsq_nr_queued(DSQ_EXECUTOR_LATENCY) +
		      scx_bpf_dsq_nr_queued(DSQ_EXECUTOR_THROUGHPUT);
	u32 i;

	bpf_for(i, 0, settings.grant_candidates) {
		struct cpu_ctx *cctx;
		s32 cpu;

		if (i >= FLEXNET_CPUS_MAX)
			break;
		cpu = settings.grant_order[i];
		cctx = cpu_ctx_of(cpu);
		if (!cctx || !cctx->granted)
			continue;
		if (waiting && cctx->executor)
			enforce_quantum(cpu, cctx, now);
		else if (waiting && cctx->current_class == CLASS_NONE)
			scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
		else if (waiting && cctx->current_class != FLEXNET_CLASS_KTHREAD &&
			 preempt_cpu(cpu, now))
			stat_add(takebacks, 1);
		if (now - cctx->guest_turn_ns > settings.starvation_ns &&
		    (scx_bpf_dsq_nr_queued(pinned_dsq(cpu)) || scx_bpf_dsq_nr_queued(DSQ_GENERAL) ||
		     scx_bpf_dsq_nr_queued(DSQ_GENERAL_LATENCY)))
			preempt_cpu(cpu, now);
	}
}

/* One round; true while there is reason for another. */
static bool arbiter_look(u64 now)
{
	struct flexnet_arbiter_params params;
	struct flexnet_arbiter_decision decision = {};
	struct flexnet_arbiter_look look = {};
	struct round_sum sum = { .near = -1 };
	u64 seen, active = READ_ONCE(active_clients);
	u32 id;

	bpf_for(id, 0, FLEXNET_CLIENTS_MAX)
		if (active & (1ULL << id))
			look_at_client(id, now, &sum);
	sum.run_ns += READ_ONCE(executors_run_ns);
	seen = run_ns_seen;
	run_ns_seen = sum.run_ns;

	arbiter_params(&params);
	look.now_ns = now;
	look.delay_ns = sum.delay_ns;
	look.depth = sum.depth;
	look.runnable = sum.runnable;
	look.granted = arbiter.granted;
	look.busy_ns = sum.run_ns > seen ? sum.run_ns - seen : 0;
	flexnet_arbiter_round(&params, &look, &arbiter_memory, &decision);
	apply_decision(&decision, sum.near, now);
	arbiter.rounds++;
	return sum.runnable || sum.depth || arbiter.granted;
}

static int round_fires(void *map, int *key, struct round_timer *timer)
{
	u64 now = scx_bpf_now();
	bool more = true;

	stat_add(timer_fires, 1);
	if (arbiter_try_lock()) {
		more = arbiter_look(now);
		look_at_granted_cores(now);
		arbiter_unlock();
	}
	if (more &&
	    !bpf_timer_start(&timer->timer,
			     flexnet_next_round(&(struct flexnet_arbiter_params){
							.interval_ns = settings.interval_ns },
						&arbiter_memory),
			     0))
		return 0;
	__sync_lock_test_and_set(&timer_armed, 0);
	/* Somebody may have become runnable after the look and have seen the
	 * timer armed: look once more, now that he would arm it. */
	if (READ_ONCE(active_clients))
		timer_arm();
	return 0;
}

#endif /* FLEXNET_ROUNDS_BPF_H */

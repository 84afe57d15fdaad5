/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * rounds.bpf.h - the arbiter's rounds: sample the active clients, decide, publish.
 *
 * A round runs in the bpf_timer's callback. It samples depth and age of the queues of each active
 * client. arbiter.h decides. The round publishes to the pages, raises and enforces preemption
 * flags, and serves tasks that a higher class kept waiting. The timer runs while there is something
 * to sample. After the round stops the timer it samples once more, so that no late arrival is
 * missed.
 */
#ifndef FLEXNET_ROUNDS_BPF_H
#define FLEXNET_ROUNDS_BPF_H

/* Rounds with nothing to do but to await the end of a hold. */
#define SATURATED_ROUND_NS 10000000

/*
 * What a round adds up; written by the CPU that holds the arbiter. The functions below
 * take plain numbers and are not static: so the verifier checks each once, not
 * once for every turn of the loops around them.
 */
struct round_sum {
	u64 delay_ns;
	u64 latency_delay_ns;
	u64 depth;
	u64 run_ns;
	u64 latency_run_ns;
	u32 runnable;
	u32 latency_runnable;
	u32 throughput_clients;
	u32 without_cpu; /* executors with throughput flows that wait for a CPU */
	u32 carried;	 /* executors that cores are left for, of the clients looked at */
	s32 near;
	/* Of the client that is looked at. */
	u32 client_runnable;
	u32 client_kept;       /* of these, asked to go on running */
	u32 client_awake;      /* executors with work that are not parked */
	u32 client_throughput; /* executors with throughput flows */
};
struct round_sum round_sum; /* not static: the compiler would split it under its type */

/* Adds one executor to the sums. */
__noinline int sample_executor(u32 client, u32 slot, u64 now)
{
	struct executor_ctx *ectx = executor_ctx_of(client * FLEXNET_EXECUTORS_MAX + slot);
	struct flexnet_client_state *state = client_of(client);
	struct flexnet_page *page = page_of(client);
	struct flexnet_executor *executor = page ? page_executor(page, slot) : NULL;
	u64 depth, age, start;
	bool latency;

	if (!ectx || !executor || !state || !ectx->registered)
		return 0;
	latency = ectx->flow_class == FLEXNET_FLOW_LATENCY;
	if (!latency)
		round_sum.client_throughput++;
	depth = state->ifindex ? napi_sample(ectx, &age) : executor_sample(executor, &age);
	state->depth += depth;
	round_sum.depth += depth;
	if (age)
		count_time(FLEXNET_HISTOGRAM_QUEUE_DELAY, age);
	if (age > state->delay_ns)
		state->delay_ns = age;
	if (depth && READ_ONCE(executor->own.state) != FLEXNET_EXECUTOR_PARKED)
		round_sum.client_awake++;
	if (!READ_ONCE(ectx->runnable))
		return 0;
	/* Delay that another core could lower: somebody runnable has it. */
	if (age > round_sum.delay_ns)
		round_sum.delay_ns = age;
	if (latency && age > round_sum.latency_delay_ns)
		round_sum.latency_delay_ns = age;
	round_sum.runnable++;
	round_sum.latency_runnable += latency;
	round_sum.client_runnable++;
	if (!latency && ectx->cpu < 0)
		round_sum.without_cpu++;
	start = ectx->run_start_ns;
	if (ectx->cpu >= 0) {
		round_sum.near = ectx->cpu;
		if (start && now > start) {
			round_sum.run_ns += now - start;
			if (latency)
				round_sum.latency_run_ns += now - start;
		}
	}
	return 0;
}

/* Asks an executor to park when as many of lower slots as are wanted run: its
 * work is then theirs to take. */
__noinline int publish_park(u32 client, u32 slot, u32 wanted)
{
	struct executor_ctx *ectx = executor_ctx_of(client * FLEXNET_EXECUTORS_MAX + slot);
	struct flexnet_page *page = page_of(client);
	struct flexnet_executor *executor = page ? page_executor(page, slot) : NULL;
	struct flexnet_client_state *state = client_of(client);
	u32 park = 0;

	if (!ectx || !executor || !state || !ectx->registered)
		return 0;
	if (READ_ONCE(ectx->runnable))
		park = round_sum.client_kept++ >= wanted;
	if (park)
		state->asked_parks = 1;
	if (ectx->park_asked != park) {
		ectx->park_asked = park;
		WRITE_ONCE(executor->sched.park_request, park);
	}
	return 0;
}

/* Clients that were told that the cores are too few for their executors, a bit each. */
static u64 excess_clients;

/* What a client's page says of saturation. Cores carry the executors of the clients that are looked
 * at first, and those of the rest send by themselves, until all may try again. */
static __always_inline u32 client_saturated(u32 id)
{
	u64 bit = 1ULL << (id & 63);

	if (arbiter.saturated != FLEXNET_SATURATED_EXCESS) {
		excess_clients &= ~bit;
		return arbiter.saturated == FLEXNET_SATURATED_ALL &&
		       round_sum.client_throughput > 0;
	}
	if (excess_clients & bit)
		return 1;
	if (round_sum.carried && round_sum.client_runnable &&
	    round_sum.carried + round_sum.client_runnable > arbiter.granted) {
		excess_clients |= bit;
		return 1;
	}
	round_sum.carried += round_sum.client_runnable;
	return 0;
}

__noinline int sample_client(u32 id, u64 now)
{
	struct flexnet_design_params params;
	struct flexnet_client_state *state = client_of(id);
	struct flexnet_page *page = page_of(id);
	u64 bit = 1ULL << (id & 63);
	u32 slot, slots, wanted, cores, most;

	if (!state || !page || !(state->generation & 1)) {
		__sync_fetch_and_and(&active_clients, ~bit);
		return 0;
	}
	state->depth = 0;
	state->delay_ns = 0;
	round_sum.client_runnable = 0;
	round_sum.client_kept = 0;
	round_sum.client_awake = 0;
	round_sum.client_throughput = 0;
	slots = state->slots;
	bpf_for(slot, 0, slots)
		sample_executor(id, slot, now);
	round_sum.throughput_clients += round_sum.client_throughput > 0;
	arbiter_params(&params);
	cores = arbiter.granted;
	if (flexnet_design_claims(&params)) {
		claim_cores(id, round_sum.client_runnable, state->delay_ns);
		cores = state->cores;
	}
	cores = flexnet_design_awake(&params, cores, state->delay_ns);
	most = client_max_cores(state, page);
	if (cores > most)
		cores = most;
	wanted = flexnet_executors_wanted(round_sum.client_runnable ? state->executors : 1, cores);
	publish_grant(id, state, page, wanted, arbiter.granted, client_saturated(id), false);
	/* The kernel's threads know no wish: they sleep when there is no packet. */
	if (slots > 1 && !state->ifindex)
		bpf_for(slot, 0, slots)
			publish_park(id, slot, wanted);
	if (round_sum.client_runnable)
		return 0;
	if (!state->depth) {
		/* A client that was asked to send by itself must be told of the end, too. */
		if (state->saturated)
			return 0;
		__sync_fetch_and_and(&active_clients, ~bit);
		return 0;
	}
	/* Work, and all executors for it are parked, some because we asked for
	 * it: only the client's own process can wake them, so the loader rings
	 * its doorbell. (Submitters wake those that parked by themselves.) */
	if (state->asked_parks && !round_sum.client_awake && now - state->bell_ns > 1000000) {
		state->bell_ns = now;
		state->asked_parks = 0;
		send_event(FLEXNET_EVENT_DOORBELL, id);
	}
	return 0;
}

/* An executor's turn while others wait for its core. */
static __always_inline u64 executor_quantum(void)
{
	return design.quantum_ns ? design.quantum_ns : settings.quantum_ns;
}

/* Raises the flag of an executor whose quantum is over while others wait for
 * its core, and kicks one that ignored it. */
static __always_inline void enforce_quantum(s32 cpu, u32 index, u64 quantum_ns, u64 now)
{
	struct executor_ctx *ectx = executor_ctx_of(index);
	struct flexnet_executor *executor;
	struct flexnet_page *page;

	if (!ectx)
		return;
	switch (flexnet_preempt_step(now, ectx->quantum_start_ns, ectx->flagged_ns, quantum_ns,
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

/* The executor on a granted core: whose client has lost it to another gives it
 * up, and so does, to ordinary tasks, one whose budget is spent. */
static __always_inline void check_running_executor(s32 cpu, struct cpu_ctx *cctx, u32 index,
						   u32 waiting, u64 now)
{
	struct executor_ctx *ectx = executor_ctx_of(index);

	if (!ectx)
		return;
	if (waiting && !holds_core(index / FLEXNET_EXECUTORS_MAX))
		enforce_quantum(cpu, index, 0, now);
	else if (quanta_spent(cctx, ectx->run_start_ns, now) && general_task_waits(cpu))
		enforce_quantum(cpu, index, 0, now);
	else if (waiting)
		enforce_quantum(cpu, index, executor_quantum(), now);
}

/* One granted core: its quantum where executors wait, its takeback where it is
 * lent, and the turn of general tasks that can run nowhere else. */
__noinline int check_granted_core(s32 cpu, u32 waiting, u32 flow_class, u64 now)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	u32 executor;

	if (!cctx || !cctx->granted)
		return 0;
	executor = cctx->executor;
	if (executor)
		check_running_executor(cpu, cctx, executor - 1, waiting, now);
	else if (waiting && cctx->current_class == CLASS_NONE)
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
	else if (waiting && cctx->current_class != FLEXNET_CLASS_KTHREAD &&
		 !quanta_spent(cctx, 0, now) && !borrower_stays(cctx, flow_class, now) &&
		 preempt_cpu(cpu, now))
		stat_add(takebacks, 1);
	if (now - cctx->general_served_ns > settings.starvation_ns &&
	    (queued(pinned_dsq(cpu)) || queued(DSQ_GENERAL) || queued(DSQ_GENERAL_LATENCY)))
		preempt_cpu(cpu, now);
	return 0;
}

static __always_inline void check_granted_cores(u64 now)
{
	u32 latency = queued(DSQ_EXECUTOR_LATENCY);
	u32 waiting = latency + queued(DSQ_EXECUTOR_THROUGHPUT);
	u32 flow_class = latency ? FLEXNET_FLOW_LATENCY : FLEXNET_FLOW_THROUGHPUT;
	u32 i;

	bpf_for(i, 0, machine.grant_candidates)
		check_granted_core(candidate(i), waiting, flow_class, now);
}

/* Has any core nothing to do? */
static bool any_core_idle(void)
{
	const struct cpumask *idle = scx_bpf_get_idle_cpumask();
	bool any = !bpf_cpumask_empty(idle);

	scx_bpf_put_idle_cpumask(idle);
	return any;
}

/* What a loaded core rule sees and keeps. Not static, as round_sum. */
struct flexnet_rule_round rule_round;

/*
 * The place of a loaded core rule: an extension program replaces this function while
 * rounds call it (src/loaded.rs). The stub has no answer. Its result is not known here: the
 * compiler must not see through it.
 */
__noinline int loaded_core_rule(struct flexnet_rule_round *round __arg_nonnull)
{
	int answer = FLEXNET_NO_ANSWER;

	barrier_var(answer);
	return answer;
}

/* Puts the answer of the loaded rule, if it has one, in the place of a decision. */
__noinline int ask_loaded_rule(const struct flexnet_design_params *params __arg_nonnull,
			       const struct flexnet_arbiter_sample *sample __arg_nonnull,
			       struct flexnet_arbiter_decision *decision __arg_nonnull,
			       u64 before_ns, s32 last)
{
	flexnet_rule_sees(&rule_round, &params->arbiter, sample, &arbiter_memory, before_ns);
	if (flexnet_rule_decides(loaded_core_rule(&rule_round), last, &params->arbiter, sample,
				 &arbiter_memory, decision))
		arbiter.rule_rounds++;
	else
		arbiter.rule_refused++;
	return 0;
}

/* One round; 1 while there is reason for another. */
__noinline int arbiter_sample(u64 now)
{
	struct flexnet_design_params params;
	struct flexnet_arbiter_decision decision = {};
	struct flexnet_arbiter_sample sample = {};
	u64 seen, latency_seen, active = READ_ONCE(active_clients);
	u32 id, saturated, executors;
	u64 before_ns;
	s32 last;

	round_sum = (struct round_sum){
		.near = -1,
		.run_ns = READ_ONCE(executors_run_ns),
		.latency_run_ns = READ_ONCE(latency_executors_run_ns),
	};
	bpf_for(id, 0, FLEXNET_CLIENTS_MAX)
		if (active & (1ULL << id))
			sample_client(id, now);
	seen = run_ns_seen;
	run_ns_seen = round_sum.run_ns;
	latency_seen = latency_run_ns_seen;
	latency_run_ns_seen = round_sum.latency_run_ns;

	arbiter_params(&params);
	/* The arbiter's times are told to others: CLOCK_MONOTONIC. */
	sample.now_ns = bpf_ktime_get_ns();
	sample.delay_ns = round_sum.delay_ns;
	sample.latency_delay_ns = round_sum.latency_delay_ns;
	sample.depth = round_sum.depth;
	sample.runnable = round_sum.runnable;
	sample.latency_runnable = round_sum.latency_runnable;
	sample.throughput_clients = round_sum.throughput_clients;
	/* These wait among the general tasks, but for those that wait for a granted core. */
	executors = queued(DSQ_EXECUTOR_THROUGHPUT);
	executors = round_sum.without_cpu > executors ? round_sum.without_cpu - executors : 0;
	sample.waiting = tasks_waiting();
	sample.waiting -= executors < sample.waiting ? executors : sample.waiting;
	sample.granted = arbiter.granted;
	sample.idle = arbiter.saturated && any_core_idle();
	sample.busy_ns = round_sum.run_ns > seen ? round_sum.run_ns - seen : 0;
	sample.latency_busy_ns = round_sum.latency_run_ns > latency_seen ?
					 round_sum.latency_run_ns - latency_seen :
					 0;
	before_ns = arbiter_memory.round_ns;
	last = flexnet_last_direction(&params.arbiter, &sample, &arbiter_memory);
	design_round(&params, &sample, &arbiter_memory, &decision);
	if (design.loaded)
		ask_loaded_rule(&params, &sample, &decision, before_ns, last);
	apply_decision(&decision, round_sum.near, sample.now_ns);
	if (flexnet_design_claims(&params))
		settle_claims();
	/* No client is left that was told. */
	if (!READ_ONCE(active_clients))
		arbiter_memory.saturated_ns = 0;
	saturated = flexnet_is_saturated(&params.arbiter, &sample, &arbiter_memory);
	if (saturated != arbiter.saturated) {
		arbiter.saturated = saturated;
		notify_loader_of_grants();
	}
	arbiter.rounds++;
	return sample.runnable || sample.depth || arbiter.granted;
}

static int round_fires(void *map, int *key, struct round_timer *timer)
{
	u64 now = scx_bpf_now(), next;
	bool more = true;

	if (READ_ONCE(detached))
		return 0;
	stat_add(timer_fires, 1);
	if (arbiter_try_lock()) {
		more = arbiter_sample(now);
		check_granted_cores(now);
		arbiter_unlock();
	}
	next = flexnet_next_round(
		&(struct flexnet_arbiter_params){ .interval_ns = settings.interval_ns },
		&arbiter_memory);
	/* Budgets are kept by rounds. */
	if (flexnet_quanta_limited(&design.params) && next > settings.interval_ns)
		next = settings.interval_ns;
	/* Only the clients' word that cores are saturated is left to take back. */
	if (!more)
		next = SATURATED_ROUND_NS;
	WRITE_ONCE(timer_rests, !more);
	if ((more || arbiter.saturated) && !bpf_timer_start(&timer->timer, next, 0))
		return 0;
	__sync_lock_test_and_set(&timer_armed, 0);
	/* Somebody may have become runnable after the look and have seen the
	 * timer armed: look once more, now that it would arm it. */
	if (READ_ONCE(active_clients))
		timer_arm();
	return 0;
}

/* Prepares the timer of the rounds, before each attach. Not a part of flexnet_init: kernels let
 * an extension replace a function of this kind of program, but not of a struct_ops one
 * (docs/decisions/0048). */
SEC("syscall")
int start_rounds(void *argument)
{
	struct round_timer *timer;
	u32 zero = 0;

	timer = bpf_map_lookup_elem(&round_timers, &zero);
	if (!timer)
		return -ENOENT;
	/* -EBUSY: it was prepared for an attach before this one. */
	bpf_timer_init(&timer->timer, &round_timers, CLOCK_MONOTONIC);
	return bpf_timer_set_callback(&timer->timer, round_fires);
}

#endif /* FLEXNET_ROUNDS_BPF_H */

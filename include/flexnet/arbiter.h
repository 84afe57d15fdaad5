/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * arbiter.h - core-allocation arithmetic of the default design.
 *
 * What it is for: how many cores the executor class shall have, which cores, and which executor
 * runs next on a core. Numbers in, numbers out: no kernel, no clock, no I/O. The same source is
 * compiled into BPF, the host's tests and the simulator.
 *
 * What it promises: its u64 arithmetic does not overflow for times under 500 years and does not
 * divide by zero. State is kept only in the structs that are passed in. Decisions of consecutive
 * rounds are never opposite.
 *
 * What it leaves to others: reading queues (bpf/clients.bpf.h), acting on a
 * decision (bpf/dedicated.bpf.h).
 */
#ifndef FLEXNET_ARBITER_H
#define FLEXNET_ARBITER_H

/* FLEXNET_SEPARATE is a function of many paths, which the verifier checks once and not on each path
 * that calls it. So it is not static in BPF, and returns a number: 0. */
#ifdef __BPF__
#define FLEXNET_INLINE static inline __attribute__((always_inline))
#define FLEXNET_SEPARATE __attribute__((noinline)) int
#define FLEXNET_NONNULL __attribute__((btf_decl_tag("arg:nonnull")))
#else
#include <stdint.h>
#define FLEXNET_INLINE static inline
#define FLEXNET_SEPARATE static inline int
#define FLEXNET_NONNULL
typedef uint64_t flexnet_u64;
typedef uint32_t flexnet_u32;
typedef int32_t flexnet_s32;
typedef int64_t flexnet_s64;
#endif
#ifdef __BPF__
typedef unsigned long long flexnet_u64;
typedef unsigned int flexnet_u32;
typedef int flexnet_s32;
typedef long long flexnet_s64;
#endif

/* One core's worth of utilisation in fixed point. */
#define FLEXNET_CORE 1024u
/* A set of cores carries at most this much of itself: above it queueing delay
 * grows steeply (M/M/1 at 85% waits 5.7 service times), and Caladan's
 * utilisation range ends at 95% and starts at 75%. */
#define FLEXNET_UTILISATION_MAX 870u
/* The average of utilisation forgets half in about this many rounds. */
#define FLEXNET_AVERAGE_SHIFT 3
/* At the most cores there may be, nothing is decided fast: rounds come this
 * much slower (1 << this times the interval). A round's timer interrupt costs
 * more than the round; at a shift of 2 both took 10% of the granted core. */
#define FLEXNET_STEADY_SHIFT 4
/* Where only stalled flows keep the timer armed, its period doubles up to
 * interval << this: a peer that stopped reading must not cost a tick. */
#define FLEXNET_BACKOFF_SHIFT_MAX 7
/* A general task waits for a CPU all the time. The machine is under pressure when
 * one waited for more than half of the idle delay. A task that a latency task
 * preempts does not wait in this sense. */
#define FLEXNET_PRESSURE_ALL (1ULL << 32)
#define FLEXNET_PRESSURE_MAX (FLEXNET_PRESSURE_ALL / 2)
/* One sample stands for at most this part of the idle delay (1 / this): so that it
 * takes several to change the answer, however far apart they are. */
#define FLEXNET_PRESSURE_SAMPLES 8
/* Cores are saturated when more executors than cores are runnable and the
 * oldest message is so many objectives old. */
#define FLEXNET_SATURATED_OBJECTIVES 10
/* How long applications are told so after it was seen last. Then they try their
 * executors again: until two of them meet on one core, 0.2 s with eight writers
 * of 10 MB on two processors, others do without that core. When that comes to
 * the same result at once, the next hold is twice as long, up to << the
 * maximum: the trial is 5% of the time at first, and less than 1% in the end. */
#define FLEXNET_SATURATED_HOLD_NS 4000000000ULL
#define FLEXNET_SATURATED_SHIFT_MAX 3
/* Cores with nothing to do for so long end the hold: the load has changed. Less
 * than after what cores are given back (idle_delay_ns): then the timer rests. */
#define FLEXNET_SATURATED_IDLE_NS 15000000ULL

/* Why the number of granted cores changed. */
enum flexnet_reason {
	FLEXNET_REASON_NONE = 0,
	FLEXNET_REASON_ARRIVAL = 1,  /* work came and no core was granted */
	FLEXNET_REASON_DELAY = 2,    /* the oldest message is over the objective */
	FLEXNET_REASON_CALM = 3,     /* fewer cores carry the load */
	FLEXNET_REASON_IDLE = 4,     /* no work for the idle delay */
	FLEXNET_REASON_LIMIT = 5,    /* the operator's bounds, hotplug */
	FLEXNET_REASON_PRESSURE = 6, /* general tasks wait, and only throughput flows have work */
};

/* Which clients shall do their large sends themselves. */
enum flexnet_saturated {
	FLEXNET_SATURATED_NONE = 0,
	FLEXNET_SATURATED_EXCESS = 1, /* clients whose executors find no core */
	FLEXNET_SATURATED_ALL = 2,    /* all clients with throughput flows */
};

/* The operator's numbers; times in ns. */
struct flexnet_arbiter_params {
	flexnet_u64 objective_ns;  /* grow above this delay of the oldest message */
	flexnet_u64 low_mark_ns;   /* shrink only below this delay */
	flexnet_u64 interval_ns;   /* between rounds */
	flexnet_u64 idle_delay_ns; /* calm this long before cores go back */
	flexnet_u32 cores_max;	   /* most cores ever granted */
	flexnet_u32 reserved;	   /* so that there is no padding */
};

/* What one round sees; times in ns. */
struct flexnet_arbiter_sample {
	flexnet_u64 now_ns;
	flexnet_u64 delay_ns; /* age of the oldest queued message, 0: none */
	flexnet_u64 busy_ns;  /* executor CPU time since the last round */
	flexnet_u64 depth;    /* messages queued */
	/* Of these two, the part of latency flows. */
	flexnet_u64 latency_delay_ns;
	flexnet_u64 latency_busy_ns;
	flexnet_u32 runnable;		/* executors running or waiting for a core */
	flexnet_u32 latency_runnable;	/* of these, with latency flows */
	flexnet_u32 granted;		/* cores granted now */
	flexnet_u32 idle;		/* cores with nothing to do */
	flexnet_u32 waiting;		/* general tasks that wait for a CPU */
	flexnet_u32 throughput_clients; /* active clients with throughput flows */
};

/* Between rounds. Starts as zeros. */
struct flexnet_arbiter_memory {
	flexnet_u64 round_ns;	   /* when the last round was */
	flexnet_u64 calm_since_ns; /* since when delay is under the low mark, 0: it is not */
	flexnet_u64 idle_since_ns; /* since when there is no work, 0: there is */
	flexnet_u64 latency_idle_since_ns; /* the same of latency flows */
	flexnet_u64 pressed_since_ns;	   /* since when more cores are wanted, 0: not */
	flexnet_u64 average;		   /* busy cores * FLEXNET_CORE */
	flexnet_u64 latency_average;	   /* of these, by latency flows */
	flexnet_u32 pressed_rounds;	   /* rounds since then */
	flexnet_s32 direction;		   /* of the last round: +1, 0, -1 */
	flexnet_u32 backoff;		   /* rounds in a row with stalled flows only, capped */
	flexnet_u64 saturated_ns;	   /* cores were last too few, 0: never */
	flexnet_u64
		cores_idle_since_ns; /* since when some had nothing to do, 0: no hold, or none had */
	flexnet_u32 saturated_shift; /* of the hold since then */
	flexnet_u32 saturated;	     /* enum flexnet_saturated, while it holds */
	flexnet_u64 pressure; /* share of the time that tasks wait, of FLEXNET_PRESSURE_ALL */
};

/* What a round decides. */
struct flexnet_arbiter_decision {
	flexnet_u32 cores;    /* to be granted from now on */
	flexnet_u32 reason;   /* enum flexnet_reason */
	flexnet_u64 cause_ns; /* when what caused it was first seen */
	flexnet_u32 rounds;   /* rounds from then to now */
};

/* Messages queued at one executor. Counters are a hostile client's word: what
 * cannot be is 0. Load completed and moved before enqueued. */
FLEXNET_INLINE flexnet_u64 flexnet_queue_depth(flexnet_u64 enqueued, flexnet_u64 completed,
					       flexnet_u64 moved)
{
	flexnet_u64 done = completed + moved;

	return enqueued > done ? enqueued - done : 0;
}

/* Age of the message with that stamp, ns; a stamp of the future or none is 0. */
FLEXNET_INLINE flexnet_u64 flexnet_queue_age(flexnet_u64 now_ns, flexnet_u64 stamp_ns)
{
	return stamp_ns && now_ns > stamp_ns ? now_ns - stamp_ns : 0;
}

/* Most cores that may be granted: the operator's maximum, and as many general
 * cores as the minimum stay (one at least). */
FLEXNET_INLINE flexnet_u32 flexnet_cores_max(flexnet_u32 online, flexnet_u32 general_min,
					     flexnet_u32 net_max)
{
	flexnet_u32 room;

	if (general_min < 1)
		general_min = 1;
	room = online > general_min ? online - general_min : 0;
	return room < net_max ? room : net_max;
}

/* Time until the next round, ns. */
FLEXNET_INLINE flexnet_u64 flexnet_next_round(const struct flexnet_arbiter_params *params,
					      const struct flexnet_arbiter_memory *memory)
{
	flexnet_u32 shift = memory->backoff;

	if (shift > FLEXNET_BACKOFF_SHIFT_MAX)
		shift = FLEXNET_BACKOFF_SHIFT_MAX;
	return params->interval_ns << shift;
}

/* Do general tasks wait for CPUs, so that a core for throughput flows would be
 * taken from tasks that use it as well? */
FLEXNET_INLINE int flexnet_under_pressure(const struct flexnet_arbiter_memory *memory)
{
	return memory->pressure > FLEXNET_PRESSURE_MAX;
}

/* Does this sample say that another core is wanted, and could it help? One more
 * core than runnable executors would only idle. Latency flows get cores by delay,
 * throughput flows by utilisation, and only those that nobody waits for: a
 * blocking write of megabytes is always old. */
FLEXNET_INLINE int flexnet_wants_core(const struct flexnet_arbiter_params *params,
				      const struct flexnet_arbiter_sample *sample,
				      const struct flexnet_arbiter_memory *memory)
{
	if (sample->runnable <= sample->granted)
		return 0;
	if (sample->granted == 0)
		return sample->latency_runnable || !flexnet_under_pressure(memory);
	if (sample->latency_delay_ns > params->objective_ns)
		return 1;
	return memory->average > (flexnet_u64)sample->granted * FLEXNET_UTILISATION_MAX &&
	       !flexnet_under_pressure(memory);
}

/* A hold begins or is renewed now. */
FLEXNET_INLINE flexnet_u32 flexnet_saturate(struct flexnet_arbiter_memory *memory,
					    flexnet_u64 now_ns, flexnet_u32 saturated)
{
	memory->saturated_ns = now_ns;
	memory->cores_idle_since_ns = 0;
	memory->saturated = saturated;
	return saturated;
}

/* Which clients' work does better in the application than in the queue for a core:
 * enum flexnet_saturated. The cores that may be granted are too few for the executors,
 * or the machine is under pressure, or that was so a short while ago: once work
 * went back to its application, its executors want no core. Pressure alone lengthens
 * no hold that concerns no client: latency flows would never be told that their
 * cores are too few. Called once a round, after the round. */
FLEXNET_INLINE flexnet_u32 flexnet_is_saturated(const struct flexnet_arbiter_params *params,
						const struct flexnet_arbiter_sample *sample,
						struct flexnet_arbiter_memory *memory)
{
	flexnet_u64 hold = FLEXNET_SATURATED_HOLD_NS << memory->saturated_shift;
	flexnet_u64 now = sample->now_ns;
	flexnet_u64 since = now > memory->saturated_ns ? now - memory->saturated_ns : 0;
	flexnet_u32 holds = memory->saturated_ns && since < hold;
	flexnet_u32 all = flexnet_under_pressure(memory) && params->cores_max &&
			  (sample->runnable > sample->latency_runnable ||
			   (holds && memory->saturated == FLEXNET_SATURATED_ALL &&
			    sample->throughput_clients));
	flexnet_u32 excess = sample->granted && sample->granted >= params->cores_max &&
			     sample->runnable > sample->granted &&
			     sample->delay_ns > FLEXNET_SATURATED_OBJECTIVES * params->objective_ns;

	if (all || excess) {
		if (!holds && memory->saturated_ns && since < 2 * hold) {
			if (memory->saturated_shift < FLEXNET_SATURATED_SHIFT_MAX)
				memory->saturated_shift++;
		} else if (!holds) {
			memory->saturated_shift = 0;
		}
		return flexnet_saturate(memory, now,
					all ? FLEXNET_SATURATED_ALL : FLEXNET_SATURATED_EXCESS);
	}
	if (!sample->idle || !holds)
		memory->cores_idle_since_ns = 0;
	else if (!memory->cores_idle_since_ns)
		memory->cores_idle_since_ns = now;
	else if (now > memory->cores_idle_since_ns + FLEXNET_SATURATED_IDLE_NS)
		memory->saturated_ns = holds = 0;
	return holds ? memory->saturated : (flexnet_u32)FLEXNET_SATURATED_NONE;
}

/* An average of busy cores, with what they did in `elapsed_ns` folded in. */
FLEXNET_INLINE flexnet_u64 flexnet_average(flexnet_u64 average, flexnet_u64 busy_ns,
					   flexnet_u64 elapsed_ns)
{
	flexnet_u64 busy = busy_ns * FLEXNET_CORE / elapsed_ns;

	return average - (average >> FLEXNET_AVERAGE_SHIFT) + (busy >> FLEXNET_AVERAGE_SHIFT);
}

/* Folds into the pressure whether tasks wait, by its part of the idle delay. */
FLEXNET_INLINE void flexnet_observe_pressure(const struct flexnet_arbiter_params *params,
					     const struct flexnet_arbiter_sample *sample,
					     struct flexnet_arbiter_memory *memory,
					     flexnet_u64 elapsed_ns)
{
	flexnet_u64 part = FLEXNET_PRESSURE_ALL / FLEXNET_PRESSURE_SAMPLES;

	/* In steps of 256 ns, so that hours do not overflow. */
	if (elapsed_ns < params->idle_delay_ns / FLEXNET_PRESSURE_SAMPLES)
		part = (elapsed_ns << 24) / ((params->idle_delay_ns >> 8) | 1);
	memory->pressure -= (memory->pressure * part) >> 32;
	if (sample->waiting)
		memory->pressure += part;
	if (memory->pressure > FLEXNET_PRESSURE_ALL)
		memory->pressure = FLEXNET_PRESSURE_ALL;
}

/* Folds one sample into the averages and the times since when. */
FLEXNET_SEPARATE flexnet_arbiter_observe(
	const struct flexnet_arbiter_params *params FLEXNET_NONNULL,
	const struct flexnet_arbiter_sample *sample FLEXNET_NONNULL,
	struct flexnet_arbiter_memory *memory FLEXNET_NONNULL)
{
	flexnet_u64 elapsed =
		sample->now_ns > memory->round_ns ? sample->now_ns - memory->round_ns : 1;

	/* After a pause the averages of before it mean nothing. */
	if (!memory->round_ns || elapsed > params->idle_delay_ns + params->interval_ns) {
		memory->average = memory->latency_average = memory->pressure = 0;
		elapsed = params->interval_ns ? params->interval_ns : 1;
	}
	flexnet_observe_pressure(params, sample, memory, elapsed);
	memory->average = flexnet_average(memory->average, sample->busy_ns, elapsed);
	memory->latency_average =
		flexnet_average(memory->latency_average, sample->latency_busy_ns, elapsed);
	memory->round_ns = sample->now_ns;

	if (sample->runnable || sample->depth)
		memory->idle_since_ns = 0;
	else if (!memory->idle_since_ns)
		memory->idle_since_ns = sample->now_ns;
	if (sample->latency_runnable || sample->latency_delay_ns)
		memory->latency_idle_since_ns = 0;
	else if (!memory->latency_idle_since_ns)
		memory->latency_idle_since_ns = sample->now_ns;

	if (sample->latency_delay_ns >= params->low_mark_ns)
		memory->calm_since_ns = 0;
	else if (!memory->calm_since_ns)
		memory->calm_since_ns = sample->now_ns;

	if ((sample->runnable || !sample->depth) && sample->granted >= params->cores_max)
		memory->backoff = FLEXNET_STEADY_SHIFT;
	else if (sample->runnable || !sample->depth)
		memory->backoff = 0;
	else if (memory->backoff < FLEXNET_BACKOFF_SHIFT_MAX)
		memory->backoff++;

	if (!flexnet_wants_core(params, sample, memory)) {
		memory->pressed_since_ns = 0;
		memory->pressed_rounds = 0;
	} else {
		if (!memory->pressed_since_ns)
			memory->pressed_since_ns = sample->now_ns;
		memory->pressed_rounds++;
	}
	return 0;
}

/* How busy the cores are with work that counts. */
FLEXNET_INLINE flexnet_u64 flexnet_needed_average(const struct flexnet_arbiter_memory *memory)
{
	return flexnet_under_pressure(memory) ? memory->latency_average : memory->average;
}

/* Cores that nobody needs any more: all of them, or one. Under pressure the work
 * of throughput flows is no need. Called where the last round took none. */
FLEXNET_INLINE void flexnet_arbiter_shrink(const struct flexnet_arbiter_params *params,
					   const struct flexnet_arbiter_sample *sample,
					   struct flexnet_arbiter_memory *memory,
					   struct flexnet_arbiter_decision *decision)
{
	flexnet_u32 pressure = flexnet_under_pressure(memory);
	flexnet_u64 idle_since = pressure ? memory->latency_idle_since_ns : memory->idle_since_ns;
	flexnet_u64 now = sample->now_ns;

	if (idle_since && now - idle_since >= params->idle_delay_ns) {
		decision->cores = 0;
		decision->reason =
			memory->idle_since_ns ? FLEXNET_REASON_IDLE : FLEXNET_REASON_PRESSURE;
		decision->cause_ns = idle_since;
	} else if (sample->granted > 1 && memory->calm_since_ns &&
		   now - memory->calm_since_ns >= params->idle_delay_ns) {
		decision->cores = sample->granted - 1;
		decision->reason = FLEXNET_REASON_CALM;
		decision->cause_ns = memory->calm_since_ns;
		/* The next core goes back only after another calm spell. */
		memory->calm_since_ns = now;
	}
}

/*
 * One round of the default design's rule.
 *
 * Grow by one at once when work arrives and no core is granted, when the oldest
 * message of a latency flow is older than the objective, or when the cores are
 * busy with throughput flows and no general task waits. Shrink by one when the
 * delay stayed under the low mark for the idle delay and the remaining cores
 * carry the utilisation; give all back when there was no work for the idle
 * delay. Under pressure only the work of latency flows counts. Never two opposite
 * decisions in consecutive rounds: a round between them decides nothing.
 */
FLEXNET_INLINE void flexnet_arbiter_round(const struct flexnet_arbiter_params *params,
					  const struct flexnet_arbiter_sample *sample,
					  struct flexnet_arbiter_memory *memory,
					  struct flexnet_arbiter_decision *decision)
{
	flexnet_s32 last = memory->direction;

	/* Rounds further apart than that are not consecutive. */
	if (sample->now_ns >= memory->round_ns + 2 * params->interval_ns)
		last = 0;
	flexnet_arbiter_observe(params, sample, memory);
	if (sample->granted > 1 &&
	    flexnet_needed_average(memory) >
		    (flexnet_u64)(sample->granted - 1) * FLEXNET_UTILISATION_MAX)
		memory->calm_since_ns = 0;
	memory->direction = 0;
	decision->cores = sample->granted;
	decision->reason = FLEXNET_REASON_NONE;
	decision->cause_ns = sample->now_ns;
	decision->rounds = 1;

	if (sample->granted > params->cores_max) {
		decision->cores = params->cores_max;
		decision->reason = FLEXNET_REASON_LIMIT;
	} else if (memory->pressed_since_ns && sample->granted < params->cores_max && last >= 0) {
		decision->cores = sample->granted + 1;
		decision->reason = sample->granted ? FLEXNET_REASON_DELAY : FLEXNET_REASON_ARRIVAL;
		decision->cause_ns = memory->pressed_since_ns;
		decision->rounds = memory->pressed_rounds;
	} else if (sample->granted && last <= 0) {
		flexnet_arbiter_shrink(params, sample, memory, decision);
	}
	if (decision->cores != sample->granted)
		memory->direction = decision->cores > sample->granted ? 1 : -1;
}

/* How many of a client's executors should run: those that have work, no more
 * than there are cores, one at least. */
FLEXNET_INLINE flexnet_u32 flexnet_executors_wanted(flexnet_u32 executors, flexnet_u32 granted)
{
	if (granted < 1)
		granted = 1;
	return executors < granted ? executors : granted;
}

/* Virtual time of `run_ns` at `weight` (100 is nice 0), ns. */
FLEXNET_INLINE flexnet_u64 flexnet_scale_by_weight(flexnet_u64 run_ns, flexnet_u32 weight)
{
	if (weight < 1)
		weight = 1;
	if (weight > 10000)
		weight = 10000;
	return run_ns * 100 / weight;
}

/* Virtual time a task starts from when it wakes: its own, but no further
 * behind the queue's than `lag_ns`, so that a sleeper neither saves up turns
 * nor loses its place. */
FLEXNET_INLINE flexnet_u64 flexnet_wakeup_vtime(flexnet_u64 own, flexnet_u64 queue,
						flexnet_u64 lag_ns)
{
	flexnet_u64 lower_bound = queue > lag_ns ? queue - lag_ns : 0;

	return own > lower_bound ? own : lower_bound;
}

/* Virtual time of a task that changes from one queue to another, by the queues' clocks: it stays as
 * far ahead as it was. What it was behind is forgotten. */
FLEXNET_INLINE flexnet_u64 flexnet_move_vtime(flexnet_u64 own, flexnet_u64 from, flexnet_u64 to)
{
	return own > from ? to + (own - from) : to;
}

/*
 * A higher class goes first until it used `budget_ns` of a core while a lower
 * one waited; then the lower one has a turn. So a client that lies about its
 * class, or a latency task that never sleeps, starves nobody. Returns 1 when
 * the lower class goes first. `used_ns` is what the higher class ran on this
 * core since the lower one last did.
 */
FLEXNET_INLINE int flexnet_lower_class_first(flexnet_u64 used_ns, flexnet_u64 budget_ns,
					     flexnet_u32 lower_waiting)
{
	return lower_waiting && used_ns >= budget_ns;
}

/* What an executor that runs on a core others wait for should be told. */
enum flexnet_preempt {
	FLEXNET_PREEMPT_NO = 0,
	FLEXNET_PREEMPT_FLAG = 1, /* raise the flag in its line */
	FLEXNET_PREEMPT_KICK = 2, /* it ignored the flag for the grace: kick */
};

FLEXNET_INLINE int flexnet_preempt_step(flexnet_u64 now_ns, flexnet_u64 run_start_ns,
					flexnet_u64 flagged_ns, flexnet_u64 quantum_ns,
					flexnet_u64 grace_ns)
{
	if (flagged_ns)
		return now_ns > flagged_ns && now_ns - flagged_ns >= grace_ns ?
			       FLEXNET_PREEMPT_KICK :
			       FLEXNET_PREEMPT_NO;
	return now_ns > run_start_ns && now_ns - run_start_ns >= quantum_ns ? FLEXNET_PREEMPT_FLAG :
									      FLEXNET_PREEMPT_NO;
}

/*
 * A kernel network thread's queue. It has no page, and its ring is the device's:
 * nobody can look into it. But a poll that took less than its budget has seen it
 * empty, and one that took all of it left more behind, most likely.
 */

/* Packets a receive ring holds at most: drivers allow 4,096 to 8,192 descriptors
 * and begin with 256 to 1,024. */
#define FLEXNET_NAPI_RING 4096u

/* What is known of one such queue; times in ns. Starts as zeros. */
struct flexnet_napi_load {
	flexnet_u64 filled_ns;	/* packets may wait since, 0: the last sample found none */
	flexnet_u64 polled_ns;	/* end of the last poll, 0: none */
	flexnet_u64 poll_ns;	/* what the last full poll after another poll took, 0: unknown */
	flexnet_u64 used_ns;	/* CPU time since the queue was seen empty */
	flexnet_u32 budget;	/* packets of the last poll that took all it might, 0: it did not */
	flexnet_u32 turn_polls; /* polls since the thread was put on a CPU, capped at 1 */
};

/* The thread is runnable: an interrupt woke it, or its turn is over. */
FLEXNET_INLINE void flexnet_napi_waits(struct flexnet_napi_load *load, flexnet_u64 now_ns)
{
	if (!load->filled_ns)
		load->filled_ns = now_ns;
}

/* One poll ended that took `work` packets of at most `budget`. */
FLEXNET_INLINE void flexnet_napi_polled(struct flexnet_napi_load *load, flexnet_u64 now_ns,
					flexnet_u32 work, flexnet_u32 budget)
{
	load->budget = 0;
	if (work < budget) {
		load->filled_ns = 0;
		load->used_ns = 0;
	} else if (budget) {
		load->budget = budget;
		if (!load->filled_ns)
			load->filled_ns = load->turn_polls ? load->polled_ns : now_ns;
		if (load->turn_polls && now_ns > load->polled_ns)
			load->poll_ns = now_ns - load->polled_ns;
	}
	load->polled_ns = now_ns;
	load->turn_polls = 1;
}

/* The thread left its CPU after `ran_ns`, to sleep or (`runnable`) to wait for
 * another turn. */
FLEXNET_INLINE void flexnet_napi_ran(struct flexnet_napi_load *load, flexnet_u64 now_ns,
				     flexnet_u64 ran_ns, flexnet_u32 runnable)
{
	flexnet_u64 filled =
		load->filled_ns && now_ns > load->filled_ns ? now_ns - load->filled_ns : 0;

	load->turn_polls = 0;
	if (!runnable) {
		load->filled_ns = 0;
		load->used_ns = 0;
		load->budget = 0;
		return;
	}
	/* What it ran before the queue filled was for others. */
	load->used_ns += ran_ns < filled ? ran_ns : filled;
}

/* Packets that wait, at least. */
FLEXNET_INLINE flexnet_u64 flexnet_napi_depth(const struct flexnet_napi_load *load)
{
	if (!load->filled_ns)
		return 0;
	return load->budget ? load->budget : 1;
}

/* Age of the oldest packet, at most, ns: not more than since when the queue was
 * seen empty, and not more than a full ring takes at the pace of the last full
 * poll, with what passed since the thread polled. */
FLEXNET_INLINE flexnet_u64 flexnet_napi_delay(const struct flexnet_napi_load *load,
					      flexnet_u64 now_ns)
{
	flexnet_u64 age, ring;

	if (!load->filled_ns || now_ns <= load->filled_ns)
		return 0;
	age = now_ns - load->filled_ns;
	if (!load->budget || !load->poll_ns)
		return age;
	ring = load->poll_ns * ((FLEXNET_NAPI_RING + load->budget - 1) / load->budget);
	if (now_ns > load->polled_ns)
		ring += now_ns - load->polled_ns;
	return age < ring ? age : ring;
}

/*
 * Receive livelock: more packets arrive than the thread can take, and what it
 * takes is for applications that do not run. One that used `budget_ns` of CPU
 * time without seeing its queue empty goes on among the others: in the
 * throughput class on a granted core, as a normal task elsewhere.
 */
FLEXNET_INLINE int flexnet_napi_in_livelock(const struct flexnet_napi_load *load,
					    flexnet_u64 budget_ns)
{
	return load->used_ns >= budget_ns;
}

#endif /* FLEXNET_ARBITER_H */

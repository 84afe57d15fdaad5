/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * designs.h - core rules of the stack designs: one function each, and which one.
 *
 * What it is for: how many cores a design gives the executor class each round,
 * and the arithmetic between applications that goes with it (guarantees, CPU
 * budgets). The in-stack half of each design is crates/flexnet/src/design/. The same source is
 * compiled into BPF, host tests and the simulator.
 *
 * What it promises: as arbiter.h; any rule may follow any other on the same
 * memory, so that a design is switched between two rounds and nothing else.
 *
 * What it leaves to others: values out of their ranges (crates/flexnet/src/design/parse.rs
 * refuses them; here they harm nobody but whom they concern).
 *
 * All designs give their cores back when there is no work: no core only spins.
 */
#ifndef FLEXNET_DESIGNS_H
#define FLEXNET_DESIGNS_H

#include <flexnet/arbiter.h>

/* A design and its mode. */
enum flexnet_design {
	FLEXNET_DESIGN_FLEXNET = 0,
	FLEXNET_DESIGN_NETCHANNEL = 1,
	FLEXNET_DESIGN_SNAP_DEDICATING = 2,
	FLEXNET_DESIGN_SNAP_SPREADING = 3,
	FLEXNET_DESIGN_SNAP_COMPACTING = 4,
	FLEXNET_DESIGN_SHENANGO = 5,
	FLEXNET_DESIGN_SHENANGO_DELAY = 6,	 /* Caladan's delay range */
	FLEXNET_DESIGN_SHENANGO_UTILISATION = 7, /* Caladan's utilisation range */
	FLEXNET_DESIGN_SHINJUKU = 8,
	FLEXNET_DESIGN_SHINJUKU_JBSQ = 9, /* Concord's JBSQ(2) */
	FLEXNET_DESIGN_COUNT = 10,
};

/* NetChannel: a channel with so many units queued takes no more (NetChannel's
 * artifact: 32 units of 62,620 B, about 2 MB). */
#define FLEXNET_NETCHANNEL_QUEUED 32
/* NetChannel: round robin moves on after so many units (its artifact). */
#define FLEXNET_NETCHANNEL_STICKY 6

/* What is decided by; times in ns. The ranges are crates/flexnet/src/design/parse.rs's. */
struct flexnet_design_params {
	struct flexnet_arbiter_params arbiter;
	flexnet_u64 high_ns;	/* Snap's SLO, Caladan's upper delay: grow above */
	flexnet_u64 low_ns;	/* and shrink below */
	flexnet_u64 runtime_ns; /* MicroQuanta: CPU time in a period, 0: no limit */
	flexnet_u64 period_ns;
	flexnet_u32 design;	  /* enum flexnet_design; unknown ones act as flexnet */
	flexnet_u32 workers;	  /* cores of designs with a fixed number, 0: as many as may be */
	flexnet_u32 high_percent; /* Caladan's utilisation range: grow above */
	flexnet_u32 low_percent;  /* and shrink below */
};

/* What the rules below answer before bounds are applied. */
struct flexnet_design_wish {
	flexnet_u32 cores;
	flexnet_u32 reason;   /* enum flexnet_reason */
	flexnet_u64 cause_ns; /* when what caused it was first seen */
};

FLEXNET_INLINE void flexnet_design_wishes(struct flexnet_design_wish *wish, flexnet_u32 cores,
					  flexnet_u32 reason, flexnet_u64 cause_ns)
{
	wish->cores = cores;
	wish->reason = reason;
	wish->cause_ns = cause_ns;
}

/* No work for the idle delay? */
FLEXNET_INLINE int flexnet_design_idled(const struct flexnet_design_params *params,
					const struct flexnet_arbiter_sample *sample,
					const struct flexnet_arbiter_memory *memory)
{
	return memory->idle_since_ns &&
	       sample->now_ns - memory->idle_since_ns >= params->arbiter.idle_delay_ns;
}

/* Calm for the idle delay, and fewer cores carry the utilisation? */
FLEXNET_INLINE int flexnet_design_calmed(const struct flexnet_design_params *params,
					 const struct flexnet_arbiter_sample *sample,
					 const struct flexnet_arbiter_memory *memory)
{
	return sample->granted > 1 && memory->calm_since_ns &&
	       sample->now_ns - memory->calm_since_ns >= params->arbiter.idle_delay_ns &&
	       memory->average <= (flexnet_u64)(sample->granted - 1) * FLEXNET_UTILISATION_MAX;
}

/*
 * Fixed cores (Snap's dedicating mode, Shinjuku's workers): all at once when
 * work comes, all back when there was none for the idle delay.
 */
FLEXNET_INLINE void flexnet_fixed_rule(const struct flexnet_design_params *params,
				       const struct flexnet_arbiter_sample *sample,
				       const struct flexnet_arbiter_memory *memory,
				       struct flexnet_design_wish *wish)
{
	flexnet_u32 cores = params->workers ? params->workers : params->arbiter.cores_max;

	if (sample->runnable && sample->granted != cores)
		flexnet_design_wishes(wish, cores, FLEXNET_REASON_ARRIVAL, sample->now_ns);
	else if (flexnet_design_idled(params, sample, memory))
		flexnet_design_wishes(wish, 0, FLEXNET_REASON_IDLE, memory->idle_since_ns);
}

/*
 * NetChannel has a fixed map of channels to cores and no rule. Ours: one more
 * while each channel has as much queued as makes a sender skip it, one less when
 * the rest would hold what is queued and carry the utilisation.
 */
FLEXNET_INLINE void flexnet_netchannel_rule(const struct flexnet_design_params *params,
					    const struct flexnet_arbiter_sample *sample,
					    struct flexnet_arbiter_memory *memory,
					    struct flexnet_design_wish *wish)
{
	flexnet_u64 full = (flexnet_u64)sample->granted * FLEXNET_NETCHANNEL_QUEUED;

	if (!sample->granted && sample->runnable) {
		flexnet_design_wishes(wish, 1, FLEXNET_REASON_ARRIVAL, sample->now_ns);
	} else if (sample->depth >= full && sample->runnable > sample->granted) {
		flexnet_design_wishes(wish, sample->granted + 1, FLEXNET_REASON_DELAY,
				      sample->now_ns);
	} else if (flexnet_design_idled(params, sample, memory)) {
		flexnet_design_wishes(wish, 0, FLEXNET_REASON_IDLE, memory->idle_since_ns);
	} else if (sample->depth + FLEXNET_NETCHANNEL_QUEUED <= full &&
		   flexnet_design_calmed(params, sample, memory)) {
		flexnet_design_wishes(wish, sample->granted - 1, FLEXNET_REASON_CALM,
				      memory->calm_since_ns);
		memory->calm_since_ns = sample->now_ns;
	}
}

/* Snap, spreading: a thread an engine; each one that is awake has a core. */
FLEXNET_INLINE void flexnet_spreading_rule(const struct flexnet_arbiter_sample *sample,
					   struct flexnet_design_wish *wish)
{
	if (sample->runnable > sample->granted)
		flexnet_design_wishes(wish, sample->runnable,
				      sample->granted ? FLEXNET_REASON_DELAY :
							FLEXNET_REASON_ARRIVAL,
				      sample->now_ns);
	else if (sample->runnable < sample->granted)
		flexnet_design_wishes(wish, sample->runnable, FLEXNET_REASON_IDLE, sample->now_ns);
}

/* Snap, compacting: all engines on one core until a queue's delay is above the
 * SLO; then the heaviest moves to a woken core. At low load they move back. */
FLEXNET_INLINE void flexnet_compacting_rule(const struct flexnet_design_params *params,
					    const struct flexnet_arbiter_sample *sample,
					    struct flexnet_arbiter_memory *memory,
					    struct flexnet_design_wish *wish)
{
	if (!sample->granted && sample->runnable) {
		flexnet_design_wishes(wish, 1, FLEXNET_REASON_ARRIVAL, sample->now_ns);
	} else if (sample->delay_ns > params->high_ns && sample->runnable > sample->granted) {
		flexnet_design_wishes(wish, sample->granted + 1, FLEXNET_REASON_DELAY,
				      sample->now_ns);
	} else if (flexnet_design_idled(params, sample, memory)) {
		flexnet_design_wishes(wish, 0, FLEXNET_REASON_IDLE, memory->idle_since_ns);
	} else if (sample->delay_ns <= params->high_ns &&
		   flexnet_design_calmed(params, sample, memory)) {
		flexnet_design_wishes(wish, sample->granted - 1, FLEXNET_REASON_CALM,
				      memory->calm_since_ns);
		memory->calm_since_ns = sample->now_ns;
	}
}

/* Shenango: an application is congested when it has an item queued that was queued at
 * the last sample already; it gets one more core. A core with nothing to do goes back at once. */
FLEXNET_INLINE void flexnet_shenango_rule(const struct flexnet_arbiter_sample *sample,
					  flexnet_u64 elapsed_ns, struct flexnet_design_wish *wish)
{
	if (!sample->granted && sample->runnable)
		flexnet_design_wishes(wish, 1, FLEXNET_REASON_ARRIVAL, sample->now_ns);
	else if (sample->runnable > sample->granted && sample->delay_ns >= elapsed_ns)
		flexnet_design_wishes(wish, sample->granted + 1, FLEXNET_REASON_DELAY,
				      sample->now_ns - elapsed_ns);
	else if (sample->runnable < sample->granted)
		flexnet_design_wishes(wish, sample->runnable, FLEXNET_REASON_IDLE, sample->now_ns);
}

/* Caladan, delay range: one more above the upper delay, one less below the lower
 * one, never in consecutive rounds. */
FLEXNET_INLINE void flexnet_delay_rule(const struct flexnet_design_params *params,
				       const struct flexnet_arbiter_sample *sample,
				       flexnet_s32 last, struct flexnet_design_wish *wish)
{
	if (!sample->granted && sample->runnable)
		flexnet_design_wishes(wish, 1, FLEXNET_REASON_ARRIVAL, sample->now_ns);
	else if (!sample->runnable && sample->granted)
		flexnet_design_wishes(wish, 0, FLEXNET_REASON_IDLE, sample->now_ns);
	else if (last)
		return;
	else if (sample->delay_ns > params->high_ns && sample->runnable > sample->granted)
		flexnet_design_wishes(wish, sample->granted + 1, FLEXNET_REASON_DELAY,
				      sample->now_ns);
	else if (sample->delay_ns < params->low_ns && sample->granted > 1)
		flexnet_design_wishes(wish, sample->granted - 1, FLEXNET_REASON_CALM,
				      sample->now_ns);
}

/* Caladan, utilisation range: the same by how busy the cores are. Less only if
 * they are not busy now either: the average lags behind a core just given. */
FLEXNET_INLINE void flexnet_utilisation_rule(const struct flexnet_design_params *params,
					     const struct flexnet_arbiter_sample *sample,
					     const struct flexnet_arbiter_memory *memory,
					     flexnet_u64 elapsed_ns, flexnet_s32 last,
					     struct flexnet_design_wish *wish)
{
	flexnet_u64 percent = (flexnet_u64)sample->granted * FLEXNET_CORE;
	flexnet_u64 busy = sample->busy_ns * FLEXNET_CORE / (elapsed_ns ? elapsed_ns : 1);

	if (!sample->granted && sample->runnable)
		flexnet_design_wishes(wish, 1, FLEXNET_REASON_ARRIVAL, sample->now_ns);
	else if (flexnet_design_idled(params, sample, memory))
		flexnet_design_wishes(wish, 0, FLEXNET_REASON_IDLE, memory->idle_since_ns);
	else if (last)
		return;
	else if (sample->runnable > sample->granted &&
		 memory->average * 100 > percent * params->high_percent)
		flexnet_design_wishes(wish, sample->granted + 1, FLEXNET_REASON_DELAY,
				      sample->now_ns);
	else if (sample->granted > 1 && memory->average * 100 < percent * params->low_percent &&
		 busy * 100 < percent * params->low_percent)
		flexnet_design_wishes(wish, sample->granted - 1, FLEXNET_REASON_CALM,
				      sample->now_ns);
}

/* Does the design look at once when somebody wakes, not only in the next round?
 * Snap's spreading mode: an awake engine has a core. */
FLEXNET_INLINE int flexnet_design_is_eager(const struct flexnet_design_params *params)
{
	return params->design == FLEXNET_DESIGN_SNAP_SPREADING;
}

/* Asks the rule of a design other than the default one. */
FLEXNET_INLINE void flexnet_design_ask(const struct flexnet_design_params *params,
				       const struct flexnet_arbiter_sample *sample,
				       struct flexnet_arbiter_memory *memory,
				       flexnet_u64 elapsed_ns, flexnet_s32 last,
				       struct flexnet_design_wish *wish)
{
	switch (params->design) {
	case FLEXNET_DESIGN_NETCHANNEL:
		flexnet_netchannel_rule(params, sample, memory, wish);
		break;
	case FLEXNET_DESIGN_SNAP_SPREADING:
		flexnet_spreading_rule(sample, wish);
		break;
	case FLEXNET_DESIGN_SNAP_COMPACTING:
		flexnet_compacting_rule(params, sample, memory, wish);
		break;
	case FLEXNET_DESIGN_SHENANGO:
		flexnet_shenango_rule(sample, elapsed_ns, wish);
		break;
	case FLEXNET_DESIGN_SHENANGO_DELAY:
		flexnet_delay_rule(params, sample, last, wish);
		break;
	case FLEXNET_DESIGN_SHENANGO_UTILISATION:
		flexnet_utilisation_rule(params, sample, memory, elapsed_ns, last, wish);
		break;
	default:
		flexnet_fixed_rule(params, sample, memory, wish);
		break;
	}
}

/*
 * One round of the design in `params`. As flexnet_arbiter_round: `sample` in,
 * `decision` out, `memory` from round to round.
 */
FLEXNET_INLINE void flexnet_design_round(const struct flexnet_design_params *params,
					 const struct flexnet_arbiter_sample *sample,
					 struct flexnet_arbiter_memory *memory,
					 struct flexnet_arbiter_decision *decision)
{
	struct flexnet_arbiter_params arbiter = params->arbiter;
	struct flexnet_arbiter_sample all = *sample;
	struct flexnet_design_wish wish;
	flexnet_u64 elapsed;
	flexnet_s32 last = memory->direction;

	if (params->design == FLEXNET_DESIGN_FLEXNET || params->design >= FLEXNET_DESIGN_COUNT) {
		flexnet_arbiter_round(&params->arbiter, sample, memory, decision);
		return;
	}
	/* Of the first sample nothing was queued at the one before. */
	elapsed = memory->round_ns && sample->now_ns > memory->round_ns ?
			  sample->now_ns - memory->round_ns :
			  params->arbiter.interval_ns;
	if (sample->now_ns >= memory->round_ns + 2 * params->arbiter.interval_ns)
		last = 0;
	/* Engines are moved back at half their SLO: compacted cores are busy ones, whose
	 * delay is seldom under another design's low mark. */
	if (params->design == FLEXNET_DESIGN_SNAP_COMPACTING)
		arbiter.low_mark_ns = params->high_ns / 2;
	/* These rules know no classes of flows. */
	all.latency_delay_ns = sample->delay_ns;
	flexnet_arbiter_observe(&arbiter, &all, memory);
	memory->direction = 0;
	flexnet_design_wishes(&wish, sample->granted, FLEXNET_REASON_NONE, sample->now_ns);
	flexnet_design_ask(params, sample, memory, elapsed, last, &wish);
	if (wish.cores > params->arbiter.cores_max) {
		wish.cores = params->arbiter.cores_max;
		if (sample->granted > wish.cores)
			wish.reason = FLEXNET_REASON_LIMIT;
	}
	decision->cores = wish.cores;
	decision->reason = wish.reason;
	if (wish.cores == sample->granted)
		decision->reason = FLEXNET_REASON_NONE;
	decision->cause_ns = wish.cause_ns;
	decision->rounds = 1;
	if (memory->pressed_since_ns && wish.cores > sample->granted) {
		decision->cause_ns = memory->pressed_since_ns;
		decision->rounds = memory->pressed_rounds;
	}
	if (decision->cores != sample->granted)
		memory->direction = decision->cores > sample->granted ? 1 : -1;
}

/*
 * For how many cores an application's executors shall be awake while `granted`
 * are there. One more while its messages wait longer than the design bears: an
 * executor that sleeps is never runnable, and never asks for a core.
 */
FLEXNET_INLINE flexnet_u32 flexnet_design_awake(const struct flexnet_design_params *params,
						flexnet_u32 granted, flexnet_u64 delay_ns)
{
	flexnet_u64 bears = params->arbiter.objective_ns;

	if (params->design == FLEXNET_DESIGN_SNAP_SPREADING)
		return params->arbiter.cores_max;
	if ((params->design == FLEXNET_DESIGN_SNAP_COMPACTING ||
	     params->design == FLEXNET_DESIGN_SHENANGO_DELAY) &&
	    params->high_ns < bears)
		bears = params->high_ns;
	return delay_ns > bears && granted < params->arbiter.cores_max ? granted + 1 : granted;
}

/* Has each application cores of its own, claimed one by one? Else they share all
 * granted cores by weight. */
FLEXNET_INLINE int flexnet_design_claims(const struct flexnet_design_params *params)
{
	return params->design == FLEXNET_DESIGN_SHENANGO ||
	       params->design == FLEXNET_DESIGN_SHENANGO_DELAY ||
	       params->design == FLEXNET_DESIGN_SHENANGO_UTILISATION;
}

/* May an application have one more core, and of whom? */
enum flexnet_claim {
	FLEXNET_CLAIM_NONE = 0,
	FLEXNET_CLAIM_IDLE = 1,	  /* only one that nobody has */
	FLEXNET_CLAIM_REVOKE = 2, /* also one of a client above its guarantee */
};

/*
 * Shenango: below its guarantee a congested application takes a core even of one
 * above its own guarantee; above, up to its maximum, only idle ones.
 */
FLEXNET_INLINE flexnet_u32 flexnet_core_claim(flexnet_u32 cores, flexnet_u32 guaranteed,
					      flexnet_u32 cores_max, flexnet_u32 congested)
{
	if (!congested || cores >= cores_max)
		return FLEXNET_CLAIM_NONE;
	return cores < guaranteed ? FLEXNET_CLAIM_REVOKE : FLEXNET_CLAIM_IDLE;
}

/* Cores an application has above its guarantee: the one with the most gives way. */
FLEXNET_INLINE flexnet_u32 flexnet_cores_above_guarantee(flexnet_u32 cores, flexnet_u32 guaranteed)
{
	return cores > guaranteed ? cores - guaranteed : 0;
}

/* A budget of CPU time a period (Snap's MicroQuanta). Starts as zeros. */
struct flexnet_quanta {
	flexnet_u64 period_start_ns;
	flexnet_u64 used_ns; /* in this period */
};

/* Is there a budget at all? A period that is all runtime is none. */
FLEXNET_INLINE int flexnet_quanta_limited(const struct flexnet_design_params *params)
{
	return params->runtime_ns && params->runtime_ns < params->period_ns;
}

/*
 * What is left of the budget now, ns; a new period begins when the last is over.
 * 0: nothing, until flexnet_quanta_refill_ns. Without a limit a whole second.
 */
FLEXNET_INLINE flexnet_u64 flexnet_quanta_left(const struct flexnet_design_params *params,
					       struct flexnet_quanta *quanta, flexnet_u64 now_ns)
{
	if (!flexnet_quanta_limited(params))
		return 1000000000ULL;
	if (!quanta->period_start_ns || now_ns >= quanta->period_start_ns + params->period_ns) {
		quanta->period_start_ns = now_ns;
		quanta->used_ns = 0;
	}
	return params->runtime_ns > quanta->used_ns ? params->runtime_ns - quanta->used_ns : 0;
}

/* It ran for so long. More than the budget is owed from no later period. */
FLEXNET_INLINE void flexnet_quanta_use(struct flexnet_quanta *quanta, flexnet_u64 run_ns)
{
	quanta->used_ns += run_ns;
}

/* When the budget is whole again, ns. */
FLEXNET_INLINE flexnet_u64 flexnet_quanta_refill_ns(const struct flexnet_design_params *params,
						    const struct flexnet_quanta *quanta)
{
	return quanta->period_start_ns + params->period_ns;
}

#endif /* FLEXNET_DESIGNS_H */

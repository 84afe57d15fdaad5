/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * core_rule.h - a core rule that is loaded into the running scheduler.
 *
 * What it is for: the core rule of a design in a folder. core_rule.c includes this file and
 * defines one function:
 *
 *	FLEXNET_CORE_RULE(round)
 *	{
 *		return round->runnable;
 *	}
 *
 * It returns how many cores the executors shall have, or FLEXNET_NO_ANSWER. The same source is
 * compiled for BPF, where it replaces `loaded_core_rule` of the rounds, and for the host.
 *
 * What it promises: what a rule answers is bounded by flexnet_loaded_round below. Whatever a rule
 * writes into the round concerns no other part, but for `kept`.
 *
 * What it leaves to others: loading (src/loaded.rs), and folders (crates/flexnet-sim/src/folder).
 */
#ifndef FLEXNET_CORE_RULE_H
#define FLEXNET_CORE_RULE_H

#include <flexnet/arbiter.h>

/* A rule has at most so many parameters, and keeps so many numbers. */
#define FLEXNET_RULE_PARAMETERS 8
#define FLEXNET_RULE_KEPT 8
/* The rule has no answer: the default rule decides this round. */
#define FLEXNET_NO_ANSWER (-1)
/* More cores than any machine has are no answer either. */
#define FLEXNET_RULE_CORES_MAX 4096

/* What a rule sees in one round, and what it keeps; times in ns. */
struct flexnet_rule_round {
	flexnet_u64 now_ns;
	flexnet_u64 elapsed_ns;	      /* since the round before; the interval in the first one */
	flexnet_u64 delay_ns;	      /* age of the oldest queued message, 0: none */
	flexnet_u64 latency_delay_ns; /* of latency flows */
	flexnet_u64 depth;	      /* messages queued */
	flexnet_u64 busy_ns;	      /* executor CPU time since the round before */
	flexnet_u64 average;	      /* busy cores * FLEXNET_CORE, over about eight rounds */
	flexnet_u64 idle_since_ns;    /* since when there is no work, 0: there is */
	flexnet_u64 calm_since_ns;    /* since when the delay is under the low mark, 0: it is not */
	flexnet_u64 objective_ns;     /* the operator's */
	flexnet_u64 low_mark_ns;      /* the operator's */
	flexnet_u64 idle_delay_ns;    /* the operator's */
	flexnet_u32 runnable;	      /* executors running or waiting for a core */
	flexnet_u32 latency_runnable; /* of these, with latency flows */
	flexnet_u32 granted;	      /* cores granted now */
	flexnet_u32 cores_max;	      /* most cores that may be granted */
	/* design.toml's parameters, in its order. */
	flexnet_u64 parameters[FLEXNET_RULE_PARAMETERS];
	/* The rule's own from round to round. Starts as zeros. */
	flexnet_u64 kept[FLEXNET_RULE_KEPT];
};

/* Defines the rule. */
#ifdef __BPF__
#define FLEXNET_CORE_RULE(round)                                                           \
	char flexnet_license[] __attribute__((section("license"), used)) = "Dual BSD/GPL"; \
	__attribute__((section("freplace/loaded_core_rule"), used)) int flexnet_core_rule( \
		struct flexnet_rule_round *round FLEXNET_NONNULL)
#else
#define FLEXNET_CORE_RULE(round)                                 \
	int flexnet_core_rule(struct flexnet_rule_round *round); \
	int flexnet_core_rule(struct flexnet_rule_round *round)
#endif

/* The direction of the round before, +1, 0 or -1; 0 where that is long ago. Called before the
 * default rule. */
FLEXNET_INLINE flexnet_s32 flexnet_last_direction(const struct flexnet_arbiter_params *params,
						  const struct flexnet_arbiter_sample *sample,
						  const struct flexnet_arbiter_memory *memory)
{
	if (sample->now_ns >= memory->round_ns + 2 * params->interval_ns)
		return 0;
	return memory->direction;
}

/* Fills in what a rule sees. `memory` is as the default rule has left it in this round, and
 * `before_ns` is when the round before was. `parameters` and `kept` stay. */
FLEXNET_INLINE void flexnet_rule_sees(struct flexnet_rule_round *round,
				      const struct flexnet_arbiter_params *params,
				      const struct flexnet_arbiter_sample *sample,
				      const struct flexnet_arbiter_memory *memory,
				      flexnet_u64 before_ns)
{
	round->now_ns = sample->now_ns;
	round->elapsed_ns = before_ns && sample->now_ns > before_ns ? sample->now_ns - before_ns :
								      params->interval_ns;
	round->delay_ns = sample->delay_ns;
	round->latency_delay_ns = sample->latency_delay_ns;
	round->depth = sample->depth;
	round->busy_ns = sample->busy_ns;
	round->average = memory->average;
	round->idle_since_ns = memory->idle_since_ns;
	round->calm_since_ns = memory->calm_since_ns;
	round->objective_ns = params->objective_ns;
	round->low_mark_ns = params->low_mark_ns;
	round->idle_delay_ns = params->idle_delay_ns;
	round->runnable = sample->runnable;
	round->latency_runnable = sample->latency_runnable;
	round->granted = sample->granted;
	round->cores_max = params->cores_max;
}

/*
 * Puts a rule's answer in the place of the default rule's decision. An answer out of 0 to
 * FLEXNET_RULE_CORES_MAX is none, and the decision stays; returns 0 then, else 1.
 *
 * As with the built-in rules there is a core while an executor has work, none after the idle
 * delay without work, and never more than may be. Decisions of consecutive rounds are never
 * opposite: `last` is flexnet_last_direction before this round.
 */
FLEXNET_INLINE int flexnet_rule_decides(int answer, flexnet_s32 last,
					const struct flexnet_arbiter_params *params,
					const struct flexnet_arbiter_sample *sample,
					struct flexnet_arbiter_memory *memory,
					struct flexnet_arbiter_decision *decision)
{
	flexnet_u32 granted = sample->granted, cores = (flexnet_u32)answer;

	if (answer < 0 || answer > FLEXNET_RULE_CORES_MAX)
		return 0;
	if (memory->idle_since_ns &&
	    sample->now_ns - memory->idle_since_ns >= params->idle_delay_ns)
		cores = 0;
	else if (!cores && sample->runnable)
		cores = 1;
	if ((last > 0 && cores < granted) || (last < 0 && cores > granted))
		cores = granted;
	/* The operator's bound holds at once. */
	if (cores > params->cores_max)
		cores = params->cores_max;
	decision->cores = cores;
	decision->cause_ns = sample->now_ns;
	decision->rounds = 1;
	if (cores == granted)
		decision->reason = FLEXNET_REASON_NONE;
	else if (cores > granted)
		decision->reason = granted ? FLEXNET_REASON_DELAY : FLEXNET_REASON_ARRIVAL;
	else if (granted > params->cores_max)
		decision->reason = FLEXNET_REASON_LIMIT;
	else
		decision->reason = cores ? FLEXNET_REASON_CALM : FLEXNET_REASON_IDLE;
	memory->direction = cores > granted ? 1 : cores < granted ? -1 : 0;
	return 1;
}

#endif /* FLEXNET_CORE_RULE_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * rounds.c - runs a core rule through generated rounds, for `flexnet design check`.
 *
 * Half are runs of rounds under a changing load, half are any numbers. It fails where the answer
 * or `kept` differs between two calls with the same round: a rule keeps nothing elsewhere. What
 * comes out of the bounds is a mistake of core_rule.h, and fails as well. Its arguments are the
 * rule's parameters.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <flexnet/core_rule.h>

#define ROUNDS 200000
#define CORES_MAX 8

int flexnet_core_rule(struct flexnet_rule_round *round);

static flexnet_u64 state = 88172645463325252ULL;

static flexnet_u64 below(flexnet_u64 bound)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % bound;
}

static flexnet_u64 any(void)
{
	return below(1ULL << 31) << below(33);
}

/* The load changes every 512 rounds. */
static void plausible(struct flexnet_arbiter_sample *sample, int number, flexnet_u64 *now)
{
	flexnet_u64 load = (number / 512 * 7) % 9;

	*now += 50000 + below(100000);
	sample->now_ns = *now;
	sample->runnable = load ? below(load) : 0;
	sample->latency_runnable = sample->runnable;
	sample->delay_ns = sample->runnable ? below(20000 * load) : 0;
	sample->latency_delay_ns = sample->delay_ns;
	sample->depth = sample->runnable ? below(30 * load) : 0;
	sample->busy_ns = below(100000) * sample->granted;
}

static void anything(struct flexnet_arbiter_sample *sample)
{
	sample->now_ns = any();
	sample->delay_ns = any();
	sample->busy_ns = any();
	sample->depth = any();
	sample->latency_delay_ns = any();
	sample->runnable = any();
	sample->latency_runnable = any();
	sample->granted = any() % (CORES_MAX + 1);
}

static int fail(const char *what, int number, int answer)
{
	fprintf(stderr, "round %d: %s (the answer was %d)\n", number, what, answer);
	return 1;
}

int main(int argc, char **argv)
{
	const struct flexnet_arbiter_params params = {
		.objective_ns = 50000,
		.low_mark_ns = 10000,
		.interval_ns = 100000,
		.idle_delay_ns = 500000,
		.cores_max = CORES_MAX,
	};
	struct flexnet_arbiter_sample sample = {}, wild;
	struct flexnet_arbiter_memory memory = {};
	struct flexnet_arbiter_decision decision = {};
	struct flexnet_rule_round round = {}, again;
	flexnet_u64 now = 1000000, before_ns;
	int number, answer, refused = 0, changes = 0;
	flexnet_s32 last;

	for (number = 0; number < FLEXNET_RULE_PARAMETERS && number + 1 < argc; number++)
		round.parameters[number] = strtoull(argv[number + 1], NULL, 10);
	for (number = 0; number < ROUNDS; number++) {
		plausible(&sample, number, &now);
		last = flexnet_last_direction(&params, &sample, &memory);
		before_ns = memory.round_ns;
		flexnet_arbiter_round(&params, &sample, &memory, &decision);
		flexnet_rule_sees(&round, &params, &sample, &memory, before_ns);
		again = round;
		answer = flexnet_core_rule(&round);
		if (flexnet_core_rule(&again) != answer ||
		    memcmp(again.kept, round.kept, sizeof(again.kept)))
			return fail("the same round has two answers", number, answer);
		refused +=
			!flexnet_rule_decides(answer, last, &params, &sample, &memory, &decision);
		if (decision.cores > CORES_MAX)
			return fail("more cores than there may be", number, answer);
		changes += decision.cores != sample.granted;
		sample.granted = decision.cores;
		/* What no machine says must not break the rule either. */
		wild = sample;
		anything(&wild);
		again = round;
		flexnet_rule_sees(&again, &params, &wild, &memory, any());
		(void)flexnet_core_rule(&again);
	}
	printf("%d rounds under sanitizers: %d changes of cores, %d rounds without an answer\n",
	       ROUNDS, changes, refused);
	return 0;
}

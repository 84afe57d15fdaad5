/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tables for include/flexnet/designs.h, compiled for the host: the source BPF
 * and the simulator run is the one tested here.
 */
#include <flexnet/designs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expect.h"

#define US 1000ull
#define MS 1000000ull

static struct flexnet_design_params of_design(flexnet_u32 design)
{
	struct flexnet_design_params params = {
		.arbiter = {
			.objective_ns = 50 * US,
			.low_mark_ns = 10 * US,
			.interval_ns = 5 * US,
			.idle_delay_ns = 100 * US,
			.cores_max = 4,
		},
		.design = design,
		.high_ns = 20 * US,
		.low_ns = 1 * US,
		.workers = 3,
		.high_percent = 95,
		.low_percent = 75,
		.runtime_ns = 20 * US,
		.period_ns = 40 * US,
	};

	return params;
}

struct row {
	const char *what;
	flexnet_u64 at_ns, delay_ns, busy_ns, depth;
	flexnet_u32 runnable;
	flexnet_u32 cores, reason; /* expected */
};

/* Runs rows as consecutive rounds, feeding back what was granted. */
static void run_rows(const char *name, flexnet_u32 design, const struct row *rows, size_t count)
{
	struct flexnet_design_params params = of_design(design);
	struct flexnet_arbiter_memory memory;
	flexnet_u32 granted = 0;
	size_t i;

	memset(&memory, 0, sizeof(memory));
	for (i = 0; i < count; i++) {
		const struct row *row = &rows[i];
		struct flexnet_arbiter_sample sample = {
			.now_ns = row->at_ns,
			.delay_ns = row->delay_ns,
			.busy_ns = row->busy_ns,
			.depth = row->depth,
			.runnable = row->runnable,
			.granted = granted,
		};
		struct flexnet_arbiter_decision decision;

		flexnet_design_round(&params, &sample, &memory, &decision);
		EXPECT(decision.cores == row->cores && decision.reason == row->reason,
		       "%s, row %zu (%s): %u cores for reason %u, expected %u for %u", name, i,
		       row->what, decision.cores, decision.reason, row->cores, row->reason);
		granted = decision.cores;
	}
}

#define RUN(name, design, rows) run_rows(name, design, rows, sizeof(rows) / sizeof(rows[0]))

static void test_fixed(void)
{
	static const struct row rows[] = {
		{ "nothing", 1 * MS, 0, 0, 0, 0, 0, 0 },
		{ "work: all workers at once", 1 * MS + 5 * US, 0, 0, 1, 1, 3,
		  FLEXNET_REASON_ARRIVAL },
		{ "late: no more", 1 * MS + 10 * US, 9 * MS, 0, 99, 9, 3, 0 },
		{ "idle", 1 * MS + 15 * US, 0, 0, 0, 0, 3, 0 },
		{ "for the delay", 1 * MS + 115 * US, 0, 0, 0, 0, 0, FLEXNET_REASON_IDLE },
	};

	RUN("dedicating", FLEXNET_DESIGN_SNAP_DEDICATING, rows);
	RUN("shinjuku", FLEXNET_DESIGN_SHINJUKU, rows);
	RUN("jbsq", FLEXNET_DESIGN_SHINJUKU_JBSQ, rows);
}

static void test_netchannel(void)
{
	static const struct row rows[] = {
		{ "work", 1 * MS, 0, 0, 1, 1, 1, FLEXNET_REASON_ARRIVAL },
		{ "late, but no channel is full", 1 * MS + 5 * US, 9 * MS, 5 * US, 31, 2, 1, 0 },
		{ "full", 1 * MS + 10 * US, 0, 5 * US, 32, 2, 2, FLEXNET_REASON_DELAY },
		{ "both full, nobody for a third", 1 * MS + 15 * US, 0, 5 * US, 64, 2, 2, 0 },
		{ "both full", 1 * MS + 20 * US, 0, 5 * US, 64, 3, 3, FLEXNET_REASON_DELAY },
		{ "idle", 1 * MS + 25 * US, 0, 0, 0, 0, 3, 0 },
		{ "for the delay", 1 * MS + 125 * US, 0, 0, 0, 0, 0, FLEXNET_REASON_IDLE },
	};

	RUN("netchannel", FLEXNET_DESIGN_NETCHANNEL, rows);
}

static void test_snap(void)
{
	static const struct row spreading[] = {
		{ "three engines awake", 1 * MS, 0, 0, 3, 3, 3, FLEXNET_REASON_ARRIVAL },
		{ "as many as there are cores", 1 * MS + 5 * US, 0, 0, 9, 9, 4,
		  FLEXNET_REASON_DELAY },
		{ "asleep", 1 * MS + 10 * US, 0, 0, 0, 1, 1, FLEXNET_REASON_IDLE },
		{ "all", 1 * MS + 15 * US, 0, 0, 0, 0, 0, FLEXNET_REASON_IDLE },
	};
	static const struct row compacting[] = {
		{ "one core", 1 * MS, 0, 0, 3, 3, 1, FLEXNET_REASON_ARRIVAL },
		{ "at the SLO", 1 * MS + 5 * US, 20 * US, 5 * US, 9, 3, 1, 0 },
		{ "above", 1 * MS + 10 * US, 21 * US, 5 * US, 9, 3, 2, FLEXNET_REASON_DELAY },
		{ "low", 1 * MS + 15 * US, 0, 0, 1, 2, 2, 0 },
		{ "low for the delay", 1 * MS + 115 * US, 0, 0, 1, 2, 1, FLEXNET_REASON_CALM },
	};

	RUN("spreading", FLEXNET_DESIGN_SNAP_SPREADING, spreading);
	RUN("compacting", FLEXNET_DESIGN_SNAP_COMPACTING, compacting);
}

static void test_shenango(void)
{
	static const struct row congestion[] = {
		{ "an arrival, no core: at once", 1 * MS, 0, 0, 1, 3, 1, FLEXNET_REASON_ARRIVAL },
		{ "queued after the last sample", 1 * MS + 5 * US, 4 * US, 5 * US, 1, 3, 1, 0 },
		{ "queued at the last sample", 1 * MS + 10 * US, 5 * US, 5 * US, 1, 3, 2,
		  FLEXNET_REASON_DELAY },
		{ "still", 1 * MS + 15 * US, 10 * US, 5 * US, 1, 3, 3, FLEXNET_REASON_DELAY },
		{ "nothing to do: back at once", 1 * MS + 20 * US, 0, 0, 0, 1, 1,
		  FLEXNET_REASON_IDLE },
		{ "the last, too", 1 * MS + 25 * US, 0, 0, 0, 0, 0, FLEXNET_REASON_IDLE },
	};
	static const struct row delay[] = {
		{ "work", 1 * MS, 0, 0, 1, 3, 1, FLEXNET_REASON_ARRIVAL },
		{ "over, but consecutive", 1 * MS + 5 * US, 21 * US, 5 * US, 9, 3, 1, 0 },
		{ "over", 1 * MS + 10 * US, 21 * US, 5 * US, 9, 3, 2, FLEXNET_REASON_DELAY },
		{ "under, but consecutive", 1 * MS + 15 * US, 0, 5 * US, 1, 2, 2, 0 },
		{ "between the marks", 1 * MS + 20 * US, 1 * US, 5 * US, 1, 2, 2, 0 },
		{ "under", 1 * MS + 25 * US, 999, 5 * US, 1, 2, 1, FLEXNET_REASON_CALM },
	};
	static const struct row utilisation[] = {
		{ "work", 1 * MS, 0, 0, 1, 3, 1, FLEXNET_REASON_ARRIVAL },
		{ "delay is no reason", 1 * MS + 10 * US, 9 * MS, 0, 9, 3, 1, 0 },
		/* Eight rounds' work at once: the average is above 95% of a core. */
		{ "busy", 1 * MS + 15 * US, 0, 40 * US, 9, 3, 2, FLEXNET_REASON_DELAY },
		{ "consecutive", 1 * MS + 20 * US, 0, 5 * US, 1, 2, 2, 0 },
		{ "on average not, but busy now", 1 * MS + 25 * US, 0, 8 * US, 1, 2, 2, 0 },
		{ "under 75% of two", 1 * MS + 30 * US, 0, 0, 1, 2, 1, FLEXNET_REASON_CALM },
	};

	RUN("shenango", FLEXNET_DESIGN_SHENANGO, congestion);
	RUN("delay range", FLEXNET_DESIGN_SHENANGO_DELAY, delay);
	RUN("utilisation range", FLEXNET_DESIGN_SHENANGO_UTILISATION, utilisation);
}

/* The default design is arbiter.h's rule, and an unknown number is the default. */
static void test_default(void)
{
	static const flexnet_u32 designs[] = { FLEXNET_DESIGN_FLEXNET, FLEXNET_DESIGN_COUNT, ~0u };
	size_t i;

	for (i = 0; i < 3; i++) {
		struct flexnet_design_params params = of_design(designs[i]);
		struct flexnet_arbiter_memory one = { 0 }, other = { 0 };
		struct flexnet_arbiter_decision a, b;
		struct flexnet_arbiter_sample sample = { .runnable = 2, .delay_ns = 60 * US };
		int round;

		for (round = 0; round < 50; round++) {
			sample.now_ns = MS + round * 5 * US;
			sample.runnable = (round / 7) % 3;
			flexnet_design_round(&params, &sample, &one, &a);
			flexnet_arbiter_round(&params.arbiter, &sample, &other, &b);
			EXPECT(!memcmp(&one, &other, sizeof(one)) && a.cores == b.cores &&
				       a.reason == b.reason,
			       "round %d", round);
			sample.granted = a.cores;
		}
	}
}

/* Any design after any other, on the same memory: within the bounds, and its
 * cores go back when work ends. */
static void test_switching(void)
{
	struct flexnet_arbiter_memory memory = { 0 };
	struct flexnet_arbiter_decision decision;
	struct flexnet_arbiter_sample sample = { .now_ns = MS };
	flexnet_u32 from, to, round;

	for (from = 0; from < FLEXNET_DESIGN_COUNT; from++)
		for (to = 0; to < FLEXNET_DESIGN_COUNT; to++)
			for (round = 0; round < 100; round++) {
				struct flexnet_design_params params =
					of_design(round < 20 ? from : to);

				sample.now_ns += 5 * US;
				sample.runnable = round < 40 ? 1 + round % 5 : 0;
				sample.depth = sample.runnable * 20;
				sample.delay_ns = sample.runnable ? round % 10 * 4 * US : 0;
				sample.busy_ns = sample.granted * 4 * US;
				flexnet_design_round(&params, &sample, &memory, &decision);
				EXPECT(decision.cores <= 4, "%u to %u", from, to);
				EXPECT(round < 99 || !decision.cores, "%u after %u keeps %u", to,
				       from, decision.cores);
				sample.granted = decision.cores;
			}
}

static void test_between_applications(void)
{
	struct flexnet_design_params params = of_design(FLEXNET_DESIGN_SNAP_SPREADING);
	struct flexnet_quanta quanta = { 0 };
	static const struct {
		flexnet_u32 cores, guaranteed, max, congested, claim;
	} table[] = {
		{ 0, 0, 4, 0, FLEXNET_CLAIM_NONE }, { 0, 1, 4, 1, FLEXNET_CLAIM_REVOKE },
		{ 1, 1, 4, 1, FLEXNET_CLAIM_IDLE }, { 3, 1, 4, 1, FLEXNET_CLAIM_IDLE },
		{ 4, 1, 4, 1, FLEXNET_CLAIM_NONE }, { 1, 2, 4, 1, FLEXNET_CLAIM_REVOKE },
		{ 1, 2, 1, 1, FLEXNET_CLAIM_NONE },
	};
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		EXPECT(flexnet_core_claim(table[i].cores, table[i].guaranteed, table[i].max,
					  table[i].congested) == table[i].claim,
		       "claim, row %zu", i);
	EXPECT(flexnet_cores_above_guarantee(3, 1) == 2 && flexnet_cores_above_guarantee(1, 3) == 0,
	       "cores above the guarantee");

	EXPECT(flexnet_quanta_left(&params, &quanta, 100 * US) == 20 * US, "a whole budget");
	flexnet_quanta_use(&quanta, 15 * US);
	EXPECT(flexnet_quanta_left(&params, &quanta, 115 * US) == 5 * US, "what is left");
	flexnet_quanta_use(&quanta, 15 * US);
	EXPECT(flexnet_quanta_left(&params, &quanta, 139 * US) == 0, "used up");
	EXPECT(flexnet_quanta_refill_ns(&params, &quanta) == 140 * US, "the refill");
	EXPECT(flexnet_quanta_left(&params, &quanta, 140 * US) == 20 * US, "a new period");
	params.runtime_ns = 0;
	EXPECT(flexnet_quanta_left(&params, &quanta, 141 * US) > 20 * US, "no limit");
}

static void test_awake(void)
{
	static const struct {
		flexnet_u32 design, granted;
		flexnet_u64 delay_ns;
		flexnet_u32 awake;
	} table[] = {
		{ FLEXNET_DESIGN_FLEXNET, 1, 50 * US, 1 },
		{ FLEXNET_DESIGN_FLEXNET, 1, 51 * US, 2 },
		{ FLEXNET_DESIGN_FLEXNET, 4, 51 * US, 4 },
		{ FLEXNET_DESIGN_SNAP_SPREADING, 1, 0, 4 },
		{ FLEXNET_DESIGN_SHENANGO_DELAY, 2, 4 * US, 2 },
		{ FLEXNET_DESIGN_SHENANGO_DELAY, 2, 5 * US, 3 },
		{ FLEXNET_DESIGN_SHENANGO, 2, 5 * US, 2 },
		{ FLEXNET_DESIGN_SHINJUKU, 4, MS, 4 },
	};
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct flexnet_design_params params = of_design(table[i].design);

		params.arbiter.objective_ns = 50 * US;
		if (table[i].design == FLEXNET_DESIGN_SHENANGO_DELAY)
			params.high_ns = 4 * US;
		EXPECT(flexnet_design_awake(&params, table[i].granted, table[i].delay_ns) ==
			       table[i].awake,
		       "awake, row %zu", i);
		EXPECT(!flexnet_design_claims(&params) ==
			       (table[i].design != FLEXNET_DESIGN_SHENANGO &&
				table[i].design != FLEXNET_DESIGN_SHENANGO_DELAY),
		       "claims, row %zu", i);
	}
}

int main(void)
{
	test_fixed();
	test_netchannel();
	test_snap();
	test_shenango();
	test_default();
	test_switching();
	test_between_applications();
	test_awake();
	if (failures)
		return EXIT_FAILURE;
	puts("designs: all tables hold");
	return EXIT_SUCCESS;
}

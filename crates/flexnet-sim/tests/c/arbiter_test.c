/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tables for include/flexnet/arbiter.h, compiled for the host: the source BPF
 * runs is the one tested here. Prints the first failing row and exits 1.
 */
#include <flexnet/arbiter.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expect.h"

#define US 1000ull
#define MS 1000000ull

static const struct flexnet_arbiter_params params = {
	.objective_ns = 50 * US,
	.low_mark_ns = 10 * US,
	.interval_ns = 100 * US,
	.idle_delay_ns = 20 * MS,
	.cores_max = 4,
};

struct row {
	const char *what;
	flexnet_u64 at_ns;
	flexnet_u64 delay_ns, busy_ns, depth;
	flexnet_u32 runnable;
	flexnet_u32 cores, reason; /* expected */
};

/* Runs rows as consecutive rounds, feeding back what was granted. */
static void run_rows(const char *name, const struct row *rows, size_t count)
{
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
			.latency_delay_ns = row->delay_ns,
			.latency_busy_ns = row->busy_ns,
			.runnable = row->runnable,
			.latency_runnable = row->runnable,
			.granted = granted,
		};
		struct flexnet_arbiter_decision decision;

		flexnet_arbiter_round(&params, &sample, &memory, &decision);
		EXPECT(decision.cores == row->cores && decision.reason == row->reason,
		       "%s, row %zu (%s): %u cores for reason %u, expected %u for %u", name, i,
		       row->what, decision.cores, decision.reason, row->cores, row->reason);
		granted = decision.cores;
	}
}

static void test_growth(void)
{
	static const struct row rows[] = {
		{ "work arrives: a core at once", 1 * MS, 0, 0, 1, 1, 1, FLEXNET_REASON_ARRIVAL },
		{ "late, but one executor", 1 * MS + 100 * US, 900 * US, 100 * US, 9, 1, 1, 0 },
		{ "late, a second could run", 1 * MS + 200 * US, 60 * US, 100 * US, 9, 2, 2,
		  FLEXNET_REASON_DELAY },
		{ "exactly at the objective", 1 * MS + 300 * US, 50 * US, 200 * US, 9, 3, 2, 0 },
		{ "over it", 1 * MS + 400 * US, 51 * US, 200 * US, 9, 3, 3, FLEXNET_REASON_DELAY },
		{ "again", 1 * MS + 500 * US, 51 * US, 200 * US, 9, 9, 4, FLEXNET_REASON_DELAY },
		{ "the operator's maximum", 1 * MS + 600 * US, 9 * MS, 400 * US, 9, 9, 4, 0 },
	};

	run_rows("growth", rows, sizeof(rows) / sizeof(rows[0]));
}

static void test_idle(void)
{
	static const struct row rows[] = {
		{ "work", 1 * MS, 0, 0, 1, 1, 1, FLEXNET_REASON_ARRIVAL },
		{ "gone", 2 * MS, 0, 0, 0, 0, 1, 0 },
		{ "nearly the idle delay", 22 * MS - 1, 0, 0, 0, 0, 1, 0 },
		{ "the idle delay", 22 * MS, 0, 0, 0, 0, 0, FLEXNET_REASON_IDLE },
		{ "not the opposite in the next round", 22 * MS + 100 * US, 0, 0, 1, 1, 0, 0 },
		{ "but in the one after it", 22 * MS + 200 * US, 0, 0, 1, 1, 1,
		  FLEXNET_REASON_ARRIVAL },
	};
	static const struct row later[] = {
		{ "work", 1 * MS, 0, 0, 1, 1, 1, FLEXNET_REASON_ARRIVAL },
		{ "gone", 2 * MS, 0, 0, 0, 0, 1, 0 },
		{ "idle", 30 * MS, 0, 0, 0, 0, 0, FLEXNET_REASON_IDLE },
		{ "seconds later: at once", 3000 * MS, 0, 0, 1, 1, 1, FLEXNET_REASON_ARRIVAL },
	};
	static const struct row stalled[] = {
		{ "work", 1 * MS, 0, 0, 1, 1, 1, FLEXNET_REASON_ARRIVAL },
		{ "a peer stopped reading: keeps the core", 2 * MS, 0, 0, 5, 0, 1, 0 },
		{ "however long", 90 * MS, 0, 0, 5, 0, 1, 0 },
	};

	run_rows("idle", rows, sizeof(rows) / sizeof(rows[0]));
	run_rows("later", later, sizeof(later) / sizeof(later[0]));
	run_rows("stalled", stalled, sizeof(stalled) / sizeof(stalled[0]));
}

/* Two cores at a given load: are both kept? */
static void test_shrink(void)
{
	static const struct {
		flexnet_u64 busy_permille; /* of one core, both together */
		flexnet_u32 cores;
	} table[] = { { 0, 1 }, { 500, 1 }, { 800, 1 }, { 900, 2 }, { 1500, 2 }, { 2000, 2 } };
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct flexnet_arbiter_memory memory = { 0 };
		struct flexnet_arbiter_sample sample = { .runnable = 2, .depth = 1, .granted = 2 };
		struct flexnet_arbiter_decision decision = { 0 };
		int round;

		for (round = 0; round < 300 && sample.granted == 2; round++) {
			sample.now_ns = 1 * MS + round * params.interval_ns;
			sample.busy_ns = params.interval_ns * table[i].busy_permille / 1000;
			flexnet_arbiter_round(&params, &sample, &memory, &decision);
			sample.granted = decision.cores;
		}
		EXPECT(sample.granted == table[i].cores,
		       "at %llu permille of a core: %u cores kept, not %u",
		       (unsigned long long)table[i].busy_permille, sample.granted, table[i].cores);
		if (table[i].cores == 1)
			EXPECT(decision.reason == FLEXNET_REASON_CALM && round >= 200,
			       "shrunk after %d rounds for reason %u", round, decision.reason);
	}
}

/* Throughput flows whose oldest message is always old: how many cores in the end? */
static void test_throughput_flows(void)
{
	static const struct {
		const char *what;
		flexnet_u64 busy_permille, latency_busy_permille; /* of one core */
		flexnet_u32 runnable, latency_runnable, waiting, granted;
		flexnet_u32 cores, reason, saturated; /* expected; the reason of the last change */
	} table[] = {
		{ "one core carries them", 600, 0, 3, 0, 0, 0, 1, FLEXNET_REASON_ARRIVAL, 0 },
		{ "one is too few", 900, 0, 3, 0, 0, 0, 2, FLEXNET_REASON_DELAY, 0 },
		{ "no more cores than executors", 2000, 0, 2, 0, 0, 0, 2, FLEXNET_REASON_DELAY, 0 },
		{ "three are too many", 1500, 0, 4, 0, 0, 3, 2, FLEXNET_REASON_CALM, 0 },
		{ "general tasks wait", 2000, 0, 3, 0, 1, 2, 0, FLEXNET_REASON_PRESSURE,
		  FLEXNET_SATURATED_ALL },
		{ "no first core then", 0, 0, 3, 0, 1, 0, 0, 0, FLEXNET_SATURATED_ALL },
		{ "latency flows keep theirs", 3000, 900, 3, 1, 1, 3, 2, FLEXNET_REASON_CALM,
		  FLEXNET_SATURATED_ALL },
		{ "and have one first", 0, 0, 1, 1, 1, 0, 1, FLEXNET_REASON_ARRIVAL, 0 },
	};
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct flexnet_arbiter_memory memory = {
			.round_ns = 1,
			.pressure = FLEXNET_PRESSURE_ALL * table[i].waiting,
		};
		struct flexnet_arbiter_sample sample = {
			.delay_ns = 40 * MS,
			.depth = 9,
			.runnable = table[i].runnable,
			.latency_runnable = table[i].latency_runnable,
			.waiting = table[i].waiting,
			.granted = table[i].granted,
		};
		struct flexnet_arbiter_decision decision;
		flexnet_u32 reason = 0, saturated = 0;
		int round;

		for (round = 0; round < 1000; round++) {
			sample.now_ns = 1 * MS + round * params.interval_ns;
			sample.busy_ns = params.interval_ns * table[i].busy_permille / 1000;
			sample.latency_busy_ns =
				params.interval_ns * table[i].latency_busy_permille / 1000;
			flexnet_arbiter_round(&params, &sample, &memory, &decision);
			saturated = flexnet_is_saturated(&params, &sample, &memory);
			if (decision.cores != sample.granted)
				reason = decision.reason;
			sample.granted = decision.cores;
		}
		EXPECT(sample.granted == table[i].cores && reason == table[i].reason &&
			       saturated == table[i].saturated,
		       "%s: %u cores for reason %u, saturated %u", table[i].what, sample.granted,
		       reason, saturated);
	}
}

/* Pressure is what lasts for more than half of the idle delay, whatever that and the interval are,
 * and it ends as it began. */
static void test_pressure(void)
{
	static const struct {
		flexnet_u64 interval_ns, idle_delay_ns;
	} times[] = { { 100 * US, 20 * MS }, { 20 * US, 20 * MS },   { 100 * US, 1 * MS },
		      { 10 * MS, 20 * MS },  { 100 * US, 200 * MS }, { 1 * MS, 60000 * MS } };
	static const struct {
		flexnet_u32 waits, of; /* rounds */
		int pressure;	       /* expected */
	} table[] = { { 10, 10, 1 }, { 0, 10, 0 }, { 6, 10, 1 }, { 4, 10, 0 }, { 1, 10, 0 } };
	size_t i, k;

	for (k = 0; k < sizeof(times) / sizeof(times[0]); k++) {
		struct flexnet_arbiter_params own = params;
		struct flexnet_arbiter_memory memory = { .round_ns = 1 };
		struct flexnet_arbiter_sample sample = { .now_ns = 1 };
		flexnet_u64 rounds = 10 * times[k].idle_delay_ns / times[k].interval_ns + 200;
		flexnet_u64 round;

		own.interval_ns = times[k].interval_ns;
		own.idle_delay_ns = times[k].idle_delay_ns;
		/* Where one sample is an eighth of the average, a run of them is much. */
		for (i = 0; i < (rounds > 300 ? sizeof(table) / sizeof(table[0]) : 2); i++) {
			for (round = 0; round < rounds; round++) {
				sample.now_ns += own.interval_ns;
				sample.waiting = round % table[i].of < table[i].waits;
				flexnet_arbiter_observe(&own, &sample, &memory);
			}
			EXPECT(flexnet_under_pressure(&memory) == table[i].pressure,
			       "times %zu, %u of %u rounds: %llu", k, table[i].waits, table[i].of,
			       (unsigned long long)memory.pressure);
		}
		/* One task that waits at the first sample after a pause says nothing. */
		sample.now_ns += 3 * own.idle_delay_ns;
		sample.waiting = 1;
		flexnet_arbiter_observe(&own, &sample, &memory);
		EXPECT(!flexnet_under_pressure(&memory), "times %zu, after a pause", k);
	}
}

static void test_no_opposites(void)
{
	struct flexnet_arbiter_memory memory = { 0 };
	flexnet_u32 granted = 0, seed = 1;
	int last = 0, round;

	for (round = 0; round < 200000; round++) {
		struct flexnet_arbiter_sample sample = { .now_ns = 1 * MS +
								   round * params.interval_ns };
		struct flexnet_arbiter_decision decision;
		int direction;

		seed = seed * 1664525u + 1013904223u;
		sample.runnable = (seed >> 8) % 3 ? (seed >> 12) % 7 : 0;
		sample.depth = sample.runnable ? (seed >> 20) % 9 : 0;
		sample.delay_ns = sample.depth ? (seed >> 16) % (200 * US) : 0;
		if ((round / 1000) % 2)
			sample.runnable = sample.depth = sample.delay_ns = 0;
		sample.latency_delay_ns = (seed >> 6) % 2 ? sample.delay_ns : 0;
		sample.latency_runnable = sample.runnable > 2 ? sample.runnable - 2 : 0;
		sample.waiting = round / 500 % 3 == 0;
		sample.busy_ns = sample.runnable * params.interval_ns / 2;
		sample.granted = granted;
		flexnet_arbiter_round(&params, &sample, &memory, &decision);
		direction = (decision.cores > granted) - (decision.cores < granted);
		EXPECT(direction * last >= 0, "opposite decisions in rounds %d and %d", round - 1,
		       round);
		EXPECT(decision.cores <= params.cores_max, "%u cores", decision.cores);
		granted = decision.cores;
		last = direction;
	}
}

static void test_limit(void)
{
	struct flexnet_arbiter_params none = params;
	struct flexnet_arbiter_memory memory = { 0 };
	struct flexnet_arbiter_sample sample = { .now_ns = 1 * MS, .runnable = 3, .depth = 3 };
	struct flexnet_arbiter_decision decision;

	none.cores_max = 0;
	flexnet_arbiter_round(&none, &sample, &memory, &decision);
	EXPECT(decision.cores == 0, "a maximum of zero grants %u", decision.cores);
	sample.granted = 3;
	flexnet_arbiter_round(&none, &sample, &memory, &decision);
	EXPECT(decision.cores == 0 && decision.reason == FLEXNET_REASON_LIMIT, "kept %u",
	       decision.cores);
}

static void test_small_functions(void)
{
	static const struct {
		flexnet_u32 online, general_min, net_max, cores;
	} cores[] = { { 1, 1, 8, 0 }, { 2, 1, 8, 1 }, { 2, 0, 8, 1 }, { 8, 2, 4, 4 },
		      { 8, 6, 4, 2 }, { 4, 9, 4, 0 }, { 8, 1, 0, 0 } };
	size_t i;

	for (i = 0; i < sizeof(cores) / sizeof(cores[0]); i++)
		EXPECT(flexnet_cores_max(cores[i].online, cores[i].general_min, cores[i].net_max) ==
			       cores[i].cores,
		       "cores_max row %zu", i);

	EXPECT(flexnet_queue_depth(10, 4, 3) == 3, "depth");
	EXPECT(flexnet_queue_depth(10, 9, 3) == 0, "a client that completes what it never queued");
	EXPECT(flexnet_queue_age(100, 40) == 60 && flexnet_queue_age(100, 0) == 0 &&
		       flexnet_queue_age(100, 140) == 0,
	       "age, no stamp, a stamp of the future");

	EXPECT(flexnet_executors_wanted(8, 3) == 3 && flexnet_executors_wanted(2, 3) == 2 &&
		       flexnet_executors_wanted(5, 0) == 1,
	       "wanted executors");

	EXPECT(flexnet_scale_by_weight(1000, 100) == 1000 &&
		       flexnet_scale_by_weight(1000, 200) == 500 &&
		       flexnet_scale_by_weight(1000, 0) == 100000 &&
		       flexnet_scale_by_weight(1000000, 4000000000u) == 10000,
	       "weights are clamped to 1..10000");

	EXPECT(flexnet_wakeup_vtime(100, 1000, 50) == 950 &&
		       flexnet_wakeup_vtime(990, 1000, 50) == 990 &&
		       flexnet_wakeup_vtime(5, 20, 50) == 5 &&
		       flexnet_wakeup_vtime(2000, 1000, 50) == 2000,
	       "a sleeper comes back at most a lag behind");

	EXPECT(flexnet_move_vtime(120, 100, 7000) == 7020 &&
		       flexnet_move_vtime(7020, 7000, 100) == 120 &&
		       flexnet_move_vtime(80, 100, 7000) == 7000,
	       "a task takes along what it is ahead, and not what it is behind");

	EXPECT(!flexnet_lower_class_first(99, 100, 1) && flexnet_lower_class_first(100, 100, 1) &&
		       !flexnet_lower_class_first(100, 100, 0),
	       "a lower class has its turn after the budget, if it waits");

	EXPECT(flexnet_preempt_step(10 * MS, 9 * MS, 0, 1 * MS, 100 * US) == FLEXNET_PREEMPT_FLAG &&
		       flexnet_preempt_step(10 * MS, 9 * MS + 1, 0, 1 * MS, 100 * US) ==
			       FLEXNET_PREEMPT_NO &&
		       flexnet_preempt_step(10 * MS, 8 * MS, 10 * MS - 99 * US, 1 * MS, 100 * US) ==
			       FLEXNET_PREEMPT_NO &&
		       flexnet_preempt_step(10 * MS, 8 * MS, 10 * MS - 100 * US, 1 * MS,
					    100 * US) == FLEXNET_PREEMPT_KICK,
	       "flag at the quantum, kick after the grace");
}

static void test_backoff(void)
{
	struct flexnet_arbiter_memory memory = { 0 };
	struct flexnet_arbiter_sample sample = { .now_ns = 1 * MS, .depth = 1, .granted = 1 };
	int round;

	EXPECT(flexnet_next_round(&params, &memory) == params.interval_ns, "first period");
	for (round = 0; round < 20; round++) {
		sample.now_ns += params.interval_ns;
		flexnet_arbiter_observe(&params, &sample, &memory);
	}
	EXPECT(flexnet_next_round(&params, &memory) == params.interval_ns
							       << FLEXNET_BACKOFF_SHIFT_MAX,
	       "stalled flows: %llu", (unsigned long long)flexnet_next_round(&params, &memory));
	sample.runnable = 1;
	sample.now_ns += params.interval_ns;
	flexnet_arbiter_observe(&params, &sample, &memory);
	EXPECT(flexnet_next_round(&params, &memory) == params.interval_ns, "work again");

	sample.granted = params.cores_max;
	for (round = 0; round < 2; round++) {
		/* With work, and then without: there is no core to give. */
		sample.runnable = sample.depth = !round;
		sample.now_ns += params.interval_ns;
		flexnet_arbiter_observe(&params, &sample, &memory);
		EXPECT(flexnet_next_round(&params, &memory) == params.interval_ns
								       << FLEXNET_STEADY_SHIFT,
		       "at the most cores, %u executors runnable", sample.runnable);
	}
	sample.granted = params.cores_max - 1;
	sample.now_ns += params.interval_ns;
	flexnet_arbiter_observe(&params, &sample, &memory);
	EXPECT(flexnet_next_round(&params, &memory) == params.interval_ns, "a core may be needed");
}

static void test_saturation(void)
{
	static const struct {
		const char *what;
		flexnet_u64 at_ns, delay_ns;
		flexnet_u32 runnable, granted, idle;
		flexnet_u32 saturated; /* expected */
	} rows[] = {
		{ "nothing", 1 * MS, 0, 0, 0, 1, 0 },
		{ "all cores granted, one executor more, but soon served", 2 * MS, 500 * US, 5, 4,
		  0, 0 },
		{ "late, but it may have a core yet", 3 * MS, 9 * MS, 5, 3, 0, 0 },
		{ "late, but nobody waits for a core", 4 * MS, 9 * MS, 4, 4, 0, 0 },
		{ "too few", 5 * MS, 501 * US, 5, 4, 0, 1 },
		{ "its work is done inline", 6 * MS, 0, 0, 0, 0, 1 },
		{ "a core is idle for a moment", 1000 * MS, 0, 0, 0, 1, 1 },
		{ "and busy again", 1014 * MS, 0, 0, 0, 0, 1 },
		{ "the hold's last moment", 4004 * MS, 0, 0, 0, 0, 1 },
		{ "its end", 4005 * MS, 0, 0, 0, 0, 0 },
		{ "the trial", 4006 * MS, 9 * MS, 1, 1, 0, 0 },
		{ "ends as before: twice as long", 4200 * MS, 9 * MS, 5, 4, 0, 1 },
		{ "longer than the first", 12199 * MS, 0, 0, 0, 0, 1 },
		{ "its end", 12200 * MS, 0, 0, 0, 0, 0 },
		{ "a long time later: as at first", 60000 * MS, 9 * MS, 5, 4, 0, 1 },
		{ "its end", 64000 * MS, 0, 0, 0, 0, 0 },
		{ "too few again", 64001 * MS, 9 * MS, 5, 4, 1, 1 },
		{ "a core is idle", 64100 * MS, 0, 0, 0, 1, 1 },
		{ "and stays so", 64115 * MS, 0, 0, 0, 1, 1 },
		{ "for long: the load has changed", 64116 * MS, 0, 0, 0, 1, 0 },
		{ "and is over", 64117 * MS, 0, 0, 0, 0, 0 },
	};
	struct flexnet_arbiter_memory memory = { 0 };
	struct flexnet_arbiter_sample none_left = {
		.now_ns = 1 * MS,
		.delay_ns = 9 * MS,
		.runnable = 1,
	};
	struct flexnet_arbiter_params none = params;
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct flexnet_arbiter_sample sample = {
			.now_ns = rows[i].at_ns,
			.delay_ns = rows[i].delay_ns,
			.runnable = rows[i].runnable,
			.granted = rows[i].granted,
			.idle = rows[i].idle,
		};

		EXPECT(flexnet_is_saturated(&params, &sample, &memory) == rows[i].saturated,
		       "saturation, row %zu (%s)", i, rows[i].what);
	}
	none.cores_max = 0;
	memset(&memory, 0, sizeof(memory));
	EXPECT(!flexnet_is_saturated(&none, &none_left, &memory),
	       "an operator that grants no cores");
}

/* The machine is under pressure, and all clients with throughput flows were told so. */
static void test_saturation_under_pressure(void)
{
	static const struct {
		const char *what;
		flexnet_u32 runnable, latency_runnable, throughput_clients;
		flexnet_u32 saturated; /* expected */
	} rows[] = {
		{ "throughput flows have work", 1, 0, 1, FLEXNET_SATURATED_ALL },
		{ "their work is done inline", 0, 0, 1, FLEXNET_SATURATED_ALL },
		{ "latency flows, too", 1, 1, 1, FLEXNET_SATURATED_ALL },
		{ "no client with throughput flows is left", 1, 1, 0, FLEXNET_SATURATED_ALL },
		{ "and cores are too few for latency flows", 3, 3, 0, FLEXNET_SATURATED_EXCESS },
		{ "that holds for a while", 0, 0, 0, FLEXNET_SATURATED_EXCESS },
		{ "throughput flows have work again", 1, 0, 1, FLEXNET_SATURATED_ALL },
	};
	struct flexnet_arbiter_memory memory = { .pressure = FLEXNET_PRESSURE_ALL };
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct flexnet_arbiter_sample sample = {
			.now_ns = (i + 1) * MS,
			.delay_ns = 9 * MS,
			.runnable = rows[i].runnable,
			.latency_runnable = rows[i].latency_runnable,
			.throughput_clients = rows[i].throughput_clients,
			.granted = params.cores_max,
		};

		/* Two executors more than cores. */
		if (sample.runnable == 3)
			sample.runnable = sample.latency_runnable = params.cores_max + 2;
		EXPECT(flexnet_is_saturated(&params, &sample, &memory) == rows[i].saturated,
		       "saturation under pressure, row %zu (%s)", i, rows[i].what);
	}
}

/* A kernel network thread through its polls: what its queue looks like after. */
static void test_napi(void)
{
	enum event { WAKES, POLLS, TURN_ENDS, SLEEPS };
	static const struct {
		const char *what;
		enum event event;
		flexnet_u64 at_us;
		flexnet_u64 number;    /* POLLS: packets of 64; TURN_ENDS, SLEEPS: us it ran */
		flexnet_u64 sample_us; /* then */
		flexnet_u64 depth, delay_us; /* expected */
		int in_livelock;
	} rows[] = {
		{ "an interrupt", WAKES, 100, 0, 100, 1, 0, 0 },
		{ "still waiting for a core", WAKES, 130, 0, 150, 1, 50, 0 },
		{ "a poll that took all", POLLS, 160, 3, 170, 0, 0, 0 },
		{ "asleep", SLEEPS, 162, 12, 900, 0, 0, 0 },
		{ "an interrupt", WAKES, 1000, 0, 1010, 1, 10, 0 },
		{ "a full poll: more is left", POLLS, 1050, 64, 1050, 64, 50, 0 },
		{ "another: 20 us for 64, a ring in 1,280", POLLS, 1070, 64, 1100, 64, 100, 0 },
		{ "empty", POLLS, 1080, 63, 1090, 0, 0, 0 },
		{ "full again, in the same turn", POLLS, 1110, 64, 1120, 64, 40, 0 },
		{ "the turn ends", TURN_ENDS, 3110, 9000, 3110, 64, 2030, 0 },
		{ "others have the core", WAKES, 3111, 0, 4000, 64, 2920, 0 },
		{ "a full poll after a pause tells no pace: 64 of 30 us", POLLS, 6000, 64, 6100, 64,
		  2020, 0 },
		{ "20 ms of its own", TURN_ENDS, 24000, 18000, 24000, 64, 19920, 1 },
		{ "empty: a latency thread again", POLLS, 24100, 0, 24200, 0, 0, 0 },
		{ "a turn on an empty queue is no receive livelock", TURN_ENDS, 99000, 50000, 99000,
		  0, 0, 0 },
	};
	struct flexnet_napi_load load;
	size_t i;

	memset(&load, 0, sizeof(load));
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		flexnet_u64 at = rows[i].at_us * US, now = rows[i].sample_us * US;

		switch (rows[i].event) {
		case WAKES:
			flexnet_napi_waits(&load, at);
			break;
		case POLLS:
			flexnet_napi_polled(&load, at, (flexnet_u32)rows[i].number, 64);
			break;
		case TURN_ENDS:
		case SLEEPS:
			flexnet_napi_ran(&load, at, rows[i].number * US,
					 rows[i].event == TURN_ENDS);
			break;
		}
		EXPECT(flexnet_napi_depth(&load) == rows[i].depth &&
			       flexnet_napi_delay(&load, now) == rows[i].delay_us * US &&
			       flexnet_napi_in_livelock(&load, 20 * MS) == rows[i].in_livelock,
		       "kernel thread, row %zu (%s): %llu packets of %llu ns, in livelock %d", i,
		       rows[i].what, (unsigned long long)flexnet_napi_depth(&load),
		       (unsigned long long)flexnet_napi_delay(&load, now),
		       flexnet_napi_in_livelock(&load, 20 * MS));
	}
	flexnet_napi_waits(&load, 1);
	flexnet_napi_polled(&load, 2, 0, 0);
	EXPECT(flexnet_napi_depth(&load) == 1, "a poll without a budget tells nothing");
	EXPECT(flexnet_napi_delay(&load, 0) == 0, "a clock that stands");
}

int main(void)
{
	test_napi();
	test_saturation();
	test_growth();
	test_idle();
	test_shrink();
	test_throughput_flows();
	test_saturation_under_pressure();
	test_pressure();
	test_no_opposites();
	test_limit();
	test_small_functions();
	test_backoff();
	if (failures)
		return EXIT_FAILURE;
	puts("arbiter: all tables hold");
	return EXIT_SUCCESS;
}

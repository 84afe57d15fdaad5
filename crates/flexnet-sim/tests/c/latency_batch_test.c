/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tables for include/flexnet/latency_batch.h, compiled for the host: the source BPF runs is
 * the one tested here. Prints the first failing row and exits 1.
 */
#include <flexnet/latency_batch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expect.h"

#define MS 1000000ull
#define TASKS 4

/* Tasks A to D of one latency batch, each of which wakes for every letter of its own: in
 * capitals it has a turn, in small letters it has none and waits on. A star: a new
 * latency batch begins. */
static void test_turns(void)
{
	static const struct {
		const char *what, *wakes;
	} rows[] = {
		{ "one alone, again and again", "Aaa" },
		{ "there and back", "ABA" },
		{ "there and back, and there again", "ABAba" },
		{ "the peer comes back instead", "ABBab" },
		{ "the same one thrice", "ABAaab" },
		{ "a chain of three", "ABCBA" },
		{ "a chain of three, and on", "ABCBAabc" },
		{ "a chain of four", "ABCDCBAdcba" },
		{ "one more comes late", "ABACBcab" },
		{ "a new latency batch renews turns", "ABAba*ABAba" },
		{ "alone after a latency batch of two", "ABA*Aa" },
	};
	size_t i, at;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct flexnet_latency_batch_member members[TASKS];
		struct flexnet_latency_batch batch;
		flexnet_u64 now = 5 * MS;

		memset(members, 0, sizeof(members));
		memset(&batch, 0, sizeof(batch));
		flexnet_latency_batch_begin(&batch, now, 1);
		for (at = 0; rows[i].wakes[at]; at++) {
			char wake = rows[i].wakes[at];
			int expected = wake >= 'A' && wake <= 'Z';
			struct flexnet_latency_batch_member *member;

			if (wake == '*') {
				now += 20 * MS;
				batch.id = 0;
				flexnet_latency_batch_begin(&batch, now, 1);
				continue;
			}
			member = &members[expected ? wake - 'A' : wake - 'a'];
			member->slept = 1;
			EXPECT(flexnet_latency_batch_has_turn(&batch, member) == expected,
			       "turns, row %zu (%s), wake %zu of %s", i, rows[i].what, at,
			       rows[i].wakes);
			if (!expected)
				continue;
			flexnet_latency_batch_run(&batch, member);
			/* Its slice ends, and it goes on: the same turn. */
			EXPECT(flexnet_latency_batch_has_turn(&batch, member), "row %zu, going on",
			       i);
			flexnet_latency_batch_run(&batch, member);
		}
	}
}

static void test_length(void)
{
	static const struct {
		const char *what;
		flexnet_u64 id, used_ms, latency_batch_ms, starvation_ms;
		int lasts;
	} rows[] = {
		{ "none", 0, 0, 9, 20, 0 },
		{ "it began", 7, 0, 9, 20, 1 },
		{ "within", 7, 8, 9, 20, 1 },
		{ "over", 7, 9, 9, 20, 0 },
		{ "bounded by the starvation budget", 7, 20, 50, 20, 0 },
		{ "switched off", 7, 0, 0, 20, 0 },
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct flexnet_latency_batch batch = { .id = rows[i].id };

		EXPECT(flexnet_latency_batch_lasts(&batch, rows[i].used_ms * MS,
						   rows[i].latency_batch_ms * MS,
						   rows[i].starvation_ms * MS) == rows[i].lasts,
		       "length, row %zu (%s)", i, rows[i].what);
	}
}

static void test_ids(void)
{
	struct flexnet_latency_batch_member woken = { .slept = 1 };
	struct flexnet_latency_batch here = { .id = 0 }, there = { .id = 0 }, early = { .id = 0 };
	flexnet_u64 id;

	flexnet_latency_batch_begin(&here, 5 * MS, 0);
	flexnet_latency_batch_begin(&there, 5 * MS, 1);
	EXPECT(flexnet_latency_batch_has_turn(&early, &woken),
	       "without a latency batch no task has had its turns");
	flexnet_latency_batch_begin(&early, 0, 0);
	EXPECT(here.id && there.id && early.id, "no latency batch is none");
	EXPECT(here.id != there.id, "two cores at the same time");
	id = here.id;
	here.tasks = 3;
	flexnet_latency_batch_begin(&here, 6 * MS, 0);
	EXPECT(here.id == id && here.tasks == 3, "it goes on");
}

/* The last of some wakeups at a fixed distance: does the task wake often? */
static void test_wakeups(void)
{
	static const struct {
		flexnet_u64 apart_ns;
		unsigned int wakeups;
		int often; /* expected */
	} table[] = {
		{ 100000, 4, 0 },    { 100000, 5, 1 },	   { 100000, 1000, 1 },
		{ 900000, 1000, 1 }, { 1100000, 1000, 0 }, { 2500000, 1000, 0 },
	};
	size_t row;

	for (row = 0; row < sizeof(table) / sizeof(table[0]); row++) {
		struct flexnet_wakeups wakeups = { 0 };
		flexnet_u64 now = 1000000000;
		unsigned int i;
		int often = 0;

		for (i = 0; i < table[row].wakeups; i++, now += table[row].apart_ns)
			often = flexnet_wakes_often(&wakeups, now, 1000000);
		EXPECT(often == table[row].often, "wakeups, row %zu: %d", row, often);
		/* A short pause changes nothing, and after a long one it does not. */
		EXPECT(flexnet_wakes_often(&wakeups, now + 20000000, 1000000) == often,
		       "wakeups, row %zu: after a short pause", row);
		EXPECT(!flexnet_wakes_often(&wakeups, now + 200000000, 1000000),
		       "wakeups, row %zu: after a long pause", row);
	}
}

int main(void)
{
	test_wakeups();
	test_turns();
	test_length();
	test_ids();
	if (failures)
		return EXIT_FAILURE;
	puts("latency batch: all tables hold");
	return EXIT_SUCCESS;
}

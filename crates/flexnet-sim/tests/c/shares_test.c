/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tables for include/flexnet/shares.h, compiled for the host: the source BPF runs is the one tested
 * here. Prints the rows that fail and exits 1.
 */
#include <flexnet/shares.h>
#include <stdio.h>
#include <stdlib.h>

#include "expect.h"

#define LEVELS 6
#define MS 1000000ull

static void test_loads(void)
{
	static const struct {
		const char *what;
		flexnet_u32 weight, idle, load;
	} rows[] = {
		{ "nice 0, or the default weight", 100, 0, 102400 },
		{ "the least", 1, 0, 1024 },
		{ "none counts as the least", 0, 0, 1024 },
		{ "the most", 10000, 0, 10240000 },
		{ "more counts as the most", 20000, 0, 10240000 },
		{ "cpu.idle, whatever the weight", 10000, 1, 300 },
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		EXPECT(flexnet_load(rows[i].weight, rows[i].idle) == rows[i].load,
		       "loads, row %zu (%s)", i, rows[i].what);
}

/* A task of weight 100 among `tasks` equals, in a group among `siblings` equals of its weight, in
 * another such group, and so on: virtual time of 4 ms. */
static void test_trees(void)
{
	static const struct {
		const char *what;
		struct {
			flexnet_u32 weight;
			flexnet_u64 members;
		} levels[LEVELS];
		double factor; /* virtual time by time */
	} rows[] = {
		{ "in the root", { { 0 } }, 1 },
		{ "alone in a group of weight 100", { { 100, 1 } }, 1 },
		{ "alone in a group of weight 1000", { { 1000, 1 } }, 0.1 },
		{ "alone in a group of weight 1", { { 1, 1 } }, 100 },
		{ "one of twenty", { { 100, 20 } }, 20 },
		{ "one of twenty in a heavy group", { { 10000, 20 } }, 0.2 },
		{ "alone in a group of a light one", { { 100, 1 }, { 10, 1 } }, 10 },
		{ "one of four in one of two", { { 100, 4 }, { 50, 2 } }, 16 },
		{ "one of a hundred in the lightest", { { 1, 100 } }, 10000 },
		{ "six levels of two",
		  { { 100, 2 }, { 100, 2 }, { 100, 2 }, { 100, 2 }, { 100, 2 }, { 100, 2 } },
		  64 },
		{ "nothing is left of it", { { 1, 1000 }, { 1, 1000 }, { 1, 1000 } }, 12800 },
	};
	size_t i, level;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		flexnet_u64 share = flexnet_share_of_load(flexnet_load(100, 0));
		flexnet_u32 own = 100;
		double ns, expected = 4 * MS * rows[i].factor;

		for (level = 0; level < LEVELS && rows[i].levels[level].weight; level++) {
			flexnet_u64 members = rows[i].levels[level].members;

			share = flexnet_share_in_group(
				share, members * flexnet_load(own, 0),
				flexnet_load(rows[i].levels[level].weight, 0));
			own = rows[i].levels[level].weight;
		}
		ns = (double)flexnet_scale_by_share(4 * MS, share);
		EXPECT(ns > 0.99 * expected && ns < 1.01 * expected,
		       "trees, row %zu (%s): %g, not %g", i, rows[i].what, ns, expected);
	}
}

/* Sums that are read while they change, and the largest numbers. */
static void test_bounds(void)
{
	flexnet_u32 most = flexnet_load(10000, 0), least = flexnet_load(1, 0);
	flexnet_u64 share = flexnet_share_of_load(most);

	EXPECT(flexnet_share_in_group(share, 0, most) == share,
	       "a sum of nothing is the task alone");
	EXPECT(flexnet_share_in_group(share, most / 2, least) == flexnet_share_of_load(least),
	       "nothing has more than its group");
	EXPECT(flexnet_share_in_group(1, ~0ull >> 16, least) == FLEXNET_SHARE_LEAST,
	       "the least share");
	EXPECT(flexnet_share_in_group(0, 0, 0) == FLEXNET_SHARE_LEAST, "the least share");
	EXPECT(flexnet_scale_by_share(1000 * MS, 1) == 1000 * MS * FLEXNET_SHARE_OF_100,
	       "a second at the least share");
	EXPECT(flexnet_scale_by_share(5, 0) == 5 * FLEXNET_SHARE_OF_100, "no division by 0");
}

int main(void)
{
	test_loads();
	test_trees();
	test_bounds();
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tables for include/flexnet/bandwidth.h, compiled for the host: the source BPF runs is the one
 * tested here. Prints the rows that fail and exits 1.
 */
#include <flexnet/bandwidth.h>
#include <stdio.h>
#include <stdlib.h>

#include "expect.h"

#define MS 1000000ll

/* Times in ms. */
static void test_periods(void)
{
	static const struct {
		const char *what;
		int quota, burst, left, since; /* the period began so long ago */
		int expected,
			until; /* what is left now, and when it is some: from the period's start */
	} rows[] = {
		{ "in the period", 20, 0, 7, 50, 7, 0 },
		{ "used up", 20, 0, 0, 50, 0, 100 },
		{ "a debt below the quota", 20, 0, -5, 50, -5, 100 },
		{ "a debt of the quota needs another period", 20, 0, -20, 50, -20, 200 },
		{ "a large debt", 20, 0, -90, 99, -90, 500 },
		{ "the next period adds the quota", 20, 0, -5, 100, 15, 0 },
		{ "and pays a debt", 20, 0, -45, 200, -5, 100 },
		{ "nothing is kept without a burst", 20, 0, 13, 100, 20, 0 },
		{ "a burst is kept", 20, 10, 13, 100, 30, 0 },
		{ "up to its size", 20, 10, 29, 500, 30, 0 },
		{ "a long sleep", 20, 10, -90, 2000000, 30, 0 },
		{ "a quota of several CPUs", 250, 0, -100, 100, 150, 0 },
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct flexnet_bandwidth bandwidth = {
			.quota_ns = rows[i].quota * MS,
			.period_ns = 100 * MS,
			.burst_limit_ns = rows[i].burst * MS,
		};
		flexnet_u64 start = 1000 * MS, now = start + rows[i].since * MS;
		flexnet_u64 periods = flexnet_bandwidth_periods(&bandwidth, start, now), until;
		flexnet_s64 left = rows[i].left * MS;

		if (periods)
			left = flexnet_bandwidth_refill(&bandwidth, left, periods);
		EXPECT(left == rows[i].expected * MS, "row %zu (%s): %lld left", i, rows[i].what,
		       (long long)left);
		start += periods * 100 * MS;
		until = flexnet_bandwidth_until(&bandwidth, start, left);
		EXPECT(until == (rows[i].until ? start + rows[i].until * MS : 0),
		       "row %zu (%s): until %llu", i, rows[i].what, (unsigned long long)until);
	}
}

static void test_bounds(void)
{
	struct flexnet_bandwidth none = { 0 }, some = { .quota_ns = 5 * MS, .period_ns = 100 * MS };

	EXPECT(!flexnet_bandwidth_until(&none, 0, -1), "no limit, no wait");
	EXPECT(!flexnet_bandwidth_periods(&none, 0, 1000 * MS), "no limit, no periods");
	EXPECT(!flexnet_bandwidth_periods(&some, 200 * MS, 100 * MS),
	       "another CPU's clock is behind");
	EXPECT(flexnet_bandwidth_refill(&some, 0, ~0ull) == 5 * MS, "all periods there are");
}

int main(void)
{
	test_periods();
	test_bounds();
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bandwidth.h - how much CPU time a cgroup with a limit (cpu.max) has left.
 *
 * What it is for: the arithmetic of quotas and periods, as the kernel's own scheduler has it: each
 * period adds the quota, and a burst of what was not used can be kept. What a group ran too much is
 * a debt, since a task is stopped at a timer's tick only. The same source is compiled into BPF and
 * into crates/flexnet-sim/tests/c/bandwidth_test.c.
 *
 * What it promises: as arbiter.h. Over many periods a group has its quota for each, and the burst
 * once.
 *
 * What it leaves to others: the clock, charging, and holding tasks (bpf/bandwidth.bpf.h).
 */
#ifndef FLEXNET_BANDWIDTH_H
#define FLEXNET_BANDWIDTH_H

#include <flexnet/arbiter.h>

/* More than that is no limit, us: an hour of CPU time a period. */
#define FLEXNET_QUOTA_US_MAX 3600000000ull

/* A group's limit. Zeros: it has none. */
struct flexnet_bandwidth {
	flexnet_u64 quota_ns;	     /* CPU time a period, 0: no limit */
	flexnet_u64 period_ns;	     /* 1 ms to 1 s */
	flexnet_u64 burst_limit_ns;  /* what may be kept of earlier periods */
	flexnet_u64 period_start_ns; /* of the present period */
	flexnet_s64 left_ns;	     /* CPU time that is left; below zero: a debt */
};

/* Periods that began since the present one did. */
FLEXNET_INLINE flexnet_u64 flexnet_bandwidth_periods(const struct flexnet_bandwidth *bandwidth,
						     flexnet_u64 start_ns, flexnet_u64 now_ns)
{
	if (!bandwidth->period_ns || now_ns <= start_ns)
		return 0;
	return (now_ns - start_ns) / bandwidth->period_ns;
}

/* What is left after so many more periods. */
FLEXNET_INLINE flexnet_s64 flexnet_bandwidth_refill(const struct flexnet_bandwidth *bandwidth,
						    flexnet_s64 left_ns, flexnet_u64 periods)
{
	flexnet_s64 most = (flexnet_s64)(bandwidth->quota_ns + bandwidth->burst_limit_ns);
	flexnet_u64 missing = left_ns < most ? (flexnet_u64)(most - left_ns) : 0;

	if (!bandwidth->quota_ns || periods > missing / bandwidth->quota_ns)
		return most;
	return left_ns + (flexnet_s64)(periods * bandwidth->quota_ns);
}

/* Until when the group's tasks have to wait; 0: they may run. */
FLEXNET_INLINE flexnet_u64 flexnet_bandwidth_until(const struct flexnet_bandwidth *bandwidth,
						   flexnet_u64 start_ns, flexnet_s64 left_ns)
{
	flexnet_u64 periods;

	if (!bandwidth->quota_ns || left_ns > 0)
		return 0;
	periods = (flexnet_u64)-left_ns / bandwidth->quota_ns + 1;
	return start_ns + periods * bandwidth->period_ns;
}

#endif /* FLEXNET_BANDWIDTH_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shares.h - what share of the CPUs a task has, by its nice value and its cgroups' cpu.weight.
 *
 * What it is for: the arithmetic of hierarchical shares. The tasks and the groups in a group divide
 * what the group has, by their load. The same source is compiled into BPF and into
 * crates/flexnet-sim/tests/c/shares_test.c.
 *
 * What it promises: as arbiter.h.
 *
 * What it leaves to others: which tasks and groups are runnable, and the walk from a task's group
 * to the root (bpf/groups.bpf.h).
 */
#ifndef FLEXNET_SHARES_H
#define FLEXNET_SHARES_H

#include <flexnet/arbiter.h>

/* Load of weight 1 among its siblings. cpu.weight and a task's weight are 1 to 10000, 100 by
 * default. */
#define FLEXNET_LOAD_OF_WEIGHT 1024u
/* Load of a group with cpu.idle: the kernel's WEIGHT_IDLEPRIO, 3 where 1024 is weight 100. */
#define FLEXNET_LOAD_IDLE (3u * 100u)
/* Parts of a load that a share is counted in. */
#define FLEXNET_SHARE_PARTS 256u
/* The least share: a turn of it is 12,800 times as long in virtual time. So no clock wraps. */
#define FLEXNET_SHARE_LEAST 2048ull
/* The share of a task of weight 100 in the root group. */
#define FLEXNET_SHARE_OF_100 (100ull * FLEXNET_LOAD_OF_WEIGHT * FLEXNET_SHARE_PARTS)

/* The load of a task or a group among its siblings, by its weight. */
FLEXNET_INLINE flexnet_u32 flexnet_load(flexnet_u32 weight, flexnet_u32 idle)
{
	if (idle)
		return FLEXNET_LOAD_IDLE;
	if (weight < 1)
		weight = 1;
	if (weight > 10000)
		weight = 10000;
	return weight * FLEXNET_LOAD_OF_WEIGHT;
}

/* The share of a task among all that are in the root group: where it is one of them. */
FLEXNET_INLINE flexnet_u64 flexnet_share_of_load(flexnet_u32 load)
{
	return (flexnet_u64)load * FLEXNET_SHARE_PARTS;
}

/* One group further up: the share of what had `share` of `sum`, the load of all runnable tasks and
 * groups in a group of the load `load`. A sum that is too small, since it was read while it
 * changed, counts as the share: nothing has more than its group. At least
 * FLEXNET_SHARE_LEAST. */
FLEXNET_INLINE flexnet_u64 flexnet_share_in_group(flexnet_u64 share, flexnet_u64 sum,
						  flexnet_u32 load)
{
	if (sum < share / FLEXNET_SHARE_PARTS)
		sum = share / FLEXNET_SHARE_PARTS;
	if (!sum)
		sum = 1;
	/* The product is below 2^55: 10000 * 1024 * 256 times 10000 * 1024. */
	share = share * load / sum;
	return share > FLEXNET_SHARE_LEAST ? share : FLEXNET_SHARE_LEAST;
}

/* Virtual time of `run_ns` at that share, ns: run_ns for a task of weight 100 in the root group.
 * Up to 11 minutes at a time are exact. */
FLEXNET_INLINE flexnet_u64 flexnet_scale_by_share(flexnet_u64 run_ns, flexnet_u64 share)
{
	return run_ns * FLEXNET_SHARE_OF_100 / (share ? share : 1);
}

#endif /* FLEXNET_SHARES_H */

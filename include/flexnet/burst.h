/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * burst.h - whose turn it is where latency tasks have displaced others.
 *
 * What it is for: how long latency tasks are served on a core where they have
 * displaced somebody (the burst), and who has a turn in it. bpf/displace.bpf.h says
 * why. The same source is compiled into BPF and into crates/flexnet-sim/tests/c/burst_test.c.
 *
 * What it promises: as arbiter.h.
 *
 * What it leaves to others: the respite after a burst, clocks, queues and who wakes
 * whom (bpf/displace.bpf.h, bpf/general.bpf.h).
 */
#ifndef FLEXNET_BURST_H
#define FLEXNET_BURST_H

#include <flexnet/arbiter.h>

/* How often a task may wake for one burst: a client sends, and wakes once more when
 * the reply is there. A chain of n tasks comes back over n - 1 of them.
 * Executors are not counted. */
#define FLEXNET_BURST_TURNS 2

/* A core's burst. Zeros: there is none. */
struct flexnet_burst {
	flexnet_u64 id;	     /* no other burst's, of any core; 0: none goes on */
	flexnet_u32 tasks;   /* latency tasks that ran in it */
	flexnet_u32 returns; /* their turns after the first */
};

/* A task's part in the burst it ran in last. Starts as zeros. */
struct flexnet_burst_member {
	flexnet_u64 id;	   /* that burst's */
	flexnet_u32 turns; /* how often it woke for that */
	flexnet_u32 slept; /* since it ran: its next run is another turn */
};

/* A latency task or an executor starts on core `cpu` at now_ns: a burst begins
 * where there is none. Two cores' bursts differ, if they begin at the same time,
 * too; cores are below 1024 (FLEXNET_CPUS_MAX), and 208 days pass until an id could
 * come again. */
FLEXNET_INLINE void flexnet_burst_begin(struct flexnet_burst *burst, flexnet_u64 now_ns,
					flexnet_u32 cpu)
{
	if (burst->id)
		return;
	burst->id = ((now_ns + 1) << 10) | (cpu & 1023);
	burst->tasks = 0;
	burst->returns = 0;
}

/* A latency task runs in the burst that goes on where it runs. */
FLEXNET_INLINE void flexnet_burst_run(struct flexnet_burst *burst,
				      struct flexnet_burst_member *member)
{
	if (!member->slept)
		return;
	member->slept = 0;
	if (member->id != burst->id) {
		member->id = burst->id;
		member->turns = 1;
		burst->tasks++;
	} else {
		member->turns++;
		burst->returns++;
	}
}

/* Does a task that woke belong into this burst, or has it had its turns in it? Of
 * another core's burst it knows nothing: going to and fro it has turns in both. */
FLEXNET_INLINE int flexnet_burst_has_turn(const struct flexnet_burst *burst,
					  const struct flexnet_burst_member *member)
{
	return !member->slept || !burst->id || member->id != burst->id ||
	       (member->turns < FLEXNET_BURST_TURNS && burst->returns + 1 < burst->tasks);
}

/* Does it go on? used_ns: what latency tasks ran since others had a turn; times
 * in ns. */
FLEXNET_INLINE int flexnet_burst_lasts(const struct flexnet_burst *burst, flexnet_u64 used_ns,
				       flexnet_u64 burst_ns, flexnet_u64 starvation_ns)
{
	return burst->id && used_ns < burst_ns && used_ns < starvation_ns;
}

#endif /* FLEXNET_BURST_H */

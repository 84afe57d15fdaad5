/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * latency_batch.h - which latency task has a turn after latency tasks preempted others.
 *
 * What it is for: how long latency tasks are served on a core where they preempted a task (the
 * latency batch), and which of them has a turn in it. bpf/latency_batch.bpf.h says why. The same
 * source is compiled into BPF and into crates/flexnet-sim/tests/c/latency_batch_test.c.
 *
 * What it promises: as arbiter.h.
 *
 * What it leaves to others: the preemption cooldown after a latency batch, clocks, queues and
 * wakeups (bpf/latency_batch.bpf.h, bpf/general.bpf.h).
 */
#ifndef FLEXNET_LATENCY_BATCH_H
#define FLEXNET_LATENCY_BATCH_H

#include <flexnet/arbiter.h>

/* Turns that a task may have in one latency batch: a client sends, and wakes once more when the
 * reply is there. A chain of n tasks comes back over n - 1 of them. Executors are not counted. */
#define FLEXNET_LATENCY_BATCH_TURNS 2

/* A core's latency batch. Zeros: there is none. */
struct flexnet_latency_batch {
	flexnet_u64 id;	     /* unique over all cores; 0: there is none */
	flexnet_u32 tasks;   /* latency tasks that ran in it */
	flexnet_u32 returns; /* their turns after the first */
};

/* A task's part in the latency batch it ran in last. Starts as zeros. */
struct flexnet_latency_batch_member {
	flexnet_u64 id;	   /* that latency batch's */
	flexnet_u32 turns; /* how often it woke for that */
	flexnet_u32 slept; /* since it ran: its next run is another turn */
};

/* A latency task or an executor starts on core `cpu` at now_ns: a latency batch begins where there
 * is none. The ids of two cores differ even if both begin at the same time; cores are below 1024
 * (FLEXNET_CPUS_MAX). An id could come again after 208 days. */
FLEXNET_INLINE void flexnet_latency_batch_begin(struct flexnet_latency_batch *batch,
						flexnet_u64 now_ns, flexnet_u32 cpu)
{
	if (batch->id)
		return;
	batch->id = ((now_ns + 1) << 10) | (cpu & 1023);
	batch->tasks = 0;
	batch->returns = 0;
}

/* A latency task runs in the latency batch that goes on where it runs. */
FLEXNET_INLINE void flexnet_latency_batch_run(struct flexnet_latency_batch *batch,
					      struct flexnet_latency_batch_member *member)
{
	if (!member->slept)
		return;
	member->slept = 0;
	if (member->id != batch->id) {
		member->id = batch->id;
		member->turns = 1;
		batch->tasks++;
	} else {
		member->turns++;
		batch->returns++;
	}
}

/* Does a task that woke have a turn in this latency batch? Latency batches of other cores do not
 * count: a task that moves to and fro has its turns in both. */
FLEXNET_INLINE int flexnet_latency_batch_has_turn(const struct flexnet_latency_batch *batch,
						  const struct flexnet_latency_batch_member *member)
{
	return !member->slept || !batch->id || member->id != batch->id ||
	       (member->turns < FLEXNET_LATENCY_BATCH_TURNS && batch->returns + 1 < batch->tasks);
}

/* Does it go on? used_ns: how long latency tasks have run since other tasks had a turn; all times
 * in ns. */
FLEXNET_INLINE int flexnet_latency_batch_lasts(const struct flexnet_latency_batch *batch,
					       flexnet_u64 used_ns, flexnet_u64 latency_batch_ns,
					       flexnet_u64 starvation_ns)
{
	return batch->id && used_ns < latency_batch_ns && used_ns < starvation_ns;
}

/* Periods over which wakeups are counted. */
#define FLEXNET_WAKEUP_PERIODS 4

/* A count is remembered over a pause of so many spans: a virtual CPU may stand still for some. */
#define FLEXNET_WAKEUP_PAUSE 16

/* How often a task wakes. Starts as zeros. */
struct flexnet_wakeups {
	flexnet_u64 since_ns; /* when the count began */
	flexnet_u32 count;    /* wakeups since then */
	flexnet_u32 before;   /* of the count before, if there was no long pause */
};

/* Counts a wakeup at now_ns. Does the task wake more than once a period in the mean? */
FLEXNET_INLINE int flexnet_wakes_often(struct flexnet_wakeups *wakeups, flexnet_u64 now_ns,
				       flexnet_u64 period_ns)
{
	flexnet_u64 span = FLEXNET_WAKEUP_PERIODS * period_ns;
	flexnet_u64 since = now_ns > wakeups->since_ns ? now_ns - wakeups->since_ns : 0;

	if (since >= span) {
		wakeups->before = since < FLEXNET_WAKEUP_PAUSE * span ? wakeups->count : 0;
		wakeups->count = 0;
		wakeups->since_ns = now_ns;
	}
	wakeups->count++;
	return wakeups->count > FLEXNET_WAKEUP_PERIODS || wakeups->before > FLEXNET_WAKEUP_PERIODS;
}

#endif /* FLEXNET_LATENCY_BATCH_H */

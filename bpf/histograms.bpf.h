/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * histograms.bpf.h - how long tasks, messages and cores were waited for.
 *
 * What it promises: counting costs one CPU's own cache lines; bucket k has what
 * took at most 2^(FLEXNET_BUCKET_SHIFT + k) ns. What it leaves to others: when
 * something is counted, and what the daemon makes of it (src/metrics).
 */
#ifndef FLEXNET_HISTOGRAMS_BPF_H
#define FLEXNET_HISTOGRAMS_BPF_H

/* The bucket of a time. */
static __always_inline u32 bucket_of(u64 ns)
{
	u64 above = ns ? (ns - 1) >> FLEXNET_BUCKET_SHIFT : 0;
	u32 bucket = above ? log2_u64(above) : 0;

	return bucket < FLEXNET_BUCKETS ? bucket : FLEXNET_BUCKETS - 1;
}

/* Counts a time; `which` is a class, for its tasks' waits, or one of enum
 * flexnet_histogram_kind. Not static: so the verifier checks it once, not at
 * each of its callers. */
__noinline int count_time(u32 which, u64 ns)
{
	struct flexnet_cpu_stats *stats = stats_here();
	u64 index = which, bucket = bucket_of(ns);

	if (!stats || index >= FLEXNET_HISTOGRAMS || bucket >= FLEXNET_BUCKETS)
		return 0;
	barrier_var(index);
	barrier_var(bucket);
	if (index >= FLEXNET_HISTOGRAMS || bucket >= FLEXNET_BUCKETS)
		return 0;
	stats->histogram[index].sum_ns += ns;
	stats->histogram[index].count[bucket]++;
	return 0;
}

/* A core was granted to work that waited since `cause_ns` (CLOCK_MONOTONIC). */
static __always_inline void grant_begins(struct cpu_ctx *cctx, u64 cause_ns)
{
	WRITE_ONCE(cctx->grant_cause_ns, cause_ns);
}

/* An executor runs on a granted core: the first since it was granted ends the
 * wait for it. */
static __always_inline void grant_served(struct cpu_ctx *cctx)
{
	u64 cause = READ_ONCE(cctx->grant_cause_ns), now;

	if (!cause)
		return;
	WRITE_ONCE(cctx->grant_cause_ns, 0);
	now = bpf_ktime_get_ns();
	count_time(FLEXNET_HISTOGRAM_GRANT_LATENCY, now > cause ? now - cause : 0);
}

#endif /* FLEXNET_HISTOGRAMS_BPF_H */

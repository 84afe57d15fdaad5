/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * quanta.bpf.h - MicroQuanta: how much of a granted core executors may use while
 * others wait for it.
 *
 * Snap's spreading mode wakes engines above ordinary tasks, within a budget of
 * CPU time a period. A woken engine has a granted core here, so the budget is
 * kept by core. It is work-conserving: with nobody else for the core executors
 * go on. The arithmetic is designs.h's.
 *
 * What it promises: with budgets on, general tasks that wait for a granted core get what is left of
 * each period, in steps of a round (settings.interval_ns). Finer budgets alternate by rounds. What
 * it leaves to others: the rounds, and which general tasks run (dispatch_general_on_granted).
 */
#ifndef FLEXNET_QUANTA_BPF_H
#define FLEXNET_QUANTA_BPF_H

/* Since when what runs there uses the budget of this period. */
static __always_inline u64 quanta_since(const struct cpu_ctx *cctx, u64 start_ns)
{
	return start_ns > cctx->quanta.period_start_ns ? start_ns : cctx->quanta.period_start_ns;
}

/* Is the budget of this core used up? `start_ns`: an executor runs there since, 0:
 * none. Racy against the CPU's own account, by a round at most. */
static __always_inline bool quanta_spent(struct cpu_ctx *cctx, u64 start_ns, u64 now)
{
	u64 left, since;

	if (!flexnet_quanta_limited(&design.params))
		return false;
	left = flexnet_quanta_left(&design.params, &cctx->quanta, now);
	if (!start_ns)
		return !left;
	since = quanta_since(cctx, start_ns);
	return now > since && now - since >= left;
}

/* An executor that ran since `start_ns` leaves a granted core. */
static __always_inline void quanta_account(struct cpu_ctx *cctx, u64 start_ns, u64 now)
{
	u64 since;

	if (!flexnet_quanta_limited(&design.params) || !start_ns)
		return;
	since = quanta_since(cctx, start_ns);
	if (now > since)
		flexnet_quanta_use(&cctx->quanta, now - since);
}

/* Does an ordinary task wait that this core could serve? */
static __always_inline bool general_task_waits(s32 cpu)
{
	return queued(pinned_dsq(cpu)) > 0 ||
	       (settings.lend && (queued(DSQ_GENERAL) > 0 || queued(DSQ_GENERAL_LATENCY) > 0));
}

#endif /* FLEXNET_QUANTA_BPF_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * why.bpf.h - the history of a task, for `flexnet why`.
 *
 * What it promises: plain counts in the task's own storage, written where the task is at hand
 * anyway. What it leaves to others: which users may ask (the daemon), and what each queue is for
 * (general.bpf.h, dedicated.bpf.h).
 */
#ifndef FLEXNET_WHY_BPF_H
#define FLEXNET_WHY_BPF_H

/* Which queue a task waits in from here on. */
static __always_inline void waits_in(struct task_ctx *tctx, u32 queue)
{
	tctx->history.queue = queue;
}

/* Its wait is over. */
static __always_inline void wait_ends(struct task_ctx *tctx, u64 now)
{
	struct flexnet_task_history *history = &tctx->history;
	u64 queue = history->queue, waited;

	waited = now > tctx->enqueued_ns ? now - tctx->enqueued_ns : 0;
	history->last_wait_ns = waited;
	history->last_queue = queue;
	barrier_var(queue);
	if (queue >= FLEXNET_QUEUE_COUNT)
		return;
	history->wait_ns[queue] += waited;
	history->waits[queue]++;
}

/* It ran, and (preempted) would have gone on. */
static __always_inline void turn_ends(struct task_ctx *tctx, u64 ran, bool preempted)
{
	tctx->history.run_ns += ran;
	if (preempted)
		tctx->history.preemptions++;
}

/* Tells of a task by its thread id. */
SEC("syscall")
int sample_task(struct flexnet_task_sample *sample)
{
	u64 now = scx_bpf_now();
	struct task_struct *p;
	struct task_ctx *tctx;
	int ret = -ESRCH;

	p = bpf_task_from_pid(sample->tid);
	if (!p)
		return -ESRCH;
	tctx = task_ctx_of(p);
	if (!tctx)
		goto out;
	sample->task_class = class_of(tctx);
	sample->class_origin = tctx->class_origin;
	sample->client = tctx->client;
	sample->slot = tctx->slot;
	sample->policy = p->policy;
	sample->on_cpu = tctx->run_start_ns ? scx_bpf_task_cpu(p) : -1;
	sample->waiting_ns =
		tctx->enqueued_ns && now > tctx->enqueued_ns ? now - tctx->enqueued_ns : 0;
	sample->history = tctx->history;
	ret = 0;
out:
	bpf_task_release(p);
	return ret;
}

#endif /* FLEXNET_WHY_BPF_H */

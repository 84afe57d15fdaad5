/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * napi.bpf.h - the kernel's own network threads.
 *
 * Threaded NAPI (/sys/class/net/DEV/threaded) has a kernel thread poll each of a
 * device's receive queues. Those of the devices the loader names are executors
 * here: each device is a client, of a kind with no process and with a page that
 * nobody maps. They are granted cores and compacted with the rest; what differs
 * is where their load is read: each poll tells what it took of its budget
 * (arbiter.h has the arithmetic). Ordinary in the latency class, one in a receive
 * livelock goes on among the others.
 *
 * Backlog NAPI threads, one pinned to each CPU, are found and counted, and stay
 * where they are: steering decides which of them has work.
 *
 * What it promises: a thread is an executor only when the kernel says that it is
 * the one that polls the device, whatever its name. What it leaves to others: to
 * switch threaded NAPI on (the loader), and all decisions.
 */
#ifndef FLEXNET_NAPI_BPF_H
#define FLEXNET_NAPI_BPF_H

struct flexnet_backlog backlog;

extern const struct softnet_data softnet_data __ksym __weak;

/* The executor this task is, if it is a kernel network thread's; else NULL.
 * `task_class`: what class_of says. */
static __always_inline struct executor_ctx *napi_executor(struct task_ctx *tctx, u32 task_class)
{
	if (task_class != FLEXNET_CLASS_EXECUTOR || !is_kernel_client(tctx->client))
		return NULL;
	return executor_ctx_of(executor_index(tctx));
}

/* Is it in a receive livelock? For how it goes on then. */
static __always_inline bool napi_in_livelock(struct task_ctx *tctx)
{
	struct executor_ctx *ectx = napi_executor(tctx, tctx->task_class);

	return ectx && flexnet_napi_in_livelock(&ectx->napi, settings.starvation_ns);
}

/* Is an executor without a granted core as urgent as a normal task, and not as a latency task? */
static __always_inline bool is_normal_executor(struct task_ctx *tctx)
{
	return tctx->flow_class == FLEXNET_FLOW_THROUGHPUT || napi_in_livelock(tctx);
}

/* A client of the device with a free slot, -1: none. */
__noinline s32 napi_client_of(u32 ifindex)
{
	struct flexnet_client_state *client;
	u32 id;

	bpf_for(id, 0, FLEXNET_CLIENTS_MAX) {
		client = client_of(id);
		if (client && (client->generation & 1) && client->ifindex == ifindex &&
		    client->executors < FLEXNET_EXECUTORS_MAX)
			return id;
	}
	return -1;
}

/* Takes a free slot of a client, -1: none. Threads may come on all CPUs at once. */
__noinline s32 napi_take_slot(u32 id)
{
	struct flexnet_client_state *client = client_of(id);
	struct executor_ctx *ectx;
	u32 slot;

	if (!client)
		return -1;
	bpf_for(slot, 0, FLEXNET_EXECUTORS_MAX) {
		ectx = executor_ctx_of(id * FLEXNET_EXECUTORS_MAX + slot);
		if (!ectx || __sync_val_compare_and_swap(&ectx->registered, 0, 1))
			continue;
		__sync_fetch_and_add(&client->executors, 1);
		return slot;
	}
	return -1;
}

/* Makes a thread that polls this device an executor. */
static int napi_adopt(struct task_ctx *tctx, u32 ifindex)
{
	struct flexnet_client_state *client;
	struct executor_ctx *ectx;
	s32 id, slot;

	if (!(napi_devices & (1ULL << (ifindex & 63))))
		return -ENOENT;
	id = napi_client_of(ifindex);
	slot = id < 0 ? -1 : napi_take_slot(id);
	if (slot < 0)
		return -ENOSPC;
	client = client_of(id);
	ectx = executor_ctx_of(id * FLEXNET_EXECUTORS_MAX + slot);
	if (!client || !ectx)
		return -ENOENT;
	__builtin_memset(&ectx->napi, 0, sizeof(ectx->napi));
	enter_executor(tctx, ectx, client, id, slot, FLEXNET_FLOW_LATENCY, FLEXNET_ORIGIN_KERNEL);
	return 0;
}

/* The index of a device, 0 where it is in another network namespace: there the
 * same numbers mean others. */
static __always_inline u32 napi_ifindex(struct net_device *dev)
{
	if (!dev || BPF_CORE_READ(dev, nd_net.net, ns.inum) != machine.netns)
		return 0;
	return BPF_CORE_READ(dev, ifindex);
}

/* A NAPI was polled. Attached only where the loader was given devices. */
SEC("tp_btf/napi_poll")
int BPF_PROG(napi_polled, struct napi_struct *napi, int work, int budget)
{
	struct task_struct *p = bpf_get_current_task_btf();
	struct executor_ctx *ectx;
	struct task_ctx *tctx;
	u32 ifindex;

	/* In softirq, on top of whatever task is there. */
	if (BPF_CORE_READ(napi, thread) != p)
		return 0;
	tctx = task_ctx_of(p);
	if (!tctx)
		return 0;
	ectx = napi_executor(tctx, class_of(tctx));
	if (ectx) {
		flexnet_napi_polled(&ectx->napi, bpf_ktime_get_ns(), work > 0 ? work : 0,
				    budget > 0 ? budget : 0);
		return 0;
	}
	/* One that is new: of a queue that was added, or of a device that was
	 * down. A backlog's NAPI has no device. */
	ifindex = napi_ifindex(BPF_CORE_READ(napi, dev));
	if (ifindex)
		napi_adopt(tctx, ifindex);
	return 0;
}

/* Makes a thread that may not have polled yet an executor. */
SEC("syscall")
int adopt_napi_thread(struct flexnet_napi_thread *argument)
{
	struct napi_struct *napi;
	struct kthread *kthread;
	struct task_struct *p;
	struct task_ctx *tctx;
	int ret = -ENOENT;

	p = bpf_task_from_pid(argument->tid);
	if (!p)
		return -ENOENT;
	tctx = task_ctx_of(p);
	if (!tctx || !(p->flags & PF_KTHREAD))
		goto out;
	/* Its name may be anybody's. What its function is given is a NAPI when
	 * that names it as the thread that polls it. */
	kthread = p->worker_private;
	napi = BPF_CORE_READ(kthread, data);
	if (!napi || BPF_CORE_READ(napi, thread) != p)
		goto out;
	argument->ifindex = napi_ifindex(BPF_CORE_READ(napi, dev));
	if (!argument->ifindex)
		goto out;
	ret = napi_executor(tctx, class_of(tctx)) ? 0 : napi_adopt(tctx, argument->ifindex);
out:
	bpf_task_release(p);
	return ret;
}

/* Finds the backlog NAPI threads and adds up what is queued for them. */
SEC("syscall")
int sample_backlog(void *unused)
{
	struct softnet_data *queues;
	struct task_struct *p;
	struct task_ctx *tctx;
	u32 cpu, threads = 0;
	u64 depth = 0;

	if (!bpf_ksym_exists(&softnet_data))
		return 0;
	bpf_for(cpu, 0, machine.cpus) {
		queues = bpf_per_cpu_ptr(&softnet_data, cpu);
		if (!queues || !BPF_CORE_READ(queues, backlog.thread))
			continue;
		threads++;
		depth += BPF_CORE_READ(queues, input_pkt_queue.qlen) +
			 BPF_CORE_READ(queues, process_queue.qlen);
		p = bpf_task_from_pid(BPF_CORE_READ(queues, backlog.thread, pid));
		if (!p)
			continue;
		tctx = task_ctx_of(p);
		if (tctx)
			tctx->backlog = 1;
		bpf_task_release(p);
	}
	backlog.threads = threads;
	backlog.depth = depth;
	return 0;
}

/* Packets an executor has queued, and the age of the oldest. */
static __always_inline u64 napi_sample(struct executor_ctx *ectx, u64 *age_ns)
{
	*age_ns = flexnet_napi_delay(&ectx->napi, bpf_ktime_get_ns());
	return flexnet_napi_depth(&ectx->napi);
}

/* An executor waits for a core from now on. Its flow class, which for all but
 * kernel threads stays what it says of itself. */
static __always_inline void napi_waits(struct task_ctx *tctx)
{
	struct executor_ctx *ectx = napi_executor(tctx, FLEXNET_CLASS_EXECUTOR);

	if (!ectx)
		return;
	flexnet_napi_waits(&ectx->napi, bpf_ktime_get_ns());
	tctx->flow_class = flexnet_napi_in_livelock(&ectx->napi, settings.starvation_ns) ?
				   FLEXNET_FLOW_THROUGHPUT :
				   FLEXNET_FLOW_LATENCY;
	ectx->flow_class = tctx->flow_class;
}

/* An executor left its CPU. */
static __always_inline void napi_ran(struct task_ctx *tctx, u64 ran, bool runnable)
{
	struct executor_ctx *ectx = napi_executor(tctx, FLEXNET_CLASS_EXECUTOR);

	if (ectx)
		flexnet_napi_ran(&ectx->napi, bpf_ktime_get_ns(), ran, runnable);
}

/* A task ends: nobody but BPF knows that its slot is free. */
static __always_inline void napi_exits(struct task_ctx *tctx)
{
	struct flexnet_client_state *client = client_of(tctx->client);

	if (client && napi_executor(tctx, class_of(tctx)))
		forget_executor(executor_index(tctx), client);
}

#endif /* FLEXNET_NAPI_BPF_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * queues.bpf.h - how many wait in a queue, and the first one's virtual time,
 * without a call.
 *
 * The problem: a CPU that looks for its next task asks ten times how long a queue
 * is and twice which task is first. scx_bpf_dsq_nr_queued() looks the queue up in a hash
 * table each time, and an iterator takes the queue's lock to look at one task: most
 * of the instructions of a dispatch (docs/decisions/0008 counts them).
 *
 * The mechanism: the queue's address is learned from the first task seen waiting in
 * it, and its fields are read from there. The kernel keeps a queue until its
 * scheduler is gone. A read of memory that is none yields zero and is no fault.
 *
 * What it promises: what scx_bpf_dsq_nr_queued() and an iterator would have said, or
 * what was true a moment before; a queue that nothing was ever put into costs a
 * load. What it leaves to others: taking tasks out, for which the kernel locks.
 */
#ifndef FLEXNET_QUEUES_BPF_H
#define FLEXNET_QUEUES_BPF_H

#define QUEUES_SHARED 4
#define QUEUES (QUEUES_SHARED + FLEXNET_CPUS_MAX)
/* No address: something was put in, and nobody has looked yet. */
#define QUEUE_USED 1

/* Where each queue is, QUEUE_USED, or 0: nothing was ever put in. */
u64 queue_addresses[QUEUES];

static __always_inline u64 *queue_slot(u64 dsq)
{
	u64 index = dsq < QUEUES_SHARED ? dsq : dsq - DSQ_PINNED + QUEUES_SHARED;

	barrier_var(index);
	if (index >= QUEUES)
		return NULL;
	barrier_var(index);
	return &queue_addresses[index];
}

static __always_inline u64 queue_address(u64 dsq)
{
	u64 *slot = queue_slot(dsq);

	return slot ? READ_ONCE(*slot) : 0;
}

/* Before a task is put into a queue. */
static __always_inline void queue_used(u64 dsq)
{
	u64 *slot = queue_slot(dsq);

	if (slot && !READ_ONCE(*slot))
		WRITE_ONCE(*slot, QUEUE_USED);
}

/* Asks the kernel, and remembers where the queue is. Not static, like all that
 * loops: so the verifier checks it once. */
__noinline int queue_sample(u64 dsq)
{
	u64 *slot = queue_slot(dsq);
	struct scx_dispatch_q *queue;
	struct task_struct *p;

	bpf_rcu_read_lock();
	bpf_for_each(scx_dsq, p, dsq, 0) {
		queue = p->scx.dsq;
		/* Another CPU may have moved the task on meanwhile. */
		if (slot && queue && queue->id == dsq)
			WRITE_ONCE(*slot, (u64)queue);
		break;
	}
	bpf_rcu_read_unlock();
	return scx_bpf_dsq_nr_queued(dsq);
}

static __always_inline struct scx_dispatch_q *queue_at(u64 address)
{
	return bpf_rdonly_cast((void *)address, bpf_core_type_id_kernel(struct scx_dispatch_q));
}

/* Tasks that wait in a queue. */
static __always_inline s32 queued(u64 dsq)
{
	u64 address = queue_address(dsq);

	if (address <= QUEUE_USED)
		return address ? queue_sample(dsq) : 0;
	return queue_at(address)->nr;
}

/* The same by an iterator. */
__noinline u64 first_vtime_locked(u64 dsq)
{
	struct task_struct *p;
	u64 vtime = ~0ULL;

	bpf_rcu_read_lock();
	bpf_for_each(scx_dsq, p, dsq, 0) {
		vtime = p->scx.dsq_vtime;
		break;
	}
	bpf_rcu_read_unlock();
	return vtime;
}

/* Virtual time of the first task in a queue, U64_MAX where it is empty. */
static __always_inline u64 first_vtime(u64 dsq)
{
	u64 address = queue_address(dsq), head, next, first;
	struct scx_dsq_list_node *node;
	struct task_struct *p;

	if (address <= QUEUE_USED)
		return address ? first_vtime_locked(dsq) : ~0ULL;
	head = address + bpf_core_field_offset(struct scx_dispatch_q, list);
	next = (u64)queue_at(address)->list.next;
	if (!next || next == head)
		return ~0ULL;
	first = next - bpf_core_field_offset(struct scx_dsq_list_node, node);
	node = bpf_rdonly_cast((void *)first, bpf_core_type_id_kernel(struct scx_dsq_list_node));
	/* An iterator is at it, and its mark is first; or was, and the mark is gone. */
	if ((node->flags & SCX_DSQ_LNODE_ITER_CURSOR) || (u64)queue_at(address)->list.next != next)
		return first_vtime_locked(dsq);
	first -= bpf_core_field_offset(struct task_struct, scx.dsq_list);
	p = bpf_rdonly_cast((void *)first, bpf_core_type_id_kernel(struct task_struct));
	return p->scx.dsq_vtime;
}

#endif /* FLEXNET_QUEUES_BPF_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * clients.bpf.h - registrations, and what is read from and written to the page of a client.
 *
 * What it promises: a client can harm only itself by what it writes. Counters are clamped. Indexes
 * come from the registration, not from the page. What BPF wrote is never read back. What it leaves
 * to others: which process is a client (the loader), and what its numbers mean for cores
 * (dedicated.bpf.h).
 */
#ifndef FLEXNET_CLIENTS_BPF_H
#define FLEXNET_CLIENTS_BPF_H

static __always_inline struct flexnet_page *page_of(u32 client)
{
	u32 zero = 0;
	void *inner = bpf_map_lookup_elem(&pages, &client);

	return inner ? bpf_map_lookup_elem(inner, &zero) : NULL;
}

static __always_inline struct flexnet_executor *page_executor(struct flexnet_page *page, u64 slot)
{
	if (slot >= FLEXNET_EXECUTORS_MAX)
		return NULL;
	barrier_var(slot);
	return &page->executors[slot];
}

static __always_inline u32 executor_index(const struct task_ctx *tctx)
{
	return tctx->client * FLEXNET_EXECUTORS_MAX + tctx->slot;
}

/* Gives a task that is no executor its class, and says where that comes from. */
static __always_inline void settle_class(struct task_ctx *tctx)
{
	tctx->task_class = flexnet_settled_class(tctx->asked, tctx->ruled, tctx->inherited,
						 FLEXNET_CLASS_NORMAL);
	tctx->class_origin = tctx->asked     ? FLEXNET_ORIGIN_REGISTRATION :
			     tctx->ruled     ? FLEXNET_ORIGIN_RULE :
			     tctx->inherited ? FLEXNET_ORIGIN_PARENT :
					       FLEXNET_ORIGIN_DEFAULT;
}

/* The class of a task, an executor's registration checked: it ends with its
 * client, whatever became of the thread. */
static __always_inline u32 class_of(struct task_ctx *tctx)
{
	struct flexnet_client_state *client;
	struct executor_ctx *ectx;

	if (tctx->task_class != FLEXNET_CLASS_EXECUTOR)
		return tctx->task_class;
	client = client_of(tctx->client);
	ectx = executor_ctx_of(executor_index(tctx));
	if (client && ectx && READ_ONCE(client->generation) == tctx->client_generation &&
	    ectx->registered && ectx->serial == tctx->serial)
		return FLEXNET_CLASS_EXECUTOR;
	settle_class(tctx);
	return tctx->task_class;
}

/* Are its executors the kernel's own network threads? */
static __always_inline bool is_kernel_client(u32 id)
{
	struct flexnet_client_state *client = client_of(id);

	return client && client->ifindex;
}

/* A client's weight on granted cores, 1..10000: the operator's, else its wish. */
static __always_inline u32 client_weight(const struct flexnet_client_state *client,
					 struct flexnet_page *page)
{
	u32 weight = client && client->weight ? client->weight : READ_ONCE(page->client.weight);

	if (!weight)
		return 100;
	return weight > 10000 ? 10000 : weight;
}

/* Most cores a client may have granted at once: the operator's word and its own
 * wish, whichever is less. */
static __always_inline u32 client_max_cores(const struct flexnet_client_state *client,
					    struct flexnet_page *page)
{
	u32 max_cores = client->max_cores ?: FLEXNET_CPUS_MAX;
	u32 wish = READ_ONCE(page->client.max_cores);

	return wish && wish < max_cores ? wish : max_cores;
}

/* Flow class an executor says it has queued; anything unknown is throughput. */
static __always_inline u32 executor_flow_class(struct flexnet_executor *executor)
{
	return READ_ONCE(executor->own.flow_class) == FLEXNET_FLOW_LATENCY ?
		       FLEXNET_FLOW_LATENCY :
		       FLEXNET_FLOW_THROUGHPUT;
}

/* Depth of one executor's queue in messages and the age of its oldest, ns.
 * Stamps are CLOCK_MONOTONIC; scx_bpf_now() is the scheduler's clock, which
 * starts elsewhere and drifts from it. */
static __always_inline u64 executor_sample(struct flexnet_executor *executor, u64 *age_ns)
{
	u64 completed = READ_ONCE(executor->own.completed);
	u64 moved = READ_ONCE(executor->foreign.moved);
	u64 depth, position;

	/* Completed before enqueued: so that depth errs towards more work. */
	barrier();
	depth = flexnet_queue_depth(READ_ONCE(executor->foreign.enqueued), completed, moved);
	*age_ns = 0;
	if (depth) {
		position = ((completed + moved) / FLEXNET_STAMP_EVERY) & (FLEXNET_STAMPS - 1);
		*age_ns = flexnet_queue_age(bpf_ktime_get_ns(),
					    READ_ONCE(executor->stamps[position]));
	}
	return depth;
}

/* Tells an executor that it is on a CPU, or (-1) that it no longer is. */
static __always_inline void publish_on_cpu(struct task_ctx *tctx, s32 cpu, bool granted)
{
	struct flexnet_page *page = page_of(tctx->client);
	struct flexnet_executor *executor;

	if (!page)
		return;
	executor = page_executor(page, tctx->slot);
	if (!executor)
		return;
	WRITE_ONCE(executor->sched.on_cpu, cpu);
	WRITE_ONCE(executor->sched.on_granted_core, granted);
	if (cpu >= 0) {
		WRITE_ONCE(executor->sched.quantum_expired, 0);
		__sync_fetch_and_add(&executor->sched.generation, 1);
	}
}

/* An executor that was to give way goes on, since nobody took its core: it is not
 * switched, and nothing else would take the flag back. */
static __always_inline void executor_goes_on(struct task_ctx *tctx, u64 now)
{
	struct executor_ctx *ectx = executor_ctx_of(executor_index(tctx));
	struct flexnet_executor *executor;
	struct flexnet_page *page;

	if (!ectx)
		return;
	ectx->quantum_start_ns = now;
	if (!ectx->flagged_ns)
		return;
	page = page_of(tctx->client);
	executor = page ? page_executor(page, tctx->slot) : NULL;
	if (executor)
		WRITE_ONCE(executor->sched.quantum_expired, 0);
	ectx->flagged_ns = 0;
}

/* Tells a client how many of its executors should run and how many cores the
 * executor class has; `always` where the page is new. */
static __always_inline void publish_grant(u64 id, struct flexnet_client_state *client,
					  struct flexnet_page *page, u32 wanted, u32 granted,
					  u32 saturated, bool always)
{
	if (id >= FLEXNET_CLIENTS_MAX)
		return;
	barrier_var(id);
	if (!always && client->wanted == wanted && client->saturated == saturated &&
	    published_granted[id] == granted)
		return;
	client->wanted = wanted;
	client->saturated = saturated;
	published_granted[id] = granted;
	WRITE_ONCE(page->grant.executors_wanted, wanted);
	WRITE_ONCE(page->grant.cores_granted, granted);
	WRITE_ONCE(page->grant.saturated, saturated);
	WRITE_ONCE(page->grant.attached, 1);
	__sync_fetch_and_add(&page->grant.generation, 1);
}

static __always_inline void send_event(u32 kind, u32 client)
{
	struct flexnet_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	/* A full ring means that the loader is behind; what it missed is asked
	 * for again at the next sample. */
	if (!event)
		return;
	event->kind = kind;
	event->client = client;
	bpf_ringbuf_submit(event, 0);
}

/* A thread becomes the executor of a slot that is taken for it. */
static __always_inline void enter_executor(struct task_ctx *tctx, struct executor_ctx *ectx,
					   struct flexnet_client_state *client, u32 id, u32 slot,
					   u32 flow_class, u32 origin)
{
	tctx->client = id;
	tctx->slot = slot;
	tctx->flow_class = flow_class;
	tctx->client_generation = client->generation;
	ectx->flow_class = flow_class;
	tctx->serial = ++ectx->serial;
	ectx->flagged_ns = 0;
	ectx->cpu = -1;
	ectx->runnable = 0;
	if (client->slots <= slot)
		client->slots = slot + 1;
	barrier();
	tctx->class_origin = origin;
	tctx->task_class = FLEXNET_CLASS_EXECUTOR;
}

/* Applies what the loader stored for a thread by its pidfd. The thread id only
 * finds the thread: one that got the id since has no registration. */
SEC("syscall")
int apply_registration(struct flexnet_apply *argument)
{
	struct flexnet_registration *asked;
	struct flexnet_client_state *client;
	struct executor_ctx *ectx;
	struct task_struct *p;
	struct task_ctx *tctx;
	int ret = 0;

	p = bpf_task_from_pid(argument->tid);
	if (!p)
		return -ESRCH;
	asked = bpf_task_storage_get(&registrations, p, NULL, 0);
	tctx = bpf_task_storage_get(&task_ctxs, p, NULL, 0);
	if (!asked || !tctx) {
		ret = -ESRCH;
		goto out;
	}
	if (asked->task_class != FLEXNET_CLASS_EXECUTOR) {
		tctx->asked = 1 + (asked->task_class <= FLEXNET_CLASS_BATCH ? asked->task_class :
									      FLEXNET_CLASS_NORMAL);
		settle_class(tctx);
		goto out;
	}
	client = client_of(asked->client);
	ectx = executor_ctx_of(asked->client * FLEXNET_EXECUTORS_MAX + asked->slot);
	if (!client || !ectx || asked->slot >= FLEXNET_EXECUTORS_MAX || !(client->generation & 1)) {
		ret = -EINVAL;
		goto out;
	}
	if (!ectx->registered) {
		ectx->registered = 1;
		__sync_fetch_and_add(&client->executors, 1);
	}
	enter_executor(tctx, ectx, client, asked->client, asked->slot, asked->flow_class,
		       FLEXNET_ORIGIN_REGISTRATION);
out:
	bpf_task_release(p);
	return ret;
}

/* The client is a device's, its executors the kernel's own threads: they come by
 * themselves, on any CPU (napi.bpf.h), so every slot is looked at. */
static __always_inline void start_kernel_client(struct flexnet_client_state *client, u32 ifindex)
{
	client->ifindex = ifindex;
	client->slots = FLEXNET_EXECUTORS_MAX;
	__sync_fetch_and_or(&napi_devices, 1ULL << (ifindex & 63));
}

static void forget_executor(u32 index, struct flexnet_client_state *client)
{
	struct executor_ctx *ectx = executor_ctx_of(index);

	if (!ectx || !ectx->registered)
		return;
	ectx->registered = 0;
	ectx->runnable = 0;
	ectx->cpu = -1;
	ectx->flagged_ns = 0;
	if (client->executors)
		__sync_fetch_and_sub(&client->executors, 1);
}

static void set_limits(struct flexnet_client_state *client,
		       const struct flexnet_client_event *argument)
{
	client->guaranteed = argument->guaranteed;
	client->weight = argument->weight;
	client->max_cores = argument->max_cores;
}

/* A client came, went, has other limits, or dropped an executor. Generations are odd while a
 * client lives: its threads' registrations end with it. */
SEC("syscall")
int client_event(struct flexnet_client_event *argument)
{
	struct flexnet_client_state *client = client_of(argument->client);
	struct flexnet_page *page;
	u32 slot;

	if (!client)
		return -EINVAL;
	switch (argument->op) {
	case FLEXNET_CLIENT_START:
	case FLEXNET_CLIENT_START_KERNEL:
		if (client->generation & 1)
			return -EBUSY;
		client->depth = 0;
		client->delay_ns = 0;
		client->run_ns = 0;
		client->executors = 0;
		client->wanted = 0;
		client->bell_ns = 0;
		client->slots = 0;
		client->asked_parks = 0;
		set_limits(client, argument);
		client->cores = 0;
		client->ifindex = 0;
		if (argument->op == FLEXNET_CLIENT_START_KERNEL)
			start_kernel_client(client, argument->slot);
		/* The page is new or was made to say so by the loader. */
		bpf_for(slot, 0, FLEXNET_EXECUTORS_MAX) {
			struct executor_ctx *ectx =
				executor_ctx_of(argument->client * FLEXNET_EXECUTORS_MAX + slot);

			if (ectx)
				ectx->park_asked = 0;
		}
		page = page_of(argument->client);
		if (!page)
			return -ENOENT;
		publish_grant(argument->client, client, page,
			      client->ifindex ? 0 : FLEXNET_EXECUTORS_MAX, arbiter.granted, 0,
			      true);
		client->generation++;
		return 0;
	case FLEXNET_CLIENT_FORGET:
		if (!(client->generation & 1))
			return -ENOENT;
		client->generation++;
		bpf_for(slot, 0, FLEXNET_EXECUTORS_MAX)
			forget_executor(argument->client * FLEXNET_EXECUTORS_MAX + slot, client);
		return 0;
	case FLEXNET_CLIENT_LIMITS:
		if (!(client->generation & 1))
			return -ENOENT;
		set_limits(client, argument);
		return 0;
	case FLEXNET_CLIENT_DROP_SLOT:
		if (argument->slot >= FLEXNET_EXECUTORS_MAX)
			return -EINVAL;
		forget_executor(argument->client * FLEXNET_EXECUTORS_MAX + argument->slot, client);
		return 0;
	}
	return -EINVAL;
}

#endif /* FLEXNET_CLIENTS_BPF_H */

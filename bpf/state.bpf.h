/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * state.bpf.h - maps, globals and per-task and per-CPU state of the scheduler.
 *
 * What it is for: every piece of memory the other headers share, declared once.
 * What it promises: accessors that bound every index, so that callers need no
 * checks of their own but for NULL. What it leaves to others: all decisions.
 */
#ifndef FLEXNET_STATE_BPF_H
#define FLEXNET_STATE_BPF_H

#define FLEXNET_EXECUTORS_ALL (FLEXNET_CLIENTS_MAX * FLEXNET_EXECUTORS_MAX)
/* No class: the idle task or a task of another scheduling class runs. */
#define CLASS_NONE FLEXNET_CLASS_COUNT

/* Shared queues. All are ordered by virtual time. */
enum dsq {
	DSQ_EXECUTOR_LATENCY = 0,    /* executors with latency flows */
	DSQ_EXECUTOR_THROUGHPUT = 1, /* executors with throughput flows */
	DSQ_GENERAL_LATENCY = 2,     /* latency tasks */
	DSQ_GENERAL = 3,	     /* normal and batch tasks */
	DSQ_THROTTLED = 512,	     /* tasks of groups without CPU time, by when they have some */
	DSQ_PINNED = 1024,	     /* + CPU: tasks that can run there only */
};

/* Written by the loader: before load, and of the settings some at a reload. */
const volatile struct flexnet_machine machine = {
	.cpus = 1,
};
volatile struct flexnet_config settings = {
	.objective_ns = 50000,
	.low_mark_ns = 10000,
	.interval_ns = 100000,
	.idle_delay_ns = 20000000,
	.quantum_ns = 1000000,
	.grace_ns = 100000,
	.slice_ns = 4000000,
	.latency_slice_ns = 1000000,
	.starvation_ns = 20000000,
	.preemption_cooldown_ns = 100000,
	.latency_batch_ns = 1000000,
};

/* The design that is on: its own of the parameters, and its quantum. Written by
 * the CPU that holds the arbiter. */
struct flexnet_design_switch design;

/* Read by the loader at any time. */
struct flexnet_arbiter_state arbiter;
struct flexnet_client_state clients[FLEXNET_CLIENTS_MAX];

/* A task, from init to exit. */
struct task_ctx {
	u32 task_class;
	u32 client; /* executors only, as the next three */
	u32 slot;
	u32 flow_class;
	u64 client_generation; /* the registration holds while it is the client's */
	u64 serial;	       /* and this the slot's */
	u64 enqueued_ns;       /* runnable and waiting since, 0: not waiting */
	u64 run_start_ns;      /* on a CPU since */
	u64 slice_ns;	       /* slice it was last queued with */
	u64 slice_left_ns;     /* what a preempted task goes on with; 0: nothing */
	u64 vtime;	       /* its virtual time among general tasks; 0: none yet */
	u64 yielded_ns;	       /* what it pays when it is queued: it has yielded; 0: it has not */
	u32 clock;	       /* of its virtual time: CPU + 1, 0 for the shared one */
	u32 group;	       /* its cgroup's index among the groups, once that is known */
	u32 group_known;
	u32 counted_load;  /* what the sum of a group has of it, 0: it wants no CPU */
	u32 counted_group; /* that group, and its sequence then */
	u32 counted_sequence;
	u64 bandwidth_charged_ns; /* what its groups' limits were charged of this turn */
	u64 throttled_ns;	  /* it waits for its groups' limits since, 0: it does not */
	u32 bounced;		  /* it was stopped as soon as it started */
	u32 class_origin;	  /* enum flexnet_class_origin: what gave it task_class */
	/* Where its class comes from: class + 1 each, 0 for none. */
	u8 asked;	 /* its process asked for it */
	u8 ruled;	 /* by its own rule */
	u8 inherited;	 /* the next two, as they hold now */
	u8 born;	 /* of a parent whose process asked for it */
	u8 born_rule;	 /* index + 1 of the parent's rule, of that epoch */
	u8 rule;	 /* index + 1 of its own */
	u8 held_by;	 /* index + 1 of the rule that holds it, its own or the parent's */
	u32 rules_epoch; /* the rules it was matched with */
	u32 backlog;	 /* it is a backlog NAPI thread */
	u8 out_of_order; /* it was queued or moved ahead of its virtual time */
	u8 extended;	 /* what it goes on with was granted inside an RCU section */
	struct flexnet_latency_batch_member latency_batch; /* its part in the last one */
	struct flexnet_wakeups wakeups; /* how often it is woken by latency tasks, on no idle CPU */
	struct flexnet_task_history history;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_ctx);
} task_ctxs SEC(".maps");

/* What the loader asks for a thread, written by the thread's pidfd. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct flexnet_registration);
} registrations SEC(".maps");

/* The clients' pages. The template must be a real variable in .maps, or libbpf
 * cannot size the inner maps. */
struct page_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct flexnet_page);
} page_template SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, FLEXNET_CLIENTS_MAX);
	__type(key, u32);
	__array(values, struct page_map);
} pages SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct flexnet_cpu_stats);
} cpu_stats SEC(".maps");

struct round_timer {
	struct bpf_timer timer;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct round_timer);
} round_timers SEC(".maps");

struct cooldown_timer {
	struct bpf_timer timer;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLEXNET_CPUS_MAX);
	__type(key, u32);
	__type(value, struct cooldown_timer);
} cooldown_timers SEC(".maps");

/* A CPU. Written by the CPU itself but for kick_claim_ns, cooldown_armed and
 * granted; cache lines of its own, since every context switch writes it. */
struct cpu_ctx {
	u32 granted;	   /* to the executor class */
	u32 current_class; /* of the task on it, CLASS_NONE if it is none of ours */
	u32 executor;	   /* index + 1 of the executor on it, 0: none */
	u32 online;
	u64 kick_claim_ns;    /* somebody preempts it, since */
	u64 higher_used_ns;   /* latency tasks' run since normal ones had a turn */
	u64 pinned_used_ns;   /* bound latency tasks' run, less what normal tasks ran in return */
	u64 latency_used_ns;  /* the same among executors, by flow class */
	u64 latency_start_ns; /* a latency task runs here since, 0: none does */
	u64 latency_end_ns;   /* the last one stopped */
	/* Goes on while only latency tasks and executors run here. */
	struct flexnet_latency_batch latency_batch;
	u64 vtime_now;	       /* virtual time of the task that last began a turn here in order */
	u64 clock_offset_ns;   /* what it adds to virtual time by the shared clock */
	u64 grant_cause_ns;    /* granted for what waited since, 0: an executor has run here */
	u32 cooldown_armed;    /* its timer runs */
	u64 general_served_ns; /* last turn of general tasks on a granted core */
	u64 preempted_ns;      /* a task that may run elsewhere was last queued for it */
	u64 extension_used_ns; /* run of extended tasks, less half of what others ran */
	u32 starved_scan_cpu;  /* the CPU whose preempted tasks were last looked after */
	u64 aged_scan_ns;      /* its queues were last looked through for old waiters */
	u64 aged_scan_flags;   /* from the end, or from the beginning */
	u32 aged_moves_max;    /* of the scan that runs */
	/* Of that scan. In memory, since the verifier follows every value a
	 * counter in a register can have through the whole loop. */
	u32 scanned;
	u32 moved;
	/* MicroQuanta of executors here, where the design limits them. */
	struct flexnet_quanta quanta;
} __attribute__((aligned(64)));
struct cpu_ctx cpu_ctxs[FLEXNET_CPUS_MAX];

/* An executor, by client * FLEXNET_EXECUTORS_MAX + slot. */
struct executor_ctx {
	u32 registered;
	u32 runnable; /* running or waiting for a core */
	s32 cpu;      /* where it runs, -1 */
	u32 flow_class;
	u32 park_asked;		       /* what park_request says */
	u64 run_start_ns;	       /* on its CPU since, 0: on none */
	u64 quantum_start_ns;	       /* its quantum counts since */
	u64 flagged_ns;		       /* quantum_expired raised since, 0: not */
	u64 serial;		       /* moves with each registration of the slot */
	struct flexnet_napi_load napi; /* kernel network threads only */
} __attribute__((aligned(64)));
struct executor_ctx executor_ctxs[FLEXNET_EXECUTORS_ALL];

/* The clocks of general tasks begin far from zero, so that a slice before it is no negative time. */
#define VTIME_START (1ULL << 40)

/* CPU time of all executors up to their last stop, and the part of latency flows. */
u64 executors_run_ns, latency_executors_run_ns;

/* Virtual time of each client's executors, and of the tasks that may run on several CPUs. */
u64 client_vtimes[FLEXNET_CLIENTS_MAX];
u64 executor_vtime_now;
u64 vtime_now = VTIME_START;

/* What each client's page was last told: BPF never reads back what it wrote. */
u32 published_granted[FLEXNET_CLIENTS_MAX];

/* Clients worth a look: a bit each, set when an executor becomes runnable. */
u64 active_clients;
/* Devices that are clients, a bit for each index modulo 64: most polls are of
 * others, and shall not look through the clients for theirs. */
u64 napi_devices;
/* The kernel has detached this scheduler: its maps live on while its successor
 * attaches, its timers must not. */
u32 detached;

static __always_inline struct cpu_ctx *cpu_ctx_of(s32 cpu)
{
	u64 index = (u32)cpu;

	/* The register that is checked must be the one that is used. */
	barrier_var(index);
	if (index >= FLEXNET_CPUS_MAX)
		return NULL;
	barrier_var(index);
	return &cpu_ctxs[index];
}

static __always_inline struct executor_ctx *executor_ctx_of(u64 index)
{
	barrier_var(index);
	if (index >= FLEXNET_EXECUTORS_ALL)
		return NULL;
	barrier_var(index);
	return &executor_ctxs[index];
}

static __always_inline struct flexnet_client_state *client_of(u64 index)
{
	barrier_var(index);
	if (index >= FLEXNET_CLIENTS_MAX)
		return NULL;
	barrier_var(index);
	return &clients[index];
}

static __always_inline u64 *client_vtime_of(u64 index)
{
	barrier_var(index);
	if (index >= FLEXNET_CLIENTS_MAX)
		return NULL;
	barrier_var(index);
	return &client_vtimes[index];
}

static __always_inline struct task_ctx *task_ctx_of(struct task_struct *p)
{
	return bpf_task_storage_get(&task_ctxs, p, NULL, 0);
}

/* The kernel's run queues: a clock for each CPU. */
extern struct rq runqueues __ksym;

/* When the kernel began to switch tasks on a CPU, as scx_bpf_now() tells it. For the operations that
 * are called in a switch: the kernel has just updated that clock. There scx_bpf_now() reads the
 * processor's clock anew, which takes 85 instructions. */
static __always_inline u64 switch_now(s32 cpu)
{
	struct rq *rq = bpf_per_cpu_ptr(&runqueues, cpu);

	if (!bpf_core_field_exists(rq->scx.clock) || !rq)
		return scx_bpf_now();
	return rq->scx.clock;
}

/* How long a task has run since its turn began, ns; 0 where it is on no CPU. */
static __always_inline u64 turn_run_ns(struct task_ctx *tctx, u64 now)
{
	u64 start = tctx->run_start_ns;

	return start && now > start ? now - start : 0;
}

static __always_inline struct flexnet_cpu_stats *stats_here(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&cpu_stats, &zero);
}

/* Counts in this CPU's entry, where it can. */
#define stat_add(field, n)                                        \
	do {                                                      \
		struct flexnet_cpu_stats *__stats = stats_here(); \
		if (__stats)                                      \
			__stats->field += (n);                    \
	} while (0)

static __always_inline u64 pinned_dsq(s32 cpu)
{
	return DSQ_PINNED + (u32)cpu;
}

static __always_inline bool cpu_granted(s32 cpu)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);

	return cctx && READ_ONCE(cctx->granted);
}

#endif /* FLEXNET_STATE_BPF_H */

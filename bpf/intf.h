/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * intf.h - what the BPF half and its loader share.
 *
 * What it is for: configuration (written before load), states and counters
 * (read by the loader at any time), events (ring buffer). Clients see nothing
 * of this: their contract is include/flexnet/abi.h.
 */
#ifndef FLEXNET_INTF_H
#define FLEXNET_INTF_H

#ifndef __VMLINUX_H__
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed int s32;
typedef signed long long s64;
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed short __s16;
typedef signed int __s32;
#define __VMLINUX_H__ 1 /* abi.h takes its types from above */
#endif

#include <flexnet/abi.h>
#include <flexnet/core_rule.h>
#include <flexnet/designs.h>
#include "rule.h"

/* CPUs the scheduler can schedule; the loader refuses more. */
#define FLEXNET_CPUS_MAX 1024
#define FLEXNET_CPU_WORDS (FLEXNET_CPUS_MAX / 64)
/* Grant changes remembered for statistics and tests; a power of two. */
#define FLEXNET_TRANSITIONS 64

/* The operator's numbers (data `settings`), written by the loader before the
 * attach and, one by one, at a reload. Times in ns. */
struct flexnet_config {
	u64 objective_ns;	    /* grow when the oldest queued message is older */
	u64 low_mark_ns;	    /* shrink only while delay is under it */
	u64 interval_ns;	    /* of arbiter rounds while work is queued */
	u64 idle_delay_ns;	    /* last cores go back after this long without work */
	u64 quantum_ns;		    /* an executor's CPU time while others wait for its core */
	u64 grace_ns;		    /* from raising a flag to the kick */
	u64 slice_ns;		    /* of normal and batch tasks */
	u64 latency_slice_ns;	    /* of latency tasks */
	u64 starvation_ns;	    /* longest wait of a runnable task while a higher class runs */
	u64 preemption_cooldown_ns; /* no latency task preempts so long after one has run */
	u64 latency_batch_ns;	    /* CPU time of one latency batch */
	u32 net_cores_max;	    /* 0: never grant */
	u32 lend;		    /* granted cores with nothing to do serve general tasks */
};

/* What stays as it is (rodata `machine`), written before load. */
struct flexnet_machine {
	u32 cpus;  /* possible CPUs */
	u32 steer; /* tell the loader of changed grants */
	u32 netns; /* inode of the loader's network namespace */
	/* Order in which CPUs are granted; the first `grant_candidates` count. */
	u32 grant_candidates;
	u32 grant_order[FLEXNET_CPUS_MAX];
	/* Last-level cache of each CPU. */
	u16 llc_of[FLEXNET_CPUS_MAX];
};

/* What the loader asks for a thread (task storage `registrations`, written by
 * the thread's pidfd, applied by the syscall program `apply_registration`). */
struct flexnet_registration {
	u32 task_class; /* enum flexnet_class */
	u32 client;	/* executors only */
	u32 slot;	/* executors only */
	u32 flow_class; /* executors only */
};

/* Argument of SEC("syscall") apply_registration; returns 0 or -errno. */
struct flexnet_apply {
	s32 tid; /* in the initial pid namespace */
};

/* What a task has been through: task storage, and told by sample_task. */
struct flexnet_task_history {
	u64 run_ns;
	u64 last_wait_ns;
	u64 preemptions; /* preempted in its turn */
	u64 wait_ns[FLEXNET_QUEUE_COUNT];
	u64 waits[FLEXNET_QUEUE_COUNT];
	u32 queue; /* enum flexnet_queue it waits in, or did */
	u32 last_queue;
};

/* Argument of SEC("syscall") sample_task: `tid` (initial pid namespace) in, the
 * rest out. Returns 0 or -errno. */
struct flexnet_task_sample {
	s32 tid;
	u32 task_class;
	u32 class_origin;
	u32 policy;
	u32 client;
	u32 slot;
	s32 on_cpu;
	u32 reserved;
	u64 waiting_ns;
	struct flexnet_task_history history;
};

/* Argument of SEC("syscall") client_event; returns 0 or -errno. */
enum flexnet_client_op {
	FLEXNET_CLIENT_START = 1,  /* page is in `pages`, executors may register */
	FLEXNET_CLIENT_FORGET = 2, /* its executors become normal tasks */
	FLEXNET_CLIENT_DROP_SLOT = 3,
	FLEXNET_CLIENT_LIMITS = 4, /* the operator's rules have changed */
	/* As START; its executors are the kernel's own network threads. */
	FLEXNET_CLIENT_START_KERNEL = 5,
};
struct flexnet_client_event {
	u32 op;
	u32 client;
	u32 slot; /* DROP_SLOT; START_KERNEL: the device's index instead */
	/* START, START_KERNEL and LIMITS: */
	u32 guaranteed; /* cores that are its own under designs with claims */
	u32 weight;	/* the operator's, 1..10000; 0: its page's */
	u32 max_cores;	/* most granted cores by the operator; 0: no bound */
};

/* Argument of SEC("syscall") adopt_napi_thread: makes a kernel thread that polls
 * a device an executor of that device's client. Returns 0, -ENOENT where it is
 * no such thread or the device nobody's, or -ENOSPC: the device's clients are full. */
struct flexnet_napi_thread {
	s32 tid;     /* in the initial pid namespace */
	u32 ifindex; /* out, with -ENOSPC */
};

/* Backlog NAPI threads (boot option thread_backlog_napi); bss `backlog`. The
 * SEC("syscall") program sample_backlog brings threads and depth up to date. */
struct flexnet_backlog {
	u64 run_ns; /* CPU time of those that were seen */
	u64 depth;  /* packets queued on all CPUs */
	u32 threads;
	u32 reserved;
};

/* Argument of SEC("syscall") switch_design: what to follow from now on. Returns 0
 * or -EAGAIN: a round kept the arbiter; try again. `params.arbiter` is not read:
 * that is `settings`. */
struct flexnet_design_switch {
	struct flexnet_design_params params;
	u64 quantum_ns;				 /* of executors, 0: settings.quantum_ns */
	u64 loaded;				 /* 1: a loaded core rule is asked */
	u64 parameters[FLEXNET_RULE_PARAMETERS]; /* of that rule */
};

/* Argument of SEC("syscall") decide, for the test that BPF and the host decide
 * alike: a round's numbers, in and out. */
struct flexnet_design_case {
	struct flexnet_design_params params;
	struct flexnet_arbiter_sample sample;
	struct flexnet_arbiter_memory memory;
	struct flexnet_arbiter_decision decision;
};

/* Per client, BPF writes, loader reads (bss array `clients`). */
struct flexnet_client_state {
	u64 generation;	 /* odd while alive */
	u64 depth;	 /* messages queued at the last sample */
	u64 delay_ns;	 /* age of the oldest then */
	u64 run_ns;	 /* CPU time of its executors */
	u32 executors;	 /* registered */
	u32 wanted;	 /* how many should run */
	u64 bell_ns;	 /* last doorbell event asked for */
	u32 slots;	 /* executors are in slots below this */
	u32 saturated;	 /* as its page was told */
	u32 asked_parks; /* executors were asked to park since the last bell */
	u32 guaranteed;	 /* cores it has before others, in designs with claims */
	u32 cores;	 /* cores it holds by claim */
	u32 weight;	 /* the operator's, 0: its page's */
	u32 max_cores;	 /* most granted cores by the operator, 0: no bound */
	u32 ifindex;	 /* of the device whose kernel threads are its executors, 0: none */
	u32 reserved;
};

enum flexnet_event_kind {
	/* No thread of the client runs and it has work: ring its eventfd. */
	FLEXNET_EVENT_DOORBELL = 1,
	/* The granted set or `saturated` changed; sent again only after the loader has
	 * cleared `grants_event_pending`. Only when machine.steer. */
	FLEXNET_EVENT_GRANTS = 2,
};
struct flexnet_event {
	u32 kind;
	u32 client;
};

/* One change of the number of granted cores. */
struct flexnet_transition {
	u64 at_ns;    /* CLOCK_MONOTONIC */
	u64 cause_ns; /* when the load that caused it was first seen */
	u32 before;
	u32 after;
	u32 rounds; /* arbiter rounds between cause and change */
	u32 reason; /* enum flexnet_reason in arbiter.h */
};

/* bss `arbiter`: BPF writes, loader reads. */
struct flexnet_arbiter_state {
	u64 granted_mask[FLEXNET_CPU_WORDS];
	u32 granted;
	u32 grants_event_pending; /* loader clears */
	u32 saturated;		  /* enum flexnet_saturated: which clients are told */
	u32 reserved;
	u64 grants;   /* cores granted, count */
	u64 reclaims; /* cores given back, count */
	u64 rounds;
	u64 timer_starts;
	u64 granted_core_ns;  /* integral of granted cores over time */
	u64 granted_since_ns; /* integral is valid up to here */
	u64 transitions;      /* total; the last FLEXNET_TRANSITIONS are kept */
	struct flexnet_transition transition[FLEXNET_TRANSITIONS];
	u64 rule_rounds;  /* rounds that a loaded core rule decided */
	u64 rule_refused; /* rounds in which it had no answer that counts */
};

/* A histogram's bucket k has the times of at most 2^(SHIFT + k) ns, from 1 us to
 * 8.6 s; its last one all above. */
#define FLEXNET_BUCKETS 25
#define FLEXNET_BUCKET_SHIFT 10
struct flexnet_histogram {
	u64 sum_ns;
	u64 count[FLEXNET_BUCKETS]; /* in each bucket alone */
};

/* Histograms beside the classes' (times runnable and not running, by class). */
enum flexnet_histogram_kind {
	/* Age of the oldest message of each executor that had one, at each sample
	 * of the arbiter. */
	FLEXNET_HISTOGRAM_QUEUE_DELAY = FLEXNET_CLASS_COUNT,
	/* From when cores were first seen to be too few to when an executor ran
	 * on the one granted for it. */
	FLEXNET_HISTOGRAM_GRANT_LATENCY,
	FLEXNET_HISTOGRAMS,
};

/* Per-CPU counters (PERCPU_ARRAY `cpu_stats`, one entry). All u64: the loader
 * adds up words. */
struct flexnet_cpu_stats {
	u64 run_ns[FLEXNET_CLASS_COUNT];
	struct flexnet_histogram histogram[FLEXNET_HISTOGRAMS];
	u64 kicks;	 /* idle CPUs woken */
	u64 preemptions; /* kicks that preempt */
	u64 takebacks;	 /* of these, lent cores taken back */
	u64 flags_raised;
	u64 flag_kicks;	     /* flags ignored for longer than the grace */
	u64 anti_starvation; /* tasks served by the starvation bound */
	u64 timer_fires;
	u64 direct_dispatches; /* tasks sent straight to a CPU by select_cpu */
};

#endif /* FLEXNET_INTF_H */

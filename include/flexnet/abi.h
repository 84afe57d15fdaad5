/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * abi.h - the contract between executors, the daemon and the BPF scheduler.
 *
 * What it is for: the one definition of the shared page and of the control
 * socket's messages, included by BPF, by C clients and mirrored (with size and
 * offset assertions against this file) by
 * crates/flexnet/src/abi/generated.rs.
 *
 * What it promises: every 64-byte line of the page has one kind of writer,
 * named at its struct; sizes and offsets never change within a version, and
 * FLEXNET_PAGE_BYTES has reserve, so that a page outlives an upgrade.
 *
 * What it leaves to others: which process may map a page (the daemon hands a client the
 * file descriptor of its own page and of no other) and what the numbers mean
 * for core allocation (arbiter.h). BPF believes nothing here: it loads
 * completed before enqueued, never reads back what it wrote, and clamps.
 */
#ifndef FLEXNET_ABI_H
#define FLEXNET_ABI_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#define FLEXNET_ABI_VERSION 1
#define FLEXNET_PAGE_MAGIC 0x31584c46u /* "FLX1" in memory order */

/* A cache line of every x86-64 and nearly every arm64 machine. */
#define FLEXNET_LINE_BYTES 64
/* Size of a client's page; frozen for this ABI version. */
#define FLEXNET_PAGE_BYTES 16384
/* Executors one client may register; slots are 0..MAX-1. */
#define FLEXNET_EXECUTORS_MAX 16
/* Clients alive at once; client ids are 0..MAX-1. */
#define FLEXNET_CLIENTS_MAX 64
/* Submission stamps an executor keeps, a power of two. */
#define FLEXNET_STAMPS 64
/* Every so many messages one is stamped: stamping each would double the cost
 * of an enqueue (measured). A power of two. */
#define FLEXNET_STAMP_EVERY 16

#define FLEXNET_LINE __attribute__((aligned(FLEXNET_LINE_BYTES)))

/* Scheduling class of a task. Order is priority on a general core. */
enum flexnet_class {
	FLEXNET_CLASS_NORMAL = 0,
	FLEXNET_CLASS_LATENCY = 1,
	FLEXNET_CLASS_BATCH = 2,
	FLEXNET_CLASS_EXECUTOR = 3,
	FLEXNET_CLASS_KTHREAD = 4, /* per-CPU kernel threads; never asked for */
	FLEXNET_CLASS_COUNT = 5,
};

/* Where a task's class comes from: of the first four the later goes before. */
enum flexnet_class_origin {
	FLEXNET_ORIGIN_DEFAULT = 0,	 /* nobody said anything of it */
	FLEXNET_ORIGIN_PARENT = 1,	 /* inherited at fork */
	FLEXNET_ORIGIN_RULE = 2,	 /* an operator's rule */
	FLEXNET_ORIGIN_REGISTRATION = 3, /* asked for over the control socket */
	FLEXNET_ORIGIN_KERNEL = 4, /* a kernel thread bound to one CPU, or that polls a device */
};

/* Where a task waits for a CPU. */
enum flexnet_queue {
	FLEXNET_QUEUE_DIRECT = 0,  /* a CPU's own: it was chosen at the wakeup */
	FLEXNET_QUEUE_LATENCY = 1, /* of latency tasks, shared by the general cores */
	FLEXNET_QUEUE_GENERAL = 2, /* of normal and batch tasks, shared likewise */
	FLEXNET_QUEUE_CPU = 3,	   /* of those bound to one CPU, or preempted on it in their turn */
	FLEXNET_QUEUE_EXECUTOR = 4, /* of executors, shared by the granted cores */
	FLEXNET_QUEUE_COUNT = 5,
};

/* What kind of flows an executor has queued. */
enum flexnet_flow_class {
	FLEXNET_FLOW_THROUGHPUT = 0,
	FLEXNET_FLOW_LATENCY = 1,
};

/* flexnet_executor_own.state. A mirror for the scheduler's eyes: the futex
 * word of the parking handshake is in the client's private memory. */
enum flexnet_executor_state {
	FLEXNET_EXECUTOR_ABSENT = 0,
	FLEXNET_EXECUTOR_RUNNING = 1,
	FLEXNET_EXECUTOR_PARKED = 2,
	/* In a system call that may sleep (writability, a timer). */
	FLEXNET_EXECUTOR_WAITING = 3,
};

/* Writer: the daemon, once, before the client sees the page. */
struct flexnet_page_header {
	__u32 magic;	     /* FLEXNET_PAGE_MAGIC */
	__u32 version;	     /* FLEXNET_ABI_VERSION */
	__u32 page_bytes;    /* FLEXNET_PAGE_BYTES */
	__u32 client;	     /* this client's id */
	__u32 executors_max; /* quota, at most FLEXNET_EXECUTORS_MAX */
	__u32 reserved[11];
} FLEXNET_LINE;

/* Writer: the client. Hints; BPF clamps. */
struct flexnet_page_client {
	__u32 weight;	 /* share on granted cores against other clients, 1..10000, 0 means 100 */
	__u32 max_cores; /* most granted cores this client wants, 0 means no wish */
	__u32 reserved[14];
} FLEXNET_LINE;

/* Writer: BPF. */
struct flexnet_page_grant {
	__u64 generation;	/* moves by one with each change of this line */
	__u32 attached;		/* 1 while the scheduler schedules, else 0 */
	__u32 executors_wanted; /* how many of this client's executors should run */
	__u32 cores_granted;	/* cores granted to the executor class, all clients together */
	__u32 saturated; /* 1: its executors wait, and no more cores can be granted to them */
	__u32 reserved[10];
} FLEXNET_LINE;

/* Bytes of a design's text, its final zero included. */
#define FLEXNET_DESIGN_BYTES 64

/* Writer: the daemon. The design the stack follows, as the arbiter does. Odd
 * while it is written: read it again then, or when it moved meanwhile. 0: never
 * written. Two lines, read by executors at each turn, written at a switch. */
struct flexnet_page_design {
	__u64 generation;
	char text[FLEXNET_DESIGN_BYTES]; /* NAME[:key=value,...], zero-terminated */
	__u64 reserved[7];
} FLEXNET_LINE;

/* Writer: threads that are not this executor (submitters, siblings), by
 * atomic add. Both counters count messages and only grow. */
struct flexnet_executor_foreign {
	__u64 enqueued; /* messages submitted and charged to this executor */
	__u64 moved;	/* of these, completed by somebody else (a thief, an inline drain) */
	__u64 reserved[6];
} FLEXNET_LINE;

/* Writer: the executor's own thread. */
struct flexnet_executor_own {
	__u64 completed;    /* messages charged to it that it completed */
	__u64 run_start_ns; /* CLOCK_MONOTONIC at the resume that runs, 0: none or not told */
	__u32 state;	    /* enum flexnet_executor_state */
	__u32 flow_class;   /* enum flexnet_flow_class of what is queued */
	__u64 parks;	    /* times it parked, for statistics */
	__u64 resumes;	    /* coroutines resumed, for statistics */
	__u64 reserved[3];
} FLEXNET_LINE;

/* Writer: BPF. */
struct flexnet_executor_sched {
	__s32 on_cpu;	       /* CPU it runs on, -1 when it is off the CPU */
	__u32 park_request;    /* 1: park at the next yield, siblings take the work */
	__u32 quantum_expired; /* 1: yield the CPU (sched_yield) at the next yield point */
	__u32 on_granted_core; /* 1 when on_cpu is a granted core */
	__u64 generation;      /* moves by one each time it is put on a CPU */
	__u64 reserved[5];
} FLEXNET_LINE;

/*
 * One executor. Depth in messages is enqueued - completed - moved. The age of
 * its oldest message is now - stamps[((completed + moved) / STAMP_EVERY) %
 * STAMPS]; a submitter writes the stamp (CLOCK_MONOTONIC, ns) of message
 * number n (the value enqueued had) when n % STAMP_EVERY == 0 and whenever the
 * queue looked empty. The stamps are written by submitters like the foreign
 * line.
 */
struct flexnet_executor {
	struct flexnet_executor_foreign foreign;
	struct flexnet_executor_own own;
	struct flexnet_executor_sched sched;
	__u64 reserved[8];
	__u64 stamps[FLEXNET_STAMPS];
} FLEXNET_LINE;

struct flexnet_page {
	struct flexnet_page_header header;
	struct flexnet_page_client client;
	struct flexnet_page_grant grant;
	struct flexnet_page_design design;
	__u8 reserved[3 * FLEXNET_LINE_BYTES];
	struct flexnet_executor executors[FLEXNET_EXECUTORS_MAX];
	__u8 reserve[FLEXNET_PAGE_BYTES - 8 * FLEXNET_LINE_BYTES -
		     FLEXNET_EXECUTORS_MAX * sizeof(struct flexnet_executor)];
} FLEXNET_LINE;

/*
 * The control socket: SOCK_SEQPACKET, one message a packet. A request is
 * answered by exactly one reply of the same type and sequence. A shorter
 * message of a known type is filled with zeros, a longer one is cut: size
 * says how much the sender knew of. A descriptor comes with HELLO,
 * REGISTER_EXECUTOR, SET_CLASS, WHY and TRACE; one of the wrong kind is answered
 * with -EBADF, one with another message is dropped. A connection for which there
 * is no place is answered with -EUSERS and closed. One that is no client's and
 * asks for nothing for 10 s is closed.
 */
#define FLEXNET_SOCKET_PATH "/run/scx_flexnet/control.sock"

enum flexnet_message_type {
	/* client -> daemon, struct flexnet_hello; answered by struct
	 * flexnet_welcome with two file descriptors: the page (mmap
	 * FLEXNET_PAGE_BYTES, shared, read-write) and an eventfd (the doorbell
	 * rung when none of the client's threads runs). */
	FLEXNET_MESSAGE_HELLO = 1,
	/* struct flexnet_register with one file descriptor, a pidfd of one of
	 * the sender's own threads (PIDFD_THREAD). */
	FLEXNET_MESSAGE_REGISTER_EXECUTOR = 2,
	/* struct flexnet_register, slot only. */
	FLEXNET_MESSAGE_UNREGISTER_EXECUTOR = 3,
	/* struct flexnet_set_class with one pidfd of one of the sender's own
	 * threads; needs no HELLO. Children forked later inherit the class. */
	FLEXNET_MESSAGE_SET_CLASS = 4,
	/* struct flexnet_message alone; answered by struct flexnet_status. */
	FLEXNET_MESSAGE_STATUS = 5,
	/* struct flexnet_design_text, the design to switch to, or empty to ask;
	 * answered by the same, the design that is on then. Only root may switch
	 * (-EPERM); a text that is none: -EINVAL. */
	FLEXNET_MESSAGE_DESIGN = 7,
	/* struct flexnet_message alone, root's: read the configuration file anew;
	 * answered by struct flexnet_reload. Mistakes in it: -EINVAL, nothing
	 * changes, and text has them, a line each. */
	FLEXNET_MESSAGE_RELOAD = 8,
	/* From another daemon, root's: struct flexnet_message alone. Answered
	 * twice: at once by the same with a file descriptor, the socket that is
	 * listened at; and by struct flexnet_takeover when the scheduler is
	 * detached. The asker sends the message again once its own schedules, and
	 * the answerer ends; should it hang up before, that one schedules again. */
	FLEXNET_MESSAGE_TAKEOVER = 9,
	/* struct flexnet_why_ask with a pidfd of a process or a thread of it;
	 * answered by struct flexnet_why. For root and the user whose process it
	 * is (-EPERM). */
	FLEXNET_MESSAGE_WHY = 10,
	/* struct flexnet_trace_ask, root's (-EPERM); answered by struct
	 * flexnet_trace_reply. To start, with the write end of a pipe, into which
	 * struct flexnet_trace_event go until the trace is stopped over the same
	 * connection or that ends; one at a time (-EBUSY). To attach, with a file
	 * a process runs that has the library's probes: the asker opens it, since
	 * the daemon may not. */
	FLEXNET_MESSAGE_TRACE = 11,
	/* struct flexnet_message alone, root's (-EPERM), since it walks all tasks;
	 * answered by struct flexnet_status_rules. */
	FLEXNET_MESSAGE_RULES = 12,
	/* struct flexnet_core_rule_ask, root's (-EPERM); answered by struct
	 * flexnet_reload. To load, with a regular file that is a BPF object of
	 * core_rule.h's form. A rule that is refused: -EINVAL, nothing changes, and
	 * text says why. */
	FLEXNET_MESSAGE_CORE_RULE = 13,
	/* daemon -> client, struct flexnet_message alone, no reply: the
	 * scheduler goes away in good order; executors go on unpinned. */
	FLEXNET_MESSAGE_DETACH = 6,
};

struct flexnet_message {
	__u32 size;	/* bytes of the whole message, this header included */
	__u16 type;	/* enum flexnet_message_type */
	__u16 version;	/* FLEXNET_ABI_VERSION of the sender */
	__u32 sequence; /* chosen by the requester, returned by the reply */
	__s32 status;	/* reply: 0 or -errno; request: 0 */
};

struct flexnet_hello {
	struct flexnet_message message;
	char name[16];	 /* for status, zero-terminated */
	__u32 executors; /* how many it means to register */
	/* Cores that are its own while it has work, under designs in which
	 * applications claim cores (shenango). Root's to ask for. */
	__u32 cores_guaranteed;
	__u32 reserved[2];
};

struct flexnet_welcome {
	struct flexnet_message message;
	__u32 client;
	__u32 page_bytes;
	__u32 executors_max;
	__u32 cores_guaranteed; /* of those asked for; the rest is others' or not allowed */
	__u64 objective_ns;	/* the arbiter's queueing delay objective */
};

struct flexnet_register {
	struct flexnet_message message;
	__u32 slot;	  /* 0..executors_max-1, free */
	__u32 flow_class; /* enum flexnet_flow_class */
};

struct flexnet_set_class {
	struct flexnet_message message;
	__u32 task_class; /* NORMAL, LATENCY or BATCH */
	__u32 reserved;
};

struct flexnet_design_text {
	struct flexnet_message message;
	char text[FLEXNET_DESIGN_BYTES]; /* NAME[:key=value,...], zero-terminated */
};

enum flexnet_core_rule_action {
	FLEXNET_CORE_RULE_TELL = 0,
	FLEXNET_CORE_RULE_LOAD = 1,
	FLEXNET_CORE_RULE_UNLOAD = 2,
};

struct flexnet_core_rule_ask {
	struct flexnet_message message;
	__u32 action; /* enum flexnet_core_rule_action */
	__u32 reserved;
	char name[16];			 /* the design's, zero-terminated */
	char text[FLEXNET_DESIGN_BYTES]; /* the built-in design whose in-stack half goes with it */
	__u64 parameters[8];
};

/* So that a reply is a page. */
#define FLEXNET_RELOAD_BYTES 4080

struct flexnet_reload {
	struct flexnet_message message;
	char text[FLEXNET_RELOAD_BYTES]; /* for people, zero-terminated */
};

struct flexnet_takeover {
	struct flexnet_message message;
	__u64 detached_ns; /* CLOCK_MONOTONIC: since then nobody but the kernel schedules */
};

/* Not a process: the client's executors are the kernel's own network threads. */
#define FLEXNET_PID_KERNEL 0xffffffffu

struct flexnet_status_client {
	__u32 client;
	__u32 pid;	 /* in the daemon's pid namespace, or FLEXNET_PID_KERNEL */
	char name[16];	 /* as the client says; of the kernel's, the device or "backlog" */
	__u32 executors; /* registered */
	__u32 executors_wanted;
	__u64 depth;	    /* messages queued */
	__u64 delay_ns;	    /* age of the oldest at the arbiter's last sample */
	__u64 run_ns;	    /* CPU time of its executors */
	__u32 cores;	    /* granted cores its executors are on now */
	__u32 flow_classes; /* of its executors: bit 1 << enum flexnet_flow_class */
};

/* A change of how many cores are granted. */
struct flexnet_status_change {
	__u64 at_ns;	/* of the uptime */
	__u64 since_ns; /* from when its cause was first seen to then */
	__u32 before;
	__u32 after;
	__u32 reason; /* enum flexnet_reason (arbiter.h) */
	__u32 reserved;
};

/* The last changes a status tells of. */
#define FLEXNET_STATUS_CHANGES 16

/* CPUs a status tells of; those above are not shown. */
#define FLEXNET_STATUS_CPUS 1024

/* What a CPU does. */
enum flexnet_cpu_state {
	FLEXNET_CPU_ABSENT = 0,	      /* offline, or there is none */
	FLEXNET_CPU_IDLE = 1,	      /* general, and runs nothing of the scheduler's */
	FLEXNET_CPU_BUSY = 2,	      /* general: a normal or batch task */
	FLEXNET_CPU_LATENCY = 3,      /* general: a latency task */
	FLEXNET_CPU_GRANTED_IDLE = 4, /* granted, with nothing to run */
	FLEXNET_CPU_EXECUTOR = 5,     /* granted: an executor */
	FLEXNET_CPU_LENT = 6,	      /* granted: somebody else's task */
};

struct flexnet_status {
	struct flexnet_message message;
	__u32 cpus;
	__u32 cores_granted;
	__u32 cores_max;
	__u32 clients; /* entries used */
	__u64 grants;
	__u64 reclaims;
	__u64 preemptions;
	__u64 granted_core_ns; /* granted cores integrated over time */
	__u64 uptime_ns;
	char version[16];
	char design[16];
	struct flexnet_status_client client[FLEXNET_CLIENTS_MAX];
	__u8 cpu[FLEXNET_STATUS_CPUS]; /* enum flexnet_cpu_state */
	/* Under the kernel's own scheduler when this one took over, 0: it did not. */
	__u64 gap_ns;
	__u64 takebacks;       /* of the preemptions: lent cores taken back */
	__u64 flag_kicks;      /* executors preempted since they did not yield */
	__u64 anti_starvation; /* tasks served by the starvation bound */
	__u64 changes;	       /* in all; number n is in change[n % STATUS_CHANGES] */
	struct flexnet_status_change change[FLEXNET_STATUS_CHANGES];
};

/* Rules there may be (bpf/rule.h). */
#define FLEXNET_STATUS_RULES 64

struct flexnet_status_rule {
	__u32 tasks;	/* tasks that are of its class because of it */
	__u32 line;	/* where it stands in the configuration file */
	char text[120]; /* for people, zero-terminated, perhaps cut */
};

struct flexnet_status_rules {
	struct flexnet_message message;
	__u32 rules; /* entries used, in the order of the file */
	__u32 reserved;
	char restart[488]; /* keys that wait for a restart, with commas; zero-terminated */
	struct flexnet_status_rule rule[FLEXNET_STATUS_RULES];
};

struct flexnet_why_ask {
	struct flexnet_message message;
	__u32 after; /* the last reply's last thread; 0: from the first on */
	__u32 reserved;
};

/* A thread, as the scheduler has it. Times since it started or the scheduler
 * did. */
struct flexnet_why_thread {
	__u32 tid;	    /* in the daemon's pid namespace, as are all ids here */
	__u32 task_class;   /* enum flexnet_class */
	__u32 class_origin; /* enum flexnet_class_origin */
	__u32 policy;	    /* SCHED_*: real-time ones are not the scheduler's */
	__u32 client;	    /* executors only, as slot */
	__u32 slot;
	__s32 on_cpu;	  /* -1: on none */
	__u32 last_queue; /* enum flexnet_queue of its last wait */
	char name[16];
	__u64 run_ns;
	__u64 last_wait_ns;
	__u64 waiting_ns;		    /* waits since so long, 0: does not */
	__u64 preemptions;		    /* times it was preempted in its turn */
	__u64 wait_ns[FLEXNET_QUEUE_COUNT]; /* by enum flexnet_queue, as waits */
	__u64 waits[FLEXNET_QUEUE_COUNT];
	__u64 cpus[FLEXNET_STATUS_CPUS / 64]; /* those it may run on, a bit each */
};

/* Threads a reply tells of at most. */
#define FLEXNET_WHY_THREADS 16

struct flexnet_why {
	struct flexnet_message message;
	__u32 pid;
	__u32 threads; /* entries used */
	__u32 more;    /* 1: ask again over this connection; 0: that was all */
	__u32 reserved;
	struct flexnet_why_thread thread[FLEXNET_WHY_THREADS];
};

struct flexnet_trace_ask {
	struct flexnet_message message;
	__u32 on;  /* 1: start, 0: stop, 2: attach */
	__u32 pid; /* attach: the process */
};

struct flexnet_trace_reply {
	struct flexnet_message message;
	__u32 probes; /* kinds of events that processes tell of themselves, attached so far */
	__u32 reserved;
	__u64 lost; /* events lost since the start */
};

enum flexnet_trace_kind {
	FLEXNET_TRACE_GRANT = 1,   /* cpu; value: when its cause was seen, ns */
	FLEXNET_TRACE_RECLAIM = 2, /* cpu */
	FLEXNET_TRACE_PREEMPT = 3, /* cpu, on which somebody is preempted */
	FLEXNET_TRACE_ON_CPU = 4,  /* an executor, on cpu */
	FLEXNET_TRACE_OFF_CPU = 5,
	FLEXNET_TRACE_SUBMIT = 6, /* by any thread; value: the flow, as all below */
	FLEXNET_TRACE_RESUME = 7, /* by an executor, as all below */
	FLEXNET_TRACE_YIELD = 8,  /* the flow is queued again */
	FLEXNET_TRACE_FINISH = 9, /* nothing of the flow is left */
};

/* No executor, in `executor`. */
#define FLEXNET_TRACE_NO_EXECUTOR 0xffffffffu

struct flexnet_trace_event {
	__u64 at_ns; /* CLOCK_MONOTONIC; events of several CPUs are not in its order */
	__u64 value;
	__u16 kind; /* enum flexnet_trace_kind */
	__s16 cpu;  /* -1: none */
	__u32 tid;  /* in the initial pid namespace, 0: none */
	__u32 pid;
	__u32 executor; /* client * FLEXNET_EXECUTORS_MAX + slot, where it is known */
};

#endif /* FLEXNET_ABI_H */

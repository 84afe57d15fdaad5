/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * general.bpf.h - everything that is no executor: fair virtual time with
 * latency tasks first.
 *
 * Three queues a task can wait in: DSQ_GENERAL_LATENCY, DSQ_GENERAL (both
 * shared, since most machines this runs on have few last-level caches and a
 * shared queue is work-conserving without balancing), and one a CPU for tasks
 * pinned to it and for tasks that were preempted on it in their slice. A task that finds an idle
 * CPU waits in none of them.
 *
 * Virtual time has a clock for each CPU and one for the tasks that may run on several. It passes as
 * fast as the weight is small of what runs. With one clock for all CPUs, a light task alone on a CPU
 * would take it past the tasks on the others. Each of these would then start from the clock, and
 * its weight would mean nothing.
 *
 * What it promises: work is conserved. Within a queue the task with the least virtual time is next.
 * A lower class is served at the latest after a higher class ran for settings.starvation_ns on the
 * core. No task waits much longer than AGED_NS for a core that this scheduler has.
 */
#ifndef FLEXNET_GENERAL_BPF_H
#define FLEXNET_GENERAL_BPF_H

/* What is left of a turn is worth going on with from here, ns. */
#define TURN_LEFT_MIN 250000
/* A task inside an RCU read-side critical section goes on for so long at a time, and a CPU has so
 * much for that at once. */
#define READER_EXTENSION_NS 1000000ULL
#define READER_BUDGET_NS 256000000ULL
/* Waiting latency tasks looked at for one that has a turn in a latency batch. */
#define LATENCY_BATCH_SCAN_MAX 16
/* Virtual time is fair, not prompt: one turn of a task of nice 19 puts it 400 ms
 * of virtual time back, which passes in seconds where dozens are runnable. A
 * task that waited AGED_NS (a fifth of the watchdog's limit) is served whatever its
 * virtual time. Each CPU looks this often, at so many from the queue's end, and
 * gives so many a turn: at most a quarter of its time. */
#define AGED_NS 2000000000ULL
#define AGED_SCAN_INTERVAL_NS 250000000ULL
#define AGED_SCAN_MAX 512
#define AGED_MOVES_MAX 16
/* Where a task has waited for twice as long, it is more urgent than the others' share of time. */
#define AGED_MOVES_LATE 64

static __always_inline bool is_pinned(struct task_struct *p)
{
	return p->nr_cpus_allowed == 1 || is_migration_disabled(p);
}

static __always_inline bool is_percpu_kthread(struct task_struct *p)
{
	return (p->flags & PF_KTHREAD) && p->nr_cpus_allowed == 1;
}

/* Is a task inside an RCU read-side critical section? Every grace period waits
 * for the section's end, and a stall of RCU ends the scheduler. The kernel counts
 * the sections where it can preempt them; a BPF program is in one itself. */
static __always_inline bool in_rcu_reader(struct task_struct *p)
{
	int own = p == bpf_get_current_task_btf();

	return bpf_core_field_exists(p->rcu_read_lock_nesting) && p->rcu_read_lock_nesting > own;
}

/* A task whose turn ends inside such a section goes on, however little weight it has and however
 * many wait. A CPU has a budget for that, a third of its time in the long run. */
static __always_inline void extend_reader(struct task_struct *p, struct task_ctx *tctx,
					  struct cpu_ctx *cctx, u64 ran)
{
	if (tctx->extended)
		cctx->extension_used_ns += ran;
	else
		cctx->extension_used_ns -=
			ran / 2 < cctx->extension_used_ns ? ran / 2 : cctx->extension_used_ns;
	tctx->extended = false;
	if (tctx->slice_left_ns >= READER_EXTENSION_NS ||
	    cctx->extension_used_ns >= READER_BUDGET_NS || !in_rcu_reader(p))
		return;
	tctx->slice_left_ns = READER_EXTENSION_NS;
	tctx->extended = true;
}

static __always_inline u64 slice_of(u32 task_class)
{
	return task_class == FLEXNET_CLASS_LATENCY ? settings.latency_slice_ns : settings.slice_ns;
}

/* An idle CPU this task may use and should: a general one first, then a granted
 * one where those are lent. Claims it. -1: none. */
static s32 idle_cpu_for(struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	struct bpf_cpumask *general;
	bool idle = false;
	s32 cpu = -EBUSY;

	if (!READ_ONCE(arbiter.granted)) {
		cpu = scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags, &idle);
		return idle ? cpu : -1;
	}
	bpf_rcu_read_lock();
	general = general_cpumask;
	if (general)
		cpu = scx_bpf_select_cpu_and(p, prev_cpu, wake_flags, cast_mask(general), 0);
	bpf_rcu_read_unlock();
	if (cpu >= 0)
		return cpu;
	if (settings.lend || is_pinned(p)) {
		cpu = scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
		if (cpu >= 0)
			return cpu;
	}
	return -1;
}

/* What a clock says: of CPU `clock` - 1, or the shared one. */
static __always_inline u64 clock_now(u32 clock)
{
	struct cpu_ctx *cctx = clock ? cpu_ctx_of(clock - 1) : NULL;

	return cctx ? cctx->vtime_now : vtime_now;
}

/* Virtual time of a task that is queued for this CPU only (`pinned`) or for all. */
__noinline u64 start_vtime(struct task_ctx *tctx __arg_nonnull, u32 task_class, s32 cpu,
			   bool pinned)
{
	u32 clock = pinned ? cpu + 1 : 0;
	u64 now = clock_now(clock), own = tctx->vtime;

	if (tctx->clock != clock) {
		own = flexnet_move_vtime(own, clock_now(tctx->clock), now);
		tctx->clock = clock;
	}
	return flexnet_wakeup_vtime(own, now, slice_of(task_class));
}

/* Virtual time by the shared clock, as this CPU's clock counts it. Where one clock stood for long,
 * the task is as far ahead here as it is there, at most, and a slice behind, at most. */
static __always_inline u64 vtime_here(struct cpu_ctx *cctx, u64 vtime)
{
	u64 ahead = time_before(vtime_now, vtime) ? vtime - vtime_now : 0;
	u64 here = vtime + cctx->clock_offset_ns;

	if (time_before(cctx->vtime_now + ahead, here))
		here = cctx->vtime_now + ahead;
	if (time_before(here + settings.slice_ns, cctx->vtime_now))
		here = cctx->vtime_now - settings.slice_ns;
	cctx->clock_offset_ns = here - vtime;
	return here;
}

/* A task begins a turn: the clocks go with the task that is furthest behind. Racy across CPUs and
 * harmless: they only ever lag. A task that runs out of order is ahead of those that wait, and would
 * forgive them their run. */
static __always_inline void clocks_follow(struct task_ctx *tctx, struct cpu_ctx *cctx)
{
	u64 here;

	if (tctx->out_of_order)
		return;
	here = tctx->clock ? tctx->vtime : vtime_here(cctx, tctx->vtime);
	if (time_before(cctx->vtime_now, here))
		cctx->vtime_now = here;
	if (!tctx->clock && time_before(vtime_now, tctx->vtime))
		vtime_now = tctx->vtime;
}

/* Virtual time of the first of the tasks that may run anywhere, as this CPU's clock counts it;
 * U64_MAX where none waits. */
static __always_inline u64 first_general_vtime(struct cpu_ctx *cctx)
{
	u64 first = first_vtime(DSQ_GENERAL);

	return first == ~0ULL ? first : vtime_here(cctx, first);
}

/* A task goes on with another slice, without a switch. It is charged now: else the charge of many
 * slices would come at once, and others would have as many turns before its next one. */
static __always_inline void begin_next_turn(struct task_struct *p, struct task_ctx *tctx,
					    struct cpu_ctx *cctx, u64 now)
{
	u64 ran = turn_run_ns(tctx, now);
	struct flexnet_cpu_stats *stats = stats_here();
	u32 task_class = class_of(tctx);

	if (stats && task_class < FLEXNET_CLASS_COUNT)
		stats->run_ns[task_class] += ran;
	turn_ends(tctx, ran, false);
	tctx->vtime += virtual_ns(p, tctx, ran);
	tctx->run_start_ns = now;
	/* Charged when the CPU began to look for its next task. */
	tctx->bandwidth_charged_ns = 0;
	tctx->slice_ns = settings.slice_ns;
	tctx->yielded_ns = 0;
	/* It is the first, or no other task waits. */
	tctx->out_of_order = false;
	p->scx.slice = settings.slice_ns;
	clocks_follow(tctx, cctx);
}

/* Makes sure that somebody will look at the queue the task was put into. */
__noinline int kick_for(struct task_struct *p __arg_trusted, u32 task_class, s32 prev_cpu,
			bool pinned, u64 now)
{
	s32 cpu;

	if (pinned) {
		if (task_class != FLEXNET_CLASS_LATENCY || !preempt_for_pinned(prev_cpu, now))
			scx_bpf_kick_cpu(prev_cpu, SCX_KICK_IDLE);
		return 0;
	}
	cpu = scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
	if (cpu >= 0) {
		stat_add(kicks, 1);
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
		return 0;
	}
	if (task_class != FLEXNET_CLASS_LATENCY)
		return 0;
	cpu = victim_for(p, prev_cpu, now, true);
	if (cpu >= 0)
		preempt_cpu(cpu, now);
	return 0;
}

/* Does a task of a lower class wait that could run here? */
static __always_inline bool normal_waits(s32 cpu)
{
	return queued(DSQ_GENERAL) + queued(pinned_dsq(cpu)) > 0;
}

/* May a waking latency task run behind its waker, which is a latency task about to sleep (a request
 * handed on)? It has a turn in the latency batch there, or takes the CPU from no other task. */
static __always_inline bool may_follow_waker(struct task_struct *p, struct task_ctx *tctx,
					     u64 wake_flags, s32 here)
{
	struct cpu_ctx *cctx = cpu_ctx_of(here);

	return (wake_flags & SCX_WAKE_SYNC) && cctx && !cctx->granted &&
	       cctx->current_class == FLEXNET_CLASS_LATENCY &&
	       (may_join(cctx, tctx) || !normal_waits(here)) &&
	       bpf_cpumask_test_cpu(here, p->cpus_ptr) &&
	       !scx_bpf_dsq_nr_queued(SCX_DSQ_LOCAL_ON | here);
}

/*
 * Where a waking latency task goes when no CPU is idle: ahead of a task that it may preempt, since
 * its waker may run for long. But a task that wakes often goes behind its waker if it may: it would
 * take a turn from another task each time. -1: it waits in the queue.
 */
static s32 place_latency(struct task_struct *p, struct task_ctx *tctx, s32 prev_cpu, u64 wake_flags,
			 u64 now, u64 *enq_flags)
{
	s32 cpu, here = bpf_get_smp_processor_id();
	bool follow = may_follow_waker(p, tctx, wake_flags, here);

	*enq_flags = 0;
	if (follow && flexnet_wakes_often(&tctx->wakeups, now, 2 * settings.latency_slice_ns))
		return here;
	cpu = victim_for(p, prev_cpu, now, false);
	if (cpu >= 0 && claim_cpu(cpu, now)) {
		*enq_flags = SCX_ENQ_PREEMPT;
		return cpu;
	}
	return follow ? here : -1;
}

/* A place ahead of all that wait for this CPU to begin a turn. A task's virtual time has its run
 * in it already, which is far ahead where its weight is small. */
static __always_inline u64 resumed_vtime_here(struct cpu_ctx *cctx, s32 cpu)
{
	u64 first = first_general_vtime(cctx), pinned = first_vtime(pinned_dsq(cpu));

	if (pinned < first && !is_latency_vtime(cctx, pinned))
		first = pinned;
	if (cctx->vtime_now < first)
		first = cctx->vtime_now;
	return first - settings.slice_ns;
}

/* The same in the shared queue. */
static __always_inline u64 resumed_vtime(void)
{
	u64 first = first_vtime(DSQ_GENERAL);

	return (vtime_now < first ? vtime_now : first) - settings.slice_ns;
}

/* Puts a task that found no idle CPU into its queue. Not static: so the verifier checks it once, and
 * not for each way that leads here. */
__noinline int enqueue_general(struct task_struct *p __arg_trusted,
			       struct task_ctx *tctx __arg_nonnull, u32 task_class, u64 enq_flags,
			       u64 now)
{
	s32 prev_cpu = scx_bpf_task_cpu(p);
	/* Queued anew by another BPF program, the task it runs in looks as if
	 * it could not migrate. The shared queue holds one that cannot, too. */
	bool pinned = enq_flags & SCX_ENQ_REENQ ? p->nr_cpus_allowed == 1 : is_pinned(p);
	struct cpu_ctx *cctx = cpu_ctx_of(prev_cpu);
	u64 slice = slice_of(task_class);
	u64 dsq = DSQ_GENERAL, vtime;

	if (!cctx) {
		/* Cannot be. Any queue beats a stall. */
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, slice, enq_flags);
		return 0;
	}
	tctx->vtime += tctx->yielded_ns;
	tctx->yielded_ns = 0;
	tctx->vtime = vtime = start_vtime(tctx, task_class, prev_cpu, pinned);
	/* What an executor ran elsewhere does not move this clock, and is no debt here. */
	if (class_of(tctx) == FLEXNET_CLASS_EXECUTOR && !is_kernel_client(tctx->client)) {
		u64 most = clock_now(tctx->clock) + settings.slice_ns;

		if (time_before(most, vtime))
			tctx->vtime = vtime = most;
	}
	/* Nor is what it was charged for when its group had more tasks, or less weight. */
	if (tctx->group != GROUP_ROOT) {
		u64 most = clock_now(tctx->clock) + virtual_ns(p, tctx, 2 * settings.slice_ns);

		if (time_before(most, vtime))
			tctx->vtime = vtime = most;
	}
	tctx->out_of_order = tctx->slice_left_ns > 0;
	/* Preempted in its turn: it goes on with the rest of it before others
	 * begin theirs. Else each latency wakeup would turn the queue round,
	 * and every turn begins with cold caches. */
	if (tctx->slice_left_ns) {
		slice = tctx->slice_left_ns;
		/* On this CPU, behind the task that preempted it: there it is
		 * warm. The CPU is looking for its next task now; nobody needs
		 * a kick. But not where a real-time task took the CPU, which
		 * may run for any time. */
		if (task_class != FLEXNET_CLASS_LATENCY && !cpu_granted(prev_cpu) &&
		    !(enq_flags & SCX_ENQ_REENQ)) {
			if (!pinned)
				WRITE_ONCE(cctx->preempted_ns, now);
			vtime = resumed_vtime_here(cctx, prev_cpu);
			tctx->slice_ns = slice;
			waits_in(tctx, FLEXNET_QUEUE_CPU);
			queue_used(pinned_dsq(prev_cpu));
			scx_bpf_dsq_insert_vtime(p, pinned_dsq(prev_cpu), slice, vtime, enq_flags);
			return 0;
		}
		vtime = pinned ? resumed_vtime_here(cctx, prev_cpu) : resumed_vtime();
	}
	tctx->slice_ns = slice;

	/* Executors wait by virtual time: a network thread would take the CPU from its senders. */
	if (pinned && class_of(tctx) == FLEXNET_CLASS_LATENCY) {
		if (place_pinned_latency(p, tctx, prev_cpu, cctx, slice, enq_flags, now))
			return 0;
		vtime -= PINNED_LATENCY_AHEAD;
	}
	if (pinned)
		dsq = pinned_dsq(prev_cpu);
	else if (task_class == FLEXNET_CLASS_LATENCY)
		dsq = DSQ_GENERAL_LATENCY;
	waits_in(tctx, pinned			  ? FLEXNET_QUEUE_CPU :
		       dsq == DSQ_GENERAL_LATENCY ? FLEXNET_QUEUE_LATENCY :
						    FLEXNET_QUEUE_GENERAL);
	queue_used(dsq);
	scx_bpf_dsq_insert_vtime(p, dsq, slice, vtime, enq_flags);
	kick_for(p, task_class, prev_cpu, pinned, now);
	return 0;
}

/* Does the task whose turn is over go on? The kernel queues it only after the
 * CPU has looked for its next task: without this, two tasks would take turns
 * whatever their weights. */
static bool goes_on(s32 cpu, struct cpu_ctx *cctx, struct task_struct *prev, u64 now)
{
	struct task_ctx *tctx;
	u64 pinned, other, vtime;

	if (!prev || !(prev->scx.flags & SCX_TASK_QUEUED) || cctx->kick_claim_ns ||
	    queued(DSQ_GENERAL_LATENCY) || !bpf_cpumask_test_cpu(cpu, prev->cpus_ptr))
		return false;
	tctx = task_ctx_of(prev);
	if (!tctx ||
	    (class_of(tctx) != FLEXNET_CLASS_NORMAL && class_of(tctx) != FLEXNET_CLASS_BATCH))
		return false;
	vtime = virtual_ns(prev, tctx, turn_run_ns(tctx, now));
	pinned = first_vtime(pinned_dsq(cpu));
	/* Tasks of one clock are compared by that clock. */
	other = tctx->clock ? first_general_vtime(cctx) : first_vtime(DSQ_GENERAL);
	if ((pinned == ~0ULL && other == ~0ULL) || tctx->vtime + vtime >= other ||
	    (tctx->clock ? tctx->vtime : vtime_here(cctx, tctx->vtime)) + vtime >= pinned ||
	    tctx->yielded_ns)
		return false;
	begin_next_turn(prev, tctx, cctx, now);
	return true;
}

/* Serves the first latency task that has a turn in the latency batch here; false: none. */
__noinline int serve_latency_batch(s32 cpu)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct task_struct *p;
	struct task_ctx *tctx;
	bool moved = false;

	if (!cctx)
		return false;
	cctx->scanned = 0;
	bpf_rcu_read_lock();
	bpf_for_each(scx_dsq, p, DSQ_GENERAL_LATENCY, 0) {
		if (cctx->scanned++ >= LATENCY_BATCH_SCAN_MAX)
			break;
		tctx = task_ctx_of(p);
		if (!tctx || !may_join(cctx, tctx) || !bpf_cpumask_test_cpu(cpu, p->cpus_ptr))
			continue;
		moved = scx_bpf_dsq_move(BPF_FOR_EACH_ITER, p, SCX_DSQ_LOCAL_ON | cpu, 0);
		if (moved)
			break;
	}
	bpf_rcu_read_unlock();
	return moved;
}

/* Does the latency task whose slice is over go on? Queued anew it would wait for
 * the end of a preemption cooldown that its own run began, in the middle of its work. The
 * budget of the class bounds it, and others of its class have their turn. Not static: so the
 * verifier checks it once. */
__noinline int latency_goes_on(s32 cpu, struct task_struct *prev __arg_trusted, u64 now)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct task_ctx *tctx;

	if (!cctx || !(prev->scx.flags & SCX_TASK_QUEUED) || !in_latency_batch(cctx, now) ||
	    cctx->current_class != FLEXNET_CLASS_LATENCY || cctx->kick_claim_ns ||
	    !bpf_cpumask_test_cpu(cpu, prev->cpus_ptr) ||
	    (queued(pinned_dsq(cpu)) && latency_pinned(cpu)))
		return false;
	if (queued(DSQ_GENERAL_LATENCY)) {
		if (!normal_waits(cpu))
			return false;
		if (serve_latency_batch(cpu))
			return true;
	}
	tctx = task_ctx_of(prev);
	if (!tctx)
		return false;
	tctx->slice_ns = now - tctx->run_start_ns + settings.latency_slice_ns;
	prev->scx.slice = settings.latency_slice_ns;
	return true;
}

/* Serves a task that waits on another CPU in vain: it was preempted there, and
 * then a real-time task took that CPU. One CPU is looked at each time. */
__noinline int serve_starved_preempted(s32 cpu, u64 now)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu), *other;
	struct task_struct *p;
	bool moved = false;
	u64 since;
	s32 from;

	if (!cctx)
		return false;
	cctx->starved_scan_cpu++;
	if (cctx->starved_scan_cpu >= machine.cpus)
		cctx->starved_scan_cpu = 0;
	from = cctx->starved_scan_cpu;
	other = cpu_ctx_of(from);
	if (!other || from == cpu)
		return false;
	since = READ_ONCE(other->preempted_ns);
	if (!since || now < since || now - since <= settings.starvation_ns)
		return false;
	bpf_rcu_read_lock();
	bpf_for_each(scx_dsq, p, pinned_dsq(from), 0) {
		if (is_pinned(p) || !bpf_cpumask_test_cpu(cpu, p->cpus_ptr))
			continue;
		moved = scx_bpf_dsq_move(BPF_FOR_EACH_ITER, p, SCX_DSQ_LOCAL_ON | cpu, 0);
		break;
	}
	bpf_rcu_read_unlock();
	if (moved)
		stat_add(anti_starvation, 1);
	else
		__sync_val_compare_and_swap(&other->preempted_ns, since, 0);
	return moved;
}

/* Gives tasks a turn here that wait in a queue for longer than AGED_NS, last in its order first, and
 * in every other scan from its beginning, or those in between would have none; returns how many. Not static, like all that loops: so the
 * verifier checks it once. */
__noinline int serve_aged(s32 cpu, u64 dsq, u64 now)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct task_struct *p;
	struct task_ctx *tctx;

	if (!cctx)
		return 0;
	cctx->scanned = 0;
	cctx->moved = 0;
	cctx->aged_moves_max = AGED_MOVES_MAX;
	bpf_rcu_read_lock();
	bpf_for_each(scx_dsq, p, dsq, cctx->aged_scan_flags) {
		if (cctx->scanned++ >= AGED_SCAN_MAX || cctx->moved >= cctx->aged_moves_max)
			break;
		tctx = task_ctx_of(p);
		if (!tctx || !tctx->enqueued_ns || now < tctx->enqueued_ns ||
		    now - tctx->enqueued_ns < AGED_NS || !bpf_cpumask_test_cpu(cpu, p->cpus_ptr))
			continue;
		if (now - tctx->enqueued_ns > 2 * AGED_NS)
			cctx->aged_moves_max = AGED_MOVES_LATE;
		if (scx_bpf_dsq_move(BPF_FOR_EACH_ITER, p, SCX_DSQ_LOCAL_ON | cpu, 0)) {
			tctx->out_of_order = true;
			cctx->moved++;
		}
	}
	bpf_rcu_read_unlock();
	stat_add(anti_starvation, cctx->moved);
	return cctx->moved;
}

/* Looks through the queues this CPU serves for tasks their order forgot. */
static bool serve_starved_aged(s32 cpu, struct cpu_ctx *cctx, bool shared, u64 now)
{
	int moved;

	if (now - cctx->aged_scan_ns < AGED_SCAN_INTERVAL_NS)
		return false;
	cctx->aged_scan_ns = now;
	cctx->aged_scan_flags ^= SCX_DSQ_ITER_REV;
	moved = serve_aged(cpu, pinned_dsq(cpu), now);
	if (shared) {
		moved += serve_aged(cpu, DSQ_GENERAL_LATENCY, now);
		moved += serve_aged(cpu, DSQ_GENERAL, now);
	}
	return moved > 0;
}

/* Serves pinned and shared tasks on a CPU; true when one was moved to it. */
__noinline int dispatch_general(s32 cpu, u64 now)
{
	u64 shared = DSQ_GENERAL_LATENCY, other = DSQ_GENERAL, pinned = pinned_dsq(cpu);
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	s32 latency = queued(DSQ_GENERAL_LATENCY);
	s32 normal = queued(DSQ_GENERAL);
	s32 here = queued(pinned);
	bool ahead, lower;
	u64 first;

	if (!cctx)
		return false;
	/* In the core's preemption cooldown normal tasks go first, but not before the latency batch
	 * is over that preempted one. */
	if (latency > 0 && now < preemptible_from_ns(cctx, now) && normal + here > 0) {
		if (in_latency_batch(cctx, now) && serve_latency_batch(cpu))
			return true;
		arm_cooldown_timer(cpu, cctx, now);
		latency = 0;
		shared = DSQ_GENERAL;
		other = DSQ_GENERAL_LATENCY;
	}
	if (here > 0) {
		first = first_vtime(pinned);
		ahead = is_latency_vtime(cctx, first);
		lower = flexnet_lower_class_first(cctx->higher_used_ns, settings.starvation_ns,
						  here) ||
			(ahead && pinned_budget_spent(cctx));
		/* A turn after the higher class's budget, or the lesser
		 * virtual time against the same class. */
		if (lower && ahead && serve_pinned_normal(cpu))
			return true;
		if ((!lower || !ahead || normal <= 0) &&
		    ((!latency && !normal) || lower ||
		     ((!latency || ahead) && first <= first_general_vtime(cctx))) &&
		    scx_bpf_dsq_move_to_local(pinned, 0))
			return true;
	}
	if (flexnet_lower_class_first(cctx->higher_used_ns, settings.starvation_ns, normal > 0)) {
		shared = DSQ_GENERAL;
		other = DSQ_GENERAL_LATENCY;
	}
	/* A look costs a few instructions, and a call for an empty queue 170. */
	if ((queued(shared) > 0 && scx_bpf_dsq_move_to_local(shared, 0)) ||
	    (queued(other) > 0 && scx_bpf_dsq_move_to_local(other, 0)))
		return true;
	/* What is shared may not run here; the pinned may. */
	return here > 0 && scx_bpf_dsq_move_to_local(pinned, 0);
}

#endif /* FLEXNET_GENERAL_BPF_H */

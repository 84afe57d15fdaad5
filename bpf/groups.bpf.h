/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * groups.bpf.h - cgroups: their weights, and what share of the CPUs a task has by them.
 *
 * The problem: cpu.weight divides CPU time among siblings, at each level, whatever the number of
 * their tasks. A queue by virtual time knows tasks only.
 *
 * The mechanism: each group knows the load of its runnable tasks and of its groups with runnable
 * tasks. A task's virtual time passes by its share: its load is divided by that sum, at each level
 * up to the root (shares.h). So two groups of equal weight have equal time, if one has a thread and
 * the other has twenty. Tasks in the root group count as they did without groups, and cost nothing
 * here. A task that begins or ceases to want a CPU changes its group's sum; only the group's
 * first and last one change the sums above.
 *
 * What it promises: a sum is right once all CPUs are through with what they change. No lock is taken
 * but where a group below another one gets its first runnable task or loses the last, and that lock
 * is the parent's. What it leaves to others: the queues and virtual time (general.bpf.h), and limits
 * (bandwidth.bpf.h).
 */
#ifndef FLEXNET_GROUPS_BPF_H
#define FLEXNET_GROUPS_BPF_H

/* Groups that are known by themselves. More count as a part of their parent. */
#define GROUPS_MAX 16384
/* Levels of groups. What is deeper counts as a part of the last level. */
#define GROUP_LEVELS_MAX 32
/* The root, whose tasks and groups divide all there is. */
#define GROUP_ROOT 0

/* A group with a cpu controller. */
struct group_ctx {
	struct bpf_spin_lock lock; /* of child_load, and of counted_load of its children */
	u32 parent;
	u32 level; /* 0: the root's own, or not in use */
	u32 weight;
	u32 idle;	  /* cpu.idle */
	u32 load;	  /* by these two */
	u32 counted_load; /* of this, the part in its parent's sum: all or nothing */
	u32 sequence;	  /* moves with each new use of the entry */
	u64 task_load;	  /* of its own runnable tasks */
	u64 child_load;	  /* of its groups with runnable tasks */
	struct flexnet_bandwidth bandwidth;
} __attribute__((aligned(64)));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GROUPS_MAX);
	__type(key, u32);
	__type(value, struct group_ctx);
} group_ctxs SEC(".maps");

/* The index of a cgroup in that map. */
struct {
	__uint(type, BPF_MAP_TYPE_CGRP_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, u32);
} group_indices SEC(".maps");

/* Entries that are free again. Groups come and go one at a time: the kernel holds a lock. */
u32 groups_free[GROUPS_MAX];
u32 groups_free_count;
u32 groups_used = 1; /* entries that were in use at some time */
u32 groups_merged;   /* groups that are a part of their parent */
u32 groups_limited;  /* groups with a limit (bandwidth.bpf.h) */

/* What the kernel says of cpu.idle: without a callback in 6.18. */
struct task_group___flexnet {
	int idle;
	struct task_group___flexnet *parent;
} __attribute__((preserve_access_index));

static __always_inline struct group_ctx *group_of(u32 index)
{
	return bpf_map_lookup_elem(&group_ctxs, &index);
}

static u32 group_index_of(struct cgroup *cgrp)
{
	u32 *entry = bpf_cgrp_storage_get(&group_indices, cgrp, NULL, 0);

	return entry ? *entry : GROUP_ROOT;
}

/* The same, but the root where the cgroup is a part of its parent. */
static u32 own_group_of(struct cgroup *cgrp)
{
	u32 index = group_index_of(cgrp);
	struct group_ctx *group = group_of(index);

	return group && group->level == cgrp->level ? index : GROUP_ROOT;
}

static __always_inline bool group_is_runnable(struct group_ctx *group)
{
	return READ_ONCE(group->task_load) || READ_ONCE(group->child_load);
}

/* A group has its first runnable task, has none any more, or has another load: the sums above it
 * follow. Each step looks at what is the case now, so the last of several CPUs that change a group
 * leaves the right sum. */
__noinline int group_changed(u32 index)
{
	u32 level;

	bpf_for(level, 0, GROUP_LEVELS_MAX) {
		struct group_ctx *group = group_of(index), *parent;
		u64 before, after;

		if (!group || group->parent == GROUP_ROOT)
			break;
		index = group->parent;
		parent = group_of(index);
		if (!parent)
			break;
		bpf_spin_lock(&parent->lock);
		before = parent->child_load;
		after = before - group->counted_load;
		group->counted_load = group_is_runnable(group) ? group->load : 0;
		after += group->counted_load;
		parent->child_load = after;
		bpf_spin_unlock(&parent->lock);
		if (!before == !after)
			break;
	}
	return 0;
}

static void group_set_weight(u32 index, u32 weight, u32 idle)
{
	struct group_ctx *group = group_of(index);

	if (!group || index == GROUP_ROOT)
		return;
	group->weight = weight;
	group->idle = idle;
	group->load = flexnet_load(weight, idle);
	group_changed(index);
}

/* A new group. Where there is no entry for it, it is a part of its parent. */
static s32 group_starts(struct cgroup *cgrp, u32 weight)
{
	struct group_ctx *group, *parent;
	u32 *entry, from = GROUP_ROOT, index = GROUP_ROOT;
	struct cgroup *above;

	entry = bpf_cgrp_storage_get(&group_indices, cgrp, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	/* It is being removed, and has no task any more. */
	if (!entry)
		return 0;
	*entry = GROUP_ROOT;
	if (cgrp->level < 1)
		return 0;
	above = bpf_cgroup_ancestor(cgrp, cgrp->level - 1);
	if (above) {
		from = group_index_of(above);
		bpf_cgroup_release(above);
	}
	parent = group_of(from);
	if (!parent)
		return 0;
	/* Until it has an entry of its own. */
	*entry = from;
	if (parent->level + 1 != cgrp->level)
		return 0;
	groups_merged++;
	if (parent->level + 1 >= GROUP_LEVELS_MAX)
		return 0;
	if (groups_free_count > 0 && groups_free_count <= GROUPS_MAX)
		index = groups_free[--groups_free_count & (GROUPS_MAX - 1)];
	else if (groups_used < GROUPS_MAX)
		index = groups_used++;
	group = group_of(index);
	if (!group || index == GROUP_ROOT)
		return 0;
	group->parent = from;
	group->level = parent->level + 1;
	group->sequence++;
	group->task_load = 0;
	group->child_load = 0;
	group->counted_load = 0;
	*entry = index;
	groups_merged--;
	group_set_weight(index, weight, 0);
	return 0;
}

/* A group goes. Tasks that are dying may still be counted in it: `sequence` tells. */
static void group_ends(struct cgroup *cgrp)
{
	u32 index = group_index_of(cgrp);
	struct group_ctx *group = group_of(index);
	struct cgroup *above;
	u32 from = GROUP_ROOT;

	if (!group || index == GROUP_ROOT || cgrp->level < 1)
		return;
	above = bpf_cgroup_ancestor(cgrp, cgrp->level - 1);
	if (above) {
		from = group_index_of(above);
		bpf_cgroup_release(above);
	}
	/* It is a part of its parent, whose entry is the parent's. */
	if (from == index) {
		if (group->level + 1 == cgrp->level && groups_merged)
			groups_merged--;
		return;
	}
	group->sequence++;
	group->task_load = 0;
	group->child_load = 0;
	group_changed(index);
	group->level = 0;
	if (group->bandwidth.quota_ns) {
		group->bandwidth.quota_ns = 0;
		__sync_fetch_and_sub(&groups_limited, 1);
	}
	if (groups_free_count < GROUPS_MAX)
		groups_free[groups_free_count++ & (GROUPS_MAX - 1)] = index;
}

/* Weight of a task among the tasks of its group, by its nice value; a batch task counts a quarter. */
static __always_inline u32 weight_of(struct task_struct *p, struct task_ctx *tctx)
{
	u32 weight = p->scx.weight;

	if (tctx->task_class == FLEXNET_CLASS_BATCH)
		weight /= 4;
	return weight ? weight : 1;
}

/* Which group a task is in, until it is moved. */
static void group_find(struct task_struct *p, struct task_ctx *tctx)
{
	struct cgroup *cgrp = scx_bpf_task_cgroup(p);

	tctx->group_known = true;
	if (!cgrp)
		return;
	tctx->group = group_index_of(cgrp);
	bpf_cgroup_release(cgrp);
}

/* A task wants a CPU from now on. */
__noinline int group_wakes(struct task_struct *p __arg_trusted)
{
	struct task_ctx *tctx = task_ctx_of(p);
	struct group_ctx *group;
	u32 load;

	if (!tctx)
		return 0;
	if (!tctx->group_known)
		group_find(p, tctx);
	if (tctx->group == GROUP_ROOT || tctx->counted_load)
		return 0;
	group = group_of(tctx->group);
	if (!group)
		return 0;
	load = flexnet_load(weight_of(p, tctx), false);
	tctx->counted_load = load;
	tctx->counted_group = tctx->group;
	tctx->counted_sequence = group->sequence;
	if (!__sync_fetch_and_add(&group->task_load, load))
		group_changed(tctx->group);
	return 0;
}

/* The same for any task: nothing to do for most of those in the root group. */
static __always_inline void group_counts(struct task_struct *p, struct task_ctx *tctx)
{
	if (!tctx->group_known || (tctx->group != GROUP_ROOT && !tctx->counted_load))
		group_wakes(p);
}

/* It wants none any more. */
static __always_inline void group_task_sleeps(struct task_ctx *tctx)
{
	struct group_ctx *group;
	u64 load;

	if (!tctx->counted_load)
		return;
	load = __sync_lock_test_and_set(&tctx->counted_load, 0);
	group = group_of(tctx->counted_group);
	if (!group || group->sequence != tctx->counted_sequence)
		return;
	if (__sync_fetch_and_add(&group->task_load, -load) == load)
		group_changed(tctx->counted_group);
}

/* cpu.idle of a group was written: the kernel has no callback for that before 6.19. */
__noinline int group_idle_changed(u32 index, u32 idle)
{
	struct group_ctx *group = group_of(index);

	if (!group)
		return 0;
	group->idle = idle;
	group->load = flexnet_load(group->weight, idle);
	group_changed(index);
	return 0;
}

/* The share of a task in a group below the root. */
__noinline u64 group_share(struct task_struct *p __arg_trusted, u32 index, u32 load)
{
	struct task_group___flexnet *kernel = (void *)p->sched_task_group;
	u64 share = flexnet_share_of_load(load);
	u32 level;

	bpf_for(level, 0, GROUP_LEVELS_MAX) {
		struct group_ctx *group = group_of(index);
		u32 idle;

		if (!group || index == GROUP_ROOT)
			break;
		/* Level by level, as long as each group is one here. */
		idle = BPF_CORE_READ(kernel, idle) > 0;
		if (idle != group->idle && !groups_merged)
			group_idle_changed(index, idle);
		share = flexnet_share_in_group(share, group->task_load + group->child_load,
					       group->load);
		index = group->parent;
		kernel = BPF_CORE_READ(kernel, parent);
	}
	return share;
}

/* Virtual time of `ran` ns of a task, ns. */
static __always_inline u64 virtual_ns(struct task_struct *p, struct task_ctx *tctx, u64 ran)
{
	u32 weight = weight_of(p, tctx);

	if (tctx->group == GROUP_ROOT)
		return flexnet_scale_by_weight(ran, weight);
	return flexnet_scale_by_share(ran,
				      group_share(p, tctx->group, flexnet_load(weight, false)));
}

#endif /* FLEXNET_GROUPS_BPF_H */

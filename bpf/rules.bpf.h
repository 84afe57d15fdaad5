/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * rules.bpf.h - the operator's rules: which task is of which class by its cgroup,
 * its command and its user.
 *
 * The problem: a rule must hold from the moment a task fits it, and the paths
 * that schedule must not pay for it. The mechanism: a task is matched when
 * something that rules look at has changed: it is new, has another name, another
 * user, another cgroup; and all are when the rules are (`walk`). What comes out
 * is kept in its task_ctx. A cgroup is matched when the first of its tasks is,
 * and keeps the answer. The hooks are attached by the loader while there are
 * rules (kernel.rs).
 *
 * A rule that names a command holds also for what such a command starts, as long
 * as that has no rule of its own and fits in cgroup and user: "the parent" in
 * the order of sources (flexnet_settled_class).
 *
 * All hooks are programs that do not sleep, so that RCU holds what they read.
 *
 * What it promises: the first rule that matches counts, and a change of rules is seen as a whole.
 * What it leaves to others: the matching itself (rule.h), and classes that processes ask for over
 * the socket (clients.bpf.h).
 */
#ifndef FLEXNET_RULES_BPF_H
#define FLEXNET_RULES_BPF_H

/* Cgroups on a path that are looked at; systemd and container runtimes nest half
 * as deep. */
#define CGROUP_LEVELS_MAX 32

extern int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task,
			     unsigned int flags) __ksym;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it) __ksym;
extern void bpf_iter_task_destroy(struct bpf_iter_task *it) __ksym;

/* The rules in force are in the map's entry of its lowest bit; 0: none yet. The
 * loader writes the other entry and then this. */
u32 rules_epoch;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct flexnet_rules);
} rule_tables SEC(".maps");

struct cgroup_name {
	char text[FLEXNET_NAME_BYTES];
};

struct comm_name {
	char text[FLEXNET_COMM_BYTES];
};

/* A cgroup's answer. Two CPUs may work it out at once: both write the same. */
struct cgroup_match {
	u32 epoch; /* of the rules this was worked out with */
	u32 reserved;
	u64 rules; /* bit i: rule i's path is it or one above it */
	u16 came[FLEXNET_RULES_MAX];
	struct cgroup_name name;
};

struct {
	__uint(type, BPF_MAP_TYPE_CGRP_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct cgroup_match);
} cgroup_matches SEC(".maps");

static __always_inline struct flexnet_rules *rules_of(u32 epoch)
{
	u32 table = epoch & 1;

	return bpf_map_lookup_elem(&rule_tables, &table);
}

static __always_inline struct flexnet_rule *rule_at(struct flexnet_rules *rules, u64 index)
{
	barrier_var(index);
	if (index >= FLEXNET_RULES_MAX)
		return NULL;
	barrier_var(index);
	return &rules->rule[index];
}

static __always_inline struct flexnet_glob *glob_at(struct flexnet_rules *rules, u64 index)
{
	barrier_var(index);
	if (index >= FLEXNET_GLOBS_MAX)
		return NULL;
	barrier_var(index);
	return &rules->glob[index];
}

/* Does this glob take a cgroup's name? Not static, as all that loops. */
__noinline int name_fits(u32 epoch, u32 index, const struct cgroup_name *name __arg_nonnull)
{
	struct flexnet_rules *rules = rules_of(epoch);
	struct flexnet_glob *glob = rules ? glob_at(rules, index) : NULL;

	return glob && flexnet_glob_matches(glob, name->text, sizeof(name->text));
}

__noinline int command_fits(u32 epoch, u32 index, const struct comm_name *comm __arg_nonnull)
{
	struct flexnet_rules *rules = rules_of(epoch);
	struct flexnet_glob *glob = rules ? glob_at(rules, index) : NULL;

	return glob && flexnet_glob_matches(glob, comm->text, sizeof(comm->text));
}

/* Which of a rule's parts that are next take a cgroup's name: a bit each. */
__noinline u32 takers_of(u32 epoch, u32 index, u32 came,
			 const struct cgroup_name *name __arg_nonnull)
{
	struct flexnet_rules *rules = rules_of(epoch);
	struct flexnet_rule *rule = rules ? rule_at(rules, index) : NULL;
	u32 i, takers = 0;

	if (!rule)
		return 0;
	bpf_for(i, 0, FLEXNET_PARTS_MAX) {
		if (i >= rule->parts)
			break;
		if (!(came & ~rule->deep & (1u << i)))
			continue;
		if (name_fits(epoch, rule->part[i & FLEXNET_PARTS_MAX], name))
			takers |= 1u << i;
	}
	return takers;
}

/* The answer of the root of all cgroups: how far each path has come there. */
__noinline int match_root(u32 epoch, struct cgroup_match *match __arg_nonnull)
{
	struct flexnet_rules *rules = rules_of(epoch);
	struct flexnet_rule *rule;
	u64 i;

	if (!rules)
		return 0;
	bpf_for(i, 0, FLEXNET_RULES_MAX) {
		rule = rule_at(rules, i);
		if (rule)
			match->came[i & (FLEXNET_RULES_MAX - 1)] = flexnet_path_start(rule);
	}
	match->rules = rules->anywhere;
	barrier();
	match->epoch = epoch;
	return 0;
}

/* A cgroup's answer from its parent's. */
__noinline int match_below(u32 epoch, struct cgroup_match *match __arg_nonnull,
			   const struct cgroup_match *parent __arg_nonnull)
{
	struct flexnet_rules *rules = rules_of(epoch);
	struct flexnet_rule *rule;
	u64 i, fits;
	u32 came;

	if (!rules)
		return 0;
	fits = rules->anywhere;
	bpf_for(i, 0, FLEXNET_RULES_MAX) {
		rule = rule_at(rules, i);
		if (i >= rules->count || !rule)
			break;
		if (!rule->parts)
			continue;
		came = parent->came[i & (FLEXNET_RULES_MAX - 1)];
		came = flexnet_path_step(rule, came, takers_of(epoch, i, came, &match->name));
		match->came[i & (FLEXNET_RULES_MAX - 1)] = came;
		if (flexnet_path_matches(rule, came))
			fits |= 1ULL << i;
	}
	match->rules = fits;
	barrier();
	match->epoch = epoch;
	return 0;
}

static struct cgroup_match *match_of(struct cgroup *cgrp)
{
	return bpf_cgrp_storage_get(&cgroup_matches, cgrp, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
}

/* Works out the answers from the root down to a cgroup, where they are not there
 * yet. */
static void match_path(struct cgroup *cgrp, u32 epoch)
{
	struct cgroup_match *match, *parent;
	struct cgroup *at, *above;
	u32 level;

	bpf_for(level, 0, CGROUP_LEVELS_MAX) {
		if (level > (u32)cgrp->level)
			break;
		at = bpf_cgroup_ancestor(cgrp, level);
		if (!at)
			break;
		match = match_of(at);
		if (match && match->epoch != epoch) {
			above = level ? bpf_cgroup_ancestor(cgrp, level - 1) : NULL;
			parent = above ? match_of(above) : NULL;
			bpf_probe_read_kernel_str(match->name.text, sizeof(match->name.text),
						  BPF_CORE_READ(at, kn, name));
			if (parent)
				match_below(epoch, match, parent);
			else if (!level)
				match_root(epoch, match);
			if (above)
				bpf_cgroup_release(above);
		}
		bpf_cgroup_release(at);
	}
}

/* The rules whose cgroup this task is in: a bit each. Where there is no memory for
 * an answer, those that ask for none. */
static u64 rules_by_cgroup(struct task_struct *p, u32 epoch)
{
	struct flexnet_rules *rules = rules_of(epoch);
	u64 fits = rules ? rules->anywhere : 0;
	struct cgroup_match *match;
	struct cgroup *cgrp;

	/* The unified hierarchy's, whether its CPU controller is on or not. */
	cgrp = p->cgroups->dfl_cgrp;
	if (cgrp) {
		match = match_of(cgrp);
		if (match && match->epoch != epoch)
			match_path(cgrp, epoch);
		if (match && match->epoch == epoch)
			fits = match->rules;
	}
	return fits;
}

/* The first rule that fits: index + 1, 0 for none. */
__noinline u32 first_rule(u32 epoch, u64 by_cgroup, u32 uid,
			  const struct comm_name *comm __arg_nonnull)
{
	struct flexnet_rules *rules = rules_of(epoch);
	struct flexnet_rule *rule;
	u64 i;

	if (!rules)
		return 0;
	bpf_for(i, 0, FLEXNET_RULES_MAX) {
		rule = rule_at(rules, i);
		if (i >= rules->count || !rule)
			break;
		if (!(by_cgroup >> i & 1) || (rule->has_uid && rule->uid != uid))
			continue;
		if (!rule->command || command_fits(epoch, rule->command - 1, comm))
			return i + 1;
	}
	return 0;
}

/* The rule of the task that started this one, now that all are matched anew: of its
 * process's first thread, or of its parent. One that was born with a class
 * somebody asked for keeps that. */
static void inherit_rule(struct task_struct *p, struct task_ctx *tctx, u32 epoch)
{
	struct task_struct *from;
	struct task_ctx *other;

	tctx->born_rule = 0;
	if (tctx->born)
		return;
	from = p->pid != p->tgid ? p->group_leader : p->real_parent;
	other = from ? task_ctx_of(from) : NULL;
	if (other && other->rules_epoch == epoch && !other->asked)
		tctx->born_rule = other->rule ?: other->born_rule;
}

/* Matches a task anew; `walk`: since the rules have changed. */
static void match_task(struct task_struct *p, const struct comm_name *comm, bool walk)
{
	struct task_ctx *tctx = task_ctx_of(p);
	u32 epoch = READ_ONCE(rules_epoch);
	struct flexnet_rules *rules = rules_of(epoch);
	u32 uid = p->real_cred->euid.val;
	struct flexnet_rule *rule;
	u64 by_cgroup;

	if (!tctx || !rules || !epoch || tctx->task_class == FLEXNET_CLASS_KTHREAD)
		return;
	by_cgroup = rules_by_cgroup(p, epoch);
	/* All of them are root's and in the root cgroup: only rules that name them hold. */
	if (p->flags & PF_KTHREAD)
		by_cgroup &= rules->named;
	tctx->rule = first_rule(epoch, by_cgroup, uid, comm);
	rule = tctx->rule ? rule_at(rules, tctx->rule - 1) : NULL;
	tctx->ruled = rule ? rule->task_class + 1 : 0;
	if (walk)
		inherit_rule(p, tctx, epoch);
	else if (tctx->rules_epoch != epoch)
		tctx->born_rule = 0; /* the walk will come to it */
	tctx->inherited = tctx->born;
	tctx->held_by = tctx->rule;
	rule = tctx->born_rule ? rule_at(rules, tctx->born_rule - 1) : NULL;
	if (rule && (by_cgroup >> ((tctx->born_rule - 1) & 63) & 1) &&
	    (!rule->has_uid || rule->uid == uid)) {
		tctx->inherited = rule->task_class + 1;
		tctx->held_by = tctx->rule ?: tctx->born_rule;
	}
	tctx->rules_epoch = epoch;
	if (class_of(tctx) != FLEXNET_CLASS_EXECUTOR)
		settle_class(tctx);
}

static void match_as_named(struct task_struct *p, bool walk)
{
	struct comm_name comm = {};

	bpf_probe_read_kernel_str(comm.text, sizeof(comm.text), p->comm);
	match_task(p, &comm, walk);
}

/* A new task, in its cgroup. */
SEC("tp_btf/task_newtask")
int BPF_PROG(rules_new_task, struct task_struct *p, u64 clone_flags)
{
	match_as_named(p, false);
	return 0;
}

/* Another name, by exec or by wish; it has the old one still. */
SEC("tp_btf/task_rename")
int BPF_PROG(rules_rename, struct task_struct *p, const char *name)
{
	struct comm_name comm = {};

	bpf_probe_read_kernel_str(comm.text, sizeof(comm.text), name);
	match_task(p, &comm, false);
	return 0;
}

/* Another user, perhaps. */
SEC("fexit/commit_creds")
int BPF_PROG(rules_credentials, struct cred *creds, int ret)
{
	match_as_named(bpf_get_current_task_btf(), false);
	return 0;
}

/* Another cgroup, of a thread or of all of a process. */
SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(rules_cgroup, struct cgroup *to, const char *path, struct task_struct *p,
	     bool threadgroup)
{
	struct task_struct *thread;

	if (!threadgroup) {
		match_as_named(p, false);
		return 0;
	}
	bpf_for_each(task, thread, p, BPF_TASK_ITER_PROC_THREADS)
		match_as_named(thread, false);
	return 0;
}

/* All that run already, when the rules have changed. */
SEC("iter/task")
int rules_walk(struct bpf_iter__task *ctx)
{
	struct task_struct *p = ctx->task;

	if (p)
		match_as_named(p, true);
	return 0;
}

/* Tells of each task that has its class of a rule: that rule's index + 1, a byte. For a
 * status; no path that schedules counts. */
SEC("iter/task")
int rules_count(struct bpf_iter__task *ctx)
{
	struct task_struct *p = ctx->task;
	struct task_ctx *tctx;

	if (!p || p->exit_state)
		return 0;
	tctx = task_ctx_of(p);
	if (!tctx || !tctx->held_by || tctx->rules_epoch != READ_ONCE(rules_epoch))
		return 0;
	/* Not one that asked for a class itself, and no executor. */
	if (tctx->class_origin == FLEXNET_ORIGIN_RULE ||
	    tctx->class_origin == FLEXNET_ORIGIN_PARENT)
		bpf_seq_write(ctx->meta->seq, &tctx->held_by, sizeof(tctx->held_by));
	return 0;
}

#endif /* FLEXNET_RULES_BPF_H */

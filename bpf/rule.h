/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * rule.h - the operator's rules as the numbers they are matched by: globs, paths
 * of cgroups, and which source of a class goes first.
 *
 * The problem: a glob may meet any name, in the kernel, and must cost little
 * whatever it says. The mechanism: the loader turns each glob into a machine of
 * at most 64 states (rules/glob.rs), all of them in one word; a byte of a name
 * is two table look-ups and a shift, so a match takes as many steps as the name
 * has bytes and never goes back. Components of a path are matched the same way,
 * one step a cgroup on the way down, so that a cgroup keeps how far it came and
 * its children go on from there.
 *
 * Plain C without kernel, compiled for BPF and for the host, where tables test
 * it. What it leaves to others: when a task is matched (rules.bpf.h), and what a
 * glob looks like in text (rules/glob.rs).
 */
#ifndef FLEXNET_RULE_H
#define FLEXNET_RULE_H

/* Rules of one configuration; a bit each in a word. */
#define FLEXNET_RULES_MAX 64
/* Different globs of all rules. */
#define FLEXNET_GLOBS_MAX 128
/* Elements of one glob: a byte, a set of bytes, or a star. */
#define FLEXNET_GLOB_ELEMENTS 63
/* Components of one path, "**" among them. */
#define FLEXNET_PARTS_MAX 15
/* A command's name and a cgroup's, the zero at the end included. */
#define FLEXNET_COMM_BYTES 16
#define FLEXNET_NAME_BYTES 256

/* Bit i of a state: the first i elements took what was read so far. */
struct flexnet_glob {
	u64 takes[256]; /* bit i: element i, no star, takes this byte */
	u64 stars;	/* bit i: element i takes any number of bytes; never two in a row */
	u32 elements;
	u32 reserved;
};

struct flexnet_rule {
	u32 task_class; /* enum flexnet_class: normal, latency or batch */
	u32 has_uid;
	u32 uid;			 /* effective, in the initial user namespace */
	u32 command;			 /* index + 1 of the command's glob, 0: any command */
	u32 parts;			 /* components of the cgroup's path, 0: any cgroup */
	u32 deep;			 /* bit i: part i is "**", any number of components */
	u16 part[FLEXNET_PARTS_MAX + 1]; /* indexes of the parts' globs */
};

struct flexnet_rules {
	u32 count;
	u32 reserved;
	u64 anywhere; /* bit i: rule i says nothing of cgroups */
	u64 named;    /* bit i: rule i names a command */
	struct flexnet_rule rule[FLEXNET_RULES_MAX];
	struct flexnet_glob glob[FLEXNET_GLOBS_MAX];
};

#ifdef bpf_for
#define FLEXNET_RULE_FOR(i, n) bpf_for(i, 0, n)
#else
#define FLEXNET_RULE_FOR(i, n) for (i = 0; i < (n); i++)
#endif

/* A star may take nothing at all. */
static inline u64 flexnet_glob_skip_stars(u64 state, u64 stars)
{
	return state | ((state & stars) << 1);
}

/* Does a glob take this text, up to its zero or `bytes`? */
static inline u32 flexnet_glob_matches(const struct flexnet_glob *glob, const char *text, u32 bytes)
{
	u64 state = flexnet_glob_skip_stars(1, glob->stars);
	u32 i, elements = glob->elements;

	FLEXNET_RULE_FOR(i, bytes)
	{
		u8 byte = (u8)text[i];

		if (!byte)
			break;
		state = ((state & glob->takes[byte]) << 1) | (state & glob->stars);
		state = flexnet_glob_skip_stars(state, glob->stars);
	}
	return elements < 64 && (state >> elements & 1);
}

/* How far a rule's path has come at the root of all cgroups. */
static inline u32 flexnet_path_start(const struct flexnet_rule *rule)
{
	return 1 | ((1 & rule->deep) << 1);
}

/* ... and one cgroup further down, at one whose name the parts in `takers` take.
 * A cgroup that matched matches below, too. */
static inline u32 flexnet_path_step(const struct flexnet_rule *rule, u32 came, u32 takers)
{
	u32 end = 1u << (rule->parts & 15);

	came = ((came & takers & ~rule->deep) << 1) | (came & (rule->deep | end));
	came |= (came & rule->deep) << 1;
	return came & (2 * end - 1);
}

/* Is this cgroup, or one above it, what the rule's path names? */
static inline u32 flexnet_path_matches(const struct flexnet_rule *rule, u32 came)
{
	return came >> (rule->parts & 15) & 1;
}

/* A class and whether there is one: class + 1, 0 for none. In the order in which
 * they go: what the task's process asked for, the operator's rule, what it was
 * born with. */
static inline u32 flexnet_settled_class(u32 asked, u32 ruled, u32 inherited, u32 otherwise)
{
	if (asked)
		return asked - 1;
	if (ruled)
		return ruled - 1;
	return inherited ? inherited - 1 : otherwise;
}

#endif /* FLEXNET_RULE_H */

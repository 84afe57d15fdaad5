// SPDX-License-Identifier: GPL-2.0-only
/* A TCG plugin: virtual CPUs that advance together. README.md beside it says what for.
 *
 * It is for QEMU 10.0 (plugin interface 4) with `-accel tcg,thread=single -icount`. There the
 * guest's clock counts instructions, and one thread runs the virtual CPUs in turn. QEMU ends
 * such a turn when a timer is due, at an interrupt to another virtual CPU, and at PAUSE and
 * HLT: after milliseconds, or after nothing. With this plugin:
 *
 *  - A turn has `quantum=N` instructions in the mean. Each one is up to an eighth shorter or
 *    longer, by a generator that `seed=N` starts. So no turn beats with the guest's own
 *    periods, and another seed gives another run of the same distribution.
 *  - A PAUSE or HLT is rewritten in the guest's memory, the first time that it runs, into a
 *    NOP of the same length. A virtual CPU that spins or idles then uses its turn as all
 *    others do. So the speed of one in the guest's time does not depend on the others.
 *
 * Short turns and HLT as NOP begin with the guest's command `lockstep` (lockstep.S). Before
 * that, the boot and the BPF verifier are work for one CPU. They take a fraction of the time,
 * the host's and the guest's, while the others halt.
 *
 * The plugin uses QEMU's public plugin interface, and four more names that the program exports
 * for its modules. All of them are declared here, so a C compiler is all that building needs.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* The plugin interface, version 4. */
typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_scoreboard;
struct plugin_info {
	const char *target;
	struct {
		int min, current;
	} version;
	bool system_emulation;
	int vcpus, vcpus_max;
};
struct plugin_u64 { /* a field of each virtual CPU's entry */
	struct qemu_plugin_scoreboard *score;
	size_t offset;
};
typedef void (*on_translation)(plugin_id id, struct qemu_plugin_tb *tb);
typedef void (*on_execution)(unsigned int cpu, void *data);
enum { NO_REGISTERS = 0 };
enum { ADD_U64 = 0 };
enum { COND_GE = 7 };
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
extern size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t size);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
extern struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t size);
extern void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *score, unsigned int cpu);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, on_translation call);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, on_execution call,
						   int flags, void *data);
extern void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *tb, int op,
							      struct plugin_u64 entry,
							      uint64_t value);
extern void qemu_plugin_register_vcpu_tb_exec_cond_cb(struct qemu_plugin_tb *tb, on_execution call,
						      int flags, int condition,
						      struct plugin_u64 entry, uint64_t value,
						      void *data);

/* Not of that interface: which virtual CPU runs, how it gives way, and its memory. */
extern __thread void *current_cpu;
extern void *qemu_get_cpu(int index);
extern void cpu_exit(void *cpu);
extern int cpu_memory_rw_debug(void *cpu, uint64_t address, void *bytes, size_t size, bool write);

EXPORT int qemu_plugin_version = 4;

/* Where Linux' own code begins. */
#define KERNEL 0xffffffff80000000ull

/* What `lockstep` runs in the guest: nopl 0x10c357e9(%rax). */
static const uint8_t begin_insn[7] = { 0x0f, 0x1f, 0x80, 0xe9, 0x57, 0xc3, 0x10 };
/* A turn before that, in turns of lockstep. */
enum { TURNS_BEFORE = 16 };

/* One counter serves all virtual CPUs, since one thread runs them: instructions of this turn.
 *
 * QEMU's counters are entries of a table with a row for each virtual CPU. With one thread,
 * 10.0.13 takes the number of the CPU that a block is translated on for a constant. It
 * multiplies this constant in place by the row's size. That spoils the same constant in the
 * guest's own code, unless the size is 1. So rows are bytes here. The field's offset is such
 * that whatever CPU a block is translated on, the same eight bytes are meant. QEMU makes a
 * table of 16 rows at least. */
enum { COUNTER = 8, VCPUS_MAX = 16 };
static struct qemu_plugin_scoreboard *rows;
static uint64_t *count;

static uint64_t quantum = 1250;
static uint64_t random_state = 1;
static bool kernel_runs; /* and not the firmware any more */
static bool begun;

/* The longest turn; the shortest one is a quarter of a quantum shorter. */
static uint64_t longest_turn(void)
{
	return quantum + quantum / 8;
}

/* Instructions by which the next turn is shorter than the longest one (xorshift64*). */
static uint64_t next_shortening(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (random_state * 0x2545f4914f6cdd1dull >> 32) % (quantum / 4 + 1);
}

static void on_turn_end(unsigned int cpu, void *data)
{
	static unsigned int turn;

	(void)cpu;
	(void)data;
	*count = next_shortening();
	if (begun || ++turn % TURNS_BEFORE == 0)
		cpu_exit(current_cpu);
}

/* Writes a NOP over the PAUSE that is about to run. */
static void on_pause(unsigned int cpu, void *address)
{
	uint8_t nop[2] = { 0x66, 0x90 };

	(void)cpu;
	cpu_memory_rw_debug(current_cpu, (uintptr_t)address, nop, sizeof(nop), true);
}

static void on_halt(unsigned int cpu, void *address)
{
	uint8_t nop[1] = { 0x90 };

	(void)cpu;
	if (begun)
		cpu_memory_rw_debug(current_cpu, (uintptr_t)address, nop, sizeof(nop), true);
}

/* The number of the virtual CPU that this block is translated on. */
static size_t current_index(void)
{
	int i = 0;

	while (i < VCPUS_MAX && qemu_get_cpu(i) != current_cpu)
		i++;
	return (size_t)i;
}

static void count_instructions(struct qemu_plugin_tb *tb, size_t instructions)
{
	/* Less than nothing for numbers above COUNTER: offsets are added modulo their size. */
	const struct plugin_u64 counter = { rows, COUNTER - current_index() };

	if (!count) /* not at the installation: there are no virtual CPUs then */
		count = (uint64_t *)((char *)qemu_plugin_scoreboard_find(rows, 0) + COUNTER);
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, ADD_U64, counter, instructions);
	qemu_plugin_register_vcpu_tb_exec_cond_cb(tb, on_turn_end, NO_REGISTERS, COND_GE, counter,
						  longest_turn(), NULL);
}

static bool is_begin(const struct qemu_plugin_insn *insn)
{
	uint8_t bytes[sizeof(begin_insn)];

	return qemu_plugin_insn_size(insn) == sizeof(bytes) &&
	       qemu_plugin_insn_data(insn, bytes, sizeof(bytes)) == sizeof(bytes) &&
	       !memcmp(bytes, begin_insn, sizeof(bytes));
}

/* PAUSE and HLT end their block, so only its last instruction can be one of them. */
static void rewrite_waits(struct qemu_plugin_insn *last)
{
	void *address = (void *)(uintptr_t)qemu_plugin_insn_vaddr(last);
	size_t size = qemu_plugin_insn_size(last);
	uint8_t bytes[2];

	if (size > sizeof(bytes) || qemu_plugin_insn_data(last, bytes, size) != size)
		return;
	if (size == 2 && bytes[0] == 0xf3 && bytes[1] == 0x90)
		qemu_plugin_register_vcpu_insn_exec_cb(last, on_pause, NO_REGISTERS, address);
	if (size == 1 && bytes[0] == 0xf4)
		qemu_plugin_register_vcpu_insn_exec_cb(last, on_halt, NO_REGISTERS, address);
}

static void on_block(plugin_id id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);

	(void)id;
	if (!n)
		return;
	count_instructions(tb, n);
	for (size_t i = 0; !begun && i < n; i++)
		begun = is_begin(qemu_plugin_tb_get_insn(tb, i));
	/* The firmware stays as it is. */
	kernel_runs |= qemu_plugin_tb_vaddr(tb) >= KERNEL;
	if (kernel_runs)
		rewrite_waits(qemu_plugin_tb_get_insn(tb, n - 1));
}

/* NAME=NUMBER of that name: true, and the number. */
static bool number_of(const char *argument, const char *name, uint64_t *number)
{
	size_t length = strlen(name);
	char *end;

	if (strncmp(argument, name, length) || argument[length] != '=' || !argument[length + 1])
		return false;
	*number = strtoull(argument + length + 1, &end, 10);
	return !*end;
}

EXPORT int qemu_plugin_install(plugin_id id, const struct plugin_info *info, int argc, char **argv)
{
	uint64_t seed = 1;

	for (int i = 0; i < argc; i++) {
		if (!number_of(argv[i], "quantum", &quantum) &&
		    !number_of(argv[i], "seed", &seed)) {
			fprintf(stderr, "lockstep: %s: quantum=N and seed=N are known\n", argv[i]);
			return -1;
		}
	}
	if (quantum < 100 || quantum > UINT32_MAX) {
		fprintf(stderr, "lockstep: quantum=N takes 100 instructions or more\n");
		return -1;
	}
	if (!info->system_emulation || info->vcpus_max > VCPUS_MAX) {
		fprintf(stderr, "lockstep: a system with %d CPUs at most\n", VCPUS_MAX);
		return -1;
	}
	/* Neighbouring seeds begin far apart, and none is 0, which the generator never leaves. */
	random_state = (seed + 1) * 0x9e3779b97f4a7c15ull | 1;
	rows = qemu_plugin_scoreboard_new(1);
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
	return 0;
}

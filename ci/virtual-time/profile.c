// SPDX-License-Identifier: GPL-2.0-only
/* A TCG plugin: how often each block of the guest's code runs, once `lockstep` began.
 *
 * `output=PATH` names the file that it writes when QEMU ends: a line for each block, with its
 * address, its number of instructions and how often it ran. ci/virtual-time/profile makes a
 * table of functions of it. It changes nothing in the guest, so the counted run is the same run
 * as without it. It makes the run slower on the host, by half or so.
 *
 * As lockstep.c it declares what it uses, so that a C compiler is all that building needs.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct plugin_info;
typedef void (*on_translation)(plugin_id id, struct qemu_plugin_tb *tb);
typedef void (*on_execution)(unsigned int cpu, void *data);
typedef void (*on_end)(plugin_id id, void *data);
enum { NO_REGISTERS = 0 };
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
extern size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t size);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, on_translation call);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, on_execution call,
						 int flags, void *data);
extern void qemu_plugin_register_atexit_cb(plugin_id id, on_end call, void *data);

EXPORT int qemu_plugin_version = 4;

/* What `lockstep` runs in the guest: nopl 0x10c357e9(%rax). */
static const uint8_t begin_insn[7] = { 0x0f, 0x1f, 0x80, 0xe9, 0x57, 0xc3, 0x10 };

/* A block as it was translated. A list, and none is ever freed: QEMU may run any again. */
struct block {
	struct block *next;
	uint64_t address, instructions, runs;
};
static struct block *blocks;
static const char *file;
static bool begun;

static void on_run(unsigned int cpu, void *data)
{
	struct block *block = data;

	(void)cpu;
	block->runs += begun;
}

static bool begins(struct qemu_plugin_tb *tb, size_t n)
{
	uint8_t bytes[sizeof(begin_insn)];
	size_t i;

	for (i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		if (qemu_plugin_insn_size(insn) == sizeof(bytes) &&
		    qemu_plugin_insn_data(insn, bytes, sizeof(bytes)) == sizeof(bytes) &&
		    !memcmp(bytes, begin_insn, sizeof(bytes)))
			return true;
	}
	return false;
}

static void on_block(plugin_id id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);
	struct block *block = calloc(1, sizeof(*block));

	(void)id;
	if (!block) {
		fprintf(stderr, "profile: no memory, so the counts are not whole\n");
		return;
	}
	begun = begun || begins(tb, n);
	*block = (struct block){ blocks, qemu_plugin_tb_vaddr(tb), n, 0 };
	blocks = block;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, on_run, NO_REGISTERS, block);
}

static void write_counts(plugin_id id, void *data)
{
	FILE *out = fopen(file, "w");
	const struct block *block;

	(void)id;
	(void)data;
	if (!out) {
		perror(file);
		return;
	}
	for (block = blocks; block; block = block->next)
		if (block->runs)
			fprintf(out, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", block->address,
				block->instructions, block->runs);
	if (fclose(out))
		perror(file);
}

EXPORT int qemu_plugin_install(plugin_id id, const struct plugin_info *info, int argc, char **argv)
{
	(void)info;
	if (argc != 1 || strncmp(argv[0], "output=", 7) || !argv[0][7]) {
		fprintf(stderr, "profile: output=PATH is needed, and nothing else is known\n");
		return -1;
	}
	file = strdup(argv[0] + 7);
	if (!file)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
	qemu_plugin_register_atexit_cb(id, write_counts, NULL);
	return 0;
}

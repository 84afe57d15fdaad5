// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// A program installs a filter that allows what it does itself, and nothing more. It
// goes on, with a rest that its peer had not taken, and so in seccomp's strict mode.
#include "case.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ALLOW(number)                                      \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static struct sock_filter rules[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	ALLOW(SYS_write),
	ALLOW(SYS_read),
	ALLOW(SYS_close),
	ALLOW(SYS_exit),
	ALLOW(SYS_exit_group),
	ALLOW(SYS_rt_sigreturn),
	ALLOW(SYS_dup),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};
static struct sock_fprog program = { sizeof rules / sizeof *rules, rules };

enum how { BY_PRCTL, BY_SYSCALL, STRICT };

static void filtered(enum how how)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	// What asks only whether the kernel could is no filter.
	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL) == -1);
	switch (how) {
	case BY_PRCTL:
		CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
		break;
	case BY_SYSCALL:
		CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
		break;
	case STRICT:
		CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0) == 0);
		break;
	}
}

static void one(enum how how)
{
	static char room[4096];
	int full[2], pair[2], status;
	long got = 0;
	ssize_t n;
	pid_t child = fork();

	if (child == 0) {
		connection(full, 16384, 16384);
		connection(pair, 0, 0);
		fcntl(full[0], F_SETFL, O_NONBLOCK);
		while (write(full[0], room, 500) > 0)
			;
		for (int i = 0; i < 100; i++)
			CHECK(write(pair[0], "before ", 7) == 7);
		filtered(how);
		for (int i = 0; i < 100; i++)
			if (write(pair[0], "after  ", 7) != 7)
				syscall(SYS_exit, 2);
		for (; got < 1400 && (n = read(pair[1], room, 7)) == 7; got += n)
			if (memcmp(room, got < 700 ? "before " : "after  ", 7) != 0)
				syscall(SYS_exit, 3);
		if (how != STRICT) {
			close(dup(pair[0]));
			close(pair[0]);
			close(full[0]);
			_exit(got != 1400);
		}
		syscall(SYS_exit, got != 1400);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(status == 0, "way %d: status %x", how, status);
}

int main(void)
{
	one(BY_PRCTL);
	one(BY_SYSCALL);
	one(STRICT);
	return 0;
}

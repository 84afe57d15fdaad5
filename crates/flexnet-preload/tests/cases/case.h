// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// What the cases share: a connection, and an end with a word on stderr.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(what, ...)                                                           \
	do {                                                                       \
		if (!(what)) {                                                     \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #what); \
			fprintf(stderr, "" __VA_ARGS__);                           \
			fprintf(stderr, "\n");                                     \
			_exit(1);                                                  \
		}                                                                  \
	} while (0)

// A connection: [0] sends, [1] receives. Bytes of their buffers, 0: the kernel's choice.
static inline void connection(int pair[2], int send_buffer, int receive_buffer)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof at;
	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

	if (receive_buffer)
		setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
	CHECK(bind(listener, (void *)&at, length) == 0);
	CHECK(listen(listener, 8) == 0);
	getsockname(listener, (void *)&at, &length);
	pair[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (send_buffer)
		setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
	CHECK(connect(pair[0], (void *)&at, length) == 0);
	setsockopt(pair[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	pair[1] = accept(listener, NULL, NULL);
	CHECK(pair[1] >= 0);
	close(listener);
}

static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

// From here on the kernel grants this thread no larger send buffers, as it grants none above
// net.core.wmem_max: SO_SNDBUF of an int is refused. Past the library, for which a filter is a reason to do nothing more.
static inline void refuse_buffers(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setsockopt, 0, 6),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[4])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, sizeof(int), 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SO_SNDBUF, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SO_SNDBUFFORCE, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof code / sizeof *code, code };
	void *library = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
	long (*past)(long, ...) = (long (*)(long, ...))dlsym(library, "syscall");

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(past(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
}

// Waits until a counter has not moved for 200 ms: its thread is blocked.
static inline void wait_until_blocked(volatile long *counter)
{
	long before;

	do {
		before = *counter;
		usleep(200000);
	} while (before == 0 || *counter != before);
}

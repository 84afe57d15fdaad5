// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// A peer that takes nothing costs nobody else. fork() and system() do not wait for it,
// nor does close(), however few descriptors there are; what was accepted arrives.
#include "case.h"
#include <fcntl.h>
#include <sys/resource.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72 // since Linux 5.15
#endif

static char room[1 << 16];

// Sends until nothing more is accepted; how much was.
static long fill(int fd)
{
	long accepted = 0;
	ssize_t n;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while ((n = write(fd, room, 900)) > 0)
		accepted += n;
	CHECK(errno == EAGAIN);
	fcntl(fd, F_SETFL, 0);
	return accepted;
}

static void arrives(int peer, long accepted, int ends)
{
	for (long got = 0; got < accepted;) {
		ssize_t n = read(peer, room,
				 accepted - got < (long)sizeof room ? accepted - got :
								      (long)sizeof room);
		CHECK(n > 0, "%ld of %ld: %s", got, accepted, n ? strerror(errno) : "the end");
		got += n;
	}
	if (ends)
		CHECK(read(peer, room, 1) == 0);
}

static void quickly(double since, const char *what)
{
	CHECK(now() - since < 1, "%s took %.1f s", what, now() - since);
}

static void children(void)
{
	enum { SOCKETS = 3 };
	int pairs[SOCKETS][2];
	long accepted[SOCKETS];
	double begun;
	pid_t child;

	for (int i = 0; i < SOCKETS; i++) {
		connection(pairs[i], 16384, 16384);
		accepted[i] = fill(pairs[i][0]);
	}
	begun = now();
	child = fork();
	if (child == 0)
		_exit(0);
	CHECK(waitpid(child, NULL, 0) == child);
	quickly(begun, "fork");
	begun = now();
	CHECK(system("true") == 0);
	quickly(begun, "system");
	for (int i = 0; i < SOCKETS; i++) {
		arrives(pairs[i][1], accepted[i], 0);
		close(pairs[i][0]);
		close(pairs[i][1]);
	}
}

static int option(int fd, int name)
{
	int value = -1;
	socklen_t length = sizeof value;

	CHECK(getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0);
	return value;
}

// A fork does not shrink a busy socket's send buffer, and leaves it to the kernel to size.
static void buffers(void)
{
	int pair[2], size;
	long accepted;
	pid_t child;

	connection(pair, 0, 0);
	accepted = fill(pair[0]);
	size = option(pair[0], SO_SNDBUF);
	CHECK(option(pair[0], SO_BUF_LOCK) == 0);
	child = fork();
	if (child == 0)
		_exit(0);
	CHECK(waitpid(child, NULL, 0) == child);
	// The kernel may have made it larger by itself.
	CHECK(option(pair[0], SO_SNDBUF) >= size, "%d, %d before", option(pair[0], SO_SNDBUF),
	      size);
	CHECK(option(pair[0], SO_BUF_LOCK) == 0);
	arrives(pair[1], accepted, 0);
	close(pair[0]);
	close(pair[1]);
}

static void closes(void)
{
	enum { CONNECTIONS = 60 };
	struct rlimit few = { 100, 100 };
	int pair[2], peers[CONNECTIONS];
	long accepted[CONNECTIONS];

	setrlimit(RLIMIT_NOFILE, &few);
	for (int i = 0; i < CONNECTIONS; i++) {
		double begun;

		connection(pair, 16384, 16384);
		accepted[i] = fill(pair[0]);
		begun = now();
		close(pair[0]);
		quickly(begun, "close");
		peers[i] = pair[1];
	}
	for (int i = 0; i < CONNECTIONS; i++)
		arrives(peers[i], accepted[i], 1);
}

int main(void)
{
	int status;
	pid_t child;

	children();
	buffers();
	for (int user = 0; user < 2; user++) {
		child = fork();
		if (child == 0) {
			if (user && geteuid() == 0)
				CHECK(setuid(65534) == 0);
			closes();
			_exit(0);
		}
		CHECK(waitpid(child, &status, 0) == child && status == 0, "%x", status);
	}
	return 0;
}

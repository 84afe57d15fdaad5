// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Connections that are closed while their peers take nothing, where the kernel grants no larger
// send buffer. close() stays quick, the program's descriptors stay its own, fork() and system()
// do not wait, and a rest does not stay for ever. What arrives is what was sent.
#include "case.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum {
	CONNECTIONS = 700,
	DESCRIPTORS = 1024,
	// Of the library's own and the case's.
	FEW = 24,
	// A rest of so many connections arrives whole, at least.
	WHOLE = 200,
};

static char room[1 << 16];
static struct sockaddr_in at = { .sin_family = AF_INET };

static int listener(void)
{
	int receive_buffer = 16384, fd = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t length = sizeof at;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
	CHECK(bind(fd, (void *)&at, sizeof at) == 0);
	CHECK(listen(fd, 1024) == 0);
	getsockname(fd, (void *)&at, &length);
	return fd;
}

// A connection that is full: nothing more is accepted. How much was.
static int filled(int user_timeout, int *accepted)
{
	// The filter refuses the shorter options, which are the library's.
	long send_buffer = 16384;
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	ssize_t n;

	CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer) == 0);
	CHECK(connect(fd, (void *)&at, sizeof at) == 0);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (user_timeout)
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof user_timeout);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	for (*accepted = 0; (n = write(fd, room, 900)) > 0;)
		*accepted += n;
	CHECK(errno == EAGAIN);
	return fd;
}

static void quickly(double since, const char *what)
{
	CHECK(now() - since < 1, "%s took %.1f s", what, now() - since);
}

// Sockets that are open: where the program has closed its own, the library's.
static int sockets(int *last)
{
	struct stat is;
	int count = 0;

	for (int fd = 0; fd < DESCRIPTORS; fd++)
		if (fstat(fd, &is) == 0 && S_ISSOCK(is.st_mode)) {
			*last = fd;
			count++;
		}
	return count;
}

static void descriptors_are_there(void)
{
	int count = 0, fds[DESCRIPTORS];

	while ((fds[count] = open("/dev/null", O_RDONLY)) >= 0)
		count++;
	CHECK(count >= DESCRIPTORS * 3 / 4 - FEW, "%d can be opened", count);
	while (count > 0)
		close(fds[--count]);
}

static void children_start(void)
{
	double begun = now();
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	CHECK(waitpid(child, NULL, 0) == child);
	quickly(begun, "fork");
	begun = now();
	CHECK(system("true") == 0);
	quickly(begun, "system");
}

// A rest goes when its peer has taken nothing for so long, which a program may make shorter.
static void rests_end(void)
{
	int fd, accepted, last, before = sockets(&last), limit;
	socklen_t length = sizeof limit;
	double begun;

	fd = filled(0, &accepted);
	close(fd);
	if (sockets(&last) > before) {
		CHECK(getsockopt(last, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, &length) == 0);
		CHECK(limit == 60000, "%d ms", limit);
		before++;
	}
	fd = filled(1000, &accepted);
	close(fd);
	begun = now();
	while (sockets(&last) > before) {
		CHECK(now() - begun < 30, "it stays");
		usleep(10000);
	}
}

static void closes(int to, int from)
{
	struct rlimit few = { DESCRIPTORS, DESCRIPTORS };
	int fd, accepted;
	double begun;

	setrlimit(RLIMIT_NOFILE, &few);
	for (int i = 0; i < CONNECTIONS; i++) {
		fd = filled(0, &accepted);
		if (i == 0)
			refuse_buffers(); // there are executors by now
		begun = now();
		CHECK(close(fd) == 0);
		quickly(begun, "close");
		CHECK(write(to, &accepted, sizeof accepted) == sizeof accepted);
	}
	descriptors_are_there();
	children_start();
	close(to);
	CHECK(read(from, room, 1) == 0);
}

// One number of a socket is closed and another is left: nothing is to be waited for.
static void doubles(void)
{
	int pair[2], status, other;
	double begun = now();
	pid_t child = fork();

	if (child == 0) {
		connection(pair, 0, 0);
		CHECK(write(pair[0], "a", 1) == 1);
		other = dup(pair[0]);
		CHECK(write(pair[0], "b", 1) == 1);
		close(pair[0]);
		CHECK(write(other, "c", 1) == 1);
		exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0, "%x", status);
	quickly(begun, "the end");
}

// The socket's last number here is closed, and nothing is left: a child that has the socket, too,
// keeps it as it was.
static void shared_stays(void)
{
	int pair[2], both[2], status, other, limit;
	socklen_t length = sizeof limit;
	pid_t child;

	connection(pair, 0, 0);
	CHECK(write(pair[0], "a", 1) == 1 && read(pair[1], room, 1) == 1);
	other = dup(pair[0]);
	close(pair[0]);
	CHECK(pipe(both) == 0);
	child = fork();
	if (child == 0) {
		close(both[1]);
		CHECK(read(both[0], room, 1) == 0);
		CHECK(getsockopt(other, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, &length) == 0);
		CHECK(limit == 0, "%d ms", limit);
		_exit(0);
	}
	close(other);
	close(both[0]);
	close(both[1]);
	CHECK(waitpid(child, &status, 0) == child && status == 0, "%x", status);
	close(pair[1]);
}

// All that was accepted, and the end; or a part, and a reset. Was it all?
static int arrives(int peer, int accepted)
{
	int got = 0;
	ssize_t n;

	while ((n = read(peer, room, sizeof room)) > 0)
		got += n;
	CHECK(n == 0 || errno == ECONNRESET, "%s", strerror(errno));
	CHECK(n == 0 ? got == accepted : got < accepted, "%d of %d: %zd", got, accepted, n);
	close(peer);
	return n == 0;
}

int main(void)
{
	struct rlimit many;
	int listening = listener(), up[2], down[2], accepted, status, whole = 0;
	pid_t child;

	getrlimit(RLIMIT_NOFILE, &many);
	doubles();
	shared_stays();
	CHECK(pipe(up) == 0 && pipe(down) == 0);
	child = fork();
	if (child == 0) {
		close(listening);
		close(down[1]);
		closes(up[1], down[0]);
		_exit(0);
	}
	close(up[1]);
	many.rlim_cur = many.rlim_max;
	setrlimit(RLIMIT_NOFILE, &many);
	static int peers[CONNECTIONS], lengths[CONNECTIONS];
	for (int i = 0; i < CONNECTIONS; i++) {
		if (read(up[0], &accepted, sizeof accepted) != sizeof accepted)
			break;
		lengths[i] = accepted;
		peers[i] = accept(listening, NULL, NULL);
		CHECK(peers[i] >= 0);
	}
	CHECK(read(up[0], room, 1) == 0);
	for (int i = 0; i < CONNECTIONS && peers[i]; i++)
		whole += arrives(peers[i], lengths[i]);
	close(down[1]);
	CHECK(waitpid(child, &status, 0) == child && status == 0, "%x", status);
	CHECK(whole >= WHOLE, "%d arrived", whole);
	child = fork();
	if (child == 0) {
		close(filled(0, &accepted));
		refuse_buffers();
		rests_end();
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0, "%x", status);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// A socket that others use, too, is closed with data left, and there is no room for the data: the
// connection goes on for the others, and the peer gets every byte.
#include "case.h"
#include <fcntl.h>
#include <sys/resource.h>

enum { RESTS = 8 };

static char room[1 << 16];

static void limit(int descriptors)
{
	struct rlimit few = { descriptors, descriptors };

	getrlimit(RLIMIT_NOFILE, &few);
	few.rlim_cur = descriptors;
	CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
}

// A connection that is full: how much it accepted. Its peer has a number that is out of the way.
static int filled(int *peer, long *accepted)
{
	int pair[2];
	ssize_t n;

	connection(pair, 16384, 16384);
	*peer = fcntl(pair[1], F_DUPFD_CLOEXEC, 600);
	CHECK(*peer >= 0 && close(pair[1]) == 0);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	for (*accepted = 0; (n = write(pair[0], room, 900)) > 0;)
		*accepted += n;
	CHECK(errno == EAGAIN);
	return pair[0];
}

// All that was accepted, the word of the one that goes on, and the end. The word comes last, unless
// it is another process's, which may be before what waits for room.
static void arrives(int peer, long accepted, const char *word, int is_last)
{
	long length = strlen(word), got = 0, at = -1;
	size_t found = 0;
	char is[8] = "";
	ssize_t n;

	while ((n = read(peer, room, sizeof room)) > 0)
		for (ssize_t i = 0; i < n; i++, got++)
			if (room[i] && found < sizeof is - 1) {
				at = at < 0 ? got : at;
				is[found++] = room[i];
			}
	CHECK(n == 0 && got == accepted + length, "%ld of %ld: %s", got, accepted + length,
	      n ? strerror(errno) : "the end");
	CHECK(!strcmp(is, word) && (at == accepted || !is_last), "'%s' at %ld of %ld", is, at, got);
	close(peer);
}

// Sends when there is room, and closes.
static void goes_on(int fd, const char *word)
{
	struct pollfd waits = { fd, POLLOUT, 0 };
	ssize_t n;

	while ((n = write(fd, word, strlen(word))) < 0 && errno == EAGAIN)
		poll(&waits, 1, -1);
	CHECK(n == (ssize_t)strlen(word), "%s", strerror(errno));
	CHECK(close(fd) == 0);
}

// Another number of the process goes on; no descriptor is free.
static void another_number(void)
{
	long accepted;
	int peer, fd = filled(&peer, &accepted), other = dup(fd);

	refuse_buffers();
	limit(3);
	CHECK(close(fd) == 0);
	CHECK(close(fd) < 0 && errno == EBADF);
	limit(1024);
	pid_t reader = fork();

	if (reader == 0) {
		close(other);
		arrives(peer, accepted, "other", 1);
		_exit(0);
	}
	close(peer);
	goes_on(other, "other");
	int status;

	CHECK(waitpid(reader, &status, 0) == reader && status == 0, "%x", status);
}

// A child goes on. Too many rests, or no descriptor for one more.
static void a_child(int descriptors, int linger, int range)
{
	int peers[RESTS + 1], fds[RESTS + 1], go[2], status, none;
	struct linger at_once = { 1, 0 }, none_at_all = { 0, 0 };
	long accepted[RESTS + 1];
	pid_t child, reader;

	for (int i = 0; i <= RESTS; i++)
		fds[i] = filled(&peers[i], &accepted[i]);
	refuse_buffers();
	CHECK(pipe(go) == 0);
	child = fork();
	if (child == 0) {
		char word;

		for (int i = 0; i < RESTS; i++)
			close(fds[i]);
		for (int i = 0; i <= RESTS; i++)
			close(peers[i]);
		close(go[1]);
		CHECK(read(go[0], &word, 1) == 0);
		socklen_t length = sizeof none;
		CHECK(getsockopt(fds[RESTS], IPPROTO_TCP, TCP_USER_TIMEOUT, &none, &length) == 0);
		CHECK(none == 0, "the child's connection has a limit: %d ms", none);
		// It is the last one that closes the connection.
		setsockopt(fds[RESTS], SOL_SOCKET, SO_LINGER, &none_at_all, sizeof none_at_all);
		goes_on(fds[RESTS], "child");
		_exit(0);
	}
	close(go[0]);
	limit(descriptors);
	if (linger)
		setsockopt(fds[RESTS], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	for (int i = 0; descriptors > 3 && i < RESTS; i++)
		CHECK(close(fds[i]) == 0);
	if (range)
		CHECK(close_range(fds[RESTS], fds[RESTS], 0) == 0);
	else
		CHECK(close(fds[RESTS]) == 0);
	CHECK(close(fds[RESTS]) < 0 && errno == EBADF);
	limit(1024);
	reader = fork();
	if (reader == 0) {
		close(go[1]);
		arrives(peers[RESTS], accepted[RESTS], "child", 0);
		_exit(0);
	}
	close(peers[RESTS]);
	close(go[1]);
	CHECK(waitpid(child, &status, 0) == child && status == 0, "child: %x", status);
	CHECK(waitpid(reader, &status, 0) == reader && status == 0, "reader: %x", status);
}

static void in_a_process(const char *what, void (*with)(int), int value)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		with(value);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0, "%s: %x", what, status);
}

static void number(int value)
{
	(void)value;
	another_number();
}

static void shared(int descriptors)
{
	a_child(descriptors, 0, 0);
}

static void in_a_range(int descriptors)
{
	a_child(descriptors, 0, 1);
}

static void lingers(int descriptors)
{
	a_child(descriptors, 1, 0);
}

int main(void)
{
	in_a_process("linger", lingers, 1024);
	in_a_process("another number", number, 0);
	in_a_process("too many rests", shared, 4 * RESTS);
	in_a_process("no descriptor", shared, 3);
	in_a_process("no descriptor, a range", in_a_range, 3);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// freopen() of a stream over a socket: what was accepted goes to the peer, and then the end; what
// comes after goes to the file, which has nothing else.
#include "case.h"
#include <fcntl.h>

static char room[1 << 16];

static void reopens(FILE *(*again)(const char *, const char *, FILE *), int round)
{
	char path[] = "/tmp/flexnet-reopened-XXXXXX";
	int pair[2], file = mkstemp(path), to;
	long accepted = 0, got = 0;
	ssize_t n;
	FILE *stream;

	CHECK(file >= 0);
	connection(pair, 16384, 16384);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	while ((n = write(pair[0], room, 900)) > 0)
		accepted += n;
	CHECK(errno == EAGAIN);
	stream = fdopen(pair[0], "w");
	CHECK(stream && again(path, "w", stream) == stream);
	to = fileno(stream);
	CHECK(fprintf(stream, "round %d", round) > 0 && fflush(stream) == 0);
	// The number is a socket's again.
	while ((n = read(pair[1], room, sizeof room)) > 0)
		got += n;
	CHECK(n == 0 && got == accepted, "%ld of %ld: %s", got, accepted,
	      n ? strerror(errno) : "the end");
	CHECK(fclose(stream) == 0);
	CHECK(fcntl(to, F_GETFD) < 0);
	n = read(file, room, sizeof room);
	CHECK(n == (ssize_t)strlen("round 0") && !memcmp(room, "round ", 6), "%zd: %.20s", n, room);
	memset(room, 0, sizeof room);
	unlink(path);
	close(file);
	close(pair[1]);
}

int main(void)
{
	for (int round = 0; round < 4; round++) {
		reopens(freopen, round);
		reopens(freopen64, round);
	}
	return 0;
}

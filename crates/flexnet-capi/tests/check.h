/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the tests of the C interface share: an assertion that says what it got,
 * runtimes without a scheduler, and connected pairs of sockets.
 */
#ifndef CHECK_H
#define CHECK_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <flexnet/flexnet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define EXPECT(got, wanted)                                                                        \
	do {                                                                                       \
		long long got_ = (long long)(got), wanted_ = (long long)(wanted);                  \
		if (got_ != wanted_) {                                                             \
			fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, \
				got_, wanted_);                                                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)
#define CHECK(what) EXPECT(!!(what), 1)

#define RUN(test)                               \
	do {                                    \
		fprintf(stderr, "%s\n", #test); \
		test();                         \
	} while (0)

static inline struct flexnet_runtime_options options_alone(uint32_t executors)
{
	struct flexnet_runtime_options options = { .size = sizeof(options) };

	options.executors = executors;
	options.socket_path = "";
	return options;
}

static inline struct flexnet_runtime *runtime_alone(uint32_t executors)
{
	struct flexnet_runtime_options options = options_alone(executors);
	struct flexnet_runtime *runtime = NULL;

	EXPECT(flexnet_runtime_create(&options, &runtime), 0);
	CHECK(runtime);
	return runtime;
}

/* A connected pair of TCP or UDP sockets; small: of the smallest buffers. */
static inline void connected_pair(int type, bool small, int *ours, int *theirs)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	int one = 1, listener = socket(AF_INET, type, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(listener >= 0);
	if (small)
		CHECK(!setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &one, sizeof(one)));
	CHECK(!bind(listener, (struct sockaddr *)&address, sizeof(address)));
	CHECK(!getsockname(listener, (struct sockaddr *)&address, &length));
	if (type == SOCK_STREAM)
		CHECK(!listen(listener, 1));
	*ours = socket(AF_INET, type, 0);
	CHECK(*ours >= 0);
	if (small)
		CHECK(!setsockopt(*ours, SOL_SOCKET, SO_SNDBUF, &one, sizeof(one)));
	CHECK(!connect(*ours, (struct sockaddr *)&address, sizeof(address)));
	if (type == SOCK_STREAM) {
		*theirs = accept(listener, NULL, NULL);
		CHECK(*theirs >= 0);
		close(listener);
	} else {
		*theirs = listener;
	}
}

static inline struct flexnet_flow *adopted(struct flexnet_runtime *runtime, int fd)
{
	struct flexnet_flow *flow = NULL;

	EXPECT(flexnet_flow_adopt(runtime, fd, 0, &flow), 0);
	CHECK(flow);
	return flow;
}

/* The byte at a position of every stream that is sent here. */
static inline unsigned char byte_at(size_t i)
{
	return (unsigned char)(i / 251 * 7 + i);
}

/* Reads so many bytes of the stream that begins at `from`. */
static inline void expect_stream(int fd, size_t from, size_t length)
{
	unsigned char buffer[65536];

	for (size_t done = 0; done < length;) {
		size_t left = length - done < sizeof(buffer) ? length - done : sizeof(buffer);
		ssize_t got = recv(fd, buffer, left, 0);

		CHECK(got > 0);
		for (ssize_t i = 0; i < got; i++)
			EXPECT(buffer[i], byte_at(from + done + (size_t)i));
		done += (size_t)got;
	}
}

static inline void expect_end(int fd)
{
	char byte;

	EXPECT(recv(fd, &byte, 1, 0), 0);
}

static inline unsigned char *stream_of(size_t length)
{
	unsigned char *bytes = malloc(length);

	CHECK(bytes);
	for (size_t i = 0; i < length; i++)
		bytes[i] = byte_at(i);
	return bytes;
}

#endif /* CHECK_H */

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * echo_client.c - sends messages to an echo server and checks every reply.
 *
 * One thread has messages sent, another receives: the socket is the kernel's own.
 */
#include <errno.h>
#include <flexnet/flexnet.h>
#include <getopt.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static size_t message_bytes = 64;
static unsigned long messages = 100000;

static void die(const char *what, int error)
{
	fprintf(stderr, "echo_client: %s: %s\n", what, flexnet_strerror(error));
	exit(1);
}

/* Message number n is made of n's bytes, again and again. */
static void make(char *message, unsigned long n)
{
	for (size_t at = 0; at < message_bytes; at++)
		message[at] = (char)(n >> at % sizeof(n) * 8);
}

static char *buffer(void)
{
	char *bytes = malloc(message_bytes);

	if (!bytes)
		die("no memory", -ENOMEM);
	return bytes;
}

static void *check_replies(void *argument)
{
	int fd = *(int *)argument;
	char *wanted = buffer(), *got = buffer();

	for (unsigned long n = 0; n < messages; n++) {
		size_t done = 0;

		while (done < message_bytes) {
			ssize_t length = recv(fd, got + done, message_bytes - done, 0);

			if (length == 0)
				die("the server closed the connection", -EPIPE);
			if (length < 0 && errno != EINTR)
				die("cannot receive", -errno);
			done += length > 0 ? (size_t)length : 0;
		}
		make(wanted, n);
		if (memcmp(wanted, got, message_bytes) != 0) {
			fprintf(stderr, "echo_client: reply %lu differs\n", n);
			exit(1);
		}
	}
	free(wanted);
	free(got);
	return NULL;
}

static int connect_to(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
	int fd = -1, error = getaddrinfo(host, port, &hints, &found);

	if (error) {
		fprintf(stderr, "echo_client: %s port %s: %s\n", host, port, gai_strerror(error));
		exit(1);
	}
	for (struct addrinfo *each = found; each && fd < 0; each = each->ai_next) {
		fd = socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, each->ai_addr, each->ai_addrlen) != 0) {
			close(fd);
			fd = -1;
		}
	}
	if (fd < 0)
		die("cannot connect", -errno);
	freeaddrinfo(found);
	return fd;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	struct flexnet_runtime_options options = { .size = sizeof(options), .name = "echo-client" };
	struct flexnet_runtime *runtime;
	struct flexnet_flow *flow;
	const char *host = "127.0.0.1", *port = "7777";
	pthread_t checker;
	int error;

	for (int option; (option = getopt(argc, argv, "h:p:n:s:S:")) != -1;) {
		switch (option) {
		case 'h':
			host = optarg;
			break;
		case 'p':
			port = optarg;
			break;
		case 'n':
			messages = strtoul(optarg, NULL, 10);
			break;
		case 's':
			message_bytes = strtoul(optarg, NULL, 10);
			break;
		case 'S':
			options.socket_path = optarg;
			break;
		default:
			fprintf(stderr,
				"usage: echo_client [-h HOST] [-p PORT] [-n MESSAGES] [-s BYTES] "
				"[-S SCHEDULER_SOCKET]\n");
			return 2;
		}
	}
	int fd = connect_to(host, port);
	error = flexnet_runtime_create(&options, &runtime);
	if (error)
		die("no runtime", error);
	error = flexnet_flow_adopt(runtime, fd, 0, &flow);
	if (error)
		die("no flow", error);

	double start = now();
	if (pthread_create(&checker, NULL, check_replies, &fd) != 0)
		die("no thread", -EAGAIN);
	char *message = buffer();
	for (unsigned long n = 0; n < messages; n++) {
		make(message, n);
		/* Waits when there is no room; flexnet_try_send() would say so. */
		ssize_t sent = flexnet_send(flow, message, message_bytes);
		if (sent < 0)
			die("cannot send", (int)sent);
	}
	error = flexnet_shutdown(flow);
	if (error)
		die("cannot send the last of it", error);
	pthread_join(checker, NULL);
	double seconds = now() - start;

	printf("%lu messages of %zu bytes came back in %.3f s: %.0f a second\n", messages,
	       message_bytes, seconds, (double)messages / seconds);
	free(message);
	flexnet_close(flow);
	flexnet_runtime_destroy(runtime);
	return 0;
}

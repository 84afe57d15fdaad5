/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * echo_server.c - a TCP server that sends back what it gets.
 *
 * One thread receives by epoll; executors send. A reply goes by
 * flexnet_try_send(). What that has no room for goes by flexnet_send_async(),
 * straight from the connection's buffer, and the connection is not read until it
 * is done: a client that does not read its replies is not read from either.
 */
#include <errno.h>
#include <flexnet/flexnet.h>
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES 65536

struct connection {
	struct flexnet_flow *flow;
	int fd;
	struct connection *next, **link; /* in the list of all */
	struct flexnet_completion completion;
	char buffer[BUFFER_BYTES];
};

static struct flexnet_runtime *runtime;
static struct connection *connections;
static int poller;

static void die(const char *what, int error)
{
	fprintf(stderr, "echo_server: %s: %s\n", what, flexnet_strerror(error));
	exit(1);
}

static void die_errno(const char *what)
{
	fprintf(stderr, "echo_server: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Waits for one event; `how` is EPOLL_CTL_ADD or EPOLL_CTL_MOD. */
static void watch(int how, int fd, void *data, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = data };

	if (epoll_ctl(poller, how, fd, &event) != 0)
		die_errno("epoll_ctl");
}

/* On an executor: the rest of a reply is sent, and the connection is read on. If
 * it failed, or the server ends, the next read tells. */
static void reply_is_sent(struct flexnet_completion *completion)
{
	struct connection *connection = completion->data;

	if (completion->result != -ECANCELED)
		watch(EPOLL_CTL_MOD, connection->fd, connection, EPOLLIN | EPOLLONESHOT);
}

static void close_connection(struct connection *connection)
{
	epoll_ctl(poller, EPOLL_CTL_DEL, connection->fd, NULL);
	/* What was accepted is sent first; then the descriptor is closed. */
	flexnet_close(connection->flow);
	*connection->link = connection->next;
	if (connection->next)
		connection->next->link = connection->link;
	free(connection);
}

/* Sends back `length` bytes of the buffer; false: the client is gone. */
static bool reply(struct connection *connection, size_t length)
{
	size_t sent = 0;

	while (sent < length) {
		ssize_t accepted = flexnet_try_send(connection->flow, connection->buffer + sent,
						    length - sent);
		if (accepted < 0 && accepted != -EAGAIN)
			return false;
		if (accepted < 0) {
			int error = flexnet_send_async(connection->flow, connection->buffer + sent,
						       length - sent, &connection->completion);
			if (!error)
				return true; /* read on when it is done */
			if (error != -EAGAIN && error != -ENOBUFS)
				return false;
			/* No room even for that, for a moment: wait for it. */
			accepted = flexnet_send(connection->flow, connection->buffer + sent,
						length - sent);
			if (accepted < 0)
				return false;
		}
		sent += (size_t)accepted;
	}
	watch(EPOLL_CTL_MOD, connection->fd, connection, EPOLLIN | EPOLLONESHOT);
	return true;
}

static void serve(struct connection *connection)
{
	ssize_t length = recv(connection->fd, connection->buffer, BUFFER_BYTES, MSG_DONTWAIT);

	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		watch(EPOLL_CTL_MOD, connection->fd, connection, EPOLLIN | EPOLLONESHOT);
	else if (length <= 0 || !reply(connection, (size_t)length))
		close_connection(connection);
}

static void accept_one(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct connection *connection;

	if (fd < 0)
		return; /* gone again, or no descriptors: the next one may do better */
	connection = calloc(1, sizeof(*connection));
	if (!connection) {
		close(fd);
		return;
	}
	int error = flexnet_flow_adopt(runtime, fd, 0, &connection->flow);
	if (error) {
		fprintf(stderr, "echo_server: a connection: %s\n", flexnet_strerror(error));
		close(fd); /* still ours */
		free(connection);
		return;
	}
	connection->fd = fd;
	connection->completion.size = sizeof(connection->completion);
	connection->completion.callback = reply_is_sent;
	connection->completion.data = connection;
	connection->next = connections;
	connection->link = &connections;
	if (connections)
		connections->link = &connection->next;
	connections = connection;
	watch(EPOLL_CTL_ADD, fd, connection, EPOLLIN | EPOLLONESHOT);
}

static int listen_on(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *found;
	int one = 1, fd, error = getaddrinfo(host, port, &hints, &found);

	if (error) {
		fprintf(stderr, "echo_server: %s port %s: %s\n", host, port, gai_strerror(error));
		exit(1);
	}
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
	    bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 128) != 0)
		die_errno("cannot listen");
	freeaddrinfo(found);
	return fd;
}

/* With the port the kernel chose, for `-p 0`. */
static void say_where(int listener)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char host[64], port[16];

	if (getsockname(listener, (struct sockaddr *)&address, &length) != 0 ||
	    getnameinfo((struct sockaddr *)&address, length, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		die_errno("cannot tell where it listens");
	printf("listens on %s port %s\n", host, port);
	fflush(stdout);
}

/* Executors take no signals but those of their own faults; this takes the two that end the server. */
static int end_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
		die_errno("pthread_sigmask");
	int fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fd < 0)
		die_errno("signalfd");
	return fd;
}

static void run(int listener, int signals)
{
	struct epoll_event events[64];

	watch(EPOLL_CTL_ADD, listener, &listener, EPOLLIN);
	watch(EPOLL_CTL_ADD, signals, &signals, EPOLLIN);
	for (;;) {
		int count = epoll_wait(poller, events, 64, -1);

		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr == &signals)
				return;
			if (events[i].data.ptr == &listener)
				accept_one(listener);
			else
				serve(events[i].data.ptr);
		}
	}
}

int main(int argc, char **argv)
{
	struct flexnet_runtime_options options = { .size = sizeof(options), .name = "echo" };
	const char *host = "127.0.0.1", *port = "7777";

	for (int option; (option = getopt(argc, argv, "h:p:e:lS:")) != -1;) {
		switch (option) {
		case 'h':
			host = optarg;
			break;
		case 'p':
			port = optarg;
			break;
		case 'e':
			options.executors = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'l':
			options.flow_class = FLEXNET_FLOW_LATENCY;
			break;
		case 'S':
			options.socket_path = optarg;
			break;
		default:
			fprintf(stderr, "usage: echo_server [-h HOST] [-p PORT] [-e EXECUTORS] "
					"[-l] [-S SCHEDULER_SOCKET]\n");
			return 2;
		}
	}
	int signals = end_signals();
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (poller < 0)
		die_errno("epoll_create1");
	int error = flexnet_runtime_create(&options, &runtime);
	if (error)
		die("no runtime", error);
	/* This thread only receives: with a scheduler, ahead of ordinary ones. */
	if (options.flow_class == FLEXNET_FLOW_LATENCY)
		flexnet_set_class(options.socket_path, FLEXNET_CLASS_LATENCY);

	int listener = listen_on(host, port);
	say_where(listener);
	run(listener, signals);

	/* Callbacks may come until the runtime has ended: free only then. */
	for (struct connection *each = connections; each; each = each->next)
		flexnet_close(each->flow);
	int given_up = flexnet_runtime_destroy(runtime);
	if (given_up)
		fprintf(stderr, "echo_server: %d clients did not take their replies\n", given_up);
	while (connections) {
		struct connection *next = connections->next;

		free(connections);
		connections = next;
	}
	close(listener);
	close(signals);
	close(poller);
	return 0;
}

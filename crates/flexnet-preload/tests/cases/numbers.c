// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// What a descriptor's number stands for. A socket that is closed with a rest raises no
// events any more, however the epoll set came about; and _Fork(), which runs no
// handlers, leaves parent and child in the order of their calls.
#include "case.h"
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

static char room[1 << 16];

static void no_events(int events)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP };
	struct linger now = { 1, 0 };
	int pair[2];

	connection(pair, 16384, 16384);
	CHECK(epoll_ctl(events, EPOLL_CTL_ADD, pair[0], &event) == 0);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	while (write(pair[0], room, 900) > 0)
		;
	close(pair[0]);
	CHECK(read(pair[1], room, 5000) > 0);
	setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(pair[1]);
	CHECK(epoll_wait(events, &event, 1, 100) == 0, "events %x", event.events);
}

static void wait_for(pid_t child)
{
	int status;

	CHECK(waitpid(child, &status, 0) == child && status == 0, "%x", status);
}

static void inherited(void)
{
	int events = epoll_create1(0);
	pid_t child = fork();

	if (child == 0) {
		no_events(events);
		_exit(0);
	}
	wait_for(child);
	close(events);
}

static void in_turns(void)
{
	int pair[2];

	for (int round = 0; round < 200; round++) {
		pid_t child;

		connection(pair, 0, 0);
		for (int i = 0; i < 20; i++)
			CHECK(write(pair[0], "p", 1) == 1);
		child = _Fork();
		if (child == 0) {
			ssize_t n = write(pair[0], "c", 1);
			_exit(n != 1);
		}
		wait_for(child);
		CHECK(write(pair[0], "p", 1) == 1);
		CHECK(recv(pair[1], room, 22, MSG_WAITALL) == 22);
		CHECK(memcmp(room, "ppppppppppppppppppppcp", 22) == 0, "%.22s", room);
		close(pair[0]);
		close(pair[1]);
	}
}

int main(void)
{
	no_events(epoll_create1(0));
	no_events(syscall(SYS_epoll_create1, 0));
	inherited();
	in_turns();
	return 0;
}

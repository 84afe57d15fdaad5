// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// What another library's destructor sends arrives, as all does that was sent before.
#include "case.h"
#include <dlfcn.h>

static void one(const char *library, long records)
{
	char room[4096];
	long got = 0, expected = records * 6 + 800;
	ssize_t n;
	pid_t child;

	int listener = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof at;
	CHECK(bind(listener, (void *)&at, length) == 0 && listen(listener, 1) == 0);
	getsockname(listener, (void *)&at, &length);
	child = fork();
	if (child == 0) {
		void *opened = dlopen(library, RTLD_NOW);
		int *fd = opened ? dlsym(opened, "goodbye_fd") : NULL;
		CHECK(fd != NULL, "%s", dlerror());
		*fd = socket(AF_INET, SOCK_STREAM, 0);
		CHECK(connect(*fd, (void *)&at, length) == 0);
		for (long i = 0; i < records; i++)
			CHECK(write(*fd, "hello\n", 6) == 6);
		exit(0);
	}
	int fd = accept(listener, NULL, NULL);
	close(listener);
	while ((n = read(fd, room, sizeof room)) > 0)
		got += n;
	CHECK(n == 0 && got == expected, "%ld of %ld", got, expected);
	close(fd);
	waitpid(child, NULL, 0);
}

int main(int count, char **arguments)
{
	CHECK(count == 2, "usage: goodbye LIBRARY");
	for (int i = 0; i < 20; i++)
		one(arguments[1], 1);
	for (int i = 0; i < 5; i++)
		one(arguments[1], 100000);
	return 0;
}

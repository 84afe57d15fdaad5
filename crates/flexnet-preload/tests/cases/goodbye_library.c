// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// A library that says goodbye in its destructor, as loggers and clients do.
#include <unistd.h>

int goodbye_fd = -1;

__attribute__((destructor)) static void goodbye(void)
{
	for (int i = 0; goodbye_fd >= 0 && i < 100; i++)
		if (write(goodbye_fd, "goodbye\n", 8) != 8)
			break;
}

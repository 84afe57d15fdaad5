/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What tables expect: a row that does not hold is printed, and counted. */
#ifndef EXPECT_H
#define EXPECT_H

#include <stdio.h>

static int failures;

#define EXPECT(condition, ...)                                          \
	do {                                                            \
		if (!(condition)) {                                     \
			fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
			fprintf(stderr, __VA_ARGS__);                   \
			fprintf(stderr, " (%s)\n", #condition);         \
			failures++;                                     \
		}                                                       \
	} while (0)

#endif /* EXPECT_H */

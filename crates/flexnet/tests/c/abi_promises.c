/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What abi.h promises of the shared page, asserted at compile time by ci/steps/abi, as C11 and
 * as C++17.
 */
#include <flexnet/abi.h>
#include <stddef.h>

#ifdef __cplusplus
#define ASSERT(condition) static_assert(condition, #condition)
#define ALIGN_OF(type) alignof(type)
#else
#define ASSERT(condition) _Static_assert(condition, #condition)
#define ALIGN_OF(type) _Alignof(type)
#endif

ASSERT(FLEXNET_PAGE_BYTES == 16384);
ASSERT(sizeof(struct flexnet_page) == FLEXNET_PAGE_BYTES);
ASSERT((FLEXNET_STAMPS & (FLEXNET_STAMPS - 1)) == 0);
ASSERT((FLEXNET_STAMP_EVERY & (FLEXNET_STAMP_EVERY - 1)) == 0);

/* Each kind of writer has lines of its own. */
#define ASSERT_LINES(type)                            \
	ASSERT(ALIGN_OF(type) == FLEXNET_LINE_BYTES); \
	ASSERT(sizeof(type) % FLEXNET_LINE_BYTES == 0)
#define ASSERT_LINE(type)                             \
	ASSERT(ALIGN_OF(type) == FLEXNET_LINE_BYTES); \
	ASSERT(sizeof(type) == FLEXNET_LINE_BYTES)
#define ASSERT_STARTS_LINE(type, field) ASSERT(offsetof(type, field) % FLEXNET_LINE_BYTES == 0)

ASSERT_LINE(struct flexnet_page_header);
ASSERT_LINE(struct flexnet_page_client);
ASSERT_LINE(struct flexnet_page_grant);
ASSERT_LINES(struct flexnet_page_design);
ASSERT_LINE(struct flexnet_executor_foreign);
ASSERT_LINE(struct flexnet_executor_own);
ASSERT_LINE(struct flexnet_executor_sched);
ASSERT_LINES(struct flexnet_executor);
ASSERT_LINES(struct flexnet_page);
ASSERT_STARTS_LINE(struct flexnet_executor, foreign);
ASSERT_STARTS_LINE(struct flexnet_executor, own);
ASSERT_STARTS_LINE(struct flexnet_executor, sched);
ASSERT_STARTS_LINE(struct flexnet_executor, stamps);
ASSERT_STARTS_LINE(struct flexnet_page, header);
ASSERT_STARTS_LINE(struct flexnet_page, client);
ASSERT_STARTS_LINE(struct flexnet_page, grant);
ASSERT_STARTS_LINE(struct flexnet_page, design);
ASSERT_STARTS_LINE(struct flexnet_page, executors);

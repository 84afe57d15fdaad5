/* SPDX-License-Identifier: GPL-2.0-only */
/* Answers its parameter, whatever the round. */
#include <flexnet/core_rule.h>

FLEXNET_CORE_RULE(round)
{
	return round->parameters[0];
}

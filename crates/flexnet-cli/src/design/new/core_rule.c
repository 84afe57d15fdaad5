/* SPDX-License-Identifier: GPL-2.0-only */
/* The core rule: how many cores the executors shall have. It is asked once a round.
 * flexnet/core_rule.h says what a round has. Integers only: the kernel has no floating point. */
#include <flexnet/core_rule.h>

FLEXNET_CORE_RULE(round)
{
	flexnet_u64 patience_ns = round->parameters[0] * 1000;

	/* How often the rule was asked: `kept` stays from round to round. */
	round->kept[0]++;
	if (round->delay_ns > patience_ns && round->runnable > round->granted)
		return round->granted + 1;
	/* Calm for the idle delay, and one core less would carry the load at 85%. */
	if (round->granted > 1 && round->calm_since_ns &&
	    round->now_ns - round->calm_since_ns >= round->idle_delay_ns &&
	    round->average <= (round->granted - 1) * FLEXNET_UTILISATION_MAX)
		return round->granted - 1;
	return round->granted;
}

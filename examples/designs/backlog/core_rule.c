/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * core_rule.c - cores by queued work: one core for every so many queued messages.
 *
 * It grows to what the queue asks for at once, and gives back one core after enough calm rounds.
 */
#include <flexnet/core_rule.h>

FLEXNET_CORE_RULE(round)
{
	flexnet_u64 messages = round->parameters[0], calm = round->parameters[1];
	flexnet_u64 wanted = messages ? (round->depth + messages - 1) / messages : 0;

	/* More cores than executors with work would idle. */
	if (wanted > round->runnable)
		wanted = round->runnable;
	if (wanted >= round->granted) {
		round->kept[0] = 0;
		return wanted;
	}
	if (++round->kept[0] < calm)
		return round->granted;
	round->kept[0] = 0;
	return round->granted - 1;
}

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * designs.bpf.h - switching the design while it runs.
 *
 * A switch is one copy under the arbiter's lock: a round sees all of one design
 * or all of the other. Nothing is drained, no core is given back for it: the
 * next round decides by the new rule from where the old one stood, which
 * designs.h promises is good for any two. What designs decide is designs.h's.
 */
#ifndef FLEXNET_DESIGNS_BPF_H
#define FLEXNET_DESIGNS_BPF_H

SEC("syscall")
int switch_design(struct flexnet_design_switch *argument)
{
	u32 i;

	if (!arbiter_try_lock())
		return -EAGAIN;
	design.params.design = argument->params.design;
	design.params.workers = argument->params.workers;
	design.params.high_percent = argument->params.high_percent;
	design.params.low_percent = argument->params.low_percent;
	design.params.high_ns = argument->params.high_ns;
	design.params.low_ns = argument->params.low_ns;
	design.params.runtime_ns = argument->params.runtime_ns;
	design.params.period_ns = argument->params.period_ns;
	design.quantum_ns = argument->quantum_ns;
	design.loaded = argument->loaded;
	arbiter.rule_rounds = 0;
	arbiter.rule_refused = 0;
	/* The verifier wants constant places in the argument. */
#pragma unroll
	for (i = 0; i < FLEXNET_RULE_PARAMETERS; i++)
		rule_round.parameters[i] = argument->parameters[i];
	__builtin_memset(rule_round.kept, 0, sizeof(rule_round.kept));
	arbiter_unlock();
	/* Cores held by the old rule may be too many by the new one. */
	if (arbiter.granted)
		timer_arm();
	return 0;
}

/* One round by the argument's numbers, for the test that the host decides alike;
 * no state of the scheduler is touched. */
SEC("syscall")
int decide(struct flexnet_design_case *argument)
{
	struct flexnet_design_params params = argument->params;
	struct flexnet_arbiter_sample sample = argument->sample;
	struct flexnet_arbiter_memory memory = argument->memory;
	struct flexnet_arbiter_decision decision = {};

	design_round(&params, &sample, &memory, &decision);
	argument->memory = memory;
	argument->decision = decision;
	return 0;
}

#endif /* FLEXNET_DESIGNS_BPF_H */

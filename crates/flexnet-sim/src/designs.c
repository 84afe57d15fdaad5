/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* include/flexnet/designs.h for the host: functions with a symbol. Declared in
 * arbiter.rs and loaded.rs. */
#include <flexnet/core_rule.h>
#include <flexnet/designs.h>

void flexnet_sim_round(const struct flexnet_design_params *params,
		       const struct flexnet_arbiter_sample *sample,
		       struct flexnet_arbiter_memory *memory,
		       struct flexnet_arbiter_decision *decision);
flexnet_u64 flexnet_sim_next_round(const struct flexnet_arbiter_params *params,
				   const struct flexnet_arbiter_memory *memory);
flexnet_u32 flexnet_sim_core_claim(flexnet_u32 cores, flexnet_u32 guaranteed, flexnet_u32 cores_max,
				   flexnet_u32 congested);
flexnet_u32 flexnet_sim_cores_above_guarantee(flexnet_u32 cores, flexnet_u32 guaranteed);
int flexnet_sim_is_eager(const struct flexnet_design_params *params);
flexnet_u64 flexnet_sim_size_of(flexnet_u32 which);
int flexnet_sim_loaded_round(int (*rule)(struct flexnet_rule_round *round),
			     struct flexnet_rule_round *round,
			     const struct flexnet_design_params *params,
			     const struct flexnet_arbiter_sample *sample,
			     struct flexnet_arbiter_memory *memory,
			     struct flexnet_arbiter_decision *decision);
flexnet_u64 flexnet_sim_rule_bytes(void);

void flexnet_sim_round(const struct flexnet_design_params *params,
		       const struct flexnet_arbiter_sample *sample,
		       struct flexnet_arbiter_memory *memory,
		       struct flexnet_arbiter_decision *decision)
{
	flexnet_design_round(params, sample, memory, decision);
}

flexnet_u64 flexnet_sim_next_round(const struct flexnet_arbiter_params *params,
				   const struct flexnet_arbiter_memory *memory)
{
	return flexnet_next_round(params, memory);
}

flexnet_u32 flexnet_sim_core_claim(flexnet_u32 cores, flexnet_u32 guaranteed, flexnet_u32 cores_max,
				   flexnet_u32 congested)
{
	return flexnet_core_claim(cores, guaranteed, cores_max, congested);
}

flexnet_u32 flexnet_sim_cores_above_guarantee(flexnet_u32 cores, flexnet_u32 guaranteed)
{
	return flexnet_cores_above_guarantee(cores, guaranteed);
}

int flexnet_sim_is_eager(const struct flexnet_design_params *params)
{
	return flexnet_design_is_eager(params);
}

int flexnet_sim_loaded_round(int (*rule)(struct flexnet_rule_round *round),
			     struct flexnet_rule_round *round,
			     const struct flexnet_design_params *params,
			     const struct flexnet_arbiter_sample *sample,
			     struct flexnet_arbiter_memory *memory,
			     struct flexnet_arbiter_decision *decision)
{
	flexnet_u64 before_ns = memory->round_ns;
	flexnet_s32 last = flexnet_last_direction(&params->arbiter, sample, memory);

	flexnet_design_round(params, sample, memory, decision);
	flexnet_rule_sees(round, &params->arbiter, sample, memory, before_ns);
	return flexnet_rule_decides(rule(round), last, &params->arbiter, sample, memory, decision);
}

flexnet_u64 flexnet_sim_rule_bytes(void)
{
	return sizeof(struct flexnet_rule_round);
}

/* Sizes, for arbiter.rs to check its mirrors by. */
flexnet_u64 flexnet_sim_size_of(flexnet_u32 which)
{
	switch (which) {
	case 0:
		return sizeof(struct flexnet_arbiter_params);
	case 1:
		return sizeof(struct flexnet_design_params);
	case 2:
		return sizeof(struct flexnet_arbiter_sample);
	case 3:
		return sizeof(struct flexnet_arbiter_memory);
	case 4:
		return sizeof(struct flexnet_arbiter_decision);
	default:
		return 0;
	}
}

/* SPDX-License-Identifier: GPL-2.0-only */
/* bpf/rule.h for the host: functions with a symbol, for the tables of glob.rs and
 * table.rs. */
#include "../../bpf/intf.h"

u32 flexnet_host_glob(const struct flexnet_glob *glob, const char *text, u32 bytes);
u32 flexnet_host_path_start(const struct flexnet_rule *rule);
u32 flexnet_host_path_step(const struct flexnet_rule *rule, u32 came, u32 takers);
u32 flexnet_host_path_matches(const struct flexnet_rule *rule, u32 came);
u32 flexnet_host_settled_class(u32 asked, u32 ruled, u32 inherited, u32 otherwise);

u32 flexnet_host_glob(const struct flexnet_glob *glob, const char *text, u32 bytes)
{
	return flexnet_glob_matches(glob, text, bytes);
}

u32 flexnet_host_path_start(const struct flexnet_rule *rule)
{
	return flexnet_path_start(rule);
}

u32 flexnet_host_path_step(const struct flexnet_rule *rule, u32 came, u32 takers)
{
	return flexnet_path_step(rule, came, takers);
}

u32 flexnet_host_path_matches(const struct flexnet_rule *rule, u32 came)
{
	return flexnet_path_matches(rule, came);
}

u32 flexnet_host_settled_class(u32 asked, u32 ruled, u32 inherited, u32 otherwise)
{
	return flexnet_settled_class(asked, ruled, inherited, otherwise);
}

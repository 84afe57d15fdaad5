/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which clients' pages live: the kernel's maps of a page's shape, by their
 * number, for the daemon to count a user's. Asking for a map by its number
 * would take CAP_SYS_ADMIN; reading an iterator takes what loading the
 * scheduler does.
 */
#pragma once

SEC("iter/bpf_map")
int living_pages(struct bpf_iter__bpf_map *ctx)
{
	struct bpf_map *map = ctx->map;
	u32 id;

	/* The end of the walk. */
	if (!map)
		return 0;
	if (map->value_size != FLEXNET_PAGE_BYTES || map->max_entries != 1)
		return 0;
	id = map->id;
	bpf_seq_write(ctx->meta->seq, &id, sizeof(id));
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * claims.bpf.h - which application has which granted cores, in designs in which applications claim
 * cores one by one (Shenango).
 *
 * A congested application below its guarantee may take a core of an application that is above its
 * own guarantee. A congested application above its guarantee gets only free cores. A core with
 * nothing to do is free again at once. An application without a core runs its executors as latency
 * tasks, or as normal tasks if they have throughput flows: it goes on, but not ahead of others. In
 * the other designs all applications share all granted cores by weight, and this file does nothing.
 *
 * What it promises: within a round, the applications hold no more cores than are granted. What it
 * leaves to others: how many cores are granted, and the arithmetic of a claim (designs.h).
 */
#ifndef FLEXNET_CLAIMS_BPF_H
#define FLEXNET_CLAIMS_BPF_H

/* The application with the most cores above its guarantee, for the loop below. In memory, since the
 * verifier follows every value that a register can have through the loop. */
static u32 most_above_guarantee, most_above_guarantee_client;

/* Are the executors of this client ahead of ordinary tasks? */
static __always_inline bool holds_core(u32 id)
{
	struct flexnet_client_state *client = client_of(id);

	return !flexnet_design_claims(&design.params) || !client || READ_ONCE(client->cores);
}

/* And this one? Not where the operator bounds its client's cores, and it goes on
 * although it was asked to park. */
static __always_inline bool is_ahead(struct task_ctx *tctx)
{
	struct flexnet_client_state *client = client_of(tctx->client);
	struct executor_ctx *ectx = executor_ctx_of(executor_index(tctx));

	return holds_core(tctx->client) &&
	       !(client && client->max_cores && ectx && READ_ONCE(ectx->park_asked));
}

/* Cores that all clients hold. */
__noinline u32 cores_held(void)
{
	struct flexnet_client_state *client;
	u32 id, held = 0;

	bpf_for(id, 0, FLEXNET_CLIENTS_MAX) {
		client = client_of(id);
		if (client && (client->generation & 1))
			held += client->cores;
	}
	return held;
}

/* Takes a core of the client with the most cores above its guarantee; 0: there is none. */
__noinline int revoke_core(void)
{
	struct flexnet_client_state *client;
	u32 id, above;

	most_above_guarantee = 0;
	bpf_for(id, 0, FLEXNET_CLIENTS_MAX) {
		client = client_of(id);
		if (!client || !(client->generation & 1))
			continue;
		above = flexnet_cores_above_guarantee(client->cores, client->guaranteed);
		if (above > most_above_guarantee) {
			most_above_guarantee = above;
			most_above_guarantee_client = id;
		}
	}
	client = client_of(most_above_guarantee_client);
	if (!most_above_guarantee || !client || !client->cores)
		return 0;
	client->cores--;
	return 1;
}

/* What this client holds after a look at it: it has `runnable` executors with
 * work, the oldest of which is `delay_ns` old. Called with the arbiter locked. */
__noinline int claim_cores(u32 id, u32 runnable, u64 delay_ns)
{
	struct flexnet_client_state *client = client_of(id);
	struct flexnet_page *page = page_of(id);
	u32 congested, free, held, most;

	if (!client || !page)
		return 0;
	most = client_max_cores(client, page);
	if (most > settings.net_cores_max)
		most = settings.net_cores_max;
	if (client->cores > runnable)
		client->cores = runnable;
	if (client->cores > most)
		client->cores = most;
	/* An item that was there a round ago still is. */
	congested =
		runnable > client->cores && (!client->cores || delay_ns >= settings.interval_ns);
	held = cores_held();
	free = arbiter.granted > held ? arbiter.granted - held : 0;
	switch (flexnet_core_claim(client->cores, client->guaranteed, most, congested)) {
	case FLEXNET_CLAIM_REVOKE:
		if (free || revoke_core())
			client->cores++;
		break;
	case FLEXNET_CLAIM_IDLE:
		if (free)
			client->cores++;
		break;
	}
	return 0;
}

/* Fewer cores are granted than clients hold: clients above their guarantee give way. The sum of all
 * guarantees is at most net_cores_max, which may be more than are granted now. Clients then share
 * the cores that are left. */
__noinline int settle_claims(void)
{
	u32 i;

	bpf_for(i, 0, FLEXNET_EXECUTORS_MAX)
		if (cores_held() <= arbiter.granted || !revoke_core())
			break;
	return 0;
}

#endif /* FLEXNET_CLAIMS_BPF_H */

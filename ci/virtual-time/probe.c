// SPDX-License-Identifier: GPL-2.0-only
/* How well do virtual CPUs advance together? It measures in the guest's time.
 *
 *   probe [SECONDS [NAME]]    a line for each measure whose name has NAME in it
 *
 *   speed    million instructions a second of one CPU: alone, and beside busy CPUs
 *   skew     two CPUs that spin pass a number to and fro: the time there and back
 *   futex    two threads on two CPUs wake each other: a wakeup and back
 *   timer    a real-time thread sleeps until each next millisecond: how late it is
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What a speed's samples are, and instructions of one: a millisecond at 125 MIPS. */
enum { SPEEDS = 40, SPEED_INSNS = 125000, CPUS_MAX = 64 };

static long cpus;
static const char *wanted;
static atomic_int stop, busy, number;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool is_wanted(const char *name)
{
	return !wanted || strstr(name, wanted);
}

static void pin(long cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)(cpu % cpus), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static double us(const uint64_t *sorted, size_t at)
{
	return (double)sorted[at] / 1e3;
}

static void print_times(const char *name, uint64_t *ns, size_t n)
{
	qsort(ns, n, sizeof(*ns), by_size);
	printf("%-22s n %6zu  P50 %8.1f  P99 %8.1f  P99.9 %8.1f  max %8.1f us\n", name, n,
	       us(ns, n / 2), us(ns, n * 99 / 100), us(ns, n * 999 / 1000), us(ns, n - 1));
	fflush(stdout);
}

static void *be_busy(void *cpu)
{
	volatile uint64_t work = 0;

	pin((long)cpu);
	atomic_fetch_add(&busy, 1);
	while (!atomic_load_explicit(&stop, memory_order_relaxed))
		work++;
	return NULL;
}

/* The CPUs from that number on are busy. */
static void begin_busy(pthread_t *threads, long first)
{
	atomic_store(&stop, 0);
	atomic_store(&busy, 0);
	for (long i = first; i < cpus; i++)
		pthread_create(&threads[i], NULL, be_busy, (void *)i);
	while (atomic_load(&busy) < cpus - first)
		sched_yield();
}

static void end_busy(pthread_t *threads, long first)
{
	atomic_store(&stop, 1);
	for (long i = first; i < cpus; i++)
		pthread_join(threads[i], NULL);
}

static void spin(uint64_t instructions)
{
	uint64_t left = instructions / 2;

	__asm__ volatile("1: dec %0; jnz 1b" : "+r"(left) : : "cc");
}

static void measure_speed(const char *name, long cpu)
{
	uint64_t ns[SPEEDS], start;

	if (!is_wanted(name))
		return;
	pin(cpu);
	for (int i = 0; i < SPEEDS; i++) {
		start = now();
		spin(SPEED_INSNS);
		ns[i] = now() - start;
	}
	qsort(ns, SPEEDS, sizeof(*ns), by_size);
	printf("%-22s cpu %ld: MIPS min %.1f median %.1f max %.1f\n", name, cpu,
	       SPEED_INSNS / us(ns, SPEEDS - 1), SPEED_INSNS / us(ns, SPEEDS / 2),
	       SPEED_INSNS / us(ns, 0));
	fflush(stdout);
}

struct pair {
	long cpu[2];
	bool futex; /* they sleep instead of spinning */
	size_t rounds;
	uint64_t *ns;
};

static void await(const struct pair *pair, int mine)
{
	while (atomic_load_explicit(&number, memory_order_acquire) != mine)
		if (pair->futex)
			syscall(SYS_futex, &number, FUTEX_WAIT_PRIVATE, 1 - mine, NULL, NULL, 0);
}

static void give(const struct pair *pair, int other)
{
	atomic_store_explicit(&number, other, memory_order_release);
	if (pair->futex)
		syscall(SYS_futex, &number, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *second(void *arg)
{
	const struct pair *pair = arg;

	pin(pair->cpu[1]);
	for (size_t i = 0; i <= pair->rounds; i++) {
		await(pair, 1);
		give(pair, 0);
	}
	return NULL;
}

static void measure_pair(const char *name, struct pair *pair)
{
	pthread_t thread;

	if (!is_wanted(name))
		return;
	pin(pair->cpu[0]);
	atomic_store(&number, 0);
	pthread_create(&thread, NULL, second, pair);
	/* The first round is the second thread's start, and is written over. */
	for (size_t i = 0; i <= pair->rounds; i++) {
		uint64_t start = now();

		give(pair, 1);
		await(pair, 0);
		pair->ns[i ? i - 1 : 0] = now() - start;
	}
	pthread_join(thread, NULL);
	print_times(name, pair->ns, pair->rounds);
}

static void measure_timer(const char *name, uint64_t *ns, size_t n)
{
	struct sched_param fifo = { .sched_priority = 10 }, normal = { 0 };
	struct timespec t;
	uint64_t next;

	if (!is_wanted(name))
		return;
	pin(0);
	sched_setscheduler(0, SCHED_FIFO, &fifo);
	next = now() + 1000000;
	for (size_t i = 0; i < n; i++, next += 1000000) {
		t.tv_sec = (time_t)(next / 1000000000);
		t.tv_nsec = (long)(next % 1000000000);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		ns[i] = now() - next;
	}
	sched_setscheduler(0, SCHED_OTHER, &normal);
	print_times(name, ns, n);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 1;
	size_t n = seconds > 0.001 ? (size_t)(seconds * 1000) : 1;
	uint64_t *ns = calloc(n, sizeof(*ns));
	pthread_t threads[CPUS_MAX];

	wanted = argc > 2 ? argv[2] : NULL;
	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	if (!ns || cpus > CPUS_MAX)
		return 1;
	printf("cpus %ld\n", cpus);
	for (long cpu = 0; cpu < cpus; cpu++)
		measure_speed("speed, alone", cpu);
	begin_busy(threads, 1);
	measure_speed("speed, all busy", 0);
	end_busy(threads, 1);
	if (cpus > 1) {
		measure_pair("skew, rest idle", &(struct pair){ { 0, cpus - 1 }, false, n, ns });
		measure_pair("futex, rest idle", &(struct pair){ { 0, cpus - 1 }, true, n, ns });
	}
	if (cpus > 2) {
		begin_busy(threads, 2);
		measure_speed("speed, most busy", 0);
		measure_pair("skew, rest busy", &(struct pair){ { 0, 1 }, false, n, ns });
		measure_pair("futex, rest busy", &(struct pair){ { 0, 1 }, true, n, ns });
		end_busy(threads, 2);
	}
	measure_timer("timer, all idle", ns, n);
	begin_busy(threads, 0);
	measure_timer("timer, all busy", ns, n);
	end_busy(threads, 0);
	free(ns);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A TLB barrier with more vCPUs than cores. */
#include "harness.h"

enum { WAITER, WITHOUT_CORE, BUSY, CPUS };

static _Atomic bool entered[CPUS]; /* code, at least once */
static _Atomic bool back;          /* vCPU BUSY, in code after its answer */
static _Atomic bool begun;         /* the barrier */
static bool gives_way;

static uint64_t answers_of(const struct raddle_cpu *cpu)
{
    return LOAD_RELAXED(cpu->stats.tlb_records);
}

/* Whether it has left its core to others, or does so now. */
static bool is_out_of_the_way(struct raddle_cpu *cpu)
{
    return answers_of(cpu) && (!atomic_load(&cpu->in_code) || LOAD_RELAXED(cpu->stats.tlb_give_ways));
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

/* vCPU WITHOUT_CORE comes to its next block entry only when it gets the core of vCPU BUSY. That one runs on and on; the
 * control's takes no notice of being asked for its core. */
static uint64_t enter_on_one_core(void *env, void *code)
{
    (void)code;
    struct raddle_cpu *self = cpu_of(env), *busy = machine.ctx->cpus[BUSY];
    atomic_store(&entered[header_of(env)->cpu_index], true);
    if (self == busy) {
        if (answers_of(self))
            atomic_store(&back, true);
        while (!atomic_load(&machine.stop) && (!exit_requested(env) || (!gives_way && answers_of(self))))
            nap();
        return 0;
    }
    while (!atomic_load(&machine.stop) && !atomic_load(&begun))
        nap();
    uint64_t start = now_ns(), limit = (gives_way ? 60 : 1) * 1000000000ull;
    while (!atomic_load(&machine.stop) && !is_out_of_the_way(busy)) {
        nap();
        if (now_ns() - start > limit) {
            atomic_fetch_add(&machine.violations, 1);
            return 0;
        }
    }
    return 0;
}

static uint32_t any_value(uint64_t pc)
{
    (void)pc;
    return 1;
}

static void *run_cpu(void *env)
{
    run_until_stop(env, any_value);
    return NULL;
}

/* The waiter sleeps, every vCPU that has answered leaves its core, and all go on once the last one has answered. */
void test_barrier_without_core(bool mechanism)
{
    gives_way = mechanism;
    atomic_store(&begun, false);
    atomic_store(&back, false);
    for (uint32_t i = 0; i < CPUS; i++)
        atomic_store(&entered[i], false);
    machine_make(CPUS, PARALLEL, enter_on_one_core, fill_identity);
    pthread_t threads[CPUS];
    for (uint32_t i = WITHOUT_CORE; i < CPUS; i++)
        threads[i] = start(run_cpu, machine.env[i]);
    for (uint32_t i = WITHOUT_CORE; i < CPUS; i++)
        while (!atomic_load(&entered[i]))
            nap();
    helper(machine.env[WAITER], "tlb_flush_all_cpus", 0, 0, 0);
    while (!atomic_load(&back)) /* if the barrier began earlier, the control might give way in the same request */
        nap();
    atomic_store(&begun, true);
    helper(machine.env[WAITER], "tlb_sync", 0, 0, 0);
    CHECK(answers_of(machine.ctx->cpus[WITHOUT_CORE]) == 1 && answers_of(machine.ctx->cpus[BUSY]) == 1);
    CHECK(LOAD_RELAXED(machine.ctx->cpus[WAITER]->stats.tlb_sync_sleeps) == 1);
    atomic_store(&machine.stop, 1);
    raddle_stop(machine.ctx);
    for (uint32_t i = WITHOUT_CORE; i < CPUS; i++)
        finish(threads[i]);
    CHECK(!atomic_load(&machine.ctx->sync_waiters));
    if (mechanism)
        CHECK(LOAD_RELAXED(machine.ctx->cpus[BUSY]->stats.tlb_give_ways) == 1);
    machine_free();
}

/* -- a guest that spins ----------------------------------------------------------------------------------------- */

static bool spins;
static int rounds;

static uint64_t enter_spinning(void *env, void *code)
{
    (void)code;
    for (int i = 0; i < 1000; i++) {
        cpu_spin(cpu_of(env));
        if (!spins)
            header_of(env)->pc ^= 4;
    }
    header_of(env)->pc = RAM_BASE;
    if (LOAD_RELAXED(cpu_of(env)->stats.spin_yields))
        raddle_stop(machine.ctx);
    else if (!spins && rounds++ == 1000) {
        atomic_fetch_add(&machine.violations, 1);
        raddle_stop(machine.ctx);
    }
    return 0;
}

/* It leaves its core in the end; the control hints at two places in turn, as one that does other work between. */
void test_spinning(bool mechanism)
{
    spins = mechanism;
    rounds = 0;
    machine_make(2, PARALLEL, enter_spinning, fill_identity);
    run_cpu(machine.env[0]);
    machine_free();
}

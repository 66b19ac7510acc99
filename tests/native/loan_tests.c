/* SPDX-License-Identifier: Apache-2.0 */
/* The timers' thread runs vCPUs that sleep (timers.c). */
#include "harness.h"

enum {
    TICKS = 500,
    REQUESTS = 2000,
    PERIOD_NS = 100000,
    LONG_NS = 150000,          /* too long for a loan */
    PATIENCE_NS = 2000000000u, /* after which a loan that does not end counts as one for ever */
};

static struct {
    uint64_t ticks;    /* by whoever runs the vCPU; ThreadSanitizer sees whether their accesses are ordered */
    _Atomic uint64_t shown;
    _Atomic int inside;
    _Atomic uint64_t work;
    int timer;
    pthread_t thread;
} guests[MAX_CPUS];
static void (*step)(void *env, uint32_t index); /* what a block does; it is one instruction */

static uint64_t enter_step(void *env, void *code)
{
    (void)code;
    uint32_t index = header_of(env)->cpu_index;
    if (exit_requested(env))
        return 0;
    CHECK(atomic_fetch_add(&guests[index].inside, 1) == 0);
    step(env, index);
    atomic_fetch_sub(&guests[index].inside, 1);
    return 0;
}

static void set_timer(uint32_t index, uint64_t deadline)
{
    raddle_timer_set(machine.ctx, (uint32_t)guests[index].timer, deadline);
}

static void count_tick(uint32_t index)
{
    atomic_store(&guests[index].shown, ++guests[index].ticks);
}

static uint64_t loans(uint32_t index)
{
    struct raddle_cpu_stats stats;
    raddle_cpu_stats(machine.env[index], &stats);
    return stats.loans;
}

/* A vCPU's own thread. */
static void *run_own(void *env)
{
    uint32_t index = header_of(env)->cpu_index;
    int reason;
    while ((reason = raddle_run(env)) != RADDLE_STOP) {
        CHECK(reason == RADDLE_WORK && pthread_equal(pthread_self(), guests[index].thread));
        CHECK(atomic_load(&guests[index].inside) == 0);
        atomic_fetch_add(&guests[index].work, 1);
    }
    return NULL;
}

static void make(uint32_t ncpus, void (*what)(void *env, uint32_t index))
{
    memset(guests, 0, sizeof guests);
    step = what;
    machine_make(ncpus, PARALLEL, enter_step, fill_identity);
    install_now(RAM_BASE, 0);
    for (uint32_t i = 0; i < ncpus; i++)
        guests[i].timer = raddle_timer_new(machine.ctx, RADDLE_TIMER_INTERRUPT, 1, machine.env[i]);
}

static void run_all(void)
{
    for (uint32_t i = 0; i < machine.ncpus; i++)
        CHECK(pthread_create(&guests[i].thread, NULL, run_own, machine.env[i]) == 0);
}

static void stop_all(void)
{
    raddle_stop(machine.ctx);
    for (uint32_t i = 0; i < machine.ncpus; i++)
        finish(guests[i].thread);
}

/* -- one thread at a time runs a vCPU, and no request is lost --------------------------------------------------- */

static bool short_runs;

/* The vCPU has taken little time, however long the host kept it waiting for a core. */
static void was_short(void *env)
{
    cpu_of(env)->awake_since = now_ns();
}

static void step_ticking(void *env, uint32_t index)
{
    for (uint64_t start = now_ns(); !short_runs && now_ns() - start < LONG_NS;)
        continue;
    count_tick(index);
    set_timer(index, raddle_clock_ns(machine.ctx) + PERIOD_NS);
    if (short_runs)
        was_short(env);
    helper(env, "wfi", 0, 0, 0);
}

static bool all_have_ticked(uint64_t wanted)
{
    for (uint32_t i = 0; i < machine.ncpus; i++)
        if (atomic_load(&guests[i].shown) < wanted)
            return false;
    return true;
}

/* Work is asked for when a loan begins, which is when the timers' thread looks for it. */
static void ask_for_work(uint64_t number)
{
    struct raddle_cpu *cpu = cpu_of(machine.env[number % machine.ncpus]);
    for (uint64_t start = now_ns(); atomic_load(&cpu->sleeping) != LENT && now_ns() - start < 10 * PERIOD_NS;)
        continue;
    for (uint64_t i = 0; i < number % 100; i++)
        atomic_load(&cpu->sleeping);
    for (uint32_t i = 0; i < machine.ncpus; i++)
        raddle_work(machine.env[(number + i) % machine.ncpus]);
    for (uint32_t i = 0; i < machine.ncpus; i++)
        while (atomic_load(&guests[i].work) < number) /* or it hangs, which its caller sees */
            usleep(10);
}

static void exclude_all(void)
{
    raddle_exclusive_begin(machine.ctx);
    for (uint32_t i = 0; i < machine.ncpus; i++)
        CHECK(atomic_load(&guests[i].inside) == 0);
    raddle_exclusive_end(machine.ctx);
}

/* Meanwhile others ask for exclusive sections and for work on the vCPUs' own threads. Control: the vCPUs take too long
 * for a loan, and nobody asks, since a vCPU that is woken for work alone soon sleeps again. */
void test_loans(bool mechanism)
{
    make(4, step_ticking);
    short_runs = mechanism;
    run_all();
    uint64_t asked = 0, lent = 0;
    while (!all_have_ticked(TICKS) || (mechanism && asked < REQUESTS)) {
        if (!mechanism) {
            usleep(1000);
            continue;
        }
        if (asked % 16 == 0)
            exclude_all();
        ask_for_work(++asked);
    }
    for (uint32_t i = 0; i < machine.ncpus; i++)
        lent += loans(i);
    if (!lent)
        atomic_fetch_add(&machine.violations, 1);
    stop_all();
    machine_free();
}

/* -- a loan ends ------------------------------------------------------------------------------------------------ */

static _Atomic uint64_t last_ran; /* when the second vCPU did, in virtual time */
static uint64_t deadline, waits_since;
static _Atomic bool waited, gave_up;

/* Both vCPUs wait for the same deadlines. When the first one is lent, the second one is to be lent after it; but the
 * first one waits for it. */
static void step_waiting(void *env, uint32_t index)
{
    if (index == 1) {
        atomic_store(&last_ran, raddle_clock_ns(machine.ctx));
    } else {
        if (atomic_load(&last_ran) < deadline && (waits_since || is_lent(cpu_of(env)))) {
            if (!waits_since)
                waits_since = now_ns();
            if (now_ns() - waits_since < PATIENCE_NS)
                return;
            atomic_store(&gave_up, true);
        }
        if (waits_since)
            atomic_store(&waited, true);
        waits_since = 0;
        deadline = raddle_clock_ns(machine.ctx) + 2 * PERIOD_NS;
        set_timer(1, deadline);
        set_timer(0, deadline);
    }
    was_short(env);
    helper(env, "wfi", 0, 0, 0);
}

/* Control: nothing ends the lease. Its second vCPU may be awake by itself when the first one waits, so it goes on until
 * the first one has waited in vain. */
void test_a_loan_ends(bool mechanism)
{
    make(2, step_waiting);
    deadline = waits_since = 0;
    atomic_store(&last_ran, 0);
    atomic_store(&waited, false);
    atomic_store(&gave_up, false);
    if (!mechanism)
        machine.ctx->lease.until = NONE;
    run_all();
    while (!atomic_load(mechanism ? &waited : &gave_up)) /* or it hangs, which its caller sees */
        usleep(1000);
    if (atomic_load(&gave_up))
        atomic_fetch_add(&machine.violations, 1);
    stop_all();
    machine_free();
}

/* -- what a loan is likely to need ------------------------------------------------------------------------------ */

enum { LOANS_LEARNT = 1500 }; /* more than from one learning to the next */

static void step_elsewhere(void *env, uint32_t index)
{
    count_tick(index);
    header_of(env)->pc = guests[index].ticks < 300 && guests[index].ticks % 2 ? RAM_BASE + PAGE : RAM_BASE;
    set_timer(index, raddle_clock_ns(machine.ctx) + PERIOD_NS);
    was_short(env);
    helper(env, "wfi", 0, 0, 0);
}

/* The block that only early loans have run is forgotten. Control: nothing is learnt. */
void test_loans_learn(bool mechanism)
{
    make(1, step_elsewhere);
    install_now(RAM_BASE + PAGE, 0);
    struct raddle_cpu *cpu = cpu_of(machine.env[0]);
    if (!mechanism)
        cpu->loans_until_learning = UINT32_MAX;
    run_all();
    while (loans(0) < LOANS_LEARNT) /* or it hangs, which its caller sees */
        usleep(1000);
    stop_all();
    if (cpu->loan_jump_count != 1 || cpu->jumps[cpu->loan_jumps[0]].pc != RAM_BASE)
        atomic_fetch_add(&machine.violations, 1);
    machine_free();
}

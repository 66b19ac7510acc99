/* SPDX-License-Identifier: Apache-2.0 */
/* Turns of vCPUs that share a thread, counted time, and its end. */
#include "harness.h"

static void (*step)(void *env); /* what a block does; it is one instruction */

/* What generated code does at a block's entry, then the step. */
static uint64_t enter_step(void *env, void *code)
{
    (void)code;
    struct raddle_cpu_header *h = header_of(env);
    if (has_flag(machine.ctx, RADDLE_FLAG_ICOUNT)) {
        if (h->icount_left < 1)
            return 0;
        STORE_RELAXED(h->icount_left, h->icount_left - 1);
    }
    if (exit_requested(env))
        icount_refund(cpu_of(env), 1);
    else
        step(env);
    return 0;
}

static uint64_t clock_ns(void)
{
    return raddle_clock_ns(machine.ctx);
}

static void make(uint32_t ncpus, uint32_t flags, void (*what)(void *env))
{
    machine_make(ncpus, flags, enter_step, fill_identity);
    step = what;
    install_now(RAM_BASE, 0);
    CHECK(raddle_turns_begin(machine.ctx) == 0);
}

/* Runs the turns until `over`; `paused`, if any, is done whenever a vCPU is told to stop. */
static _Atomic int over;
static void run_turns(void (*paused)(void *env))
{
    while (!atomic_load(&over)) {
        void *env;
        CHECK(raddle_run_turns(machine.ctx, &env) == RADDLE_STOP);
        if (paused)
            paused(env);
    }
}

static void finish_turns(void)
{
    atomic_store(&over, 1);
    raddle_stop(machine.ctx);
}

/* -- a counted run repeats itself ------------------------------------------------------------------------------- */

enum { GUESTS = 3, STEPS = 200000 };
static uint64_t history, steps, seeds[GUESTS];
static int timers[GUESTS];
static bool turns_go_on, disturbed;

static uint32_t choose(uint32_t index, uint32_t limit)
{
    seeds[index] = seeds[index] * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seeds[index] >> 33) % limit;
}

/* Now and then a vCPU spins, sleeps until its timer fires, or interrupts another one. */
static void step_random(void *env)
{
    uint32_t index = header_of(env)->cpu_index;
    history = (history ^ index ^ clock_ns() << 8) * 0x100000001b3u;
    if (++steps == STEPS) {
        finish_turns();
        return;
    }
    if (disturbed && steps % 89 == 0)
        raddle_stop(machine.ctx);
    switch (choose(index, 2000)) {
    case 0:
        helper(env, "interrupt_set", choose(index, GUESTS), 1, 0);
        break;
    case 1:
        raddle_timer_set(machine.ctx, (uint32_t)timers[index], clock_ns() + choose(index, 5000));
        helper(env, "wfi", 0, 0, 0);
        break;
    default:
        if (choose(index, 1000) == 0)
            helper(env, "yield_", 0, 0, 0);
    }
}

static void go_on(void *env)
{
    if (atomic_load(&over))
        return;
    if (!turns_go_on)
        raddle_icount_set(env, 100); /* as if it were a new turn */
    raddle_go(machine.ctx);
}

static void *kick(void *unused)
{
    for (uint32_t i = 0; !atomic_load(&over); i = (i + 1) % GUESTS) {
        raddle_kick(machine.env[i]);
        raddle_icount(machine.ctx);
        usleep(10);
    }
    return unused;
}

static uint64_t history_of_run(bool with_disturbance)
{
    disturbed = with_disturbance;
    atomic_store(&over, 0);
    make(GUESTS, RADDLE_FLAG_ICOUNT, step_random);
    history = steps = 0;
    for (uint32_t i = 0; i < GUESTS; i++) {
        seeds[i] = i;
        timers[i] = raddle_timer_new(machine.ctx, RADDLE_TIMER_INTERRUPT, 1, machine.env[i]);
    }
    pthread_t thread = start(kick, NULL);
    run_turns(go_on);
    finish(thread);
    machine_free();
    return history;
}

/* Pauses and kicks from outside change nothing. Control: a turn begins anew after a pause. */
void test_counted_turns_repeat(bool mechanism)
{
    turns_go_on = true;
    uint64_t expected = history_of_run(false);
    CHECK(history_of_run(false) == expected);
    turns_go_on = mechanism;
    uint64_t seen = history_of_run(true);
    if (seen != expected)
        atomic_fetch_add(&machine.violations, 1);
}

/* -- time passes when all spin ---------------------------------------------------------------------------------- */

static bool they_say_so;
enum { TURNS_LIMIT = 2000000 }; /* twice what a second takes, by a microsecond for each YIELD */
static uint64_t turns_taken;

static void step_spinning(void *env)
{
    if (clock_ns() >= 1000000000u)
        finish_turns();
    else if (++turns_taken > TURNS_LIMIT) {
        atomic_fetch_add(&machine.violations, 1);
        finish_turns();
    } else if (they_say_so) {
        helper(env, "yield_", 0, 0, 0);
    } else {
        helper(env, "interrupt_set", 1 - header_of(env)->cpu_index, 1, 0); /* ends the turn as well */
    }
}

/* Two that wait for a second of counted time in a loop with a YIELD need not run a second's instructions. */
void test_time_passes_for_spinners(bool mechanism)
{
    atomic_store(&over, 0);
    make(2, RADDLE_FLAG_ICOUNT, step_spinning);
    they_say_so = mechanism;
    turns_taken = 0;
    run_turns(NULL);
    machine_free();
}

/* One works and one spins: time is what instructions take. */
static uint64_t worked;
static void step_working(void *env)
{
    if (header_of(env)->cpu_index)
        helper(env, "yield_", 0, 0, 0);
    else if (++worked == 1000000)
        finish_turns();
}

void test_time_is_counted_while_one_works(bool mechanism)
{
    (void)mechanism;
    atomic_store(&over, 0);
    make(2, RADDLE_FLAG_ICOUNT, step_working);
    worked = 0;
    run_turns(NULL);
    CHECK(clock_ns() == raddle_icount(machine.ctx));
    machine_free();
}

/* -- an interrupt to another one ends the turn ------------------------------------------------------------------ */

static bool by_the_runtime;
static uint64_t asked_in;
static uint32_t asked, answered, last;

/* Another number in each turn, by its end or, with instruction counting, by its beginning. */
static uint64_t this_turn(void)
{
    return atomic_load(&machine.ctx->turns.end) + machine.ctx->turns.began;
}

static void step_asking(void *env)
{
    if (header_of(env)->cpu_index) {
        answered = asked;
        helper(env, "wfi", 0, 0, 0);
        return;
    }
    bool waits = answered != asked;
    if (waits && this_turn() != asked_in) /* on a busy host the other one's turn may be over before it begins */
        return;
    if (waits)
        atomic_fetch_add(&machine.violations, 1);
    if (waits || asked == 200) {
        finish_turns();
        return;
    }
    asked++;
    asked_in = this_turn();
    if (by_the_runtime)
        helper(env, "interrupt_set", 1, 1, 0);
    else
        __atomic_fetch_or(&header_of(machine.env[1])->interrupt_request, 1, __ATOMIC_SEQ_CST);
}

void test_interrupts_end_turns(bool mechanism)
{
    static const uint32_t modes[] = {0, RADDLE_FLAG_ICOUNT};
    for (int i = 0; i < 2; i++) {
        uint64_t before = atomic_load(&machine.violations);
        atomic_store(&over, 0);
        make(2, modes[i], step_asking);
        atomic_store(&machine.violations, before);
        by_the_runtime = mechanism;
        asked = answered = 0;
        run_turns(NULL);
        machine_free();
    }
}

/* Turns after an interrupt are short: 5000 instructions, and 50 000 when all have had two. */
enum { LENGTHS = 8 };
static uint64_t lengths[LENGTHS], length;
static uint32_t turns_seen;

static void step_lengths(void *env)
{
    uint32_t index = header_of(env)->cpu_index;
    if (length && index != last) {
        lengths[turns_seen++] = length;
        length = 0;
        if (turns_seen == LENGTHS) {
            finish_turns();
            return;
        }
    }
    last = index;
    if (!length++ && !turns_seen) {
        if (by_the_runtime)
            helper(env, "interrupt_set", 1, 1, 0);
        else
            __atomic_fetch_or(&header_of(machine.env[1])->interrupt_request, 1, __ATOMIC_SEQ_CST);
    }
}

void test_turns_after_an_interrupt(bool mechanism)
{
    static const uint64_t expected[LENGTHS] = {1, 5000, 5000, 5000, 5000, 50000, 50000, 50000};
    atomic_store(&over, 0);
    make(2, RADDLE_FLAG_ICOUNT, step_lengths);
    by_the_runtime = mechanism;
    length = turns_seen = last = 0;
    run_turns(NULL);
    for (uint32_t i = 0; i < LENGTHS; i++)
        if (lengths[i] != expected[i]) {
            fprintf(stderr, "turn %u has %lu instructions\n", i, (unsigned long)lengths[i]);
            atomic_fetch_add(&machine.violations, 1);
        }
    machine_free();
}

/* -- slices by the host's clock --------------------------------------------------------------------------------- */

static uint64_t changes, steps_of_one;

static void step_endless(void *env)
{
    uint32_t index = header_of(env)->cpu_index;
    if (index != last) {
        last = index;
        steps_of_one = 0;
        if (++changes == 20)
            finish_turns();
    } else if (++steps_of_one == 1000000000u || (!changes && atomic_load(&machine.ctx->clock_stopped) &&
                                                 steps_of_one == 10000000u)) {
        atomic_fetch_add(&machine.violations, 1);
        finish_turns();
    }
}

/* Those that never give up a turn lose it. Control: the clock stands. */
void test_slices(bool mechanism)
{
    atomic_store(&over, 0);
    make(3, 0, step_endless);
    changes = steps_of_one = last = 0;
    if (!mechanism)
        raddle_clock_stop(machine.ctx);
    run_turns(NULL);
    machine_free();
}

/* -- nobody can run --------------------------------------------------------------------------------------------- */

static _Atomic uint64_t woken;
static bool waking;

static void step_sleeping(void *env)
{
    if (atomic_fetch_add(&woken, 1) == 2000)
        finish_turns();
    else
        helper(env, "wfi", 0, 0, 0);
}

static void *wake_them(void *unused)
{
    uint64_t seen = 0, since = now_ns();
    for (uint32_t i = 0; !atomic_load(&over); i++) {
        if (waking)
            raddle_interrupt_set(machine.env[i % 2], 1);
        else
            __atomic_fetch_or(&header_of(machine.env[i % 2])->interrupt_request, 1, __ATOMIC_SEQ_CST);
        for (; atomic_load(&woken) == seen && !atomic_load(&over); usleep(10))
            if (now_ns() - since > (waking ? 60 : 1) * 1000000000ull) {
                atomic_fetch_add(&machine.violations, 1);
                finish_turns();
            }
        seen = atomic_load(&woken);
        since = now_ns();
    }
    return unused;
}

/* An interrupt from another thread ends the sleep of all. Control: it does not say so. */
void test_turns_wake(bool mechanism)
{
    atomic_store(&over, 0);
    make(2, 0, step_sleeping);
    atomic_store(&woken, 0);
    waking = mechanism;
    pthread_t thread = start(wake_them, NULL);
    run_turns(NULL);
    finish(thread);
    CHECK(!mechanism || machine.ctx->turns.idle_ns);
    machine_free();
}

/* -- the end of time -------------------------------------------------------------------------------------------- */

void test_end_of_time(bool mechanism)
{
    (void)mechanism;
    machine_make(1, RADDLE_FLAG_ICOUNT, enter_step, fill_identity);
    raddle_icount_shift(machine.ctx, 10);
    uint32_t timer = (uint32_t)raddle_timer_new(machine.ctx, RADDLE_TIMER_INTERRUPT, 1, machine.env[0]);
    for (uint64_t before = 0; before < 3000; before += 500) {
        raddle_timer_set(machine.ctx, timer, RADDLE_END_OF_TIME - before);
        CHECK(raddle_icount_budget(machine.ctx, 1000) == 1000);
    }
    raddle_icount_warp(machine.ctx, RADDLE_END_OF_TIME - 3000);
    CHECK(raddle_icount_budget(machine.ctx, 1000) == 1); /* to END - 2500 */
    CHECK(helper(machine.env[0], "clock_ticks", 62500000, 0, 0) == (RADDLE_END_OF_TIME - 3000) / 16);
    for (int i = 0; i < 3; i++) {
        raddle_icount_warp(machine.ctx, 2000);
        CHECK(clock_ns() == (i ? RADDLE_END_OF_TIME : RADDLE_END_OF_TIME - 1000));
    }
    raddle_icount_warp(machine.ctx, NONE);
    CHECK(clock_ns() == RADDLE_END_OF_TIME);
    CHECK(helper(machine.env[0], "clock_ticks", 62500000, 0, 0) == NONE >> 4);
    CHECK(helper(machine.env[0], "clock_ticks", 4000000000u, 0, 0) == NONE);
    CHECK(helper(machine.env[0], "ticks_to_ns", NONE >> 4, 62500000, 0) == (NONE & ~(uint64_t)15));
    CHECK(helper(machine.env[0], "ticks_to_ns", (NONE >> 4) + 1, 62500000, 0) == NONE);
    CHECK(raddle_timers_run(machine.ctx) == 1);
    for (uint64_t beyond = 0; beyond < 2; beyond++) { /* never: where time stands still it would come for ever */
        raddle_timer_set(machine.ctx, timer, RADDLE_END_OF_TIME + beyond);
        CHECK(raddle_timers_run(machine.ctx) == 0);
        CHECK(raddle_timer_next(machine.ctx) == NONE);
        CHECK(raddle_icount_budget(machine.ctx, 1000) == 1000);
    }
    machine_free();
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The table of native helpers (its rows are in raddle/runtime/helpers.py), and the helpers that belong to no other
 * file. */
#include "internal.h"

#define NANOSECONDS      1000000000u
#define HELPER(name)     uint64_t raddle_helper_##name(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
#define UNUSED_ARGUMENTS (void)env, (void)a0, (void)a1, (void)a2, (void)a3

HELPER(tlb_set)
{
    UNUSED_ARGUMENTS;
    tlb_set(cpu_of(env), a0, a1, a2 & 0xff, a2 >> 8 & 0xff, a2 >> 16 & 0xff);
    return 0;
}

HELPER(tlb_flush_local)
{
    UNUSED_ARGUMENTS;
    struct raddle_cpu *cpu = cpu_of(env);
    cpu->header->count_flush++;
    tlb_flush_local(cpu, (uint32_t)a0);
    return 0;
}

HELPER(big_lock)
{
    UNUSED_ARGUMENTS;
    cpu_big_lock(cpu_of(env));
    return 0;
}

HELPER(big_unlock)
{
    UNUSED_ARGUMENTS;
    raddle_big_unlock(cpu_of(env)->context);
    return 0;
}

HELPER(wfi)
{
    UNUSED_ARGUMENTS;
    struct raddle_cpu_header *h = header_of(env);
    if (!(LOAD(h->interrupt_request) & h->interrupt_mask)) {
        h->halted = 1;
        h->exit_now = 1;
    }
    return 0;
}

HELPER(wfe)
{
    UNUSED_ARGUMENTS;
    struct raddle_cpu_header *h = header_of(env);
    if (!EXCHANGE(h->event, 0) && !(LOAD(h->interrupt_request) & h->interrupt_mask)) {
        cpu_of(env)->waiting_event = true;
        cpu_of(env)->event_since = clock_now(cpu_of(env)->context);
        h->exit_now = 1;
    }
    return 0;
}

HELPER(sev)
{
    UNUSED_ARGUMENTS;
    raddle_event(cpu_of(env)->context);
    return 0;
}

HELPER(yield_)
{
    UNUSED_ARGUMENTS;
    struct raddle_cpu *cpu = cpu_of(env);
    if (has_flag(cpu->context, RADDLE_FLAG_PARALLEL)) {
        cpu_spin(cpu);
    } else {
        cpu->yielding = true;
        cpu->header->exit_now = 1;
    }
    return 0;
}

HELPER(interrupt_set)
{
    UNUSED_ARGUMENTS;
    struct raddle_context *ctx = cpu_of(env)->context;
    if (a0 < ctx->config.ncpus)
        (cpu_of(env)->owes_wakes ? cpu_set_lines_later : cpu_set_lines)(ctx->cpus[a0], (uint32_t)a1);
    return 0;
}

HELPER(interrupt_clear)
{
    UNUSED_ARGUMENTS;
    struct raddle_context *ctx = cpu_of(env)->context;
    if (a0 < ctx->config.ncpus)
        cpu_clear_lines(ctx->cpus[a0], (uint32_t)a1);
    return 0;
}

HELPER(instructions)
{
    UNUSED_ARGUMENTS;
    return icount_retired(cpu_of(env));
}

HELPER(clock_ns)
{
    UNUSED_ARGUMENTS;
    return clock_now(cpu_of(env)->context);
}

HELPER(clock_ticks)
{
    UNUSED_ARGUMENTS;
    unsigned __int128 ticks = (unsigned __int128)clock_now(cpu_of(env)->context) * a0 / NANOSECONDS;
    return ticks > NONE ? NONE : (uint64_t)ticks;
}

HELPER(ticks_to_ns)
{
    UNUSED_ARGUMENTS;
    if (!a1)
        return NONE;
    unsigned __int128 ns = ((unsigned __int128)a0 * NANOSECONDS + a1 - 1) / a1;
    return ns > NONE ? NONE : (uint64_t)ns;
}

HELPER(timer_set)
{
    UNUSED_ARGUMENTS;
    raddle_timer_set(cpu_of(env)->context, (uint32_t)a0, a1);
    return 0;
}

HELPER(timer_cancel)
{
    UNUSED_ARGUMENTS;
    raddle_timer_cancel(cpu_of(env)->context, (uint32_t)a0);
    return 0;
}

/* -- the table -------------------------------------------------------------------------------------------------- */

#define DECLARE(number, name, symbol) uint64_t symbol(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);
RADDLE_HELPERS(DECLARE)

static const struct {
    const char *name;
    raddle_function function;
} HELPERS[] = {
#define ROW(number, name, symbol) [number] = {#name, symbol},
    RADDLE_HELPERS(ROW)};

uint32_t raddle_helper_count(void)
{
    return RADDLE_HELPER_COUNT;
}

const char *raddle_helper_name(uint32_t number)
{
    return number < RADDLE_HELPER_COUNT ? HELPERS[number].name : NULL;
}

void *raddle_helper_address(uint32_t number)
{
    return number < RADDLE_HELPER_COUNT ? (void *)(uintptr_t)HELPERS[number].function : NULL;
}

uint64_t raddle_helper(void *env, uint32_t number, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
    return number < RADDLE_HELPER_COUNT ? HELPERS[number].function(env, a0, a1, a2, a3) : 0;
}

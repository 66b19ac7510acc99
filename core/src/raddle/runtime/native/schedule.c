/* SPDX-License-Identifier: Apache-2.0 */
/* The turns of vCPUs that share a thread: which is next, how long its turn is, and what happens while none can run.
 *
 * By the host's clock a turn ends after SLICE_NS. With instruction counting it ends after SLICE_INSTRUCTIONS, or at the
 * next deadline if that comes earlier; everything then follows from what the guest executes, so that a run repeats
 * itself. Events from outside (a pause, queued work) may make a vCPU check whether it can run, but change neither time
 * nor the order of vCPUs that can run.
 *
 * A vCPU gives up its turn when it halts, hints that it spins, or interrupts another one. In the last case it and
 * others may now wait for an answer without a hint, so the turns that follow are short.
 *
 * With instruction counting, time advances by ROUND_NS when every vCPU that can run has given up its turn by a hint
 * that it spins. They wait for each other, or for time: otherwise time would pass only by the instructions that they
 * execute while spinning. */
#include "internal.h"

#define SLICE_NS           5000000u
#define SLICE_INSTRUCTIONS 50000u
#define ROUND_NS           1000u
#define SHORT_PART         10u /* a short turn is this fraction of a turn */
#define NOBODY             UINT32_MAX

int raddle_turns_begin(raddle_context *ctx)
{
    struct turns *turns = &ctx->turns;
    turns->thread = pthread_self();
    turns->first_spinner = NOBODY;
    atomic_store(&turns->looks, NONE);
    if (has_flag(ctx, RADDLE_FLAG_ICOUNT) || ctx->config.ncpus == 1)
        return 0;
    int timer = raddle_timer_new(ctx, RADDLE_TIMER_SLICE, 0, ctx->cpus[0]->env);
    turns->timer = (uint32_t)timer;
    return timer < 0 ? -1 : 0;
}

/* -- turns ------------------------------------------------------------------------------------------------------ */

static void pass_time(struct raddle_context *ctx, uint64_t ns)
{
    raddle_icount_warp(ctx, ns);
    raddle_timers_run(ctx);
}

static uint64_t until_deadline(struct raddle_context *ctx, uint64_t limit)
{
    uint64_t deadline = raddle_timer_next(ctx), now = clock_now(ctx);
    uint64_t left = deadline > now ? deadline - now : 0;
    return deadline == NONE || left > limit ? limit : left;
}

int raddle_can_run(void *env)
{
    struct raddle_cpu *cpu = cpu_of(env);
    struct raddle_cpu_header *h = cpu->header;
    if (LOAD(h->exit_request))
        return 1;
    if (h->powered_off)
        return 0;
    if (cpu->waiting_event)
        return event_wait_over(cpu);
    return !h->halted || (LOAD(h->interrupt_request) & h->interrupt_mask);
}

/* Starts the next vCPU's turn; false if none can run. */
static bool turn_begin(struct raddle_context *ctx)
{
    struct turns *turns = &ctx->turns;
    for (uint32_t i = 0; i < ctx->config.ncpus; i++) {
        uint32_t index = (turns->next + i) % ctx->config.ncpus;
        if (!raddle_can_run(ctx->cpus[index]->env))
            continue;
        turns->current = index;
        turns->next = (index + 1) % ctx->config.ncpus;
        uint32_t part = turns->short_turns ? SHORT_PART : 1;
        if (has_flag(ctx, RADDLE_FLAG_ICOUNT)) {
            if (index == turns->first_spinner)
                pass_time(ctx, until_deadline(ctx, ROUND_NS));
            turns->began = raddle_icount(ctx);
            raddle_icount_set(ctx->cpus[index]->env, raddle_icount_budget(ctx, SLICE_INSTRUCTIONS / part));
        }
        atomic_store(&turns->cpu, ctx->cpus[index]);
        if (!has_flag(ctx, RADDLE_FLAG_ICOUNT) && ctx->config.ncpus > 1)
            slice_begin(ctx, SLICE_NS / part);
        return true;
    }
    return false;
}

static void turn_end(struct raddle_context *ctx, int reason)
{
    struct turns *turns = &ctx->turns;
    atomic_store(&turns->cpu, NULL);
    if (turns->short_turns && (reason == RADDLE_SLICE || reason == RADDLE_BUDGET))
        turns->short_turns--;
    if (!has_flag(ctx, RADDLE_FLAG_ICOUNT))
        return;
    if (reason == RADDLE_YIELD && turns->first_spinner == NOBODY)
        turns->first_spinner = turns->current;
    else if (reason != RADDLE_YIELD && raddle_icount(ctx) != turns->began)
        turns->first_spinner = NOBODY;
    raddle_timers_run(ctx);
}

/* -- nobody can run --------------------------------------------------------------------------------------------- */

static bool any_waits_for_event(struct raddle_context *ctx)
{
    for (uint32_t i = 0; i < ctx->config.ncpus; i++)
        if (ctx->cpus[i] && ctx->cpus[i]->waiting_event)
            return true;
    return false;
}

int raddle_wait(raddle_context *ctx, uint64_t ns)
{
    uint64_t limit = (uint64_t)ctx->config.wfe_limit_us * 1000;
    if (limit && limit < ns && any_waits_for_event(ctx))
        ns = limit;
    uint64_t deadline = wait_deadline(ns);
    pthread_mutex_lock(&ctx->idle_lock);
    bool in_time = true;
    while (!atomic_load(&ctx->idle_kicks) && in_time)
        in_time = cond_wait_until(&ctx->idle, &ctx->idle_lock, deadline);
    int kicked = atomic_exchange(&ctx->idle_kicks, 0) != 0;
    pthread_mutex_unlock(&ctx->idle_lock);
    return kicked;
}

static bool any_can_run(struct raddle_context *ctx)
{
    for (uint32_t i = 0; i < ctx->config.ncpus; i++)
        if (raddle_can_run(ctx->cpus[i]->env))
            return true;
    return false;
}

/* Sleeps for `limit`, or less when a vCPU can run. Returns how long: `limit` unless an event came from outside. */
static uint64_t sleep_idle(struct raddle_context *ctx, uint64_t limit)
{
    uint64_t start = now_ns(), slept = 0;
    while (slept < limit && !any_can_run(ctx)) {
        raddle_wait(ctx, limit == NONE ? NONE : limit - slept);
        slept = now_ns() - start;
    }
    atomic_fetch_add(&ctx->turns.idle_ns, slept);
    return slept < limit ? slept : limit;
}

static void idle(struct raddle_context *ctx)
{
    if (!has_flag(ctx, RADDLE_FLAG_ICOUNT)) {
        uint64_t start = now_ns();
        raddle_wait(ctx, NONE);
        atomic_fetch_add(&ctx->turns.idle_ns, now_ns() - start);
        return;
    }
    uint64_t left = until_deadline(ctx, NONE);
    if (!left) /* a timer has set itself again for a time that is past: time goes on all the same */
        left = (uint64_t)1 << atomic_load(&ctx->icount_shift);
    if (left == NONE)
        sleep_idle(ctx, NONE);
    else
        pass_time(ctx, has_flag(ctx, RADDLE_FLAG_SLEEP) ? sleep_idle(ctx, left) : left);
}

int raddle_run_turns(raddle_context *ctx, void **env)
{
    struct turns *turns = &ctx->turns;
    for (;;) {
        struct raddle_cpu *cpu = atomic_load_explicit(&turns->cpu, memory_order_relaxed);
        if (!cpu) {
            if (!turn_begin(ctx))
                idle(ctx);
            continue;
        }
        int reason = raddle_run(cpu->env);
        if (reason != RADDLE_HALTED && reason != RADDLE_SLICE && reason != RADDLE_YIELD && reason != RADDLE_BUDGET) {
            *env = cpu->env;
            return reason;
        }
        turn_end(ctx, reason);
    }
}

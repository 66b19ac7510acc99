/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual time, from the host's clock or from counted instructions, and timers. */
#include "internal.h"

#include <errno.h>

int clock_init(struct raddle_context *ctx)
{
    mutex_init(&ctx->timer_lock, false);
    atomic_store(&ctx->clock_stopped, 1); /* at 0 */
    for (uint32_t i = 0; i < RADDLE_TIMERS; i++)
        ctx->timers[i].deadline = ctx->timers[i].due = NONE;
    return 0;
}

void clock_free(struct raddle_context *ctx)
{
    pthread_mutex_destroy(&ctx->timer_lock);
}

/* -- instruction counting --------------------------------------------------------------------------------------- */

void icount_enter(struct raddle_cpu *cpu)
{
    if (!has_flag(cpu->context, RADDLE_FLAG_ICOUNT))
        return;
    if (!pthread_equal(cpu->thread, pthread_self()))
        cpu->thread = pthread_self();
    atomic_store(&cpu->context->icount_cpu, cpu);
}

static uint32_t executed(const struct raddle_cpu *cpu)
{
    return cpu->icount_budget - (uint32_t)LOAD_RELAXED(cpu->header->icount_left);
}

void icount_commit(struct raddle_cpu *cpu)
{
    struct raddle_context *ctx = cpu->context;
    if (!has_flag(ctx, RADDLE_FLAG_ICOUNT))
        return;
    uint32_t count = (uint32_t)(int32_t)executed(cpu);
    atomic_store(&ctx->icount_cpu, NULL);
    atomic_fetch_add(&ctx->icount, (uint64_t)(int64_t)(int32_t)count);
    cpu->header->count_instructions += (uint64_t)(int64_t)(int32_t)count;
    cpu->icount_budget = (uint32_t)cpu->header->icount_left;
}

/* Instructions that the running block counted at its entry but has not executed yet, the calling one included. */
static uint32_t outstanding(struct raddle_cpu *cpu)
{
    struct raddle_block *block = cpu->retaddr ? block_of_address(cpu->context, cpu->retaddr) : NULL;
    uint64_t pc;
    uint32_t extra;
    int index = block ? block_instruction(block, cpu->retaddr, &pc, &extra) : -1;
    return index < 0 ? 0 : block->ninsns - (uint32_t)index;
}

/* A block of one instruction counts as more than one if the target adds a prologue or an epilogue: lend it budget so
 * that it runs. */
void icount_lend(struct raddle_cpu *cpu, const struct raddle_block *block)
{
    int32_t lacking = (int32_t)block->ninsns - cpu->header->icount_left;
    if (lacking <= 0)
        return;
    cpu->icount_budget += (uint32_t)lacking;
    STORE_RELAXED(cpu->header->icount_left, cpu->header->icount_left + lacking);
}

uint64_t icount_retired(struct raddle_cpu *cpu)
{
    if (!has_flag(cpu->context, RADDLE_FLAG_ICOUNT))
        return 0;
    return cpu->header->count_instructions + (uint64_t)(int64_t)(int32_t)executed(cpu) - outstanding(cpu);
}

void icount_refund(struct raddle_cpu *cpu, uint32_t instructions)
{
    if (has_flag(cpu->context, RADDLE_FLAG_ICOUNT))
        STORE_RELAXED(cpu->header->icount_left, cpu->header->icount_left + (int32_t)instructions);
}

void icount_spend(struct raddle_cpu *cpu, uint32_t instructions)
{
    if (has_flag(cpu->context, RADDLE_FLAG_ICOUNT))
        STORE_RELAXED(cpu->header->icount_left, cpu->header->icount_left - (int32_t)instructions);
}

/* Exact on the running thread, also when called from within a block; other threads may see it up to a block ahead. */
uint64_t raddle_icount(raddle_context *ctx)
{
    uint64_t count = atomic_load(&ctx->icount);
    struct raddle_cpu *cpu = atomic_load(&ctx->icount_cpu);
    if (!cpu)
        return count;
    count += (uint64_t)(int64_t)(int32_t)executed(cpu);
    return pthread_equal(cpu->thread, pthread_self()) ? count - outstanding(cpu) : count;
}

void raddle_icount_set(void *env, uint32_t instructions)
{
    struct raddle_cpu *cpu = cpu_of(env);
    cpu->icount_budget = instructions;
    STORE_RELAXED(cpu->header->icount_left, (int32_t)instructions);
}

void raddle_icount_shift(raddle_context *ctx, uint32_t shift)
{
    atomic_store(&ctx->icount_shift, shift);
}

void raddle_icount_warp(raddle_context *ctx, uint64_t ns)
{
    atomic_store(&ctx->icount_bias, time_sum(atomic_load(&ctx->icount_bias), ns));
}

/* Instructions until virtual time reaches a deadline. */
static uint64_t instructions_until(struct raddle_context *ctx, uint64_t deadline)
{
    uint64_t now = clock_now(ctx), left = deadline <= now ? 0 : deadline - now;
    uint32_t shift = atomic_load(&ctx->icount_shift);
    return (left >> shift) + ((left & (((uint64_t)1 << shift) - 1)) != 0);
}

uint32_t raddle_icount_budget(raddle_context *ctx, uint32_t limit)
{
    uint64_t deadline = raddle_timer_next(ctx);
    if (deadline == NONE)
        return limit;
    uint64_t wanted = instructions_until(ctx, deadline);
    if (!wanted) /* what is due has fired, and a timer has set itself again for now: the guest goes on, too */
        wanted = 1;
    return wanted < limit ? (uint32_t)wanted : limit;
}

/* If a deadline comes before the end of the running vCPU's budget, shorten the budget. */
static void shorten_budget(struct raddle_context *ctx, uint64_t deadline)
{
    struct raddle_cpu *cpu = has_flag(ctx, RADDLE_FLAG_ICOUNT) ? atomic_load(&ctx->icount_cpu) : NULL;
    if (!cpu || !pthread_equal(cpu->thread, pthread_self()))
        return;
    uint64_t wanted = instructions_until(ctx, deadline);
    int64_t left = cpu->header->icount_left, ahead = outstanding(cpu);
    if (left + ahead < 0 || wanted >= (uint64_t)(left + ahead))
        return;
    int64_t cut = left + ahead - (int64_t)wanted;
    cpu->icount_budget -= (uint32_t)cut;
    STORE_RELAXED(cpu->header->icount_left, (int32_t)(left - cut));
}

/* -- the clock -------------------------------------------------------------------------------------------------- */

static uint64_t running_clock(struct raddle_context *ctx)
{
    return now_ns() + (uint64_t)atomic_load(&ctx->clock_offset);
}

static uint64_t counted_clock(struct raddle_context *ctx)
{
    uint32_t shift = atomic_load_explicit(&ctx->icount_shift, memory_order_relaxed);
    uint64_t count = raddle_icount(ctx), spent = count > RADDLE_END_OF_TIME >> shift ? NONE : count << shift;
    uint64_t now = time_sum(spent, atomic_load_explicit(&ctx->icount_bias, memory_order_relaxed));
    return now < RADDLE_END_OF_TIME ? now : RADDLE_END_OF_TIME;
}

uint64_t clock_now(struct raddle_context *ctx)
{
    if (has_flag(ctx, RADDLE_FLAG_ICOUNT))
        return counted_clock(ctx);
    for (;;) { /* no lock: retry if the clock changed meanwhile, so that time never goes back */
        uint32_t changes = atomic_load(&ctx->clock_changes);
        uint64_t now = atomic_load(&ctx->clock_stopped) ? atomic_load(&ctx->clock_stopped_at) : running_clock(ctx);
        if (!(changes & 1) && changes == atomic_load(&ctx->clock_changes))
            return now;
    }
}

uint64_t raddle_clock_ns(raddle_context *ctx)
{
    return clock_now(ctx);
}

void raddle_clock_stop(raddle_context *ctx)
{
    pthread_mutex_lock(&ctx->timer_lock);
    if (!atomic_load(&ctx->clock_stopped)) {
        atomic_fetch_add(&ctx->clock_changes, 1);
        atomic_store(&ctx->clock_stopped_at, running_clock(ctx));
        atomic_store(&ctx->clock_stopped, 1);
        atomic_fetch_add(&ctx->clock_changes, 1);
        word_change(&ctx->timer_changes);
    }
    pthread_mutex_unlock(&ctx->timer_lock);
}

void raddle_clock_start(raddle_context *ctx)
{
    pthread_mutex_lock(&ctx->timer_lock);
    if (atomic_load(&ctx->clock_stopped)) {
        atomic_fetch_add(&ctx->clock_changes, 1);
        atomic_store(&ctx->clock_offset, (int64_t)(atomic_load(&ctx->clock_stopped_at) - now_ns()));
        atomic_store(&ctx->clock_stopped, 0);
        atomic_fetch_add(&ctx->clock_changes, 1);
        word_change(&ctx->timer_changes);
    }
    pthread_mutex_unlock(&ctx->timer_lock);
}

/* -- timers ----------------------------------------------------------------------------------------------------- */

/* Timers by number: those that have fired in a pass over what is due. */
struct fired {
    uint64_t words[(RADDLE_TIMERS + 63) / 64];
};

static bool has_fired(const struct fired *fired, uint32_t i)
{
    return fired && (fired->words[i / 64] >> (i % 64) & 1);
}

/* The timer with the earliest deadline, but for those of `except`, if there are any; RADDLE_TIMERS for none. */
static uint32_t earliest(const struct raddle_context *ctx, const struct fired *except)
{
    uint32_t best = RADDLE_TIMERS;
    for (uint32_t i = 0; i < ctx->timer_count; i++)
        if (ctx->timers[i].deadline != NONE && !has_fired(except, i) &&
            (best == RADDLE_TIMERS || ctx->timers[i].deadline < ctx->timers[best].deadline))
            best = i;
    return best;
}

/* A Python function, or a routine of no vCPU's, runs under the big lock, which comes before timer_lock. Not called if the
 * timer was set again meanwhile. */
static void fire_under_big_lock(struct raddle_context *ctx, uint32_t i, uint64_t sequence)
{
    bool routine = ctx->timers[i].kind == RADDLE_TIMER_ROUTINE;
    uint32_t value = ctx->timers[i].value;
    pthread_mutex_unlock(&ctx->timer_lock);
    cpus_wake(ctx); /* those that other timers have changed: it may take long to get the lock */
    raddle_big_lock(ctx);
    pthread_mutex_lock(&ctx->timer_lock);
    bool stands = ctx->timers[i].sequence == sequence;
    if (stands)
        ctx->timers[i].due = NONE;
    pthread_mutex_unlock(&ctx->timer_lock);
    if (stands && routine) {
        ctx->timers_cpu->owes_wakes = true;
        call_number(ctx->timers_cpu, value, i, 0, 0, 0);
    } else if (stands && ctx->callbacks.timer) {
        ctx->callbacks.timer(ctx, value);
    }
    raddle_big_unlock(ctx);
    pthread_mutex_lock(&ctx->timer_lock);
}

/* A slice of one of the vCPUs that share a thread. To begin one costs only a reading of the clock: the timer stays set
 * for the end of an earlier turn, and checks `end` when it fires. `looks` is read after `end` has been written, and
 * cleared before `end` is read, so one side sees the other's write. */
void slice_begin(struct raddle_context *ctx, uint64_t ns)
{
    struct turns *turns = &ctx->turns;
    uint64_t end = time_sum(clock_now(ctx), ns);
    atomic_store(&turns->end, end);
    if (end >= atomic_load(&turns->looks))
        return;
    atomic_store(&turns->looks, end);
    raddle_timer_set(ctx, turns->timer, end);
}

static uint64_t slice_timer_fires(struct raddle_context *ctx)
{
    struct turns *turns = &ctx->turns;
    atomic_store(&turns->looks, NONE);
    uint64_t end = atomic_load(&turns->end);
    struct raddle_cpu *cpu = atomic_load(&turns->cpu);
    if (!cpu)
        return NONE;
    if (end > clock_now(ctx)) {
        atomic_store(&turns->looks, end);
        return end;
    }
    atomic_store(&cpu->slice_over, 1);
    cpu_kick(cpu);
    return NONE;
}

static void fire(struct raddle_context *ctx, uint32_t i)
{
    struct timer *t = &ctx->timers[i];
    uint64_t deadline = t->deadline;
    t->deadline = NONE;
    ctx->timers_fired++;
    switch (t->kind) {
    case RADDLE_TIMER_INTERRUPT:
        cpu_set_lines_later(t->cpu, t->value);
        break;
    case RADDLE_TIMER_CALLEE:
        atomic_fetch_or(&t->cpu->timers_due[i / 64], (uint64_t)1 << (i % 64));
        cpu_kick_later(t->cpu);
        break;
    case RADDLE_TIMER_SLICE:
        t->deadline = slice_timer_fires(ctx);
        break;
    case RADDLE_TIMER_EVENT:
        cpu_set_event(t->cpu);
        break;
    default:
        t->due = deadline;
        fire_under_big_lock(ctx, i, t->sequence);
    }
}

/* Fires timers that are due, earliest first. Each fires once in a pass: a timer that sets itself to a time in the past
 * must not keep the vCPUs, or whoever ends the machine, waiting for ever. */
uint32_t timers_fire(struct raddle_context *ctx)
{
    struct fired fired = {0};
    uint32_t count = 0, i;
    uint64_t now = 0;
    while ((i = earliest(ctx, &fired)) != RADDLE_TIMERS) {
        uint64_t deadline = ctx->timers[i].deadline;
        if (deadline > now) { /* by the last reading of the clock, which most of what is due needs no newer one than */
            now = clock_now(ctx);
            if (deadline > now)
                break;
        }
        fired.words[i / 64] |= (uint64_t)1 << (i % 64);
        fire(ctx, i);
        count++;
    }
    return count;
}

uint32_t timers_earliest(const struct raddle_context *ctx)
{
    return earliest(ctx, NULL);
}

int timer_add(struct raddle_context *ctx, uint32_t kind, uint32_t value, void *env)
{
    int number = -1;
    bool of_no_cpu = kind == RADDLE_TIMER_PYTHON || kind == RADDLE_TIMER_ROUTINE;
    if (kind > RADDLE_TIMER_ROUTINE || (!of_no_cpu && !env) || (kind == RADDLE_TIMER_ROUTINE && !ctx->timers_cpu)) {
        errno = EINVAL;
        return -1;
    }
    pthread_mutex_lock(&ctx->timer_lock);
    if (ctx->timer_count < RADDLE_TIMERS) {
        number = (int)ctx->timer_count++;
        ctx->timers[number] =
            (struct timer){.kind = kind, .value = value, .cpu = env ? cpu_of(env) : NULL, .deadline = NONE, .due = NONE};
    }
    pthread_mutex_unlock(&ctx->timer_lock);
    if (number < 0)
        errno = ENOSPC;
    return number;
}

void raddle_timer_set(raddle_context *ctx, uint32_t timer, uint64_t deadline)
{
    if (deadline >= RADDLE_END_OF_TIME)
        deadline = NONE; /* the clock stands still there: the timer would be due again as often as it is set */
    pthread_mutex_lock(&ctx->timer_lock);
    if (timer < ctx->timer_count) {
        ctx->timers[timer].deadline = deadline;
        ctx->timers[timer].due = NONE;
        ctx->timers[timer].sequence++;
        /* Do not wake the thread needlessly: it takes a core from a vCPU. If it wakes too early by itself, it sleeps
         * again. */
        if (deadline < ctx->timer_sleeps_until)
            word_change(&ctx->timer_changes);
    }
    pthread_mutex_unlock(&ctx->timer_lock);
    if (deadline != NONE)
        shorten_budget(ctx, deadline);
}

void raddle_timer_cancel(raddle_context *ctx, uint32_t timer)
{
    raddle_timer_set(ctx, timer, NONE);
}

uint64_t raddle_timer_deadline(raddle_context *ctx, uint32_t timer)
{
    pthread_mutex_lock(&ctx->timer_lock);
    const struct timer *t = timer < ctx->timer_count ? &ctx->timers[timer] : NULL;
    uint64_t deadline = !t ? NONE : t->deadline != NONE ? t->deadline : t->due;
    pthread_mutex_unlock(&ctx->timer_lock);
    return deadline;
}

/* Round-robin: whether a vCPU that executed WFE may go on: because of an event or an interrupt, or because it has
 * waited long enough. */
bool event_wait_over(struct raddle_cpu *cpu)
{
    struct raddle_cpu_header *h = cpu->header;
    uint64_t limit = (uint64_t)cpu->context->config.wfe_limit_us * 1000;
    return LOAD(h->event) || (LOAD(h->interrupt_request) & h->interrupt_mask) ||
           (limit && clock_now(cpu->context) - cpu->event_since >= limit);
}

uint64_t raddle_timer_next(raddle_context *ctx)
{
    pthread_mutex_lock(&ctx->timer_lock);
    uint32_t i = earliest(ctx, NULL);
    uint64_t deadline = i == RADDLE_TIMERS ? NONE : ctx->timers[i].deadline;
    pthread_mutex_unlock(&ctx->timer_lock);
    uint64_t limit = (uint64_t)ctx->config.wfe_limit_us * 1000;
    for (uint32_t n = 0; limit && has_flag(ctx, RADDLE_FLAG_ICOUNT) && n < ctx->config.ncpus; n++) {
        struct raddle_cpu *cpu = ctx->cpus[n];
        if (cpu && cpu->waiting_event && time_sum(cpu->event_since, limit) < deadline)
            deadline = time_sum(cpu->event_since, limit);
    }
    return deadline;
}

uint32_t raddle_timers_run(raddle_context *ctx)
{
    pthread_mutex_lock(&ctx->timer_lock);
    uint32_t fired = timers_fire(ctx);
    pthread_mutex_unlock(&ctx->timer_lock);
    cpus_wake(ctx);
    return fired;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* TLB barriers: a vCPU waits until all others have done the flushes that it asked them for.
 *
 * A vCPU answers at its next block entry, or when it leaves code: within a microsecond, if it has a core. With more
 * vCPUs than cores it may have no core for milliseconds, because vCPUs that answered long ago keep the cores busy. So
 * the waiting vCPU watches the CPU time of the one that has not answered. If that stands still, the waiter sleeps, out
 * of code, and kicks all running vCPUs: each answers and sleeps, too, so that every core is free for those that have
 * not answered. The last one to answer wakes the waiter, and the waiter wakes the others.
 *
 * A barrier does not use sched_yield: the host's scheduler takes that as giving up the rest of a time slice, so a
 * waiter that yields a hundred times gets no core for the next milliseconds.
 *
 * No answer is lost: a vCPU stores its answer (queue_done, in_code) before it reads sync_waiters, and a waiter adds
 * itself to sync_waiters before it looks for answers; all accesses are sequentially consistent. */
#include "internal.h"

enum {
    LOOKS = 200,           /* for answers, between readings of the clock of a vCPU that has not answered */
    CLOCK_LOOKS = 50,      /* readings of that clock, before the waiter sleeps although the other one has a core */
    GIVE_WAY_NS = 2000000, /* the longest time for which a vCPU that has answered leaves its core to others */
};

void barrier_enter(struct raddle_cpu *cpu)
{
    clockid_t clock;
    if (has_flag(cpu->context, RADDLE_FLAG_PARALLEL) && !pthread_getcpuclockid(pthread_self(), &clock))
        atomic_store_explicit(&cpu->clock, clock, memory_order_relaxed);
}

/* A vCPU that self still waits for, or NULL. */
static struct raddle_cpu *missing(const struct raddle_cpu *self)
{
    struct raddle_context *ctx = self->context;
    for (uint32_t i = 0; i < ctx->config.ncpus; i++) {
        struct raddle_cpu *other = ctx->cpus[i];
        if (other && other != self && atomic_load(&other->queue_done) < self->sync_tickets[i] &&
            atomic_load(&other->in_code))
            return other;
    }
    return NULL;
}

/* CPU time of the vCPU's thread; 0 when it has ended. */
static uint64_t cpu_time_of(struct raddle_cpu *cpu)
{
    struct timespec t;
    if (clock_gettime(atomic_load_explicit(&cpu->clock, memory_order_relaxed), &t))
        return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool answered_soon(struct raddle_cpu *self)
{
    for (uint32_t look = 0; look < LOOKS; look++)
        if (!missing(self))
            return true;
    return false;
}

/* Looks for the answers while the vCPUs that have not answered have a core. */
static bool answered_on_cores(struct raddle_cpu *self)
{
    for (uint32_t look = 0; look < CLOCK_LOOKS; look++) {
        struct raddle_cpu *other = missing(self);
        if (!other)
            return true;
        uint64_t before = cpu_time_of(other);
        if (answered_soon(self))
            return true;
        if (cpu_time_of(other) == before)
            return false;
    }
    return false;
}

static void sleep_until_answered(struct raddle_cpu *self)
{
    struct raddle_context *ctx = self->context;
    uint64_t start = now_ns();
    pthread_mutex_lock(&ctx->sync_lock);
    self->sync_sleeping = true;
    atomic_fetch_add(&ctx->sync_waiters, 1);
    for (uint32_t i = 0; i < ctx->config.ncpus; i++)
        if (ctx->cpus[i] && ctx->cpus[i] != self && atomic_load(&ctx->cpus[i]->in_code))
            STORE(ctx->cpus[i]->header->exit_request, 1);
    while (missing(self))
        pthread_cond_wait(&self->sync_answered, &ctx->sync_lock);
    self->sync_sleeping = false;
    if (atomic_fetch_sub(&ctx->sync_waiters, 1) == 1)
        pthread_cond_broadcast(&ctx->sync_over);
    pthread_mutex_unlock(&ctx->sync_lock);
    COUNT(self->stats.tlb_sync_sleeps, 1);
    COUNT(self->stats.tlb_sync_sleep_ns, now_ns() - start);
}

void tlb_synchronise(struct raddle_cpu *self)
{
    if (!self->sync_wanted)
        return;
    self->sync_wanted = false;
    if (!missing(self))
        return;
    uint64_t start = cpu_ns();
    bool was_in_code = leave_code(self); /* so that vCPUs that wait for each other do not deadlock */
    if (!answered_soon(self) && !answered_on_cores(self))
        sleep_until_answered(self);
    return_to_code(self, was_in_code);
    COUNT(self->stats.tlb_syncs, 1);
    COUNT(self->stats.tlb_sync_ns, cpu_ns() - start);
}

void tlb_answer(struct raddle_cpu *cpu)
{
    struct raddle_context *ctx = cpu->context;
    if (!atomic_load(&ctx->sync_waiters))
        return;
    pthread_mutex_lock(&ctx->sync_lock);
    for (uint32_t i = 0; i < ctx->config.ncpus; i++)
        if (ctx->cpus[i] && ctx->cpus[i]->sync_sleeping && !missing(ctx->cpus[i]))
            pthread_cond_signal(&ctx->cpus[i]->sync_answered);
    pthread_mutex_unlock(&ctx->sync_lock);
}

void tlb_give_way(struct raddle_cpu *cpu)
{
    struct raddle_context *ctx = cpu->context;
    if (!atomic_load(&ctx->sync_waiters))
        return;
    uint64_t start = now_ns();
    bool was_in_code = leave_code(cpu);
    pthread_mutex_lock(&ctx->sync_lock);
    while (atomic_load(&ctx->sync_waiters) && cond_wait_until(&ctx->sync_over, &ctx->sync_lock, start + GIVE_WAY_NS))
        continue;
    pthread_mutex_unlock(&ctx->sync_lock);
    return_to_code(cpu, was_in_code);
    COUNT(cpu->stats.tlb_give_ways, 1);
    COUNT(cpu->stats.tlb_give_way_ns, now_ns() - start);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* TLB flushes across vCPUs: a queue of records a vCPU, and the barrier that waits until others have worked theirs off.
 *
 * The handshake: an asker pushes its record, sets exit_request, and then reads the other's `in_code`; a vCPU sets
 * `in_code` before it reads its queue. All are sequentially consistent, so either the asker sees a vCPU in code, and
 * waits until queue_done reaches its push, or that vCPU drains the record before it uses a TLB entry. */
#include "internal.h"

#include <sched.h>
#include <string.h>

enum {
    SYNC_SPINS = 200,      /* looks before a wait counts as one that others should make room for */
    SYNC_YIELDS = 1000,    /* looks with a yield between them before the waiter naps */
    GIVE_WAY_NS = 2000000, /* how long a vCPU that has answered makes room at the most */
};

void queue_drain(struct raddle_cpu *cpu)
{
    uint64_t pushed = atomic_load(&cpu->queue_pushed);
    if (pushed == atomic_load_explicit(&cpu->queue_done, memory_order_relaxed))
        return;
    struct flush_record records[QUEUE_RECORDS];
    pthread_mutex_lock(&cpu->queue_lock);
    uint32_t length = cpu->queue_length;
    pushed = atomic_load(&cpu->queue_pushed);
    if (length <= QUEUE_RECORDS)
        memcpy(records, cpu->queue, length * sizeof *records);
    cpu->queue_length = 0;
    pthread_mutex_unlock(&cpu->queue_lock);
    if (length > QUEUE_RECORDS) {
        cpu->header->count_flush++;
        tlb_flush_indices(cpu, ALL_INDICES);
    }
    for (uint32_t i = 0; length <= QUEUE_RECORDS && i < length; i++)
        tlb_flush_record(cpu, &records[i]);
    COUNT(cpu->stats.tlb_records, length);
    atomic_store(&cpu->queue_done, pushed);
}

static uint64_t queue_push(struct raddle_cpu *cpu, const struct flush_record *record)
{
    pthread_mutex_lock(&cpu->queue_lock);
    if (cpu->queue_length < QUEUE_RECORDS)
        cpu->queue[cpu->queue_length++] = *record;
    else
        cpu->queue_length = QUEUE_RECORDS + 1;
    uint64_t ticket = atomic_load_explicit(&cpu->queue_pushed, memory_order_relaxed) + 1;
    atomic_store(&cpu->queue_pushed, ticket);
    pthread_mutex_unlock(&cpu->queue_lock);
    STORE(cpu->header->exit_request, 1);
    return ticket;
}

static void flush_others(struct raddle_cpu *self, const struct flush_record *record)
{
    struct raddle_context *ctx = self->context;
    for (uint32_t i = 0; i < ctx->config.ncpus; i++) {
        struct raddle_cpu *other = ctx->cpus[i];
        if (!other || other == self)
            continue;
        self->sync_tickets[i] = queue_push(other, record);
        self->sync_wanted = true;
    }
}

static bool is_done(struct raddle_cpu *cpu, uint64_t ticket)
{
    return atomic_load(&cpu->queue_done) >= ticket || !atomic_load(&cpu->in_code);
}

/* Two vCPUs that wait for each other work off their own queues meanwhile. Every other wait that a vCPU can be in is out
 * of code, so this ends as soon as each other vCPU's thread has run to its next block entry.
 *
 * With more vCPUs than cores, that thread may be waiting for a core which a vCPU that has answered already keeps busy. So a
 * wait that does not end at once is announced in sync_waiters, and vCPUs that have answered sleep until it is over. */
void tlb_synchronise(struct raddle_cpu *self)
{
    struct raddle_context *ctx = self->context;
    if (!self->sync_wanted)
        return;
    self->sync_wanted = false;
    uint64_t start = 0;
    uint32_t turn = 0;
    for (uint32_t i = 0; i < ctx->config.ncpus; i++) {
        struct raddle_cpu *other = ctx->cpus[i];
        if (!other || other == self)
            continue;
        for (; !is_done(other, self->sync_tickets[i]); turn++) {
            if (!turn)
                start = cpu_ns();
            queue_drain(self);
            if (turn < SYNC_SPINS)
                continue;
            if (turn == SYNC_SPINS)
                atomic_fetch_add(&ctx->sync_waiters, 1);
            if (turn < SYNC_YIELDS)
                sched_yield();
            else
                nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
        }
    }
    if (turn > SYNC_SPINS) {
        pthread_mutex_lock(&ctx->sync_lock);
        if (atomic_fetch_sub(&ctx->sync_waiters, 1) == 1)
            pthread_cond_broadcast(&ctx->sync_over);
        pthread_mutex_unlock(&ctx->sync_lock);
    }
    if (turn) {
        COUNT(self->stats.tlb_syncs, 1);
        COUNT(self->stats.tlb_sync_ns, cpu_ns() - start);
    }
}

void tlb_give_way(struct raddle_cpu *cpu)
{
    struct raddle_context *ctx = cpu->context;
    if (!atomic_load(&ctx->sync_waiters))
        return;
    uint64_t deadline = now_ns() + GIVE_WAY_NS;
    bool was_in_code = leave_code(cpu);
    pthread_mutex_lock(&ctx->sync_lock);
    while (atomic_load(&ctx->sync_waiters) && cond_wait_until(&ctx->sync_over, &ctx->sync_lock, deadline))
        continue;
    pthread_mutex_unlock(&ctx->sync_lock);
    return_to_code(cpu, was_in_code);
}

/* Exclusive sections empty other vCPUs' TLBs and jump caches too: so this counts as running. */
void raddle_tlb_flush(void *env)
{
    struct raddle_cpu *cpu = cpu_of(env);
    const struct flush_record everything = {.indices = ALL_INDICES};
    cpu_begin(cpu);
    tlb_flush_record(cpu, &everything);
    cpu_end(cpu);
}

/* -- the helpers ------------------------------------------------------------------------------------------------ */

enum scope { LOCAL, ALL, SYNCED };

static uint64_t flush(void *env, enum scope scope, uint64_t address, uint64_t length, uint64_t indices)
{
    struct raddle_cpu *cpu = cpu_of(env);
    struct flush_record record = {address, length, (uint32_t)indices & ALL_INDICES};
    tlb_flush_record(cpu, &record);
    if (scope != LOCAL)
        flush_others(cpu, &record);
    if (scope == SYNCED)
        tlb_synchronise(cpu);
    return 0;
}

#define UNUSED_ARGUMENTS (void)a0, (void)a1, (void)a2, (void)a3
#define FLUSH_HELPERS(tail, scope)                                                                                  \
    uint64_t raddle_helper_tlb_flush##tail(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)           \
    {                                                                                                               \
        UNUSED_ARGUMENTS;                                                                                           \
        return flush(env, scope, 0, 0, ALL_INDICES);                                                                \
    }                                                                                                               \
    uint64_t raddle_helper_tlb_flush_by_mmuidx##tail(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3) \
    {                                                                                                               \
        UNUSED_ARGUMENTS;                                                                                           \
        return flush(env, scope, 0, 0, a0);                                                                         \
    }                                                                                                               \
    uint64_t raddle_helper_tlb_flush_page##tail(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)      \
    {                                                                                                               \
        UNUSED_ARGUMENTS;                                                                                           \
        return flush(env, scope, a0, 1, a1);                                                                        \
    }                                                                                                               \
    uint64_t raddle_helper_tlb_flush_range##tail(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)     \
    {                                                                                                               \
        UNUSED_ARGUMENTS;                                                                                           \
        return a1 ? flush(env, scope, a0, a1, a2) : 0;                                                              \
    }

FLUSH_HELPERS(, LOCAL)
FLUSH_HELPERS(_all_cpus, ALL)
FLUSH_HELPERS(_all_cpus_synced, SYNCED)

uint64_t raddle_helper_tlb_sync(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
    UNUSED_ARGUMENTS;
    tlb_synchronise(cpu_of(env));
    return 0;
}

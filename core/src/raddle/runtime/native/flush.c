/* SPDX-License-Identifier: Apache-2.0 */
/* TLB flushes across vCPUs: each vCPU has a queue of records, which it works off. barrier.c waits until it has done so.
 *
 * The handshake: an asker pushes its record, sets exit_request, and then reads the other's `in_code`; a vCPU sets
 * `in_code` before it reads its queue. All are sequentially consistent, so either the asker sees a vCPU in code, and
 * waits until queue_done reaches its push, or that vCPU drains the record before it uses a TLB entry. */
#include "internal.h"

#include <string.h>

void queue_drain(struct raddle_cpu *cpu)
{
    uint64_t pushed = atomic_load(&cpu->queue_pushed);
    if (pushed == atomic_load_explicit(&cpu->queue_done, memory_order_relaxed))
        return;
    struct flush_record records[QUEUE_RECORDS];
    pthread_mutex_lock(&cpu->queue_lock);
    uint32_t length = cpu->queue_length;
    uint64_t done = atomic_load_explicit(&cpu->queue_done, memory_order_relaxed);
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
    COUNT(cpu->stats.tlb_records, pushed - done);
    atomic_store(&cpu->queue_done, pushed);
    tlb_answer(cpu);
}

/* Under queue_lock: whether a queued record already covers a new one. Otherwise the queue of a vCPU that has no core
 * for a while would overflow, and it would have to flush everything. */
static bool is_queued(const struct raddle_cpu *cpu, const struct flush_record *record)
{
    for (uint32_t i = 0; cpu->queue_length <= QUEUE_RECORDS && i < cpu->queue_length; i++) {
        const struct flush_record *queued = &cpu->queue[i];
        bool same = queued->address == record->address && queued->length == record->length;
        if ((same || !queued->length) && !(record->indices & ~queued->indices))
            return true;
    }
    return false;
}

static uint64_t queue_push(struct raddle_cpu *cpu, const struct flush_record *record)
{
    pthread_mutex_lock(&cpu->queue_lock);
    if (cpu->queue_length >= QUEUE_RECORDS)
        cpu->queue_length = QUEUE_RECORDS + 1;
    else if (!is_queued(cpu, record))
        cpu->queue[cpu->queue_length++] = *record;
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

/* This counts as running, because exclusive sections empty other vCPUs' TLBs and jump caches, too. */
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

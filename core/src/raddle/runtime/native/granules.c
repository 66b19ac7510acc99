/* SPDX-License-Identifier: Apache-2.0 */
/* Exact reservations of load-exclusives (RADDLE_FLAG_RESERVE, the user's llsc=strict).
 *
 * A granule is 64 aligned bytes of guest memory, by its host address. Its word has
 *
 *   bit 31   a lock
 *   bit n    vCPU n has loaded exclusively from the granule, and no other observer has written to it since
 *
 * Each of these accesses holds the lock from before the access until the word has its new value:
 *
 *   a store of vCPU n clears all bits except bit n, so all others lose their reservations
 *   a write by anything else (a device, Python) clears all bits
 *   a load-exclusive of vCPU n sets bit n
 *   a store-exclusive of vCPU n stores only if bit n is set, and then clears all bits
 *
 * So writes to a granule, load-exclusives and store-exclusives come one after the other, and a reservation is lost
 * exactly when another observer has written in between. Plain loads need no lock.
 *
 * A bit may outlive its reservation (CLREX, a return from an exception, a load-exclusive elsewhere). A vCPU has one
 * reservation; its header says where (exclusive_address, exclusive_size, and exclusive_value: the word's address). A
 * bit without a reservation in the header means nothing, and a later load-exclusive from the granule sets it anyway.
 *
 * The lock is innermost: its holder only accesses host memory, and waits for no other lock, except that an access to
 * two granules locks the lower one first. Generated code takes the lock, too. If it is taken, that code calls the slow
 * path, which waits here. */
#include "internal.h"

#include <sched.h>
#include <sys/mman.h>

#define LOCK  (1u << RADDLE_GRANULE_LOCK)
#define TRIES 64 /* before leaving the core to others: perhaps the holder has none */

static uint32_t *word_at(const struct raddle_context *ctx, uintptr_t address)
{
    return (uint32_t *)(uintptr_t)(ctx->granules + (address >> RADDLE_GRANULE_BITS) * sizeof(uint32_t));
}

uint32_t *granule_word(const struct raddle_context *ctx, const void *p)
{
    return word_at(ctx, (uintptr_t)p);
}

static void lock(uint32_t *word)
{
    uint32_t tries = 0;
    while (__atomic_fetch_or(word, LOCK, __ATOMIC_ACQUIRE) & LOCK)
        while (LOAD_RELAXED(*word) & LOCK)
            if (++tries % TRIES == 0)
                sched_yield();
}

void granules_lock(struct raddle_context *ctx, const void *p, uint32_t size)
{
    if (!ctx->granule_map)
        return;
    uint32_t *first = word_at(ctx, (uintptr_t)p), *last = word_at(ctx, (uintptr_t)p + size - 1);
    lock(first);
    if (last != first)
        lock(last);
}

static void unlock(uint32_t *word, uint32_t left)
{
    __atomic_store_n(word, LOAD_RELAXED(*word) & left & ~LOCK, __ATOMIC_RELEASE);
}

void granules_unlock(struct raddle_context *ctx, const void *p, uint32_t size, uint32_t left)
{
    if (!ctx->granule_map)
        return;
    uint32_t *first = word_at(ctx, (uintptr_t)p), *last = word_at(ctx, (uintptr_t)p + size - 1);
    if (last != first)
        unlock(last, left);
    unlock(first, left);
}

/* Reserves words for the range of host addresses that all guest memory lies in. Only used words take up memory. */
int granules_init(struct raddle_context *ctx)
{
    uintptr_t low = UINTPTR_MAX, high = 0;
    for (uint32_t i = 0; i < ctx->region_count; i++) {
        const struct raddle_region *r = &ctx->regions[i].r;
        uintptr_t start = (uintptr_t)r->memory;
        if (!is_memory(&ctx->regions[i]))
            continue;
        low = start < low ? start : low;
        high = start + r->size > high ? start + r->size : high;
    }
    if (!has_flag(ctx, RADDLE_FLAG_RESERVE) || !high)
        return 0;
    size_t first = low >> RADDLE_GRANULE_BITS, last = (high - 1) >> RADDLE_GRANULE_BITS;
    size_t size = (last - first + 1) * sizeof(uint32_t);
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return -1;
    ctx->granule_map = map;
    ctx->granule_map_size = size;
    ctx->granules = (uintptr_t)map - first * sizeof(uint32_t);
    for (uint32_t i = 0; i < ctx->config.ncpus; i++)
        if (ctx->cpus[i])
            granules_connect(ctx->cpus[i]);
    return 0;
}

void granules_connect(struct raddle_cpu *cpu)
{
    if (!cpu->context->granule_map)
        return;
    cpu->header->granules = cpu->context->granules;
    cpu->header->reservation = (uint64_t)1 << cpu->header->cpu_index;
}

void granules_free(struct raddle_context *ctx)
{
    map_free(ctx->granule_map, ctx->granule_map_size);
    ctx->granule_map = NULL;
}

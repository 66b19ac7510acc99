/* SPDX-License-Identifier: Apache-2.0 */
/* Stores that are in progress while their page is marked as holding code.
 *
 * Generated code checks a TLB entry, and stores a few instructions later. Between the two, another vCPU may mark the
 * page (raddle_code_begin) and install a block made of its bytes. Then the store is not noticed, and the block would be
 * stale for ever. This can happen only at the first mark of a page: a store that checks its entry after the mark takes
 * the slow path.
 *
 * So marks are numbered. A vCPU has passed a mark when it was outside generated code at some time after it: then none
 * of its stores that checked before the mark is still in progress. A mark is settled when all vCPUs have passed it. A
 * block that is installed before its pages' marks are settled is put into a list, with the bytes that it was translated
 * from. Whenever a vCPU passes marks, the blocks that were installed since these marks are compared with memory, and
 * those that differ are killed. When the last vCPU has passed, no stale block is left.
 *
 * No vCPU waits for another. A vCPU that is in generated code when a page is marked gets an exit_request, and passes
 * the mark at its next block entry, before it can run a block that was installed since. So it never runs code that is
 * older than its own stores. To see the stores of another vCPU, a guest must synchronise instruction fetches, on one of
 * the two vCPUs or on both, as its architecture says. This calls the helper icache_sync, which compares all blocks in
 * the list.
 *
 * If one thread runs all vCPUs, no store can be in progress during a translation, and no marks are counted.
 *
 * Order: a thread that marks a page stores the marks in the TLBs and then loads `in_code`. A vCPU stores `in_code`,
 * loads the state of its flush queue, and then uses TLB entries (threads.c). All these accesses except the last are
 * sequentially consistent, and the last one comes after a sequentially consistent load. So either the marking thread
 * sees the vCPU in code, or the vCPU sees the marks. */
#include "internal.h"

#include <string.h>

bool stores_may_be_unseen(const struct raddle_context *ctx)
{
    return has_flag(ctx, RADDLE_FLAG_PARALLEL) && ctx->config.ncpus > 1;
}

/* Records which vCPUs have passed the last mark, and requests that the others pass it. `self` has passed it (NULL: no
 * vCPU in particular). Compares the blocks that were installed after the oldest mark that one of these vCPUs has newly
 * passed; with `all`, every block in the list. Under code_lock. */
static void review(struct raddle_context *ctx, const struct raddle_cpu *self, bool all)
{
    uint64_t marks = atomic_load(&ctx->marks), settled = marks, since = all ? 0 : marks;
    for (uint32_t i = 0; i < ctx->config.ncpus; i++) {
        struct raddle_cpu *cpu = ctx->cpus[i];
        uint64_t passed = cpu ? atomic_load(&cpu->marks_passed) : marks;
        if (passed == marks)
            continue;
        if (cpu != self && atomic_load(&cpu->in_code)) {
            STORE(cpu->header->exit_request, 1);
            settled = passed < settled ? passed : settled;
            continue;
        }
        since = passed < since ? passed : since;
        atomic_store(&cpu->marks_passed, marks);
    }
    for (struct unsettled_block *u = ctx->unsettled; u && u->mark > since; u = u->next)
        if (!atomic_load(&u->block->dead) && !block_holds(ctx, u->block, u->guest))
            block_discard(ctx, u->block);
    struct unsettled_block **link = &ctx->unsettled;
    while (*link && (*link)->mark > settled)
        link = &(*link)->next;
    *link = NULL;
    atomic_store(&ctx->marks_settled, settled);
}

void marks_add(struct raddle_context *ctx, struct page *page)
{
    if (!stores_may_be_unseen(ctx))
        return;
    page->mark = (uint32_t)(atomic_fetch_add(&ctx->marks, 1) + 1);
    review(ctx, NULL, false);
}

void marks_pass(struct raddle_cpu *cpu)
{
    struct raddle_context *ctx = cpu->context;
    pthread_mutex_lock(&ctx->code_lock);
    review(ctx, cpu, false);
    pthread_mutex_unlock(&ctx->code_lock);
}

/* A page has only the low half of its mark's number. So a page that was marked 2**31 marks ago may count as unsettled
 * again. That only puts its block into the list. An unsettled page never counts as settled. */
bool mark_is_settled(const struct raddle_context *ctx, const struct page *page)
{
    return (int32_t)(page->mark - (uint32_t)atomic_load(&ctx->marks_settled)) <= 0;
}

uint64_t unsettled_size(uint64_t guest_size)
{
    return sizeof(struct unsettled_block) + guest_size;
}

/* Blocks are added at the head of the list, so its first block is the youngest. */
void unsettled_add(struct raddle_context *ctx, void *place, struct raddle_block *block, const void *guest)
{
    struct unsettled_block *u = place;
    *u = (struct unsettled_block){.next = ctx->unsettled, .block = block, .mark = atomic_load(&ctx->marks)};
    memcpy(u->guest, guest, block->guest_size);
    ctx->unsettled = u;
}

/* The fence orders the vCPU's earlier stores, and those of others that it has seen, before the load of `marks`. If this
 * misses a mark, the vCPU that made it reads the bytes after a fence of its own (raddle_code_begin), and sees these
 * stores. */
uint64_t raddle_helper_icache_sync(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
    (void)a0, (void)a1, (void)a2, (void)a3;
    struct raddle_cpu *cpu = cpu_of(env);
    struct raddle_context *ctx = cpu->context;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&ctx->marks) == atomic_load(&ctx->marks_settled))
        return 0;
    pthread_mutex_lock(&ctx->code_lock);
    review(ctx, cpu, true);
    pthread_mutex_unlock(&ctx->code_lock);
    return 0;
}

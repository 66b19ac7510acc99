/* SPDX-License-Identifier: Apache-2.0 */
/* Translated blocks: the lock-free hash table and chains.
 *
 * A block's record has room for all its chains. So the memory for blocks grows only when blocks are installed. When
 * code and records together reach code_size, everything is flushed.
 *
 * Blocks are inserted, chained and killed under code_lock, and looked up without it. A dead block's memory stays
 * unchanged until a flush, which runs in an exclusive section. So a thread may still run or read it. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CODE_ALIGN       16
#define TRANSLATION_TIME 10 /* milliseconds; a translation takes less from code_begin to install */
#define BYTES_PER_BLOCK  64 /* blocks take more of the code buffer than this, on average */

int blocks_init(struct raddle_context *ctx)
{
    struct block_table *t = &ctx->blocks;
    uint64_t buckets = 1024;
    while (buckets < ctx->config.code_size / 512)
        buckets *= 2;
    t->bucket_mask = buckets - 1;
    t->limit = ctx->config.code_size / BYTES_PER_BLOCK;
    t->buckets = map_new(buckets * sizeof *t->buckets);
    t->by_address = map_new(t->limit * sizeof *t->by_address);
    return t->buckets && t->by_address ? 0 : -1;
}

void blocks_free(struct raddle_context *ctx)
{
    arena_clear(&ctx->blocks.arena);
    map_free(ctx->blocks.buckets, (ctx->blocks.bucket_mask + 1) * sizeof *ctx->blocks.buckets);
    map_free(ctx->blocks.by_address, ctx->blocks.limit * sizeof *ctx->blocks.by_address);
}

static _Atomic(struct raddle_block *) *bucket_of(struct block_table *t, uint64_t phys_pc, uint32_t mode, uint32_t flags)
{
    uint64_t h = (phys_pc ^ ((uint64_t)mode << 32) ^ ((uint64_t)flags << 54)) * 0x9e3779b97f4a7c15u;
    return &t->buckets[(h >> 32) & t->bucket_mask];
}

/* Whether the second page of a block that crosses a page boundary is mapped as it was when the block was made. */
static bool second_page_holds(struct raddle_cpu *cpu, const struct raddle_block *block)
{
    if (block->phys[1] == NONE)
        return true;
    uint64_t page_mask = cpu->context->page_size - 1;
    return raddle_code_page(cpu->env, ((block->pc | page_mask) + 1) & cpu->context->word_mask) == block->phys[1];
}

struct raddle_block *block_find(struct raddle_cpu *cpu, uint64_t phys_pc, uint64_t pc, uint32_t mode, uint32_t flags)
{
    struct raddle_block *b = atomic_load(bucket_of(&cpu->context->blocks, phys_pc, mode, flags));
    for (; b; b = atomic_load(&b->hash_next))
        if (b->phys_pc == phys_pc && b->pc == pc && b->mode == mode && b->flags == flags && !atomic_load(&b->dead) &&
            second_page_holds(cpu, b))
            return b;
    return NULL;
}

/* -- installing ------------------------------------------------------------------------------------------------- */

/* The offsets of the block's guest bytes in its page `which` (0 or 1): [start, end). */
static void extent(const struct raddle_context *ctx, const struct raddle_block *b, int which, uint64_t *start,
                   uint64_t *end)
{
    uint64_t offset = b->pc & (ctx->page_size - 1), size = b->guest_size;
    uint64_t first = offset + size > ctx->page_size ? ctx->page_size - offset : size;
    *start = which ? 0 : offset;
    *end = which ? size - first : offset + first;
}

static uint64_t lines_between(const struct raddle_context *ctx, uint64_t start, uint64_t end)
{
    uint64_t line = ctx->page_size / PAGE_LINES, lines = 0;
    for (uint64_t i = start / line; i < (end + line - 1) / line; i++)
        lines |= (uint64_t)1 << i;
    return lines;
}

static uint32_t milliseconds(void)
{
    return (uint32_t)(now_ns() >> 20);
}

/* Removes dead blocks from the page's list, and recomputes its lines. If the list becomes empty and no translation of
 * the page can be under way, clears `code`. If `code` were cleared earlier, stores beside the code could prevent a
 * translation from ever being installed. Under code_lock. */
static void page_recount(struct raddle_context *ctx, struct page *page, uint64_t page_address)
{
    uint64_t lines = 0;
    struct raddle_block **link = &page->blocks, *b;
    while ((b = *link)) {
        int which = b->phys[0] == page_address ? 0 : 1;
        if (atomic_load(&b->dead)) {
            *link = b->page_next[which];
            continue;
        }
        for (int part = 0; part < 2; part++) {
            uint64_t start, end;
            if (b->phys[part] != page_address)
                continue;
            extent(ctx, b, part, &start, &end);
            lines |= lines_between(ctx, start, end);
        }
        link = &b->page_next[which];
    }
    atomic_store(&page->lines, lines);
    if (!page->blocks && milliseconds() - page->begun > TRANSLATION_TIME) {
        atomic_store(&page->code, 0);
        /* Stores are not noticed any more. A translation that is late nevertheless must compare the bytes. */
        atomic_fetch_add(&page->version, 1);
    }
}

bool block_overlaps(const struct raddle_context *ctx, const struct raddle_block *b, uint64_t paddr, uint64_t size)
{
    for (int which = 0; which < 2; which++) {
        uint64_t start, end;
        if (b->phys[which] == NONE)
            continue;
        extent(ctx, b, which, &start, &end);
        if (paddr < b->phys[which] + end && b->phys[which] + start < paddr + size)
            return true;
    }
    return false;
}

/* Whether memory has these bytes at the addresses that the block was translated from. */
bool block_holds(struct raddle_context *ctx, const struct raddle_block *b, const uint8_t *wanted)
{
    for (int which = 0; which < 2; which++) {
        uint64_t start, end;
        if (b->phys[which] == NONE)
            continue;
        extent(ctx, b, which, &start, &end);
        const uint8_t *now = raddle_phys_pointer(ctx, b->phys[which] + start, end - start);
        for (uint64_t i = 0; i < end - start; i++)
            if (__atomic_load_n(&now[i], __ATOMIC_RELAXED) != wanted[i])
                return false;
        wanted += end - start;
    }
    return true;
}

/* Whether the guest bytes are still those that were translated. Called after the page's lines are set. The versions
 * count only stores that took the slow path. If there may have been others (settle.c), the bytes must be compared.
 *
 * Each kind of store is either seen here, or kills the block later:
 *
 * - A store that counts in `version`, and then reads `lines` (page_stored): either it finds the lines and kills the
 *   block, or its count comes before the load of `version` here, which then also orders its bytes before this.
 * - A store by generated code that compared its TLB entry before the page's mark: if its vCPU has passed the mark, that
 *   orders its bytes before this. If not, the block is listed, and compared again when the vCPU passes (settle.c).
 * - A store that took the slow path and found `code` clear (`stored` in slowpath.c) counts nowhere. If this translation
 *   began before `code` was cleared, and another one has set it again since, only the comparison finds the store. The
 *   store has a fence between its bytes and its load of `code`. C wants another one here, after `code` was set: the
 *   lock orders this thread behind the one that set it, but not behind the store. No test fails without this fence:
 *   hosts on which tests run order the store by the lock. */
static bool bytes_hold(struct raddle_context *ctx, const struct raddle_block *b, const struct raddle_block_desc *desc)
{
    bool versions = true;
    for (int which = 0; which < 2; which++)
        if (b->phys[which] != NONE)
            versions &= atomic_load(&page_at(ctx, b->phys[which])->version) == desc->version[which];
    if (!desc->guest || (versions && !stores_may_be_unseen(ctx)))
        return versions;
    atomic_thread_fence(memory_order_seq_cst);
    return block_holds(ctx, b, desc->guest);
}

static struct raddle_block *equal_block(struct block_table *t, const struct raddle_block *wanted)
{
    struct raddle_block *b = atomic_load(bucket_of(t, wanted->phys_pc, wanted->mode, wanted->flags));
    for (; b; b = atomic_load(&b->hash_next))
        if (b->phys_pc == wanted->phys_pc && b->pc == wanted->pc && b->mode == wanted->mode &&
            b->flags == wanted->flags && b->phys[1] == wanted->phys[1])
            return b;
    return NULL;
}

/* The offset of the next block's code from the end of the fixed part. */
static uint64_t code_start(const struct code_buffer *code)
{
    return (code->used + CODE_ALIGN - 1) & ~(uint64_t)(CODE_ALIGN - 1);
}

/* Bytes of a block's record, with all that lies behind it. */
static uint64_t record_size(const struct raddle_block_desc *desc, bool settled)
{
    return sizeof(struct raddle_block) + desc->ninsns * sizeof(struct instruction_row) +
           desc->exits * sizeof(struct chain_link) + (settled ? 0 : unsettled_size(desc->guest_size));
}

uint64_t block_records(const struct raddle_context *ctx)
{
    return ctx->blocks.arena.size + ctx->blocks.count * sizeof *ctx->blocks.by_address;
}

static bool has_room(const struct raddle_context *ctx, const struct raddle_block_desc *desc, uint64_t record)
{
    const struct code_buffer *code = &ctx->code;
    uint64_t end = code_start(code) + desc->code_size + CODE_ALIGN;
    return end <= code->size - code->fixed_size && ctx->blocks.count < ctx->blocks.limit &&
           end + block_records(ctx) + sizeof(struct raddle_block *) + arena_grows(&ctx->blocks.arena, record) <=
               ctx->config.code_size;
}

/* The block's record, without its place in the code buffer and the pointers to what lies behind it. */
static struct raddle_block described(const struct raddle_context *ctx, const struct raddle_block_desc *desc)
{
    return (struct raddle_block){
        .pc = desc->pc,
        .phys_pc = desc->phys[0] | (desc->pc & (ctx->page_size - 1)),
        .phys = {desc->phys[0], desc->phys[1]},
        .mode = desc->mode,
        .flags = desc->flags,
        .guest_size = desc->guest_size,
        .ninsns = desc->ninsns,
        .exit_count = desc->exits,
        .code_size = desc->code_size,
        .hot_start = desc->hot_start,
        .cold_start = desc->cold_start,
    };
}

/* NULL when out of memory. */
static struct raddle_block *block_make(struct raddle_context *ctx, const struct raddle_block_desc *desc, bool settled)
{
    struct code_buffer *code = &ctx->code;
    uint64_t start = code_start(code);
    struct raddle_block *b = arena_take(&ctx->blocks.arena, record_size(desc, settled));
    if (!b)
        return NULL;
    *b = described(ctx, desc);
    b->exits = (struct chain_link *)(b + 1);
    b->table = (struct instruction_row *)(b->exits + desc->exits);
    b->code = code->rx + code->fixed_size + start;
    memcpy(b->table, desc->table, desc->ninsns * sizeof *b->table);
    if (!settled)
        unsettled_add(ctx, b->table + desc->ninsns, b, desc->guest);
    memcpy(code->rw + code->fixed_size + start, desc->code, desc->code_size);
    __builtin___clear_cache((char *)b->code, (char *)b->code + b->code_size);
    return b;
}

static void block_publish(struct raddle_context *ctx, struct raddle_block *b)
{
    struct block_table *t = &ctx->blocks;
    ctx->code.used = (uint64_t)(b->code - ctx->code.rx) - ctx->code.fixed_size + b->code_size;
    t->by_address[t->count] = b;
    atomic_store_explicit(&t->count, t->count + 1, memory_order_release);
    for (int which = 0; which < 2; which++)
        if (b->phys[which] != NONE) {
            struct page *page = page_at(ctx, b->phys[which]);
            b->page_next[which] = page->blocks;
            page->blocks = b;
        }
    _Atomic(struct raddle_block *) *bucket = bucket_of(t, b->phys_pc, b->mode, b->flags);
    atomic_store(&b->hash_next, atomic_load(bucket));
    atomic_store(bucket, b);
}

static void lines_set(struct raddle_context *ctx, const struct raddle_block *b)
{
    for (int which = 0; which < 2; which++) {
        uint64_t start, end;
        if (b->phys[which] == NONE)
            continue;
        extent(ctx, b, which, &start, &end);
        atomic_fetch_or(&page_at(ctx, b->phys[which])->lines, lines_between(ctx, start, end));
    }
}

static int install(struct raddle_context *ctx, const struct raddle_block_desc *desc)
{
    bool settled = true;
    for (int which = 0; which < 2; which++) {
        struct page *page = desc->phys[which] == NONE ? NULL : page_at(ctx, desc->phys[which]);
        if (which == 0 ? !page : desc->phys[which] != NONE && !page)
            return RADDLE_INSTALL_RACED;
        settled &= !page || !desc->guest || mark_is_settled(ctx, page);
    }
    if (!has_room(ctx, desc, record_size(desc, settled)))
        return RADDLE_FULL;
    struct raddle_block block = described(ctx, desc); /* memory for it is taken only after all checks */
    if (equal_block(&ctx->blocks, &block)) {
        ctx->installs_equal++;
        return RADDLE_INSTALL_OK;
    }
    /* If a page's `code` was cleared since code_begin, stores to it were not noticed: translate again. */
    for (int which = 0; which < 2; which++)
        if (block.phys[which] != NONE && !atomic_load(&page_at(ctx, block.phys[which])->code))
            return RADDLE_INSTALL_RACED;
    lines_set(ctx, &block);
    bool holds = bytes_hold(ctx, &block, desc);
    struct raddle_block *b = holds ? block_make(ctx, desc, settled) : NULL;
    if (!b) {
        for (int which = 0; which < 2; which++)
            if (block.phys[which] != NONE)
                page_recount(ctx, page_at(ctx, block.phys[which]), block.phys[which]);
        return holds ? RADDLE_ERROR : RADDLE_INSTALL_RACED;
    }
    block_publish(ctx, b);
    ctx->installs++;
    ctx->instructions += b->ninsns;
    return RADDLE_INSTALL_OK;
}

int raddle_block_install(raddle_context *ctx, const struct raddle_block_desc *desc)
{
    pthread_mutex_lock(&ctx->code_lock);
    int result = install(ctx, desc);
    ctx->installs_raced += result == RADDLE_INSTALL_RACED;
    pthread_mutex_unlock(&ctx->code_lock);
    return result;
}

/* -- chains ----------------------------------------------------------------------------------------------------- */

void raddle_chain_by(raddle_context *ctx, const struct raddle_chain *chain, const struct raddle_shape *shape)
{
    ctx->chain = *chain;
    ctx->chain_shape = *shape;
}

static uint32_t chain_read(struct raddle_context *ctx, const struct chain_link *link)
{
    const void *at = ctx->code.rw + link->field; /* in the writable view */
    return ctx->chain_shape.unit == 4 ? LOAD_RELAXED(*(const uint32_t *)at) : LOAD_RELAXED(*(const uint16_t *)at);
}

/* Other vCPUs may run the jump meanwhile. Its field lies within the span that the host's rules name, so they fetch
 * either the old or the new field, and both lead to a valid block or to the stub. */
static void chain_write(struct raddle_context *ctx, const struct chain_link *link, uint32_t bits)
{
    void *at = ctx->code.rw + link->field;
    if (ctx->chain_shape.unit == 4)
        STORE(*(uint32_t *)at, bits);
    else
        STORE(*(uint16_t *)at, (uint16_t)bits);
    if (ctx->chain.flush) {
        char *run_at = (char *)ctx->code.rx + link->field;
        __builtin___clear_cache(run_at, run_at + ctx->chain_shape.unit);
    }
}

/* The record of the jump whose field is at offset `field` in the code buffer; NULL if the block has no such jump. */
static struct chain_link *link_of(struct raddle_block *source, uint32_t field)
{
    for (uint32_t i = 0; i < source->exit_count; i++) {
        struct chain_link *link = &source->exits[i];
        if (!link->field)
            link->field = field;
        if (link->field == field)
            return link;
    }
    return NULL;
}

/* Aims the jump at its stub again. */
static void unchain(struct raddle_context *ctx, struct chain_link *link)
{
    chain_write(ctx, link, link->original);
    *link->back = link->next;
    if (link->next)
        link->next->back = link->back;
    link->back = NULL;
}

/* Aims the jump at the block; false if it does not reach so far. */
static bool aim(struct raddle_context *ctx, struct chain_link *link, const struct raddle_block *target)
{
    uint32_t original = chain_read(ctx, link);
    uint64_t bits = original;
    if (!field_insert(&ctx->chain_shape, &bits, link->field, (uint64_t)(target->code - ctx->code.rx)))
        return false;
    link->original = original;
    chain_write(ctx, link, (uint32_t)bits);
    return true;
}

/* Aims the jump through which the vCPU left its last block at `target`. Chained jumps stay within their block's page,
 * and a block that reaches into a second page is not a target. So no chain outlives the mapping under which it was
 * made. */
void block_chain(struct raddle_cpu *cpu, struct raddle_block *target)
{
    struct raddle_context *ctx = cpu->context;
    uint64_t slot = cpu->chain_slot;
    cpu->chain_slot = 0;
    if (cpu->chain_generation != atomic_load(&ctx->blocks.generation) || cpu->chain_pc != target->pc ||
        cpu->chain_mode != target->mode || target->flags || target->phys[1] != NONE || is_tracing(ctx) ||
        !ctx->chain.span)
        return;
    pthread_mutex_lock(&ctx->code_lock);
    struct raddle_block *source = block_of_address(ctx, slot);
    if (source && !source->flags && !atomic_load(&source->dead) && !atomic_load(&target->dead) &&
        source->phys[0] == target->phys[0]) {
        struct chain_link *link = link_of(source, (uint32_t)(slot - (uint64_t)(uintptr_t)ctx->code.rx));
        if (link && !link->back && aim(ctx, link, target)) { /* back: another vCPU has chained it already */
            link->next = target->incoming;
            link->back = &target->incoming;
            if (link->next)
                link->next->back = &link->next;
            target->incoming = link;
            cpu->header->count_chain++;
        }
    }
    pthread_mutex_unlock(&ctx->code_lock);
}

/* Unchains the jumps to a block that dies, and the block's own jumps, because a vCPU may still be in it. */
static void block_unchain(struct raddle_context *ctx, struct raddle_block *block)
{
    while (block->incoming)
        unchain(ctx, block->incoming);
    for (uint32_t i = 0; i < block->exit_count; i++)
        if (block->exits[i].back)
            unchain(ctx, &block->exits[i]);
}

/* -- reused memory ------------------------------------------------------------------------------------------------ */

/* After a flush, some hosts may still execute instructions that they fetched before it, until they are synchronised.
 * Flushes run in exclusive sections, when no vCPU's thread is in generated code. Each thread calls this before it
 * enters generated code again. */
void blocks_synchronise(struct raddle_cpu *cpu)
{
    struct raddle_context *ctx = cpu->context;
    uint32_t generation = atomic_load_explicit(&ctx->blocks.generation, memory_order_relaxed);
    if (ctx->synchronise && cpu->synchronised != generation)
        ctx->synchronise();
    cpu->synchronised = generation;
}

/* -- killing, flushing ------------------------------------------------------------------------------------------ */

static void unhash(struct raddle_context *ctx, struct raddle_block *block)
{
    _Atomic(struct raddle_block *) *link = bucket_of(&ctx->blocks, block->phys_pc, block->mode, block->flags);
    struct raddle_block *b;
    while ((b = atomic_load(link)) && b != block)
        link = &b->hash_next;
    if (b)
        atomic_store(link, atomic_load(&b->hash_next)); /* block->hash_next stays: a reader may be at the block */
}

static void block_kill(struct raddle_context *ctx, struct raddle_block *block)
{
    atomic_store(&block->dead, 1);
    unhash(ctx, block);
    block_unchain(ctx, block);
    for (uint32_t i = 0; i < ctx->config.ncpus; i++)
        if (ctx->cpus[i])
            jumps_forget(ctx->cpus[i], block);
    ctx->invalidated++;
}

/* Kills a block whose bytes have changed. Under code_lock. */
void block_discard(struct raddle_context *ctx, struct raddle_block *block)
{
    block_kill(ctx, block);
    for (int which = 0; which < 2; which++)
        if (block->phys[which] != NONE)
            page_recount(ctx, page_at(ctx, block->phys[which]), block->phys[which]);
}

/* Kills the page's blocks that overlap a physical range within it. Under code_lock. */
static void page_kill(struct raddle_context *ctx, struct page *page, uint64_t page_address, uint64_t paddr,
                      uint64_t size)
{
    struct page *others[2] = {NULL, NULL};
    bool killed = false;
    for (struct raddle_block *b = page->blocks; b; b = b->page_next[b->phys[0] == page_address ? 0 : 1]) {
        if (atomic_load(&b->dead) || !block_overlaps(ctx, b, paddr, size))
            continue;
        block_kill(ctx, b);
        killed = true;
        for (int which = 0; which < 2; which++)
            if (b->phys[which] != page_address && b->phys[which] != NONE) {
                others[which] = page_at(ctx, b->phys[which]);
                page_recount(ctx, others[which], b->phys[which]);
            }
    }
    if (killed || !page->blocks)
        page_recount(ctx, page, page_address);
}

static uint64_t lines_of(const struct raddle_context *ctx, uint64_t paddr, uint64_t size)
{
    uint64_t offset = paddr & (ctx->page_size - 1);
    return lines_between(ctx, offset, offset + size);
}

bool page_is_translated(struct raddle_context *ctx, uint64_t paddr)
{
    struct page *page = page_at(ctx, paddr);
    return page && atomic_load(&page->code);
}

bool page_holds_code(struct raddle_context *ctx, uint64_t paddr, uint64_t size)
{
    struct page *page = page_at(ctx, paddr);
    return page && (atomic_load(&page->lines) & lines_of(ctx, paddr, size));
}

/* Kills blocks that were translated from [paddr, paddr + size), within one page, after a store there. `cpu` is the vCPU
 * that stored, or NULL: its own TLB entry returns to the fast path if the page holds no code any more. */
void page_stored(struct raddle_context *ctx, struct raddle_cpu *cpu, uint64_t paddr, uint64_t size)
{
    uint64_t page_address = paddr & ~(ctx->page_size - 1);
    struct page *page = page_at(ctx, paddr);
    if (!page)
        return;
    atomic_fetch_add(&page->version, 1);
    bool code = atomic_load(&page->code) != 0;
    uint64_t lines = atomic_load(&page->lines);
    if (code ? lines && !(lines & lines_of(ctx, paddr, size)) : !cpu)
        return;
    pthread_mutex_lock(&ctx->code_lock);
    page_kill(ctx, page, page_address, paddr, size);
    if (cpu && !atomic_load(&page->code))
        tlb_clean_page(cpu, page_address);
    pthread_mutex_unlock(&ctx->code_lock);
}

/* A store writes the bytes, executes a fence, and then reads `code` (slowpath.c, raddle_code_invalidate). This function
 * sets `code` and executes a fence, and then its caller reads the bytes. So either the store finds `code` and kills the
 * block, or the caller reads what was stored. C promises this only with a fence on both sides, because the bytes are
 * read by relaxed loads. Each caller needs a fence of its own, even if another vCPU has set `code` already. */
uint32_t raddle_code_begin(raddle_context *ctx, uint64_t page_address)
{
    struct page *page = page_at(ctx, page_address);
    if (!page)
        return 0;
    pthread_mutex_lock(&ctx->code_lock);
    page->begun = milliseconds();
    if (!atomic_load(&page->code)) {
        atomic_store(&page->code, 1);
        for (uint32_t i = 0; i < ctx->config.ncpus; i++)
            if (ctx->cpus[i])
                tlb_mark_code(ctx->cpus[i], page_address & ~(ctx->page_size - 1));
        marks_add(ctx, page);
    }
    uint32_t version = atomic_load(&page->version);
    pthread_mutex_unlock(&ctx->code_lock);
    atomic_thread_fence(memory_order_seq_cst);
    return version;
}

/* The caller has changed the bytes, perhaps by plain stores. The fence orders these before the loads of `code`. */
void raddle_code_invalidate(raddle_context *ctx, uint64_t paddr, uint64_t size)
{
    atomic_thread_fence(memory_order_seq_cst);
    while (size) {
        uint64_t here = ctx->page_size - (paddr & (ctx->page_size - 1));
        here = here < size ? here : size;
        page_stored(ctx, NULL, paddr, here);
        paddr += here;
        size -= here;
    }
}

uint32_t raddle_code_generation(raddle_context *ctx)
{
    return atomic_load(&ctx->blocks.generation);
}

void raddle_code_flush(raddle_context *ctx, uint32_t generation)
{
    struct block_table *t = &ctx->blocks;
    raddle_exclusive_begin(ctx);
    pthread_mutex_lock(&ctx->code_lock);
    if (generation == atomic_load(&t->generation)) {
        for (uint64_t i = 0; i < t->count; i++)
            for (int which = 0; which < 2; which++)
                if (t->by_address[i]->phys[which] != NONE) {
                    struct page *page = page_at(ctx, t->by_address[i]->phys[which]);
                    page->blocks = NULL;
                    atomic_store(&page->lines, 0);
                }
        for (uint64_t i = 0; i <= t->bucket_mask; i++)
            atomic_store_explicit(&t->buckets[i], NULL, memory_order_relaxed);
        for (uint32_t i = 0; i < ctx->config.ncpus; i++)
            if (ctx->cpus[i])
                jumps_clear(ctx->cpus[i]);
        atomic_store(&t->count, 0);
        atomic_store(&ctx->code.used, 0);
        ctx->unsettled = NULL;
        arena_clear(&t->arena);
        atomic_fetch_add(&t->generation, 1);
        ctx->flushes++;
    }
    pthread_mutex_unlock(&ctx->code_lock);
    raddle_exclusive_end(ctx);
}

void raddle_trace(raddle_context *ctx, int on)
{
    raddle_exclusive_begin(ctx);
    bool begins = on && !is_tracing(ctx);
    atomic_store(&ctx->tracing, on != 0);
    raddle_exclusive_end(ctx);
    if (begins) /* existing blocks are chained and in the jump caches */
        raddle_code_flush(ctx, raddle_code_generation(ctx));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU's software TLB: direct-mapped entries that generated code reads, a few victims of collisions, large pages.
 *
 * The owner writes entries, under its tlb_lock. Other threads take that lock only to set TLB_NOTDIRTY in `write`, and
 * to set and clear TLB_MMIO in the `read` of a ROM device's pages.
 *
 * A load's address waits for the addend, and the addend for a load from the entry, whose place depends on the address.
 * Where most memory is mapped linearly, most entries have the same addend. The header has it, and generated code takes
 * it from there, so that the processor need not wait. Entries with another addend are marked with TLB_APART. */
#include "internal.h"

#include <string.h>

#define FILL_TRIES 100

static struct tlb_entry *main_entry(struct raddle_cpu *cpu, uint32_t index, uint64_t address)
{
    uint64_t slot = (address >> cpu->context->config.page_bits) & (RADDLE_TLB_ENTRIES - 1);
    return &cpu->tlb[index * RADDLE_TLB_ENTRIES + slot];
}

static struct tlb_side *side_of(struct raddle_cpu *cpu, const struct tlb_entry *e)
{
    size_t number = (size_t)(e - cpu->tlb);
    return &cpu->side[number / RADDLE_TLB_ENTRIES][number % RADDLE_TLB_ENTRIES];
}

static void entry_write(struct tlb_entry *e, const struct tlb_entry *value)
{
    STORE_RELAXED(e->read, value->read);
    STORE_RELAXED(e->write, value->write);
    STORE_RELAXED(e->exec, value->exec);
    STORE_RELAXED(e->addend, value->addend);
}

static struct tlb_entry entry_read(const struct tlb_entry *e)
{
    return (struct tlb_entry){
        .read = LOAD_RELAXED(e->read),
        .write = LOAD_RELAXED(e->write),
        .exec = LOAD_RELAXED(e->exec),
        .addend = LOAD_RELAXED(e->addend),
    };
}

/* Under tlb_lock, whenever a main entry is written, except to empty it. Guests flush often, so thousands of entries are
 * empty most of the time: loops over a TLB skip those. */
static void set_entered(struct raddle_cpu *cpu, const struct tlb_entry *e)
{
    size_t number = (size_t)(e - cpu->tlb), place = number % RADDLE_TLB_ENTRIES;
    cpu->tlb_entered[number / RADDLE_TLB_ENTRIES][place / 64] |= (uint64_t)1 << place % 64;
}

#define EACH_ENTERED(place, index) EACH_BIT(place, cpu->tlb_entered[index], RADDLE_TLB_ENTRIES)

static const struct tlb_entry EMPTY = {.read = NONE, .write = NONE, .exec = NONE};

static uint64_t *common_addend(struct raddle_cpu *cpu, uint32_t index)
{
    _Static_assert(offsetof(struct raddle_cpu_header, tlb1_addend) ==
                       offsetof(struct raddle_cpu_header, tlb0_addend) + sizeof(uint64_t), "they are an array");
    return &cpu->header->tlb0_addend + index;
}

void tlb_init(struct raddle_cpu *cpu)
{
    memset(cpu->tlb, 0xff, sizeof(struct tlb_entry) * RADDLE_MMU_INDICES * RADDLE_TLB_ENTRIES);
    memset(cpu->victims, 0xff, sizeof cpu->victims);
    memset(cpu->side, 0xff, sizeof cpu->side);
    memset(cpu->victim_side, 0xff, sizeof cpu->victim_side);
    for (uint32_t i = 0; i < RADDLE_MMU_INDICES; i++)
        cpu->large[i].base = *common_addend(cpu, i) = NONE;
}

/* -- common addends ---------------------------------------------------------------------------------------------- */

/* So many votes ahead of all others, another addend becomes the common one. Pages that are mapped one by one hardly get
 * so many: their addends differ. */
#define COMMON_VOTES 4

static bool has_common_addend(const struct raddle_cpu *cpu, uint32_t index)
{
    return cpu->context->config.common_indices >> index & 1;
}

static uint64_t with_apart(uint64_t read, bool apart)
{
    return apart ? read | RADDLE_TLB_APART : read & ~(uint64_t)RADDLE_TLB_APART;
}

static void compare_addend(struct tlb_entry *e, uint64_t common)
{
    uint64_t read = LOAD_RELAXED(e->read);
    if (!(read & RADDLE_TLB_INVALID))
        STORE_RELAXED(e->read, with_apart(read, LOAD_RELAXED(e->addend) != common));
}

/* Under tlb_lock, by the owner outside of generated code: no fast path is between comparator and addend. */
static void set_common_addend(struct raddle_cpu *cpu, uint32_t index, uint64_t addend)
{
    *common_addend(cpu, index) = addend;
    cpu->common[index] = (struct common_addend){0};
    for EACH_ENTERED (i, index)
        compare_addend(&cpu->tlb[index * RADDLE_TLB_ENTRIES + i], addend);
    for (uint32_t v = 0; v < RADDLE_VICTIM_ENTRIES; v++)
        compare_addend(&cpu->victims[index][v], addend);
}

/* A new entry votes for its addend. */
static void vote(struct raddle_cpu *cpu, uint32_t index, uint64_t addend)
{
    struct common_addend *common = &cpu->common[index];
    uint64_t current = *common_addend(cpu, index);
    if (addend != current && (!common->votes || common->rival == addend)) {
        common->rival = addend;
        if (++common->votes >= COMMON_VOTES || current == NONE)
            set_common_addend(cpu, index, addend);
    } else if (common->votes)
        common->votes--;
}

/* -- probing ----------------------------------------------------------------------------------------------------- */

static uint64_t comparator(const struct tlb_entry *e, uint32_t access)
{
    const uint64_t *field = access == ACCESS_READ ? &e->read : access == ACCESS_WRITE ? &e->write : &e->exec;
    return LOAD_RELAXED(*field);
}

static bool matches(const struct raddle_cpu *cpu, uint64_t value, uint64_t page)
{
    uint64_t low = cpu->context->page_size - 1;
    return (value & ~low) == page && !(value & RADDLE_TLB_INVALID);
}

/* Whether any of an entry's comparators is for the page. */
static bool holds_page(const struct raddle_cpu *cpu, const struct tlb_entry *e, uint64_t page)
{
    return matches(cpu, e->read, page) || matches(cpu, e->write, page) || matches(cpu, e->exec, page);
}

static bool is_empty(const struct tlb_entry *e)
{
    return (e->read & e->write & e->exec & RADDLE_TLB_INVALID) != 0;
}

/* Finds a usable entry for an access, also among the victims (a hit there is swapped with the main entry). */
bool tlb_probe(struct raddle_cpu *cpu, uint64_t address, uint32_t access, uint32_t index, struct probe *out)
{
    uint64_t page = address & ~(cpu->context->page_size - 1);
    struct tlb_entry *e = main_entry(cpu, index, address), copy = entry_read(e);
    if (!matches(cpu, comparator(&copy, access), page)) {
        uint32_t v = 0;
        while (v < RADDLE_VICTIM_ENTRIES && !matches(cpu, comparator(&cpu->victims[index][v], access), page))
            v++;
        if (v == RADDLE_VICTIM_ENTRIES)
            return false;
        pthread_mutex_lock(&cpu->tlb_lock);
        struct tlb_entry main_copy = entry_read(e);
        struct tlb_side main_side = *side_of(cpu, e);
        copy = entry_read(&cpu->victims[index][v]);
        entry_write(e, &copy);
        set_entered(cpu, e);
        *side_of(cpu, e) = cpu->victim_side[index][v];
        entry_write(&cpu->victims[index][v], &main_copy);
        cpu->victim_side[index][v] = main_side;
        pthread_mutex_unlock(&cpu->tlb_lock);
    }
    const struct tlb_side *side = side_of(cpu, e);
    *out = (struct probe){comparator(&copy, access), copy.addend, side->paddr, side->local != 0};
    return true;
}

static void tell_unfilled(struct raddle_cpu *cpu, uint64_t address, uint32_t access_and_index)
{
    if (!cpu->context->callbacks.unfilled)
        return;
    bool was_in_code = enter_python(cpu);
    cpu->context->callbacks.unfilled(cpu->env, address, access_and_index);
    leave_python(cpu, was_in_code);
}

/* Makes an entry for an access: 0, or a fault's code. */
uint32_t tlb_fill(struct raddle_cpu *cpu, uint64_t address, uint32_t size, uint32_t access, uint32_t index,
                  struct probe *out)
{
    uint64_t page = address & ~(cpu->context->page_size - 1);
    bool entered = false;
    /* A callee in Python runs out of code, so a flush may drop the new entry again meanwhile. */
    for (uint32_t tries = 0; tries < FILL_TRIES; tries++) {
        if (tlb_probe(cpu, address, access, index, out))
            return 0;
        cpu->header->count_fill++;
        cpu->wanted.page = page;
        cpu->wanted.access = access;
        cpu->wanted.index = index;
        cpu->wanted.entered = false;
        uint32_t code = (uint32_t)call_callee(cpu, RADDLE_CALLEE_TLB_FILL, address, access | index << 8, size, 0);
        if (code)
            return code;
        entered |= cpu->wanted.entered;
    }
    if (!entered)
        tell_unfilled(cpu, address, access | index << 8);
    return FAULT_BUS;
}

uint64_t raddle_code_page(void *env, uint64_t address)
{
    struct probe probe;
    return fetch_probe(cpu_of(env), address, &probe) ? NONE : probe.paddr;
}

uint64_t raddle_debug_translate(void *env, uint64_t address, uint32_t index)
{
    struct raddle_cpu *cpu = cpu_of(env);
    for (uint32_t access = ACCESS_READ; access <= ACCESS_FETCH; access++) {
        struct probe probe;
        if (!tlb_fill(cpu, address & cpu->context->word_mask, 1, access, index & (RADDLE_MMU_INDICES - 1), &probe))
            return probe.paddr | (address & (cpu->context->page_size - 1));
    }
    return NONE;
}

/* -- entering --------------------------------------------------------------------------------------------------- */

/* A flush of a page inside a large page must drop all entries made from the large page. One range for each index covers
 * all large pages. */
static void remember_large(struct raddle_cpu *cpu, uint32_t index, uint64_t address, uint32_t size_log2)
{
    struct large_range *large = &cpu->large[index];
    uint64_t mask = size_log2 >= 64 ? 0 : ~(uint64_t)0 << size_log2;
    if (large->base == NONE) {
        *large = (struct large_range){address & mask, mask};
        return;
    }
    mask &= large->mask;
    while (mask && ((large->base ^ address) & mask))
        mask <<= 1;
    *large = (struct large_range){large->base & mask, mask};
}

static bool is_watched(const struct raddle_context *ctx, uint64_t page)
{
    uint32_t count = atomic_load_explicit(&ctx->watch_count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++)
        if (ctx->watch_pages[i] == page)
            return true;
    return false;
}

/* The contents of an entry for a page, without the bits that other threads may change. */
static struct tlb_entry entry_for(const struct raddle_context *ctx, const struct region *region, uint64_t page,
                                  uint64_t paddr, uint32_t prot)
{
    bool memory = region && is_memory(region);
    uint64_t flags = is_watched(ctx, page) ? RADDLE_TLB_WATCH : 0;
    if (!memory)
        flags |= RADDLE_TLB_MMIO;
    uint64_t write_flags = flags | (memory && region->r.kind != RADDLE_REGION_RAM ? RADDLE_TLB_MMIO : 0);
    struct tlb_entry e = EMPTY;
    if (prot & PROT_READ_BIT)
        e.read = page | flags;
    if (prot & PROT_WRITE_BIT)
        e.write = page | write_flags;
    if (prot & PROT_EXEC_BIT)
        e.exec = page | (memory ? 0 : RADDLE_TLB_MMIO);
    if (memory)
        e.addend = (uint64_t)(uintptr_t)region->r.memory + (paddr - region->r.base) - page;
    return e;
}

static void keep_as_victim(struct raddle_cpu *cpu, uint32_t index, struct tlb_entry *e, uint64_t page)
{
    struct tlb_entry old = entry_read(e);
    if (is_empty(&old) || holds_page(cpu, &old, page))
        return;
    uint32_t v = cpu->victim_next[index]++ % RADDLE_VICTIM_ENTRIES;
    entry_write(&cpu->victims[index][v], &old);
    cpu->victim_side[index][v] = *side_of(cpu, e);
}

static void drop_victims(struct raddle_cpu *cpu, uint32_t index, uint64_t page)
{
    for (uint32_t v = 0; v < RADDLE_VICTIM_ENTRIES; v++) {
        struct tlb_entry old = entry_read(&cpu->victims[index][v]);
        if (holds_page(cpu, &old, page))
            entry_write(&cpu->victims[index][v], &EMPTY);
    }
}

void tlb_set(struct raddle_cpu *cpu, uint64_t address, uint64_t paddr, uint32_t prot, uint32_t size_log2,
             uint32_t index)
{
    struct raddle_context *ctx = cpu->context;
    uint64_t low = ctx->page_size - 1, page = address & ctx->word_mask & ~low;
    paddr &= ~low;
    if (index >= RADDLE_MMU_INDICES)
        return;
    if (page == cpu->wanted.page && index == cpu->wanted.index && (prot >> cpu->wanted.access & 1))
        cpu->wanted.entered = true;
    if (size_log2 > ctx->config.page_bits)
        remember_large(cpu, index, page, size_log2);
    struct region *region = region_at(ctx, paddr);
    struct tlb_entry *e = main_entry(cpu, index, page), value = entry_for(ctx, region, page, paddr, prot);
    struct page *record = page_at(ctx, paddr);
    pthread_mutex_lock(&cpu->tlb_lock);
    /* code_begin sets `code` and then takes this lock to mark entries: seen here or marked there. */
    if (record && atomic_load(&record->code) && (prot & PROT_WRITE_BIT))
        value.write |= RADDLE_TLB_NOTDIRTY;
    /* The same holds for rom_device_loads. */
    if (region && loads_by_callback(region) && (prot & PROT_READ_BIT))
        value.read |= RADDLE_TLB_MMIO;
    drop_victims(cpu, index, page);
    keep_as_victim(cpu, index, e, page);
    if (has_common_addend(cpu, index) && region && is_memory(region)) {
        vote(cpu, index, value.addend);
        compare_addend(&value, *common_addend(cpu, index));
    }
    entry_write(e, &value);
    set_entered(cpu, e);
    *side_of(cpu, e) = (struct tlb_side){paddr, prot & PROT_LOCAL_BIT};
    atomic_fetch_or_explicit(&cpu->tlb_used, 1u << index, memory_order_relaxed);
    pthread_mutex_unlock(&cpu->tlb_lock);
}

/* -- code pages ------------------------------------------------------------------------------------------------- */

static void entry_mark(struct tlb_entry *e, const struct tlb_side *side, uint64_t page, bool set)
{
    uint64_t write = LOAD_RELAXED(e->write);
    if (side->paddr != page || (write & RADDLE_TLB_INVALID))
        return;
    STORE(e->write, set ? write | RADDLE_TLB_NOTDIRTY : write & ~(uint64_t)RADDLE_TLB_NOTDIRTY);
}

static void mark(struct raddle_cpu *cpu, uint64_t page, bool set)
{
    pthread_mutex_lock(&cpu->tlb_lock);
    uint32_t used = atomic_load_explicit(&cpu->tlb_used, memory_order_relaxed);
    for (uint32_t index = 0; index < RADDLE_MMU_INDICES; index++) {
        if (!(used >> index & 1))
            continue;
        for EACH_ENTERED (i, index)
            if (cpu->side[index][i].paddr == page)
                entry_mark(&cpu->tlb[index * RADDLE_TLB_ENTRIES + i], &cpu->side[index][i], page, set);
        for (uint32_t v = 0; v < RADDLE_VICTIM_ENTRIES; v++)
            entry_mark(&cpu->victims[index][v], &cpu->victim_side[index][v], page, set);
    }
    pthread_mutex_unlock(&cpu->tlb_lock);
}

/* From any thread: from now on stores to the physical page take the slow path on this vCPU. */
void tlb_mark_code(struct raddle_cpu *cpu, uint64_t page)
{
    mark(cpu, page, true);
}

/* By the owner, under code_lock: the page holds no code. */
void tlb_clean_page(struct raddle_cpu *cpu, uint64_t page)
{
    mark(cpu, page, false);
}

/* -- ROM devices ------------------------------------------------------------------------------------------------ */

static void entry_mark_loads(struct tlb_entry *e, const struct tlb_side *side, uint64_t base, uint64_t size, bool set)
{
    uint64_t read = LOAD_RELAXED(e->read);
    if (side->paddr - base >= size || (read & RADDLE_TLB_INVALID))
        return;
    STORE(e->read, set ? read | RADDLE_TLB_MMIO : read & ~(uint64_t)RADDLE_TLB_MMIO);
}

/* From any thread: sets who serves this vCPU's loads from the physical range, which belongs to a ROM device. */
void tlb_mark_loads(struct raddle_cpu *cpu, uint64_t base, uint64_t size, bool by_callback)
{
    pthread_mutex_lock(&cpu->tlb_lock);
    uint32_t used = atomic_load_explicit(&cpu->tlb_used, memory_order_relaxed);
    for (uint32_t index = 0; index < RADDLE_MMU_INDICES; index++) {
        if (!(used >> index & 1))
            continue;
        for EACH_ENTERED (i, index)
            entry_mark_loads(&cpu->tlb[index * RADDLE_TLB_ENTRIES + i], &cpu->side[index][i], base, size, by_callback);
        for (uint32_t v = 0; v < RADDLE_VICTIM_ENTRIES; v++)
            entry_mark_loads(&cpu->victims[index][v], &cpu->victim_side[index][v], base, size, by_callback);
    }
    pthread_mutex_unlock(&cpu->tlb_lock);
}

/* -- flushing, by the owner ------------------------------------------------------------------------------------- */

static void flush_index(struct raddle_cpu *cpu, uint32_t index)
{
    if (!(atomic_load_explicit(&cpu->tlb_used, memory_order_relaxed) >> index & 1))
        return;
    for EACH_ENTERED (i, index) {
        entry_write(&cpu->tlb[index * RADDLE_TLB_ENTRIES + i], &EMPTY);
        cpu->side[index][i] = (struct tlb_side){NONE, NONE};
    }
    memset(cpu->tlb_entered[index], 0, sizeof cpu->tlb_entered[index]);
    for (uint32_t v = 0; v < RADDLE_VICTIM_ENTRIES; v++)
        entry_write(&cpu->victims[index][v], &EMPTY);
    memset(cpu->victim_side[index], 0xff, sizeof cpu->victim_side[index]);
    cpu->large[index] = (struct large_range){.base = NONE};
    atomic_fetch_and_explicit(&cpu->tlb_used, ~(1u << index), memory_order_relaxed);
}

void tlb_flush_indices(struct raddle_cpu *cpu, uint32_t indices)
{
    pthread_mutex_lock(&cpu->tlb_lock);
    for (uint32_t index = 0; index < RADDLE_MMU_INDICES; index++)
        if (indices >> index & 1)
            flush_index(cpu, index);
    pthread_mutex_unlock(&cpu->tlb_lock);
    jumps_clear(cpu);
}

static void drop_local(struct tlb_entry *e, const struct tlb_side *side)
{
    if (side->local)
        entry_write(e, &EMPTY);
}

/* Drops entries that belong only to the current address space. */
void tlb_flush_local(struct raddle_cpu *cpu, uint32_t indices)
{
    indices &= atomic_load_explicit(&cpu->tlb_used, memory_order_relaxed);
    pthread_mutex_lock(&cpu->tlb_lock);
    for (uint32_t index = 0; index < RADDLE_MMU_INDICES; index++) {
        if (!(indices >> index & 1))
            continue;
        for EACH_ENTERED (i, index) {
            drop_local(&cpu->tlb[index * RADDLE_TLB_ENTRIES + i], &cpu->side[index][i]);
            if (cpu->side[index][i].local)
                cpu->tlb_entered[index][i / 64] &= ~((uint64_t)1 << i % 64);
        }
        for (uint32_t v = 0; v < RADDLE_VICTIM_ENTRIES; v++)
            drop_local(&cpu->victims[index][v], &cpu->victim_side[index][v]);
    }
    pthread_mutex_unlock(&cpu->tlb_lock);
    jumps_clear_local(cpu);
}

static bool in_large(const struct raddle_cpu *cpu, uint32_t index, uint64_t first, uint64_t last)
{
    const struct large_range *large = &cpu->large[index];
    return large->base != NONE && first <= (large->base | ~large->mask) && last >= large->base;
}

static void flush_page(struct raddle_cpu *cpu, uint32_t index, uint64_t page)
{
    struct tlb_entry *e = main_entry(cpu, index, page), old = entry_read(e);
    if (holds_page(cpu, &old, page))
        entry_write(e, &EMPTY);
    drop_victims(cpu, index, page);
}

/* Ranges beyond this many pages flush their indices as a whole. */
#define RANGE_PAGES 64

void tlb_flush_record(struct raddle_cpu *cpu, const struct flush_record *record)
{
    struct raddle_context *ctx = cpu->context;
    uint64_t low = ctx->page_size - 1;
    cpu->header->count_flush++;
    if (!record->length || record->length > RANGE_PAGES * ctx->page_size) {
        tlb_flush_indices(cpu, record->indices);
        return;
    }
    uint64_t first = record->address & ctx->word_mask & ~low;
    uint64_t pages = ((record->address & low) + record->length + low) >> ctx->config.page_bits;
    uint64_t last = first + pages * ctx->page_size - 1;
    bool whole = false;
    pthread_mutex_lock(&cpu->tlb_lock);
    for (uint32_t index = 0; index < RADDLE_MMU_INDICES; index++) {
        if (!(record->indices >> index & 1))
            continue;
        if (in_large(cpu, index, first, last)) {
            flush_index(cpu, index);
            whole = true;
        }
        for (uint64_t i = 0; i < pages; i++)
            flush_page(cpu, index, (first + i * ctx->page_size) & ctx->word_mask);
    }
    pthread_mutex_unlock(&cpu->tlb_lock);
    if (whole)
        jumps_clear(cpu);
    for (uint64_t i = 0; !whole && i < pages; i++)
        jumps_clear_page(cpu, (first + i * ctx->page_size) & ctx->word_mask);
}

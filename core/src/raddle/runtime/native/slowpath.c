/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory accesses that generated code does not do itself: TLB misses, unaligned and page-crossing accesses, I/O,
 * stores to pages with code, watched pages, atomic operations that need care.
 *
 * All take the address in arg0, and return 1 when the block must be left at once: an exception was entered, or the
 * instruction must run again as a block of one. pc is exact then. */
#include "internal.h"
#include "ram.h"

struct access {
    struct raddle_cpu *cpu;
    uint64_t address, retaddr, outer;
    uint32_t size, index, kind;
    bool is_signed, big_endian;
    bool reserves;     /* a load-exclusive whose reservation is exact */
    uint32_t *granule; /* its word; NULL for I/O */
};

static struct access begin(void *env, uint64_t retaddr, uint32_t oi, uint32_t kind)
{
    struct raddle_cpu *cpu = cpu_of(env);
    struct access a = {
        .cpu = cpu,
        .address = cpu->header->arg0 & cpu->context->word_mask,
        .retaddr = retaddr,
        .outer = cpu->retaddr,
        .size = 1u << (oi & 7),
        .index = oi >> 8 & (RADDLE_MMU_INDICES - 1),
        .kind = kind,
        .is_signed = oi >> 3 & 1,
        .big_endian = oi >> 4 & 1,
    };
    cpu->header->count_slow++;
    if (in_blocks(cpu->context, retaddr))
        STORE_RELAXED(cpu->retaddr, retaddr);
    return a;
}

static uint32_t finish(struct access *a, uint32_t leave)
{
    STORE_RELAXED(a->cpu->retaddr, a->outer);
    return leave;
}

/* The instruction did not execute: set pc to it, and give back what the block counted from it on. */
static void back_out(struct access *a)
{
    struct raddle_block *block = block_of_address(a->cpu->context, a->retaddr);
    int index = raddle_restore_pc(a->cpu->env, a->retaddr);
    if (index >= 0)
        icount_refund(a->cpu, block->ninsns - (uint32_t)index);
}

static uint32_t fault(struct access *a, uint64_t address, uint32_t code)
{
    back_out(a);
    deliver_fault(a->cpu, address, a->size, a->kind | a->index << 8, code);
    return finish(a, 1);
}

static uint32_t run_alone(struct access *a, uint32_t flags)
{
    back_out(a);
    a->cpu->block_flags = RADDLE_SINGLE | flags;
    return finish(a, 1);
}

static bool is_misaligned(const struct access *a, uint32_t oi)
{
    return (a->address & ((1u << (oi >> 5 & 7)) - 1)) != 0;
}

static bool crosses_page(const struct access *a)
{
    uint64_t low = a->cpu->context->page_size - 1;
    return (a->address & low) + a->size > low + 1;
}

static uint64_t swapped(const struct access *a, uint64_t value)
{
    if (!a->big_endian)
        return value;
    return __builtin_bswap64(value) >> (64 - 8 * a->size);
}

static uint64_t extended(const struct access *a, uint64_t value)
{
    uint32_t shift = 64 - 8 * a->size;
    return a->is_signed ? (uint64_t)((int64_t)(value << shift) >> shift) : value << shift >> shift;
}

/* -- RAM -------------------------------------------------------------------------------------------------------- */

static uint32_t own_bit(const struct raddle_cpu *cpu)
{
    return (uint32_t)cpu->header->reservation;
}

static void *host_pointer(const struct probe *probe, uint64_t address)
{
    return (void *)(uintptr_t)(probe->addend + address);
}

static uint64_t paddr_of(const struct access *a, const struct probe *probe, uint64_t address)
{
    return probe->paddr | (address & (a->cpu->context->page_size - 1));
}

/* Whether the watch callback was called: it runs out of code, so that the TLB entry may have been flushed meanwhile. */
static bool watch(const struct access *a, const struct probe *probe, bool is_write, uint64_t value)
{
    struct raddle_cpu *cpu = a->cpu;
    if (!(probe->comparator & RADDLE_TLB_WATCH) || !cpu->context->callbacks.watch)
        return false;
    bool was_in_code = enter_python(cpu);
    cpu->context->callbacks.watch(cpu->env, a->address, a->size, is_write, value);
    leave_python(cpu, was_in_code);
    return true;
}

/* -- loads ------------------------------------------------------------------------------------------------------ */

/* The load of an exact load-exclusive: sets the vCPU's reservation (granules.c). */
static uint64_t reserving_load(struct access *a, const void *p, uint32_t size)
{
    struct raddle_context *ctx = a->cpu->context;
    a->granule = granule_word(ctx, p);
    granules_lock(ctx, p, size);
    uint64_t value = ram_load(p, size);
    STORE_RELAXED(*a->granule, LOAD_RELAXED(*a->granule) | own_bit(a->cpu));
    granules_unlock(ctx, p, size, ALL_RESERVATIONS);
    return value;
}

/* `size` bytes within one page, in memory order as a little-endian number: 0 or a fault's code. */
static uint32_t load_part(struct access *a, uint64_t address, uint32_t size, uint64_t *value)
{
    struct probe probe;
    uint32_t code = tlb_fill(a->cpu, address, size, ACCESS_READ, a->index, &probe);
    if (code)
        return code;
    if (probe.comparator & RADDLE_TLB_MMIO)
        return io_access(a->cpu, paddr_of(a, &probe, address), size, false, value) ? FAULT_BUS : 0;
    const void *p = host_pointer(&probe, address);
    *value = a->reserves ? reserving_load(a, p, size) : ram_load(p, size);
    return 0;
}

static uint32_t load_crossing(struct access *a, uint64_t *value)
{
    uint64_t word_mask = a->cpu->context->word_mask;
    for (uint32_t i = 0; i < a->size; i++) {
        uint64_t byte = 0, address = (a->address + i) & word_mask;
        uint32_t code = load_part(a, address, 1, &byte);
        if (code) {
            a->address = address;
            return code;
        }
        *value |= byte << (8 * i);
    }
    return 0;
}

static void watch_load(struct access *a, uint64_t value)
{
    struct probe probe, last;
    if (!atomic_load_explicit(&a->cpu->context->watch_count, memory_order_relaxed) ||
        !tlb_probe(a->cpu, a->address, ACCESS_READ, a->index, &probe))
        return;
    uint64_t end = (a->address + a->size - 1) & a->cpu->context->word_mask;
    if (crosses_page(a) && tlb_probe(a->cpu, end, ACCESS_READ, a->index, &last))
        probe.comparator |= last.comparator & RADDLE_TLB_WATCH;
    watch(a, &probe, false, value);
}

static uint32_t load(struct access *a, uint32_t oi, uint64_t *value)
{
    if (is_misaligned(a, oi))
        return FAULT_ALIGNMENT;
    *value = 0;
    uint32_t code = crosses_page(a) ? load_crossing(a, value) : load_part(a, a->address, a->size, value);
    if (!code)
        watch_load(a, swapped(a, *value));
    /* A barrier behind this load may have been left out because the block has no store since the barrier before it
     * (join.c). But a page-table walk, a device or a watch may just have stored to the guest's memory. */
    atomic_thread_fence(memory_order_seq_cst);
    return code;
}

uint32_t raddle_slow_load(void *env, uint64_t retaddr, uint32_t oi)
{
    struct access a = begin(env, retaddr, oi, ACCESS_READ);
    uint64_t value;
    uint32_t code = load(&a, oi, &value);
    if (code)
        return fault(&a, a.address, code);
    a.cpu->header->result = extended(&a, swapped(&a, value));
    return finish(&a, 0);
}

/* -- stores ----------------------------------------------------------------------------------------------------- */

/* Whether a store to a page with code changes the block that does it. Such a block is left, and the instruction is
 * translated as a block of its own, so that nothing stale runs after it; there the store may go ahead. */
static bool changes_itself(const struct access *a, const struct probe *probe, uint64_t address, uint32_t size)
{
    if (!(probe->comparator & RADDLE_TLB_NOTDIRTY) ||
        !page_holds_code(a->cpu->context, paddr_of(a, probe, address), size))
        return false;
    struct raddle_block *block = block_of_address(a->cpu->context, a->retaddr);
    return block && block->flags != RADDLE_SINGLE &&
           block_overlaps(a->cpu->context, block, paddr_of(a, probe, address), size);
}

/* The entry that was found before the store may have been marked since. A translating thread sets the page's `code` and
 * then reads the bytes; this thread has written the bytes and then reads `code`. With a fence in between on both sides,
 * one of the two sees the other's write (raddle_code_begin). */
static void stored(struct access *a, const struct probe *probe, uint64_t address, uint32_t size)
{
    uint64_t paddr = paddr_of(a, probe, address);
    atomic_thread_fence(memory_order_seq_cst);
    if (!(probe->comparator & RADDLE_TLB_NOTDIRTY) && !page_is_translated(a->cpu->context, paddr))
        return;
    COUNT(a->cpu->stats.notdirty, 1);
    page_stored(a->cpu->context, a->cpu, paddr, size);
}

static uint32_t store_part(struct access *a, const struct probe *probe, uint64_t address, uint32_t size, uint64_t value)
{
    if (probe->comparator & RADDLE_TLB_MMIO)
        return io_access(a->cpu, paddr_of(a, probe, address), size, true, &value) ? FAULT_BUS : 0;
    void *p = host_pointer(probe, address);
    granules_lock(a->cpu->context, p, size);
    ram_store(p, value, size);
    granules_unlock(a->cpu->context, p, size, own_bit(a->cpu));
    stored(a, probe, address, size);
    return 0;
}

/* Finds the entries of both pages of a store that crosses a page boundary: 0, or the code of a fault at *faulted.
 * Filling one entry may run out of code, so the other is looked up again. */
static uint32_t fill_both(struct access *a, uint64_t second, struct probe *probes, uint64_t *faulted)
{
    uint32_t first_size = (uint32_t)((second - a->address) & a->cpu->context->word_mask);
    do {
        *faulted = a->address;
        uint32_t code = tlb_fill(a->cpu, a->address, first_size, ACCESS_WRITE, a->index, &probes[0]);
        if (code)
            return code;
        *faulted = second;
        code = tlb_fill(a->cpu, second, a->size - first_size, ACCESS_WRITE, a->index, &probes[1]);
        if (code)
            return code;
    } while (!tlb_probe(a->cpu, a->address, ACCESS_WRITE, a->index, &probes[0]));
    return 0;
}

/* Both pages are known to be writable before the first byte is stored. */
static uint32_t store_crossing(struct access *a, uint64_t value)
{
    struct raddle_context *ctx = a->cpu->context;
    uint64_t second = ((a->address | (ctx->page_size - 1)) + 1) & ctx->word_mask, faulted;
    uint32_t first_size = (uint32_t)(ctx->page_size - (a->address & (ctx->page_size - 1)));
    struct probe probes[2];
    uint32_t code = fill_both(a, second, probes, &faulted);
    if (code)
        return fault(a, faulted, code);
    if (changes_itself(a, &probes[0], a->address, first_size) ||
        changes_itself(a, &probes[1], second, a->size - first_size))
        return run_alone(a, 0);
    struct probe both = probes[0];
    both.comparator |= probes[1].comparator & RADDLE_TLB_WATCH;
    if (watch(a, &both, true, swapped(a, value)) && (code = fill_both(a, second, probes, &faulted)))
        return fault(a, faulted, code);
    for (uint32_t i = 0; i < a->size; i++) {
        uint64_t address = (a->address + i) & ctx->word_mask;
        code = store_part(a, &probes[i >= first_size], address, 1, value >> (8 * i) & 0xff);
        if (code)
            return fault(a, address, code);
    }
    return finish(a, 0);
}

uint32_t raddle_slow_store(void *env, uint64_t retaddr, uint32_t oi)
{
    uint64_t value = header_of(env)->arg1;
    struct access a = begin(env, retaddr, oi, ACCESS_WRITE);
    if (is_misaligned(&a, oi))
        return fault(&a, a.address, FAULT_ALIGNMENT);
    if (crosses_page(&a))
        return store_crossing(&a, swapped(&a, value));
    struct probe probe;
    uint32_t code = tlb_fill(a.cpu, a.address, a.size, ACCESS_WRITE, a.index, &probe);
    if (code)
        return fault(&a, a.address, code);
    if (changes_itself(&a, &probe, a.address, a.size))
        return run_alone(&a, 0);
    if (watch(&a, &probe, true, value))
        code = tlb_fill(a.cpu, a.address, a.size, ACCESS_WRITE, a.index, &probe);
    if (!code)
        code = store_part(&a, &probe, a.address, a.size, swapped(&a, value));
    return code ? fault(&a, a.address, code) : finish(&a, 0);
}

/* -- atomic operations ------------------------------------------------------------------------------------------ */

/* The smaller or the larger of two numbers that have the bits of `mask`. */
static uint64_t extreme(uint32_t op, uint64_t old, uint64_t given, uint64_t mask)
{
    uint64_t sign = op == RADDLE_OP_SMIN || op == RADDLE_OP_SMAX ? (mask >> 1) + 1 : 0;
    bool smaller = op == RADDLE_OP_SMIN || op == RADDLE_OP_UMIN;
    return ((given ^ sign) < (old ^ sign)) == smaller ? given : old;
}

/* The value in memory after the operation, as the guest sees it. */
static uint64_t operated(uint32_t op, uint64_t old, uint64_t a1, uint64_t a2, uint64_t mask)
{
    switch (op) {
    case RADDLE_OP_CMPXCHG:
        return old == (a1 & mask) ? a2 & mask : old;
    case RADDLE_OP_XCHG:
        return a1 & mask;
    case RADDLE_OP_ADD:
        return (old + a1) & mask;
    case RADDLE_OP_AND:
        return old & a1;
    case RADDLE_OP_OR:
        return (old | a1) & mask;
    case RADDLE_OP_XOR:
        return (old ^ a1) & mask;
    default:
        return extreme(op, old, a1 & mask, mask);
    }
}

#define EXCHANGE_CASE(size, type)                                                                                      \
    case size: {                                                                                                       \
        type seen = (type)expected;                                                                                    \
        return __atomic_compare_exchange_n((type *)p, &seen, (type)wanted, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    }

/* Compare and exchange in memory order. A misaligned one is atomic only because no other vCPU runs (see do_atomic). */
static bool ram_exchange(void *p, uint32_t size, uint64_t expected, uint64_t wanted)
{
    if ((uintptr_t)p & (size - 1)) {
        if (ram_load(p, size) != expected)
            return false;
        ram_store(p, wanted, size);
        return true;
    }
    switch (size) {
        EXCHANGE_CASE(1, uint8_t)
        EXCHANGE_CASE(2, uint16_t)
        EXCHANGE_CASE(4, uint32_t)
    default:
        EXCHANGE_CASE(8, uint64_t)
    }
}

static uint32_t load_exclusive(struct access *a, uint32_t oi)
{
    struct raddle_cpu_header *h = a->cpu->header;
    uint64_t value;
    a->reserves = has_flag(a->cpu->context, RADDLE_FLAG_RESERVE);
    uint32_t code = load(a, oi, &value);
    if (code)
        return fault(a, a->address, code);
    h->exclusive_address = a->address;
    h->exclusive_value = a->reserves ? (uintptr_t)a->granule
                                     : extended(&(struct access){.size = a->size}, swapped(a, value));
    h->exclusive_size = a->size;
    h->result = extended(a, swapped(a, value));
    return finish(a, 0);
}

/* On I/O the operation is not atomic, but the big lock is held from its load to its store. */
static uint32_t io_atomic(struct access *a, uint64_t paddr, uint32_t op, uint64_t a1, uint64_t a2)
{
    uint64_t mask = a->size == 8 ? UINT64_MAX : ((uint64_t)1 << (8 * a->size)) - 1, value = 0, result = 0;
    cpu_big_lock(a->cpu);
    int failed;
    if (op == RADDLE_OP_STORE_EXCLUSIVE) {
        value = swapped(a, a1 & mask);
        failed = io_access(a->cpu, paddr, a->size, true, &value);
    } else {
        failed = io_access(a->cpu, paddr, a->size, false, &value);
        result = swapped(a, value);
        value = swapped(a, operated(op, result, a1, a2, mask));
        failed = failed || io_access(a->cpu, paddr, a->size, true, &value);
    }
    raddle_big_unlock(a->cpu->context);
    if (failed)
        return fault(a, a->address, FAULT_BUS);
    a->cpu->header->result = extended(a, result);
    return finish(a, 0);
}

/* Stores if the vCPU's exact reservation, which has this address and size, still stands. */
static bool reserved_store(struct raddle_cpu *cpu, void *p, uint32_t size, uint64_t value)
{
    const uint32_t *word = granule_word(cpu->context, p);
    granules_lock(cpu->context, p, size);
    /* The address may have been mapped to another granule since the load. */
    bool stands = cpu->header->exclusive_value == (uintptr_t)word && LOAD_RELAXED(*word) & own_bit(cpu);
    if (stands)
        ram_store(p, value, size);
    granules_unlock(cpu->context, p, size, stands ? 0 : ALL_RESERVATIONS);
    return stands;
}

/* Returns the value before the operation; *wanted is the one after it. A comparison that fails writes nothing. */
static uint64_t ram_operate(const struct access *a, void *p, uint32_t op, uint64_t a1, uint64_t a2, uint64_t *wanted)
{
    uint64_t mask = a->size == 8 ? UINT64_MAX : ((uint64_t)1 << (8 * a->size)) - 1, old;
    granules_lock(a->cpu->context, p, a->size);
    do {
        old = swapped(a, ram_load(p, a->size));
        *wanted = operated(op, old, a1, a2, mask);
    } while (!ram_exchange(p, a->size, swapped(a, old), swapped(a, *wanted)));
    bool fails = op == RADDLE_OP_CMPXCHG && old != (a1 & mask);
    granules_unlock(a->cpu->context, p, a->size, fails ? ALL_RESERVATIONS : own_bit(a->cpu));
    return old;
}

static uint32_t do_atomic(struct access *a, uint32_t op, uint64_t a1, uint64_t a2)
{
    struct raddle_cpu *cpu = a->cpu;
    struct raddle_cpu_header *h = cpu->header;
    uint64_t mask = a->size == 8 ? UINT64_MAX : ((uint64_t)1 << (8 * a->size)) - 1;
    struct probe probe;
    uint32_t code = tlb_fill(cpu, a->address, a->size, ACCESS_WRITE, a->index, &probe);
    if (code)
        return fault(a, a->address, code);
    uint64_t paddr = paddr_of(a, &probe, a->address);
    if (probe.comparator & RADDLE_TLB_MMIO)
        return io_atomic(a, paddr, op, a1, a2);
    if (changes_itself(a, &probe, a->address, a->size))
        return run_alone(a, 0);
    if ((a->address & (a->size - 1)) && has_flag(cpu->context, RADDLE_FLAG_PARALLEL) && !cpu->exclusive)
        return run_alone(a, FLAG_EXCLUSIVE);
    void *p = host_pointer(&probe, a->address);
    uint64_t wanted = op == RADDLE_OP_STORE_EXCLUSIVE ? a1 & mask : 0;
    if (op == RADDLE_OP_STORE_EXCLUSIVE)
        h->result = !(has_flag(cpu->context, RADDLE_FLAG_RESERVE)
                          ? reserved_store(cpu, p, a->size, swapped(a, wanted))
                          : ram_exchange(p, a->size, swapped(a, h->exclusive_value & mask), swapped(a, wanted)));
    else
        h->result = extended(a, ram_operate(a, p, op, a1, a2, &wanted));
    watch(a, &probe, true, wanted);
    stored(a, &probe, a->address, a->size);
    if (cpu->exclusive)
        STORE(h->exit_request, 1); /* end the exclusive section at the next block entry */
    return finish(a, 0);
}

uint32_t raddle_slow_atomic(void *env, uint64_t retaddr, uint32_t oi, uint32_t op)
{
    struct raddle_cpu_header *h = header_of(env);
    uint64_t a1 = h->arg1, a2 = h->arg2;
    struct access a = begin(env, retaddr, oi, op == RADDLE_OP_LOAD_EXCLUSIVE ? ACCESS_READ : ACCESS_WRITE);
    if (op == RADDLE_OP_LOAD_EXCLUSIVE)
        return load_exclusive(&a, oi);
    if (is_misaligned(&a, oi))
        return fault(&a, a.address, FAULT_ALIGNMENT);
    if (crosses_page(&a))
        return fault(&a, a.address, FAULT_ALIGNMENT); /* no architecture promises that these work */
    if (op == RADDLE_OP_STORE_EXCLUSIVE) {
        bool reserved = h->exclusive_address == a.address && h->exclusive_size == a.size;
        if (!reserved) {
            h->exclusive_address = NONE;
            h->result = 1;
            return finish(&a, 0);
        }
    }
    uint32_t leave = do_atomic(&a, op, a1, a2);
    if (op == RADDLE_OP_STORE_EXCLUSIVE && !leave)
        h->exclusive_address = NONE;
    return leave;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Guest physical memory: stores, I/O, helpers, watched pages. The map of memory is in regions.c. */
#include "internal.h"
#include "ram.h"

#include <stdlib.h>
#include <string.h>

/* Writes in no particular order. Holds the lock of each granule while it writes there. */
static void write_memory(struct raddle_context *ctx, char *to, const uint8_t *from, uint64_t size)
{
    while (size) {
        uint64_t rest = GRANULE_SIZE - (uintptr_t)to % GRANULE_SIZE;
        uint64_t here = ctx->granule_map && rest < size ? rest : size;
        granules_lock(ctx, to, (uint32_t)here);
        ram_write(to, from, here);
        granules_unlock(ctx, to, (uint32_t)here, 0);
        to += here;
        from += here;
        size -= here;
    }
}

int raddle_phys_write(raddle_context *ctx, uint64_t paddr, const void *buffer, uint64_t size)
{
    const uint8_t *in = buffer;
    while (size) {
        struct region *region = region_at(ctx, paddr);
        if (!region || !is_memory(region))
            return -1;
        uint64_t here = region->r.base + region->r.size - paddr;
        here = here < size ? here : size;
        write_memory(ctx, (char *)region->r.memory + (paddr - region->r.base), in, here);
        raddle_code_invalidate(ctx, paddr, here);
        in += here;
        paddr += here;
        size -= here;
    }
    return 0;
}

void raddle_rom_device_loads(raddle_context *ctx, uint64_t paddr, int by_callback)
{
    struct region *region = region_at(ctx, paddr);
    if (!region || region->r.kind != RADDLE_REGION_ROM_DEVICE || loads_by_callback(region) == (by_callback != 0))
        return;
    atomic_store(&region->loads_by_callback, by_callback != 0);
    for (uint32_t i = 0; i < ctx->config.ncpus; i++)
        if (ctx->cpus[i])
            tlb_mark_loads(ctx->cpus[i], region->r.base, region->r.size, by_callback != 0);
}

/* -- I/O -------------------------------------------------------------------------------------------------------- */

static int io_python(struct raddle_cpu *cpu, uint32_t id, uint64_t offset, uint32_t size, bool is_write,
                     uint64_t *value)
{
    if (!cpu->context->callbacks.mmio)
        return 1;
    uint64_t start = now_ns();
    cpu->header->count_python++;
    bool was_in_code = enter_python(cpu);
    int result = cpu->context->callbacks.mmio(cpu->env, id, offset, size, is_write, value);
    leave_python(cpu, was_in_code);
    COUNT(cpu->stats.python_ns, now_ns() - start);
    return result;
}

/* If a routine passes an access on to Python (raddle_helper_io_python), io_failed says whether that was a bus error. */
static int io_routine(struct raddle_cpu *cpu, const struct raddle_region *r, uint64_t offset, uint32_t size,
                      bool is_write, uint64_t *value)
{
    struct raddle_cpu_header *h = cpu->header;
    bool outer = cpu->io_failed;
    cpu->io_failed = false;
    h->arg0 = offset;
    h->arg1 = size | (uint32_t)is_write << 8;
    h->arg2 = *value;
    h->arg3 = r->id;
    uint64_t result = ((raddle_function)(uintptr_t)r->memory)(cpu->env, h->arg0, h->arg1, h->arg2, h->arg3);
    bool failed = cpu->io_failed;
    cpu->io_failed = outer;
    if (!is_write)
        *value = result;
    return failed;
}

static int io_call(struct raddle_cpu *cpu, const struct raddle_region *r, uint64_t offset, uint32_t size, bool is_write,
                   uint64_t *value)
{
    return r->kind == RADDLE_REGION_ROUTINE ? io_routine(cpu, r, offset, size, is_write, value)
                                            : io_python(cpu, r->id, offset, size, is_write, value);
}

/* One I/O access for a vCPU, under the big lock: 0, or 1 for a bus error. Writes to ROM have no effect. For a load from
 * a ROM device, the memory may serve loads again by now. */
int io_access(struct raddle_cpu *cpu, uint64_t paddr, uint32_t size, bool is_write, uint64_t *value)
{
    struct region *region = region_at(cpu->context, paddr);
    cpu->header->count_mmio++;
    if (!region || size > region->r.size - (paddr - region->r.base))
        return 1;
    bool rom_device = region->r.kind == RADDLE_REGION_ROM_DEVICE;
    if (is_memory(region) && !rom_device)
        return is_write && region->r.kind == RADDLE_REGION_ROM ? 0 : 1;
    int result = 0;
    cpu_big_lock(cpu);
    if (rom_device && !is_write && !loads_by_callback(region)) {
        *value = ram_load((char *)region->r.memory + (paddr - region->r.base), size);
    } else {
        result = io_call(cpu, &region->r, paddr - region->r.base, size, is_write, value);
    }
    raddle_big_unlock(cpu->context);
    if (!is_write && size < 8)
        *value &= ((uint64_t)1 << (8 * size)) - 1;
    return result;
}

/* -- the helpers ------------------------------------------------------------------------------------------------ */

/* Memory that serves a load, or a store, without a handler; NULL if there is none. */
static void *memory_to_load(struct raddle_context *ctx, uint64_t paddr, uint64_t size)
{
    struct region *region = region_at(ctx, paddr);
    return region && loads_by_callback(region) ? NULL : raddle_phys_pointer(ctx, paddr, size);
}

static void *memory_to_store(struct raddle_context *ctx, uint64_t paddr, uint64_t size)
{
    struct region *region = region_at(ctx, paddr);
    return region && region->r.kind == RADDLE_REGION_RAM ? raddle_phys_pointer(ctx, paddr, size) : NULL;
}

static uint64_t phys_load(void *env, uint64_t paddr, uint32_t size)
{
    uint64_t value = 0;
    const void *p = memory_to_load(cpu_of(env)->context, paddr, size);
    if (p)
        return ram_load(p, size);
    return io_access(cpu_of(env), paddr, size, false, &value) ? 0 : value;
}

static uint64_t phys_store(void *env, uint64_t paddr, uint64_t value, uint32_t size)
{
    struct raddle_context *ctx = cpu_of(env)->context;
    void *p = memory_to_store(ctx, paddr, size);
    if (!p) {
        io_access(cpu_of(env), paddr, size, true, &value);
        return 0;
    }
    granules_lock(ctx, p, size);
    ram_store(p, value, size);
    granules_unlock(ctx, p, size, 0);
    raddle_code_invalidate(ctx, paddr, size);
    return 0;
}

#define PHYSICAL(bits)                                                                                     \
    uint64_t raddle_helper_phys_load##bits(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)  \
    {                                                                                                      \
        (void)a1, (void)a2, (void)a3;                                                                      \
        return phys_load(env, a0, bits / 8);                                                               \
    }                                                                                                      \
    uint64_t raddle_helper_phys_store##bits(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3) \
    {                                                                                                      \
        (void)a2, (void)a3;                                                                                \
        return phys_store(env, a0, a1, bits / 8);                                                          \
    }

PHYSICAL(8)
PHYSICAL(16)
PHYSICAL(32)
PHYSICAL(64)

#define PHYSICAL_CMPXCHG(bits)                                                                                   \
    uint64_t raddle_helper_phys_cmpxchg##bits(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)     \
    {                                                                                                            \
        (void)a3;                                                                                                \
        struct raddle_context *ctx = cpu_of(env)->context;                                                       \
        uint##bits##_t *p = memory_to_store(ctx, a0, bits / 8), old = (uint##bits##_t)a1;                        \
        if (!p || (a0 & (bits / 8 - 1)))                                                                         \
            return ~a1;                                                                                          \
        granules_lock(ctx, p, bits / 8);                                                                         \
        bool same =                                                                                              \
            __atomic_compare_exchange_n(p, &old, (uint##bits##_t)a2, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
        granules_unlock(ctx, p, bits / 8, same ? 0 : ALL_RESERVATIONS);                                          \
        if (same)                                                                                                \
            raddle_code_invalidate(ctx, a0, bits / 8);                                                           \
        return old;                                                                                              \
    }

PHYSICAL_CMPXCHG(32)
PHYSICAL_CMPXCHG(64)

uint64_t raddle_helper_phys_is_memory(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
    (void)a2, (void)a3;
    return raddle_phys_pointer(cpu_of(env)->context, a0, a1) != NULL;
}

uint64_t raddle_helper_io_python(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
    if (io_python(cpu_of(env), (uint32_t)a3, a0, a1 & 0xff, a1 >> 8 & 1, &a2))
        cpu_of(env)->io_failed = true;
    return a2;
}

/* -- a device's own state --------------------------------------------------------------------------------------- */

#define HOST_MEMORY(bits)                                                                                  \
    uint64_t raddle_helper_host_load##bits(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)  \
    {                                                                                                      \
        (void)env, (void)a1, (void)a2, (void)a3;                                                           \
        return *(uint##bits##_t *)(uintptr_t)a0;                                                           \
    }                                                                                                      \
    uint64_t raddle_helper_host_store##bits(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3) \
    {                                                                                                      \
        (void)env, (void)a2, (void)a3;                                                                     \
        *(uint##bits##_t *)(uintptr_t)a0 = (uint##bits##_t)a1;                                             \
        return 0;                                                                                          \
    }

HOST_MEMORY(8)
HOST_MEMORY(32)

/* -- watched pages ---------------------------------------------------------------------------------------------- */

int raddle_watch_set(raddle_context *ctx, const uint64_t *pages, uint32_t count)
{
    uint64_t *copy = malloc((count + 1) * sizeof *copy);
    if (!copy)
        return -1;
    for (uint32_t i = 0; i < count; i++)
        copy[i] = pages[i] & ctx->word_mask & ~(ctx->page_size - 1);
    raddle_exclusive_begin(ctx);
    free(ctx->watch_pages);
    ctx->watch_pages = copy;
    atomic_store_explicit(&ctx->watch_count, count, memory_order_release);
    for (uint32_t i = 0; i < ctx->config.ncpus; i++)
        if (ctx->cpus[i])
            tlb_flush_indices(ctx->cpus[i], ALL_INDICES);
    raddle_exclusive_end(ctx);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Guest physical memory: its regions, finding the one at an address, and reading memory. */
#include "internal.h"
#include "ram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool is_memory(const struct region *region)
{
    uint32_t kind = region->r.kind;
    return kind == RADDLE_REGION_RAM || kind == RADDLE_REGION_ROM || kind == RADDLE_REGION_ROM_DEVICE;
}

bool loads_by_callback(const struct region *region)
{
    return region->r.kind == RADDLE_REGION_ROM_DEVICE && atomic_load(&region->loads_by_callback);
}

static int by_base(const void *a, const void *b)
{
    uint64_t x = ((const struct region *)a)->r.base, y = ((const struct region *)b)->r.base;
    return (x > y) - (x < y);
}

static bool region_is_sound(const struct raddle_context *ctx, const struct region *region)
{
    const struct raddle_region *r = &region->r;
    if (!r->size || r->base + r->size - 1 < r->base || r->kind > RADDLE_REGION_ROM_DEVICE)
        return false;
    if (r->kind == RADDLE_REGION_PYTHON)
        return true;
    return r->memory && (!is_memory(region) || !((r->base | r->size) & (ctx->page_size - 1)));
}

static size_t pages_size(const struct raddle_context *ctx, const struct region *region)
{
    return (region->r.size >> ctx->config.page_bits) * sizeof(struct page);
}

int raddle_memory_set(raddle_context *ctx, const struct raddle_region *regions, uint32_t count)
{
    if (ctx->regions) {
        errno = EBUSY;
        return -1;
    }
    ctx->regions = calloc(count + 1, sizeof *ctx->regions);
    if (!ctx->regions)
        return -1;
    for (uint32_t i = 0; i < count; i++)
        ctx->regions[i].r = regions[i];
    qsort(ctx->regions, count, sizeof *ctx->regions, by_base);
    bool sound = true;
    for (uint32_t i = 0; i < count; i++)
        sound &= region_is_sound(ctx, &ctx->regions[i]) &&
                 (!i || ctx->regions[i - 1].r.base + ctx->regions[i - 1].r.size <= ctx->regions[i].r.base);
    errno = EINVAL;
    for (uint32_t i = 0; sound && i < count; i++)
        if (is_memory(&ctx->regions[i])) {
            ctx->regions[i].pages = map_new(pages_size(ctx, &ctx->regions[i]));
            sound = ctx->regions[i].pages != NULL;
        }
    ctx->region_count = count;
    if (sound && !granules_init(ctx))
        return 0;
    memory_free(ctx);
    return -1;
}

void memory_free(struct raddle_context *ctx)
{
    granules_free(ctx);
    for (uint32_t i = 0; i < ctx->region_count; i++)
        map_free(ctx->regions[i].pages, pages_size(ctx, &ctx->regions[i]));
    free(ctx->regions);
    ctx->regions = NULL;
    ctx->region_count = 0;
}

struct region *region_at(struct raddle_context *ctx, uint64_t paddr)
{
    uint32_t low = 0, high = ctx->region_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (ctx->regions[middle].r.base <= paddr)
            low = middle + 1;
        else
            high = middle;
    }
    struct region *region = low ? &ctx->regions[low - 1] : NULL;
    return region && paddr - region->r.base < region->r.size ? region : NULL;
}

struct page *page_at(struct raddle_context *ctx, uint64_t paddr)
{
    struct region *region = region_at(ctx, paddr);
    return region && region->pages ? &region->pages[(paddr - region->r.base) >> ctx->config.page_bits] : NULL;
}

void *raddle_phys_pointer(raddle_context *ctx, uint64_t paddr, uint64_t size)
{
    struct region *region = region_at(ctx, paddr);
    if (!region || !is_memory(region) || size > region->r.size - (paddr - region->r.base))
        return NULL;
    return (char *)region->r.memory + (paddr - region->r.base);
}

int raddle_phys_read(raddle_context *ctx, uint64_t paddr, void *buffer, uint64_t size)
{
    uint8_t *out = buffer;
    while (size) {
        struct region *region = region_at(ctx, paddr);
        if (!region || !is_memory(region))
            return -1;
        uint64_t here = region->r.base + region->r.size - paddr;
        here = here < size ? here : size;
        ram_read((char *)region->r.memory + (paddr - region->r.base), out, here);
        out += here;
        paddr += here;
        size -= here;
    }
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is freed as a whole, with its owner. */
#include "internal.h"

#include <sys/mman.h>

#define CHUNK      (1u << 18)
#define HUGE_PAGE  (1u << 21) /* of most hosts; where it is another size, a chunk has ordinary pages */
#define HOST_PAGE  4096u
#define ALIGNED_TO 16u

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    _Alignas(ALIGNED_TO) uint8_t data[];
};

static size_t rounded(size_t size, size_t unit)
{
    return (size + unit - 1) & ~(unit - 1);
}

/* Mapped, not from the heap: memory that is freed returns to the host at once, and does not stay in a thread's heap
 * between other allocations. */
void *map_new(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void map_free(void *memory, size_t size)
{
    if (memory)
        munmap(memory, size);
}

/* The same as map_new, aligned to huge pages, and in them if the host has them to give. `size` is a whole number of them. */
static void *map_huge(size_t size)
{
    uint8_t *memory = map_new(size + HUGE_PAGE);
    if (!memory)
        return NULL;
    size_t before = -(uintptr_t)memory & (HUGE_PAGE - 1);
    map_free(before ? memory : NULL, before);
    map_free(memory + before + size, HUGE_PAGE - before);
    madvise(memory + before, size, MADV_HUGEPAGE);
    return memory + before;
}

size_t arena_grows(const struct arena *arena, size_t size)
{
    const struct arena_chunk *c = arena->chunks;
    size = rounded(size, ALIGNED_TO);
    if (c && c->used + size <= c->size)
        return 0;
    if (arena->huge)
        return rounded(sizeof *c + size, HUGE_PAGE);
    return sizeof *c + size > CHUNK ? rounded(sizeof *c + size, HOST_PAGE) : CHUNK;
}

void *arena_take(struct arena *arena, size_t size)
{
    struct arena_chunk *c = arena->chunks;
    size_t whole = arena_grows(arena, size);
    size = rounded(size, ALIGNED_TO);
    if (whole) {
        c = arena->huge ? map_huge(whole) : map_new(whole);
        if (!c)
            return NULL;
        c->next = arena->chunks;
        c->size = whole - sizeof *c;
        arena->chunks = c;
        atomic_fetch_add_explicit(&arena->size, whole, memory_order_relaxed);
    }
    void *result = c->data + c->used;
    c->used += size;
    return result;
}

void arena_clear(struct arena *arena)
{
    for (struct arena_chunk *next, *c = arena->chunks; c; c = next) {
        next = c->next;
        map_free(c, sizeof *c + c->size);
    }
    arena->chunks = NULL;
    atomic_store_explicit(&arena->size, 0, memory_order_relaxed);
}

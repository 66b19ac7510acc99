/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for what lives as long as its owner. */
#include "internal.h"

#include <sys/mman.h>

#define CHUNK     (1u << 18)
#define HOST_PAGE 4096u

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    _Alignas(16) uint8_t data[];
};

void *arena_take(struct arena *arena, size_t size)
{
    struct arena_chunk *c = arena->chunks;
    size = (size + 15) & ~(size_t)15;
    if (!c || c->used + size > c->size) {
        size_t whole = sizeof *c + size > CHUNK ? (sizeof *c + size + HOST_PAGE - 1) & ~(size_t)(HOST_PAGE - 1) : CHUNK;
        /* Mapped, not from the heap: what is given back is the host's at once, and never lies between other blocks. */
        c = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (c == MAP_FAILED)
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
        munmap(c, sizeof *c + c->size);
    }
    arena->chunks = NULL;
    atomic_store_explicit(&arena->size, 0, memory_order_relaxed);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for what lives as long as its owner. */
#include "internal.h"

#include <stdlib.h>

#define CHUNK (1u << 18)

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
        size_t room = size > CHUNK ? size : CHUNK;
        c = calloc(1, sizeof *c + room);
        if (!c)
            return NULL;
        c->next = arena->chunks;
        c->size = room;
        arena->chunks = c;
    }
    void *result = c->data + c->used;
    c->used += size;
    return result;
}

void arena_clear(struct arena *arena)
{
    for (struct arena_chunk *next, *c = arena->chunks; c; c = next) {
        next = c->next;
        free(c);
    }
    arena->chunks = NULL;
}

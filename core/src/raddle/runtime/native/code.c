/* SPDX-License-Identifier: Apache-2.0 */
/* The code buffer: host memory for thunks and routines (kept) and for blocks (flushed as a whole). */
#include "internal.h"

#include <string.h>

#define FIXED_SIZE (1u << 20)

int code_init(struct raddle_context *ctx)
{
    struct code_buffer *code = &ctx->code;
    code->fixed_size = FIXED_SIZE;
    code->size = FIXED_SIZE + ((ctx->config.code_size + 0xffff) & ~(uint64_t)0xffff);
    if (views_map(&code->views, code->size, ctx->config.flags))
        return -1;
    code->rw = code->views.rw;
    code->rx = code->views.rx;
    return 0;
}

void code_free(struct raddle_context *ctx)
{
    views_unmap(&ctx->code.views);
}

int raddle_code_is_dual(raddle_context *ctx)
{
    return ctx->code.rw != ctx->code.rx;
}

uint64_t raddle_code_used(raddle_context *ctx)
{
    return ctx->code.used;
}

uint64_t raddle_code_write(raddle_context *ctx, const void *bytes, uint32_t size, uint32_t align)
{
    struct code_buffer *code = &ctx->code;
    uint64_t mask = align > 16 ? align - 1 : 15, address = 0;
    pthread_mutex_lock(&ctx->code_lock);
    uint64_t start = (code->fixed_used + mask) & ~mask;
    if (start + size <= code->fixed_size) {
        memcpy(code->rw + start, bytes, size);
        __builtin___clear_cache((char *)code->rx + start, (char *)code->rx + start + size);
        code->fixed_used = start + size;
        address = (uint64_t)(uintptr_t)(code->rx + start);
    }
    pthread_mutex_unlock(&ctx->code_lock);
    return address;
}

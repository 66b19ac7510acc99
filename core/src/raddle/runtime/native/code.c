/* SPDX-License-Identifier: Apache-2.0 */
/* The code buffer: host memory for thunks and routines (kept) and for blocks (flushed as a whole). */
#include "internal.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FIXED_SIZE (1u << 20)

/* Two views of one memory file, so that no address is writable and executable at once. */
static bool map_twice(struct code_buffer *code)
{
    int fd = memfd_create("raddle-code", MFD_CLOEXEC);
    if (fd < 0)
        return false;
    void *rw = MAP_FAILED, *rx = MAP_FAILED;
    if (ftruncate(fd, (off_t)code->size) == 0) {
        rw = mmap(NULL, code->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        rx = mmap(NULL, code->size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    }
    close(fd);
    if (rw != MAP_FAILED && rx != MAP_FAILED) {
        code->rw = rw;
        code->rx = rx;
        code->dual = true;
        return true;
    }
    if (rw != MAP_FAILED)
        munmap(rw, code->size);
    if (rx != MAP_FAILED)
        munmap(rx, code->size);
    return false;
}

static bool map_once(struct code_buffer *code)
{
    void *both = mmap(NULL, code->size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (both == MAP_FAILED)
        return false;
    code->rw = code->rx = both;
    return true;
}

int code_init(struct raddle_context *ctx)
{
    struct code_buffer *code = &ctx->code;
    code->fixed_size = FIXED_SIZE;
    code->size = FIXED_SIZE + ((ctx->config.code_size + 0xffff) & ~(uint64_t)0xffff);
    if (has_flag(ctx, RADDLE_FLAG_DUAL_MAP) && map_twice(code))
        return 0;
    return map_once(code) ? 0 : -1;
}

void code_free(struct raddle_context *ctx)
{
    struct code_buffer *code = &ctx->code;
    if (code->rx)
        munmap(code->rx, code->size);
    if (code->dual)
        munmap(code->rw, code->size);
}

int raddle_code_is_dual(raddle_context *ctx)
{
    return ctx->code.dual;
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

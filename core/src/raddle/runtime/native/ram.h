/* SPDX-License-Identifier: Apache-2.0 */
/* Accesses to guest memory from C. Others may access the same bytes meanwhile, so each byte is read and written by an
 * atomic access, and a plain copy will not do. */
#pragma once

#include <stdint.h>
#include <string.h>

/* A vCPU's: 1, 2, 4 or 8 bytes, little-endian, with the orders of an acquire and a release. An aligned access is
 * single-copy atomic; of a misaligned one, each byte is. */

static inline uint64_t ram_load(const void *p, uint32_t size)
{
    if ((uintptr_t)p & (size - 1)) {
        uint64_t value = 0;
        for (uint32_t i = 0; i < size; i++)
            value |= (uint64_t)__atomic_load_n((const uint8_t *)p + i, __ATOMIC_ACQUIRE) << (8 * i);
        return value;
    }
    switch (size) {
    case 1:
        return __atomic_load_n((const uint8_t *)p, __ATOMIC_ACQUIRE);
    case 2:
        return __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE);
    case 4:
        return __atomic_load_n((const uint32_t *)p, __ATOMIC_ACQUIRE);
    default:
        return __atomic_load_n((const uint64_t *)p, __ATOMIC_ACQUIRE);
    }
}

static inline void ram_store(void *p, uint64_t value, uint32_t size)
{
    if ((uintptr_t)p & (size - 1)) {
        for (uint32_t i = 0; i < size; i++)
            __atomic_store_n((uint8_t *)p + i, (uint8_t)(value >> (8 * i)), __ATOMIC_RELEASE);
        return;
    }
    switch (size) {
    case 1:
        __atomic_store_n((uint8_t *)p, (uint8_t)value, __ATOMIC_RELEASE);
        break;
    case 2:
        __atomic_store_n((uint16_t *)p, (uint16_t)value, __ATOMIC_RELEASE);
        break;
    case 4:
        __atomic_store_n((uint32_t *)p, (uint32_t)value, __ATOMIC_RELEASE);
        break;
    default:
        __atomic_store_n((uint64_t *)p, value, __ATOMIC_RELEASE);
    }
}

/* The host's: any number of bytes, in no particular order. */
static inline void ram_write(void *p, const void *bytes, uint64_t size)
{
    uint8_t *to = p;
    const uint8_t *from = bytes;
    for (; size && (uintptr_t)to & 7; size--)
        __atomic_store_n(to++, *from++, __ATOMIC_RELAXED);
    for (; size >= 8; size -= 8, to += 8, from += 8) {
        uint64_t word;
        memcpy(&word, from, 8);
        __atomic_store_n((uint64_t *)(void *)to, word, __ATOMIC_RELAXED);
    }
    for (; size; size--)
        __atomic_store_n(to++, *from++, __ATOMIC_RELAXED);
}

static inline void ram_read(const void *p, void *bytes, uint64_t size)
{
    const uint8_t *from = p;
    uint8_t *to = bytes;
    for (; size && (uintptr_t)from & 7; size--)
        *to++ = __atomic_load_n(from++, __ATOMIC_RELAXED);
    for (; size >= 8; size -= 8, to += 8, from += 8) {
        uint64_t word = __atomic_load_n((const uint64_t *)(const void *)from, __ATOMIC_RELAXED);
        memcpy(to, &word, 8);
    }
    for (; size; size--)
        *to++ = __atomic_load_n(from++, __ATOMIC_RELAXED);
}

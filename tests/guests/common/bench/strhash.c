// SPDX-License-Identifier: Apache-2.0
// Word counting: 4096 strings, hashed with FNV-1a into a table with linear probing and string comparison.
#include "bench.h"

#define WORDS 4096u
#define SLOTS 8192u
static char text[WORDS][20];
static struct {
    const char *word;
    uint32_t count;
} slots[SLOTS];

static NOINLINE uint32_t hash(const char *word) {
    uint32_t value = 2166136261u;
    for (; *word; word++)
        value = (value ^ (uint8_t)*word) * 16777619u;
    return value;
}

static NOINLINE bool equal(const char *one, const char *other) {
    while (*one && *one == *other)
        one++, other++;
    return *one == *other;
}

uint32_t kernel(void) {
    uint32_t state = 5, checksum = 0;
    for (unsigned i = 0; i < WORDS; i++) {
        unsigned length = 3 + (next_random(&state) >> 28);
        for (unsigned j = 0; j < length; j++)
            text[i][j] = (char)('a' + (next_random(&state) >> 24) % 3);
    }
    for (unsigned pass_number = 0; pass_number < REPEATS; pass_number++) {
        for (unsigned i = 0; i < SLOTS; i++)
            slots[i].word = NULL;
        for (unsigned i = 0; i < WORDS; i++) {
            uint32_t slot = hash(text[i]) % SLOTS;
            while (slots[slot].word && !equal(slots[slot].word, text[i]))
                slot = (slot + 1) % SLOTS;
            if (!slots[slot].word) {
                slots[slot].word = text[i];
                slots[slot].count = 0;
            }
            slots[slot].count++;
        }
        for (unsigned i = 0; i < SLOTS; i++)
            if (slots[i].word)
                checksum = checksum * 31 + slots[i].count + i;
    }
    return checksum;
}

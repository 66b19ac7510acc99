/* SPDX-License-Identifier: Apache-2.0 */
/* The memo: templates and entries, from which blocks are joined. For the files that fill it and read it: memo, family,
 * rename and join. */
#pragma once

#include "internal.h"

#define MEMO_VARIANTS        (2 * RADDLE_HOST_FLAGS)
#define MEMO_TEMPLATE_CHUNKS 4096
#define MEMO_PART            (UINT16_MAX - RADDLE_MOST_SPAN) /* most bytes of a part: with padding, they fit a row */
#define MEMO_REGISTERS       16 /* at least RADDLE_FAMILY_REGISTERS, in whole words */
#define RADDLE_EPILOGUE      ((uint64_t)1 << 63)

/* The structures of the memo are written under its lock before a store-release publishes them, and do not change after
 * that; fields that do change are used only under the lock. If two threads supply the same variant, one of two equal
 * ones stays.
 *
 * The memo is emptied in an exclusive section. So numbers and pointers from it may be used while the vCPU is `running`,
 * or while the lock of Python's translator is held. A thread that keeps one longer must check `generation` first. */
struct variant {
    const uint8_t *hot, *cold;
    const struct raddle_fixup *fixups;
    const struct raddle_cut *cuts; /* and jumps: for renaming; a renamed variant has none */
    const struct raddle_jump *jumps;
    uint32_t hot_size, cold_size, fixup_count, cut_count, jump_count;
    uint32_t traits, orders;
    uint32_t exits;           /* jumps that leave the block */
    uint8_t padded;           /* length of chain_offsets */
    uint8_t chain_offsets[2]; /* offsets of the first chainable fields in the hot part, modulo the span of a chain */
    uint8_t flag_defs, flag_uses;
    int8_t host_flags;
    bool by_kind;
    /* From `orders`; sets of memory orders, 4 bits. An order X_Y holds at a place of a block if no earlier access X can
     * be seen after a later access Y. */
    uint8_t barrier_size;   /* bytes at the start of the hot part; 0 if no barrier is there */
    uint8_t barrier_wanted; /* if these hold before it, the barrier is superfluous */
    uint8_t barrier_keeps;  /* these hold after it */
    uint8_t passed;         /* if these hold before the rest of the code, they hold after it */
    uint8_t kept_after;     /* these hold after the code, whether or not the barrier is left out */
    bool inert;             /* the code accesses no guest memory and does not leave the block */
};

struct template {
    uint32_t number, size, extra, next_decode_state;
    bool ends;                                         /* control never falls through; known with variant 0 */
    _Atomic(struct variant *) variants[MEMO_VARIANTS]; /* by host flags << 1 | dead */
    struct template *model;                            /* the template that this one is renamed from, or NULL */
    uint8_t registers[MEMO_REGISTERS];                 /* of a model or a renamed template; zeros after the last one */
    uint32_t register_count;
    uint64_t fixed;             /* of a model: a bit for each register that it uses besides `registers` */
    struct template *renamings; /* of a model: templates renamed from it, linked by `next`; under the lock */
    struct template *next;
};

struct raddle_entry {
    uint64_t key;
    struct template *template; /* NULL: an entry without code */
    uint32_t values[];
};

struct memo_slots {
    uint64_t mask, count;
    _Atomic(struct raddle_entry *) slot[];
};

struct memo_table {
    _Atomic(struct memo_slots *) slots;
    struct family_group *families; /* under the lock */
};

struct raddle_memo {
    pthread_mutex_t lock; /* a leaf */
    struct raddle_rules rules;
    uint32_t words;      /* a bit for each shape of the rules for which field_is_word holds */
    uint32_t chain_unit; /* bytes of a chainable field */
    uint64_t page_mask, word_mask;
    struct raddle_entry *falls_through;
    struct template *templates[MEMO_TEMPLATE_CHUNKS];
    _Atomic uint32_t template_count; /* written under the lock */
    struct memo_table *encodings;    /* of host instructions; values: size, then the bytes */
    _Atomic(struct raddle_mode *) *modes;
    _Atomic uint32_t mode_count; /* written under the lock */
    struct arena arena;          /* all that is freed when the memo is emptied; under the lock */
    struct arena fixed;          /* the code that the rules point to; written before anything runs */
    _Atomic uint32_t listened;
    _Atomic uint64_t limit;          /* bytes: raddle_memo_limit */
    _Atomic uint64_t outside;        /* bytes: raddle_memo_outside */
    _Atomic uint32_t crowded;        /* a table needs more room than is left; written under the lock */
    _Atomic uint32_t generation;     /* how often the memo was emptied; changes in exclusive sections only */
    uint64_t entries, templates_all; /* how many were ever made; under the lock */
};

/* Put the value into the field at offset `at` of `code`; false when it does not fit. */
static inline bool field_fill(const struct raddle_memo *memo, uint32_t number, uint8_t *code, uint32_t at,
                              uint64_t value)
{
    const struct raddle_shape *shape = &memo->rules.shapes[number];
    if (!(memo->words >> number & 1))
        return field_fill_pieces(shape, code, at, value);
    value += (uint64_t)shape->bias - (shape->relative ? at : 0);
    uint32_t word = (uint32_t)value;
    memcpy(code + at, &word, sizeof word);
    return shape->range != RADDLE_RANGE_SIGNED || (int64_t)value == (int32_t)word;
}

/* Notes which field cannot hold its value, for the message. */
static inline void note_too_far(const struct raddle_memo *memo, struct raddle_joined *out, uint32_t source,
                                uint32_t shape, uint32_t at, uint64_t value)
{
    out->far_source = source;
    out->far_shape = shape;
    const struct raddle_shape *s = &memo->rules.shapes[shape];
    out->far_value = (int64_t)(value + (uint64_t)s->bias - (s->relative ? at : 0));
}

/* memo.c; "under the lock" means the memo's */
struct template *memo_template(struct raddle_memo *memo, uint32_t number);
struct template *template_new(struct raddle_memo *memo, uint32_t size, uint32_t extra, uint32_t next_decode_state);
struct variant *variant_new(struct raddle_memo *memo, const struct variant *code); /* with copies; under the lock */
bool memo_is_full(const struct raddle_memo *memo); /* any thread: its budget is used up */
struct raddle_mode *memo_mode(struct raddle_memo *memo, uint32_t mode);       /* NULL when not known */
struct raddle_entry *memo_find(const struct memo_table *table, uint64_t key); /* likewise */
struct raddle_entry *entry_enter(struct raddle_memo *memo, struct memo_table *table, uint64_t key,
                                 struct template *template, const uint32_t *values,
                                 uint32_t count); /* under the lock */

/* family.c */
struct raddle_entry *memo_word(struct raddle_memo *memo, const struct raddle_mode *mode,
                               uint64_t key); /* NULL: wanted */

/* rename.c */
struct variant *memo_variant(struct raddle_memo *memo, struct template *template, uint32_t key,
                             struct raddle_joined *wanted); /* NULL when something is wanted */

/* SPDX-License-Identifier: Apache-2.0 */
/* Code for other registers: the model's code, with the host instructions that name a renamed register (the cuts)
 * encoded again. If that makes one longer or shorter, everything that refers to a later place moves along. The host
 * provides the encodings; this file asks for those that are missing. */
#include "memo.h"

#include <stdlib.h>
#include <string.h>

struct renaming {
    struct raddle_memo *memo;
    const struct variant *model;
    uint8_t target[RADDLE_REGISTERS];
    const struct raddle_entry **encodings; /* of each cut */
};

static uint64_t encoding_key(const struct renaming *n, const struct raddle_cut *cut)
{
    uint64_t key = (uint64_t)cut->form << 32;
    for (uint32_t i = 0; i < cut->count; i++)
        key |= (uint64_t)n->target[cut->registers[i]] << 8 * i;
    return key;
}

static void want_encoding(struct raddle_joined *wanted, uint64_t key)
{
    for (uint32_t i = 0; i < wanted->encoding_count; i++)
        if (wanted->encodings[i] == key)
            return;
    if (wanted->encoding_count < RADDLE_WANTED_ENCODINGS)
        wanted->encodings[wanted->encoding_count++] = key;
}

static bool find_encodings(struct renaming *n, struct raddle_joined *wanted)
{
    bool all = true;
    wanted->encoding_count = 0;
    for (uint32_t i = 0; i < n->model->cut_count; i++) {
        uint64_t key = encoding_key(n, &n->model->cuts[i]);
        n->encodings[i] = memo_find(n->memo->encodings, key);
        if (!n->encodings[i]) {
            all = false;
            want_encoding(wanted, key);
        }
    }
    if (!all)
        wanted->wanted = RADDLE_WANT_ENCODINGS;
    return all;
}

/* How far a place of the model's part has moved, by all cuts that start before it. A field at the end of an instruction
 * moves with that end. */
static uint32_t place(const struct renaming *n, uint32_t part, uint32_t offset)
{
    uint32_t result = offset;
    for (uint32_t i = 0; i < n->model->cut_count; i++) {
        const struct raddle_cut *cut = &n->model->cuts[i];
        if (cut->part == part && cut->offset < offset)
            result += n->encodings[i]->values[0] - cut->size;
    }
    return result;
}

static uint32_t part_size(const struct renaming *n, uint32_t part)
{
    return place(n, part, part ? n->model->cold_size : n->model->hot_size);
}

/* Whether all jumps within the part reach their targets; if not, `wanted` says which one. */
static bool write_part(const struct renaming *n, uint32_t part, uint8_t *out, struct raddle_joined *wanted)
{
    const uint8_t *code = part ? n->model->cold : n->model->hot;
    uint32_t size = part ? n->model->cold_size : n->model->hot_size, done = 0;
    uint8_t *at = out;
    for (uint32_t i = 0; i < n->model->cut_count; i++) {
        const struct raddle_cut *cut = &n->model->cuts[i];
        if (cut->part != part)
            continue;
        memcpy(at, code + done, cut->offset - done);
        at += cut->offset - done;
        memcpy(at, n->encodings[i]->values + 1, n->encodings[i]->values[0]);
        at += n->encodings[i]->values[0];
        done = cut->offset + cut->size;
    }
    memcpy(at, code + done, size - done);
    for (uint32_t i = 0; i < n->model->jump_count; i++) {
        const struct raddle_jump *jump = &n->model->jumps[i];
        if (jump->part != part)
            continue;
        uint32_t field = place(n, part, jump->field), target = place(n, part, jump->target);
        if (!field_fill(n->memo, jump->shape, out, field, target)) {
            note_too_far(n->memo, wanted, part ? RADDLE_FROM_COLD : RADDLE_FROM_HOT, jump->shape, field, target);
            return false;
        }
    }
    return true;
}

static void write_fixups(const struct renaming *n, struct raddle_fixup *out)
{
    for (uint32_t i = 0; i < n->model->fixup_count; i++) {
        struct raddle_fixup f = n->model->fixups[i];
        f.offset = (uint16_t)place(n, f.part, f.offset);
        if (f.source == RADDLE_FROM_COLD || f.source == RADDLE_FROM_HOT)
            f.value = place(n, f.source == RADDLE_FROM_COLD, (uint32_t)f.value);
        out[i] = f;
    }
}

static struct variant *rename_with_room(struct renaming *n, struct raddle_joined *wanted)
{
    if (!find_encodings(n, wanted))
        return NULL;
    uint32_t hot = part_size(n, 0), cold = part_size(n, 1);
    if (hot > MEMO_PART || cold > MEMO_PART)
        return NULL;
    size_t fixups = n->model->fixup_count * sizeof(struct raddle_fixup);
    uint8_t *room = malloc(fixups + hot + cold + 1);
    if (!room)
        return NULL;
    struct variant code = {
        .fixups = (const struct raddle_fixup *)(const void *)room,
        .hot = room + fixups,
        .cold = room + fixups + hot,
        .hot_size = hot,
        .cold_size = cold,
        .fixup_count = n->model->fixup_count,
        .traits = n->model->traits,
        .orders = n->model->orders,
    };
    write_fixups(n, (struct raddle_fixup *)(void *)room);
    bool reaches = write_part(n, 0, room + fixups, wanted) && write_part(n, 1, room + fixups + hot, wanted);
    struct variant *result = reaches ? variant_new(n->memo, &code) : NULL;
    if (!reaches)
        wanted->wanted = RADDLE_WANT_REACH;
    free(room);
    return result;
}

static struct variant *renamed(struct raddle_memo *memo, const struct template *t, const struct variant *model,
                               struct raddle_joined *wanted)
{
    struct renaming n = {.memo = memo, .model = model};
    for (uint32_t i = 0; i < t->register_count; i++)
        n.target[t->model->registers[i]] = t->registers[i];
    wanted->wanted = RADDLE_WANT_MEMORY;
    n.encodings = malloc((model->cut_count + 1) * sizeof *n.encodings);
    struct variant *v = n.encodings ? rename_with_room(&n, wanted) : NULL;
    free(n.encodings);
    return v;
}

/* The variant of a template, renamed from its model's if necessary; `wanted` says what is missing for that. */
struct variant *memo_variant(struct raddle_memo *memo, struct template *t, uint32_t key, struct raddle_joined *wanted)
{
    struct variant *v = atomic_load_explicit(&t->variants[key], memory_order_acquire);
    if (v)
        return v;
    struct template *compiled = t->model ? t->model : t;
    wanted->wanted = RADDLE_WANT_VARIANT;
    wanted->template_number = compiled->number;
    wanted->variant_key = key;
    struct variant *model = atomic_load_explicit(&compiled->variants[key], memory_order_acquire);
    if (!t->model || !model)
        return NULL;
    pthread_mutex_lock(&memo->lock);
    v = atomic_load_explicit(&t->variants[key], memory_order_relaxed);
    if (!v && (v = renamed(memo, t, model, wanted)))
        atomic_store_explicit(&t->variants[key], v, memory_order_release);
    pthread_mutex_unlock(&memo->lock);
    return v;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Translation from the memo: gather the entries of the instructions at an address, choose their variants, and join them
 * to a block. Needs neither the GIL nor Python. `struct raddle_want` says what the memo lacks.
 *
 * A block is: entry check; the hot parts in order; where control falls through, a chainable jump; the cold parts; a
 * stub for each jump that leaves; the stub through which the entry check leaves. */
#include "memo.h"

#include <stdlib.h>
#include <string.h>

struct part {
    struct raddle_entry *entry;
    const struct variant *variant;
    uint32_t key; /* of the variant */
    int64_t hot;       /* where the hot part begins, or would begin with what is left out of it */
    uint32_t left_out; /* bytes at the start of the hot part: a superfluous barrier */
    uint32_t cold;
    uint64_t address;
};

struct join {
    struct raddle_memo *memo;
    struct raddle_joined *out;
    struct part parts[RADDLE_MAX_ENTRIES + 1]; /* the last one may be the jump to what follows */
    uint32_t count;                            /* of instructions */
    uint64_t pc, end;
    uint32_t leave; /* offset of the stub */
    bool too_far;   /* a field cannot hold its value */
};

/* -- choosing variants ------------------------------------------------------------------------------------------ */

static bool choose(struct join *j, struct part *p, uint32_t key)
{
    p->key = key;
    p->variant = memo_variant(j->memo, p->entry->template, key, j->out);
    return p->variant != NULL;
}

/* What the host's flags hold before each instruction chooses its variant. */
static bool choose_by_kind(struct join *j)
{
    uint32_t kind = 0;
    for (uint32_t i = 0; i < j->count; i++) {
        struct part *p = &j->parts[i];
        if (kind && p->variant->by_kind && !choose(j, p, kind << 1))
            return false;
        if (p->variant->host_flags >= 0)
            kind = (uint32_t)p->variant->host_flags;
    }
    return true;
}

/* From the last to the first: instructions whose flags are dead get variants without them. */
static bool drop_dead_flags(struct join *j, bool *dropped)
{
    uint32_t live = 15;
    for (uint32_t i = j->count; i-- > 0;) {
        struct part *p = &j->parts[i];
        uint32_t defs = p->variant->flag_defs;
        if (defs && !(defs & live) && !(p->key & 1)) {
            if (!choose(j, p, p->key | 1))
                return false;
            *dropped = true;
        }
        live = (live & ~defs) | p->variant->flag_uses;
    }
    return true;
}

static bool choose_variants(struct join *j)
{
    uint32_t defining = 0;
    for (uint32_t i = 0; i < j->count; i++) {
        if (!choose(j, &j->parts[i], 0))
            return false;
    }
    if (!choose_by_kind(j))
        return false;
    for (uint32_t i = 0; i < j->count; i++)
        defining += j->parts[i].variant->flag_defs != 0;
    bool dropped = false;
    if (defining > 1 && !drop_dead_flags(j, &dropped))
        return false;
    return !dropped || choose_by_kind(j);
}

/* -- barriers --------------------------------------------------------------------------------------------------- */

/* A block is entered at its start only, so the parts before a part have run when it runs; unless a part is inert, the
 * block may have been left behind it. */

static void leave_out(struct join *j, uint32_t part)
{
    struct part *p = &j->parts[part];
    j->out->barriers_left_out += !p->left_out;
    p->left_out = p->variant->barrier_size;
}

/* Leaves out the barriers before part `last` that are followed by nothing but inert parts up to its barrier, which keeps
 * all that they keep. What was left out on account of one of them may rely on that barrier as well. */
static void leave_out_weaker(struct join *j, uint32_t last)
{
    uint32_t kept = j->parts[last].variant->barrier_keeps;
    for (uint32_t i = last; i-- > 0 && j->parts[i].variant->inert;) {
        const struct variant *v = j->parts[i].variant;
        if (v->barrier_size && !(v->barrier_keeps & ~kept))
            leave_out(j, i);
    }
}

static void leave_out_barriers(struct join *j)
{
    uint32_t kept = 0; /* the orders that barriers of the block keep here */
    j->out->barriers = j->out->barriers_left_out = 0;
    for (uint32_t i = 0; i < j->count; i++) {
        const struct variant *v = j->parts[i].variant;
        j->out->barriers += v->barrier_size != 0;
        if (v->barrier_size && !(v->barrier_wanted & ~kept)) {
            leave_out(j, i);
        } else if (v->barrier_size) {
            kept |= v->barrier_keeps;
            leave_out_weaker(j, i);
        }
        kept = (kept & v->passed) | v->kept_after;
    }
}

/* -- laying out ------------------------------------------------------------------------------------------------- */

static bool room(struct raddle_joined *out, uint32_t size)
{
    if (size <= out->capacity)
        return true;
    uint8_t *code = realloc(out->code, size);
    if (!code)
        return false;
    out->code = code;
    out->capacity = size;
    return true;
}

/* Whether a jump with its field at this offset can be chained, that is, its field written as a whole. */
static bool within_span(const struct raddle_memo *memo, uint32_t position)
{
    return (position & (memo->rules.chain.span - 1u)) + memo->chain_unit <= memo->rules.chain.span;
}

/* Bytes to skip so that no chainable field of the hot part crosses a boundary. If no number suits all fields, nothing
 * is skipped, and jumps whose fields cross a boundary are not chained. */
static uint32_t padding(const struct raddle_memo *memo, const struct variant *v, uint32_t position)
{
    for (uint32_t skip = 0; skip < memo->rules.chain.span; skip++) {
        bool fits = memo->rules.nop_lengths >> skip & 1;
        for (uint32_t i = 0; i < v->padded; i++)
            fits &= within_span(memo, position + skip + v->chain_offsets[i]);
        if (fits)
            return skip;
    }
    return 0;
}

static uint32_t append(uint8_t *code, uint32_t position, const uint8_t *bytes, uint32_t size)
{
    memcpy(code + position, bytes, size);
    return position + size;
}

static uint32_t append_hot(struct join *j, struct part *p, uint32_t position)
{
    uint8_t *code = j->out->code;
    uint32_t skipped = p->variant->padded ? padding(j->memo, p->variant, position - p->left_out) : 0;
    if (skipped)
        position = append(code, position, j->memo->rules.nops[skipped], skipped);
    p->hot = (int64_t)position - p->left_out;
    return append(code, position, p->variant->hot + p->left_out, p->variant->hot_size - p->left_out);
}

/* The value of a field, for the sources that parts and stubs have in common; `pc` is a guest address. */
static uint64_t value_of(const struct join *j, const struct raddle_fixup *f, uint64_t pc, uint64_t x)
{
    switch (f->source) {
    case RADDLE_FROM_PC:
        return (pc + x) & j->memo->word_mask;
    case RADDLE_FROM_PAGE:
        return ((pc & j->memo->page_mask) + x) & j->memo->word_mask;
    case RADDLE_FROM_COUNT:
        return j->count + x;
    default:
        return x;
    }
}

static void fill(struct join *j, const struct raddle_fixup *f, uint32_t at, uint64_t value)
{
    if (field_fill(j->memo, f->shape, j->out->code, at, value) || j->too_far)
        return;
    j->too_far = true;
    note_too_far(j->memo, j->out, f->source, f->shape, at, value);
}

/* `target` is the guest address that the stub leaves for, `jump` the field of the jump that leads to the stub. */
static void fill_stub(struct join *j, const struct raddle_stub *stub, uint32_t start, uint64_t target, uint32_t jump)
{
    for (uint32_t i = 0; i < stub->fixup_count; i++) {
        const struct raddle_fixup *f = &stub->fixups[i];
        uint64_t x = (uint64_t)f->value, value;
        if (f->source == RADDLE_FROM_JUMP)
            value = jump + x;
        else if (f->source == RADDLE_FROM_LEAVE)
            value = j->leave + x;
        else if (f->source == RADDLE_FROM_HOT)
            value = start + x;
        else
            value = value_of(j, f, target, x);
        fill(j, f, start + f->offset, value);
    }
}

static void append_stub(struct join *j, const struct raddle_stub *stub, uint64_t target, uint32_t jump)
{
    uint32_t start = j->out->code_size;
    j->out->code_size = append(j->out->code, start, stub->code, stub->size);
    fill_stub(j, stub, start, target, jump);
}

/* Adds a stub for the jump whose field is at `at`; returns its offset. A jump inside the block's page can be chained;
 * any other goes through the jump cache each time, because another page's mapping can change while this block stays
 * valid. */
static uint32_t append_exit(struct join *j, uint8_t shape, uint32_t at, uint64_t target)
{
    const struct raddle_rules *rules = &j->memo->rules;
    uint32_t start = j->out->code_size;
    bool chainable =
        !((target ^ j->pc) & j->memo->page_mask) && shape == rules->chain.shape && within_span(j->memo, at);
    j->out->exits += chainable;
    append_stub(j, chainable ? &rules->chainable : &rules->indirect, target, at);
    return start;
}

static void fill_part(struct join *j, const struct part *p)
{
    for (uint32_t i = 0; i < p->variant->fixup_count; i++) {
        const struct raddle_fixup *f = &p->variant->fixups[i];
        uint32_t at = (f->part ? p->cold : (uint32_t)p->hot) + f->offset;
        uint64_t x = (uint64_t)f->value, value;
        if (f->hole != RADDLE_NO_HOLE)
            x += (uint64_t)(int64_t)(int32_t)p->entry->values[f->hole];
        if (f->source == RADDLE_FROM_HOT)
            value = (uint64_t)p->hot + x;
        else if (f->source == RADDLE_FROM_COLD)
            value = p->cold + x;
        else if (f->source == RADDLE_FROM_EXIT)
            value = append_exit(j, f->shape, at, (p->address + x) & j->memo->word_mask);
        else
            value = value_of(j, f, p->address, x);
        fill(j, f, at, value);
    }
}

static uint32_t size_at_most(const struct join *j, uint32_t parts)
{
    const struct raddle_rules *rules = &j->memo->rules;
    uint32_t stub = rules->chainable.size > rules->indirect.size ? rules->chainable.size : rules->indirect.size;
    uint32_t size = rules->entry.size + rules->leave.size;
    for (uint32_t i = 0; i < parts; i++) {
        const struct variant *v = j->parts[i].variant;
        size += v->hot_size + v->cold_size + v->exits * stub + rules->chain.span;
    }
    return size;
}

/* The rows of the table, and the parts in their order: the hot ones, then the cold ones. */
static void lay_out(struct join *j, uint32_t parts)
{
    struct raddle_joined *out = j->out;
    uint32_t position = append(out->code, 0, j->memo->rules.entry.code, j->memo->rules.entry.size);
    out->hot_start = position;
    out->exits = 0;
    for (uint32_t i = 0; i < parts; i++) {
        struct part *p = &j->parts[i];
        uint32_t start = position;
        position = append_hot(j, p, position);
        if (i < j->count) {
            struct instruction_row row = {.hot = (uint16_t)(position - start),
                                          .cold = (uint16_t)p->variant->cold_size,
                                          .guest = (uint8_t)p->entry->template->size,
                                          .extra = (uint16_t)p->entry->template->extra};
            memcpy(out->table + i * sizeof row, &row, sizeof row);
        }
    }
    out->cold_start = position;
    for (uint32_t i = 0; i < parts; i++) {
        j->parts[i].cold = position;
        position = append(out->code, position, j->parts[i].variant->cold, j->parts[i].variant->cold_size);
    }
    out->code_size = position;
}

static int join(struct join *j, bool falls_through)
{
    struct raddle_joined *out = j->out;
    uint32_t parts = j->count;
    bool chosen = choose_variants(j);
    if (chosen && falls_through) {
        j->parts[parts].entry = j->memo->falls_through;
        j->parts[parts].address = j->end;
        chosen = choose(j, &j->parts[parts++], 0);
    }
    if (!chosen)
        return out->wanted == RADDLE_WANT_MEMORY  ? RADDLE_ERROR
               : out->wanted == RADDLE_WANT_REACH ? RADDLE_TOO_FAR
                                                  : RADDLE_WANTED;
    if (!room(out, size_at_most(j, parts)))
        return RADDLE_ERROR;
    leave_out_barriers(j);
    lay_out(j, parts);
    for (uint32_t i = 0; i < parts; i++)
        fill_part(j, &j->parts[i]);
    j->leave = out->code_size;
    append_stub(j, &j->memo->rules.leave, j->pc, 0);
    fill_stub(j, &j->memo->rules.entry, 0, j->pc, 0);
    out->count = j->count;
    return j->too_far ? RADDLE_TOO_FAR : RADDLE_INSTALL_OK;
}

static void add(struct join *j, struct raddle_entry *entry)
{
    if (!entry || !entry->template)
        return;
    struct part *p = &j->parts[j->count++];
    p->entry = entry;
    p->address = j->end;
    j->end += entry->template->size;
}

/* Whether control never falls through the last entry. */
static bool ended(const struct join *j)
{
    return j->count && j->parts[j->count - 1].entry->template->ends;
}

int raddle_join(raddle_memo *memo, raddle_entry *const *entries, uint32_t count, uint64_t pc, struct raddle_joined *out)
{
    struct join j = {.memo = memo, .out = out, .pc = pc, .end = pc};
    if (count > RADDLE_MAX_ENTRIES)
        return RADDLE_ERROR;
    for (uint32_t i = 0; i < count; i++)
        add(&j, entries[i]);
    return join(&j, !ended(&j));
}

void raddle_joined_clear(struct raddle_joined *out)
{
    free(out->code);
    memset(out, 0, sizeof *out);
}

/* -- gathering -------------------------------------------------------------------------------------------------- */

struct gather {
    struct raddle_want *want;
    const struct raddle_mode *mode;
    const uint8_t *memory; /* at pc */
    uint32_t left;         /* bytes from pc to the end of its page */
    uint32_t limit;        /* instructions at the most */
    uint32_t count;        /* instructions so far */
    uint32_t decode_state;
};

static uint32_t unit_at(const struct gather *g, uint32_t position)
{
    const uint8_t *at = g->memory + position;
    return g->mode->unit == 4 ? __atomic_load_n((const uint32_t *)(const void *)at, __ATOMIC_RELAXED)
                              : __atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_RELAXED);
}

/* The unit at `position`, copied to the guest bytes that are translated. */
static uint32_t next_unit(struct gather *g, uint32_t position)
{
    uint32_t unit = unit_at(g, position);
    memcpy(g->want->data + position, &unit, g->mode->unit);
    return unit;
}

static bool is_wide(const struct raddle_mode *mode, uint32_t unit)
{
    return mode->unit == 2 && mode->wide >> (unit >> mode->wide_shift & 31) & 1;
}

static uint64_t both_units(const struct raddle_mode *mode, uint64_t first, uint64_t second)
{
    return mode->low_first ? first | second << 16 : first << 16 | second;
}

/* Fetches the second half of an instruction whose first half ends the page: 0, or 1 when the fetch faults. */
static int second_page(struct raddle_cpu *cpu, struct raddle_want *want)
{
    struct raddle_context *ctx = cpu->context;
    uint64_t address = (want->pc + 2) & ctx->word_mask;
    want->pages[1] = raddle_code_page(cpu->env, address);
    if (want->pages[1] == NONE) {
        raddle_fetch_fault(cpu->env, address);
        return 1;
    }
    want->versions[1] = raddle_code_begin(ctx, want->pages[1]);
    const uint8_t *memory = raddle_phys_pointer(ctx, want->pages[1], 2);
    uint16_t unit = __atomic_load_n((const uint16_t *)(const void *)memory, __ATOMIC_RELAXED);
    memcpy(want->data + 2, &unit, 2);
    return 0;
}

static int want_word(struct gather *g, uint64_t word, uint32_t size)
{
    g->want->kind = RADDLE_WANT_WORD;
    g->want->word = (uint32_t)word;
    g->want->word_size = size;
    g->want->decode_state = g->decode_state;
    return RADDLE_WANTED;
}

static int gather(struct raddle_cpu *cpu, struct gather *g, struct join *j)
{
    struct raddle_want *want = g->want;
    const struct raddle_mode *mode = g->mode;
    uint32_t position = 0;
    if (g->left < mode->unit) { /* the pc is so misaligned that not even the first unit lies in its page */
        deliver_fault(cpu, want->pc, mode->unit, ACCESS_FETCH | fetch_index(cpu) << 8, FAULT_ALIGNMENT);
        return RADDLE_FAULTED;
    }
    add(j, mode->prologue);
    for (; g->count < g->limit && position < g->left; g->count++) {
        uint32_t size = mode->unit;
        uint64_t word = next_unit(g, position);
        if (is_wide(mode, (uint32_t)word)) {
            size = 4;
            if (position + 2 < g->left)
                word = both_units(mode, word, next_unit(g, position + 2));
            else if (position)
                break;
            else if (second_page(cpu, want))
                return RADDLE_FAULTED;
            else
                word = both_units(mode, word, want->data[2] | (uint32_t)want->data[3] << 8);
        }
        struct raddle_entry *entry = memo_word(j->memo, mode, word | (uint64_t)g->decode_state << 32);
        if (!entry)
            return want_word(g, word, size);
        add(j, entry);
        position += size;
        g->decode_state = entry->template->next_decode_state;
        if (ended(j)) {
            g->count++;
            break;
        }
    }
    want->size = position;
    if (!g->decode_state || ended(j))
        return RADDLE_INSTALL_OK;
    struct raddle_entry *epilogue = memo_find(mode->table, RADDLE_EPILOGUE | (uint64_t)g->decode_state << 32);
    if (!epilogue) {
        want->kind = RADDLE_WANT_EPILOGUE;
        want->decode_state = g->decode_state;
        return RADDLE_WANTED;
    }
    add(j, epilogue);
    return RADDLE_INSTALL_OK;
}

/* -- translating ------------------------------------------------------------------------------------------------ */

static int install(struct raddle_context *ctx, const struct raddle_want *want, uint32_t ninsns)
{
    struct raddle_block_desc desc = {
        .pc = want->pc,
        .mode = want->mode,
        .flags = want->flags,
        .phys = {want->pages[0], want->pages[1]},
        .version = {want->versions[0], want->versions[1]},
        .guest_size = want->size,
        .ninsns = ninsns,
        .guest = want->data,
        .code = want->joined.code,
        .code_size = want->joined.code_size,
        .hot_start = want->joined.hot_start,
        .cold_start = want->joined.cold_start,
        .exits = want->joined.exits,
        .table = want->joined.table,
    };
    return raddle_block_install(ctx, &desc);
}

/* Makes a block of at most `limit` instructions; of fewer if its fields do not reach so far. */
static int make_block_of(struct raddle_cpu *cpu, struct raddle_want *want, const struct raddle_mode *mode,
                         uint32_t limit)
{
    struct raddle_context *ctx = cpu->context;
    uint32_t offset = (uint32_t)(want->pc & (ctx->page_size - 1));
    for (;;) {
        struct gather g = {
            .want = want,
            .mode = mode,
            .memory = (const uint8_t *)raddle_phys_pointer(ctx, want->pages[0], ctx->page_size) + offset,
            .left = (uint32_t)ctx->page_size - offset,
            .limit = limit,
            .decode_state = mode->decode_state,
        };
        struct join j = {.memo = ctx->memo, .out = &want->joined, .pc = want->pc, .end = want->pc};
        int answer = gather(cpu, &g, &j);
        if (answer != RADDLE_INSTALL_OK)
            return answer;
        answer = join(&j, !ended(&j));
        if (answer == RADDLE_WANTED)
            want->kind = want->joined.wanted;
        if (answer == RADDLE_INSTALL_OK) {
            COUNT(cpu->stats.barriers, want->joined.barriers);
            COUNT(cpu->stats.barriers_left_out, want->joined.barriers_left_out);
            return install(ctx, want, j.count);
        }
        if (answer != RADDLE_TOO_FAR || g.count <= 1)
            return answer;
        limit = g.count / 2;
    }
}

uint32_t raddle_block_flags(void *env)
{
    return cpu_of(env)->block_flags & RADDLE_COUNT_MASK;
}

static int make_block(struct raddle_cpu *cpu, struct raddle_want *want)
{
    struct raddle_context *ctx = cpu->context;
    want->pc = cpu->header->pc;
    want->mode = cpu->header->mode;
    want->flags = raddle_block_flags(cpu->env);
    want->pages[1] = NONE;
    want->versions[1] = 0;
    want->joined.count = 0;
    const struct raddle_mode *mode = memo_mode(ctx->memo, want->mode);
    if (!mode) {
        want->kind = RADDLE_WANT_MODE;
        return RADDLE_WANTED;
    }
    want->pages[0] = raddle_code_page(cpu->env, want->pc);
    if (want->pages[0] == NONE) {
        raddle_fetch_fault(cpu->env, want->pc);
        return RADDLE_FAULTED;
    }
    want->versions[0] = raddle_code_begin(ctx, want->pages[0]);
    uint32_t limit = want->flags & RADDLE_COUNT_MASK;
    return make_block_of(cpu, want, mode,
                         limit && limit < RADDLE_MAX_INSTRUCTIONS ? limit : RADDLE_MAX_INSTRUCTIONS);
}

/* A block that was begun is finished even if the memo is full by now: so a budget that is too small for one block makes
 * the guest slow, but does not stop it. */
static int translate(struct raddle_cpu *cpu, struct raddle_want *want)
{
    struct raddle_memo *memo = cpu->context->memo;
    want->generation = atomic_load(&memo->generation);
    int answer = RADDLE_WANTED;
    if (!cpu->block_begun && memo_is_full(memo))
        want->kind = RADDLE_WANT_ROOM;
    else
        answer = make_block(cpu, want);
    cpu->block_begun = answer == RADDLE_WANTED;
    return answer;
}

/* This counts as running, because it reads the TLB, the callees and the watched pages, which change in exclusive
 * sections. If several vCPUs find the code buffer full at once, one flushes it: the others' generation is out of date
 * by then. */
int raddle_translate(void *env)
{
    struct raddle_cpu *cpu = cpu_of(env);
    uint32_t generation = raddle_code_generation(cpu->context);
    cpu_begin(cpu);
    cpu->want.answer = translate(cpu, &cpu->want);
    cpu_end(cpu);
    if (cpu->want.answer == RADDLE_FULL)
        raddle_code_flush(cpu->context, generation);
    return cpu->want.answer;
}

struct raddle_want *raddle_wanted(void *env)
{
    return &cpu_of(env)->want;
}

enum { JOINS_A_LOOK = 16 }; /* one in so many is timed, and stands for all: reading CPU time is a system call */

/* In the execution loop: makes the block if the memo has all that it needs; returns whether it did. */
bool translate_from_memo(struct raddle_cpu *cpu)
{
    struct raddle_context *ctx = cpu->context;
    cpu->want.answer = RADDLE_INSTALL_OK;
    if (!ctx->memo || atomic_load_explicit(&ctx->memo->listened, memory_order_relaxed))
        return false;
    bool timed = cpu->join_tries++ % JOINS_A_LOOK == 0;
    uint64_t start = timed ? cpu_ns() : 0;
    int answer = cpu->want.answer = translate(cpu, &cpu->want);
    if (timed)
        COUNT(cpu->stats.join_ns, JOINS_A_LOOK * (cpu_ns() - start));
    bool made = answer != RADDLE_WANTED && answer != RADDLE_FULL && answer != RADDLE_ERROR && answer != RADDLE_TOO_FAR;
    COUNT(cpu->stats.joins, made);
    return made;
}

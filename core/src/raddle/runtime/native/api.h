/* SPDX-License-Identifier: Apache-2.0 */
/* The native runtime as Python and generated code see it. build.py gives this text to cffi as well as to the compiler:
 * plain declarations only. `env` is the pointer that stands for a vCPU (see raddle.ir.header).
 *
 * Threads: unless a comment says otherwise, only the vCPU's own thread calls functions that take `env` (or any thread
 * before the vCPU runs), and any thread may call functions that take the context. */

enum raddle_constants {
    RADDLE_FLAG_DUAL_MAP = 1, /* code buffer mapped twice, once writable and once executable, if possible */
    RADDLE_FLAG_PARALLEL = 2, /* one thread a vCPU; without it all vCPUs run in turn on one thread */
    RADDLE_FLAG_ICOUNT = 4,   /* virtual time is counted in instructions; needs PARALLEL off */
    RADDLE_FLAG_TRACE = 8,    /* every block passes the execution loop (no chaining, no jump cache): see raddle_trace */
    RADDLE_FLAG_DUAL_ONLY = 16, /* with DUAL_MAP, or not at all: never writable and executable at one address */
    RADDLE_FLAG_SLEEP = 32,   /* sleep through idle virtual time instead of skipping it; with ICOUNT */
    RADDLE_FLAG_RESERVE = 64, /* exact reservations, which generated code must keep: see granules.c */
    RADDLE_MOST_RESERVING = 31, /* vCPUs of a context with RESERVE */

    RADDLE_MISS = 0, /* reasons of raddle_run */
    RADDLE_WORK = 1,
    RADDLE_STOP = 2,
    RADDLE_HALTED = 3,
    RADDLE_SLICE = 4,
    RADDLE_YIELD = 5,
    RADDLE_BUDGET = 6,
    RADDLE_FULL = 7, /* result of raddle_block_install, raddle_translate: no room for the block */
    RADDLE_ERROR = 8,
    RADDLE_STUCK = 11,

    RADDLE_INSTALL_OK = 0, /* results of raddle_block_install, besides FULL and ERROR (out of memory) */
    RADDLE_INSTALL_RACED = 1,

    RADDLE_WANTED = 9,   /* result of raddle_translate and raddle_join: the memo lacks something */
    RADDLE_FAULTED = 10, /* result of raddle_translate: the fetch faulted, the guest's exception is entered */
    RADDLE_TOO_FAR = 12, /* result of raddle_translate and raddle_join: a field cannot hold its value */

    RADDLE_CALLEE_TLB_FILL = 0,
    RADDLE_CALLEE_FAULT = 1,
    RADDLE_CALLEE_INTERRUPT = 2,
    RADDLE_PYTHON_NUMBER = 4096, /* helper numbers from here on are Python callbacks: id = number - this */

    RADDLE_COUNT_MASK = 511, /* block flags: the most instructions, 0 for no limit */
    RADDLE_SINGLE = 1,       /* block flags: exactly one instruction */

    RADDLE_REGION_RAM = 0,
    RADDLE_REGION_ROM = 1,
    RADDLE_REGION_PYTHON = 2,  /* I/O served by the mmio callback */
    RADDLE_REGION_ROUTINE = 3, /* I/O served by a callee: f(env, offset, size | is_write << 8, value, id) -> value,
                                * which may pass it on to the mmio callback by helper io_python */
    RADDLE_REGION_ROM_DEVICE = 4, /* ROM whose stores the mmio callback serves, and sometimes its loads */

    RADDLE_OP_LOAD_EXCLUSIVE = 0, /* raddle_slow_atomic */
    RADDLE_OP_STORE_EXCLUSIVE = 1,
    RADDLE_OP_CMPXCHG = 2,
    RADDLE_OP_XCHG = 3,
    RADDLE_OP_ADD = 4,
    RADDLE_OP_AND = 5,
    RADDLE_OP_OR = 6,
    RADDLE_OP_XOR = 7,
    RADDLE_OP_SMIN = 8,
    RADDLE_OP_SMAX = 9,
    RADDLE_OP_UMIN = 10,
    RADDLE_OP_UMAX = 11,

    RADDLE_TIMER_INTERRUPT = 0, /* sets interrupt lines `value` of env */
    RADDLE_TIMER_CALLEE = 1,    /* env's own thread calls helper `value` with (timer, 0, 0, 0), under the big lock */
    RADDLE_TIMER_PYTHON = 2,    /* calls the timer callback with `value`, under the big lock */
    RADDLE_TIMER_SLICE = 3,     /* the runtime's own: ends turns */
    RADDLE_TIMER_EVENT = 4,     /* sets env's event register, as `sev` does */
    RADDLE_TIMER_ROUTINE = 5,   /* calls helper `value` with (timer, 0, 0, 0), under the big lock, with any env: it calls no
                                 * Python, and uses nothing of a vCPU's state */
    RADDLE_TIMERS = 256         /* most timers of a context */
};

#define RADDLE_END_OF_TIME 0xfffffffffffffffeu /* ns of virtual time: the clock stands still there */

typedef uint64_t (*raddle_function)(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);
typedef uint64_t (*raddle_enter_function)(void *env, void *code);

/* Calls into Python. Each may be NULL if it is never needed. A callback that fails calls raddle_error before it
 * returns. */
struct raddle_callbacks {
    uint64_t (*call)(void *env, uint32_t id, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);
    int (*mmio)(void *env, uint32_t region, uint64_t offset, uint32_t size, int is_write, uint64_t *value);
    void (*timer)(void *context, uint32_t id);
    void (*watch)(void *env, uint64_t address, uint32_t size, int is_write, uint64_t value);
    void (*trace)(void *env, uint64_t pc);
    void (*unfilled)(void *env, uint64_t address, uint32_t access_and_index);
    void (*lent)(void *env, int begins);
};
/* mmio: returns 0, or 1 for a bus error. The value is in the host's order, zero-extended. unfilled: the target's
 * tlb_fill has returned 0 and not entered the page for the access. lent: before (1) and after (0) other callbacks for a
 * vCPU that another thread runs while its own sleeps. */

struct raddle_config {
    uint32_t page_bits; /* log2 of the smallest guest page, at least 12 */
    uint32_t word_bits; /* 32 or 64 */
    uint32_t ncpus;
    uint32_t flags;             /* RADDLE_FLAG_ */
    uint32_t fetch_index_shift; /* place of the MMU index of fetches in the block mode */
    uint32_t common_indices;    /* a bit for each MMU index whose loads use a common addend: see tlb.c */
    uint32_t wfe_limit_us;      /* a `wfe` sleeps no longer than this; 0: until an event */
    uint64_t code_size;         /* bytes for blocks: their host code and their records */
};

typedef struct raddle_context raddle_context;

raddle_context *raddle_context_new(const struct raddle_config *config, const struct raddle_callbacks *callbacks);
/* NULL when out of memory or when the configuration is refused; errno says why. */
void raddle_trim(void); /* returns freed memory to the host */
void raddle_context_free(raddle_context *context); /* frees its vCPUs too; no thread may use it any more */
int raddle_code_is_dual(raddle_context *context);
int raddle_code_views(uint32_t flags);
/* How many views (2 or 1) of its code buffer a context with these flags would map; -errno when it could not. */
int raddle_code_trial(uint32_t flags, const void *first, const void *second, uint32_t size, uint32_t *results);
/* Map memory as for such a context, write a function uint32_t f(void) of `size` bytes (at most a page) into it and run
 * it, then do the same with another function in its place. Stores both results. 0, or -errno when there is no such
 * memory. */

void *raddle_cpu_new(raddle_context *context, uint32_t index, uint32_t state_size); /* NULL when out of memory */
void *raddle_timers_env(raddle_context *context, uint32_t state_size);
/* An env for the routines of timers that belong to no vCPU: it has a header and, zeroed, a state, and no TLB. Once,
 * before such a timer is made. NULL when out of memory. */
/* Atomically, 4 or 8 bytes into the header, `offset` from env. */
void raddle_field_store(void *env, int32_t offset, uint32_t size, uint64_t value);
void *raddle_cpu_header(void *env);                                                 /* struct raddle_cpu_header * */

void raddle_set_enter(raddle_context *context, void *enter);
void raddle_set_synchronise(raddle_context *context, void *synchronise);
/* Host code, void f(void): called on each vCPU's thread before it enters code in memory that a flush has freed. */
int raddle_set_callee(raddle_context *context, uint32_t which, void *function);
int raddle_set_callee_number(raddle_context *context, uint32_t which, uint32_t number);

/* -- code ------------------------------------------------------------------------------------------------------- */

struct raddle_block_desc {
    uint64_t pc;
    uint32_t mode;
    uint32_t flags;      /* RADDLE_SINGLE or another limit: the block may not chain */
    uint64_t phys[2];    /* physical page addresses, all ones for none */
    uint32_t version[2]; /* of those pages, from raddle_code_begin */
    uint32_t guest_size; /* bytes of guest code */
    uint32_t ninsns;
    const void *guest; /* the guest bytes that were translated, or NULL: then the versions decide */
    const void *code;
    uint32_t code_size;
    uint32_t hot_start;
    uint32_t cold_start;
    uint32_t exits;    /* the most jumps that may be chained */
    const void *table; /* 8 * ninsns bytes */
};

uint64_t raddle_code_write(raddle_context *context, const void *bytes, uint32_t size, uint32_t align);
/* Returns the address to run it at, 0 when the area is full. For thunks and routines: a flush does not drop them. */
uint32_t raddle_code_begin(raddle_context *context, uint64_t page);
/* Marks the physical page as holding code, so that stores to it are noticed from now on. Returns the page's version. */
int raddle_block_install(raddle_context *context, const struct raddle_block_desc *desc);
void raddle_code_flush(raddle_context *context, uint32_t generation);
/* Drops all blocks, unless another thread has done so since `generation` was read. Not under the big lock, not in
 * raddle_run. */
uint32_t raddle_code_generation(raddle_context *context);
uint64_t raddle_code_used(raddle_context *context);
void raddle_code_invalidate(raddle_context *context, uint64_t paddr, uint64_t size);
void raddle_trace(raddle_context *context, int on);
/* Sets whether the trace callback is called before every block; at first RADDLE_FLAG_TRACE decides. Begins an exclusive
 * section itself, and drops all blocks when tracing begins. Not under the big lock, not in raddle_run. */
uint64_t raddle_pc(void *env);
/* The vCPU's pc; in a callback that of the instruction that called. Exact on its own thread and while it does not run.
 */
int raddle_restore_pc(void *env, uint64_t retaddr);
/* Sets pc and insn_extra to the instruction that a host return address belongs to. Returns its index in the block, or
 * -1. */
uint64_t raddle_block_at(raddle_context *context, uint64_t address); /* guest pc of its block, or all ones */

/* -- the memo: what Python has compiled, and blocks made of it ---------------------------------------------------- */

enum raddle_memo_constants {
    RADDLE_MAX_INSTRUCTIONS = 64, /* of a block */
    RADDLE_MAX_ENTRIES = 66,      /* of a block: with its prologue and epilogue */
    RADDLE_STUB_FIXUPS = 8,
    RADDLE_HOST_FLAGS = 4, /* kinds of content of the host's flags */
    RADDLE_NO_HOLE = 65535,
    RADDLE_REGISTERS = 64, /* that can be renamed, of all banks */
    RADDLE_NO_PLACE = 255, /* of a number that is no register: it is always zero */
    RADDLE_FAMILY_REGISTERS = 12, /* of a word */
    RADDLE_FAMILY_NAMES = 6,      /* of them that are not members of its list */
    RADDLE_FAMILY_LITERALS = 3,
    RADDLE_FAMILY_EXCEPTIONS = 8,
    RADDLE_LINEAR_TERMS = 6,
    RADDLE_CUT_REGISTERS = 4,
    RADDLE_HOST_INSTRUCTION = 16,  /* bytes of the longest one that can be encoded again */
    RADDLE_WANTED_ENCODINGS = 16, /* at a time */

    RADDLE_SHAPES = 32,    /* most shapes of a host's fields */
    RADDLE_PIECES = 4,     /* of a shape */
    RADDLE_MOST_SPAN = 16, /* bytes */

    RADDLE_FROM_LITERAL = 0, /* sources; x: the fixup's value plus the literal of its hole, if any. Here: x itself */
    RADDLE_FROM_PC = 1,   /* guest address of the instruction, + x; in a stub: of where it leaves for; in the entry
                           * check and in `leave`: of the block */
    RADDLE_FROM_PAGE = 2, /* guest address of the page that FROM_PC's address lies in, + x */
    RADDLE_FROM_HOT = 3,  /* offset x in the instruction's hot part; in a stub or the entry check: from its start */
    RADDLE_FROM_COLD = 4, /* offset x in the cold part */
    RADDLE_FROM_EXIT = 5, /* a stub that leaves for that guest address + x */
    RADDLE_FROM_COUNT = 6, /* the block's instructions, + x */
    RADDLE_FROM_JUMP = 7,  /* in a stub: the field of the jump that leads to it */
    RADDLE_FROM_LEAVE = 8, /* the stub `leave` */

    RADDLE_RANGE_ANY = 0, /* of what a shape holds: the low bits of any value, */
    RADDLE_RANGE_SIGNED = 1, /* or a multiple of its scale, signed */
    RADDLE_RANGE_UNSIGNED = 2,
    RADDLE_RANGE_MODULO = 3, /* as ANY; the host says that the bits that are dropped may be */

    RADDLE_WANT_MODE = 0, /* the memo does not know the block mode */
    RADDLE_WANT_WORD = 1, /* `word` of `word_size` bytes, in `decode_state` */
    RADDLE_WANT_EPILOGUE = 2, /* of `decode_state`, to be entered under 1 << 63 | decode_state << 32 */
    RADDLE_WANT_VARIANT = 3,  /* joined.variant_key of joined.template_number */
    RADDLE_WANT_ENCODINGS = 4, /* joined.encodings */
    RADDLE_WANT_MEMORY = 5,
    RADDLE_WANT_ROOM = 6, /* the memo's budget is used up: raddle_memo_clear */
    RADDLE_WANT_REACH = 7 /* a jump within a part does not reach its target */
};

/* How host code encodes a value: take value + bias, less the field's own place if the shape is relative; the pieces
 * hold its bits from `scale` on, the first piece the lowest ones. */
struct raddle_shape {
    uint8_t unit;     /* bytes at the field's offset that are read and written as one number: 1, 2, 4 or 8 */
    uint8_t relative; /* only for places in the block */
    uint8_t scale;
    uint8_t range; /* RADDLE_RANGE_; a value outside it does not reach */
    uint32_t piece_count;
    int64_t bias;
    struct {
        uint8_t at, width; /* bits of the unit */
    } pieces[4];
};

struct raddle_fixup { /* a field of a part or a stub that is filled in when a block is made */
    uint16_t offset;  /* of the field, in its part */
    uint16_t hole;    /* or RADDLE_NO_HOLE */
    uint8_t source;   /* RADDLE_FROM_ */
    uint8_t shape;    /* number in the rules */
    uint8_t part;     /* 0 hot, 1 cold; 0 in a stub */
    uint8_t pad;
    int64_t value;
};

struct raddle_stub {
    const uint8_t *code;
    uint32_t size;
    uint32_t fixup_count;
    struct raddle_fixup fixups[8];
};

/* How to aim a jump elsewhere while other threads run it: its field is written as a whole, so that they fetch either
 * the old or the new one. The field's shape is relative and has 2 or 4 bytes; a jump that does not reach its target is
 * not chained. */
struct raddle_chain {
    uint8_t shape; /* number in the rules; a jump whose field has another one is not chained */
    uint8_t span;  /* the field lies within so many aligned bytes: a power of two, at most 16 */
    uint8_t flush; /* 1: instruction caches are invalidated after the change */
    uint8_t pad;
};

struct raddle_rules { /* what a host contributes to blocks */
    uint32_t word_bits, page_bits;
    struct raddle_stub entry;     /* begins each block */
    struct raddle_stub leave;     /* where the entry check goes to leave the block */
    struct raddle_stub chainable; /* of a jump that may be aimed at its target later */
    struct raddle_stub indirect;  /* of any other */
    struct raddle_shape shapes[32];
    uint32_t shape_count;
    struct raddle_chain chain;
    uint32_t nop_lengths;    /* a bit each: lengths in bytes for which there is code that does nothing */
    uint8_t nops[16][16];    /* that code, by its length */
    uint32_t register_count; /* registers that can be renamed; other numbers are never renamed */
    uint8_t places[64]; /* kind of place (at most 15) in which each is renamed, or RADDLE_NO_PLACE: never */
};

struct raddle_cut { /* a host instruction that names guest registers; those of a part are in ascending order */
    uint32_t form;   /* the host's number for the instruction without those registers */
    uint16_t offset, size;
    uint8_t part;    /* 0 hot, 1 cold */
    uint8_t count;
    uint8_t registers[4]; /* guest registers */
    uint16_t pad;
};

struct raddle_jump { /* a field that holds the distance to a place in the same part */
    uint8_t part, shape;
    uint16_t field, target, pad;
};

struct raddle_linear { /* of a word: base + the sum of (its `width` bits from `shift` on) * factor, modulo 2**32 */
    uint32_t base, count;
    struct {
        uint8_t shift, width;
        uint16_t pad;
        uint32_t factor;
    } terms[6];
};

/* Instruction words that differ only in registers and literals: those with key & mask == value, where key is word |
 * decode_state << 32, except the exceptions. The registers in the set `list` come first, in ascending order. */
struct raddle_family {
    uint64_t mask, value;
    uint32_t exception_count, register_count, literal_count, pad;
    struct {
        uint32_t mask, value; /* word & mask == value */
    } exceptions[8];
    struct raddle_linear list, registers[6], literals[3];
};

typedef struct raddle_memo raddle_memo;
typedef struct memo_table raddle_table;
typedef struct raddle_entry raddle_entry;
typedef struct family raddle_known_family;

struct raddle_mode {
    uint32_t mode;    /* block mode */
    uint32_t unit;    /* bytes of the smallest instruction: 2 or 4 */
    uint32_t wide_shift, wide; /* an instruction has two units when bit (first unit >> shift) & 31 of `wide` is set */
    uint32_t decode_state; /* of a block's first instruction */
    uint32_t low_first; /* the first of two units is the low half of the word; else the high half */
    raddle_entry *prologue; /* or NULL */
    raddle_table *table;    /* entries of this mode by word | decode_state << 32, and epilogues */
    raddle_table *shared[2]; /* or NULL; entries that this mode shares with others */
};

raddle_memo *raddle_memo_new(const struct raddle_rules *rules); /* NULL and errno; EINVAL: the rules are refused */
void raddle_memo_free(raddle_memo *memo);                       /* no thread may use it any more */
void raddle_memo_use(raddle_context *context, raddle_memo *memo);
/* Translate from this memo, and chain as its rules say. Before anything runs. */
void raddle_chain_by(raddle_context *context, const struct raddle_chain *chain, const struct raddle_shape *shape);
/* Sets how jumps are chained, instead of the memo's rules. Before anything runs. Without either, no jumps are chained.
 */
void raddle_memo_listen(raddle_memo *memo, int on);
/* Sets whether raddle_run returns for every block that is not found, so that Python sees each translation. */
uint32_t raddle_memo_template(raddle_memo *memo, uint32_t size, uint32_t extra, uint32_t next_decode_state);
/* A template of `size` guest bytes (at most 255), with no variants yet; `extra` (16 bits) is insn_extra of its
 * instructions. Returns its number; all ones when out of memory or when an argument is too large. */
int raddle_memo_variant(raddle_memo *memo, uint32_t number, uint32_t key, const uint8_t *hot, uint32_t hot_size,
                        const uint8_t *cold, uint32_t cold_size, const uint8_t *fixups, uint32_t fixup_count,
                        const uint8_t *cuts, uint32_t cut_count, const uint8_t *jumps, uint32_t jump_count,
                        uint32_t traits, uint32_t orders);
/* Add a template's variant for host flags key >> 1; with key & 1, the guest's flags are dead. `fixups` are struct
 * raddle_fixup, those of the hot part first; renaming needs `cuts` and `jumps`: struct raddle_cut and raddle_jump;
 * `traits`: flag_defs | flag_uses << 4 | (host_flags + 1) << 8 | ends << 16 | by_kind << 17, see
 * raddle.codegen.template; `orders`: size of the barrier | orders that it is there for << 8 | orders that it keeps << 12
 * | orders that the rest lets pass << 16 | orders that hold afterwards << 20 | inert << 24, see raddle.codegen.barriers.
 * 0, or -1 when out of memory, when there is no such variant, when a part has more than 65527 bytes, or when fields lie
 * outside their part or overlap. */
raddle_table *raddle_memo_table(raddle_memo *memo);
raddle_entry *raddle_memo_enter(raddle_memo *memo, raddle_table *table, uint64_t key, uint32_t number,
                                const uint32_t *values, uint32_t count);
/* Make the entry of a template with these literals (number all ones: an entry without code) and put it into the table
 * (may be NULL). If the key is already there, returns that entry. The template must have its variant 0. NULL when out
 * of memory. */
raddle_known_family *raddle_memo_family(raddle_memo *memo, raddle_table *table, const uint8_t *family);
/* Add a family (a struct raddle_family), the entries of whose words go into the table. NULL when out of memory. */
int raddle_memo_model(raddle_memo *memo, raddle_known_family *family, uint32_t number, const uint8_t *registers,
                      uint32_t count, uint64_t fixed);
/* Make the template of a word with these registers the family's model: templates of other words are made from it by
 * renaming, unless that needs a register of the set `fixed`, which the code also uses. 1 when the family already has a
 * model for such registers, -1 when out of memory or when there are too many registers. */
int raddle_memo_encoding(raddle_memo *memo, uint64_t key, const uint8_t *code, uint32_t size);
/* Enter the encoding of a host instruction: `key` is form << 32 and the registers, a byte each, the first one lowest.
 * 0, or -1 when out of memory or when it is too long. */
raddle_entry *raddle_memo_word(raddle_memo *memo, uint32_t mode, uint64_t key);
/* The entry of the word in a mode that the memo knows; NULL when the memo lacks it, or when out of memory. */
int raddle_entry_ends(const raddle_entry *entry); /* whether control never falls through it */
uint32_t raddle_entry_next_decode_state(const raddle_entry *entry);
int raddle_memo_mode(raddle_memo *memo, const struct raddle_mode *mode); /* 0, or -1 when there are too many */
struct raddle_memo_stats {
    uint64_t entries;        /* of words, made since the beginning */
    uint64_t templates;      /* likewise, renamed ones included */
    uint64_t bytes, outside; /* that count now: its own, and those of raddle_memo_outside */
    uint64_t limit;
    uint64_t emptied; /* how often */
};
void raddle_memo_stats(raddle_memo *memo, struct raddle_memo_stats *out);
void raddle_memo_falls_through(raddle_memo *memo, raddle_entry *entry);
/* Sets the chainable jump after the last instruction. Before anything is joined, and again after the memo was emptied.
 */
void raddle_memo_limit(raddle_memo *memo, uint64_t bytes);
/* Sets the memo's budget; at first there is no limit. When it is used up, the next block that is begun wants ROOM.
 * Blocks that were begun are finished, so each vCPU may exceed the budget by what one block needs. */
void raddle_memo_outside(raddle_memo *memo, uint64_t bytes);
/* Sets how many bytes Python keeps for the memo's contents; they count, too. */
uint32_t raddle_memo_generation(raddle_memo *memo); /* how often it has been emptied */
int raddle_memo_clear(raddle_memo *memo);
/* Empty the memo: all its numbers and pointers, except `memo` itself, become invalid. In an exclusive section, or when
 * no vCPU uses the memo; no other thread may be using its contents. 0, or -1 when out of memory. */

struct raddle_joined {
    uint8_t *code;
    uint32_t code_size, capacity, hot_start, cold_start;
    uint32_t count;                        /* rows of the table */
    uint32_t wanted;                       /* RADDLE_WANT_VARIANT, _ENCODINGS, _MEMORY or _REACH */
    uint32_t template_number, variant_key; /* the variant */
    uint32_t encoding_count;
    uint32_t far_source, far_shape; /* after TOO_FAR: the first field that cannot hold its value, */
    int64_t far_value;              /* and that value, or the distance; bias added */
    uint32_t exits;         /* jumps that may be chained */
    uint32_t barriers, barriers_left_out; /* those at the start of an instruction; the superfluous ones among them */
    uint64_t encodings[16]; /* keys */
    uint8_t table[528];
};
int raddle_join(raddle_memo *memo, raddle_entry *const *entries, uint32_t count, uint64_t pc,
                struct raddle_joined *out);
/* Join entries to a block at pc: 0, RADDLE_WANTED, RADDLE_TOO_FAR, or RADDLE_ERROR when they are too many or memory is
 * out. `out` begins as zeros. */
void raddle_joined_clear(struct raddle_joined *out);

struct raddle_want { /* written by raddle_translate; the vCPU's own thread reads it */
    uint64_t pc;
    uint64_t pages[2];    /* physical, all ones for none */
    uint32_t versions[2]; /* of the pages */
    uint32_t mode, flags; /* of the block that is to be made */
    uint32_t generation;  /* of the memo: what is wanted would be wrong in a later generation */
    int32_t answer;       /* result of the last raddle_translate */
    uint32_t kind;        /* RADDLE_WANT_ */
    uint32_t word, word_size, decode_state;
    uint32_t size;        /* guest bytes of the block */
    uint8_t data[256];    /* the guest's bytes from pc on */
    struct raddle_joined joined;
};
int raddle_translate(void *env);
/* Make the block that env is to run next, and install it. Returns the result of raddle_block_install, WANTED, FAULTED,
 * TOO_FAR when not even a block of one instruction can be joined, or ERROR when out of memory. After FULL the code
 * buffer has been flushed: run again. On the vCPU's own thread, outside raddle_run; no exclusive section runs
 * meanwhile. */
struct raddle_want *raddle_wanted(void *env);

/* -- running ---------------------------------------------------------------------------------------------------- */

int raddle_run(void *env);
int raddle_turns_begin(raddle_context *context);
/* Call it once, when all vCPUs are made, on the thread that will run their turns. 0, or -1 when there can be no more
 * timers. */
int raddle_run_turns(raddle_context *context, void **env);
/* Run all vCPUs in turn until there is something to do for one of them, `*env`. Returns the reason: MISS, WORK, STOP,
 * STUCK or ERROR. The next call continues its turn. */
uint32_t raddle_block_flags(void *env); /* after MISS: flags that the wanted block must have */
uint64_t raddle_stuck_at(void *env);    /* after STUCK: pc at which it only takes exceptions */
uint64_t raddle_code_page(void *env, uint64_t address);
/* Physical page that an instruction fetch in the current mode would read; all ones if it would fault, or reads no
 * memory. */
void raddle_fetch_fault(void *env, uint64_t address); /* enter the guest's exception for a fetch there; pc is exact */
uint64_t raddle_debug_translate(void *env, uint64_t address, uint32_t mmu_index); /* any access; all ones if unmapped */
void raddle_tlb_flush(void *env);
/* Empty the TLB. On the vCPU's own thread, outside raddle_run, or while it has no thread; no exclusive section runs
 * meanwhile. */

uint32_t raddle_slow_load(void *env, uint64_t retaddr, uint32_t oi);
uint32_t raddle_slow_store(void *env, uint64_t retaddr, uint32_t oi);
uint32_t raddle_slow_atomic(void *env, uint64_t retaddr, uint32_t oi, uint32_t op);
uint32_t raddle_call_helper(void *env, uint32_t number, uint64_t retaddr);
/* These four are for the host's thunks: 0 to go on, 1 to leave the block at once. */

/* -- requests, from any thread ---------------------------------------------------------------------------------- */

void raddle_kick(void *env); /* leave generated code soon, wake if asleep */
void raddle_work(void *env); /* make raddle_run return WORK */
void raddle_interrupt_set(void *env, uint32_t lines);
void raddle_interrupt_clear(void *env, uint32_t lines);
void raddle_event(raddle_context *context); /* `sev`: sets all event registers */
void raddle_stop(raddle_context *context);  /* every raddle_run returns STOP, until raddle_go */
void raddle_go(raddle_context *context);
void raddle_error(raddle_context *context, void *env);
/* Call it when a callback has failed (env may be NULL): everything stops; env's raddle_run returns ERROR. */
int raddle_stopping(raddle_context *context);
int raddle_wait(raddle_context *context, uint64_t ns);
/* Round-robin, when no vCPU can run: sleep until one is kicked (returns 1) or until `ns` have passed (0); all ones for
 * no limit. */
int raddle_can_run(void *env); /* whether raddle_run would do more than return HALTED */

void raddle_exclusive_begin(raddle_context *context);
/* Waits until no vCPU is in raddle_run, and keeps vCPUs out of it. Not under the big lock; a vCPU's thread may call it
 * outside raddle_run. */
void raddle_exclusive_end(raddle_context *context);
void raddle_big_lock(raddle_context *context);
void raddle_big_unlock(raddle_context *context);

/* -- memory ----------------------------------------------------------------------------------------------------- */

struct raddle_region {
    uint64_t base; /* physical address; RAM, ROM, ROM_DEVICE: page-aligned */
    uint64_t size;
    uint32_t kind; /* RADDLE_REGION_ */
    uint32_t id;   /* passed to the handler */
    void *memory;  /* RAM, ROM, ROM_DEVICE: host memory, which must outlive the context; ROUTINE: raddle_function */
};

int raddle_memory_set(raddle_context *context, const struct raddle_region *regions, uint32_t count);
/* In any order, without overlaps. Call it once, before any vCPU runs. 0, or -1 with errno. */
int raddle_phys_read(raddle_context *context, uint64_t paddr, void *buffer, uint64_t size);
int raddle_phys_write(raddle_context *context, uint64_t paddr, const void *buffer, uint64_t size);
/* Only for RAM and ROM: 0, or -1 when part of the range is neither. Writing invalidates code. */
void raddle_rom_device_loads(raddle_context *context, uint64_t paddr, int by_callback);
/* Sets who serves loads from the ROM device at paddr: its memory (as at the start), or the mmio callback. A vCPU that
 * sees a later store of the caller also sees this change. Instruction fetches always read the memory. Any thread, under
 * the big lock. */
void *raddle_phys_pointer(raddle_context *context, uint64_t paddr, uint64_t size); /* NULL if not within one region */
int raddle_watch_set(raddle_context *context, const uint64_t *pages, uint32_t count);
/* Sets the guest pages (virtual addresses) whose accesses call the watch callback. Begins an exclusive section itself;
 * flushes all TLBs. */

/* -- time ------------------------------------------------------------------------------------------------------- */

/* Guests choose times, so sums of them saturate: a deadline beyond RADDLE_END_OF_TIME is all ones. It never comes, nor
 * does one at RADDLE_END_OF_TIME, where the clock stands still. */

uint64_t raddle_clock_ns(raddle_context *context); /* virtual time; 0 until it is started */
void raddle_clock_stop(raddle_context *context);
void raddle_clock_start(raddle_context *context);
int raddle_timer_new(raddle_context *context, uint32_t kind, uint32_t value, void *env); /* its number; -1, and errno */
void raddle_timer_set(raddle_context *context, uint32_t timer, uint64_t deadline_ns);
void raddle_timer_cancel(raddle_context *context, uint32_t timer);
uint64_t raddle_timer_deadline(raddle_context *context, uint32_t timer); /* all ones for none; also if it waits to be called */
uint64_t raddle_timer_next(raddle_context *context);      /* earliest deadline, all ones for none */
uint32_t raddle_timers_run(raddle_context *context);      /* fires due timers (icount), each once; returns how many */
void raddle_icount_set(void *env, uint32_t instructions); /* how many may run before raddle_run returns BUDGET */
uint32_t raddle_icount_budget(raddle_context *context, uint32_t limit); /* until the next deadline; at least 1 */
void raddle_icount_shift(raddle_context *context, uint32_t shift);
/* Sets the virtual ns of an instruction, as a power of two. Before anything runs. */
void raddle_icount_warp(raddle_context *context, uint64_t ns);     /* all vCPUs are idle: advance virtual time by ns */
uint64_t raddle_icount(raddle_context *context);                   /* instructions executed */

/* -- statistics ------------------------------------------------------------------------------------------------- */

struct raddle_stats {
    uint64_t big_lock_waits, big_lock_wait_ns;
    uint64_t exclusive_sections, exclusive_wait_ns;
    uint64_t idle_ns; /* of the thread that runs all vCPUs in turn, while none could run */
    uint64_t blocks, instructions, installs, installs_raced, installs_equal, invalidated, flushes;
    uint64_t record_bytes; /* of blocks, besides their code */
    uint64_t timers_fired;
};
void raddle_stats(raddle_context *context, struct raddle_stats *out);

struct raddle_cpu_stats {
    uint64_t sleeps, sleep_ns; /* waits for an interrupt or event */
    uint64_t wakes;            /* how often its thread was woken from them: more than `sleeps` if in vain */
    uint64_t loans; /* how often another thread ran it during them; they go on meanwhile */
    uint64_t python_ns;        /* in Python callbacks, waiting for the GIL included */
    uint64_t big_lock_wait_ns;
    uint64_t tlb_syncs, tlb_sync_ns; /* barriers that waited for other vCPUs, and their CPU time */
    uint64_t tlb_sync_sleeps, tlb_sync_sleep_ns; /* barriers that slept because another vCPU had no core */
    uint64_t tlb_give_ways, tlb_give_way_ns;     /* sleeps that left such a vCPU a core */
    uint64_t tlb_records;                        /* flushes that other vCPUs asked for */
    uint64_t spin_yields;                        /* how often a spinning vCPU left its core to others */
    uint64_t notdirty;               /* stores to pages with code */
    uint64_t joins, join_ns;         /* blocks made in raddle_run from the memo, and the CPU time of that, by samples */
    uint64_t barriers, barriers_left_out; /* in its blocks, see struct raddle_joined */
};
void raddle_cpu_stats(void *env, struct raddle_cpu_stats *out);

uint64_t raddle_helper(void *env, uint32_t number, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3); /* call one */
uint32_t raddle_helper_count(void);
const char *raddle_helper_name(uint32_t number);
void *raddle_helper_address(uint32_t number);

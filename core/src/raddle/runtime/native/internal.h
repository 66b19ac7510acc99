/* SPDX-License-Identifier: Apache-2.0 */
/* What the runtime's own files share: the context, a vCPU's private part, and the functions that cross files. What only
 * the memo's files share is in memo.h.
 *
 * Lock order (outer first). A thread that holds one may only take those after it:
 *
 *   exclusive section (begin waits until no vCPU is in raddle_run; never begun under any lock below)
 *   big_lock          devices and interrupt state; recursive
 *   the GIL           taken by callbacks, under no lock below; Python gives it up around every call into here
 *   code_lock         block table, page lists, chains
 *   timer_lock        timers
 *   cpu.tlb_lock      one vCPU's TLB entries
 *   cpu.queue_lock    one vCPU's flush records
 *   memo.lock, sync_lock, exclusive_lock, cpu.sleep_lock, idle_lock: leaves, held for a few instructions
 *   a granule's lock  one access to guest memory (granules.c); generated code takes it, too
 *
 * A vCPU is `running` between cpu_begin and cpu_end; exclusive sections wait for cpu_end. It is `in_code` while it may
 * use TLB entries without looking at its flush queue first; TLB barriers wait until it leaves code, or has worked off
 * the queue. Callbacks into Python, waits for the big lock, and sleep are out of code. Generated code, its helpers and
 * the execution loop are in code.
 *
 * Files. Each calls only functions of its own line and of the lines below it:
 *
 *   context, helpers: makes contexts and vCPUs; functions that generated code calls by name
 *   schedule, timers: turns of vCPUs that share a thread; the thread that waits for deadlines, and runs vCPUs that sleep
 *   loop, slowpath: runs blocks; serves their accesses
 *   join, rename, family, memo: blocks from templates
 *   exceptions, clock, memory: faults; time and timers; physical accesses, I/O
 *   threads, barrier, flush, settle, blocks, tlb, callees: requests between vCPUs. A vCPU answers when it enters or
 *      leaves code, so these files call each other
 *   jumps, where, regions, granules, code: jump cache; instructions by host address; map of guest memory; exact
 *      reservations; code buffer
 *   fields, arena, views, fp: bits of host code; memory piece by piece; memory at two addresses; arithmetic */
#pragma once

#define _GNU_SOURCE /* memfd_create; this header is the first that a file includes */

#include "generated.h"

#include "api.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

_Static_assert(!(RADDLE_MMU_INDICES & (RADDLE_MMU_INDICES - 1)), "a field of whole bits holds any MMU index");

#define NONE            UINT64_MAX
#define ALL_INDICES     ((1u << RADDLE_MMU_INDICES) - 1)
#define QUEUE_RECORDS   64
#define JUMP_LOCALS     1024
#define LOAN_JUMPS      256
#define LOANS_BETWEEN_LEARNING 1000u
#define ACCESS_READ     0
#define ACCESS_WRITE    1
#define ACCESS_FETCH    2
#define FAULT_ALIGNMENT (1u << 16)
#define FAULT_BUS       (1u << 17)
#define PROT_READ_BIT   1u
#define PROT_WRITE_BIT  2u
#define PROT_EXEC_BIT   4u
#define PROT_LOCAL_BIT  8u /* the mapping belongs only to the current address space */
#define FLAG_EXCLUSIVE  (1u << 16) /* block flag inside the runtime: run the block in an exclusive section */
#define PAGE_LINES      64         /* parts of a page for which the runtime knows whether they hold code */
#define GRANULE_SIZE     (1u << RADDLE_GRANULE_BITS)
#define ALL_RESERVATIONS (~(1u << RADDLE_GRANULE_LOCK))

/* Where compilers make sequentially consistent loads and stores of load-acquire and store-release, these stay in order.
 * An emulator of user programs may let the load pass the store (QEMU 7.2 does so on hosts of total store order). Two
 * threads that each store a flag and then load the other's rely on that order, so emulated builds have barriers. */
#ifdef RADDLE_EMULATED
#define AFTER_STORE(store) ((store), atomic_thread_fence(memory_order_seq_cst))
#undef atomic_store
#define atomic_store(object, value) AFTER_STORE(atomic_store_explicit(object, value, memory_order_seq_cst))
#else
#define AFTER_STORE(store) (store)
#endif

/* Access to header fields that several threads use: generated code shares the header, so its fields are not declared
 * _Atomic. The runtime's own shared fields are. */
#define LOAD(field)                 __atomic_load_n(&(field), __ATOMIC_SEQ_CST)
#define LOAD_RELAXED(field)         __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define STORE(field, value)         AFTER_STORE(__atomic_store_n(&(field), (value), __ATOMIC_SEQ_CST))
#define STORE_RELAXED(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)
#define EXCHANGE(field, value)      __atomic_exchange_n(&(field), (value), __ATOMIC_SEQ_CST)
#define COUNT(field, more)          STORE_RELAXED(field, (field) + (more)) /* by the only thread that writes it */

struct tlb_entry {
    uint64_t read, addend, write, exec; /* by the owner, `write` also by code_begin, `read` by
                                         * rom_device_loads; always under tlb_lock */
};
_Static_assert(sizeof(struct tlb_entry) == RADDLE_TLB_ENTRY_SIZE, "TLB entry");
_Static_assert(offsetof(struct tlb_entry, read) == RADDLE_TLB_READ, "read");
_Static_assert(offsetof(struct tlb_entry, addend) == RADDLE_TLB_ADDEND, "addend");
_Static_assert(offsetof(struct tlb_entry, write) == RADDLE_TLB_WRITE, "write");
_Static_assert(offsetof(struct tlb_entry, exec) == RADDLE_TLB_EXEC, "exec");

struct jump_entry {
    uint64_t pc; /* all ones: empty. Written by the owner; emptied by any thread that kills the block */
    uint32_t mode;
    uint32_t local; /* the entry is listed in jump_locals */
    uint64_t code, block;
};

/* Guest physical memory. Regions never change once vCPUs run. */
struct page {
    _Atomic uint64_t lines;      /* a bit for each 1/64 of the page: holds translated code; written under code_lock */
    _Atomic uint32_t version;    /* counts stores while `code` is set, and how often `code` was cleared */
    _Atomic uint32_t code;       /* translations exist or are being made; written under code_lock */
    uint32_t begun;              /* when the last translation of the page began, in 2**20 ns; under code_lock */
    uint32_t mark;               /* low half of the number of the mark that set `code`; under code_lock */
    struct raddle_block *blocks; /* list through page_next; under code_lock */
};

struct region {
    struct raddle_region r;
    struct page *pages;             /* RAM, ROM: one for each page */
    _Atomic bool loads_by_callback; /* ROM_DEVICE; written under the big lock, read under that or a tlb_lock */
};

/* A chainable jump of a block. All under code_lock. */
struct chain_link {
    struct chain_link *next, **back; /* in the list of its target; back NULL: the jump leads to its stub */
    uint32_t field;                  /* offset of its field in the code buffer; 0: this record is free */
    uint32_t original;               /* contents of the field's unit when the jump leads to the stub */
};

struct instruction_row {
    uint16_t hot, cold;
    uint8_t guest, pad;
    uint16_t extra;
};

struct raddle_block {
    _Atomic(struct raddle_block *) hash_next; /* written under code_lock, read by any thread */
    uint64_t pc, phys_pc, phys[2];
    uint32_t mode, flags, guest_size, ninsns, exit_count;
    uint8_t *code; /* executable view */
    uint32_t code_size, hot_start, cold_start;
    _Atomic uint32_t dead;             /* set once, under code_lock */
    struct raddle_block *page_next[2]; /* under code_lock */
    struct chain_link *incoming;       /* under code_lock */
    struct chain_link *exits;          /* [exit_count] */
    struct instruction_row *table;
};

/* A block that may be stale for a moment, and the bytes that it was translated from: see settle.c. It lies behind the
 * block's record. */
struct unsettled_block {
    struct unsettled_block *next; /* older, or of the same age */
    struct raddle_block *block;
    uint64_t mark; /* number of the last mark when the block was installed */
    uint8_t guest[];
};

/* The same memory at two addresses, or at one; see views.c. */
struct code_views {
    void *rw, *rx;
    uint64_t size;
};

struct code_buffer {
    struct code_views views;
    uint8_t *rw, *rx; /* addresses of the views */
    uint64_t size, fixed_size; /* the first fixed_size bytes are never flushed */
    uint64_t fixed_used;       /* under code_lock */
    _Atomic uint64_t used;     /* bytes of the part for blocks; written under code_lock */
};

/* Memory that is taken piece by piece, zeroed, and freed as a whole. The owner serialises its use. */
struct arena {
    bool huge; /* chunks are whole huge pages, if the host has them; constant */
    struct arena_chunk *chunks;
    _Atomic uint64_t size; /* bytes of all chunks; read by any thread */
};

struct block_table {
    _Atomic(struct raddle_block *) *buckets;
    uint64_t bucket_mask;
    struct raddle_block **by_address; /* in the order of allocation; [0, count) does not change until a flush */
    _Atomic uint64_t count;
    uint64_t limit;
    struct arena arena;          /* under code_lock */
    _Atomic uint32_t generation; /* counts flushes; changes in exclusive sections only */
};

struct callee {
    raddle_function function; /* NULL: call the helper `number` */
    uint32_t number;
};

struct timer {
    uint32_t kind, value;
    struct raddle_cpu *cpu;
    uint64_t deadline; /* NONE: there is none. All fields under timer_lock */
    uint64_t due;      /* the deadline of a timer that has fired and waits for the big lock, else NONE */
    uint64_t sequence; /* counts how often the timer was set, so that a firing of an earlier setting is recognised */
};

/* schedule.c. Fields without a comment are used only by the thread that runs the turns. */
struct turns {
    pthread_t thread; /* set before the first turn */
    uint32_t timer;   /* for slices by the host's clock; likewise */
    uint32_t current, next;
    uint32_t short_turns;             /* how many of the next turns are short; turns that are given up do not count */
    uint32_t first_spinner;           /* since this vCPU's turn, every turn was given up by YIELD */
    uint64_t began;                   /* instructions counted before the turn */
    _Atomic(struct raddle_cpu *) cpu; /* the vCPU whose turn it is, or NULL; other threads read it */
    _Atomic uint64_t end;             /* end of its slice; the timer's thread reads it */
    _Atomic uint64_t looks;           /* when the timer checks `end`; the timer's thread writes it, too */
    _Atomic uint64_t idle_ns;         /* time with no vCPU to run; other threads read it */
};

/* timers.c. Fields without a comment are used only by the timers' thread. */
struct lease {
    bool tried, granted; /* whether there has been an attempt to start `thread`, and whether that runs */
    int timer;           /* descriptor of what ends it; fixed before `thread` is started */
    pthread_t thread;    /* waits for that */
    uint64_t until;      /* when it ends, by the host's monotonic clock */
    _Atomic(struct raddle_cpu *) cpu; /* the vCPU that is lent, or NULL; its thread reads it */
    _Atomic uint32_t over;            /* no vCPU may be run any longer in its thread's place; its thread sets it */
    _Atomic uint32_t end;             /* its thread is to end */
};

struct raddle_context {
    struct raddle_config config;
    struct raddle_callbacks callbacks;
    uint64_t word_mask, page_size;
    struct raddle_cpu **cpus; /* [ncpus], set before anything runs */
    struct arena cpus_memory; /* theirs and timers_cpu's; taken before anything runs. In huge pages, because a vCPU reads
                               * its jump cache and TLBs all over */
    struct raddle_cpu *timers_cpu; /* no vCPU: has the env of timers' routines; used under the big lock */
    raddle_enter_function enter;
    void (*synchronise)(void); /* or NULL */
    struct callee callees[3];
    struct region *regions; /* sorted by base; fixed before anything runs */
    uint32_t region_count;
    void *granule_map; /* granules.c: NULL without exact reservations; fixed before anything runs, as the next two */
    size_t granule_map_size;
    uint64_t granules; /* as in the header */

    pthread_mutex_t code_lock;
    struct code_buffer code;
    struct block_table blocks;
    struct raddle_chain chain; /* span 0: no jumps are chained. This and its shape are set before anything runs */
    struct raddle_shape chain_shape;
    uint64_t instructions, installs, installs_raced, installs_equal, invalidated, flushes; /* under code_lock */
    struct raddle_memo *memo; /* set before anything runs */

    _Atomic uint64_t marks;            /* how often a page began to hold code; this and the next two: see settle.c */
    _Atomic uint64_t marks_settled;    /* how many of the marks are settled; both are written under code_lock */
    struct unsettled_block *unsettled; /* youngest first; under code_lock */

    pthread_mutex_t big_lock;
    _Atomic uint64_t big_lock_waits, big_lock_wait_ns;

    pthread_mutex_t exclusive_lock;
    pthread_cond_t exclusive_idle;                  /* a vCPU left raddle_run while exclusive_pending */
    pthread_cond_t exclusive_resume;                /* exclusive_pending was decremented */
    _Atomic uint32_t exclusive_pending;             /* written under exclusive_lock */
    uint64_t exclusive_sections, exclusive_wait_ns; /* under exclusive_lock */

    pthread_mutex_t sync_lock;     /* innermost: guards only the waiting below */
    pthread_cond_t sync_over;      /* sync_waiters became 0 */
    _Atomic uint32_t sync_waiters; /* vCPUs that sleep in tlb_synchronise; written under sync_lock */

    struct turns turns;
    _Atomic bool stuck_told; /* Python was told of a vCPU that only takes exceptions at a few places */

    _Atomic uint32_t tracing;  /* changes in exclusive sections only */
    _Atomic uint32_t stopping; /* raddle_stop, raddle_error set it, raddle_go clears it */

    pthread_mutex_t idle_lock; /* raddle_wait */
    pthread_cond_t idle;
    _Atomic uint32_t idle_kicks; /* written under idle_lock */

    _Atomic uint32_t clock_changes; /* incremented when a change of the next three begins and ends; under timer_lock */
    _Atomic uint32_t clock_stopped;
    _Atomic uint64_t clock_stopped_at; /* virtual time when it stopped */
    _Atomic int64_t clock_offset;      /* virtual = monotonic + offset while it runs */
    _Atomic uint64_t icount;           /* instructions of finished slices; written by the one thread that runs */
    _Atomic uint32_t icount_shift;
    _Atomic uint64_t icount_bias; /* virtual = (instructions << shift) + bias; written by the same thread */
    _Atomic(struct raddle_cpu *) icount_cpu; /* the vCPU in raddle_run, with instruction counting */

    pthread_mutex_t timer_lock;
    _Atomic uint32_t timer_changes; /* counts earlier deadlines, the clock's state, the end: what the timers' thread waits
                                     * for; written under timer_lock */
    struct timer timers[RADDLE_TIMERS];
    uint32_t timer_count;
    uint64_t timers_fired;
    uint64_t timer_sleeps_until; /* virtual time, under timer_lock: NONE without a limit, 0 when the thread is awake */
    bool timer_thread_started, timer_thread_end;
    pthread_t timer_thread;
    struct lease lease;

    uint64_t *watch_pages; /* sorted; changes in exclusive sections only */
    _Atomic uint32_t watch_count;
};

struct tlb_side {
    uint64_t paddr; /* physical page address; written under tlb_lock, also read by the owner without it */
    uint64_t local; /* whether the mapping belongs only to the address space; used only by the owner */
};

struct large_range {
    uint64_t base, mask; /* covers all large pages of the index; mask 0 and base NONE: there is none */
};

struct common_addend {
    uint64_t rival; /* the addend that the header's may give way to */
    uint32_t votes; /* how many more of the last entries had it than others; 0: there is no rival */
};

struct flush_record {
    uint64_t address, length; /* length 0: all entries of the indices */
    uint32_t indices;
};

#define EXCEPTION_PLACES 4u /* a guest that takes exceptions at so many in turn is stuck: see exceptions.c */

/* LENT: its own thread sleeps, and the timers' thread runs it (timers.c). */
enum sleep { AWAKE, SLEEPS, SLEEPS_FOR_EVENT, LENT };

/* A vCPU's private part. Fields without a comment are used only by its own thread, or by the timers' thread while the
 * vCPU is lent to that. */
struct raddle_cpu {
    struct raddle_context *context;
    void *env;
    struct raddle_cpu_header *header;
    struct tlb_entry *tlb; /* [MMU_INDICES][TLB_ENTRIES], before the header */
    struct jump_entry *jumps;

    /* running */
    _Atomic uint32_t running; /* see above */
    _Atomic uint32_t in_code;
    _Atomic uint64_t marks_passed;                   /* see settle.c; written under code_lock */
    _Atomic uint32_t work;                           /* any thread sets, own thread clears */
    _Atomic uint32_t error;                          /* likewise */
    _Atomic uint32_t slice_over;                     /* likewise */
    _Atomic uint64_t timers_due[RADDLE_TIMERS / 64]; /* likewise */
    uint32_t block_flags;
    bool exclusive; /* this vCPU runs in an exclusive section of its own */
    bool yielding, waiting_event;
    bool stuck;        /* raddle_run is to return STUCK: see exceptions.c */
    uint64_t stuck_at; /* pc */
    uint64_t exceptions_there; /* at exception_places and nowhere else, without a return */
    uint64_t exception_places[EXCEPTION_PLACES];
    uint32_t next_exception_place; /* the one that is replaced next, modulo their number */
    uint32_t join_tries;
    uint32_t spins; /* how many hints in a row said, at spin_pc, that the guest spins */
    uint64_t spin_pc;
    uint64_t spin_since; /* CPU time when it was last read */
    bool io_failed; /* the access that a region's routine passed on to Python was a bus error */
    uint64_t event_since; /* virtual time when waiting_event was set */
    uint64_t retaddr;     /* return address of the current call out of a block, or 0; others read it (raddle_pc) */
    uint64_t chain_slot;  /* jump to patch once its target is known */
    uint64_t chain_pc;
    uint32_t chain_mode, chain_generation;
    uint32_t synchronised; /* generation of the blocks at the last call of `synchronise` */
    _Atomic uint32_t icount_budget; /* own thread writes */
    pthread_t thread;               /* in raddle_run, with instruction counting; set before icount_cpu */

    /* sleeping */
    pthread_mutex_t sleep_lock;
    pthread_cond_t sleep_cond;
    _Atomic uint32_t sleeping; /* enum sleep; written under sleep_lock, by the timers' thread only to lend it and back */
    uint64_t awake_since;      /* by the host's monotonic clock */
    _Atomic uint32_t short_wakes; /* how often in a row it slept again soon after it had been woken */
    uint32_t python_depth;     /* calls of Python within each other, while it is lent */
    _Atomic bool wake_owed;    /* something has changed for which it must be woken, by cpus_wake or timers.c */
    bool owes_wakes;           /* it runs a timer's routine, which wakes no vCPU itself; under the big lock */

    /* TLB */
    pthread_mutex_t tlb_lock;
    struct tlb_entry victims[RADDLE_MMU_INDICES][RADDLE_VICTIM_ENTRIES]; /* as struct tlb_entry */
    struct tlb_side side[RADDLE_MMU_INDICES][RADDLE_TLB_ENTRIES];
    struct tlb_side victim_side[RADDLE_MMU_INDICES][RADDLE_VICTIM_ENTRIES];
    struct common_addend common[RADDLE_MMU_INDICES]; /* of those in config.common_indices */
    uint32_t victim_next[RADDLE_MMU_INDICES];
    _Atomic uint32_t tlb_used; /* a bit for each index with entries made since its last flush; under tlb_lock */
    uint64_t tlb_entered[RADDLE_MMU_INDICES][RADDLE_TLB_ENTRIES / 64]; /* entries perhaps not empty; under tlb_lock */
    struct large_range large[RADDLE_MMU_INDICES];
    struct {
        uint64_t page;
        uint32_t access, index;
        bool entered; /* tlb_set made the entry; it may be gone already */
    } wanted;         /* the page for which tlb_fill is calling the target */
    uint64_t jump_pages[64];           /* for each group of the jump cache: the pages of which it may hold entries */
    uint64_t jump_entered[64][(1u << RADDLE_JUMP_GROUP_BITS) / 64]; /* entries that may not be empty */
    uint16_t jump_locals[JUMP_LOCALS]; /* entries that belong only to the current address space */
    uint32_t jump_local_count;
    uint16_t loan_jumps[LOAN_JUMPS]; /* entries that a loan is likely to use; this and the next two are used by whoever
                                      * runs the vCPU */
    uint32_t loan_jump_count;
    uint32_t loans_until_learning; /* loans until loan_jumps is found anew */
    pthread_mutex_t queue_lock;
    struct flush_record queue[QUEUE_RECORDS]; /* under queue_lock */
    uint32_t queue_length;                    /* under queue_lock; above QUEUE_RECORDS: flush everything */
    _Atomic uint64_t queue_pushed;            /* written under queue_lock */
    _Atomic uint64_t queue_done;              /* how many pushes have taken effect; written by its own thread */
    bool sync_wanted;
    uint64_t *sync_tickets;       /* [ncpus]: queue_pushed of others after our pushes; others read it under sync_lock */
    bool sync_sleeping;           /* in tlb_synchronise; under sync_lock */
    pthread_cond_t sync_answered; /* with sync_lock: all others have answered a vCPU that sleeps in tlb_synchronise */
    _Atomic clockid_t clock;      /* CPU time of the thread that is in raddle_run; written by that thread */

    struct raddle_want want;
    bool block_begun; /* the last translation lacked something: it may be finished even if the memo is full by now */

    struct raddle_cpu_stats stats; /* its own thread writes (by COUNT), any thread reads */
};

/* fields.c */
bool field_insert(const struct raddle_shape *shape, uint64_t *bits, uint64_t offset, uint64_t value);
bool field_fill_pieces(const struct raddle_shape *shape, uint8_t *code, uint32_t at, uint64_t value);
bool field_is_word(const struct raddle_shape *shape);
uint64_t shape_bits(const struct raddle_shape *shape);
bool shapes_are_valid(const struct raddle_rules *rules);

static inline struct raddle_cpu_header *header_of(void *env)
{
    return (struct raddle_cpu_header *)((char *)env - RADDLE_HEADER_SIZE);
}

static inline struct raddle_cpu *cpu_of(void *env)
{
    return header_of(env)->private_data;
}

static inline bool has_flag(const struct raddle_context *ctx, uint32_t flag)
{
    return (ctx->config.flags & flag) != 0;
}

/* Whether pages were marked since the vCPU last passed marks, so that it must pass them. */
static inline bool has_marks_to_pass(struct raddle_cpu *cpu)
{
    return atomic_load(&cpu->marks_passed) != atomic_load(&cpu->context->marks);
}

static inline bool is_tracing(struct raddle_context *ctx)
{
    return atomic_load_explicit(&ctx->tracing, memory_order_relaxed) != 0;
}

/* The first set bit from `place` on, among `count` bits (a multiple of 64); `count` if there is none. */
static inline uint32_t next_bit(const uint64_t *bits, uint32_t count, uint32_t place)
{
    while (place < count) {
        uint64_t rest = bits[place / 64] >> place % 64;
        if (rest)
            return place + (uint32_t)__builtin_ctzll(rest);
        place = (place | 63) + 1;
    }
    return count;
}

#define EACH_BIT(place, bits, count) \
    (uint32_t place = next_bit(bits, count, 0); place < (count); place = next_bit(bits, count, place + 1))

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The sum of two times. A sum that overflows is NONE: it never comes. */
static inline uint64_t time_sum(uint64_t a, uint64_t b)
{
    return a > NONE - b ? NONE : a + b;
}

/* CPU time of the calling thread. */
static inline uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void mutex_init(pthread_mutex_t *lock, bool recursive);
void cond_init(pthread_cond_t *cond); /* timed by the monotonic clock */
uint64_t wait_deadline(uint64_t ns); /* the time on the monotonic clock `ns` from now, or in an hour; NONE: for ever */
/* Waits until `deadline`; false when it has passed. */
bool cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline);
void word_wait(_Atomic uint32_t *word, uint32_t seen, uint64_t deadline);
void word_change(_Atomic uint32_t *word);

/* threads.c */
void threads_init(struct raddle_context *ctx);
void threads_free(struct raddle_context *ctx);
void cpu_begin(struct raddle_cpu *cpu);
void cpu_end(struct raddle_cpu *cpu);
bool leave_code(struct raddle_cpu *cpu); /* before a wait within a block; returns the argument for return_to_code */
void return_to_code(struct raddle_cpu *cpu, bool was_in_code);
void cpu_kick(struct raddle_cpu *cpu);
void cpu_set_lines(struct raddle_cpu *cpu, uint32_t lines);
void cpu_set_lines_later(struct raddle_cpu *cpu, uint32_t lines); /* but wakes nobody before cpus_wake */
void cpu_kick_later(struct raddle_cpu *cpu);                      /* likewise */
bool cpu_take_owed_wake(struct raddle_cpu *cpu);                  /* whether it must be woken, which the caller now does */
void cpu_wake(struct raddle_cpu *cpu);
void cpus_wake(struct raddle_context *ctx);
bool cpu_may_be_lent(struct raddle_cpu *cpu);
bool cpu_borrow(struct raddle_cpu *cpu); /* by the timers' thread: whether it may now run the vCPU */
void cpu_give_back(struct raddle_cpu *cpu, bool long_run);
void cpu_clear_lines(struct raddle_cpu *cpu, uint32_t lines);
void cpu_set_event(struct raddle_cpu *cpu);
void cpu_sleep(struct raddle_cpu *cpu, bool for_event);
void cpu_spin(struct raddle_cpu *cpu); /* the guest hints that it spins. Only if each vCPU has its own thread */
void cpu_big_lock(struct raddle_cpu *cpu);

/* Whether the vCPU is run by the timers' thread; only that thread and the vCPU's own may ask. */
static inline bool is_lent(const struct raddle_cpu *cpu)
{
    return atomic_load_explicit(&cpu->sleeping, memory_order_relaxed) == LENT;
}

/* loop.c */
bool cpu_run_lent(struct raddle_cpu *cpu); /* until it sleeps; false if its own thread must go on */

/* callees.c */
bool enter_python(struct raddle_cpu *cpu); /* before a callback for the vCPU; returns the argument for leave_python */
void leave_python(struct raddle_cpu *cpu, bool was_in_code);
uint64_t call_python(struct raddle_cpu *cpu, uint32_t id, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);
uint64_t call_callee(struct raddle_cpu *cpu, uint32_t which, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);
uint64_t call_number(struct raddle_cpu *cpu, uint32_t number, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);

/* views.c */
int views_map(struct code_views *views, uint64_t size, uint32_t flags); /* 0, or -1 with errno */
void views_unmap(struct code_views *views);

/* exceptions.c */
void deliver_fault(struct raddle_cpu *cpu, uint64_t address, uint32_t size, uint32_t access_index, uint32_t code);
void exception_count(struct raddle_cpu *cpu, uint64_t place);

/* code.c */
int code_init(struct raddle_context *ctx); /* 0, or -1 with errno */
void code_free(struct raddle_context *ctx);

/* where.c */
struct raddle_block *block_of_address(struct raddle_context *ctx, uint64_t address); /* NULL if in no block */
int block_instruction(const struct raddle_block *block, uint64_t retaddr, uint64_t *pc, uint32_t *extra);
bool in_blocks(const struct raddle_context *ctx, uint64_t address);

/* blocks.c */
int blocks_init(struct raddle_context *ctx);
void blocks_free(struct raddle_context *ctx);
struct raddle_block *block_find(struct raddle_cpu *cpu, uint64_t phys_pc, uint64_t pc, uint32_t mode, uint32_t flags);
void block_chain(struct raddle_cpu *cpu, struct raddle_block *target);
void blocks_synchronise(struct raddle_cpu *cpu); /* by the owner, when an exclusive section may have ended */
uint64_t block_records(const struct raddle_context *ctx); /* bytes of the blocks' records; under code_lock */
bool block_overlaps(const struct raddle_context *ctx, const struct raddle_block *block, uint64_t paddr, uint64_t size);

/* jumps.c; by the owner unless said otherwise */
void jumps_init(struct raddle_cpu *cpu);
void jumps_enter(struct raddle_cpu *cpu, struct raddle_block *block, bool local);
struct raddle_block *jumps_find(struct raddle_cpu *cpu, uint64_t pc, uint32_t mode); /* NULL if it has no such block */
void jumps_forget(struct raddle_cpu *cpu, const struct raddle_block *block); /* any thread, under code_lock */
void jumps_clear(struct raddle_cpu *cpu); /* or by any thread in an exclusive section */
void jumps_expect_loan(struct raddle_cpu *cpu); /* by the timers' thread, while it runs the vCPU */
void jumps_clear_page(struct raddle_cpu *cpu, uint64_t page);
void jumps_clear_local(struct raddle_cpu *cpu); /* at least those of pages that were mapped locally */

/* arena.c */
void *arena_take(struct arena *arena, size_t size); /* aligned to 16 bytes; NULL when out of memory */
size_t arena_grows(const struct arena *arena, size_t size); /* by how many bytes the next arena_take would grow it */
void arena_clear(struct arena *arena);
void *map_new(size_t size); /* zeroed; NULL when out of memory */
void map_free(void *memory, size_t size); /* NULL: does nothing */

/* join.c */
bool translate_from_memo(struct raddle_cpu *cpu);

/* blocks.c: blocks whose bytes change */
bool block_holds(struct raddle_context *ctx, const struct raddle_block *block, const uint8_t *wanted);
void block_discard(struct raddle_context *ctx, struct raddle_block *block); /* under code_lock */

/* settle.c; all under code_lock, except marks_pass and stores_may_be_unseen */
bool stores_may_be_unseen(const struct raddle_context *ctx); /* for a moment after a page was marked */
void marks_add(struct raddle_context *ctx, struct page *page); /* the page has just been marked */
void marks_pass(struct raddle_cpu *cpu); /* by the vCPU's thread, between blocks or out of code */
bool mark_is_settled(const struct raddle_context *ctx, const struct page *page);
uint64_t unsettled_size(uint64_t guest_size); /* bytes that unsettled_add needs at `place` */
void unsettled_add(struct raddle_context *ctx, void *place, struct raddle_block *block, const void *guest);

/* blocks.c: stores to pages with code */
bool page_holds_code(struct raddle_context *ctx, uint64_t paddr, uint64_t size); /* in a line that the range touches */
bool page_is_translated(struct raddle_context *ctx, uint64_t paddr);              /* or is being translated */
void page_stored(struct raddle_context *ctx, struct raddle_cpu *cpu, uint64_t paddr, uint64_t size);

/* tlb.c */
void tlb_init(struct raddle_cpu *cpu);
struct probe {
    uint64_t comparator, addend, paddr; /* paddr: of the page */
    bool local;                         /* the mapping belongs only to the current address space */
};
bool tlb_probe(struct raddle_cpu *cpu, uint64_t address, uint32_t access, uint32_t index, struct probe *out);
uint32_t tlb_fill(struct raddle_cpu *cpu, uint64_t address, uint32_t size, uint32_t access, uint32_t index,
                  struct probe *out);
void tlb_set(struct raddle_cpu *cpu, uint64_t address, uint64_t paddr, uint32_t prot, uint32_t size_log2,
             uint32_t index);
void tlb_mark_code(struct raddle_cpu *cpu, uint64_t page);
void tlb_mark_loads(struct raddle_cpu *cpu, uint64_t base, uint64_t size, bool by_callback);
void tlb_clean_page(struct raddle_cpu *cpu, uint64_t page);
void tlb_flush_indices(struct raddle_cpu *cpu, uint32_t indices);
void tlb_flush_local(struct raddle_cpu *cpu, uint32_t indices);
void tlb_flush_record(struct raddle_cpu *cpu, const struct flush_record *record);

/* The MMU index of instruction fetches in the current mode. */
static inline uint32_t fetch_index(const struct raddle_cpu *cpu)
{
    return (cpu->header->mode >> cpu->context->config.fetch_index_shift) & (RADDLE_MMU_INDICES - 1);
}

/* Finds where an instruction address is mapped: 0, or the code of the fault that a fetch takes. */
static inline uint32_t fetch_probe(struct raddle_cpu *cpu, uint64_t address, struct probe *probe)
{
    uint32_t code = tlb_fill(cpu, address, 1, ACCESS_FETCH, fetch_index(cpu), probe);
    return !code && (probe->comparator & RADDLE_TLB_MMIO) ? FAULT_BUS : code;
}

/* flush.c */
void queue_drain(struct raddle_cpu *cpu);

/* barrier.c */
void barrier_enter(struct raddle_cpu *cpu); /* before the vCPU runs on this thread */
void tlb_synchronise(struct raddle_cpu *cpu);
void tlb_answer(struct raddle_cpu *cpu);   /* after its queue was worked off, or after it left code */
void tlb_give_way(struct raddle_cpu *cpu); /* after queue_drain, in code: leave the core to vCPUs a barrier waits for */

/* granules.c; without exact reservations locking does nothing */
int granules_init(struct raddle_context *ctx); /* once the regions are known: 0, or -1 with errno */
void granules_free(struct raddle_context *ctx);
void granules_connect(struct raddle_cpu *cpu); /* sets the fields of its header */
uint32_t *granule_word(const struct raddle_context *ctx, const void *p);
void granules_lock(struct raddle_context *ctx, const void *p, uint32_t size); /* at most two granules */
void granules_unlock(struct raddle_context *ctx, const void *p, uint32_t size, uint32_t left); /* keeps bits `left` */

/* regions.c */
struct region *region_at(struct raddle_context *ctx, uint64_t paddr); /* NULL when there is none */
struct page *page_at(struct raddle_context *ctx, uint64_t paddr);     /* NULL when not RAM or ROM */
bool is_memory(const struct region *region);
bool loads_by_callback(const struct region *region);
void memory_free(struct raddle_context *ctx);

/* memory.c */
int io_access(struct raddle_cpu *cpu, uint64_t paddr, uint32_t size, bool is_write, uint64_t *value);

/* timers.c */
void timers_free(struct raddle_context *ctx); /* ends the threads */

/* clock.c */
int clock_init(struct raddle_context *ctx);
int timer_add(struct raddle_context *ctx, uint32_t kind, uint32_t value, void *env); /* its number; -1, and errno */
uint32_t timers_fire(struct raddle_context *ctx); /* those that are due, under timer_lock; vCPUs may be owed a wake */
uint32_t timers_earliest(const struct raddle_context *ctx); /* under timer_lock; RADDLE_TIMERS for none */
void clock_free(struct raddle_context *ctx);
uint64_t clock_now(struct raddle_context *ctx);
bool event_wait_over(struct raddle_cpu *cpu);
void slice_begin(struct raddle_context *ctx, uint64_t ns); /* a turn begins, which ends so much later */
void icount_enter(struct raddle_cpu *cpu);
void icount_commit(struct raddle_cpu *cpu);
uint64_t icount_retired(struct raddle_cpu *cpu); /* on its own thread; 0 without counting */
void icount_lend(struct raddle_cpu *cpu, const struct raddle_block *block);
void icount_refund(struct raddle_cpu *cpu, uint32_t instructions);
void icount_spend(struct raddle_cpu *cpu, uint32_t instructions);

/* SPDX-License-Identifier: Apache-2.0 */
/* The native runtime as Python and generated code see it. build.py gives this text to cffi as well as to the compiler:
 * plain declarations only. `env` is the pointer that stands for a vCPU (see raddle.runtime.layout).
 *
 * Threads: unless a comment says otherwise, what takes `env` is called by the vCPU's own thread (or before it runs) and
 * what takes the context may be called by any thread. */

enum raddle_constants {
    RADDLE_FLAG_DUAL_MAP = 1, /* code buffer mapped twice: once writable, once executable */
    RADDLE_FLAG_PARALLEL = 2, /* one thread a vCPU; without it all vCPUs run in turn on one thread */
    RADDLE_FLAG_ICOUNT = 4,   /* virtual time is counted in instructions; needs PARALLEL off */
    RADDLE_FLAG_TRACE = 8,    /* every block passes the execution loop (no chaining, no jump cache): see raddle_trace */

    RADDLE_MISS = 0, /* reasons of raddle_run */
    RADDLE_WORK = 1,
    RADDLE_STOP = 2,
    RADDLE_HALTED = 3,
    RADDLE_SLICE = 4,
    RADDLE_YIELD = 5,
    RADDLE_BUDGET = 6,
    RADDLE_FULL = 7, /* answer of raddle_block_install: no room for the block; raddle_run does not say it */
    RADDLE_ERROR = 8,

    RADDLE_INSTALL_OK = 0,
    RADDLE_INSTALL_RACED = 1,

    RADDLE_CALLEE_TLB_FILL = 0,
    RADDLE_CALLEE_FAULT = 1,
    RADDLE_CALLEE_INTERRUPT = 2,
    RADDLE_PYTHON_NUMBER = 4096, /* helper numbers from here on are Python callbacks: id = number - this */

    RADDLE_COUNT_MASK = 511, /* block flags: at most so many instructions, 0 for no limit */
    RADDLE_SINGLE = 1,       /* block flags: exactly one instruction */

    RADDLE_REGION_RAM = 0,
    RADDLE_REGION_ROM = 1,
    RADDLE_REGION_PYTHON = 2,  /* I/O served by the mmio callback */
    RADDLE_REGION_ROUTINE = 3, /* I/O served by a callee: f(env, offset, size | is_write << 8, value, id) -> value */

    RADDLE_OP_LOAD_EXCLUSIVE = 0, /* raddle_slow_atomic */
    RADDLE_OP_STORE_EXCLUSIVE = 1,
    RADDLE_OP_CMPXCHG = 2,
    RADDLE_OP_XCHG = 3,
    RADDLE_OP_ADD = 4,
    RADDLE_OP_AND = 5,
    RADDLE_OP_OR = 6,
    RADDLE_OP_XOR = 7,

    RADDLE_TIMER_INTERRUPT = 0, /* sets interrupt lines `value` of env */
    RADDLE_TIMER_CALLEE = 1,    /* env's own thread calls helper `value` with (timer, 0, 0, 0), under the big lock */
    RADDLE_TIMER_PYTHON = 2,    /* calls the timer callback with `value`, under the big lock */
    RADDLE_TIMER_SLICE = 3,     /* makes env's raddle_run return SLICE */
    RADDLE_TIMER_EVENT = 4,     /* sets env's event register, as SEV does */
    RADDLE_TIMERS = 256         /* at most so many timers a context */
};

typedef uint64_t (*raddle_function)(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);
typedef uint64_t (*raddle_enter_function)(void *env, void *code);

/* Calls into Python. Each may be NULL when it is never needed. One that fails calls raddle_error before it returns. */
struct raddle_callbacks {
    uint64_t (*call)(void *env, uint32_t id, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);
    int (*mmio)(void *env, uint32_t region, uint64_t offset, uint32_t size, int is_write, uint64_t *value);
    void (*timer)(void *context, uint32_t id);
    void (*watch)(void *env, uint64_t address, uint32_t size, int is_write, uint64_t value);
    void (*trace)(void *env, uint64_t pc);
};
/* mmio: returns 0, or 1 for a bus error. The value is in the host's order, zero-extended. */

struct raddle_config {
    uint32_t page_bits; /* log2 of the smallest guest page, at least 12 */
    uint32_t word_bits; /* 32 or 64 */
    uint32_t ncpus;
    uint32_t flags;             /* RADDLE_FLAG_ */
    uint32_t fetch_index_shift; /* the block mode's two bits from here on are the MMU index of instruction fetches */
    uint32_t wfe_limit_us;      /* a WFE sleeps no longer than this; 0: until an event */
    uint64_t code_size;         /* bytes for blocks */
};

typedef struct raddle_context raddle_context;

raddle_context *raddle_context_new(const struct raddle_config *config, const struct raddle_callbacks *callbacks);
/* NULL when memory cannot be had or the configuration is refused; errno says why. */
void raddle_context_free(raddle_context *context); /* frees its vCPUs too; no thread may use it any more */
int raddle_code_is_dual(raddle_context *context);

void *raddle_cpu_new(raddle_context *context, uint32_t index, uint32_t state_size); /* NULL when out of memory */
void *raddle_cpu_header(void *env);                                                 /* struct raddle_cpu_header * */

void raddle_set_enter(raddle_context *context, void *enter);
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
    uint32_t pad;
    const void *table; /* 8 * ninsns bytes */
};

uint64_t raddle_code_write(raddle_context *context, const void *bytes, uint32_t size, uint32_t align);
/* Address to run it at, 0 when the area is full. For thunks and routines: a flush leaves them alone. */
uint32_t raddle_code_begin(raddle_context *context, uint64_t page);
/* Marks the physical page as holding code; from now on stores to it are seen. Returns its version. */
int raddle_block_install(raddle_context *context, void *env, const struct raddle_block_desc *desc);
void raddle_code_flush(raddle_context *context, uint32_t generation);
/* Drops all blocks, unless another thread did so since `generation` was read. Not under the big lock, not in
 * raddle_run. */
uint32_t raddle_code_generation(raddle_context *context);
uint64_t raddle_code_used(raddle_context *context);
void raddle_code_invalidate(raddle_context *context, uint64_t paddr, uint64_t size);
void raddle_trace(raddle_context *context, int on);
/* Whether every block passes the trace callback from now on; at first as RADDLE_FLAG_TRACE says. Begins an exclusive
 * section itself and drops all blocks when tracing begins. Not under the big lock, not in raddle_run. */
uint64_t raddle_pc(void *env);
/* Where env is; in a callback: the instruction that called. Exact on its own thread and while it does not run. */
int raddle_restore_pc(void *env, uint64_t retaddr);
/* Sets pc and insn_extra to the instruction that a host return address belongs to: its index in the block, or -1. */
uint64_t raddle_block_at(raddle_context *context, uint64_t address); /* guest pc of its block, all ones: none */

/* -- running ---------------------------------------------------------------------------------------------------- */

int raddle_run(void *env);
uint32_t raddle_block_flags(void *env); /* after MISS: flags that the wanted block must have */
struct raddle_miss {
    uint64_t pc;
    uint64_t page;    /* physical page that pc lies in */
    uint32_t mode;
    uint32_t flags;   /* block flags that the wanted block must have */
    uint32_t version; /* of the page */
    uint32_t pad;
    void *memory;     /* the page, in host memory */
};
int raddle_miss(void *env, struct raddle_miss *out);
/* After MISS: what to translate, its page begun as by raddle_code_begin: 0. Or 1: it cannot be fetched, and the guest's
 * exception is entered. One call, because each costs a Python thread the GIL. */
uint64_t raddle_code_page(void *env, uint64_t address);
/* Physical page that an instruction fetch in the current mode would read; all ones: it would fault, or is no memory. */
void raddle_fetch_fault(void *env, uint64_t address); /* enter the guest's exception for a fetch there; pc is exact */
uint64_t raddle_debug_translate(void *env, uint64_t address, uint32_t mmu_index); /* any access; all ones if unmapped */

uint32_t raddle_slow_load(void *env, uint64_t retaddr, uint32_t oi);
uint32_t raddle_slow_store(void *env, uint64_t retaddr, uint32_t oi);
uint32_t raddle_slow_atomic(void *env, uint64_t retaddr, uint32_t oi, uint32_t op);
uint32_t raddle_call_helper(void *env, uint32_t number, uint64_t retaddr);
/* These four are for the host's thunks: 0 to go on, 1 to leave the block at once. */

/* -- requests, from any thread ---------------------------------------------------------------------------------- */

void raddle_kick(void *env); /* leave generated code soon, wake if asleep */
void raddle_work(void *env); /* raddle_run shall return WORK */
void raddle_interrupt_set(void *env, uint32_t lines);
void raddle_interrupt_clear(void *env, uint32_t lines);
void raddle_event(raddle_context *context); /* SEV: sets all event registers */
void raddle_stop(raddle_context *context);  /* every raddle_run returns STOP, until raddle_go */
void raddle_go(raddle_context *context);
void raddle_error(raddle_context *context, void *env);
/* A callback failed (env may be NULL): everything stops; env's raddle_run returns ERROR. */
int raddle_stopping(raddle_context *context);
int raddle_wait(raddle_context *context, uint64_t ns);
/* Round-robin, when no vCPU can run: sleep until any is kicked (1) or so long (0). all ones: no limit. */
int raddle_can_run(void *env); /* whether raddle_run would do anything but return HALTED */

void raddle_exclusive_begin(raddle_context *context);
/* Waits until no vCPU is in raddle_run and keeps them out. Not under the big lock; a vCPU's thread outside raddle_run
 * may. */
void raddle_exclusive_end(raddle_context *context);
void raddle_big_lock(raddle_context *context);
void raddle_big_unlock(raddle_context *context);

/* -- memory ----------------------------------------------------------------------------------------------------- */

struct raddle_region {
    uint64_t base; /* physical address; RAM and ROM: page-aligned */
    uint64_t size;
    uint32_t kind; /* RADDLE_REGION_ */
    uint32_t id;   /* given to the handler */
    void *memory;  /* RAM, ROM: host memory, which must outlive the context; ROUTINE: raddle_function */
};

int raddle_memory_set(raddle_context *context, const struct raddle_region *regions, uint32_t count);
/* Sorted or not, no overlaps; 0, or -1 with errno. Once, before any vCPU runs. */
int raddle_phys_read(raddle_context *context, uint64_t paddr, void *buffer, uint64_t size);
int raddle_phys_write(raddle_context *context, uint64_t paddr, const void *buffer, uint64_t size);
/* RAM and ROM only: 0, or -1 when part of the range is not. Writing invalidates code. */
void *raddle_phys_pointer(raddle_context *context, uint64_t paddr, uint64_t size); /* NULL when not in one region */
int raddle_watch_set(raddle_context *context, const uint64_t *pages, uint32_t count);
/* Guest pages (virtual addresses) whose accesses call the watch callback. Begins an exclusive section itself; flushes
 * all TLBs. */

/* -- time ------------------------------------------------------------------------------------------------------- */

uint64_t raddle_clock_ns(raddle_context *context); /* virtual time */
void raddle_clock_stop(raddle_context *context);
void raddle_clock_start(raddle_context *context);
int raddle_timer_new(raddle_context *context, uint32_t kind, uint32_t value, void *env); /* its number, -1: no more */
void raddle_timer_set(raddle_context *context, uint32_t timer, uint64_t deadline_ns);
void raddle_timer_cancel(raddle_context *context, uint32_t timer);
uint64_t raddle_timer_next(raddle_context *context);      /* earliest deadline, all ones for none */
uint32_t raddle_timers_run(raddle_context *context);      /* fires what is due (instruction counting); how many */
void raddle_icount_set(void *env, uint32_t instructions); /* how many may run before raddle_run returns BUDGET */
uint32_t raddle_icount_budget(raddle_context *context, uint32_t limit); /* instructions until the next deadline */
void raddle_icount_shift(raddle_context *context, uint32_t shift); /* virtual ns an instruction, as a power of two */
void raddle_icount_warp(raddle_context *context, uint64_t ns);     /* all idle: virtual time moves on by ns */
uint64_t raddle_icount(raddle_context *context);                   /* instructions executed */

/* -- statistics ------------------------------------------------------------------------------------------------- */

struct raddle_stats {
    uint64_t big_lock_waits, big_lock_wait_ns;
    uint64_t exclusive_sections, exclusive_wait_ns;
    uint64_t blocks, installs, installs_raced, installs_equal, invalidated, flushes;
    uint64_t timers_fired;
};
void raddle_stats(raddle_context *context, struct raddle_stats *out);

struct raddle_cpu_stats {
    uint64_t sleeps, sleep_ns; /* waits for an interrupt or event */
    uint64_t python_ns;        /* in Python callbacks, waiting for the GIL included */
    uint64_t big_lock_wait_ns;
    uint64_t tlb_syncs, tlb_sync_ns; /* barriers that waited for other vCPUs */
    uint64_t tlb_records;            /* flushes that other vCPUs asked for */
    uint64_t notdirty;               /* stores to pages with code */
};
void raddle_cpu_stats(void *env, struct raddle_cpu_stats *out);

uint64_t raddle_helper(void *env, uint32_t number, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3); /* call one */
uint32_t raddle_helper_count(void);
const char *raddle_helper_name(uint32_t number);
void *raddle_helper_address(uint32_t number);

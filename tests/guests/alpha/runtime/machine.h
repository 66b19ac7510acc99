// SPDX-License-Identifier: Apache-2.0
// The Alpha `clipper` board: PALcode of OSF/1, the 21272 chipset, page tables, each CPU's alarm.
#ifndef MACHINE_H
#define MACHINE_H

#define MAX_CPUS 4

// ---- physical memory and devices, in KSEG ---------------------------------------------------------------------------

#define KSEG 0xfffffc0000000000ull
#define PORT(number) ((volatile uint8_t *)(KSEG + 0x101fc000000ull + (number)))
#define CCHIP(offset) (*(volatile uint64_t *)(KSEG + 0x101a0000000ull + (offset)))
#define PHYSICAL(address) ((uint64_t)(address) - KSEG)

// ---- PALcode (Alpha Architecture Reference Manual, II-B 2) ----------------------------------------------------------

enum {
    PAL_HALT = 0x00,
    PAL_CSERVE = 0x09,
    PAL_WRIPIR = 0x0d,
    PAL_SWPCTX = 0x30,
    PAL_TBI = 0x33,
    PAL_WRENT = 0x34,
    PAL_SWPIPL = 0x35,
    PAL_WRKGP = 0x37,
    PAL_WHAMI = 0x3c,
    PAL_WTINT = 0x3e,
    PAL_IMB = 0x86,
};
// A function of two arguments; its result. PALcode may change these registers.
#define CALL_PAL(number, first, second)                                                                                \
    ({                                                                                                                 \
        register uint64_t result_ __asm__("$0");                                                                       \
        register uint64_t first_ __asm__("$16") = (uint64_t)(first);                                                   \
        register uint64_t second_ __asm__("$17") = (uint64_t)(second);                                                 \
        __asm__ volatile("call_pal %3"                                                                                 \
                         : "=r"(result_), "+r"(first_), "+r"(second_)                                                  \
                         : "i"(number)                                                                                 \
                         : "memory", "$1", "$18", "$19", "$22", "$23", "$24", "$25");                                  \
        result_;                                                                                                       \
    })

static inline unsigned cpu_id(void) { return (unsigned)CALL_PAL(PAL_WHAMI, 0, 0); }
#define CPU_REGISTER "whami"
static inline uint32_t cpu_register(void) { return cpu_id(); }
void halt(void) __attribute__((noreturn));
void stop_if_over(void); // halts the first CPU if another one has given the verdict

// ---- barriers and waiting -------------------------------------------------------------------------------------------

#define memory_barrier() __asm__ volatile("mb" ::: "memory")
#define store_barrier() __asm__ volatile("wmb" ::: "memory")
#define control_barrier() store_barrier()
#define fetch_barrier() ((void)CALL_PAL(PAL_IMB, 0, 0))

#define IPL_NONE 0
#define IPL_ALL 7
static inline unsigned swap_ipl(unsigned level) { return (unsigned)CALL_PAL(PAL_SWPIPL, level, 0); }
#define irq_on() ((void)swap_ipl(IPL_NONE))
#define irq_off() ((void)swap_ipl(IPL_ALL))
#define wfi() ((void)CALL_PAL(PAL_WTINT, 0, 0))

// There is no instruction that says so: sleeps for some microseconds, which lets another CPU run where CPUs run in
// turn.
void cpu_yield(void);
// Who waits long sleeps in between, since other CPUs may wait for the host's core.
#define TIGHT_ROUNDS 2000u
#define wait_hint(round) ((round) % TIGHT_ROUNDS == TIGHT_ROUNDS - 1 ? cpu_yield() : (void)0)
#define spin_hint(round) wait_hint(round)
#define wake_waiters() memory_barrier()

// ---- time: services of the console, in nanoseconds ------------------------------------------------------------------

enum { CSERVE_ALARM_IN = 5, CSERVE_ALARM_AT = 6, CSERVE_CLOCK = 7 };
static inline uint64_t counter(void) { return CALL_PAL(PAL_CSERVE, CSERVE_CLOCK, 0); }
static inline uint32_t counter_frequency(void) { return 1000000000; }
static inline uint32_t milliseconds_to_ticks(uint32_t ms) { return counter_frequency() / 1000 * ms; }
// The calling CPU's alarm, an interrupt at this time. There is one alarm; cpu_yield() uses it, too.
static inline void alarm_at(uint64_t time) { (void)CALL_PAL(PAL_CSERVE, CSERVE_ALARM_AT, time); }
static inline void alarm_in(uint64_t nanoseconds) { (void)CALL_PAL(PAL_CSERVE, CSERVE_ALARM_IN, nanoseconds); }

// ---- interrupts and faults ------------------------------------------------------------------------------------------

void interrupts_start(InterruptHandler handler); // of the interrupts that CPUs send each other
static inline void interrupts_start_cpu(void) {}

// Called with interrupts masked when an alarm or a tick of the interval timer interrupts. Without a hook: nothing.
extern void (*volatile timer_hook)(void);
// Entry points by their numbers, which PALcode knows (Alpha Architecture Reference Manual, II-B 5).
enum { ENTRY_INTERRUPT, ENTRY_ARITHMETIC, ENTRY_MEMORY, ENTRY_INSTRUCTION, ENTRY_UNALIGNED, ENTRY_SYSTEM_CALL };
// What PALcode saves.
typedef struct {
    uint64_t ps, pc, gp, a0, a1, a2;
} Frame;
// Called on exceptions that are no interrupts. Without a hook they fail the guest.
extern void (*volatile exception_hook)(unsigned entry, uint64_t a0, uint64_t a1, uint64_t a2, Frame *frame);

// Called on a memory fault; the access is done again when it returns. Without a hook a fault fails the guest. `kind`:
// as entMM has it: 0 translation not valid, 1 access violation, 2 fault on read, 3 on execute, 4 on write. `access`: 0
// read, 1 write, all ones fetch.
extern void (*volatile memory_fault_hook)(uint64_t address, uint64_t kind, uint64_t access);

// ---- floating point -------------------------------------------------------------------------------------------------

// As Linux has it for a new program: FPCR rounds to nearest (DYN), no exception of an instruction with /S traps (INED,
// UNFD, OVFD, DZED, INVD), and denormal operands are numbers to it (DNOD).
#define FPCR_OF_PROGRAMS (3ull << 61 | 2ull << 58 | 7ull << 49 | 1ull << 47)
static inline void floats_on(void) {
    __asm__ volatile("itoft %0, $f0\n\tmt_fpcr $f0" ::"r"(FPCR_OF_PROGRAMS) : "$f0");
}

// ---- page tables: KSEG needs none -----------------------------------------------------------------------------------

#define PAGE_BYTES 8192u
enum { PTE_VALID = 1, PTE_GLOBAL = 0x10, PTE_KERNEL = 0x1100 }; // ASM; KRE and KWE
void mmu_on(void);                                              // the guest's own page tables, empty as yet
// The entry of a virtual address in the table of the last level. Any two addresses must have the upper 20 bits in
// common.
volatile uint64_t *page_entry(uint64_t address);
static inline uint64_t entry_of(volatile void *page, uint64_t bits) { return PHYSICAL(page) / PAGE_BYTES << 32 | bits; }
enum { TBI_ALL = -2, TBI_PROCESS = -1, TBI_BOTH = 3, TBI_DATA = 2, TBI_INSTRUCTION = 1 };
static inline void tbi(int what, uint64_t address) { (void)CALL_PAL(PAL_TBI, (int64_t)what, address); }

#endif

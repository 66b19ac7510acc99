// SPDX-License-Identifier: Apache-2.0
// What every guest may use: console, PSCI, interrupts, timer, MMU, starting the other CPUs, and verdicts.
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_CPUS 8
#define ALIGNED(n) __attribute__((aligned(n)))
#define NOINLINE __attribute__((noinline))

// Each guest defines its own by GUEST_NAME (see build.py); the verdict lines carry it.
extern const char guest_name[];
#ifdef GUEST_NAME
#define GUEST_ENTRY const char guest_name[] = GUEST_NAME;
#endif

// ---- barriers, hints, coprocessor registers -------------------------------------------------------------------------

#define dmb() __asm__ volatile("dmb ish" ::: "memory")
#define dsb() __asm__ volatile("dsb ish" ::: "memory")
#define isb() __asm__ volatile("isb" ::: "memory")
#define wfi() __asm__ volatile("dsb sy\n\twfi" ::: "memory")
#define wfe() __asm__ volatile("wfe" ::: "memory")
#define sev() __asm__ volatile("dsb ish\n\tsev" ::: "memory")
#define cpu_yield() __asm__ volatile("yield" ::: "memory")
#define compiler_barrier() __asm__ volatile("" ::: "memory")
#define irq_on() __asm__ volatile("cpsie i" ::: "memory")
#define irq_off() __asm__ volatile("cpsid i" ::: "memory")

#define READ_CP15(op1, crn, crm, op2)                                                                                  \
    ({                                                                                                                 \
        uint32_t value_;                                                                                               \
        __asm__ volatile("mrc p15, " #op1 ", %0, " #crn ", " #crm ", " #op2 : "=r"(value_)::"memory");                 \
        value_;                                                                                                        \
    })
#define WRITE_CP15(op1, crn, crm, op2, value)                                                                          \
    __asm__ volatile("mcr p15, " #op1 ", %0, " #crn ", " #crm ", " #op2 ::"r"(value) : "memory")

static inline unsigned cpu_id(void) { return READ_CP15(0, c13, c0, 4); } // TPIDRPRW, set in start.S

// ---- console --------------------------------------------------------------------------------------------------------

void put_char(char c);
// %s %c %d %u %x with a width and a leading 0; %llx and %llu for 64 bits. One call is one uninterrupted output when
// the MMU is on (a lock keeps other CPUs out).
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- verdicts: print one line and power the machine off -------------------------------------------------------------

void pass(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void power_off(void) __attribute__((noreturn));

// ---- PSCI -----------------------------------------------------------------------------------------------------------

enum {
    PSCI_VERSION = 0x84000000,
    PSCI_CPU_OFF = 0x84000002,
    PSCI_CPU_ON = 0x84000003,
    PSCI_AFFINITY_INFO = 0x84000004,
    PSCI_MIGRATE_INFO_TYPE = 0x84000006,
    PSCI_SYSTEM_OFF = 0x84000008,
    PSCI_SYSTEM_RESET = 0x84000009,
    PSCI_FEATURES = 0x8400000a,
};
enum {
    PSCI_SUCCESS = 0,
    PSCI_NOT_SUPPORTED = -1,
    PSCI_INVALID_PARAMETERS = -2,
    PSCI_DENIED = -3,
    PSCI_ALREADY_ON = -4,
    PSCI_ON_PENDING = -5,
};
int32_t hvc_call(uint32_t function, uint32_t a, uint32_t b, uint32_t c);
extern char secondary_entry[];

// ---- the other CPUs -------------------------------------------------------------------------------------------------

extern unsigned cpu_count;
// Starts every CPU that the machine has (at most MAX_CPUS), runs work(cpu) on each, the calling one included, and
// returns when all have returned from it. Sets cpu_count before the first work starts. Once in a guest.
void run_on_all(void (*work)(unsigned cpu));
// All cpu_count CPUs meet here; waits in WFE.
void meet(void);
// The same among `count` CPUs by spinning, so that they leave it close together.
typedef struct {
    volatile uint32_t arrived, round;
} SpinBarrier;
void spin_meet(SpinBarrier *barrier, unsigned count);

uint32_t fetch_add(volatile uint32_t *address, uint32_t value); // LDREX/STREX, with DMB before and after

// Waits in WFE (the one who makes the condition true must SEV); fails the guest when it takes too long.
#define wait_until(condition)                                                                                          \
    do {                                                                                                               \
        uint64_t start_ = counter();                                                                                   \
        while (!(condition)) {                                                                                         \
            wfe();                                                                                                     \
            check_patience(start_, #condition);                                                                        \
        }                                                                                                              \
        dmb();                                                                                                         \
    } while (0)
// The same by spinning with YIELD: for conditions that come about without SEV.
#define spin_until(condition)                                                                                          \
    do {                                                                                                               \
        uint64_t start_ = counter();                                                                                   \
        while (!(condition)) {                                                                                         \
            cpu_yield();                                                                                               \
            check_patience(start_, #condition);                                                                        \
        }                                                                                                              \
        dmb();                                                                                                         \
    } while (0)
void check_patience(uint64_t start, const char *what);

// ---- MMU: identity map in 1 MiB sections, RAM normal write-back shareable, devices device memory --------------------

#define SECTION_SIZE 0x100000u
#define RAM_BASE 0x40000000u
#define SECTION_NORMAL 0x00011c0eu // S, TEX 001, AP 11, C, B, section
#define SECTION_DEVICE 0x00000c16u // TEX 000, AP 11, XN, B: shareable device
extern uint32_t level1_table[4096];
void mmu_on(void); // the calling CPU's; CPUs started later follow
bool mmu_is_on(void);

// Called on a data abort; the access is done again when it returns. Without a hook an abort fails the guest.
extern void (*volatile data_abort_hook)(uint32_t fault_status, uint32_t fault_address);

// ---- GICv2 and SGIs -------------------------------------------------------------------------------------------------

#define GIC_DISTRIBUTOR 0x08000000u
#define GIC_INTERFACE 0x08010000u
#define REGISTER(address) (*(volatile uint32_t *)(address))
#define INTERRUPT_PHYSICAL_TIMER 30
#define INTERRUPT_VIRTUAL_TIMER 27
// Called with IRQs masked; acknowledge and end of interrupt are done around it. `source`: sending CPU of an SGI.
typedef void (*InterruptHandler)(unsigned interrupt, unsigned source);
void gic_on(InterruptHandler handler); // distributor, then the calling CPU's interface
void gic_cpu_on(void);                 // the calling CPU's interface and its SGIs
void gic_enable(unsigned interrupt);   // a PPI of this CPU, or an SPI
void gic_disable(unsigned interrupt);
void send_sgi(unsigned number, unsigned target_mask);
void send_sgi_others(unsigned number);

// ---- generic timer --------------------------------------------------------------------------------------------------

static inline uint64_t counter(void) {
    uint64_t value;
    __asm__ volatile("isb\n\tmrrc p15, 1, %Q0, %R0, c14" : "=r"(value)::"memory"); // CNTVCT
    return value;
}
static inline uint64_t physical_counter(void) {
    uint64_t value;
    __asm__ volatile("isb\n\tmrrc p15, 0, %Q0, %R0, c14" : "=r"(value)::"memory"); // CNTPCT
    return value;
}
static inline uint32_t counter_frequency(void) { return READ_CP15(0, c14, c0, 0); }
static inline uint32_t milliseconds_to_ticks(uint32_t ms) { return counter_frequency() / 1000 * ms; }

// ---- floating point -------------------------------------------------------------------------------------------------

void vfp_on(void); // the calling CPU's

#endif

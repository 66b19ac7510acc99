// SPDX-License-Identifier: Apache-2.0
// What every guest may use, whatever its machine: console, verdicts, the other CPUs. Each machine's machine.h has the
// rest: barriers, interrupts, timers, memory management.
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ALIGNED(n) __attribute__((aligned(n)))
#define NOINLINE __attribute__((noinline))

// Each guest defines its own by GUEST_NAME (see build.py); the verdict lines carry it.
extern const char guest_name[];
#ifdef GUEST_NAME
#define GUEST_ENTRY const char guest_name[] = GUEST_NAME;
#endif

#define compiler_barrier() __asm__ volatile("" ::: "memory")

// ---- console --------------------------------------------------------------------------------------------------------

void put_char(char c);
// %s %c %d %u %x with a width and a leading 0; %llx and %llu for 64 bits. One call is one uninterrupted output when
// the MMU is on (a lock keeps other CPUs out).
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- verdicts: print one line and power the machine off -------------------------------------------------------------

void pass(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void power_off(void) __attribute__((noreturn));

// ---- interrupts -----------------------------------------------------------------------------------------------------

// Called with interrupts masked; acknowledge and end of interrupt are done around it. `source`: the CPU that sent it.
typedef void (*InterruptHandler)(unsigned interrupt, unsigned source);
// Numbers below 16 are interrupts that one CPU sends another one.
void send_sgi(unsigned number, unsigned target_mask);
void send_sgi_others(unsigned number);

// ---- the machine ----------------------------------------------------------------------------------------------------

// MAX_CPUS; cpu_id(); CPU_REGISTER and cpu_register(): name and value of the register that tells CPUs apart;
// memory_barrier(): all accesses before it come before all after it; store_barrier(): stores before it come before
// stores after it; control_barrier(): what is too weak where a memory_barrier() is needed; fetch_barrier(): instruction
// fetches after it see what this CPU has seen; irq_on() and irq_off(); wfi(): sleep until an interrupt comes, be it
// masked or not; cpu_yield(): a hint that this CPU spins; wait_hint(n) and wake_waiters(): what the n-th round of a
// waiting loop does, and what ends it; spin_hint(n): the same where nobody calls wake_waiters(); counter() and
// counter_frequency(); mmu_on(): the calling CPU's, CPUs started later follow; interrupts_start(handler) and
// interrupts_start_cpu(): on the first CPU and on the others.
#include "machine.h"

bool mmu_is_on(void);

// ---- the other CPUs -------------------------------------------------------------------------------------------------

extern unsigned cpu_count;
// Starts every CPU that the machine has (at most MAX_CPUS), runs work(cpu) on each, the calling one included, and
// returns when all have returned from it. Sets cpu_count before the first work starts. Once in a guest.
void run_on_all(void (*work)(unsigned cpu));
// All cpu_count CPUs meet here; waits as wait_until does.
void meet(void);
// The same among `count` CPUs by spinning, so that they leave it close together.
typedef struct {
    volatile uint32_t arrived, round;
} SpinBarrier;
void spin_meet(SpinBarrier *barrier, unsigned count);

uint32_t fetch_add(volatile uint32_t *address, uint32_t value); // atomic, with memory barriers before and after

// Waits until somebody makes the condition true and calls wake_waiters(); fails the guest when it takes too long.
#define wait_until(condition) wait_loop_(condition, wait_hint)
// The same by spinning: for conditions that come about without wake_waiters().
#define spin_until(condition) wait_loop_(condition, spin_hint)
#define wait_loop_(condition, hint)                                                                                    \
    do {                                                                                                               \
        uint64_t start_ = counter();                                                                                   \
        for (unsigned round_ = 0; !(condition); round_++) {                                                            \
            hint(round_);                                                                                              \
            check_patience(start_, #condition);                                                                        \
        }                                                                                                              \
        memory_barrier();                                                                                              \
    } while (0)
void check_patience(uint64_t start, const char *what);

#endif

// SPDX-License-Identifier: Apache-2.0
// Interrupts, faults, sleeping, and the end of a guest.
#include "atomic.h"

#define NUMBERS 16u
#define YIELD_NS 5000u

void (*volatile timer_hook)(void);
void (*volatile exception_hook)(unsigned entry, uint64_t a0, uint64_t a1, uint64_t a2, Frame *frame);
void (*volatile memory_fault_hook)(uint64_t address, uint64_t kind, uint64_t access);

static InterruptHandler interrupt_handler;
static volatile uint32_t verdict_given;
static volatile uint32_t messages[MAX_CPUS][MAX_CPUS]; // [target][source]: numbers of interrupts on their way

void halt(void) {
    for (;;)
        (void)CALL_PAL(PAL_HALT, 0, 0);
}

// A CPU that has nothing to do any more.
void park(void) {
    for (;;) {
        irq_on();
        wfi();
    }
}

// A halt of the first CPU ends the machine; it halts when it sees that another one has given the verdict.
void power_off(void) {
    verdict_given = 1;
    memory_barrier();
    if (cpu_id())
        (void)CALL_PAL(PAL_WRIPIR, 0, 0);
    halt();
}

void stop_if_over(void) {
    if (verdict_given && cpu_id() == 0)
        halt();
}

// Masked, so that the alarm does not come between the two, after which nothing would end the sleep.
void cpu_yield(void) {
    unsigned level = swap_ipl(IPL_ALL);
    alarm_in(YIELD_NS);
    wfi();
    (void)swap_ipl(level);
}

void interrupts_start(InterruptHandler handler) { interrupt_handler = handler; }

void send_sgi(unsigned number, unsigned target_mask) {
    unsigned self = cpu_id();
    memory_barrier();
    for (unsigned target = 0; target < MAX_CPUS; target++)
        if (target_mask >> target & 1) {
            or_atomically(&messages[target][self], 1u << number);
            memory_barrier();
            (void)CALL_PAL(PAL_WRIPIR, target, 0);
        }
}

void send_sgi_others(unsigned number) { send_sgi(number, ((1u << cpu_count) - 1) & ~(1u << cpu_id())); }

static void take_messages(void) {
    unsigned cpu = cpu_id();
    stop_if_over();
    memory_barrier();
    for (unsigned source = 0; source < MAX_CPUS; source++) {
        uint32_t numbers = messages[cpu][source] ? exchange(&messages[cpu][source], 0) : 0;
        memory_barrier();
        for (unsigned number = 0; number < NUMBERS; number++)
            if (numbers >> number & 1)
                interrupt_handler(number, source);
    }
}

// ---- called from the vectors in start.S with the arguments that PALcode gives, the PC, and what it has saved --------

static void unexpected(const char *what, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t pc) {
    fail("unexpected %s cpu=%u a0=%llx a1=%llx a2=%llx pc=%llx", what, cpu_id(), a0, a1, a2, pc);
}

enum { INTERRUPT_CPU, INTERRUPT_TIMER };

void interrupt_entry(uint64_t kind, uint64_t vector, uint64_t a2, uint64_t pc) {
    if (kind == INTERRUPT_CPU)
        take_messages();
    else if (kind != INTERRUPT_TIMER)
        unexpected("interrupt", kind, vector, a2, pc);
    else if (timer_hook)
        timer_hook();
}

void memory_entry(uint64_t address, uint64_t kind, uint64_t access, uint64_t pc, Frame *frame) {
    if (exception_hook)
        exception_hook(ENTRY_MEMORY, address, kind, access, frame);
    else if (memory_fault_hook)
        memory_fault_hook(address, kind, access);
    else
        unexpected("memory fault", address, kind, access, pc);
}

#define ENTRY_(function, number, what)                                                                                 \
    void function(uint64_t a0, uint64_t a1, uint64_t a2, uint64_t pc, Frame *frame) {                                  \
        if (exception_hook)                                                                                            \
            exception_hook(number, a0, a1, a2, frame);                                                                 \
        else                                                                                                           \
            unexpected(what, a0, a1, a2, pc);                                                                          \
    }
ENTRY_(arithmetic_entry, ENTRY_ARITHMETIC, "arithmetic trap")
ENTRY_(instruction_entry, ENTRY_INSTRUCTION, "instruction fault")
ENTRY_(unaligned_entry, ENTRY_UNALIGNED, "unaligned access")
ENTRY_(system_call_entry, ENTRY_SYSTEM_CALL, "system call")

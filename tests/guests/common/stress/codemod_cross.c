// SPDX-License-Identifier: Apache-2.0
// CPU 0 rewrites a function again and again, as the architecture's manual has it, and announces each new version; the
// others run it all the time and must never get an older version than the one announced before the call. In even rounds
// the others synchronise by a fetch barrier after they read the announcement, in odd ones in the handler of an
// interrupt that CPU 0 has had acknowledged by all before it announces. (The architecture lets few instructions be
// rewritten under a running CPU; an emulator need not tell these from others.) PARKED: the others wait in the handler
// of an interrupt while CPU 0 rewrites, as an operating system does it. Control: announced before it is rewritten.
#include "code.h"
GUEST_ENTRY

#define WORDS 8
// The function is in the same page as other code that stays: two neighbours that every CPU also calls.
static uint32_t code[4096 / 4] ALIGNED(4096);
typedef uint32_t (*Function)(void);

static volatile uint32_t announced ALIGNED(64), announced_by_sgi ALIGNED(64), stop;
#ifdef PARKED
static volatile uint32_t parked_for, released_for;
#endif
static volatile uint32_t acknowledged[MAX_CPUS][16];
static volatile uint32_t stale, impossible, calls[MAX_CPUS][16];

static void handler(unsigned interrupt, unsigned source) {
    (void)interrupt, (void)source;
#ifdef PARKED
    uint32_t version = parked_for;
#endif
    acknowledged[cpu_id()][0]++;
    wake_waiters();
#ifdef PARKED
    wait_until(released_for == version);
    fetch_barrier();
#else
    synchronise_in_handler();
#endif
}

// Interrupts all others and waits until all others have come to its handler.
static void summon_others(void) {
    uint32_t before[MAX_CPUS];
    for (unsigned cpu = 1; cpu < cpu_count; cpu++)
        before[cpu] = acknowledged[cpu][0];
    memory_barrier();
    if (cpu_count > 1)
        send_sgi_others(1);
    for (unsigned cpu = 1; cpu < cpu_count; cpu++)
        wait_until(acknowledged[cpu][0] != before[cpu]);
}

// The number is in two instructions: a reader between the two stores may see one new and one old, so only the low half
// counts, and the high half says whether the word was ever a version at all.
static void check(uint32_t value, uint32_t floor) {
    if ((value >> 16) != 0x5a5a)
        fetch_add(&impossible, 1);
    if ((uint16_t)value < (uint16_t)floor)
        fetch_add(&stale, 1);
}

static void writer(void) {
    for (uint32_t version = 1; version <= ROUNDS; version++) {
#ifdef CONTROL
        announced = version;
        memory_barrier();
        for (unsigned i = 0; i < 100; i++)
            cpu_yield();
#endif
#ifdef PARKED
        parked_for = version;
        summon_others();
#endif
        encode(code, 0x5a5a0000 | version);
        synchronise_code(code, 3);
#ifdef PARKED
        announced_by_sgi = version;
        memory_barrier();
        released_for = version;
        wake_waiters();
#else
        if (version % 2) {
            summon_others();
            announced_by_sgi = version;
        }
#endif
        memory_barrier();
        announced = version;
        if (((Function)code)() != (0x5a5a0000 | version))
            fetch_add(&stale, 1);
        for (unsigned cpu = 1; cpu < cpu_count && version % 8 == 0; cpu++) {
            uint32_t before = calls[cpu][0];
            spin_until(calls[cpu][0] != before);
        }
    }
    memory_barrier();
    stop = 1;
}

static void work(unsigned cpu) {
    if (cpu)
        interrupts_start_cpu();
    irq_on();
    meet();
    if (cpu == 0) {
        writer();
    } else {
        while (!stop) {
            uint32_t floor = announced;
            memory_barrier();
            fetch_barrier();
            check(((Function)code)(), floor);
            if (((Function)&code[WORDS])() != 0x12345678)
                fetch_add(&impossible, 1);
            floor = announced_by_sgi;
            memory_barrier();
            check(((Function)code)(), floor);
            calls[cpu][0]++;
            cpu_yield();
        }
    }
    irq_off();
}

int main(void) {
    mmu_on();
    interrupts_start(handler);
    encode(code, 0x5a5a0000);
    encode(&code[WORDS], 0x12345678);
    synchronise_code(code, WORDS + 3);
    run_on_all(work);
    if (stale || impossible)
        fail("cpus=%u rounds=%u stale=%u impossible=%u", cpu_count, ROUNDS, stale, impossible);
    pass("cpus=%u rounds=%u", cpu_count, ROUNDS);
}

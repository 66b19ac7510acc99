// SPDX-License-Identifier: Apache-2.0
// Flash on several CPUs: CPU 0 turns the second bank from its array to its identifiers and back, and announces each turn;
// the others load from the array all the while, by two mappings, and after they have seen an announcement must not see what
// was shown before. Then CPU 0 programs a function in flash again and again, each time with fewer ones, which all call.
#include "guest.h"
GUEST_ENTRY

#define BANK 0x04000000u
#define OTHER_VIEW 0x20000000u // the same bank again, as memory that can be executed
#define BLOCK 0x40000u
#define IDENTIFIERS 0x00890089u
#define READY 0x00800080u
#define ROUNDS 200
#define FUNCTION (BLOCK + 0x120)

typedef uint32_t (*Function)(void);

static volatile uint32_t turn ALIGNED(64), seen[MAX_CPUS][16], version ALIGNED(64), called[MAX_CPUS][16];
static volatile uint32_t stale;

static volatile uint32_t *at(uint32_t view, uint32_t offset) { return (volatile uint32_t *)(view + offset); }

static void command(uint32_t offset, uint32_t value) {
    *at(BANK, offset) = value << 16 | value;
    dmb();
}

static void program(uint32_t offset, uint32_t value) {
    command(offset, 0x40);
    *at(BANK, offset) = value;
    if (*at(BANK, offset) != READY)
        fail("status %x", *at(BANK, offset));
    command(offset, 0xff);
}

static void erase(uint32_t offset) {
    command(offset, 0x20);
    command(offset, 0xd0);
    if (*at(BANK, offset) != READY)
        fail("status %x", *at(BANK, offset));
    command(offset, 0xff);
}

static bool all_have(volatile uint32_t (*counts)[16], uint32_t value) {
    for (unsigned cpu = 1; cpu < cpu_count; cpu++)
        if (counts[cpu][0] != value)
            return false;
    return true;
}

static void turn_it(void) {
    uint32_t array = *at(BANK, 0);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        command(0, round & 1 ? 0x90 : 0xff);
        if (*at(BANK, 0) != (round & 1 ? IDENTIFIERS : array))
            fail("round %u: the CPU that turned sees %x", round, *at(BANK, 0));
        turn = round;
        sev();
        wait_until(all_have(seen, round));
    }
}

// While CPU 0 turns to the identifiers, the others load the array, with entries in the TLB, until they see something else or
// the announcement. The load after the announcement has to see what was announced.
static void look(unsigned cpu, uint32_t array) {
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        volatile uint32_t *from = at(round & 2 ? BANK : OTHER_VIEW, 0);
        uint32_t found = array, wanted = round & 1 ? IDENTIFIERS : array;
        bool announced = false;
        while ((round & 1) && !announced && found == array) {
            announced = turn == round;
            dmb();
            found = *from;
        }
        if (found != array && found != IDENTIFIERS)
            fail("CPU %u: %x is neither array nor identifiers", cpu, found);
        wait_until(turn == round);
        if ((announced && found != wanted) || *from != wanted)
            fetch_add(&stale, 1);
        dmb();
        seen[cpu][0] = round;
        sev();
    }
}

static uint32_t call(void) {
    uint32_t code = OTHER_VIEW + FUNCTION;
    for (unsigned i = 0; i < 2; i++)
        WRITE_CP15(0, c7, c5, 1, code + 4 * i); // ICIMVAU
    WRITE_CP15(0, c7, c1, 6, 0);                // BPIALLIS
    dsb();
    isb();
    return ((Function)code)();
}

static void work(unsigned cpu) {
    uint32_t array = *at(OTHER_VIEW, 0);
    meet();
    if (cpu)
        look(cpu, array);
    else
        turn_it();
    meet();
    for (uint32_t number = 0xff; number; number >>= 1) {
        if (!cpu) {
            wait_until(all_have(called, version));
            program(FUNCTION, 0xe3a00000u | number);  // mov r0, #number
            program(FUNCTION + 4, 0xe12fff1eu);       // bx lr
            version = number;
            sev();
        }
        wait_until(version == number);
        uint32_t result = call();
        if (result != number)
            fail("CPU %u: the function gives %x after it has been programmed to give %x", cpu, result, number);
        called[cpu][0] = number;
        sev();
    }
}

int main(void) {
    mmu_on();
    for (uint32_t mib = 0; mib < 64; mib++) {
        level1_table[(BANK >> 20) + mib] = (BANK + (mib << 20)) | SECTION_DEVICE;
        level1_table[(OTHER_VIEW >> 20) + mib] = (BANK + (mib << 20)) | SECTION_NORMAL;
    }
    dsb();
    erase(0);
    erase(BLOCK);
    program(0, 0x12345678);
    if (*at(BANK, 0) != 0x12345678 || *at(OTHER_VIEW, 4) != 0xffffffffu)
        fail("the array holds %x %x", *at(BANK, 0), *at(OTHER_VIEW, 4));
    run_on_all(work);
    if (stale)
        fail("stale=%u", stale);
    pass("cpus=%u", cpu_count);
}

// SPDX-License-Identifier: Apache-2.0
// PSCI: the calls' answers; the state in which a CPU arrives (SVC, interrupts masked, MMU off, context in r0, in ARM
// and, for an odd entry, in Thumb state); and CPUs going off and on again, with AFFINITY_INFO. Control: CPU_ON without
// waiting until AFFINITY_INFO says off.
#include "guest.h"
GUEST_ENTRY

#define AFFINITY_ON 0
#define AFFINITY_OFF 1

// A CPU arrives here: notes its CPSR, SCTLR and context, then stays until it is let go, and turns itself off.
typedef struct {
    volatile uint32_t cpsr, sctlr, context, arrivals, let_go, padding[11];
} Arrival;
Arrival arrivals[MAX_CPUS];
extern char arrive_arm[], arrive_thumb[];
__asm__(".pushsection .text\n.syntax unified\n"
        ".macro arrival\n"
        "    mrs r1, cpsr\n"
        "    mrc p15, 0, r2, c1, c0, 0\n"
        "    mrc p15, 0, r3, c0, c0, 5\n"
        "    and r3, r3, #7\n"
        "    ldr r4, =arrivals\n"
        "    add r4, r4, r3, lsl #6\n"
        "    str r1, [r4]\n"
        "    str r2, [r4, #4]\n"
        "    str r0, [r4, #8]\n"
        "    dmb\n"
        "    ldr r5, [r4, #12]\n"
        "    add r5, r5, #1\n"
        "    str r5, [r4, #12]\n"
        "    dsb\n"
        "    sev\n"
        "1:  ldr r6, [r4, #16]\n"
        "    cmp r6, r5\n"
        "    beq 2f\n"
        "    wfe\n"
        "    b 1b\n"
        "2:  ldr r0, =0x84000002\n" // CPU_OFF
        "    hvc #0\n"
        "3:  b 3b\n"
        "    .ltorg\n"
        ".endm\n"
        ".arm\n.global arrive_arm\n.type arrive_arm, %function\narrive_arm: arrival\n"
        ".thumb\n.global arrive_thumb\n.type arrive_thumb, %function\n.thumb_func\narrive_thumb: arrival\n"
        ".arm\n.popsection\n");

static void expect(const char *what, int32_t answer, int32_t expected) {
    if (answer != expected)
        fail("%s answers %d, not %d", what, (int)answer, (int)expected);
}

static int32_t affinity_info(unsigned cpu) { return hvc_call(PSCI_AFFINITY_INFO, cpu, 0, 0); }

static void check_answers(void) {
    uint32_t version = (uint32_t)hvc_call(PSCI_VERSION, 0, 0, 0);
    if (version >> 16 == 0 && version < 2)
        fail("version %u.%u", version >> 16, version & 0xffff);
    expect("unknown function", hvc_call(0x8400ff00, 0, 0, 0), PSCI_NOT_SUPPORTED);
    expect("MIGRATE_INFO_TYPE", hvc_call(PSCI_MIGRATE_INFO_TYPE, 0, 0, 0), 2);
    expect("FEATURES CPU_ON", hvc_call(PSCI_FEATURES, PSCI_CPU_ON, 0, 0), PSCI_SUCCESS);
    expect("FEATURES unknown", hvc_call(PSCI_FEATURES, 0x8400ff00, 0, 0), PSCI_NOT_SUPPORTED);
    expect("CPU_ON of oneself", hvc_call(PSCI_CPU_ON, 0, (uint32_t)arrive_arm, 0), PSCI_ALREADY_ON);
    expect("CPU_ON of nobody", hvc_call(PSCI_CPU_ON, 0x00ffff00, (uint32_t)arrive_arm, 0), PSCI_INVALID_PARAMETERS);
    expect("AFFINITY_INFO of nobody", affinity_info(0x00ffff00), PSCI_INVALID_PARAMETERS);
    expect("AFFINITY_INFO of oneself", affinity_info(0), AFFINITY_ON);
}

static void cycle(unsigned cpu, unsigned round) {
    Arrival *arrival = &arrivals[cpu];
    bool thumb = round % 2;
    uint32_t context = round << 8 | cpu;
    uint32_t entry = (uint32_t)(thumb ? arrive_thumb : arrive_arm);
    expect("CPU_ON", hvc_call(PSCI_CPU_ON, cpu, entry, context), PSCI_SUCCESS);
    wait_until(arrival->arrivals == round);
    expect("AFFINITY_INFO while on", affinity_info(cpu), AFFINITY_ON);
    expect("CPU_ON while on", hvc_call(PSCI_CPU_ON, cpu, entry, context), PSCI_ALREADY_ON);
    if (arrival->context != context)
        fail("cpu %u round %u: context %x", cpu, round, arrival->context);
    if ((arrival->cpsr & 0x1ff) != 0x1d3 || (arrival->sctlr & 0x1005)) // MRS reads T as 0
        fail("cpu %u round %u: arrives with cpsr=%08x sctlr=%08x", cpu, round, arrival->cpsr, arrival->sctlr);
    arrival->let_go = round;
    sev();
#ifndef CONTROL
    spin_until(affinity_info(cpu) == AFFINITY_OFF);
#endif
}

int main(void) {
    check_answers();
    for (cpu_count = 1; cpu_count < MAX_CPUS; cpu_count++) {
        int32_t state = affinity_info(cpu_count);
        if (state == PSCI_INVALID_PARAMETERS)
            break;
        expect("AFFINITY_INFO before CPU_ON", state, AFFINITY_OFF);
    }
    for (unsigned cpu = 1; cpu < cpu_count; cpu++)
        for (unsigned round = 1; round <= ROUNDS; round++)
            cycle(cpu, round);
    pass("cpus=%u rounds=%u", cpu_count, ROUNDS);
}

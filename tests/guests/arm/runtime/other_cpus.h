// SPDX-License-Identifier: Apache-2.0
// Starting CPUs by PSCI.
#include "atomic.h"

static inline void prepare_start(void) { dsb(); }

// Whether the machine has the CPU.
static inline bool start_cpu(unsigned cpu) {
    int32_t answer = hvc_call(PSCI_CPU_ON, cpu, (uint32_t)secondary_entry, cpu);
    if (answer == PSCI_INVALID_PARAMETERS)
        return false;
    if (answer != PSCI_SUCCESS)
        fail("CPU_ON %u answers %d", cpu, (int)answer);
    return true;
}

// A verdict turns the machine off at once.
static inline void stop_if_over(void) {}

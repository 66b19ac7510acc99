// SPDX-License-Identifier: Apache-2.0
// The end of a guest, and exceptions that it does not expect.
#include "guest.h"

void power_off(void) {
    hvc_call(PSCI_SYSTEM_OFF, 0, 0, 0);
    for (;;)
        wfi();
}

void (*volatile data_abort_hook)(uint32_t fault_status, uint32_t fault_address);

// Called from the vectors in start.S.
void unexpected_exception(uint32_t kind, uint32_t lr, uint32_t spsr) {
    static const char *const names[] = {"reset", "undefined",  "svc", "prefetch abort", "data abort",
                                        "?",     "interrupt", "fiq"};
    fail("unexpected %s cpu=%u lr=%08x spsr=%08x dfsr=%x dfar=%08x ifsr=%x ifar=%08x", names[kind], cpu_id(), lr, spsr,
         READ_CP15(0, c5, c0, 0), READ_CP15(0, c6, c0, 0), READ_CP15(0, c5, c0, 1), READ_CP15(0, c6, c0, 2));
}

// Called from the data-abort vector in start.S.
void data_abort_entry(uint32_t pc, uint32_t spsr) {
    if (!data_abort_hook)
        unexpected_exception(4, pc, spsr);
    data_abort_hook(READ_CP15(0, c5, c0, 0), READ_CP15(0, c6, c0, 0));
}

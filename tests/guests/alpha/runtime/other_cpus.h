// SPDX-License-Identifier: Apache-2.0
// Starting CPUs by the console: it waits for a message in the CPU's slot of the hardware restart parameter block (Alpha
// Architecture Reference Manual, III 3.4).
#include "atomic.h"
#include "context.h"

enum { BLOCK_CPUS = 144, BLOCK_SLOT_BYTES = 152, BLOCK_SLOTS = 160 };
enum { BLOCK_RESTART = 256, BLOCK_RESTART_DATA = 264, BLOCK_CHECKSUM = 288, BLOCK_RECEIVE_READY = 296 };
enum { SLOT_FLAGS = 128, SLOT_LENGTH = 296, SLOT_MESSAGE = 304 };
#define SLOT_PRESENT 0x1ccu // available, present, PALcode valid and loaded

extern char secondary_entry[];

static inline void prepare_start(void) {
    FIELD(restart_block, BLOCK_RESTART) = FIELD(restart_block, BLOCK_RESTART_DATA) = (uint64_t)secondary_entry;
    uint64_t sum = 0;
    for (unsigned offset = 0; offset < BLOCK_CHECKSUM; offset += 8)
        sum += FIELD(restart_block, offset);
    FIELD(restart_block, BLOCK_CHECKSUM) = sum;
}

// Whether the machine has the CPU.
static inline bool start_cpu(unsigned cpu) {
    static const char message[8] = "START\r\n";
    uint64_t slot = restart_block + FIELD(restart_block, BLOCK_SLOTS) + cpu * FIELD(restart_block, BLOCK_SLOT_BYTES);
    if (cpu >= FIELD(restart_block, BLOCK_CPUS) || (FIELD(slot, SLOT_FLAGS) & SLOT_PRESENT) != SLOT_PRESENT)
        return false;
    for (unsigned offset = 0; offset < sizeof(Context); offset += 8)
        FIELD(slot, offset) = FIELD(&context, offset);
    ((Context *)slot)->kernel_stack = (uint64_t)__stacks + (cpu + 1) * STACK_BYTES;
    FIELD(slot, SLOT_LENGTH) = sizeof message - 1;
    __builtin_memcpy((void *)(slot + SLOT_MESSAGE), message, sizeof message);
    store_barrier();
    volatile uint32_t *ready = (volatile uint32_t *)(restart_block + BLOCK_RECEIVE_READY);
    or_atomically(ready, 1u << cpu);
    spin_until(!(*ready >> cpu & 1)); // one message at a time
    return true;
}

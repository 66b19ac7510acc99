// SPDX-License-Identifier: Apache-2.0
// The process control block (Alpha Architecture Reference Manual, II-B 4.2), and what the console leaves in memory.
#ifndef CONTEXT_H
#define CONTEXT_H

#include "guest.h"

#define STACK_BYTES 0x8000u
extern char __stacks[]; // one for each CPU, see guest.ld

typedef struct {
    uint64_t kernel_stack, user_stack, page_table;
    uint32_t cycles, address_space;
    uint64_t unique, flags, reserved[10];
} Context;
#define CONTEXT_FLOAT 1u // flags: floating-point instructions are enabled

extern Context context; // of all CPUs, but for their stacks
extern uint64_t restart_block; // address of the hardware restart parameter block, known from mmu_on() on
void swap_context(uint64_t physical_address);

#define BLOCK_VIRTUAL 0x10000000ull // by the page tables that the console leaves; the first word is where it is
#define FIELD(base, offset) (*(volatile uint64_t *)((uint64_t)(base) + (offset)))

#endif

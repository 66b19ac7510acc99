/* SPDX-License-Identifier: Apache-2.0 */
/* Delivers faults, counts exceptions, and detects a guest that only takes exceptions at a few places: there is no memory
 * at its vectors, or their first instructions fault themselves. Such a guest would be silent for ever. */
#include "internal.h"

#include <string.h>

#define TOO_MANY (1u << 20)
#define RETURNED UINT64_MAX

/* `place` identifies the instruction. A return from an exception sets exception_place to RETURNED: a guest that returns
 * makes progress, even if it takes every exception at one place, as a loop around a system call does. */
void exception_count(struct raddle_cpu *cpu, uint64_t place)
{
    struct raddle_cpu_header *h = cpu->header;
    h->count_exception++;
    if (h->exception_place == RETURNED)
        memset(cpu->exception_places, 0xff, sizeof cpu->exception_places);
    if (place != h->exception_place) {
        h->exception_place = place;
        bool known = false;
        for (uint32_t i = 0; i < EXCEPTION_PLACES; i++)
            known |= cpu->exception_places[i] == place;
        if (!known) {
            cpu->exception_places[cpu->next_exception_place++ % EXCEPTION_PLACES] = place;
            cpu->exceptions_there = 0;
        }
    }
    if (++cpu->exceptions_there != TOO_MANY || atomic_exchange(&cpu->context->stuck_told, true))
        return;
    cpu->stuck = true;
    cpu->stuck_at = raddle_pc(cpu->env);
    STORE(h->exit_request, 1);
}

/* Enters the guest's exception; pc and insn_extra are exact. access_index: access | mmu_index << 8. It counts as an
 * instruction, so that a guest that faults for ever does not starve other vCPUs and timers. */
void deliver_fault(struct raddle_cpu *cpu, uint64_t address, uint32_t size, uint32_t access_index, uint32_t code)
{
    struct raddle_cpu_header *h = cpu->header;
    h->fault_address = address;
    h->fault_size = size;
    exception_count(cpu, h->pc);
    icount_spend(cpu, 1);
    call_callee(cpu, RADDLE_CALLEE_FAULT, address, access_index, code, 0);
}

void raddle_fetch_fault(void *env, uint64_t address)
{
    struct raddle_cpu *cpu = cpu_of(env);
    struct probe probe;
    uint32_t code = fetch_probe(cpu, address, &probe);
    if (code)
        deliver_fault(cpu, address, 1, ACCESS_FETCH | fetch_index(cpu) << 8, code);
}

uint64_t raddle_stuck_at(void *env)
{
    return cpu_of(env)->stuck_at;
}

uint64_t raddle_helper_exception(void *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
    (void)a1, (void)a2, (void)a3;
    exception_count(cpu_of(env), a0);
    return 0;
}

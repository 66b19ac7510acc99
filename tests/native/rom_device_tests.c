/* SPDX-License-Identifier: Apache-2.0 */
/* Loads from a ROM device, turned to the callback and back under vCPUs that load from it and make its TLB entries anew. Who
 * has seen the announcement of a turn must not load from memory when the callback is to serve it. */
#include "harness.h"

#define TURNS   200
#define READERS 3

static _Atomic uint32_t announced;
static _Atomic uint32_t seen[READERS];

static void *keep_loading(void *argument)
{
    uint32_t number = (uint32_t)(uintptr_t)argument;
    struct raddle_cpu *cpu = cpu_of(machine.env[number]);
    struct probe probe;
    for (uint32_t round = 0, turn; (turn = atomic_load(&announced)) != TURNS; round++) {
        uint32_t value;
        bool is_new = atomic_load(&seen[number]) != turn; /* nobody turns on before this vCPU has seen it */
        if (fast_load(cpu->env, ROM_DEVICE_BASE, &value) && is_new && (turn & 1))
            atomic_fetch_add(&machine.violations, 1);
        if (round % 3 == 0)
            helper(cpu->env, "tlb_flush_page", ROM_DEVICE_BASE, ALL_INDICES, 0);
        CHECK(!tlb_fill(cpu, ROM_DEVICE_BASE, 4, ACCESS_READ, 0, &probe));
        atomic_store(&seen[number], turn);
        sched_yield();
    }
    atomic_store(&seen[number], TURNS);
    return NULL;
}

void test_rom_device(bool mechanism)
{
    machine_make(READERS, PARALLEL, NULL, fill_identity);
    atomic_store(&announced, 0);
    pthread_t threads[READERS];
    for (uint32_t i = 0; i < READERS; i++) {
        atomic_store(&seen[i], 0);
        threads[i] = start(keep_loading, (void *)(uintptr_t)i);
    }
    for (uint32_t turn = 1; turn <= TURNS; turn++) {
        raddle_big_lock(machine.ctx);
        if (mechanism)
            raddle_rom_device_loads(machine.ctx, ROM_DEVICE_BASE, turn & 1);
        raddle_big_unlock(machine.ctx);
        atomic_store(&announced, turn);
        for (uint32_t i = 0; i < READERS; i++)
            while (atomic_load(&seen[i]) != turn)
                sched_yield();
    }
    for (uint32_t i = 0; i < READERS; i++)
        finish(threads[i]);
    machine_free();
}

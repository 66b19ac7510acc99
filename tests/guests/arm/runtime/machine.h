// SPDX-License-Identifier: Apache-2.0
// The ARM `virt` board: barriers, coprocessor registers, PSCI, MMU, GICv2, generic timer.
#ifndef MACHINE_H
#define MACHINE_H

#define MAX_CPUS 8

// ---- barriers, hints, coprocessor registers -------------------------------------------------------------------------

#define dmb() __asm__ volatile("dmb ish" ::: "memory")
#define dsb() __asm__ volatile("dsb ish" ::: "memory")
#define isb() __asm__ volatile("isb" ::: "memory")
#define wfi() __asm__ volatile("dsb sy\n\twfi" ::: "memory")
#define wfe() __asm__ volatile("wfe" ::: "memory")
#define sev() __asm__ volatile("dsb ish\n\tsev" ::: "memory")
#define cpu_yield() __asm__ volatile("yield" ::: "memory")
#define irq_on() __asm__ volatile("cpsie i" ::: "memory")
#define irq_off() __asm__ volatile("cpsid i" ::: "memory")

#define memory_barrier() dmb()
#define store_barrier() dmb()
#define control_barrier() compiler_barrier()
#define fetch_barrier() isb()
#define wait_hint(round) wfe()
#define spin_hint(round) cpu_yield()
#define wake_waiters() sev()

#define READ_CP15(op1, crn, crm, op2)                                                                                  \
    ({                                                                                                                 \
        uint32_t value_;                                                                                               \
        __asm__ volatile("mrc p15, " #op1 ", %0, " #crn ", " #crm ", " #op2 : "=r"(value_)::"memory");                 \
        value_;                                                                                                        \
    })
#define WRITE_CP15(op1, crn, crm, op2, value)                                                                          \
    __asm__ volatile("mcr p15, " #op1 ", %0, " #crn ", " #crm ", " #op2 ::"r"(value) : "memory")

static inline unsigned cpu_id(void) { return READ_CP15(0, c13, c0, 4); } // TPIDRPRW, set in start.S

#define CPU_REGISTER "mpidr"
static inline uint32_t cpu_register(void) { return READ_CP15(0, c0, c0, 5); }

// ---- PSCI -----------------------------------------------------------------------------------------------------------

enum {
    PSCI_VERSION = 0x84000000,
    PSCI_CPU_OFF = 0x84000002,
    PSCI_CPU_ON = 0x84000003,
    PSCI_AFFINITY_INFO = 0x84000004,
    PSCI_MIGRATE_INFO_TYPE = 0x84000006,
    PSCI_SYSTEM_OFF = 0x84000008,
    PSCI_SYSTEM_RESET = 0x84000009,
    PSCI_FEATURES = 0x8400000a,
};
enum {
    PSCI_SUCCESS = 0,
    PSCI_NOT_SUPPORTED = -1,
    PSCI_INVALID_PARAMETERS = -2,
    PSCI_DENIED = -3,
    PSCI_ALREADY_ON = -4,
    PSCI_ON_PENDING = -5,
};
int32_t hvc_call(uint32_t function, uint32_t a, uint32_t b, uint32_t c);
extern char secondary_entry[];

// ---- MMU: identity map in 1 MiB sections, RAM normal write-back shareable, devices device memory --------------------

#define SECTION_SIZE 0x100000u
#define RAM_BASE 0x40000000u
#define SECTION_NORMAL 0x00011c0eu // S, TEX 001, AP 11, C, B, section
#define SECTION_DEVICE 0x00000c16u // TEX 000, AP 11, XN, B: shareable device
extern uint32_t level1_table[4096];
void mmu_on(void);

// Called on a data abort; the access is done again when it returns. Without a hook an abort fails the guest.
extern void (*volatile data_abort_hook)(uint32_t fault_status, uint32_t fault_address);

// ---- GICv2 and SGIs -------------------------------------------------------------------------------------------------

#define GIC_DISTRIBUTOR 0x08000000u
#define GIC_INTERFACE 0x08010000u
#define REGISTER(address) (*(volatile uint32_t *)(address))
#define INTERRUPT_PHYSICAL_TIMER 30
#define INTERRUPT_VIRTUAL_TIMER 27
void gic_on(InterruptHandler handler); // distributor, then the calling CPU's interface
void gic_cpu_on(void);                 // the calling CPU's interface and its SGIs
void gic_enable(unsigned interrupt);   // a PPI of this CPU, or an SPI
void gic_disable(unsigned interrupt);

#define interrupts_start(handler) gic_on(handler)
#define interrupts_start_cpu() gic_cpu_on()

// ---- generic timer --------------------------------------------------------------------------------------------------

static inline uint64_t counter(void) {
    uint64_t value;
    __asm__ volatile("isb\n\tmrrc p15, 1, %Q0, %R0, c14" : "=r"(value)::"memory"); // CNTVCT
    return value;
}
static inline uint64_t physical_counter(void) {
    uint64_t value;
    __asm__ volatile("isb\n\tmrrc p15, 0, %Q0, %R0, c14" : "=r"(value)::"memory"); // CNTPCT
    return value;
}
static inline uint32_t counter_frequency(void) { return READ_CP15(0, c14, c0, 0); }
static inline uint32_t milliseconds_to_ticks(uint32_t ms) { return counter_frequency() / 1000 * ms; }

// ---- floating point -------------------------------------------------------------------------------------------------

void vfp_on(void); // the calling CPU's

#endif

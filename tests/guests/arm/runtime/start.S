@ SPDX-License-Identifier: Apache-2.0
@ Entry of the first CPU and of those started by PSCI, the default vectors, and the stacks of each mode.
@
@ A CPU has 32 KiB of stack, from the top: 16 KiB SVC/SYS, then 4 KiB each of IRQ, ABT, UND and FIQ.

        .syntax unified
        .arm
        .arch   armv7ve

        .section .text.start, "ax", %progbits
        .global _start
_start:
        cpsid   aif
        ldr     r0, =__bss_start
        ldr     r1, =__bss_end
        mov     r2, #0
1:      cmp     r0, r1
        strlo   r2, [r0], #4
        blo     1b
        mov     r4, #0
        bl      prepare_cpu
        bl      main
        bl      power_off

@ PSCI CPU_ON arrives here with the CPU's number in r0.
        .global secondary_entry
secondary_entry:
        cpsid   aif
        mov     r4, r0
        bl      prepare_cpu
        mov     r0, r4
        bl      secondary_main
1:      wfi
        b       1b

@ r4: CPU number, kept. Sets the stacks, the vectors and TPIDRPRW (the CPU number).
prepare_cpu:
        ldr     r1, =__stacks
        add     r1, r1, r4, lsl #15
        add     r1, r1, #0x8000
        mov     r3, lr
        msr     cpsr_c, #0xd3
        mov     sp, r1
        sub     r1, r1, #0x4000
        msr     cpsr_c, #0xd2
        mov     sp, r1
        sub     r1, r1, #0x1000
        msr     cpsr_c, #0xd7
        mov     sp, r1
        sub     r1, r1, #0x1000
        msr     cpsr_c, #0xdb
        mov     sp, r1
        sub     r1, r1, #0x1000
        msr     cpsr_c, #0xd1
        mov     sp, r1
        msr     cpsr_c, #0xd3
        ldr     r1, =vectors
        mcr     p15, 0, r1, c12, c0, 0          @ VBAR
        mcr     p15, 0, r4, c13, c0, 4          @ TPIDRPRW
        isb
        bx      r3

        .section .text.vectors, "ax", %progbits
        .balign 32
        .global vectors
vectors:
        b       .
        b       undefined_vector
        b       svc_vector
        b       prefetch_vector
        b       data_vector
        b       .
        b       irq_vector
        b       fiq_vector

        .macro  fatal name, kind
\name:
        mov     r1, lr
        mrs     r2, spsr
        mov     r0, #\kind
        bl      unexpected_exception
        b       .
        .endm

        fatal   undefined_vector, 1
        fatal   svc_vector, 2
        fatal   prefetch_vector, 3
        fatal   fiq_vector, 7

@ Returns to the instruction that aborted, when the guest's hook does.
data_vector:
        sub     lr, lr, #8
        push    {r0-r3, r12, lr}
        mov     r0, lr
        mrs     r1, spsr
        bl      data_abort_entry
        ldm     sp!, {r0-r3, r12, pc}^

irq_vector:
        sub     lr, lr, #4
        push    {r0-r3, r12, lr}
        bl      irq_entry
        ldm     sp!, {r0-r3, r12, pc}^

@ long hvc_call(function, a, b, c)
        .global hvc_call
        .type   hvc_call, %function
hvc_call:
        hvc     #0
        bx      lr

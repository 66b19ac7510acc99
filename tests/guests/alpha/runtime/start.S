# SPDX-License-Identifier: Apache-2.0
# Entry of the first CPU and of those that the console starts, and the entry points of exceptions. A CPU has 32 KiB of
# stack.

        .set    noreorder
        .set    noat
        .arch   ev67

        .macro  address register, symbol
        ldah    \register, \symbol($29)         !gprelhigh
        lda     \register, \symbol(\register)   !gprellow
        .endm

        .section .text.start, "ax", @progbits
        .globl  _start
_start:
        br      $27, 1f
1:      ldgp    $29, 0($27)
        bsr     $26, prepare_cpu
        bsr     $26, main                       !samegp
        bsr     $26, power_off                  !samegp

# The console jumps here with a stack of its own.
        .globl  secondary_entry
secondary_entry:
        br      $27, 1f
1:      ldgp    $29, 0($27)
        bsr     $26, prepare_cpu
        call_pal 0x3c                           # WHAMI
        bis     $0, $0, $16
        bsr     $26, secondary_main             !samegp
        bsr     $26, park                       !samegp

# Sets the stack and the entry points.
prepare_cpu:
        call_pal 0x3c                           # WHAMI
        address $30, __stacks
        addq    $0, 1, $0
        sll     $0, 15, $0
        addq    $30, $0, $30
        bis     $29, $29, $16
        call_pal 0x37                           # WRKGP
        .macro  entry_point number, label
        address $16, \label
        lda     $17, \number
        call_pal 0x34                           # WRENT
        .endm
        entry_point 0, interrupt_vector
        entry_point 1, arithmetic_vector
        entry_point 2, memory_vector
        entry_point 3, instruction_vector
        entry_point 4, unaligned_vector
        entry_point 5, system_call_vector
        ret     ($26)

# void swap_context(uint64_t process_control_block): the stack stays.
        .globl  swap_context
swap_context:
        ldah    $1, -1024                       # KSEG
        sll     $1, 16, $1
        bis     $1, $16, $1
        stq     $30, 0($1)
        call_pal 0x30                           # SWPCTX
        ret     ($26)

# PALcode has saved PS, PC, r29 and r16 to r18, and set r29. C functions keep r9 to r15.
        .macro  vector label, function
        .align  4
\label:
        lda     $30, -160($30)
        stq     $0, 0($30)
        stq     $1, 8($30)
        stq     $2, 16($30)
        stq     $3, 24($30)
        stq     $4, 32($30)
        stq     $5, 40($30)
        stq     $6, 48($30)
        stq     $7, 56($30)
        stq     $8, 64($30)
        stq     $19, 72($30)
        stq     $20, 80($30)
        stq     $21, 88($30)
        stq     $22, 96($30)
        stq     $23, 104($30)
        stq     $24, 112($30)
        stq     $25, 120($30)
        stq     $26, 128($30)
        stq     $27, 136($30)
        stq     $28, 144($30)
        ldq     $19, 168($30)                   # PC
        lda     $20, 160($30)                   # what PALcode has saved
        bsr     $26, \function                  !samegp
        ldq     $0, 0($30)
        ldq     $1, 8($30)
        ldq     $2, 16($30)
        ldq     $3, 24($30)
        ldq     $4, 32($30)
        ldq     $5, 40($30)
        ldq     $6, 48($30)
        ldq     $7, 56($30)
        ldq     $8, 64($30)
        ldq     $19, 72($30)
        ldq     $20, 80($30)
        ldq     $21, 88($30)
        ldq     $22, 96($30)
        ldq     $23, 104($30)
        ldq     $24, 112($30)
        ldq     $25, 120($30)
        ldq     $26, 128($30)
        ldq     $27, 136($30)
        ldq     $28, 144($30)
        lda     $30, 160($30)
        call_pal 0x3f                           # RTI
        .endm

        .section .text.vectors, "ax", @progbits
        vector  interrupt_vector, interrupt_entry
        vector  arithmetic_vector, arithmetic_entry
        vector  memory_vector, memory_entry
        vector  instruction_vector, instruction_entry
        vector  unaligned_vector, unaligned_entry
        vector  system_call_vector, system_call_entry

        .section .note.GNU-stack, "", @progbits

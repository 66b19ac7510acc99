# SPDX-License-Identifier: Apache-2.0
# Divisions, which Alpha has no instructions for. Compilers call them by a convention of their own: $24 by $25, result
# in $27, return address in $23, and all other registers but $28 are kept. A division by zero gives 0 and what was
# divided.

        .set    noreorder
        .set    noat
        .arch   ev67
        .section .text.divide, "ax", @progbits

# Bit by bit: $27 takes the quotient, $1 the remainder, with 64 steps counted in $2.
divide:
        bis     $31, $31, $1
        bis     $31, $31, $27
        lda     $2, 64($31)
        beq     $25, 3f
1:      addq    $1, $1, $1
        srl     $24, 63, $3
        bis     $1, $3, $1
        addq    $24, $24, $24
        addq    $27, $27, $27
        cmpule  $25, $1, $3
        subq    $1, $25, $4
        cmovne  $3, $4, $1
        bis     $27, $3, $27
        subq    $2, 1, $2
        bne     $2, 1b
        ret     $31, ($28), 1
3:      bis     $24, $24, $1
        ret     $31, ($28), 1

# The operands are prepared by `extend`; `signed`: the absolute values are divided, and the result gets its sign:
# the quotient that of both operands, the remainder that of what is divided.
        .macro  division name, extend, signed, remainder
        .globl  \name
\name:
        lda     $30, -64($30)
        stq     $1, 0($30)
        stq     $2, 8($30)
        stq     $3, 16($30)
        stq     $4, 24($30)
        stq     $24, 32($30)
        stq     $25, 40($30)
        .ifc \extend, sign
        sextl   $24, $24
        sextl   $25, $25
        .endif
        .ifc \extend, zero
        zapnot  $24, 15, $24
        zapnot  $25, 15, $25
        .endif
        .if \signed
        stq     $24, 48($30)
        stq     $25, 56($30)
        subq    $31, $24, $1
        cmovlt  $24, $1, $24
        subq    $31, $25, $1
        cmovlt  $25, $1, $25
        .endif
        bsr     $28, divide
        .if \remainder
        bis     $1, $1, $27
        .endif
        .if \signed
        ldq     $24, 48($30)
        .if !\remainder
        ldq     $25, 56($30)
        xor     $24, $25, $24
        .endif
        subq    $31, $27, $1
        cmovlt  $24, $1, $27
        .endif
        .ifnc \extend, none
        sextl   $27, $27
        .endif
        ldq     $1, 0($30)
        ldq     $2, 8($30)
        ldq     $3, 16($30)
        ldq     $4, 24($30)
        ldq     $24, 32($30)
        ldq     $25, 40($30)
        lda     $30, 64($30)
        ret     $31, ($23), 1
        .endm

        division __divq, none, 1, 0
        division __remq, none, 1, 1
        division __divqu, none, 0, 0
        division __remqu, none, 0, 1
        division __divl, sign, 1, 0
        division __reml, sign, 1, 1
        division __divlu, zero, 0, 0
        division __remlu, zero, 0, 1

        .section .note.GNU-stack, "", @progbits

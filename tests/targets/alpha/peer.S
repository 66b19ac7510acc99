/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of peer.c that loads and saves registers, with the place of the instructions. Code and record are in one
 * writable section, so that every address is near the pc.
 */
    .set noat
    .set noreorder
    .arch ev67
    .section .peer, "awx", @progbits
    .globl _start, run, leave, slot, record

#define WORDS 16
#define F(n) (31 + n) * 8
#define FPCR 62 * 8
#define EXIT (63 + 8) * 8 + 4 * WORDS
#define KEPT EXIT + 16

    .macro each operation, base
    .irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    \operation $\n, \n * 8($\base)
    .endr
    .endm

    .macro each_float operation, base
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    \operation $f\n, F(\n)($\base)
    .endr
    .endm

    .macro each_kept operation
    .irp n, 9,10,11,12,13,14,15,26,29
    \operation $\n, \n * 8($30)
    .endr
    .endm

    .macro record_address register
    br $\register, 1f
1:  lda $\register, record - 1b($\register)
    .endm

_start:
    br $27, 1f
1:  ldgp $29, 0($27)
    lda $27, begin
    jmp $31, ($27)

run:
    lda $30, -256($30)
    each_kept stq
    record_address 0
    stq $30, KEPT($0)
    ldt $f0, FPCR($0)
    excb
    mt_fpcr $f0
    excb
    each_float ldt, 0
    stq_c $1, KEPT($0) /* clears the lock flag, whatever came before */
    stq $30, KEPT($0)
    each ldq, 0
    ldq $16, 16 * 8($0)
    ldq $0, 0($0)
slot:
    .space 4 * WORDS
    br $31, 2f
    call_pal 0x9f /* wruniq: keeps r16 */
    record_address 16
    stq $0, 0($16)
    lda $0, 1($31)
    br $31, 3f
2:  call_pal 0x9f
    record_address 16
    stq $0, 0($16)
    lda $0, 0($31)
3:  stq $0, EXIT($16)
    each stq, 16
    each_float stt, 16
    excb
    mf_fpcr $f0
    excb
    stt $f0, FPCR($16)
    call_pal 0x9e /* rduniq */
    stq $0, 16 * 8($16)
leave:
    record_address 16
    ldq $30, KEPT($16)
    each_kept ldq
    lda $30, 256($30)
    ret $31, ($26)

/* Stores near the code would make the emulator translate it anew. */
    .align 13
record:
    .space KEPT + 8

    .section .note.GNU-stack, "", @progbits

# SPDX-License-Identifier: Apache-2.0
"""The decode tables of A32 and T32: they are consistent, and agree with the assembler, a disassembler and an emulator.

Where these disagree the encoding is unpredictable; the lists below say which such cases there are.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest

from raddle.ir.types import Hole
from raddle.translate.decode import UNDEFINED, Decoder, Pattern, Table
from raddle_target_arm import decode

SETS = ("a32", "t16", "t32")


def decoder_of(name: str) -> Decoder:
    decoder: Decoder = getattr(decode, name)()
    return decoder


def belongs(name: str, word: int) -> bool:
    """Whether a word of the set's width can be met in it: T32 tells its two widths apart by the first halfword."""
    if name == "a32":
        return True
    halfword = word >> 16 if name == "t32" else word
    return (halfword >= 0xE800) == (name == "t32")


def code_of(name: str, word: int) -> bytes:
    """The instruction as it lies in memory."""
    if name == "t32":
        return (word >> 16).to_bytes(2, "little") + (word & 0xFFFF).to_bytes(2, "little")
    return word.to_bytes(4 if name == "a32" else 2, "little")


def words(name: str, count: int, seed: int = 1) -> Iterator[int]:
    """Words to try: two thirds are of a random pattern with random fields, the others random altogether."""
    chance = random.Random(f"{name} {seed}")
    decoder = decoder_of(name)
    while count:
        word = chance.getrandbits(decoder.width)
        if chance.random() < 0.67:
            pattern = chance.choice(decoder.patterns)
            word = word & ~pattern.mask | pattern.value
        elif name == "t32":
            word |= 0xE8000000
        if belongs(name, word):
            count -= 1
            yield word


# Every line


@pytest.mark.parametrize("table", decode.tables(), ids=SETS)
def test_the_tables_deserve_trust(table: Table) -> None:
    """What a machine reads in part, and without looking for overlaps, is in order."""
    table.compile()


@pytest.mark.parametrize("name", SETS)
def test_every_line_is_reached_by_its_own_words(name: str) -> None:
    """A word of a line decodes to that line, to an exception that is indented under it, or is undefined."""
    chance = random.Random(name)
    decoder = decoder_of(name)
    for pattern in decoder.patterns:
        reached = 0
        for _ in range(60):
            word = chance.getrandbits(decoder.width) & ~pattern.mask | pattern.value
            if not pattern.matches(word):
                continue
            found = decoder.decode(word)
            if found is pattern:
                reached += 1
            elif pattern.is_defined(word) and found is not None:
                assert found.index > pattern.index, f"{word:#x} of {pattern} decodes to {found}"
        assert reached or pattern.name == UNDEFINED, pattern


@pytest.mark.parametrize("name", SETS)
def test_every_field_can_have_both_values_in_each_bit(name: str) -> None:
    """Lines with a predicate are left out: that some of their values are undefined is what it is for."""
    chance = random.Random(name)
    decoder = decoder_of(name)
    for pattern in decoder.patterns:
        if not pattern.always_defined:
            continue
        seen_one = seen_zero = 0
        for _ in range(400):
            word = chance.getrandbits(decoder.width) & ~pattern.mask | pattern.value
            if decoder.decode(word) is pattern:
                seen_one |= word
                seen_zero |= ~word
        open_bits = ~pattern.mask & (1 << decoder.width) - 1
        assert seen_one & seen_zero & open_bits == open_bits, pattern


@pytest.mark.parametrize("name", SETS)
def test_any_word_decodes_and_yields_its_operands(name: str) -> None:
    for word in words(name, 6000):
        pattern = decoder_of(name).decode(word)
        if pattern is None:
            continue
        assert pattern.matches(word)
        fields = pattern.fields(word).__dict__
        values = pattern.hole_values(word)
        assert all(-(1 << 31) <= value < 1 << 32 for value in values)
        assert [value.index for value in fields.values() if isinstance(value, Hole)] == list(range(len(values)))
        assert pattern.values(word).keys() == fields.keys()


@pytest.mark.parametrize("name", SETS)
def test_operands_depend_on_the_key_alone(name: str) -> None:
    chance = random.Random(name)
    for word in words(name, 4000):
        pattern = decoder_of(name).decode(word)
        other = word ^ chance.getrandbits(32) & ~pattern.key_mask & ~pattern.mask if pattern else word
        if pattern and decoder_of(name).decode(other) is pattern:
            assert pattern.key(word) == pattern.key(other)
            assert repr(pattern.fields(word)) == repr(pattern.fields(other))


def test_operands_of_a_name_are_the_same_in_all_lines() -> None:
    """A semantics function can ask for every operand of its name, whichever line the word is of.

    What may be missing: the condition, the shifter's carry where the flags do not need it, and fields that are there
    only for another operand to be computed from.
    """
    first: dict[str, tuple[Pattern, set[str], set[str]]] = {}
    for name in SETS:
        for pattern in decoder_of(name).patterns:
            if pattern.name in (UNDEFINED, "NOP", "PLD", "PLDW", "PLI"):
                continue
            computed = (*pattern.knowns, *pattern.holes)
            every = {*pattern.letters, *pattern.constants, *(operand.name for operand in computed)}
            needed = every - {"c", "carry"} - {letter for operand in computed for letter in operand.letters}
            other, others_needed, others_every = first.setdefault(pattern.name, (pattern, needed, every))
            assert needed <= others_every, (pattern, other)
            assert others_needed <= every, (pattern, other)


# Examples, from the assembler

EXAMPLES = [
    ("a32", 0xE0921203, "adds r1, r2, r3, lsl #4", "ADD_reg", "S=1 d=1 i=4 m=3 n=2 t=0"),
    ("a32", 0x10421473, "subne r1, r2, r3, ror r4", "SUB_rsr", "S=0 d=1 m=3 n=2 s=4 t=3"),
    ("a32", 0xE21214FF, "ands r1, r2, #0xff000000", "AND_imm", "S=1 carry=1 d=1 imm=0xff000000 n=2 r=4 v=0xff"),
    ("a32", 0xE3A01EFF, "mov r1, #0xff0", "MOV_imm", "S=0 d=1 imm=0xff0"),
    ("a32", 0xE30A1BCD, "movw r1, #0xabcd", "MOV_imm", "S=0 d=1 imm=0xabcd"),
    ("a32", 0xE34A1BCD, "movt r1, #0xabcd", "MOVT", "d=1 imm=0xabcd"),
    ("a32", 0xE3530000, "cmp r3, #0", "CMP_imm", "S=1 imm=0 n=3"),
    ("a32", 0xE5321004, "ldr r1, [r2, #-4]!", "LDR_imm", "P=1 W=1 n=2 offset=-4 t=1"),
    ("a32", 0xE4921004, "ldr r1, [r2], #4", "LDR_imm", "P=0 W=1 n=2 offset=4 t=1"),
    ("a32", 0xE51F1008, "ldr r1, [pc, #-8]", "LDR_lit", "offset=-8 t=1"),
    ("a32", 0xE74212C3, "strb r1, [r2, -r3, asr #5]", "STRB_reg", "P=1 U=0 W=0 h=2 i=5 m=3 n=2 t=1"),
    ("a32", 0xE1C641D2, "ldrd r4, r5, [r6, #0x12]", "LDRD_imm", "P=1 W=0 n=6 offset=18 t=4 u=5"),
    ("a32", 0xE01210F3, "ldrsh r1, [r2], -r3", "LDRSH_reg", "P=0 U=0 W=1 h=0 i=0 m=3 n=2 t=1"),
    ("a32", 0xE0E210B6, "strht r1, [r2], #6", "STRHT_imm", "P=0 W=1 n=2 offset=6 t=1"),
    ("a32", 0xE6F21103, "ldrbt r1, [r2], r3, lsl #2", "LDRBT_reg", "P=0 U=1 W=1 h=0 i=2 m=3 n=2 t=1"),
    ("a32", 0xE92D4010, "push {r4, lr}", "STM", "P=1 U=0 W=1 l=0x4010 n=13"),
    ("a32", 0xE931000C, "ldmdb r1!, {r2, r3}", "LDM", "P=1 U=0 W=1 l=12 n=1"),
    ("a32", 0xE8FD9FFF, "ldm sp!, {r0-r12, pc}^", "LDM_eret", "P=0 U=1 W=1 l=0x1fff n=13"),
    ("a32", 0xE8C16000, "stm r1, {r13, r14}^", "STM_user", "P=0 U=1 l=0x6000 n=1"),
    ("a32", 0xE0B21493, "umlals r1, r2, r3, r4", "UMLAL", "S=1 h=2 l=1 m=4 n=3"),
    ("a32", 0xE10143C2, "smlabt r1, r2, r3, r4", "SMLAxy", "M=1 N=0 a=4 d=1 m=3 n=2"),
    ("a32", 0xE7014332, "smladx r1, r2, r3, r4", "SMLAD", "a=4 d=1 m=3 n=2"),
    ("a32", 0xE751F332, "smmulr r1, r2, r3", "SMMUL", "R=1 d=1 m=3 n=2"),
    ("a32", 0xE6A711D2, "ssat r1, #8, r2, asr #3", "SSAT", "d=1 i=3 n=2 t=2 w=7 width=8"),
    ("a32", 0xE6E81012, "usat r1, #8, r2", "USAT", "d=1 i=0 n=2 t=0 w=8 width=8"),
    ("a32", 0xE6A21873, "sxtab r1, r2, r3, ror #16", "SXTAB", "d=1 m=3 n=2 r=2 rotate=16"),
    ("a32", 0xE7CB1212, "bfi r1, r2, #4, #8", "BFI", "d=1 i=4 lsb=4 n=2 w=11 width=8"),
    ("a32", 0xE7CB121F, "bfc r1, #4, #8", "BFC", "d=1 i=4 lsb=4 w=11 width=8"),
    ("a32", 0xE7E71252, "ubfx r1, r2, #4, #8", "UBFX", "d=1 i=4 lsb=4 n=2 w=7 width=8"),
    ("a32", 0xE1B42F9F, "ldrexd r2, r3, [r4]", "LDREXD", "n=4 t=2 u=3"),
    ("a32", 0xE1831F92, "strex r1, r2, [r3]", "STREX", "d=1 n=3 offset=0 t=2"),
    ("a32", 0xE14F1000, "mrs r1, spsr", "MRS", "R=1 d=1"),
    ("a32", 0xE129F001, "msr cpsr_fc, r1", "MSR_reg", "R=0 k=9 n=1"),
    ("a32", 0xF10E00D3, "cpsid if, #0x13", "CPS", "A=0 F=1 I=1 M=1 i=3 o=19"),
    ("a32", 0xF96D0513, "srsdb sp!, #0x13", "SRS", "P=1 U=0 W=1 o=19"),
    ("a32", 0xF8B10A00, "rfeia r1!", "RFE", "P=0 U=1 W=1 n=1"),
    ("a32", 0xEAFFFFFE, "b .", "B", "offset=-8"),
    ("a32", 0xEB000000, "bl .+8", "BL", "offset=0"),
    ("a32", 0xFB000000, "blx .+10", "BLX_imm", "offset=2"),
    ("a32", 0xEE232FB4, "mcr p15, 1, r2, c3, c4, 5", "MCR", "m=4 n=3 o=1 p=15 q=5 t=2"),
    ("a32", 0xEC532F1E, "mrrc p15, 1, r2, r3, c14", "MRRC", "m=14 o=1 p=15 t=2 u=3"),
    ("a32", 0xF57FF05B, "dmb ish", "DMB", "o=11"),
    ("a32", 0xEF123456, "svc #0x123456", "SVC", "imm=0x123456"),
    ("a32", 0xEE710A21, "vadd.f32 s1, s2, s3", "VADD", "d=1 double=0 m=3 n=2"),
    ("a32", 0xEE721BA3, "vadd.f64 d17, d18, d19", "VADD", "d=17 double=1 m=19 n=18"),
    ("a32", 0xEEF70A00, "vmov.f32 s1, #1.0", "VMOV_imm", "d=1 double=0 imm=0x3f800000 v=0x70"),
    ("a32", 0xEEBE1B00, "vmov.f64 d1, #-0.5", "VMOV_imm", "d=1 double=1 imm=0xbfe0000000000000 v=0xe0"),
    ("a32", 0xEEFD0B42, "vcvtr.s32.f64 s1, d2", "VCVT_to_int", "d=1 double=1 m=2 round_zero=0 signed=1"),
    ("a32", 0xEEFC0AC1, "vcvt.u32.f32 s1, s2", "VCVT_to_int", "d=1 double=0 m=2 round_zero=1 signed=0"),
    (
        "a32",
        0xEEFA2A66,
        "vcvt.f32.s16 s5, s5, #3",
        "VCVT_from_fixed",
        "d=5 double=0 fraction=3 j=1 signed=1 size=16 v=6",
    ),
    (
        "a32",
        0xEEBF5BEE,
        "vcvt.u32.f64 d5, d5, #3",
        "VCVT_to_fixed",
        "d=5 double=1 fraction=3 j=1 signed=0 size=32 v=14",
    ),
    ("a32", 0xEEF30AC1, "vcvtt.f16.f32 s1, s2", "VCVT_f16_f32", "T=1 d=1 m=2"),
    ("a32", 0xEEB51BC0, "vcmpe.f64 d1, #0", "VCMP_zero", "E=1 d=1 double=1"),
    ("a32", 0xECF10B08, "vldmia r1!, {d16-d19}", "VLDM", "P=0 U=1 W=1 bytes=32 count=4 d=16 double=1 n=1 v=8"),
    ("a32", 0xED6D1A03, "vstmdb sp!, {s3-s5}", "VSTM", "P=1 U=0 W=1 bytes=12 count=3 d=3 double=0 n=13 v=3"),
    ("a32", 0xED514B04, "vldr d20, [r1, #-16]", "VLDR", "d=20 double=1 n=1 offset=-16"),
    ("a32", 0xEE111A90, "vmov r1, s3", "VMOV_core_single", "L=1 n=3 t=1"),
    ("a32", 0xEE011A90, "vmov s3, r1", "VMOV_core_single", "L=0 n=3 t=1"),
    ("a32", 0xEE231B10, "vmov.32 d3[1], r1", "VMOV_core_scalar", "L=0 i=1 n=3 t=1"),
    ("a32", 0xEC521B31, "vmov r1, r2, d17", "VMOV_core_double", "L=1 m=17 t=1 u=2"),
    ("a32", 0xEC421A11, "vmov s2, s3, r1, r2", "VMOV_core_two_singles", "L=0 m=2 t=1 u=2"),
    ("a32", 0xEEF1FA10, "vmrs apsr_nzcv, fpscr", "VMRS", "r=1 t=15"),
    ("t16", 0x0011, "movs r1, r2", "MOV_reg", "S=2 d=1 i=0 m=2 t=0"),
    ("t16", 0x0811, "lsrs r1, r2, #32", "MOV_reg", "S=2 d=1 i=0 m=2 t=1"),
    ("t16", 0x41D1, "rors r1, r2", "MOV_rsr", "S=2 d=1 m=1 s=2 t=3"),
    ("t16", 0x31C8, "adds r1, #200", "ADD_imm", "S=2 d=1 imm=0xc8 n=1"),
    ("t16", 0x4489, "add r9, r1", "ADD_reg", "S=0 d=9 i=0 m=1 n=9 t=0"),
    ("t16", 0x4251, "rsbs r1, r2, #0", "RSB_imm", "S=2 d=1 imm=0 n=2"),
    ("t16", 0x4351, "muls r1, r2", "MUL", "S=2 d=1 m=1 n=2"),
    ("t16", 0xB502, "push {r1, lr}", "STM", "M=1 P=1 U=0 W=1 l=0x4002 n=13 r=2"),
    ("t16", 0xBD02, "pop {r1, pc}", "LDM", "M=1 P=0 U=1 W=1 l=0x8002 n=13 r=2"),
    ("t16", 0x4902, "ldr r1, [pc, #8]", "LDR_lit", "offset=8 t=1"),
    ("t16", 0x9902, "ldr r1, [sp, #8]", "LDR_imm", "P=1 W=0 n=13 offset=8 t=1"),
    ("t16", 0x80D1, "strh r1, [r2, #6]", "STRH_imm", "P=1 W=0 n=2 offset=6 t=1"),
    ("t16", 0x56D1, "ldrsb r1, [r2, r3]", "LDRSB_reg", "P=1 U=1 W=0 h=0 i=0 m=3 n=2 t=1"),
    ("t16", 0xB002, "add sp, #8", "ADD_imm", "S=0 d=13 imm=8 n=13"),
    ("t16", 0xB141, "cbz r1, .+20", "CBZ", "n=1 offset=16"),
    ("t16", 0xBF06, "itte eq", "IT", "f=0 k=6"),
    ("t16", 0x1889, "addeq r1, r2", "ADD_reg", "S=2 d=1 i=0 m=2 n=1 t=0"),
    ("t16", 0x1889, "addne r1, r2", "ADD_reg", "S=2 d=1 i=0 m=2 n=1 t=0"),
    ("t16", 0xB662, "cpsie i", "CPS", "A=0 F=0 I=1 M=0 i=2 o=0"),
    ("t16", 0xC90C, "ldm r1!, {r2, r3}", "LDM", "P=0 U=1 W=1 l=12 n=1"),
    ("t16", 0xC90A, "ldm r1, {r1, r3}", "LDM", "P=0 U=1 W=0 l=10 n=1"),
    ("t16", 0xD0F9, "beq .-10", "B", "offset=-14"),
    ("t16", 0xE030, "b .+100", "B", "offset=96"),
    ("t32", 0xEB021143, "add.w r1, r2, r3, lsl #5", "ADD_reg", "S=0 d=1 i=5 m=3 n=2 t=0"),
    ("t32", 0xF04F11AB, "mov.w r1, #0x00ab00ab", "MOV_imm", "S=0 d=1 imm=0xab00ab"),
    ("t32", 0xF05F4100, "movs.w r1, #0x80000000", "MOV_imm", "S=1 carry=1 d=1 i=0x400 imm=0x80000000"),
    ("t32", 0xF64A31CD, "movw r1, #0xabcd", "MOV_imm", "S=0 d=1 imm=0xabcd"),
    ("t32", 0xF60221BC, "addw r1, r2, #0xabc", "ADD_imm", "S=0 d=1 imm=0xabc n=2"),
    ("t32", 0xF2AF010E, "adr.w r1, .-10", "ADR", "d=1 offset=-14"),
    ("t32", 0xF8521D04, "ldr.w r1, [r2, #-4]!", "LDR_imm", "P=1 W=1 n=2 offset=-4 t=1"),
    ("t32", 0xF8521904, "ldr.w r1, [r2], #-4", "LDR_imm", "P=0 W=1 n=2 offset=-4 t=1"),
    ("t32", 0xF8521033, "ldr.w r1, [r2, r3, lsl #3]", "LDR_reg", "P=1 U=1 W=0 h=0 i=3 m=3 n=2 t=1"),
    ("t32", 0xF85F1028, "ldr.w r1, [pc, #-40]", "LDR_lit", "offset=-40 t=1"),
    ("t32", 0xF8521E04, "ldrt r1, [r2, #4]", "LDRT_imm", "P=1 W=0 n=2 offset=4 t=1"),
    ("t32", 0xE9431202, "strd r1, r2, [r3, #-8]", "STRD_imm", "P=1 W=0 n=3 offset=-8 t=1 u=2"),
    ("t32", 0xE8D3127F, "ldrexd r1, r2, [r3]", "LDREXD", "n=3 t=1 u=2"),
    ("t32", 0xE8432102, "strex r1, r2, [r3, #8]", "STREX", "d=1 n=3 offset=8 t=2"),
    ("t32", 0xE8D1F012, "tbh [r1, r2, lsl #1]", "TBH", "m=2 n=1"),
    ("t32", 0xF43FAE0A, "beq.w .-1000", "B", "offset=-0x3ec"),
    ("t32", 0xF0F4B91E, "b.w .+1000000", "B", "offset=0xf423c"),
    ("t32", 0xF70BFEDE, "bl .-1000000", "BL", "offset=-0xf4244"),
    ("t32", 0xF000E9F2, "blx .+1000", "BLX_imm", "offset=0x3e4"),
    ("t32", 0xFA02F103, "lsl.w r1, r2, r3", "MOV_rsr", "S=0 d=1 m=2 s=3 t=0"),
    ("t32", 0xFB12F113, "smulbt r1, r2, r3", "SMULxy", "M=1 N=0 d=1 m=3 n=2"),
    ("t32", 0xFBE31264, "umaal r1, r2, r3, r4", "UMAAL", "h=2 l=1 m=4 n=3"),
    ("t32", 0xF3220102, "ssat16 r1, #3, r2", "SSAT16", "d=1 n=2 w=2 width=3"),
    ("t32", 0xF3918900, "msr spsr_fc, r1", "MSR_reg", "R=1 k=9 n=1"),
    ("t32", 0xF3DE8F04, "subs pc, lr, #4", "SUB_imm", "S=1 d=15 imm=4 n=14"),
    ("t32", 0xF3DE8F00, "eret", "ERET", ""),
    ("t32", 0xF7E18234, "hvc #0x1234", "HVC", "imm=0x1234"),
    ("t32", 0xEE721BA3, "vadd.f64 d17, d18, d19", "VADD", "d=17 double=1 m=19 n=18"),
]


@pytest.mark.parametrize(("name", "word", "assembly", "instruction", "operands"), EXAMPLES)
def test_examples(name: str, word: int, assembly: str, instruction: str, operands: str) -> None:
    pattern = decoder_of(name).decode(word)
    assert pattern is not None
    assert pattern.name == instruction
    expected = {key: int(value, 0) for key, _, value in (item.partition("=") for item in operands.split())}
    values = pattern.values(word)
    assert {key: values[key] for key in expected} == expected


UNDEFINED_WORDS = [
    ("a32", 0xF2000840, "vadd.i8 q0, q0, q0: Advanced SIMD"),
    ("a32", 0xEE400B10, "vmov.8 d0[0], r0: Advanced SIMD"),
    ("a32", 0xEE800B10, "vdup.32 d0, r0: Advanced SIMD"),
    ("a32", 0xF4200A0F, "vld1: Advanced SIMD"),
    ("a32", 0xFE000F10, "mcr2 p15"),
    ("a32", 0x67F000F0, "udf with a condition"),
    ("a32", 0xE1B02C9F, "lda: ARMv8"),
    ("a32", 0xE1000040, "crc32b: ARMv8"),
    ("a32", 0xE16F0061, "smc with should-be-zero bits set"),
    ("a32", 0xE1011300, "mrs r1, sp_irq: Virtualization Extensions"),
    ("a32", 0xE16EF201, "msr spsr_fiq, r1: Virtualization Extensions"),
    ("a32", 0xE160006E, "eret: Virtualization Extensions"),
    ("a32", 0xE8900000, "ldm without registers"),
    ("t16", 0xBA80, "hlt: ARMv8"),
    ("t16", 0xB400, "push without registers"),
    ("t32", 0xEF000840, "vadd.i8 q0, q0, q0: Advanced SIMD"),
    ("t32", 0xF9200A0F, "vld1: Advanced SIMD"),
    ("t32", 0xF8CF0000, "str to a literal"),
    ("t32", 0xF3E18130, "mrs r1, sp_irq: Virtualization Extensions"),
    ("t32", 0xF3918E20, "msr spsr_fiq, r1: Virtualization Extensions"),
    ("t32", 0xF0F00000, "not assigned"),
]


@pytest.mark.parametrize(("name", "word", "why"), UNDEFINED_WORDS)
def test_undefined_words(name: str, word: int, why: str) -> None:
    assert decoder_of(name).decode(word) is None, why


# A disassembler

MNEMONICS = {
    "ADD_imm": "adds?|addw",
    "ADR": "adr|addw|subw",
    "B": r"b(eq|ne|hs|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?",
    "BLX_imm": "blx",
    "CPS": "cps(ie|id)?",
    "IT": "it[te]{0,3}",
    "LDC": "ldcl?|vldr",  # coprocessor 9 is half precision since ARMv8.2
    "LDM": "ldm(da|db|ib)?|pop",
    "LDM_eret": "ldm(da|db|ib)?",
    "LDM_user": "ldm(da|db|ib)?",
    "CDP": "cdp|v.*",
    "DSB": "dsb|dfb|ssbb|pssbb",
    "MOV_imm": "movs?|movw",
    "MOV_reg": "movs?|lsls?|lsrs?|asrs?|rors?|rrxs?",
    "MOV_rsr": "lsls?|lsrs?|asrs?|rors?",
    "NOP": "nop|hint|sevl|esb|csdb",
    "RFE": "rfe(ia|ib|da|db)",
    "SMLALxy": "smlal[bt]{2}",
    "SMLAWy": "smlaw[bt]",
    "SMLAxy": "smla[bt]{2}",
    "SMULWy": "smulw[bt]",
    "SMULxy": "smul[bt]{2}",
    "SRS": "srs(ia|ib|da|db)",
    "STC": "stcl?|vstr",
    "STM": "stm(da|db|ib)?|push",
    "STM_user": "stm(da|db|ib)?",
    "SUB_imm": "subs?|subw",
    "UDF": "udf|trap",
    "VCVT_f16_f32": "vcvt[bt]",
    "VCVT_f32_f16": "vcvt[bt]",
    "VCVT_to_int": "vcvtr?",
    "VLDM": "vldm(ia|db)|fldm(ia|db)x|vpop",
    "VMOV_core_scalar": "vmov|fmdhr|fmdlr|fmrdh|fmrdl",
    "VSTM": "vstm(ia|db)|fstm(ia|db)x|vpush",
}
"""What capstone calls an instruction, where it is not the name before the underscore, perhaps with a letter after it
(s: flags, x: exchange, r: round, e: VCMPE)."""

NOT_IN_CAPSTONE = {
    "NOP": "memory hints and hints that are not allocated do nothing; capstone knows few of them",
    "YIELD": "the bits that should be zero",
    "WFE": "the bits that should be zero",
    "WFI": "the bits that should be zero",
    "SEV": "the bits that should be zero",
    "DBG": "the bits that should be zero",
    "PLD": "the literal form of PLDW",
    "CPS": "a mode without mode change",
    "MSR_reg": "an empty mask",
    "VLDM": "FLDMX beyond d15",
    "VSTM": "FSTMX beyond d15",
    "UDF": "some immediates",
}
"""Names of which capstone refuses words, and which ones."""


def disassemble(name: str, word: int) -> tuple[str, str, list[int]] | None:
    """Capstone's mnemonic without data types, its operands and their immediates; None if it knows no such word."""
    capstone = pytest.importorskip("capstone")
    engine = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_ARM if name == "a32" else capstone.CS_MODE_THUMB)
    engine.detail = True
    code = code_of(name, word)
    for instruction in engine.disasm(code, 0x1000):
        if instruction.size == len(code):
            immediates = [operand.imm for operand in instruction.operands if operand.type == capstone.arm.ARM_OP_IMM]
            return instruction.mnemonic.partition(".")[0], instruction.op_str, immediates
    return None


def unconditional(name: str, word: int) -> int:
    """An A32 word with the condition "always", so that no suffix is in the way."""
    return word & 0x0FFFFFFF | 0xE0000000 if name == "a32" and word >> 28 != 15 else word


@pytest.mark.parametrize("name", SETS)
def test_names_are_those_of_a_disassembler(name: str) -> None:
    for word in words(name, 4000, seed=2):
        word = unconditional(name, word)
        pattern = decoder_of(name).decode(word)
        if pattern is None:
            continue
        found = disassemble(name, word)
        if found is None:
            assert pattern.name in NOT_IN_CAPSTONE, f"{word:#x} {pattern}"
            continue
        expected = MNEMONICS.get(pattern.name, pattern.name.partition("_")[0].lower() + "[sxre]?")
        assert re.fullmatch(expected, found[0]), f"{word:#x} {pattern} {found}"


@pytest.mark.parametrize("name", SETS)
def test_branch_targets_are_those_of_a_disassembler(name: str) -> None:
    ahead = 8 if name == "a32" else 4
    for word in words(name, 4000, seed=3):
        pattern = decoder_of(name).decode(unconditional(name, word))
        if pattern is None or pattern.name not in ("B", "BL", "BLX_imm", "CBZ", "CBNZ"):
            continue
        found = disassemble(name, word)
        assert found is not None
        target = 0x1000 + ahead + pattern.values(word)["offset"]
        assert found[2][-1] & 0xFFFFFFFF == target & 0xFFFFFFFF, f"{word:#x} {found}"


@pytest.mark.parametrize("name", SETS)
def test_immediates_are_those_of_a_disassembler(name: str) -> None:
    for word in words(name, 6000, seed=4):
        word = unconditional(name, word)
        pattern = decoder_of(name).decode(word)
        if pattern is None or not re.fullmatch("(?!MSR)[A-Z]*(_imm|MOVT)", pattern.name) or "P" in pattern.values(word):
            continue
        found = disassemble(name, word)
        values = pattern.values(word)
        if found is None or "imm" not in values or len(found[2]) != 1:
            continue  # capstone shows some immediates as the two numbers of their encoding
        assert found[2][0] & 0xFFFFFFFF == values["imm"], f"{word:#x} {found}"


# An emulator

ADVANCED_SIMD = {
    "a32": [(0xFE000000, 0xF2000000), (0xFF100000, 0xF4000000), (0x0F000F10, 0x0E000B10)],
    "t16": [],
    "t32": [(0xEF000000, 0xEF000000), (0xFF100000, 0xF9000000), (0xFF000F10, 0xEE000B10)],
}
"""Masks and values of the words that only an Advanced SIMD unit has; the last: moves of 8- and 16-bit scalars, VDUP."""

UNPREDICTABLE = {
    "cps": "imod = 01",
    "it": "condition 1111",
    "stm": "write-back with the user registers",
    "stmda": "write-back with the user registers",
    "stmdb": "write-back with the user registers",
    "stmib": "write-back with the user registers",
    "vcvt": "more fraction bits than the number has",
    "vmov": "equal registers, or past s31",
}
"""Unpredictable words that the emulator executes and these tables refuse, where no operand is the pc or sp."""


class Emulator:
    """Executes single instructions on unicorn's Cortex-A15 and says whether they are undefined."""

    AT = 0x10100
    DATA = 0x18000

    def __init__(self, name: str) -> None:
        import unicorn
        from unicorn import arm_const

        self.name = name
        self.unicorn = unicorn
        self.cpu = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_ARM if name == "a32" else unicorn.UC_MODE_THUMB)
        self.cpu.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_A15)
        self.cpu.mem_map(0x10000, 0x10000)
        access = self.cpu.reg_read(arm_const.UC_ARM_REG_C1_C0_2)
        self.cpu.reg_write(arm_const.UC_ARM_REG_C1_C0_2, access | 0xF << 20)
        self.cpu.reg_write(arm_const.UC_ARM_REG_FPEXC, 1 << 30)
        for register in (*range(arm_const.UC_ARM_REG_R0, arm_const.UC_ARM_REG_R0 + 13), arm_const.UC_ARM_REG_LR):
            self.cpu.reg_write(register, self.DATA)
        self.cpu.reg_write(arm_const.UC_ARM_REG_SP, self.DATA)
        self.start = self.cpu.context_save()
        self.interrupt = 0
        self.cpu.hook_add(unicorn.UC_HOOK_INTR, self.interrupted)

    def interrupted(self, cpu: object, number: int, data: object) -> None:
        self.interrupt = number
        self.cpu.emu_stop()

    def is_undefined(self, word: int) -> bool:
        code = code_of(self.name, word)
        self.cpu.context_restore(self.start)
        self.interrupt = 0
        self.cpu.mem_write(self.AT, code + bytes(4))
        self.cpu.ctl_remove_cache(self.AT, self.AT + 16)
        try:
            self.cpu.emu_start(self.AT | (self.name != "a32"), self.AT + len(code), count=1)
        except self.unicorn.UcError as error:
            return bool(error.errno == self.unicorn.UC_ERR_INSN_INVALID)
        return self.interrupt == 1


NOT_TRIED = {
    "BKPT",
    "CDP",
    "HVC",
    "LDC",
    "MCR",
    "MCRR",
    "MRC",
    "MRRC",
    "SMC",
    "STC",
    "SVC",
    "UDF",
    "WFE",
    "WFI",
    "YIELD",
}
"""Names whose effect, undefined or not, is for the semantics to say, or that stop the emulator."""


@pytest.mark.peer("unicorn")
@pytest.mark.parametrize("name", SETS)
def test_undefined_words_are_those_of_an_emulator(name: str) -> None:
    pytest.importorskip("unicorn")
    emulator = Emulator(name)
    for word in words(name, 4000, seed=5):
        word = unconditional(name, word)
        pattern = decoder_of(name).decode(word)
        if pattern and pattern.name in NOT_TRIED:
            continue
        undefined = emulator.is_undefined(word)
        if pattern:
            assert not undefined, f"{word:#x} {pattern}"
        elif not undefined and not any(word & mask == value for mask, value in ADVANCED_SIMD[name]):
            found = disassemble(name, word)
            if found and not re.search(r"\b(pc|sp)\b", found[1]):
                assert re.sub("^it[te]*$", "it", found[0]) in UNPREDICTABLE, f"{word:#x} {found}"

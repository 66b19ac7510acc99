# SPDX-License-Identifier: Apache-2.0
"""The instructions that the back end uses, a line for each encoding, in the Intel SDM's notation (see `encoding.py`).

A name is `MNEMONIC_kinds`, and a method's arguments are the operands, the destination first. Operand size is in the
mnemonic: `ADD` is 32 bit, `ADDQ` 64, `ADDW` 16, `ADDB` 8; `MOVZXB` is 32 bit from 8, `MOVSXBQ` 64 from 8. Kinds:

    r   general register, 0 to 15 (as a byte: its low eight bits)          one argument
    v   SSE register, 0 to 15                                              one argument
    m   memory at base + disp                                              base, disp
    x   memory at base + index * scale + disp                              base, index, scale, disp
    s   memory at index * scale + disp                                     index, scale, disp
    p   memory at rip + rel32, from the instruction's end                  rel
    i   immediate in its shortest form
    I   immediate as wide as the operand, 32 bits at most; MOV has no other, so its is called i
    c   the count in cl                                                    no argument

The displacement takes its shortest form. A field named `I`, `p`, `rel32` or (MOV) `i` is the instruction's last
bytes, so a relocation of four bytes stands at `len(asm.code) - 4`. Immediates of 8, 16 and 32-bit operands are given
signed or unsigned; those of 64-bit operands are signed 32-bit numbers that the CPU extends. Conditional instructions
take the code of `conditions.py` first. An operand that does not fit raises EncodingError (a condition above 15:
IndexError). The buffer may then end with half an instruction: do not use it any more.
"""

from raddle_host_x86_64.code_buffer import CodeBuffer, EncodingError
from raddle_host_x86_64.operands import (
    cc_h,
    cc_near,
    cc_r,
    cc_rel32,
    cc_rr,
    fixed,
    i32,
    m,
    mI,
    mi,
    mi8,
    mIq,
    miq,
    mIw,
    mr,
    mv,
    near,
    o,
    oI,
    oI64,
    r,
    rI,
    ri,
    ri8,
    rIq,
    riq,
    rm,
    rp,
    rr,
    rr_mr,
    rri8,
    rriq,
    rrr,
    rs,
    rv,
    rv_mr,
    rx,
    vm,
    vr,
    vv,
    vvv,
    vx,
    xr,
    xv,
)


class Assembler(CodeBuffer):
    """Appends one instruction to `code` for each call. One thread uses an Assembler at a time; it is cheap to make."""

    __slots__ = ()

    # --- Move ---

    MOV_rr = rr_mr("89 /r")
    MOV_rm = rm("8B /r")
    MOV_mr = mr("89 /r")
    MOV_rx = rx("8B /r")
    MOV_xr = xr("89 /r")
    MOV_ri = oI("B8")  # zero-extended to 64 bits
    MOV_mi = mI("C7 /0")
    MOVQ_rr = rr_mr("REX.W 89 /r")
    MOVQ_rm = rm("REX.W 8B /r")
    MOVQ_mr = mr("REX.W 89 /r")
    MOVQ_rx = rx("REX.W 8B /r")
    MOVQ_xr = xr("REX.W 89 /r")
    MOVQ_ri = rIq("REX.W C7 /0")  # sign-extended from 32 bits
    MOVQ_mi = mIq("REX.W C7 /0")
    MOVABS_ri = oI64("REX.W B8")  # all 64 bits, the last eight bytes
    MOVW_mr = mr("66 89 /r")
    MOVW_xr = xr("66 89 /r")
    MOVW_mi = mIw("66 C7 /0")
    MOVB_rm = rm("8A /r r8")
    MOVB_mr = mr("88 /r r8")
    MOVB_xr = xr("88 /r r8")
    MOVB_mi = mi8("C6 /0")
    MOVZXB_rr = rr("0F B6 /r rm8")
    MOVZXB_rm = rm("0F B6 /r")
    MOVZXB_rx = rx("0F B6 /r")
    MOVZXW_rr = rr("0F B7 /r")
    MOVZXW_rm = rm("0F B7 /r")
    MOVZXW_rx = rx("0F B7 /r")
    MOVSXB_rr = rr("0F BE /r rm8")
    MOVSXB_rm = rm("0F BE /r")
    MOVSXB_rx = rx("0F BE /r")
    MOVSXW_rr = rr("0F BF /r")
    MOVSXW_rm = rm("0F BF /r")
    MOVSXW_rx = rx("0F BF /r")
    MOVSXBQ_rr = rr("REX.W 0F BE /r rm8")
    MOVSXBQ_rm = rm("REX.W 0F BE /r")
    MOVSXBQ_rx = rx("REX.W 0F BE /r")
    MOVSXWQ_rr = rr("REX.W 0F BF /r")
    MOVSXWQ_rm = rm("REX.W 0F BF /r")
    MOVSXWQ_rx = rx("REX.W 0F BF /r")
    MOVSXD_rr = rr("REX.W 63 /r")
    MOVSXD_rm = rm("REX.W 63 /r")
    MOVSXD_rx = rx("REX.W 63 /r")
    LEA_rm = rm("8D /r")
    LEA_rx = rx("8D /r")
    LEA_rs = rs("8D /r")
    LEAQ_rm = rm("REX.W 8D /r")
    LEAQ_rx = rx("REX.W 8D /r")
    LEAQ_rs = rs("REX.W 8D /r")
    LEAQ_rp = rp("REX.W 8D /r")
    CMOVcc_rr = cc_rr("0F 40 /r")
    CMOVccQ_rr = cc_rr("REX.W 0F 40 /r")
    SETcc_r = cc_r("0F 90 /0 rm8")
    SETcc_h = cc_h("0F 90 /0")
    BSWAP_r = o("0F C8")
    BSWAPQ_r = o("REX.W 0F C8")
    PUSH_r = o("50")
    POP_r = o("58")

    # --- Integer arithmetic and logic ---

    ADD_rr = rr_mr("01 /r")
    ADD_rm = rm("03 /r")
    ADD_ri = ri("83 /0", "81 /0")
    ADD_rI = rI("81 /0")
    ADD_mI = mI("81 /0")
    ADDQ_rr = rr_mr("REX.W 01 /r")
    ADDQ_mr = mr("REX.W 01 /r")
    ADDQ_mi = miq("REX.W 83 /0", "REX.W 81 /0")
    ADDQ_mI = mIq("REX.W 81 /0")
    ADDQ_rm = rm("REX.W 03 /r")
    ADDQ_ri = riq("REX.W 83 /0", "REX.W 81 /0")
    ADDQ_rI = rIq("REX.W 81 /0")
    ADDB_ri = ri8("80 /0 rm8")
    OR_rr = rr_mr("09 /r")
    OR_rm = rm("0B /r")
    OR_mr = mr("09 /r")
    OR_ri = ri("83 /1", "81 /1")
    OR_rI = rI("81 /1")
    ORQ_rr = rr_mr("REX.W 09 /r")
    ORQ_mr = mr("REX.W 09 /r")
    ORQ_mi = miq("REX.W 83 /1", "REX.W 81 /1")
    ORQ_mI = mIq("REX.W 81 /1")
    ORQ_rm = rm("REX.W 0B /r")
    ORQ_ri = riq("REX.W 83 /1", "REX.W 81 /1")
    ORQ_rI = rIq("REX.W 81 /1")
    ORB_rm = rm("0A /r r8")
    ADC_rr = rr_mr("11 /r")
    ADC_rm = rm("13 /r")
    ADC_ri = ri("83 /2", "81 /2")
    ADC_rI = rI("81 /2")
    ADCQ_rr = rr_mr("REX.W 11 /r")
    ADCQ_rm = rm("REX.W 13 /r")
    ADCQ_ri = riq("REX.W 83 /2", "REX.W 81 /2")
    ADCQ_rI = rIq("REX.W 81 /2")
    SBB_rr = rr_mr("19 /r")
    SBB_rm = rm("1B /r")
    SBB_ri = ri("83 /3", "81 /3")
    SBB_rI = rI("81 /3")
    SBBQ_rr = rr_mr("REX.W 19 /r")
    SBBQ_rm = rm("REX.W 1B /r")
    SBBQ_ri = riq("REX.W 83 /3", "REX.W 81 /3")
    SBBQ_rI = rIq("REX.W 81 /3")
    AND_rr = rr_mr("21 /r")
    AND_rm = rm("23 /r")
    AND_ri = ri("83 /4", "81 /4")
    AND_rI = rI("81 /4")
    AND_mr = mr("21 /r")
    AND_mi = mi("83 /4", "81 /4")
    ANDQ_rr = rr_mr("REX.W 21 /r")
    ANDQ_mr = mr("REX.W 21 /r")
    ANDQ_mi = miq("REX.W 83 /4", "REX.W 81 /4")
    ANDQ_mI = mIq("REX.W 81 /4")
    ANDQ_rm = rm("REX.W 23 /r")
    ANDQ_ri = riq("REX.W 83 /4", "REX.W 81 /4")
    ANDQ_rI = rIq("REX.W 81 /4")
    SUB_rr = rr_mr("29 /r")
    SUB_rm = rm("2B /r")
    SUB_ri = ri("83 /5", "81 /5")
    SUB_rI = rI("81 /5")
    SUB_mI = mI("81 /5")
    SUBQ_rr = rr_mr("REX.W 29 /r")
    SUBQ_mr = mr("REX.W 29 /r")
    SUBQ_mi = miq("REX.W 83 /5", "REX.W 81 /5")
    SUBQ_mI = mIq("REX.W 81 /5")
    SUBQ_rm = rm("REX.W 2B /r")
    SUBQ_ri = riq("REX.W 83 /5", "REX.W 81 /5")
    SUBQ_rI = rIq("REX.W 81 /5")
    XOR_rr = rr_mr("31 /r")
    XOR_rm = rm("33 /r")
    XOR_ri = ri("83 /6", "81 /6")
    XOR_rI = rI("81 /6")
    XORQ_rr = rr_mr("REX.W 31 /r")
    XORQ_mr = mr("REX.W 31 /r")
    XORQ_mi = miq("REX.W 83 /6", "REX.W 81 /6")
    XORQ_mI = mIq("REX.W 81 /6")
    XORQ_rm = rm("REX.W 33 /r")
    XORQ_ri = riq("REX.W 83 /6", "REX.W 81 /6")
    XORQ_rI = rIq("REX.W 81 /6")
    XORB_rm = rm("32 /r r8")
    CMP_rr = rr_mr("39 /r")
    CMP_rm = rm("3B /r")
    CMP_mr = mr("39 /r")
    CMP_rx = rx("3B /r")
    CMP_ri = ri("83 /7", "81 /7")
    CMP_rI = rI("81 /7")
    CMP_mi = mi("83 /7", "81 /7")
    CMP_mI = mI("81 /7")
    CMPQ_rr = rr_mr("REX.W 39 /r")
    CMPQ_rm = rm("REX.W 3B /r")
    CMPQ_mr = mr("REX.W 39 /r")
    CMPQ_rx = rx("REX.W 3B /r")
    CMPQ_ri = riq("REX.W 83 /7", "REX.W 81 /7")
    CMPQ_rI = rIq("REX.W 81 /7")
    CMPQ_mi = miq("REX.W 83 /7", "REX.W 81 /7")
    CMPQ_mI = mIq("REX.W 81 /7")
    CMPB_rm = rm("3A /r r8")
    CMPB_ri = ri8("80 /7 rm8")
    CMPB_mi = mi8("80 /7")
    TEST_rr = rr_mr("85 /r")
    TESTQ_rr = rr_mr("REX.W 85 /r")
    TESTB_mi = mi8("F6 /0")
    NOT_r = r("F7 /2")
    NOTQ_r = r("REX.W F7 /2")
    NEG_r = r("F7 /3")
    NEGQ_r = r("REX.W F7 /3")
    IMUL_rr = rr("0F AF /r")
    IMUL_rm = rm("0F AF /r")
    MUL_r = r("F7 /4")
    IMUL_r = r("F7 /5")
    DIV_r = r("F7 /6")
    IDIV_r = r("F7 /7")
    IMULQ_rr = rr("REX.W 0F AF /r")
    IMULQ_rm = rm("REX.W 0F AF /r")
    IMULQ_rri = rriq("REX.W 6B /r", "REX.W 69 /r")
    MULQ_r = r("REX.W F7 /4")
    IMULQ_r = r("REX.W F7 /5")
    DIVQ_r = r("REX.W F7 /6")
    IDIVQ_r = r("REX.W F7 /7")
    CDQ = fixed("99")
    CQO = fixed("48 99")

    # --- Shifts and rotates ---

    ROLW_ri = ri8("66 C1 /0")
    ROR_ri = ri8("C1 /1")
    ROR_rc = r("D3 /1")
    RORQ_ri = ri8("REX.W C1 /1")
    RORQ_rc = r("REX.W D3 /1")
    SHL_ri = ri8("C1 /4")
    SHL_rc = r("D3 /4")
    SHLQ_ri = ri8("REX.W C1 /4")
    SHLQ_rc = r("REX.W D3 /4")
    SHR_ri = ri8("C1 /5")
    SHR_rc = r("D3 /5")
    SHRQ_ri = ri8("REX.W C1 /5")
    SHRQ_rc = r("REX.W D3 /5")
    SAR_ri = ri8("C1 /7")
    SAR_rc = r("D3 /7")
    SARQ_ri = ri8("REX.W C1 /7")
    SARQ_rc = r("REX.W D3 /7")
    # BMI1, BMI2: no flags but ANDN. Shifts take target, count and source, as in the encoding: the count is VEX.vvvv.
    ANDN_rrr = rrr("VEX.LZ.NP.0F38.W0 F2 /r")
    ANDNQ_rrr = rrr("VEX.LZ.NP.0F38.W1 F2 /r")
    SHLX_rrr = rrr("VEX.LZ.66.0F38.W0 F7 /r")
    SHLXQ_rrr = rrr("VEX.LZ.66.0F38.W1 F7 /r")
    SHRX_rrr = rrr("VEX.LZ.F2.0F38.W0 F7 /r")
    SHRXQ_rrr = rrr("VEX.LZ.F2.0F38.W1 F7 /r")
    SARX_rrr = rrr("VEX.LZ.F3.0F38.W0 F7 /r")
    SARXQ_rrr = rrr("VEX.LZ.F3.0F38.W1 F7 /r")
    RORX_rri = rri8("VEX.LZ.F2.0F3A.W0 F0 /r")
    RORXQ_rri = rri8("VEX.LZ.F2.0F3A.W1 F0 /r")

    # --- Bits ---

    BSF_rr = rr("0F BC /r")
    BSR_rr = rr("0F BD /r")
    LZCNT_rr = rr("F3 0F BD /r")
    POPCNT_rr = rr("F3 0F B8 /r")
    BT_rr = rr_mr("0F A3 /r")
    BT_ri = ri8("0F BA /4")
    BTR_ri = ri8("0F BA /6")
    BTC_ri = ri8("0F BA /7")
    BSFQ_rr = rr("REX.W 0F BC /r")
    BSRQ_rr = rr("REX.W 0F BD /r")
    LZCNTQ_rr = rr("F3 REX.W 0F BD /r")
    POPCNTQ_rr = rr("F3 REX.W 0F B8 /r")
    BTQ_rr = rr_mr("REX.W 0F A3 /r")
    BTQ_ri = ri8("REX.W 0F BA /4")
    BTSQ_ri = ri8("REX.W 0F BA /5")
    BTRQ_ri = ri8("REX.W 0F BA /6")
    BTCQ_ri = ri8("REX.W 0F BA /7")

    # --- Atomics: XCHG with memory always locks ---

    CMPXCHGB_mr = mr("0F B0 /r r8")
    CMPXCHGW_mr = mr("66 0F B1 /r")
    CMPXCHG_mr = mr("0F B1 /r")
    CMPXCHGQ_mr = mr("REX.W 0F B1 /r")
    LOCK_CMPXCHGB_mr = mr("F0 0F B0 /r r8")
    LOCK_CMPXCHGW_mr = mr("66 F0 0F B1 /r")
    LOCK_CMPXCHG_mr = mr("F0 0F B1 /r")
    LOCK_CMPXCHGQ_mr = mr("F0 REX.W 0F B1 /r")
    LOCK_OR_mi = mi("F0 83 /1", "F0 81 /1")
    LOCK_BTS_mi = mi8("F0 0F BA /5")

    # --- Flags ---

    CLC = fixed("F8")
    STC = fixed("F9")

    # --- Control: a label, or rel from the instruction's end ---

    JMP_near = near("E9")
    JMP_rel32 = i32("E9")
    JMP_r = r("FF /4")
    JMP_m = m("FF /4")
    Jcc_near = cc_near("0F 80")
    Jcc_rel32 = cc_rel32("0F 80")
    CALL_r = r("FF /2")
    CALL_m = m("FF /2")
    RET = fixed("C3")

    # --- SSE: moves; a packed memory operand is 16-byte aligned but for MOVUPS and MOVDQU ---

    MOVD_vr = vr("66 0F 6E /r")
    MOVD_rv = rv_mr("66 0F 7E /r")
    MOVD_vm = vm("66 0F 6E /r")
    MOVAPS_vv = vv("0F 28 /r")
    MOVQ_vr = vr("66 REX.W 0F 6E /r")
    MOVQ_rv = rv_mr("66 REX.W 0F 7E /r")
    MOVQ_vm = vm("F3 0F 7E /r")
    MOVQ_vx = vx("F3 0F 7E /r")
    MOVQ_mv = mv("66 0F D6 /r")
    MOVQ_xv = xv("66 0F D6 /r")

    # --- SSE: scalar floating point ---

    ADDSS_vv = vv("F3 0F 58 /r")
    ADDSS_vm = vm("F3 0F 58 /r")
    ADDSD_vv = vv("F2 0F 58 /r")
    ADDSD_vm = vm("F2 0F 58 /r")
    MULSS_vv = vv("F3 0F 59 /r")
    MULSS_vm = vm("F3 0F 59 /r")
    MULSD_vv = vv("F2 0F 59 /r")
    MULSD_vm = vm("F2 0F 59 /r")
    SUBSS_vv = vv("F3 0F 5C /r")
    SUBSS_vm = vm("F3 0F 5C /r")
    SUBSD_vv = vv("F2 0F 5C /r")
    SUBSD_vm = vm("F2 0F 5C /r")
    DIVSS_vv = vv("F3 0F 5E /r")
    DIVSS_vm = vm("F3 0F 5E /r")
    DIVSD_vv = vv("F2 0F 5E /r")
    DIVSD_vm = vm("F2 0F 5E /r")
    SQRTSS_vv = vv("F3 0F 51 /r")
    SQRTSS_vm = vm("F3 0F 51 /r")
    SQRTSD_vv = vv("F2 0F 51 /r")
    SQRTSD_vm = vm("F2 0F 51 /r")
    UCOMISS_vv = vv("0F 2E /r")
    UCOMISS_vm = vm("0F 2E /r")
    UCOMISD_vv = vv("66 0F 2E /r")
    UCOMISD_vm = vm("66 0F 2E /r")
    CVTSI2SS_vr = vr("F3 0F 2A /r")
    CVTSI2SSQ_vr = vr("F3 REX.W 0F 2A /r")
    CVTTSS2SIQ_rv = rv("F3 REX.W 0F 2C /r")
    CVTSS2SIQ_rv = rv("F3 REX.W 0F 2D /r")
    CVTSI2SD_vr = vr("F2 0F 2A /r")
    CVTSI2SDQ_vr = vr("F2 REX.W 0F 2A /r")
    CVTTSD2SIQ_rv = rv("F2 REX.W 0F 2C /r")
    CVTSD2SIQ_rv = rv("F2 REX.W 0F 2D /r")
    CVTSS2SD_vv = vv("F3 0F 5A /r")
    CVTSD2SS_vv = vv("F2 0F 5A /r")
    # FMA: v1 = v2 * v1 + v3
    VFMADD213SS_vvv = vvv("VEX.LIG.66.0F38.W0 A9 /r")
    VFMADD213SD_vvv = vvv("VEX.LIG.66.0F38.W1 A9 /r")

    # --- SSE: packed ---

    PXOR_vv = vv("66 0F EF /r")

    # --- Padding ---

    def NOP(self, size: int) -> None:
        """One instruction of `size` bytes, 1 to 9, that does nothing. EncodingError for another size."""
        if not 1 <= size <= 9:
            raise EncodingError(f"no NOP has {size} bytes")
        self.code += _NOPS[size]


# The forms that the SDM recommends, by size.
_NOPS = (
    b"",
    b"\x90",
    b"\x66\x90",
    b"\x0f\x1f\x00",
    b"\x0f\x1f\x40\x00",
    b"\x0f\x1f\x44\x00\x00",
    b"\x66\x0f\x1f\x44\x00\x00",
    b"\x0f\x1f\x80\x00\x00\x00\x00",
    b"\x0f\x1f\x84\x00\x00\x00\x00\x00",
    b"\x66\x0f\x1f\x84\x00\x00\x00\x00\x00",
)

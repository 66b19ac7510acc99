# SPDX-License-Identifier: Apache-2.0
"""Data-processing instructions: ``_imm`` with an immediate, ``_reg`` with a shifted register, ``_rsr`` with a register
shifted by a register."""

from __future__ import annotations

from raddle.ir.builder import Builder, Value
from raddle.translate.decode import Fields
from raddle_target_arm.exceptions import exception_return, read_spsr
from raddle_target_arm.insns.common import (
    CARRY_UNCHANGED,
    PC,
    aligned_pc,
    is_privileged,
    operand,
    operand_c,
    read,
    shift_by,
    shift_by_c,
    undefined,
    write,
)
from raddle_target_arm.state import CF


def _returns(b: Builder, f: Fields, result: Value) -> bool:
    """S with the pc as destination: an exception return (B9.3.20), UNPREDICTABLE in User mode and undefined here."""
    if f.d != PC or not f.S:
        return False
    if is_privileged(f):
        exception_return(b, result, read_spsr(b))
    else:
        undefined(b, f)
    return True


def _arithmetic(b: Builder, f: Fields, result: Value) -> None:
    """Flags, if S, from the add, sub, adc or sbc that yields ``result``; then the destination."""
    if _returns(b, f, result):
        return
    if f.S:
        b.set_nzcv(result)
    write(b, f, f.d, result)


def _logical(b: Builder, f: Fields, result: Value, carry: Value | None) -> None:
    """N and Z, if S, from the result and C from the shifter (None: unchanged); then the destination."""
    if _returns(b, f, result):
        return
    if f.S:
        _logical_flags(b, result, carry)
    write(b, f, f.d, result)


def _logical_flags(b: Builder, result: Value, carry: Value | None) -> None:
    b.set_nz(result)
    if carry is not None:
        b.set(CF, carry)


# Second operands. Only logical instructions that set the flags use the shifter's carry.


def _immediate(b: Builder, f: Fields) -> tuple[Value, Value | None]:
    """The immediate, and the carry that its rotation leaves."""
    value = b.const(f.imm)
    if not f.S or f.carry == CARRY_UNCHANGED:
        return value, None
    return value, b.const(f.carry, CF.type)


def _register(b: Builder, f: Fields) -> tuple[Value, Value | None]:
    return operand_c(b, f) if f.S else (operand(b, f), None)


def _shifted(b: Builder, f: Fields) -> Value:
    return shift_by(b, read(b, f, f.m), f.t, read(b, f, f.s))


def _register_shifted(b: Builder, f: Fields) -> tuple[Value, Value | None]:
    return shift_by_c(b, read(b, f, f.m), f.t, read(b, f, f.s)) if f.S else (_shifted(b, f), None)


# -- logical -----------------------------------------------------------------------------------------------------------


def AND_imm(b: Builder, f: Fields) -> None:
    """AND{S}<c> {<Rd>,} <Rn>, #<const>   (A8.8.13)"""
    second, carry = _immediate(b, f)
    _logical(b, f, b.and_(read(b, f, f.n), second), carry)


def AND_reg(b: Builder, f: Fields) -> None:
    """AND{S}<c> {<Rd>,} <Rn>, <Rm>{, <shift>}   (A8.8.14)"""
    second, carry = _register(b, f)
    _logical(b, f, b.and_(read(b, f, f.n), second), carry)


def AND_rsr(b: Builder, f: Fields) -> None:
    """AND{S}<c> {<Rd>,} <Rn>, <Rm>, <type> <Rs>   (A8.8.15)"""
    second, carry = _register_shifted(b, f)
    _logical(b, f, b.and_(read(b, f, f.n), second), carry)


def EOR_imm(b: Builder, f: Fields) -> None:
    """EOR{S}<c> {<Rd>,} <Rn>, #<const>   (A8.8.46)"""
    second, carry = _immediate(b, f)
    _logical(b, f, b.xor(read(b, f, f.n), second), carry)


def EOR_reg(b: Builder, f: Fields) -> None:
    """EOR{S}<c> {<Rd>,} <Rn>, <Rm>{, <shift>}   (A8.8.47)"""
    second, carry = _register(b, f)
    _logical(b, f, b.xor(read(b, f, f.n), second), carry)


def EOR_rsr(b: Builder, f: Fields) -> None:
    """EOR{S}<c> {<Rd>,} <Rn>, <Rm>, <type> <Rs>   (A8.8.48)"""
    second, carry = _register_shifted(b, f)
    _logical(b, f, b.xor(read(b, f, f.n), second), carry)


def ORR_imm(b: Builder, f: Fields) -> None:
    """ORR{S}<c> {<Rd>,} <Rn>, #<const>   (A8.8.122)"""
    second, carry = _immediate(b, f)
    _logical(b, f, b.or_(read(b, f, f.n), second), carry)


def ORR_reg(b: Builder, f: Fields) -> None:
    """ORR{S}<c> {<Rd>,} <Rn>, <Rm>{, <shift>}   (A8.8.123)"""
    second, carry = _register(b, f)
    _logical(b, f, b.or_(read(b, f, f.n), second), carry)


def ORR_rsr(b: Builder, f: Fields) -> None:
    """ORR{S}<c> {<Rd>,} <Rn>, <Rm>, <type> <Rs>   (A8.8.124)"""
    second, carry = _register_shifted(b, f)
    _logical(b, f, b.or_(read(b, f, f.n), second), carry)


def BIC_imm(b: Builder, f: Fields) -> None:
    """BIC{S}<c> {<Rd>,} <Rn>, #<const>   (A8.8.21)"""
    second, carry = _immediate(b, f)
    _logical(b, f, b.and_(read(b, f, f.n), b.not_(second)), carry)


def BIC_reg(b: Builder, f: Fields) -> None:
    """BIC{S}<c> {<Rd>,} <Rn>, <Rm>{, <shift>}   (A8.8.22)"""
    second, carry = _register(b, f)
    _logical(b, f, b.and_(read(b, f, f.n), b.not_(second)), carry)


def BIC_rsr(b: Builder, f: Fields) -> None:
    """BIC{S}<c> {<Rd>,} <Rn>, <Rm>, <type> <Rs>   (A8.8.23)"""
    second, carry = _register_shifted(b, f)
    _logical(b, f, b.and_(read(b, f, f.n), b.not_(second)), carry)


def ORN_imm(b: Builder, f: Fields) -> None:
    """ORN{S}<c> {<Rd>,} <Rn>, #<const>   (A8.8.120)"""
    second, carry = _immediate(b, f)
    _logical(b, f, b.or_(read(b, f, f.n), b.not_(second)), carry)


def ORN_reg(b: Builder, f: Fields) -> None:
    """ORN{S}<c> {<Rd>,} <Rn>, <Rm>{, <shift>}   (A8.8.121)"""
    second, carry = _register(b, f)
    _logical(b, f, b.or_(read(b, f, f.n), b.not_(second)), carry)


def MOV_imm(b: Builder, f: Fields) -> None:
    """MOV{S}<c> <Rd>, #<const>   (A8.8.102)"""
    value, carry = _immediate(b, f)
    _logical(b, f, value, carry)


def MOV_reg(b: Builder, f: Fields) -> None:
    """MOV{S}<c> <Rd>, <Rm>, and LSL, LSR, ASR, ROR and RRX by a constant   (A8.8.104, A8.8.94 …)"""
    value, carry = _register(b, f)
    _logical(b, f, value, carry)


def MOV_rsr(b: Builder, f: Fields) -> None:
    """LSL, LSR, ASR, ROR{S}<c> {<Rd>,} <Rn>, <Rm>   (A8.8.95, A8.8.97, A8.8.17, A8.8.150)"""
    value, carry = _register_shifted(b, f)
    _logical(b, f, value, carry)


def MVN_imm(b: Builder, f: Fields) -> None:
    """MVN{S}<c> <Rd>, #<const>   (A8.8.115)"""
    value, carry = _immediate(b, f)
    _logical(b, f, b.not_(value), carry)


def MVN_reg(b: Builder, f: Fields) -> None:
    """MVN{S}<c> <Rd>, <Rm>{, <shift>}   (A8.8.116)"""
    value, carry = _register(b, f)
    _logical(b, f, b.not_(value), carry)


def MVN_rsr(b: Builder, f: Fields) -> None:
    """MVN{S}<c> <Rd>, <Rm>, <type> <Rs>   (A8.8.117)"""
    value, carry = _register_shifted(b, f)
    _logical(b, f, b.not_(value), carry)


def TST_imm(b: Builder, f: Fields) -> None:
    """TST<c> <Rn>, #<const>   (A8.8.240)"""
    second, carry = _immediate(b, f)
    _logical_flags(b, b.and_(read(b, f, f.n), second), carry)


def TST_reg(b: Builder, f: Fields) -> None:
    """TST<c> <Rn>, <Rm>{, <shift>}   (A8.8.241)"""
    second, carry = _register(b, f)
    _logical_flags(b, b.and_(read(b, f, f.n), second), carry)


def TST_rsr(b: Builder, f: Fields) -> None:
    """TST<c> <Rn>, <Rm>, <type> <Rs>   (A8.8.242)"""
    second, carry = _register_shifted(b, f)
    _logical_flags(b, b.and_(read(b, f, f.n), second), carry)


def TEQ_imm(b: Builder, f: Fields) -> None:
    """TEQ<c> <Rn>, #<const>   (A8.8.237)"""
    second, carry = _immediate(b, f)
    _logical_flags(b, b.xor(read(b, f, f.n), second), carry)


def TEQ_reg(b: Builder, f: Fields) -> None:
    """TEQ<c> <Rn>, <Rm>{, <shift>}   (A8.8.238)"""
    second, carry = _register(b, f)
    _logical_flags(b, b.xor(read(b, f, f.n), second), carry)


def TEQ_rsr(b: Builder, f: Fields) -> None:
    """TEQ<c> <Rn>, <Rm>, <type> <Rs>   (A8.8.239)"""
    second, carry = _register_shifted(b, f)
    _logical_flags(b, b.xor(read(b, f, f.n), second), carry)


# -- arithmetic --------------------------------------------------------------------------------------------------------


def ADD_imm(b: Builder, f: Fields) -> None:
    """ADD{S}<c> {<Rd>,} <Rn>, #<const>, and ADR in A32   (A8.8.5, A8.8.12)"""
    if f.n == PC and not f.S:
        write(b, f, f.d, aligned_pc(b, f, f.imm))
        return
    _arithmetic(b, f, b.add(read(b, f, f.n), f.imm))


def ADD_reg(b: Builder, f: Fields) -> None:
    """ADD{S}<c> {<Rd>,} <Rn>, <Rm>{, <shift>}   (A8.8.7)"""
    _arithmetic(b, f, b.add(read(b, f, f.n), operand(b, f)))


def ADD_rsr(b: Builder, f: Fields) -> None:
    """ADD{S}<c> {<Rd>,} <Rn>, <Rm>, <type> <Rs>   (A8.8.8)"""
    _arithmetic(b, f, b.add(read(b, f, f.n), _shifted(b, f)))


def SUB_imm(b: Builder, f: Fields) -> None:
    """SUB{S}<c> {<Rd>,} <Rn>, #<const>   (A8.8.221)"""
    _arithmetic(b, f, b.sub(read(b, f, f.n), f.imm))


def SUB_reg(b: Builder, f: Fields) -> None:
    """SUB{S}<c> {<Rd>,} <Rn>, <Rm>{, <shift>}   (A8.8.223)"""
    _arithmetic(b, f, b.sub(read(b, f, f.n), operand(b, f)))


def SUB_rsr(b: Builder, f: Fields) -> None:
    """SUB{S}<c> {<Rd>,} <Rn>, <Rm>, <type> <Rs>   (A8.8.224)"""
    _arithmetic(b, f, b.sub(read(b, f, f.n), _shifted(b, f)))


def RSB_imm(b: Builder, f: Fields) -> None:
    """RSB{S}<c> {<Rd>,} <Rn>, #<const>   (A8.8.152)"""
    _arithmetic(b, f, b.sub(f.imm, read(b, f, f.n)))


def RSB_reg(b: Builder, f: Fields) -> None:
    """RSB{S}<c> {<Rd>,} <Rn>, <Rm>{, <shift>}   (A8.8.153)"""
    _arithmetic(b, f, b.sub(operand(b, f), read(b, f, f.n)))


def RSB_rsr(b: Builder, f: Fields) -> None:
    """RSB{S}<c> {<Rd>,} <Rn>, <Rm>, <type> <Rs>   (A8.8.154)"""
    _arithmetic(b, f, b.sub(_shifted(b, f), read(b, f, f.n)))


def ADC_imm(b: Builder, f: Fields) -> None:
    """ADC{S}<c> {<Rd>,} <Rn>, #<const>   (A8.8.1)"""
    _arithmetic(b, f, b.adc(read(b, f, f.n), f.imm, b.get(CF)))


def ADC_reg(b: Builder, f: Fields) -> None:
    """ADC{S}<c> {<Rd>,} <Rn>, <Rm>{, <shift>}   (A8.8.2)"""
    _arithmetic(b, f, b.adc(read(b, f, f.n), operand(b, f), b.get(CF)))


def ADC_rsr(b: Builder, f: Fields) -> None:
    """ADC{S}<c> {<Rd>,} <Rn>, <Rm>, <type> <Rs>   (A8.8.3)"""
    _arithmetic(b, f, b.adc(read(b, f, f.n), _shifted(b, f), b.get(CF)))


def SBC_imm(b: Builder, f: Fields) -> None:
    """SBC{S}<c> {<Rd>,} <Rn>, #<const>   (A8.8.161)"""
    _arithmetic(b, f, b.sbc(read(b, f, f.n), f.imm, b.get(CF)))


def SBC_reg(b: Builder, f: Fields) -> None:
    """SBC{S}<c> {<Rd>,} <Rn>, <Rm>{, <shift>}   (A8.8.162)"""
    _arithmetic(b, f, b.sbc(read(b, f, f.n), operand(b, f), b.get(CF)))


def SBC_rsr(b: Builder, f: Fields) -> None:
    """SBC{S}<c> {<Rd>,} <Rn>, <Rm>, <type> <Rs>   (A8.8.163)"""
    _arithmetic(b, f, b.sbc(read(b, f, f.n), _shifted(b, f), b.get(CF)))


def RSC_imm(b: Builder, f: Fields) -> None:
    """RSC{S}<c> {<Rd>,} <Rn>, #<const>   (A8.8.155)"""
    _arithmetic(b, f, b.sbc(f.imm, read(b, f, f.n), b.get(CF)))


def RSC_reg(b: Builder, f: Fields) -> None:
    """RSC{S}<c> {<Rd>,} <Rn>, <Rm>{, <shift>}   (A8.8.156)"""
    _arithmetic(b, f, b.sbc(operand(b, f), read(b, f, f.n), b.get(CF)))


def RSC_rsr(b: Builder, f: Fields) -> None:
    """RSC{S}<c> {<Rd>,} <Rn>, <Rm>, <type> <Rs>   (A8.8.157)"""
    _arithmetic(b, f, b.sbc(_shifted(b, f), read(b, f, f.n), b.get(CF)))


def CMP_imm(b: Builder, f: Fields) -> None:
    """CMP<c> <Rn>, #<const>   (A8.8.37)"""
    b.set_nzcv(b.sub(read(b, f, f.n), f.imm))


def CMP_reg(b: Builder, f: Fields) -> None:
    """CMP<c> <Rn>, <Rm>{, <shift>}   (A8.8.38)"""
    b.set_nzcv(b.sub(read(b, f, f.n), operand(b, f)))


def CMP_rsr(b: Builder, f: Fields) -> None:
    """CMP<c> <Rn>, <Rm>, <type> <Rs>   (A8.8.39)"""
    b.set_nzcv(b.sub(read(b, f, f.n), _shifted(b, f)))


def CMN_imm(b: Builder, f: Fields) -> None:
    """CMN<c> <Rn>, #<const>   (A8.8.34)"""
    b.set_nzcv(b.add(read(b, f, f.n), f.imm))


def CMN_reg(b: Builder, f: Fields) -> None:
    """CMN<c> <Rn>, <Rm>{, <shift>}   (A8.8.35)"""
    b.set_nzcv(b.add(read(b, f, f.n), operand(b, f)))


def CMN_rsr(b: Builder, f: Fields) -> None:
    """CMN<c> <Rn>, <Rm>, <type> <Rs>   (A8.8.36)"""
    b.set_nzcv(b.add(read(b, f, f.n), _shifted(b, f)))


def ADR(b: Builder, f: Fields) -> None:
    """ADR<c> <Rd>, <label>   (A8.8.12)"""
    write(b, f, f.d, aligned_pc(b, f, f.offset))


def MOVT(b: Builder, f: Fields) -> None:
    """MOVT<c> <Rd>, #<imm16>   (A8.8.106)"""
    write(b, f, f.d, b.deposit(read(b, f, f.d), f.imm, 16, 16))

# SPDX-License-Identifier: Apache-2.0
"""Factories of the assembler's methods: each takes the order of an instruction's operands and its picture.

Letters of fields that are general registers: d n m a t u s. Of Advanced SIMD and floating-point registers: D N M A T U.
The others are numbers: i an immediate (b, r: further ones), c a condition, z the size of an access, q and l its order.
`order` has a letter for each operand; the method's arguments are in that order, and the last one may be converted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raddle.codegen.renaming import Method, Operands
from raddle_host_aarch64.code_buffer import CodeBuffer, EncodingError, Label, Reach
from raddle_host_aarch64.encoding import arithmetic, logical32, logical64, parse
from raddle_host_aarch64.registers import GENERAL

OPERANDS: Final[dict[Method, Operands]] = {}
"""For each method that a factory has made: which arguments are general registers. Guest registers are kept in no
others."""

Converter = Callable[[int], int]
_CLASSES: Final = dict.fromkeys("dnmatus", GENERAL)


def _declared(method: Method, order: str, has_displacement: bool = False) -> Method:
    registers = tuple([(at, _CLASSES[letter]) for at, letter in enumerate(order) if letter in _CLASSES])
    if registers:
        OPERANDS[method] = Operands(registers, order.index("n") if has_displacement else -1)
    return method


def _out_of_range(text: str, order: str, operands: tuple[int, ...]) -> EncodingError:
    return EncodingError(f"operands {operands} do not fit the fields {order} of {text!r}")


def fields(order: str, text: str, convert: Converter | None = None) -> Method:
    """Each operand is an unsigned field. `convert` turns the last operand into its field."""
    base, where = parse(text)
    if set(order) != set(where) or len(order) != len(where):
        raise ValueError(f"{text!r} has the fields {sorted(where)}, not {order}")
    places = [where[letter] for letter in order]
    match places:
        case []:
            code = base.to_bytes(4, "little")

            def emit0(asm: CodeBuffer) -> None:
                asm.code += code

            return emit0
        case [(at, width)]:

            def emit1(asm: CodeBuffer, a: int) -> None:
                if convert is not None:
                    a = convert(a)
                if a >> width:
                    raise _out_of_range(text, order, (a,))
                asm.code += (base | a << at).to_bytes(4, "little")

            return _declared(emit1, order)
        case [(at, width), (at_b, width_b)]:

            def emit2(asm: CodeBuffer, a: int, b: int) -> None:
                if convert is not None:
                    b = convert(b)
                if a >> width or b >> width_b:
                    raise _out_of_range(text, order, (a, b))
                asm.code += (base | a << at | b << at_b).to_bytes(4, "little")

            return _declared(emit2, order)
        case [(at, width), (at_b, width_b), (at_c, width_c)]:

            def emit3(asm: CodeBuffer, a: int, b: int, c: int) -> None:
                if convert is not None:
                    c = convert(c)
                if a >> width or b >> width_b or c >> width_c:
                    raise _out_of_range(text, order, (a, b, c))
                asm.code += (base | a << at | b << at_b | c << at_c).to_bytes(4, "little")

            return _declared(emit3, order)
        case [(at, width), (at_b, width_b), (at_c, width_c), (at_d, width_d)]:

            def emit4(asm: CodeBuffer, a: int, b: int, c: int, d: int) -> None:
                if convert is not None:
                    d = convert(d)
                if a >> width or b >> width_b or c >> width_c or d >> width_d:
                    raise _out_of_range(text, order, (a, b, c, d))
                asm.code += (base | a << at | b << at_b | c << at_c | d << at_d).to_bytes(4, "little")

            return _declared(emit4, order)
    raise ValueError(f"{text!r} has too many operands")


# --- Immediates ---


def add_immediate(order: str, text: str) -> Method:
    """The last operand is an immediate of an addition: 13 bits in the picture."""
    return fields(order, text, arithmetic)


def logical_immediate32(order: str, text: str) -> Method:
    """The last operand is a 32-bit number, as a logical immediate: 13 bits in the picture."""
    return fields(order, text, logical32)


def logical_immediate64(order: str, text: str) -> Method:
    """The same with 64 bits."""
    return fields(order, text, logical64)


def signed(order: str, text: str, scale: int = 0) -> Method:
    """The last operand is signed, and a multiple of 1 << scale."""
    width = parse(text).fields[order[-1]][1]

    def convert(value: int) -> int:
        number = value >> scale
        if number << scale != value or not -1 << width - 1 <= number < 1 << width - 1:
            raise EncodingError(f"{value} is no multiple of {1 << scale} that fits {width} bits signed, in {text!r}")
        return number & (1 << width) - 1

    return fields(order, text, convert)


def adr(order: str, text: str) -> Method:
    """The last operand is a distance in bytes of 21 bits. Its two lowest bits are a field of their own, b."""
    build = fields("dbi", text)

    def emit(asm: CodeBuffer, d: int, distance: int) -> None:
        if not -1 << 20 <= distance < 1 << 20:
            raise EncodingError(f"ADR cannot reach {distance} bytes")
        build(asm, d, distance & 3, distance >> 2 & 0x7FFFF)

    OPERANDS.pop(build, None)
    return _declared(emit, order)


def shift_left(text: str, bits: int) -> Method:
    """Register, register, amount: the amount stands in two fields, r = -amount and i = bits - 1 - amount."""
    build = fields("dnri", text)

    def emit(asm: CodeBuffer, d: int, n: int, amount: int) -> None:
        build(asm, d, n, -amount % bits, bits - 1 - amount)

    OPERANDS.pop(build, None)
    return _declared(emit, "dn")


def extract(text: str) -> Method:
    """Register, register, lowest bit, width: the fields r = lowest bit and i = highest bit."""
    build = fields("dnri", text)

    def emit(asm: CodeBuffer, d: int, n: int, lowest: int, width: int) -> None:
        build(asm, d, n, lowest, lowest + width - 1)

    OPERANDS.pop(build, None)
    return _declared(emit, "dn")


def insert(text: str, bits: int) -> Method:
    """Register, register, lowest bit, width: the fields r = -lowest bit and i = width - 1."""
    build = fields("dnri", text)

    def emit(asm: CodeBuffer, d: int, n: int, lowest: int, width: int) -> None:
        build(asm, d, n, -lowest % bits, width - 1)

    OPERANDS.pop(build, None)
    return _declared(emit, "dn")


def rotate(text: str) -> Method:
    """Register, register, amount: both operands of EXTR are the same register."""
    build = fields("dnmi", text)

    def emit(asm: CodeBuffer, d: int, n: int, amount: int) -> None:
        build(asm, d, n, n, amount)

    OPERANDS.pop(build, None)
    return _declared(emit, "dn")


def cset(text: str) -> Method:
    """Register, condition: the field is that of the opposite one."""
    return fields("dc", text, lambda condition: condition ^ 1)


def fraction(bits: int) -> int:
    """The field for a number of fraction bits."""
    return 64 - bits


# --- Memory operands: a base and a displacement ---


def scaled(order: str, text: str, scale: int) -> Method:
    """The last operand is a displacement from n: unsigned, and a multiple of 1 << scale."""

    def convert(value: int) -> int:
        number = value >> scale
        if number << scale != value or number < 0:
            raise EncodingError(f"displacement {value} is no multiple of {1 << scale}, or below 0")
        return number

    method = fields(order, text, convert)
    OPERANDS.pop(method, None)
    return _declared(method, order, has_displacement=True)


def unscaled(order: str, text: str, scale: int = 0) -> Method:
    """The last operand is a displacement from n: signed, and a multiple of 1 << scale."""
    method = signed(order, text, scale)
    OPERANDS.pop(method, None)
    return _declared(method, order, has_displacement=True)


def access(order: str, text: str) -> Method:
    """The first operand is the size of the access in bytes, 1, 2, 4 or 8: field z is its logarithm. The others are
    unsigned fields: q is 1 if the access acquires, l if it releases.
    """
    base, where = parse(text)
    places = [where[letter] for letter in order[1:]]
    at_size, _ = where["z"]
    sizes = {1 << n: base | n << at_size for n in range(4)}

    def emit(asm: CodeBuffer, size: int, *operands: int) -> None:
        word = sizes.get(size)
        if word is None:
            raise EncodingError(f"no access has {size} bytes: 1, 2, 4 and 8 are the sizes")
        for operand, (at, width) in zip(operands, places, strict=True):
            if operand >> width:
                raise _out_of_range(text, order, (size, *operands))
            word |= operand << at
        asm.code += word.to_bytes(4, "little")

    return _declared(emit, order)


ADDRESS: Final = 30
"""The link register. `anywhere` computes the address in it if no instruction holds the displacement. No value is ever
in it."""


def anywhere(order: str, near: Method, far: Method, subtract: Method, add: Method, scale: int) -> Method:
    """An access at any displacement below 1 << 24. `far` takes multiples of the size from 0 on, `near` takes -256 to
    255. Others need an addition to `ADDRESS` first.
    """

    def emit(asm: CodeBuffer, t: int, n: int, displacement: int) -> None:
        if 0 <= displacement < 4096 << scale and not displacement & (1 << scale) - 1:
            far(asm, t, n, displacement)
        elif -256 <= displacement < 256:
            near(asm, t, n, displacement)
        elif displacement < 0:
            high = -(displacement >> 12) << 12
            subtract(asm, ADDRESS, n, high)
            emit(asm, t, ADDRESS, displacement + high)
        else:
            low = displacement & 0xFFF
            add(asm, ADDRESS, n, displacement - low)
            emit(asm, t, ADDRESS, low)

    return _declared(emit, order, has_displacement=True)


# --- Jumps to labels ---


def to_label(name: str, reach: Reach) -> Callable[..., None]:
    """The operands of the method of this name with a label in place of the distance, which is the last one.

    An emitter's own method is called, which traces the instruction.
    """

    def emit(asm: CodeBuffer, *operands: int | Label) -> None:
        *others, label = operands
        assert isinstance(label, Label)
        getattr(asm, name)(*others, 0)
        asm.refer(label, reach)

    return emit


def upper_bit(order: str, lower: Method, text: str) -> Method:
    """TBZ and TBNZ of a 64-bit register: bits from 32 on have an encoding of their own, the others that of `lower`."""
    width = parse(text).fields["b"][1]
    upper = signed(order, text, 2)

    def emit(asm: CodeBuffer, t: int, bit: int, distance: int) -> None:
        if bit >> width:
            upper(asm, t, bit - (1 << width), distance)
        else:
            lower(asm, t, bit, distance)

    OPERANDS.pop(upper, None)
    return _declared(emit, order)

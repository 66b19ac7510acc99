# SPDX-License-Identifier: Apache-2.0
"""Golden listings of any host: the code of common guest instructions, and of IR, as text in files.

A host has a directory ``listings`` with a file for each of the `SNIPPETS`, and one for each IR function in ``ir/``.
Those begin with the IR; a new one needs nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import capstone

from raddle.codegen.backend import BackEnd, CodegenConfig
from raddle.codegen.joiner import Joiner
from raddle.codegen.template import Block
from raddle.ir.builder import Builder
from raddle.ir.opcodes import Op
from raddle.ir.parser import parse_function
from raddle.ir.types import Type
from raddle.ir.verifier import verify
from raddle.testing.ir_programs import LAYOUT
from raddle.translate.translator import Translator
from raddle_target_arm.frontend import FRONT_END
from raddle_target_arm.state import MODE_PRIVILEGED, MODE_T

PC: Final = 0x8000
INSTRUCTION_BYTES: Final = 4
"""Of the guest instruction that an IR function stands for."""
LITERALS: Final = (0x11111111, 0x22222222, 0x33333333)
CALLEE: Final = 7
FIRST_PYTHON: Final = 4096
BELOW_THE_IR: Final = "---\n"

# By instruction set and name: assembly text and machine code.
SNIPPETS: Final = {
    "a32": {
        "add_registers": ("add r1, r2, r3", "031082e0"),
        "add_in_place": ("add r1, r1, r3", "031081e0"),
        "add_immediate": ("add r1, r2, #0x100", "011c82e2"),
        "add_shifted_immediate": ("add r1, r2, #0x12000", "121a82e2"),
        "add_state_registers": ("add r9, r10, r11", "0b908ae0"),
        "add_setting_flags": ("adds r1, r2, r3", "031092e0"),
        "subtract_from": ("rsb r1, r2, #0", "001062e2"),
        "add_with_carry": ("adcs r1, r2, r3", "0310b2e0"),
        "and_shifted": ("and r1, r2, r3, lsl #4", "031202e0"),
        "exclusive_or_rotated": ("eor r1, r2, r3, ror #7", "e31322e0"),
        "clear_bits": ("bic r1, r2, r3", "0310c2e1"),
        "move_shifted_setting_flags": ("movs r1, r2, lsr #3", "a211b0e1"),
        "move_immediate": ("movw r1, #0x1234", "341201e3"),
        "compare_and_branch": ("cmp r1, #5; beq .+16", "050051e30200000a"),
        "compare_with_rotated": ("cmp r1, #0x400", "010b51e3"),
        "compare_and_move": ("cmp r1, r2; movlt r3, r4", "020051e10430a0b1"),
        "compare_and_add": ("cmp r1, r2; addlt r3, r3, #1", "020051e1013083b2"),
        "compare_state_register": ("cmp r12, r3", "03005ce1"),
        "multiply_state_register": ("mul r1, r2, r9", "920901e0"),
        "test_and_branch": ("tst r1, #1; bne .-8", "010011e3fcffff1a"),
        "multiply": ("mul r1, r2, r3", "920301e0"),
        "multiply_long": ("umull r1, r2, r3, r4", "931482e0"),
        "extract": ("ubfx r1, r2, #4, #8", "5212e7e7"),
        "insert": ("bfi r1, r2, #4, #8", "1212cbe7"),
        "count_leading_zeros": ("clz r1, r2", "121f6fe1"),
        "load_word": ("ldr r1, [r2, #4]", "041092e5"),
        "load_scaled": ("ldr r1, [r2, r3, lsl #2]", "031192e7"),
        "load_byte": ("ldrb r1, [r2]", "0010d2e5"),
        "load_postindexed": ("ldr r1, [r2], #4", "041092e4"),
        "load_double": ("ldrd r0, r1, [r2]", "d000c2e1"),
        "store_word": ("str r1, [r2, #4]", "041082e5"),
        "store_byte_preindexed": ("strb r1, [r2, #1]!", "0110e2e5"),
        "push": ("push {r4, r5, lr}", "30402de9"),
        "pop_return": ("pop {r4, r5, pc}", "3080bde8"),
        "branch": ("b .+16", "020000ea"),
        "call": ("bl .+16", "020000eb"),
        "return": ("bx lr", "1eff2fe1"),
        "exclusive_increment": ("ldrex r1, [r0]; add r1, r1, #1; strex r2, r1, [r0]", "9f1f90e1011081e2912f80e1"),
        "barrier": ("dmb ish", "5bf07ff5"),
        "barriers": ("dmb ishst; dmb ish; dmb ishst", "5af07ff55bf07ff55af07ff5"),
        "barriers_and_load": ("dmb ish; ldr r1, [r2]; dmb ishst; dmb ish", "5bf07ff5001092e55af07ff55bf07ff5"),
    },
    "t32": {
        "add_setting_flags": ("adds r0, r1, r2", "8818"),
        "compare_and_branch": ("cmp r0, #0; beq .+16", "002806d0"),
        "compare_zero_and_branch": ("cbz r0, .+16", "30b1"),
        "load_from_stack": ("ldr r0, [sp, #8]", "0298"),
        "if_then": ("it eq; moveq r0, r1", "08bf0846"),
        "wide_load": ("ldr.w r8, [r9, #4]", "d9f80480"),
    },
}

CASES: Final = [(table, name) for table, snippets in SNIPPETS.items() for name in snippets]


def ir_of(file: Path) -> str:
    """What stands above the listing."""
    return file.read_text(encoding="utf-8").partition(BELOW_THE_IR)[0]


def is_routine(function: Builder) -> bool:
    return any(ins.op is Op.RET for ins in function.code)


def parse_ir(text: str) -> Builder:
    """The function of a file in ``ir/``; the first line may be ``word i64``."""
    word = Type.I64 if text.startswith("word i64\n") else Type.I32
    function = parse_function(text.removeprefix("word i64\n"), LAYOUT, word)
    verify(function, routine=is_routine(function))
    return function


class Golden:
    """The listings of one host."""

    def __init__(self, directory: Path, backend: Callable[[CodegenConfig], BackEnd]) -> None:
        """``backend`` makes the back end for the CPU that the listings are for."""
        self.directory = directory
        self.ir = directory / "ir"
        self._backend = backend

    def block_of(self, table: str, name: str) -> Block:
        """The block of one snippet."""
        config = CodegenConfig(
            FRONT_END.state, FRONT_END.word, FRONT_END.page_bits, lambda callee: CALLEE, first_python=FIRST_PYTHON
        )
        mode = MODE_PRIVILEGED | (MODE_T if table == "t32" else 0)
        translator = Translator(FRONT_END, self._backend(config), None)
        return translator.block(mode, bytes.fromhex(SNIPPETS[table][name][1]), PC)

    def listing(self, table: str, name: str) -> str:
        return "\n".join([f"{table}: {SNIPPETS[table][name][0]}", *self._block(self.block_of(table, name))]) + "\n"

    def file_of(self, table: str, name: str) -> Path:
        return self.directory / f"{table}_{name}.txt"

    def ir_code(self, function: Builder) -> Block | bytes:
        """The block of one guest instruction that is the function; if it returns, the routine."""
        config = CodegenConfig(LAYOUT, function.word, 12, lambda callee: CALLEE, first_python=FIRST_PYTHON)
        backend = self._backend(config)
        if is_routine(function):
            return backend.routine(function.code, function.locals)
        joiner = Joiner(backend)
        template = backend.template(function.code, function.locals, INSTRUCTION_BYTES, 0, 0)
        return joiner.join([joiner.enter(None, 0, template, LITERALS)], PC)

    def ir_listing(self, text: str) -> str:
        code = self.ir_code(parse_ir(text))
        lines = self._parts("routine", code) if isinstance(code, bytes) else self._block(code)
        return text + BELOW_THE_IR + "\n".join(lines) + "\n"

    def write(self) -> None:
        """Write all listings anew."""
        for table, name in CASES:
            self.file_of(table, name).write_text(self.listing(table, name), encoding="utf-8")
        self.write_ir()

    def write_ir(self) -> None:
        """Write those of IR anew."""
        for file in self.ir.glob("*.txt"):
            file.write_text(self.ir_listing(ir_of(file)), encoding="utf-8")

    def _disassemble(self, code: bytes) -> list[str]:
        names = self._backend(CodegenConfig(LAYOUT, Type.I32, 12, lambda callee: CALLEE)).disassembler
        assert names is not None
        engine = capstone.Cs(*(getattr(capstone, name) for name in names))
        return [f"{ins.mnemonic} {ins.op_str}".rstrip() for ins in engine.disasm(code, 0)]

    def _parts(self, title: str, code: bytes) -> list[str]:
        listed = self._disassemble(code)
        return [f"{title}: {len(listed)} instructions, {len(code)} bytes", *(f"    {line}" for line in listed)]

    def _block(self, block: Block) -> list[str]:
        """Entry check and hot parts, then cold parts and exit stubs."""
        return [
            *self._parts("entry", block.code[: block.hot_start]),
            *self._parts("hot", block.code[block.hot_start : block.cold_start]),
            *self._parts("cold and stubs", block.code[block.cold_start :]),
        ]

// SPDX-License-Identifier: Apache-2.0
// The code that the trials run: r0 and r1 are given, r2 is free for a result. Offsets of what should raise are in the
// tables that use them, in bytes from the start.
#ifndef SNIPPETS_H
#define SNIPPETS_H

#include "trial.h"

ARM_SNIPPET(a_nop, "nop");
THUMB_SNIPPET(t_nop, "nop");
ARM_SNIPPET(a_jump, "bx r0");

// ---- undefined, supervisor call, breakpoint -------------------------------------------------------------------------
ARM_SNIPPET(a_udf, "nop\n.inst 0xe7f000f0");
THUMB_SNIPPET(t_udf, "nop\n.inst.n 0xde00");
THUMB_SNIPPET(t_udf_wide, "nop\n.inst.w 0xf7f0a000");
ARM_SNIPPET(a_undefined_media, ".inst 0xe6000010");
ARM_SNIPPET(a_cp2, "mcr p2, 0, r0, c0, c0, 0");
THUMB_SNIPPET(t_cp2, "mcr p2, 0, r0, c0, c0, 0");
ARM_SNIPPET(a_cp15_unknown, "mrc p15, 7, r2, c9, c15, 7");
ARM_SNIPPET(a_svc, "mov r2, #3\nsvc #0x123456");
THUMB_SNIPPET(t_svc, "movs r2, #3\nsvc #0x12");
ARM_SNIPPET(a_bkpt, "nop\nbkpt #0x1234");
THUMB_SNIPPET(t_bkpt, "nop\nbkpt #0x12");

// ---- loads and stores -----------------------------------------------------------------------------------------------
ARM_SNIPPET(a_ldr, "ldr r2, [r0]");
ARM_SNIPPET(a_ldr_late, "nop\nnop\nldr r2, [r0]");
ARM_SNIPPET(a_ldrb, "ldrb r2, [r0]");
ARM_SNIPPET(a_ldrh, "ldrh r2, [r0]");
ARM_SNIPPET(a_ldrsh, "ldrsh r2, [r0]");
ARM_SNIPPET(a_ldrd, "ldrd r2, r3, [r0]");
ARM_SNIPPET(a_ldrt, "ldrt r2, [r0]");
ARM_SNIPPET(a_ldrex, "ldrex r2, [r0]");
ARM_SNIPPET(a_ldrexh, "ldrexh r2, [r0]");
ARM_SNIPPET(a_ldrexd, "ldrexd r2, r3, [r0]");
ARM_SNIPPET(a_ldm, "ldm r0, {r2, r3}");
ARM_SNIPPET(a_str, "str r1, [r0]");
ARM_SNIPPET(a_strb, "strb r1, [r0]");
ARM_SNIPPET(a_strh, "strh r1, [r0]");
ARM_SNIPPET(a_strd, "mov r2, r1\nmov r3, r1\nstrd r2, r3, [r0]");
ARM_SNIPPET(a_strt, "strt r1, [r0]");
ARM_SNIPPET(a_strbt, "strbt r1, [r0]");
ARM_SNIPPET(a_strex, "ldrex r2, [r0]\nstrex r2, r1, [r0]");
ARM_SNIPPET(a_stm, "stm r0, {r1, r2}");
THUMB_SNIPPET(t_ldr, "ldr r2, [r0]");
THUMB_SNIPPET(t_ldr_wide, "nop\nldr.w r2, [r0, #4]");
THUMB_SNIPPET(t_str, "str r1, [r0]");
THUMB_SNIPPET(t_push, "mov sp, r0\npush {r1, r2, lr}");
THUMB_SNIPPET(t_ldrt, "ldrt r2, [r0]");
ARM_SNIPPET(a_pld, "pld [r0]");

// Base registers must be as before when the access aborts. Partly loaded registers are not looked at (r6 and up).
ARM_SNIPPET(a_ldr_pre, "ldr r2, [r0, #4]!");
ARM_SNIPPET(a_ldr_post, "ldr r2, [r0], #4");
ARM_SNIPPET(a_ldr_post_register, "ldr r2, [r0], -r1, lsl #2");
ARM_SNIPPET(a_str_pre, "str r1, [r0, #-4]!");
ARM_SNIPPET(a_str_post, "str r1, [r0], #-4");
ARM_SNIPPET(a_ldrd_post, "ldrd r2, r3, [r0], #8");
ARM_SNIPPET(a_ldm_writeback, "ldm r0!, {r6-r9}");
ARM_SNIPPET(a_ldm_base, "ldm r0, {r0, r6-r9}");
ARM_SNIPPET(a_ldmdb_writeback, "ldmdb r0!, {r6-r9}");
ARM_SNIPPET(a_stm_writeback, "stm r0!, {r6-r9}");
ARM_SNIPPET(a_stmdb_writeback, "stmdb r0!, {r6-r9}");
ARM_SNIPPET(a_pop_pc, "mov r2, sp\nmov sp, r0\npop {r6-r8, pc}");
THUMB_SNIPPET(t_ldm_writeback, "ldm r0!, {r4-r7}");
THUMB_SNIPPET(t_stm_writeback, "stm r0!, {r4-r7}");
THUMB_SNIPPET(t_ldrd_pre, "ldrd r6, r7, [r0, #8]!");

// ---- IT blocks ------------------------------------------------------------------------------------------------------
THUMB_SNIPPET(t_it_first, "ite eq\nldreq r2, [r0]\nmovne r2, #1");
THUMB_SNIPPET(t_it_second, "itte eq\nmoveq r2, #5\nldreq r2, [r0]\nmovne r2, #1");
THUMB_SNIPPET(t_it_last, "itttt eq\nmoveq r2, #5\nmoveq r2, #6\nmoveq r2, #7\nstreq r1, [r0]");
THUMB_SNIPPET(t_it_skipped, "ite ne\nldrne r2, [r0]\nmoveq r2, #9");
THUMB_SNIPPET(t_it_svc, "itt eq\nsvceq #1\nmoveq r2, #1");
THUMB_SNIPPET(t_moves, ".inst.n 0x2201\n.inst.n 0x2302\nmov r3, r3"); // movs r2, #1; movs r3, #2

// ---- program status, modes, user-mode restrictions ------------------------------------------------------------------
ARM_SNIPPET(a_mrs_cpsr, "mrs r2, cpsr");
ARM_SNIPPET(a_msr_mode, "msr cpsr_c, #0xd3\nmrs r2, cpsr");
ARM_SNIPPET(a_msr_all, "msr cpsr_cxsf, r0\nmrs r2, cpsr");
ARM_SNIPPET(a_cps_svc, "cps #0x13\nmrs r2, cpsr\ncps #0x1f");
ARM_SNIPPET(a_cps_user, "cps #0x13\ncpsie aif\nmrs r2, cpsr");
ARM_SNIPPET(a_cpsie, "cpsie aif\nmrs r2, cpsr\ncpsid aif");
THUMB_SNIPPET(t_cpsie, "cpsie aif\nmrs r2, cpsr\ncpsid aif");
ARM_SNIPPET(a_read_sctlr, "mrc p15, 0, r2, c1, c0, 0");
ARM_SNIPPET(a_read_tpidruro, "mrc p15, 0, r2, c13, c0, 3");
ARM_SNIPPET(a_write_tpidruro, "mcr p15, 0, r1, c13, c0, 3");
ARM_SNIPPET(a_write_tpidrurw, "mcr p15, 0, r1, c13, c0, 2\nmrc p15, 0, r2, c13, c0, 2");
ARM_SNIPPET(a_read_tpidrprw, "mrc p15, 0, r2, c13, c0, 4");
ARM_SNIPPET(a_cp15_barriers, "mcr p15, 0, r0, c7, c10, 5\nmcr p15, 0, r0, c7, c10, 4\nmcr p15, 0, r0, c7, c5, 4");
ARM_SNIPPET(a_setend, "setend be\nldr r2, [r0]\nmrs r1, cpsr\nsetend le");
THUMB_SNIPPET(t_setend, "setend be\nldrh r2, [r0]\nsetend le");
ARM_SNIPPET(a_setend_fault, "setend be\nldr r2, [r0]");
ARM_SNIPPET(a_rfe, "rfeia r0");
ARM_SNIPPET(a_rfe_writeback, "rfedb r0!");
THUMB_SNIPPET(t_rfe, "rfeia r0!");
ARM_SNIPPET(a_rfe_target, "mov r2, #7\nsvc #2");
THUMB_SNIPPET(t_rfe_target, "movs r2, #7\nsvc #2");
ARM_SNIPPET(a_sleep_hints, "nop\nyield\nsev\nwfe");
ARM_SNIPPET(a_take_irq, "cpsie i\nnop\nisb\nnop\ncpsid i");

// ---- floating point -------------------------------------------------------------------------------------------------
ARM_SNIPPET(a_vmov, ".fpu vfpv4\nvmov s0, r0\nvmov r2, s0");
ARM_SNIPPET(a_vadd, ".fpu vfpv4\nnop\nvadd.f64 d0, d1, d2");
ARM_SNIPPET(a_vldr, ".fpu vfpv4\nvldr d0, [r0]");
ARM_SNIPPET(a_vstm, ".fpu vfpv4\nvstmia r0!, {d0-d3}");
ARM_SNIPPET(a_vldm, ".fpu vfpv4\nvldmia r0!, {d0-d3}");
ARM_SNIPPET(a_vmrs_fpscr, ".fpu vfpv4\nvmrs r2, fpscr");
ARM_SNIPPET(a_vmrs_fpexc, ".fpu vfpv4\nvmrs r2, fpexc");
ARM_SNIPPET(a_vmrs_fpsid, ".fpu vfpv4\nvmrs r2, fpsid");
THUMB_SNIPPET(t_vmov, ".fpu vfpv4\nvmov s0, r0\nvmov r2, s0");

#endif

# SPDX-License-Identifier: Apache-2.0
"""Options of QEMU that `raddle boot` does not have: for each, what is missing, and whether it takes a value.

`near` is what to use instead; it is empty if there is nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["UNSUPPORTED", "Unsupported"]


class Unsupported(NamedTuple):
    """An option that QEMU has and Raddle does not have."""

    missing: str
    near: str = ""
    value: bool = True

    @property
    def reason(self) -> str:
        return f"{self.missing}; the nearest that is: {self.near}" if self.near else self.missing


NO_DISKS: Final = Unsupported("there are no disks", "-initrd")
NO_NETWORK: Final = Unsupported("there is no network")
NO_SCREEN: Final = Unsupported("there is no screen", "-display none")
NO_SOUND: Final = Unsupported("there is no sound", "-audiodev none")
NO_SNAPSHOTS: Final = Unsupported("there are no snapshots")
NO_DEBUGGER: Final = Unsupported("there is no GDB server", "the monitor (Ctrl-A C)")
NO_SHARING: Final = Unsupported("no directories are shared", "-initrd")
NO_NUMA: Final = Unsupported("there is only one NUMA node")
NO_PROPERTIES: Final = Unsupported("devices have no properties to set")
NO_FIRMWARE_TABLES: Final = Unsupported("there are no firmware tables")
NO_SANDBOX: Final = Unsupported("the process cannot give up rights")
NO_TRACE: Final = Unsupported("there are no trace events", "-d")


def _flag(one: Unsupported) -> Unsupported:
    return Unsupported(one.missing, one.near, value=False)


UNSUPPORTED: Final = {
    **dict.fromkeys(
        ("hda", "hdb", "hdc", "hdd", "cdrom", "blockdev", "sd", "fda", "fdb", "mtdblock", "iscsi"), NO_DISKS
    ),
    **dict.fromkeys(("netdev", "nic", "net"), NO_NETWORK),
    **dict.fromkeys(("vnc", "spice"), NO_SCREEN),
    **dict.fromkeys(("sdl", "gtk", "curses", "full-screen", "portrait"), _flag(NO_SCREEN)),
    **dict.fromkeys(("audio", "soundhw"), NO_SOUND),
    **dict.fromkeys(("loadvm", "incoming", "dump-vmstate"), NO_SNAPSHOTS),
    **dict.fromkeys(("fsdev", "virtfs"), NO_SHARING),
    **dict.fromkeys(("global", "set"), NO_PROPERTIES),
    **dict.fromkeys(("smbios", "acpitable"), NO_FIRMWARE_TABLES),
    **dict.fromkeys(("sandbox", "runas", "chroot"), NO_SANDBOX),
    "s": _flag(NO_DEBUGGER),
    "gdb": NO_DEBUGGER,
    "numa": NO_NUMA,
    "mem-path": Unsupported("RAM is the process's own memory"),
    "mem-prealloc": Unsupported("RAM is allocated when it is first used", value=False),
    "usbdevice": Unsupported("there is no USB"),
    "chardev": Unsupported("character devices have no names", "-serial"),
    "parallel": Unsupported("there is no parallel port"),
    "debugcon": Unsupported("there is no debug port", "-serial"),
    "tpmdev": Unsupported("there is no TPM"),
    "enable-kvm": Unsupported("guests always run translated", "-accel kvm:tcg, which falls back to tcg", False),
    "qmp": Unsupported("there is no QMP", "-monitor, for people"),
    "qmp-pretty": Unsupported("there is no QMP", "-monitor, for people"),
    "mon": Unsupported("character devices have no names", "-monitor"),
    "daemonize": Unsupported("it stays in the foreground", "the shell's &, with -serial pty", False),
    "no-shutdown": Unsupported("a machine that powers off ends", value=False),
    "action": Unsupported("only what a reset does can be chosen", "-no-reboot"),
    "watchdog": Unsupported("there is no watchdog"),
    "watchdog-action": Unsupported("there is no watchdog"),
    "preconfig": Unsupported("there is nothing to configure later", "-S", False),
    "semihosting": Unsupported("there is no semihosting", value=False),
    "semihosting-config": Unsupported("there is no semihosting"),
    "boot": Unsupported("there are no disks to choose from"),
    "option-rom": Unsupported("there is no bus for it", "-bios"),
    "fw_cfg": Unsupported("the firmware configuration has only what -kernel, -initrd and -append give"),
    "object": Unsupported("there are no objects to make"),
    "plugin": Unsupported("there are no plug-ins of this kind", "hooks, from Python"),
    "trace": NO_TRACE,
    "seed": Unsupported("nothing here is random"),
    "one-insn-per-tb": Unsupported("the length of blocks cannot be set", "-d nochain", False),
    "singlestep": Unsupported("the length of blocks cannot be set", "-d nochain", False),
    "dumpdtb": Unsupported("the device tree is not written to a file"),
    "readconfig": Unsupported("there are no configuration files"),
    "writeconfig": Unsupported("there are no configuration files"),
    "add-fd": Unsupported("files are given by name"),
    "echr": Unsupported("the escape key is Ctrl-A"),
    "k": Unsupported("there is no keyboard"),
    "show-cursor": Unsupported("there is no screen", value=False),
    "compat": Unsupported("there is nothing deprecated"),
    "async-teardown": Unsupported("the process ends when all memory is freed", value=False),
    "only-migratable": Unsupported("machines cannot be migrated", value=False),
}
"""No row may have the name of an option in OPTIONS."""

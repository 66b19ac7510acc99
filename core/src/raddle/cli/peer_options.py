# SPDX-License-Identifier: Apache-2.0
"""Options of QEMU's that `raddle boot` does not have, by name: what is missing, and whether a value follows.

`near` is another way to get there, and stands only where there is one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["UNSUPPORTED", "Unsupported"]


class Unsupported(NamedTuple):
    """An option that QEMU has and Raddle has not."""

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
NO_NUMA: Final = Unsupported("there is one node of memory")
NO_PROPERTIES: Final = Unsupported("devices have no properties to set")
NO_FIRMWARE_TABLES: Final = Unsupported("there are no firmware tables")
NO_SANDBOX: Final = Unsupported("the process keeps the rights that it is started with")
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
    "mem-prealloc": Unsupported("RAM is taken when it is used", value=False),
    "usbdevice": Unsupported("there is no USB"),
    "chardev": Unsupported("character devices have no names", "-serial"),
    "parallel": Unsupported("there is no parallel port"),
    "debugcon": Unsupported("there is no debug port", "-serial"),
    "tpmdev": Unsupported("there is no TPM"),
    "enable-kvm": Unsupported("nothing runs without translation", "-accel kvm:tcg, which goes on with ours", False),
    "qmp": Unsupported("there is no QMP", "-monitor, for people"),
    "qmp-pretty": Unsupported("there is no QMP", "-monitor, for people"),
    "mon": Unsupported("character devices have no names", "-monitor"),
    "daemonize": Unsupported("it stays in the foreground", "the shell's &, with -serial pty", False),
    "no-shutdown": Unsupported("a machine that is off has ended", value=False),
    "action": Unsupported("only what a reset does can be chosen", "-no-reboot"),
    "watchdog": Unsupported("there is no watchdog"),
    "watchdog-action": Unsupported("there is no watchdog"),
    "preconfig": Unsupported("there is nothing to configure later", "-S", False),
    "semihosting": Unsupported("there is no semihosting", value=False),
    "semihosting-config": Unsupported("there is no semihosting"),
    "boot": Unsupported("there are no disks to choose from"),
    "option-rom": Unsupported("there is no bus for it", "-bios"),
    "fw_cfg": Unsupported("the firmware configuration has what -kernel, -initrd and -append say"),
    "object": Unsupported("there are no objects to make"),
    "plugin": Unsupported("there are no plug-ins of this kind", "hooks, from Python"),
    "trace": NO_TRACE,
    "seed": Unsupported("nothing here is random"),
    "one-insn-per-tb": Unsupported("blocks have as many instructions as they have", "-d nochain", False),
    "singlestep": Unsupported("blocks have as many instructions as they have", "-d nochain", False),
    "dumpdtb": Unsupported("the device tree is not written to a file"),
    "readconfig": Unsupported("there are no configuration files"),
    "writeconfig": Unsupported("there are no configuration files"),
    "add-fd": Unsupported("files are given by name"),
    "echr": Unsupported("the escape key is Ctrl-A"),
    "k": Unsupported("there is no keyboard"),
    "show-cursor": Unsupported("there is no screen", value=False),
    "compat": Unsupported("there is nothing deprecated"),
    "async-teardown": Unsupported("it ends when everything is given back", value=False),
    "only-migratable": Unsupported("no machine moves to another host", value=False),
}
"""No row may stand for an option that OPTIONS has, too."""

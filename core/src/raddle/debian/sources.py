# SPDX-License-Identifier: Apache-2.0
"""Sources of packages for another architecture: this machine's own package sources, through apt, or a mirror.

apt checks signatures with the keys that the machine trusts. A mirror is trusted as it is: its packages are compared
only with its own index.
"""

from __future__ import annotations

import hashlib
import http.client
import lzma
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from raddle.errors import MachineError, UsageError

__all__ = ["Apt", "Mirror", "Source", "find_source"]

SCHEMES: Final = ("https", "http", "file")
PATIENCE: Final = 60.0
"""Seconds to wait for a mirror's answer."""
INDEX_LIMIT: Final = 512 << 20
PACKAGE_LIMIT: Final = 256 << 20


class Source(Protocol):
    def dependency(self, package: str, prefix: str) -> str:
        """The first package that `package` depends on and whose name begins with `prefix`. Raises RaddleError."""

    def fetch(self, package: str) -> Path:
        """Fetch the package, and return its file. Raises RaddleError."""


def find_source(mirror: str | None, suite: str, architecture: str, directory: Path) -> Source:
    """The mirror; if that is None, the machine's own sources. Files go into `directory`. Raises UsageError if there is
    no source.
    """
    if mirror is not None:
        return Mirror(mirror, suite, architecture, directory)
    if shutil.which("apt-get") is None or shutil.which("apt-cache") is None:
        raise UsageError("this machine has no apt to fetch packages with: name a Debian mirror with --mirror URL")
    return Apt(architecture, directory)


class Apt:
    """The machine's package sources, with apt's state in a directory of our own. The system's state does not change."""

    def __init__(self, architecture: str, directory: Path) -> None:
        self._directory = directory
        state = directory / "apt"
        for name in ("lists/partial", "cache/archives/partial"):
            (state / name).mkdir(parents=True)
        (state / "status").touch()
        settings = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "root",
            "Dir::State::Lists": state / "lists",
            "Dir::Cache": state / "cache",
            "Dir::State::status": state / "status",
        }
        self._settings = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        # This fails if one of the sources has no packages for the architecture. The other sources are enough.
        self._run("apt-get", "-qq", "update", fails=True)

    def dependency(self, package: str, prefix: str) -> str:
        for line in self._run("apt-cache", "depends", package, fails=True).splitlines():
            kind, _, name = line.strip().partition(": ")
            if kind == "Depends" and name.startswith(prefix):
                return name
        raise MachineError(
            f"the package sources of this machine have no {package}: name a Debian mirror with --mirror URL"
        )

    def fetch(self, package: str) -> Path:
        self._run("apt-get", "-qq", "download", package)
        found = sorted(self._directory.glob(f"{package}_*.deb"))
        if not found:
            raise MachineError(f"apt-get has left no file of package {package}")
        return found[0]

    def _run(self, command: str, *words: str, fails: bool = False) -> str:
        done = subprocess.run(
            [command, *self._settings, *words],
            cwd=self._directory,
            env=os.environ | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode and not fails:
            said = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            raise MachineError(f"{command} {' '.join(words)} failed: {said[0]}")
        return done.stdout


class Mirror:
    """A Debian archive at a URL."""

    def __init__(self, url: str, suite: str, architecture: str, directory: Path) -> None:
        try:
            scheme = urlsplit(url).scheme
        except ValueError:
            scheme = ""
        if scheme not in SCHEMES:
            raise UsageError(f"--mirror {url!r} is not a URL that begins with {', '.join(SCHEMES)}")
        self._url = url.rstrip("/")
        self._directory = directory
        index = f"dists/{suite}/main/binary-{architecture}/Packages.xz"
        try:
            packed = self._get(index, PACKAGE_LIMIT)
            unpacking = lzma.LZMADecompressor()
            text = unpacking.decompress(packed, INDEX_LIMIT).decode(errors="replace")
        except lzma.LZMAError as error:
            raise MachineError(f"{self._url}/{index} is damaged: {error}") from None
        if not unpacking.eof:
            raise MachineError(f"{self._url}/{index} is truncated, or larger than any index is")
        self._packages: dict[str, dict[str, str]] = {}
        for paragraph in text.split("\n\n"):
            lines = [line.partition(": ") for line in paragraph.splitlines() if not line.startswith(" ")]
            fields = {name: value for name, _, value in lines}
            self._packages.setdefault(fields.get("Package", ""), fields)

    def dependency(self, package: str, prefix: str) -> str:
        for one in self._fields(package).get("Depends", "").split(","):
            name = one.split("|")[0].split("(")[0].strip()
            if name.startswith(prefix):
                return name
        raise MachineError(f"package {package} of {self._url} does not depend on a package {prefix}*")

    def fetch(self, package: str) -> Path:
        fields = self._fields(package)
        contents = self._get(fields.get("Filename", ""), PACKAGE_LIMIT)
        if hashlib.sha256(contents).hexdigest() != fields.get("SHA256"):
            raise MachineError(f"package {package} of {self._url} does not match the mirror's index: fetch it again")
        path = self._directory / f"{package}.deb"
        path.write_bytes(contents)
        return path

    def _fields(self, package: str) -> dict[str, str]:
        if package not in self._packages:
            raise MachineError(f"{self._url} has no package {package}")
        return self._packages[package]

    def _get(self, name: str, limit: int) -> bytes:
        url = f"{self._url}/{name}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                contents: bytes = answer.read(limit + 1)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise MachineError(f"cannot fetch {url}: {getattr(error, 'reason', None) or error}") from None
        if len(contents) > limit:
            raise MachineError(f"cannot fetch {url}: it has more than {limit >> 20} MiB")
        return contents

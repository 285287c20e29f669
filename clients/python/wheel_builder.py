"""Builds a wheel: `python3 wheel_builder.py [--binary PROGRAMS] [DIRECTORY]` puts it into dist/.

With --binary the wheel is for one system and brings dblock: PROGRAMS is a directory with the
program and its companions, dblock-*. For which system they are, they say themselves. pip puts them
on PATH as they are, so that no Python runs when they do; dblock itself is in the package,
too, where the client finds it however the package was installed.

Also a build backend (PEP 517), so that `pip install .` and `python -m build --wheel` work
without anything else.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import struct
import zipfile
from typing import Any, Dict, List, Optional

HERE = os.path.dirname(os.path.abspath(__file__))

# Go's programs are static: they need no C library, and the tags say so by naming the oldest of each
# kind that an index takes. By e_machine of the ELF header.
LINUX = {
    62: "manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64",
    183: "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
    40: "manylinux_2_17_armv7l.manylinux2014_armv7l.musllinux_1_1_armv7l",
    243: "manylinux_2_31_riscv64.musllinux_1_2_riscv64",
}
# By cputype of the Mach-O header.
MACOS = {0x01000007: "x86_64", 0x0100000C: "arm64"}

SOURCE = "https://github.com/dblock-dev/dblock"

# The same bytes for the same sources: a fixed time for each file.
TIME = (1980, 1, 1, 0, 0, 0)


def read(name: str) -> str:
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return file.read()


def field(name: str) -> str:
    found = re.search(rf'^{name} = "(.*)"$', read("pyproject.toml"), re.MULTILINE)
    assert found is not None, name
    return found.group(1)


def metadata() -> str:
    return (
        "Metadata-Version: 2.1\n"
        f"Name: {field('name')}\n"
        f"Version: {field('version')}\n"
        f"Summary: {field('description')}\n"
        "License: MIT\n"
        f"Project-URL: Source, {SOURCE}\n"
        f"Requires-Python: {field('requires-python')}\n"
        "Classifier: Operating System :: POSIX\n"
        "Classifier: Programming Language :: Python :: 3\n"
        "Classifier: Typing :: Typed\n"
        "Description-Content-Type: text/markdown\n"
        "\n" + read("README.md").replace("](../../", f"]({SOURCE}/blob/main/")
    )


def platform(program: bytes) -> str:
    """The platform tags of a system that runs the program.

    Raises ValueError if wheels have none for it.
    """
    if program[:4] == b"\x7fELF":
        system, (machine,) = program[7], struct.unpack_from("<H", program, 18)
        if system in (0, 3) and machine in LINUX:  # EI_OSABI: none in particular, Linux
            return LINUX[machine]
    elif program[:4] == b"\xcf\xfa\xed\xfe":
        _, cpu, _, _, commands = struct.unpack_from("<5I", program)
        at = 32
        for _ in range(commands):
            command, size = struct.unpack_from("<2I", program, at)
            if command == 0x32 and cpu in MACOS:  # LC_BUILD_VERSION: the oldest macOS
                (oldest,) = struct.unpack_from("<I", program, at + 12)
                major = (oldest + 0xFFFF) >> 16  # pip looks at no other part of the version
                return f"macosx_{major}_0_{MACOS[cpu]}"
            at += size
    raise ValueError("wheels have no tag for the system that this is a program for")


def build_wheel(
    wheel_directory: str,
    config_settings: Optional[Any] = None,
    metadata_directory: Optional[str] = None,
    binary: Optional[str] = None,
) -> str:
    """Write the wheel into wheel_directory and return its file name.

    Raises OSError and ValueError, for what is in the directory binary.
    """
    name, version = field("name"), field("version")
    info = f"{name}-{version}.dist-info"
    files: Dict[str, bytes] = {}
    programs: Dict[str, bytes] = {}
    for folder, folders, names in os.walk(os.path.join(HERE, "src")):
        folders[:] = sorted(each for each in folders if each != "__pycache__")
        for each in sorted(names):
            path = os.path.join(folder, each)
            with open(path, "rb") as file:
                files[os.path.relpath(path, os.path.join(HERE, "src"))] = file.read()
    system = "any"
    if binary is not None:
        companions = sorted(each for each in os.listdir(binary) if each.startswith("dblock-"))
        for each in ["dblock", *companions]:
            with open(os.path.join(binary, each), "rb") as file:
                programs[f"{name}-{version}.data/scripts/{each}"] = file.read()
        systems = {platform(program) for program in programs.values()}
        if len(systems) > 1:
            raise ValueError(f"{binary} has programs for more than one system")
        (system,) = systems
        programs["dblock/bin/dblock"] = programs[f"{name}-{version}.data/scripts/dblock"]
    files.update(programs)
    for each in ["LICENSE", "NOTICES"] if programs else ["LICENSE"]:
        path = os.path.join(HERE, "..", "..", each)
        if os.path.exists(path):  # it is not in a copy of this folder alone
            with open(path, "rb") as file:
                files[f"{info}/licenses/{each}"] = file.read()
    files[f"{info}/METADATA"] = metadata().encode()
    tags = "".join(f"Tag: py3-none-{each}\n" for each in system.split("."))
    pure = "false" if programs else "true"
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: wheel_builder\nRoot-Is-Purelib: {pure}\n{tags}".encode()
    )
    record = ""
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(content)}\n"
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()

    file_name = f"{name}-{version}-py3-none-{system}.whl"
    os.makedirs(wheel_directory, exist_ok=True)
    with zipfile.ZipFile(os.path.join(wheel_directory, file_name), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, TIME)
            entry.external_attr = (0o100755 if path in programs else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return file_name


def get_requires_for_build_wheel(config_settings: Optional[Any] = None) -> List[str]:
    return []


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Builds a wheel, and prints its path.")
    arguments.add_argument("--binary", metavar="PROGRAMS", help="bring dblock and its companions from this directory")
    arguments.add_argument("directory", nargs="?", default=os.path.join(HERE, "dist"), help="where to (%(default)s)")
    given = arguments.parse_args()
    print(os.path.join(given.directory, build_wheel(given.directory, binary=given.binary)))

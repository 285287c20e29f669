"""The wheel, installed from the file into a bare environment."""

import base64
import csv
import glob
import hashlib
import io
import os
import shutil
import struct
import subprocess
import sys
import unittest
import venv
import zipfile

from support import HERE, Case

sys.path.insert(0, os.path.dirname(HERE))
import wheel_builder  # noqa: E402

LINUX = sys.platform == "linux"


def files(folder):
    """All that is in a folder, but what Python itself compiles."""
    return {
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if not place.endswith("__pycache__")
    }


def elf(machine, system=0):
    return struct.pack("<4s4B8xHH", b"\x7fELF", 2, 1, 1, system, 2, machine).ljust(64, b"\0")


def mach(cpu, oldest):
    commands = struct.pack("<4I", 0x1B, 16, 0, 0) + struct.pack("<6I", 0x32, 24, 1, oldest, 0, 0)
    return struct.pack("<8I", 0xFEEDFACF, cpu, 0, 2, 2, len(commands), 0, 0) + commands


class Wheel(Case):
    def test_installed(self):
        build = [sys.executable, os.path.join(os.path.dirname(HERE), "wheel_builder.py"), self.dir]
        for _ in range(2):
            subprocess.run(build, check=True, stdout=subprocess.PIPE)
            (wheel,) = glob.glob(os.path.join(self.dir, "*.whl"))
            with open(wheel, "rb") as file:
                content = file.read()
        with open(wheel, "rb") as file:
            self.assertEqual(content, file.read())
        self.assertIn("dblock/py.typed", zipfile.ZipFile(wheel).namelist())

        home = os.path.join(self.dir, "venv")
        venv.create(home, with_pip=True)
        python = os.path.join(home, "bin", "python")
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        install = [python, "-m", "pip", "install", "-q", "--no-index", "--disable-pip-version-check", wheel]
        subprocess.run(install, check=True, env=env, stdout=subprocess.PIPE)
        script = (
            "import sys, dblock, dblock.sqlite3\n"
            "assert dblock.__file__.startswith(sys.prefix), dblock.__file__\n"
            "from importlib.metadata import version\n"
            "assert version('dblock') == dblock.__version__\n"
            "with dblock.lock(sys.argv[1]): print('locked')\n"
        )
        run = subprocess.run(
            [python, "-I", "-c", script, self.db], check=True, env=env, cwd="/", stdout=subprocess.PIPE, text=True
        )
        self.assertEqual("locked\n", run.stdout)

    @unittest.skipUnless(LINUX or sys.platform == "darwin", "there are wheels for Linux and macOS")
    def test_with_programs(self):
        programs = os.path.join(self.dir, "programs")
        os.mkdir(programs)
        for name in ("dblock", "dblock-stats"):
            shutil.copyfile(os.environ["DBLOCK_BINARY"], os.path.join(programs, name))
        name = wheel_builder.build_wheel(self.dir, binary=programs)
        self.assertRegex(name, r"^dblock-[0-9.]+-py3-none-(manylinux|macosx)_.*\.whl$")
        wheel = os.path.join(self.dir, name)
        with zipfile.ZipFile(wheel) as archive:
            said = {path: (digest, size) for path, digest, size in csv.reader(io.StringIO(archive.read(
                next(path for path in archive.namelist() if path.endswith("/RECORD"))).decode()))}
            self.assertEqual(sorted(archive.namelist()), sorted(said))
            for path, (digest, size) in said.items():
                if path.endswith("/RECORD"):
                    continue
                content = archive.read(path)
                hashed = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                self.assertEqual((f"sha256={hashed}", str(len(content))), (digest, size), path)

        home = os.path.join(self.dir, "venv")
        venv.create(home, with_pip=True)
        bare = files(home)
        python = os.path.join(home, "bin", "python")
        env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DBLOCK_BINARY")}
        env["PATH"] = "/usr/bin:/bin"
        pip = [python, "-m", "pip", "-q", "--disable-pip-version-check"]
        target = os.path.join(self.dir, "target")
        for where in ([], ["--target", target]):
            subprocess.run([*pip, "install", "--no-index", *where, wheel], check=True, env=env)
        # The programs are on PATH themselves, and find each other there.
        bin = os.path.join(home, "bin")
        self.assertEqual({"dblock", "dblock-stats"}, {name for name in os.listdir(bin) if name.startswith("dblock")})
        run = [os.path.join(bin, "dblock"), "-d", self.db, "--", "sh", "-c"]
        if LINUX:
            itself = subprocess.run([*run, "readlink /proc/$PPID/exe"], check=True, env=env, stdout=subprocess.PIPE, text=True)
            self.assertEqual(os.path.join(os.path.realpath(bin), "dblock\n"), itself.stdout)
        self.assertEqual(7, subprocess.run([*run, "exit 7"], env=env).returncode)
        self.assertIn("dblock", subprocess.run([os.path.join(bin, "dblock"), "stats", "--version"], check=True,
                                               env=env, stdout=subprocess.PIPE, text=True).stdout)
        # The client has its own, wherever it was put.
        script = "import sys, dblock\nwith dblock.lock(sys.argv[1]): print(dblock._binary.find_binary())"
        for place in ({}, {"PYTHONPATH": target}):
            found = subprocess.run([python, "-c", script, self.db], check=True, env={**env, **place},
                                   stdout=subprocess.PIPE, text=True)
            self.assertTrue(found.stdout.endswith("/dblock/bin/dblock\n"), found.stdout)
            self.assertEqual(bool(place), found.stdout.startswith(target))
        subprocess.run([*pip, "uninstall", "-y", "dblock"], check=True, env=env)
        self.assertEqual(bare, files(home))

    def test_a_wheel_is_tagged_as_its_programs_are(self):
        for program, tag in (
            (elf(62), "manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64"),
            (elf(183, 3), "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64"),
            (elf(243), "manylinux_2_31_riscv64.musllinux_1_2_riscv64"),
            (mach(0x0100000C, 12 << 16), "macosx_12_0_arm64"),
            (mach(0x01000007, 13 << 16 | 3 << 8), "macosx_14_0_x86_64"),
        ):
            self.assertEqual(tag, wheel_builder.platform(program))
        for other in (elf(62, 9), elf(8), b"#!/bin/sh\n", b""):  # FreeBSD, MIPS
            self.assertRaises(ValueError, wheel_builder.platform, other)

    def test_programs_that_do_not_go_together(self):
        self.assertRaises(FileNotFoundError, wheel_builder.build_wheel, self.dir, binary=self.dir)
        for name, machine in (("dblock", 62), ("dblock-stats", 183)):
            with open(os.path.join(self.dir, name), "wb") as file:
                file.write(elf(machine))
        self.assertRaises(ValueError, wheel_builder.build_wheel, self.dir, binary=self.dir)
        self.assertEqual([], glob.glob(os.path.join(self.dir, "*.whl")))


if __name__ == "__main__":
    unittest.main()

"""Builds the wheel: `python3 wheel_builder.py [DIRECTORY]` puts it into dist/.

Also a build backend (PEP 517), so that `pip install .` and `python -m build --wheel` work
without anything else.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sys
import zipfile
from typing import Any, List, Optional

HERE = os.path.dirname(os.path.abspath(__file__))
TAG = "py3-none-any"

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
        f"Requires-Python: {field('requires-python')}\n"
        "Classifier: Operating System :: POSIX\n"
        "Classifier: Programming Language :: Python :: 3\n"
        "Classifier: Typing :: Typed\n"
        "Description-Content-Type: text/markdown\n"
        "\n" + read("README.md")
    )


def build_wheel(
    wheel_directory: str, config_settings: Optional[Any] = None, metadata_directory: Optional[str] = None
) -> str:
    """Write the wheel into wheel_directory and return its file name."""
    name, version = field("name"), field("version")
    info = f"{name}-{version}.dist-info"
    files = {}
    for folder, folders, names in os.walk(os.path.join(HERE, "src")):
        folders[:] = sorted(each for each in folders if each != "__pycache__")
        for each in sorted(names):
            path = os.path.join(folder, each)
            with open(path, "rb") as file:
                files[os.path.relpath(path, os.path.join(HERE, "src"))] = file.read()
    files[f"{info}/METADATA"] = metadata().encode()
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: wheel_builder\nRoot-Is-Purelib: true\nTag: {TAG}\n".encode()
    )
    record = ""
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(content)}\n"
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()

    file_name = f"{name}-{version}-{TAG}.whl"
    os.makedirs(wheel_directory, exist_ok=True)
    with zipfile.ZipFile(os.path.join(wheel_directory, file_name), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, TIME)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return file_name


def get_requires_for_build_wheel(config_settings: Optional[Any] = None) -> List[str]:
    return []


if __name__ == "__main__":
    target = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "dist")
    print(os.path.join(target, build_wheel(target)))

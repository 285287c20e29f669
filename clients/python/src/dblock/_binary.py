"""Where the program is."""

from __future__ import annotations

import os
import shutil
from typing import Optional

from ._errors import DblockNotFound

HINT = (
    "install it with `sh install.sh` from a checkout of dblock, which puts it into ~/.local/bin; "
    "or name it in DBLOCK_BINARY, or with binary="
)


def find_binary(binary: Optional[str] = None) -> str:
    """The absolute path of dblock.

    Looked for in this order: the argument, DBLOCK_BINARY, inside this package,
    on PATH. One that is named has to be there; nothing else is tried instead.

    Raises DblockNotFound.
    """
    named = binary or os.environ.get("DBLOCK_BINARY")
    if named:
        found = shutil.which(os.path.expanduser(named))
        if found is None:
            origin = "binary=" if binary else "DBLOCK_BINARY"
            raise DblockNotFound(f"{origin} names {named!r}, which is no program", hint=HINT)
        return os.path.abspath(found)
    inside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "dblock")
    if os.access(inside, os.X_OK):
        return inside
    found = shutil.which("dblock")
    if found is None:
        raise DblockNotFound(f"the program dblock was not found on PATH; {HINT}", hint=HINT)
    return os.path.abspath(found)

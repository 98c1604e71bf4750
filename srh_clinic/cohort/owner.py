"""Which process has a case in hand, and whether it is gone."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path


def this_process() -> str:
    """A name that no other process has or will have: the machine since it was started, the process and when it began."""
    return f"{_place()} {os.getpid()} {_began(os.getpid())}"


def is_gone(owner: str) -> bool:
    """Whether a process of this machine has ended. Of one elsewhere nothing is known: its lease runs out."""
    place, _, rest = owner.partition(" ")
    process, _, began = rest.partition(" ")
    return bool(began) and place == _place() and began != _began(int(process))


def is_elsewhere(owner: str) -> bool:
    """Whether a process is one of which nothing can be known here."""
    return owner.partition(" ")[0] != _place()


@cache
def _place() -> str:
    """This machine, since when it runs, and the namespace in which process ids are its own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        names = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # not Linux
        boot, names = "", 0
    return f"{socket.gethostname().replace(' ', '_')}:{boot}:{names}"


def _began(process: int) -> str:
    """When a process began, in ticks since the machine's start; nothing of one that has ended, or where this is not told."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]

"""Reads mutated files in a process of its own, with a bound on memory and a watch on time and on what is opened.

``python fuzz_worker.py GROUP EXAMPLES SEED KEEP`` prints one line of JSON: how many files ended how, and what was found. Files
that were found to do harm are kept in the folder KEEP.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from fuzz_mutations import LARGEST, mutate
from fuzz_seeds import Seed, seeds
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from srh_clinic.errors import InputError

SECONDS = 2.0
"""Of the processor, that a file may take: a busy machine is no fault of a file."""

STUCK_SECONDS = 20.0
BYTES = 2**30

_WATCHED = {
    "open",
    "os.listdir",
    "os.scandir",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "shutil.rmtree",
    "os.truncate",
    "subprocess.Popen",
    "os.system",
    "socket.connect",
    "socket.getaddrinfo",
}


class Stuck(BaseException):
    """The processor's time is up; no reader may take it for damage."""


class Watch:
    """What a file makes its reader open, list or write outside of its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.on = False
        self.strays: list[str] = []
        prefixes = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), *filter(None, sys.path)}
        self.programs = (*prefixes, "/proc/self/", "/dev/urandom", "/dev/null", "/etc/localtime", "/usr/share/zoneinfo")
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on or event not in _WATCHED:
            return
        if not args or isinstance(args[0], int):
            return
        name = os.fsdecode(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else str(args[0])
        place = os.path.realpath(name)
        writes = event != "open" or (len(args) > 2 and isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR)))
        lists = event in ("os.listdir", "os.scandir")
        if place == self.folder or place.startswith(self.folder + os.sep):
            return
        if place.startswith(self.programs) and (lists or not writes):
            return
        self.strays.append(f"{event} {place}")


class Worker:
    """One group of valid files, and what came of their mutations."""

    def __init__(self, group: str, folder: Path, keep: Path) -> None:
        self.inputs = seeds(group)
        self.folder, self.keep = folder, keep
        self.watch = Watch(folder)
        self.outcomes = {"value": 0, "refused": 0, "found": 0}
        self.slowest = 0.0
        self.found: dict[str, dict[str, Any]] = {}
        self.number = 0

    def check_valid(self) -> None:
        """Open every valid file; it loads what readers need and shows that each is read."""
        for one in self.inputs:
            place = self._write(one, one.files[one.mutated])
            one.open(place)

    def run(self, one: Seed, content: bytes) -> None:
        place = self._write(one, content)
        fault, took = self._timed(one, place)
        if took > SECONDS and not (fault or "").startswith("Stuck"):
            # A machine that was held up in between counts that as its processor's time; a file that is slow is slow again.
            fault, took = self._timed(one, self._write(one, content))
        self.slowest = max(self.slowest, took)
        if took > SECONDS and (fault is None or not fault.startswith("Stuck")):
            fault = f"{took:.1f} s"
        if self.watch.strays:
            fault = f"outside: {self.watch.strays[0]}"
            self.watch.strays.clear()
        if fault is not None:
            self.outcomes["found"] += 1
            known = self.found.setdefault(f"{one.name}: {fault}", {"times": 0})
            known["times"] += 1
            if known["times"] == 1:
                kept = self.keep / f"{one.name}-{os.getpid()}-{len(self.found)}"
                shutil.copytree(place, kept)
                known["file"] = str(kept / one.mutated)

    def _timed(self, one: Seed, place: Path) -> tuple[str | None, float]:
        """The fault, and the seconds of the processor's that opening took."""
        began = time.process_time()
        fault = self._open(one, place)
        return fault, time.process_time() - began

    def _open(self, one: Seed, place: Path) -> str | None:
        if one.prepare is not None:
            with suppress(ValueError, OSError, LookupError, TypeError):  # too damaged for its checksums to be made anew
                one.prepare(place)
        signal.setitimer(signal.ITIMER_PROF, STUCK_SECONDS)
        self.watch.on = True
        try:
            one.open(place)
            self.outcomes["value"] += 1
        except InputError as error:
            self.outcomes["refused"] += 1
            cause: BaseException | None = error
            while cause is not None:
                if isinstance(cause, MemoryError):
                    return f"MemoryError behind: {error.found}"
                cause = cause.__cause__ or cause.__context__
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "srh_clinic" in frame.filename]
            where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
            return f"{type(error).__name__} at {where}"
        finally:
            self.watch.on = False
            signal.setitimer(signal.ITIMER_PROF, 0)
        return None

    def _write(self, one: Seed, content: bytes) -> Path:
        """The files of an input in a folder of its own; the last one's are gone."""
        shutil.rmtree(self.folder / f"{self.number}", ignore_errors=True)
        self.number += 1
        place = self.folder / f"{self.number}"
        for name, whole in {**one.files, one.mutated: content}.items():
            file = place / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(whole)
        return place


def _stuck(number: int, frame: FrameType | None) -> None:
    raise Stuck


def _bound_memory() -> None:
    """Let the process take one GiB more than it has: whoever asks for more gets a MemoryError, which is found."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        limit = pages * os.sysconf("SC_PAGE_SIZE") + BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(group: str, examples: int, number: int, keep: Path) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, _stuck)
    shared = Path("/dev/shm")  # noqa: S108 - memory in place of a disk
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        worker = Worker(group, Path(folder).resolve(), keep)
        worker.check_valid()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        _bound_memory()

        numbers = st.integers(0, LARGEST)
        edits = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=3)

        @seed(number)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.integers(0, len(worker.inputs) - 1), edits)
        def read(which: int, how: list[tuple[int, int, int]]) -> None:
            one = worker.inputs[which]
            worker.run(one, mutate(one.files[one.mutated], one.format, how))

        read()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "group": group,
        "files": worker.number - len(worker.inputs),
        "outcomes": worker.outcomes,
        "slowest_s": round(worker.slowest, 3),
        "peak_mib": round(peak / 1024),
        "grown_mib": round((peak - before) / 1024),
        "found": worker.found,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))

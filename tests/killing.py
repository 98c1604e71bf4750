"""Kill calls of the command line at random moments, call them again, and compare with a call that nobody killed.

::

    make kill                                # from the root: 200 kills
    cd tests && python killing.py --kills 40 --seed 0 --only diagnose restore

Each trial kills a call with SIGKILL at a moment drawn from the time that a whole call takes, looks at what stands under the
names that are read, and makes the same call again. Then every file must be that of the call that was not killed, nothing else
may be left, and no tile that was finished before the kill may have been computed again. In every second trial an earlier
result, made with other settings, stands in the place. A command is added to :data:`COMMANDS`.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

CASE, STACK = "case.dcm", "stack.tif"
"""What calls read, in the folder that they run in."""

TILES = "tiles.log"
"""A line for each tile that a call has finished."""


@dataclass(frozen=True)
class Command:
    """A call under test.

    ``call`` and ``earlier`` are arguments of ``srh-clinic``; ``earlier`` is called in every second trial before the kill.
    ``whole`` are names of which, where it stands, all other files of its folder must be of one call.
    """

    call: tuple[str, ...]
    earlier: tuple[str, ...] = ()
    whole: str | None = None


FILTER = ("--device", "cpu", "--restorer", "nlm")
COMMANDS = {
    "diagnose": Command(
        ("diagnose", CASE, "--out", "out", "--html", "--dicom-out", "restored", *FILTER),
        ("diagnose", CASE, "--out", "out", "--html", "--device", "cpu", "--restorer", "none", "--seed", "7"),
        "out/result.json",
    ),
    "restore": Command(("restore", CASE, "restored", *FILTER)),
    "convert": Command(("convert", STACK, "converted", "--um-per-px", "0.47", "--full-scale", "65536")),
}


@dataclass
class Tally:
    """What came of the trials of one command."""

    kills: int = 0
    before_the_kill: int = 0
    mixtures: int = 0
    refused: int = 0
    wrong_files: int = 0
    left_behind: int = 0
    tiles_kept: int = 0
    tiles_twice: int = 0
    faults: list[str] = field(default_factory=list)


def warm_up() -> None:
    """Import what the calls need, so that forks of this process begin at once; nothing is computed before they fork."""
    import matplotlib.figure
    import monai.networks.nets
    import pydicom
    import scipy.ndimage
    import skimage.restoration
    import timm
    import torch

    import srh_clinic.case.pipeline
    import srh_clinic.casepage
    import srh_clinic.classifiers
    import srh_clinic.cli.app
    import srh_clinic.integration
    import srh_clinic.restorers
    import srh_clinic.trust

    torch.set_num_threads(1)
    del matplotlib, monai, pydicom, scipy, skimage, timm, srh_clinic


def begin(folder: Path, call: Sequence[str]) -> int:
    """The process id of a call that runs in ``folder``."""
    process = os.fork()
    if process:
        return process
    try:
        os.chdir(folder)
        log = os.open(folder / "said.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _log_tiles()
        sys.argv = ["srh-clinic", *call]
        from srh_clinic.cli.app import main

        main()
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(int(end.code or 0))
    finally:
        os._exit(1)


def _log_tiles() -> None:
    """Note each tile that is whole on the disk. What was computed and not yet kept when the kill came was in flight."""
    from srh_clinic.tiling import TileStore

    put = TileStore.put

    def noted(store: TileStore, index: int, *rest: object) -> None:
        put(store, index, *rest)  # type: ignore[arg-type]
        with Path(TILES).open("a", encoding="utf-8") as log:
            log.write(f"{store.fingerprint} {index}\n")

    TileStore.put = noted  # type: ignore[method-assign, assignment]


def end(process: int, after: float | None = None) -> int | None:
    """The exit code of a call; None when it was killed ``after`` so many seconds."""
    until = None if after is None else time.monotonic() + after
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if until is not None and time.monotonic() >= until:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return None
        time.sleep(0.002)


def contents(folder: Path) -> dict[str, str]:
    """A fingerprint of every file below a folder without what tells the time; of a folder its name alone."""
    skipped = {CASE, STACK, TILES, "said.log"}
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in skipped:
            found[name] = "folder" if path.is_dir() else hashlib.sha256(timeless(path)).hexdigest()
    return found


def timeless(path: Path) -> bytes:
    """A file's content without the moments and durations in it."""
    if path.name == "result.json":
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            said.pop("timing", None)
            said.get("made", {}).pop("at", None)
            return json.dumps(said).encode()
        except ValueError:
            return path.read_bytes()
    if path.suffix == ".html":
        return re.sub(rb"<dt>Time</dt>.*?</dd>", b"", path.read_bytes(), flags=re.DOTALL)
    if path.suffix == ".dcm":
        import pydicom

        try:
            image = pydicom.dcmread(path)
            return f"{image.SOPInstanceUID} {image.SeriesInstanceUID}".encode() + image.PixelData
        except Exception:
            return b"broken " + path.read_bytes()
    return path.read_bytes()


def mixed(found: Mapping[str, str], whole: str, results: Sequence[Mapping[str, str]]) -> bool:
    """Whether the folder of ``whole`` claims to be a result and is none of ``results``."""
    if whole not in found:
        return False
    below = whole.rpartition("/")[0] + "/"

    def visible(contents: Mapping[str, str]) -> dict[str, str]:
        return {name: it for name, it in contents.items() if name.startswith(below) and "/." not in name}

    return all(visible(found) != visible(result) for result in results)


def twice(folder: Path) -> tuple[int, int]:
    """Tiles that calls in a folder finished, and those among them that were finished more than once."""
    log = folder / TILES
    counted = Counter(log.read_text(encoding="utf-8").splitlines()) if log.exists() else Counter()
    return len(counted), sum(number > 1 for number in counted.values())


def prepare(work: Path) -> Path:
    """A folder with the images that calls read."""
    import tifffile

    from srh_clinic.integration import write_wsi
    from srh_clinic.slide import ArraySlide, Identity

    source = work / "source"
    source.mkdir()
    rng = np.random.default_rng(0)
    counts = np.clip(9_000 + 2_500 * rng.standard_normal((2, 700, 700)), 0, 65_535).astype(np.uint16)
    write_wsi(ArraySlide(counts, 0.47, Identity(patient_id="P1")), source / CASE)
    tifffile.imwrite(source / STACK, counts, photometric="minisblack", metadata={"axes": "CYX"})
    return source


def kill_one(command: Command, work: Path, kills: int, rng: np.random.Generator, tell: Callable[[str], None]) -> Tally:
    """Trials of one command."""
    tally, sources = Tally(), work / "source"
    plain = Path(shutil.copytree(sources, work / "plain"))
    began = time.monotonic()
    if end(begin(plain, command.call)) != 0:
        raise SystemExit((plain / "said.log").read_text())
    takes, wanted = time.monotonic() - began, contents(plain)
    older: dict[str, str] = {}
    if command.earlier:
        before = Path(shutil.copytree(sources, work / "before"))
        if end(begin(before, command.earlier)) != 0:
            raise SystemExit((before / "said.log").read_text())
        older = contents(before)
    tell(f"a whole call takes {takes:.1f} s")
    for number in itertools.count():
        if tally.kills == kills:
            break
        with_earlier = bool(command.earlier) and number % 2 == 1
        place = Path(shutil.copytree(work / "before" if with_earlier else sources, work / "trial"))
        (place / TILES).unlink(missing_ok=True)
        code = end(begin(place, command.call), float(rng.uniform(0, takes)))
        tally.kills += code is None
        tally.before_the_kill += code is not None
        if command.whole and mixed(contents(place), command.whole, [wanted, older]):
            tally.mixtures += 1
        finished = twice(place)[0]
        again = end(begin(place, command.call))
        said = (place / "said.log").read_text(errors="replace").strip()
        if again != 0:
            tally.refused += 1
            tally.faults.append(f"trial {number}: exit code {again}: {said[-300:]}")
        found = contents(place)
        wrong = [name for name in wanted if found.get(name) != wanted[name]]
        left = [name for name in found if name not in wanted]
        tally.wrong_files += len(wrong)
        tally.left_behind += len(left)
        if wrong or left:
            tally.faults.append(f"trial {number}: wrong {wrong[:5]}, left behind {left[:5]}")
        if code is None:  # a call that had come to its end has cleaned up, and the next one begins anew
            tally.tiles_kept += finished
            tally.tiles_twice += twice(place)[1]
        shutil.rmtree(place)
    shutil.rmtree(plain)
    shutil.rmtree(work / "before", ignore_errors=True)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=200, help="trials over all commands")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", nargs="*", choices=sorted(COMMANDS), default=list(COMMANDS), help="commands")
    asked = parser.parse_args()
    warm_up()
    rng, bad = np.random.default_rng(asked.seed), False
    print("| command | kills | ended before | mixtures | refused | wrong files | left behind | tiles kept | tiles twice |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="srh-clinic-kill-") as folder:
        prepare(Path(folder))
        for place, name in enumerate(asked.only):
            share = asked.kills // len(asked.only) + (place < asked.kills % len(asked.only))
            tally = kill_one(COMMANDS[name], Path(folder), share, rng, lambda said: print(said, file=sys.stderr, flush=True))
            numbers = (tally.kills, tally.before_the_kill, tally.mixtures, tally.refused, tally.wrong_files, tally.left_behind)
            print(f"| {name} | {' | '.join(map(str, (*numbers, tally.tiles_kept, tally.tiles_twice)))} |", flush=True)
            for fault in tally.faults[:10]:
                print(f"{name}, {fault}", file=sys.stderr, flush=True)
            bad |= any((*numbers[2:], tally.tiles_twice))
    sys.exit(int(bad))


if __name__ == "__main__":
    main()

"""End calls of the command line at random moments, call them again, and compare with a call that nobody ended.

::

    make kill                                # from the root: 200 kills
    cd tests && python killing.py --kills 40 --seed 0 --only diagnose restore

Each trial ends a call with SIGKILL or SIGTERM, by turns. Of three trials two have a moment that is drawn from the processor's
time that a whole call takes; the third is aimed at writing: it ends the call just before one of the times that it opens a file
to write, renames, links or removes one, drawn from all of them. Networks are very small and matplotlib draws nothing, to have
more kills an hour. Then the trial looks at what stands under the names that are read, and
makes the same call again. Every file must be that of the call that was not ended, nothing else may be left, in the folder for
temporary files neither, and no tile that was finished before may have been computed again. In every second trial an earlier
result, made with other settings, stands in the place. A command is added to :data:`COMMANDS`.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tiny_networks import save_tiny_bundle

CASE, STACK, COHORT = "case.dcm", "stack.tif", "cohort"
"""What calls read, in the folder that they run in."""

SALT = ".study.partial/salt"
"""Secret of the study that is exported, as an export that was cut leaves it: so that two exports can be compared."""

SIGNALS = (signal.SIGKILL, signal.SIGTERM)
"""What ends calls, by turns."""

TILES, WRITES, TEMPORARY = "tiles.log", "writes.log", "tmp"
"""A line for each tile that a call has finished; how often it has written; its folder for temporary files."""


@dataclass(frozen=True)
class Command:
    """A call under test.

    ``call`` and ``earlier`` are arguments of ``srh-clinic``; ``earlier`` is called in every second trial before the kill.
    ``whole`` are names of which, where it stands, all other files of its folder must be of one call.
    """

    call: tuple[str, ...]
    earlier: tuple[str, ...] = ()
    whole: str | None = None


TINY = "../source/tiny"
"""A bundle of very small networks."""

NETWORKS = ("--device", "cpu", "--bundle", TINY)
COMMANDS = {
    "diagnose": Command(
        ("diagnose", CASE, "--out", "out", "--html", "--dicom-out", "restored", *NETWORKS),
        ("diagnose", CASE, "--out", "out", "--html", *NETWORKS, "--restorer", "none", "--seed", "7"),
        "out/result.json",
    ),
    "preview": Command(("diagnose", CASE, "--out", "out", "--preview", *NETWORKS), whole="out/result.json"),
    "restore": Command(("restore", CASE, "restored", *NETWORKS)),
    "convert": Command(("convert", STACK, "converted", "--um-per-px", "0.47", "--full-scale", "65536")),
    "export": Command(
        (
            *("study", "export", "study", "--phantom", "4", "--restorers", "nlm,median", "--raters", "2", "--repeats", "0"),
            *("--sentinels", "none", *NETWORKS),
        ),
        whole="study/study.log",
    ),
    "validate": Command(("validate", f"{COHORT}/manifest.csv", "--out", "report", *NETWORKS)),
}


FAULTS = ("mixtures", "refused", "wrong files", "left behind")


@dataclass
class Tally:
    """What came of the trials of one command."""

    kills: int = 0
    aimed: int = 0
    terminated: int = 0
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
    import srh_clinic.validation.shift.running
    import srh_clinic.validation.shift.validate
    import srh_clinic.validation.study.export

    torch.set_num_threads(1)
    draw_little(matplotlib.figure.Figure)
    del matplotlib, monai, pydicom, scipy, skimage, timm, srh_clinic


def draw_little(figure: Any) -> None:
    """A picture of no size in the place of each drawing, which takes seconds; a case's are drawn before they are saved."""
    from PIL import Image

    from srh_clinic.case import pictures

    pictures._map_sheet = pictures._summary_sheet = lambda *of: None  # type: ignore[assignment, return-value]
    pictures._drawn = lambda sheet: np.zeros((8, 8, 4), np.uint8)
    save = figure.savefig

    def small(self: object, path: object, **how: object) -> None:
        if isinstance(path, Path):
            Image.new("L", (8, 8)).save(path, "png")
        else:
            save(self, path, **how)

    figure.savefig = small


def begin(folder: Path, call: Sequence[str], aim: tuple[int, signal.Signals] | None = None) -> int:
    """The process id of a call that runs in ``folder``; with ``aim`` it ends itself just before that time of writing."""
    process = os.fork()
    if process:
        return process
    try:
        os.chdir(folder)
        log = os.open(folder / "said.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        (folder / TEMPORARY).mkdir(exist_ok=True)
        tempfile.tempdir = str(folder / TEMPORARY)
        _log_tiles()
        _count_writing(folder, aim)
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
        log = os.open(TILES, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(log, f"{store.fingerprint} {index}\n".encode())
        os.close(log)

    TileStore.put = noted  # type: ignore[method-assign, assignment]


def _count_writing(folder: Path, aim: tuple[int, signal.Signals] | None) -> None:
    """Count the times that this process changes names in a folder, or opens a file there to write, and end it at one."""
    ours = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "shutil.rmtree"}
    done = 0

    def hook(event: str, said: tuple[Any, ...]) -> None:
        nonlocal done
        writes = event in ours or (event == "open" and isinstance(said[2], int) and said[2] & (os.O_WRONLY | os.O_RDWR))
        if not writes or not isinstance(said[0], str | bytes | os.PathLike):
            return
        place = Path(os.fsdecode(said[0]))
        if place.name in {TILES, WRITES} or (place.is_absolute() and folder not in place.parents):
            return
        done += 1
        if aim is None:
            log = os.open(WRITES, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.write(log, str(done).encode())
            os.close(log)
        elif done == aim[0]:
            os.kill(os.getpid(), aim[1])

    sys.addaudithook(hook)


def end(process: int, after: float | None = None, by: signal.Signals = signal.SIGKILL) -> int:
    """The exit code of a call, minus the signal's number when that ended it.

    It is sent ``by`` once it has had ``after`` seconds of the processor, which other work on the machine does not stretch.
    """
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if after is not None and _seconds_of(process) >= after:
            os.kill(process, by)
            return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        time.sleep(0.002)


def _seconds_of(process: int) -> float:
    """Processor time that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _seconds_of_ended() -> float:
    """Processor time of all calls that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def contents(folder: Path) -> dict[str, str]:
    """A fingerprint of every file below a folder without what tells the time; of a folder its name alone."""
    skipped = {CASE, STACK, COHORT, TILES, WRITES, TEMPORARY, "said.log"}
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in skipped and not name.startswith(f"{COHORT}/"):
            found[name] = "folder" if path.is_dir() else hashlib.sha256(timeless(path)).hexdigest()
    return found


def timeless(path: Path) -> bytes:
    """A file's content without the moments and durations in it."""
    if path.name in ("result.json", "case.json"):
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            result = said.get("result", said)
            result.pop("timing", None)
            result.get("made", {}).pop("at", None)
            return json.dumps(said).encode()
        except ValueError:
            return path.read_bytes()
    if path.suffix == ".html":
        return re.sub(rb"<dt>Time</dt>.*?</dd>", b"", path.read_bytes(), flags=re.DOTALL)
    if path.name == "study.log":
        return re.sub(rb'"(when|prev_hash|seal)":"[^"]*"', b"", path.read_bytes())
    if path.name == "log.head":
        return b"hash of the log's last line"
    if path.suffix == ".dcm":
        import pydicom

        try:
            document = pydicom.dcmread(path)
            document.walk(lambda level, element: level.pop(element.tag) if element.VR in ("DA", "TM", "DT") else None)
            document.save_as(whole := io.BytesIO())
            return whole.getvalue()
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
    from srh_clinic.validation import write_cohort

    source = work / "source"
    source.mkdir()
    rng = np.random.default_rng(0)
    counts = np.clip(9_000 + 2_500 * rng.standard_normal((2, 480, 480)), 0, 65_535).astype(np.uint16)
    write_wsi(ArraySlide(counts, 0.47, Identity(patient_id="P1")), source / CASE)
    tifffile.imwrite(source / STACK, counts, photometric="minisblack", metadata={"axes": "CYX"})
    write_cohort(source / COHORT, 3, 1, [0], 300, 0)
    save_tiny_bundle(source / "tiny")
    (source / SALT).parent.mkdir(mode=0o700)
    (source / SALT).write_bytes(bytes(range(32)))
    return source


def laid_out(sources: Path, place: Path, command: Command) -> Path:
    """A folder for a call, with what it reads."""
    shutil.copytree(sources, place)
    if command.call[:2] != ("study", "export"):
        shutil.rmtree((place / SALT).parent, ignore_errors=True)
    for name in (TILES, WRITES):
        (place / name).unlink(missing_ok=True)
    return place


def kill_one(command: Command, work: Path, kills: int, rng: np.random.Generator, tell: Callable[[str], None]) -> Tally:
    """Trials of one command."""
    tally, sources = Tally(), work / "source"
    plain = laid_out(sources, work / "plain", command)
    began = _seconds_of_ended()
    if end(begin(plain, command.call)) != 0:
        raise SystemExit((plain / "said.log").read_text())
    takes, wanted, writes = _seconds_of_ended() - began, contents(plain), int((plain / WRITES).read_text())
    older: dict[str, str] = {}
    if command.earlier:
        before = laid_out(sources, work / "before", command)
        if end(begin(before, command.earlier)) != 0:
            raise SystemExit((before / "said.log").read_text())
        older = contents(before)
    tell(f"a whole call takes {takes:.1f} s of the processor and writes {writes} times")
    for number in itertools.count():
        if tally.kills == kills:
            break
        earlier = command.earlier and number % 2 == 1
        by, aimed = SIGNALS[number // 2 % 2], number % 3 == 2
        place = laid_out(work / "before" if earlier else sources, work / "trial", command)
        if aimed:
            code = end(begin(place, command.call, (int(rng.integers(writes)) + 1, by)))
        else:
            code = end(begin(place, command.call), float(rng.uniform(0, takes)), by)
        ended = code in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM)
        tally.kills += ended
        tally.aimed += ended and aimed
        tally.terminated += ended and by == signal.SIGTERM
        tally.before_the_kill += not ended
        name = f"trial {number}, {by.name}{', aimed' if aimed else ''}"
        if not ended and code:
            tally.faults.append(f"{name}: exit code {code}: {(place / 'said.log').read_text(errors='replace')[-300:]}")
        if command.whole and mixed(contents(place), command.whole, [wanted, older]):
            tally.mixtures += 1
            tally.faults.append(f"{name}: a mixture")
        judge(command, place, wanted, tally, name)
        shutil.rmtree(place)
    shutil.rmtree(plain)
    shutil.rmtree(work / "before", ignore_errors=True)
    return tally


def judge(command: Command, place: Path, wanted: Mapping[str, str], tally: Tally, name: str) -> None:
    """Make the call again, and count what is wrong then."""
    finished = twice(place)[0]
    shutil.rmtree(place / TEMPORARY)  # the system's business after a power cut or SIGKILL; nothing of ours may need it
    again = end(begin(place, command.call))
    if again != 0:
        tally.refused += 1
        tally.faults.append(f"{name}: exit code {again}: {(place / 'said.log').read_text(errors='replace').strip()[-300:]}")
    found = contents(place)
    wrong = [file for file in wanted if found.get(file) != wanted[file]]
    left = [file for file in found if file not in wanted]
    tally.wrong_files += len(wrong)
    tally.left_behind += len(left)
    repeated = twice(place)[1]
    if wrong or left or repeated:
        tally.faults.append(f"{name}: wrong {wrong[:5]}, left behind {left[:5]}, tiles twice {repeated}")
    tally.tiles_kept += finished
    tally.tiles_twice += repeated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=200, help="trials over all commands")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", nargs="*", choices=sorted(COMMANDS), default=list(COMMANDS), help="commands")
    asked = parser.parse_args()
    warm_up()
    rng, bad = np.random.default_rng(asked.seed), False
    columns = ("command", "kills", "aimed", "SIGTERM", "ended before", *FAULTS, "tiles kept", "tiles twice")
    print(f"| {' | '.join(columns)} |")
    print(f"|{'---|' * len(columns)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="srh-clinic-kill-") as folder:
        prepare(Path(folder))
        for place, name in enumerate(asked.only):
            share = asked.kills // len(asked.only) + (place < asked.kills % len(asked.only))
            tally = kill_one(COMMANDS[name], Path(folder), share, rng, lambda said: print(said, file=sys.stderr, flush=True))
            first = (tally.kills, tally.aimed, tally.terminated, tally.before_the_kill)
            faults = (tally.mixtures, tally.refused, tally.wrong_files, tally.left_behind)
            row = (*first, *faults, tally.tiles_kept, tally.tiles_twice)
            print(f"| {name} | {' | '.join(map(str, row))} |", flush=True)
            for fault in tally.faults[:10]:
                print(f"{name}, {fault}", file=sys.stderr, flush=True)
            bad |= any((*faults, tally.tiles_twice))
    sys.exit(int(bad))


if __name__ == "__main__":
    main()

"""What the commands share: their options, the guard around each of them, progress, and the tiles of an interrupted call."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from srh_clinic.cli.output import FRAMED, Terminal, nobody_reads_on, tell
from srh_clinic.errors import ExitCode, InputError
from srh_clinic.files import beside, claimed, require_no_link

if TYPE_CHECKING:
    from srh_clinic.progress import Progress

P = ParamSpec("P")
R = TypeVar("R")

ENDED = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Terminated.", signal.SIGHUP: "Hung up."}
"""Signals after which a call cleans up, says so, and exits as shells report it: with 128 and the signal's number."""


class Ended(KeyboardInterrupt):
    """A signal other than Ctrl-C that ends a call in the same way."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)


def given_path(text: str) -> Path:
    """A path as it was given. An empty one, as of a variable that is not set, would be the working folder."""
    if not text.strip():
        raise typer.BadParameter("found an empty name; needed that of a file or folder (the working folder is .)")
    return Path(text)


CaseArgument = Annotated[
    Path, typer.Argument(metavar="CASE", parser=given_path, help="A DICOM file or folder, or a two-channel TIFF.")
]
DicomArgument = Annotated[
    Path, typer.Argument(metavar="OUT", parser=given_path, help="A .dcm file, or a folder that gets one file per Raman shift.")
]
BundleArgument = Annotated[
    str, typer.Argument(metavar="NAME|DIR", help="Name of a bundle in the package, or a bundle's folder.")
]
BundleFolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the bundle.")]
StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")]

ReportsOption = Annotated[Path, typer.Option(help="Folder for the reports, as Markdown and JSON.")]
BundleOption = Annotated[
    str, typer.Option(metavar="NAME|DIR", help="The networks: the name of a bundle in the package, or a bundle's folder.")
]
WeightsOption = Annotated[Path, typer.Option("--weights", help="Folder of the bundles that only comparisons use.")]
RestorerOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Restorer: rscd or, to compare, none, median, gaussian, nlm, wavelet, deep_image_prior, ccdf, rrd or "
        "a baseline of a bundle.",
    ),
]
SamplerOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="How rscd takes its steps: direct, ddim, ancestral (as in the paper) or mean."),
]
ProfileOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="When rscd stops: paper-text, paper-algorithm1 or official.")
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="What the denoiser is computed in: float32 or bf16; by default the faster one here."),
]
DeviceOption = Annotated[str, typer.Option(metavar="NAME", help="Device to compute on: auto, cpu, cuda, cuda:1 and so on.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the restorer's noise.")]
TissueSeedOption = Annotated[int, typer.Option(min=0, help="Seed of the tissue and of its degradation.")]
RatersSeedOption = Annotated[int, typer.Option(min=0, help="Seed of the simulated raters.")]
UmPerPxOption = Annotated[float | None, typer.Option(help="Pixel size in um, where the file does not state it.")]
FullScaleOption = Annotated[
    int | None, typer.Option(help="Stored value at full scale, where the file does not state it: 4096 for 12 bits.")
]
ChannelsOption = Annotated[
    str | None,
    typer.Option(
        metavar="CH3,CH2",
        help="What each channel is, in the file's order ('-' for one that is neither), where the file does not say it; or the "
        "positions (2,1) or names of CH2 and CH3.",
    ),
]
PlaneOption = Annotated[int | None, typer.Option(min=1, help="Focal plane, from 1, of a case with several.")]
FlatFieldOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What is taken off the strips of an NIO imager: none, columns (one profile for all) or gaussian (each over its "
        "own of 301 px).",
    ),
]
OtherChannelOption = Annotated[
    Path | None,
    typer.Option("--ch3", metavar="FILE", parser=given_path, help="CH3's file, where each channel has one and CASE is CH2's."),
]
DataOption = Annotated[
    str,
    typer.Option(
        metavar="DIR|CSV|phantom",
        help="Images (a folder, an OpenSRH tree, a manifest), a folder of pools, or phantom to simulate the data.",
    ),
]
HtmlOption = Annotated[bool, typer.Option("--html", help="Also write case.html, a page to look at the case offline.")]

QuPathOption = Annotated[
    bool,
    typer.Option("--qupath", help="Also write qupath.geojson, patches.csv and a script that loads them in QuPath."),
]

FhirOption = Annotated[
    bool, typer.Option("--fhir", help="Also write fhir.json, a FHIR R5 DiagnosticReport with what it rests on.")
]

ConservativeOption = Annotated[
    bool,
    typer.Option("--conservative", help="Show the original where a restored tile is flagged, and diagnose without that tile."),
]

CertaintyOption = Annotated[
    int, typer.Option(metavar="K", min=0, help="Restore with K further seeds too, and say what they agree on (slow).")
]

PolicyOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|none",
        help="Let this policy decide whether the restored diagnosis stands, the original one, or neither; by default the "
        "one that the bundle carries.",
    ),
]

NoIdentityOption = Annotated[
    bool,
    typer.Option("--no-identity", help="Leave patient, specimen, UIDs and file name out of all that is written."),
]


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a user can mend into one sentence on stderr and exit code 2, and a signal of :data:`ENDED` into its own."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with _ending_by_signal():
                return command(*args, **kwargs)
        except InputError as error:
            sentence = str(error)
        except BrokenPipeError as error:
            raise nobody_reads_on() from error
        except OSError as error:
            sentence = _os_sentence(error)
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, Ended) else signal.SIGINT
            tell(ENDED[number], err=True)
            raise typer.Exit(128 + number) from error
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":
                raise
            sentence = "found too little memory on the device; needed a device with more memory, or --device cpu."
        tell(f"srh-clinic: {sentence}", err=True)
        raise typer.Exit(ExitCode.INPUT)

    return run


@contextmanager
def _ending_by_signal() -> Iterator[None]:
    """Let the signals of :data:`ENDED` raise :class:`Ended` in this process, unless somebody has already said what they do."""
    owner = os.getpid()

    def end(number: int, frame: object) -> None:
        if os.getpid() == owner:
            raise Ended(number)
        signal.signal(number, signal.SIG_DFL)  # a process that was forked, such as a loader of training data, just ends
        os.kill(os.getpid(), number)

    ours = []
    if threading.current_thread() is threading.main_thread():
        ours = [number for number in ENDED if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _os_sentence(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}found no space left on the disk; needed room for the output and, for a while, the restored tiles."
    if isinstance(error, PermissionError):
        return f"{where}found no permission; needed a file or folder that this user may use."
    return f"{where}found {error.strerror or error}; needed a place that can be read and written."


def settings_of(sampler: str | None, profile: str | None, precision: str | None = None) -> dict[str, Any]:
    """The restorer's settings that were given; a restorer without them says so."""
    given = (("sampler", sampler), ("profile", profile), ("precision", precision))
    return {name: value for name, value in given if value is not None}


@contextmanager
def kept_tiles(out: Path | None) -> Iterator[Path | None]:
    """A folder in or beside ``out`` for the restored tiles, while no other run writes there.

    It stays until everything is written: after a signal or a power cut at any stage the same call goes on. Whatever else ends
    a call takes away only what that call has put there.

    Raises
    ------
    InputError
        When another run writes to ``out`` now, or the folder for the tiles is a link.
    """
    if out is None:
        yield None
        return
    with claimed(out), _work(out.resolve()) as work:
        yield work


@contextmanager
def _work(out: Path) -> Iterator[Path]:
    work, around = beside(out, "partial"), out / ".partial"
    # Beside a folder that was not there when the first call began, whether it has come since then or not.
    if out.is_dir() and not work.exists():
        work = around
    require_no_link(work)
    earlier = set(work.iterdir()) if work.is_dir() else set()
    try:
        yield work
    except KeyboardInterrupt:
        if work.exists():
            tell("The tiles restored so far are kept: the same command goes on from there.", err=True)
        raise
    except BaseException:
        for made in set(work.iterdir()) - earlier if work.is_dir() else ():
            shutil.rmtree(made, ignore_errors=True)
        if not earlier:
            shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)


ROOM_FOR_BARS = 76
"""Characters in which a stage has its bar and its times beside its name and a count of six digits."""


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Stages with a bar and the time that is left, on stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    terminal = Terminal(stderr=True)
    columns: tuple[ProgressColumn, ...] = (TextColumn("{task.description:<22}"), MofNCompleteColumn())
    if terminal.width >= ROOM_FOR_BARS:
        columns = (columns[0], BarColumn(), columns[1], TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    elif terminal.width < FRAMED:
        columns = columns[1:]
    with Bars(*columns, console=terminal, speed_estimate_period=600) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, completed=done)
            bars.update(tasks[stage], completed=done, total=total)

        yield report

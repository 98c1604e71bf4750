"""The protocol's benchmarks, one after the other."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from srh_clinic.bundles import load_bundle
from srh_clinic.errors import InputError
from srh_clinic.progress import Progress, silent
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.bench.protocol import load_protocol
from srh_clinic.validation.reporting.report import Report, write_report

PARTS = ("restoration", "calibrator", "classifier", "seams", "real")
"""What :func:`run_protocol` can run."""

PATCHES = "nio_srh_rgb"
BRAIN_FIELD = "srs_brain_zstack/z025.tif"
"""Where a folder of real data holds the patches and the field."""


def real_data_folder() -> Path:
    """Folder of real images: ``$SRH_REAL_DATA``, or ``../shared/data``; it need not exist."""
    return Path(os.environ.get("SRH_REAL_DATA", "../shared/data"))


def run_protocol(
    out: str | Path,
    *,
    only: Collection[str] = PARTS,
    limit: int | None = None,
    limit_slow: int | None = None,
    strides: Sequence[int] = (),
    bundle: str | Path = "phantom-demo",
    device: str = "auto",
    protocol: str | Path | None = None,
    real_data: str | Path | None = None,
    report: Progress = silent,
) -> list[Report]:
    """Make the protocol's reports and write each into ``out`` as Markdown and JSON.

    A run that was cut goes on where it stopped; cells of other weights or of another protocol are left aside.

    Parameters
    ----------
    only
        Parts among :data:`PARTS`.
    limit
        Use only the first so many test phantoms.
    limit_slow
        Restore only the first so many by the samplers that evaluate the network at every step (ancestral and mean).
    strides
        Further strides of the DDIM sampler to compare.
    bundle
        Name or folder of the weights.
    protocol
        Another protocol than the packaged one.
    real_data
        Folder of real images (:func:`real_data_folder` by default). Where it lacks what a part needs, ``real`` is left out and
        ``seams`` says so, unless the part was asked for by name in ``only``.
    report
        Called with the name of the stage, how much of it is done, and how much there is.

    Raises
    ------
    InputError
        When a part is unknown, a limit is not positive, the bundle lacks a network, real images are asked for and not there,
        or ``out`` cannot be written.
    """
    unknown = [part for part in only if part not in PARTS]
    if unknown or not only:
        raise InputError(f"the parts {', '.join(unknown) or 'none'}", "one or more of " + ", ".join(PARTS))
    for name, value in (("limit", limit), ("limit_slow", limit_slow), *(("stride", stride) for stride in strides)):
        if value is not None and value < 1:
            raise InputError(f"a {name} of {value}", "a positive number")
    folder = real_data_folder() if real_data is None else Path(real_data)
    bench = Bench(load_protocol(protocol), load_bundle(bundle), Path(out), device, limit, report)
    made = []
    for part in PARTS:
        if part not in only:
            continue
        if part == "real" and set(only) == set(PARTS) and not (folder / PATCHES).is_dir():
            continue
        one = _run(part, bench, folder, limit_slow, tuple(strides))
        write_report(one, bench.out)
        made.append(one)
    return made


def _run(part: str, bench: Bench, real: Path, limit_slow: int | None, strides: tuple[int, ...]) -> Report:
    """One part; what it needs is imported when it runs."""
    if part == "restoration":
        from srh_clinic.validation.benchmarks.restoration_section import restoration

        return restoration(bench, limit_slow=limit_slow, strides=strides)
    if part == "calibrator":
        from srh_clinic.validation.benchmarks.calibrator import calibration

        return calibration(bench)
    if part == "classifier":
        from srh_clinic.validation.benchmarks.downstream_section import downstream

        return downstream(bench)
    if part == "seams":
        from srh_clinic.validation.benchmarks.seams import phantom_fields, real_field, seams

        field = real / BRAIN_FIELD
        if field.is_file():
            return seams(bench, [*phantom_fields(bench), real_field(field)])
        return seams(bench, phantom_fields(bench), skipped=f"The real brain field is left out: there is no {field}.")
    from srh_clinic.validation.benchmarks.real import real_restoration

    return real_restoration(bench, real / PATCHES, strides=strides)

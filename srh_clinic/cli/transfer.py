"""``pacs push`` and ``pacs fetch``: objects to an archive, and cases from one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srh_clinic.cli.options import guarded, shown_progress
from srh_clinic.cli.output import tell
from srh_clinic.errors import InputError

TITLE = "SRHCLINIC"

TitleOption = Annotated[str, typer.Option(metavar="AET", help="Our own AE title.")]
AuthorityOption = Annotated[
    Path | None,
    typer.Option("--ca", metavar="PEM", help="The authorities to believe about whom we call; by default the system's."),
]
CertificateOption = Annotated[
    Path | None, typer.Option("--cert", metavar="PEM", help="Our certificate, where whom we call asks for one.")
]
KeyOption = Annotated[
    Path | None, typer.Option("--key", metavar="PEM", help="Its key, without a password, where --cert does not hold it.")
]

ADDRESS = "URL|AE@HOST:PORT"

NAMED = 20
"""Objects that are named one by one."""


@guarded
def push(
    objects: Annotated[
        list[Path], typer.Argument(metavar="FILE|FOLDER...", readable=False, help="DICOM files, or folders of them.")
    ],
    to: Annotated[
        str, typer.Option(metavar=ADDRESS, help="A DICOMweb service, or an application entity (dicoms://AE@HOST:PORT by TLS).")
    ],
    title: TitleOption = TITLE,
    ca: AuthorityOption = None,
    cert: CertificateOption = None,
    key: KeyOption = None,
) -> None:
    """Send objects by STOW-RS or C-STORE, and ask the archive for each of them afterwards.

    Exit code 0 says that it has all of them. What it has already may be sent again. Nothing is transcoded.
    """
    import os

    from srh_clinic.pacs.archives import Calling, archive_at
    from srh_clinic.pacs.credentials import Trust
    from srh_clinic.pacs.objects import objects_in
    from srh_clinic.pacs.sending import push as push_objects

    archive = archive_at(to, Calling(title, Trust(ca, cert, key)), os.environ)
    found = objects_in(objects)
    with shown_progress() as progress:
        faults = push_objects(archive, found, progress)
    for one, why in list(faults.items())[:NAMED]:
        tell(f"{one.path}: {why}", err=True)
    if faults:
        found_there = f"{len(found) - len(faults)} of {len(found)} objects there"
        raise InputError(
            found_there, "all of them; what is missing is named above" + ("" if len(faults) <= NAMED else " in part")
        )
    tell(f"{len(found)} objects are there.")


@guarded
def fetch(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar=ADDRESS,
            help="From a DICOMweb service, or an application entity (dicoms://AE@HOST:PORT by TLS).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder that gets a folder for each series, named by a hash of its UID.")],
    study: Annotated[str, typer.Option(metavar="UID", help="The study with this Study Instance UID.")] = "",
    series: Annotated[str, typer.Option(metavar="UID", help="The series with this Series Instance UID.")] = "",
    patient: Annotated[str, typer.Option(metavar="ID", help="Studies of the patient with this Patient ID.")] = "",
    accession: Annotated[str, typer.Option(metavar="NUMBER", help="Studies with this Accession Number.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Series of all modalities, not of slides (SM) alone.")] = False,
    by: Annotated[str, typer.Option(metavar="get|move", help="Fetch from an application entity by C-GET or C-MOVE.")] = "get",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="For C-MOVE: the port at which the archive knows our AE title.")
    ] = 0,
    title: TitleOption = TITLE,
    ca: AuthorityOption = None,
    cert: CertificateOption = None,
    key: KeyOption = None,
) -> None:
    """Fetch cases by QIDO-RS and WADO-RS, or C-FIND and C-GET or C-MOVE, into a folder that cohort run takes.

    What came is counted against what the archive announced; the same call goes on where one before was cut.
    """
    import os
    from typing import get_args

    from srh_clinic.pacs.archives import Calling, archive_at
    from srh_clinic.pacs.credentials import Trust
    from srh_clinic.pacs.dimse import How
    from srh_clinic.pacs.fetching import fetch as fetch_cases
    from srh_clinic.pacs.objects import Wanted

    if by not in get_args(How):
        raise InputError(f"--by {by}", "get or move")
    wanted = Wanted(study, series, patient, accession, **({"modalities": ()} if every else {}))
    calling = Calling(title, Trust(ca, cert, key), "get" if by == "get" else "move", port)
    archive = archive_at(source, calling, os.environ)
    with shown_progress() as progress:
        folders = fetch_cases(archive, wanted, out, progress)
    for folder in folders:
        tell(folder)

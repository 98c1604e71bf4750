"""Cases from an archive into a folder that ``diagnose`` and ``cohort run`` take."""

from __future__ import annotations

from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.files import check_place, claimed
from srh_clinic.pacs.objects import Archive, Instance, Wanted, is_whole, place_of
from srh_clinic.progress import Progress, silent


def fetch(archive: Archive, wanted: Wanted, out: Path, progress: Progress = silent) -> list[Path]:
    """Bring what an archive has of what is wanted; what is there already does not travel again.

    Returns
    -------
    The folders of the series, each a case.

    Raises
    ------
    InputError
        When the archive has nothing of it, or something that it announced did not come; what came is there then.
    """
    check_place(out, folder=True)
    instances = archive.announced(wanted)
    if not instances:
        which = f"{' or '.join(wanted.modalities)} series" if wanted.modalities else "series"
        raise InputError(f"no {which} that matches", "what the archive has; --all asks for series of every modality")
    with claimed(out):
        archive.fetch(instances, out, progress)
    require_all(instances, out)
    return sorted({place_of(one, out).parent for one in instances})


def require_all(instances: list[Instance], folder: Path) -> None:
    """Refuse what has not come whole.

    Raises
    ------
    InputError
        When something is missing.
    """
    missing = sum(not is_whole(place_of(one, folder), one) for one in instances)
    if missing:
        found = f"{len(instances) - missing} of the {len(instances)} objects that the archive announced"
        raise InputError(found, "all of them; the same call fetches what is missing", folder)

"""Images that are added to a running study: each rater judges them on a further page."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from srh_clinic.bundles import load_bundle
from srh_clinic.errors import InputError
from srh_clinic.files import claimed
from srh_clinic.progress import Progress, silent
from srh_clinic.slide import Reading
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.bench.protocol import load_protocol
from srh_clinic.validation.study.amendment import amendable, seal_amendment
from srh_clinic.validation.study.blinding import Blinding, blind
from srh_clinic.validation.study.export import PHANTOM_SEED_BYTES, assignment_of, tasks_of, wanted_images
from srh_clinic.validation.study.folder import (
    Sealed,
    amendments,
    commitment,
    persons,
    read_secrets,
    viewer_path,
)
from srh_clinic.validation.study.images import TILES_PER_CASE, StudyImage, case_images, phantom_images
from srh_clinic.validation.study.log import read_log
from srh_clinic.validation.study.plan import StudyPlan
from srh_clinic.validation.study.records import Amendment, Rater, StudyProtocol, canonical
from srh_clinic.validation.study.restored import RestoredImages
from srh_clinic.validation.study.streams import Stream, drawn, secret_stream
from srh_clinic.validation.study.viewer import Page, write_viewer
from srh_clinic.validation.study.window import planes_of


def add_images(
    study: str | Path,
    reason: str,
    *,
    sources: Sequence[str | Path] = (),
    images: int | None = None,
    reading: Reading | None = None,
    per_case: int = TILES_PER_CASE,
    bundle: str | Path = "phantom-demo",
    weights: str | Path = "weights",
    device: str = "auto",
    report: Progress = silent,
) -> tuple[str, ...]:
    """Add images to a study whose key is sealed, with the restorers and the design of its export.

    Each rater who has not dropped out gets a further page, ``public/RATER-NUMBER/viewer.html``, whose answers are a return of
    their own; the pages of before are not touched, nor is what the export committed to. There are no repeats and no sentinels
    among the new tasks. Everything that raters must not know is drawn from the study's salt and the amendment's number.

    Parameters
    ----------
    sources, reading, per_case, bundle, weights, device
        As of :func:`~srh_clinic.validation.study.export.export_study`. Tiles that the study has already are left out.
    images
        How many: of simulated tissue, or at most so many of the sources.

    Returns
    -------
    The names of the new pages.

    Raises
    ------
    InputError
        When no reason is given, the key was opened, the study was exported by an earlier version or was made with other
        weights, or there is no new image.
    """
    study = Path(study)
    protocol, sealed = amendable(study, reason)
    seen = {entry.source_sha256 for entry in sealed.entries.values()}
    with claimed(study / "public"):
        number = len(amendments(study)) + 1
        salt, plan = drawn(sealed.salt, Stream.AMENDMENTS, number), plan_of(study, protocol, sealed, images)
        chosen = _chosen(plan, [Path(source) for source in sources], reading or Reading(), per_case, salt, seen)
        work = study / f".amendment-{number}.partial"
        bench = Bench(load_protocol(), load_bundle(bundle), work, device, None, report, Path(weights))
        restored = RestoredImages(bench, chosen)
        restored.restore(wanted_images(plan, assignment_of(plan, len(chosen), salt), ()))
        _require_the_same_networks(study, sealed, restored)
        pages = amend_with(study, protocol, sealed, plan, restored, reason.strip())
        shutil.rmtree(work, ignore_errors=True)
        return pages


def plan_of(study: Path, protocol: StudyProtocol, sealed: Sealed, images: int | None) -> StudyPlan:
    """The plan of the export, for those raters who are still there."""
    key: dict[str, Any] = json.loads(read_secrets(study)[0])
    return StudyPlan(
        kind=protocol.kind,
        preset="paper" if protocol.preset == "paper" else "default",
        restorers=tuple(key["restorers"]),
        raters=len(_present(study, protocol, sealed)),
        images=images,
        repeats=0,
        sentinels={},
        seed=key["seed"],
        title=protocol.title,
    )


def amend_with(
    study: Path, protocol: StudyProtocol, sealed: Sealed, plan: StudyPlan, restored: RestoredImages, reason: str
) -> tuple[str, ...]:
    """Write the pages of images that are restored, seal their key, sign it in the log, and publish the amendment."""
    number = len(amendments(study)) + 1
    salt = drawn(sealed.salt, Stream.AMENDMENTS, number)
    blinding = Blinding(salt, patients=sealed.salt)
    assignment = assignment_of(plan, len(restored.images), salt)
    entries, made, pages = [], [], {}
    for place, rater in enumerate(_present(study, protocol, sealed)):
        own = Rater(rater_id=f"{rater.rater_id}-{number + 1}", group=rater.group)
        shown = tasks_of(plan, restored, assignment, (), place, 0, salt)
        if not shown:
            continue
        tasks, known, pictures = blind(shown, restored.images, own, protocol, plan.seed, blinding)
        secret = drawn(salt, Stream.PAGES, place).hex()
        entries += [entry.model_dump(mode="json") for entry in known]
        made.append((own.rater_id, secret, tasks, pictures))
        pages[own.rater_id] = rater
    key = canonical(
        {
            "study_id": protocol.study_id,
            "amendment": number,
            "identifiers": sorted({word for image in restored.images for word in image.identifiers}),
            "pages": {name: secret for name, secret, _, _ in made},
            "entries": entries,
        }
    )
    committed = commitment(key, sealed.salt)
    for name, secret, tasks, pictures in made:
        planes = {one: planes_of(counts, window) for one, (counts, window) in pictures.items()}
        page = Page(protocol.title, protocol.kind, protocol.notice, secret, committed)
        write_viewer(viewer_path(study, name), page, tasks, planes)
    count = len(restored.images)
    said = Amendment(
        number=number,
        images=count,
        tasks=len(assignment.tasks),
        pages=pages,
        reason=reason,
        commitment=committed,
    )
    seal_amendment(study, sealed, said, key, f"{count} {'image' if count == 1 else 'images'}: {reason}")
    return tuple(pages)


def _present(study: Path, protocol: StudyProtocol, sealed: Sealed) -> list[Rater]:
    """Raters who have not dropped out, each once."""
    out = {event.rater for event in read_log(study, sealed.salt, required=True) if event.event == "dropped out"}
    out |= set(persons(study))
    return [rater for rater in protocol.raters if rater.rater_id not in out]


def _chosen(
    plan: StudyPlan, sources: Sequence[Path], reading: Reading, per_case: int, salt: bytes, seen: Collection[str]
) -> list[StudyImage]:
    """New images, in an order that the salt draws."""
    protocol = load_protocol()
    if not sources:
        own = int.from_bytes(drawn(salt, Stream.PHANTOMS)[:PHANTOM_SEED_BYTES])
        return phantom_images(protocol, plan.images or 1, own)
    found = [
        image
        for image in case_images(sources, protocol, per_case, reading, plan.seed)
        if hashlib.sha256(image.counts.tobytes()).hexdigest() not in seen
    ]
    if not found or (plan.images or 0) > len(found):
        raise InputError(f"{len(found)} tiles that the study does not show yet", f"{plan.images or 'some'}", sources[0])
    order = secret_stream(salt, Stream.IMAGES).permutation(len(found))
    return [found[place] for place in order[: plan.images or len(found)]]


def _require_the_same_networks(study: Path, sealed: Sealed, restored: RestoredImages) -> None:
    """Refuse weights that the study was not exported with: raters would judge two methods under one name."""
    known: dict[str, set[str]] = {}
    for entry in sealed.entries.values():
        for method in (entry.side_A_method, entry.side_B_method):
            known.setdefault(str(method), set()).update(entry.model_sha256.split(","))
    for (method, _), view in restored.made.items():
        if view.model_sha256 and view.model_sha256 not in known.get(method, {view.model_sha256}):
            raise InputError(f"other networks of {method} than those of the study", "the weights of its export", study)

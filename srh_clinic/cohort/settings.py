"""How the cases of a run are treated, and where their results lie; loads no network library until it is asked for networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srh_clinic.slide import Reading

if TYPE_CHECKING:
    from srh_clinic.case.pipeline import RestoreThenClassify

CASES, DICOM, PARTIAL = "cases", "dicom", ".partial"
"""Folders of a run: results by case, their DICOM objects, and tiles of cases that are under way."""


@dataclass(frozen=True)
class CaseSettings:
    """How every case of a run is treated; the names are those of the options of ``srh-clinic diagnose``.

    ``identity`` says whether a result states whose it is; ``page``, ``qupath``, ``fhir`` and ``dicom`` which
    optional files it has.
    """

    bundle: str = "phantom-demo"
    restorer: str = "rscd"
    device: str = "auto"
    seed: int = 0
    conservative: bool = False
    certainty: int = 0
    policy: str | None = None
    reading: Reading = field(default_factory=Reading)
    page: bool = False
    qupath: bool = False
    fhir: bool = False
    dicom: bool = False
    identity: bool = True
    restoring: dict[str, Any] = field(default_factory=dict)

    def pipeline(self) -> RestoreThenClassify:
        """The networks, loaded.

        Raises
        ------
        InputError
            As :meth:`RestoreThenClassify.from_bundle`.
        """
        from srh_clinic.case.pipeline import RestoreThenClassify
        from srh_clinic.trust import policy_named

        return RestoreThenClassify.from_bundle(
            self.bundle,
            self.restorer,
            self.device,
            self.seed,
            self.conservative,
            self.certainty,
            selective_policy=policy_named(self.policy),
            policy_from=f"the policy {self.policy}",
            **self.restoring,
        )

    def depends_on(self, pipeline: RestoreThenClassify) -> dict[str, Any]:
        """All that a result depends on beside its case: what a ledger adopts."""
        made_by = {name: value for name, value in pipeline.made_by.items() if name not in ("settings", "notice")}
        options = {f"reading.{name}": value for name, value in self.reading.options.items() if value is not None}
        asked = {"page": self.page, "qupath": self.qupath, "fhir": self.fhir, "dicom": self.dicom, "identity": self.identity}
        return {**made_by, **pipeline.made_by["settings"], **options, **asked}


def has_outputs(out: Path, name: str) -> bool:
    """Whether a case's result stands in its folder, which it does when it is whole."""
    from srh_clinic.case.record import RESULT

    return (out / CASES / name / RESULT).is_file()

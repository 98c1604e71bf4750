"""Whether an incoming case is like those of a validation: in brightness, in steps asked for, in what the classifier sees.

What a validation found holds for cases like the validated ones. Another microscope, laser, tissue or reader of files shows in
these three before it shows in diagnoses.

A case is *exchangeable* with the validation cases when nothing tells it from them but chance. Of such cases at most the share
``level`` is flagged, over the three looks together and whatever the quantities' distributions: this is full conformal
prediction (Vovk, Gammerman and Shafer 2005, chapter 2) with the leave-one-out Mahalanobis distance as nonconformity, and the
single-step maximum of Westfall and Young (1993, chapter 2) over the looks. The price is patients: no p-value can lie below
``1 / (n + 1)``, so ``n`` patients can warn at no smaller level (:func:`patients_needed`). With just that many a case must lie
farther off than every validation case in any quantity; with k times as many, k - 1 odd ones among them do no harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from srh_clinic.errors import InputError, first_fault
from srh_clinic.files import parsed_json, write_whole
from srh_clinic.intensity import Counts

Quantity = Literal["intensity", "steps", "embedding"]

QUANTITIES: tuple[Quantity, ...] = ("intensity", "steps", "embedding")
"""What cases are compared in."""

SHARES = (0.05, 0.25, 0.50, 0.75, 0.95)
"""Shares of the tissue's pixels below the quantiles that a profile holds of each channel."""

CHANNELS = ("CH2", "CH3")

LEVEL = 0.01
"""Share of exchangeable cases that may be flagged, unless another is asked for; it needs 99 validation patients."""

PATIENTS_PER_COMPONENT = 10
"""Cases for each principal component of embeddings: with fewer, the spread along a component is hardly known."""

COMMON = 0.9
"""Distances in different quantities are told in units of what this share of the cases stays below."""


class TooFewPatientsError(InputError):
    """A validation has too few patients for a level: no case however strange could be flagged."""


@dataclass(frozen=True)
class CaseProfile:
    """What a case is compared by; it holds nothing that names a patient.

    Attributes
    ----------
    intensity
        Quantiles (:data:`SHARES`) of counts within tissue, of CH2 and CH3; None where there is no tissue.
    steps
        Median and 90 % quantile of the steps predicted for its tiles; None where none were predicted.
    embedding
        Mean features of its restored patches, ``(D,)``; None where no patch was classified.
    """

    intensity: tuple[tuple[float, ...], tuple[float, ...]] | None
    steps: tuple[float, float] | None
    embedding: tuple[float, ...] | None


def case_profile(picture: Counts, mask: NDArray[np.bool_], steps: ArrayLike, embeddings: NDArray[np.float64]) -> CaseProfile:
    """The profile of a case.

    Parameters
    ----------
    picture
        uint16 counts ``(2, h, w)``: the thumbnail of the case as scanned. A thumbnail averages, so its outer quantiles lie
        closer together the larger the slide: compare slides with slides of like size, not with patches.
    mask
        Where there is tissue, ``(h, w)``.
    steps
        Predicted steps of the tiles that have a prediction, ``(M,)``.
    embeddings
        Features of the restored patches (:meth:`srh_clinic.classifiers.PatchClassifier.embed`), ``(P, D)``.

    Raises
    ------
    ValueError
        When the arrays do not have these shapes.
    """
    predicted, seen = np.asarray(steps, dtype=np.float64), np.asarray(embeddings, dtype=np.float64)
    tissue = np.asarray(mask, dtype=bool)
    if picture.shape != (2, *tissue.shape) or predicted.ndim != 1 or seen.ndim != 2:
        found = f"picture {picture.shape}, mask {tissue.shape}, steps {predicted.shape}, embeddings {seen.shape}"
        raise ValueError(f"found {found}; needed (2, h, w), (h, w), (M,) and (P, D).")
    ch2, ch3 = (tuple(np.quantile(channel[tissue], SHARES).tolist()) if tissue.any() else () for channel in picture)
    median, p90 = np.quantile(predicted, [0.5, 0.9]).tolist() if len(predicted) else (0.0, 0.0)
    return CaseProfile(
        intensity=(ch2, ch3) if tissue.any() else None,
        steps=(median, p90) if len(predicted) else None,
        embedding=tuple(seen.mean(axis=0).tolist()) if len(seen) else None,
    )


def stated_profile(stated: Mapping[str, Any]) -> CaseProfile:
    """A profile as ``dataclasses.asdict`` and JSON hold it.

    Raises
    ------
    InputError
        When it is none.
    """
    try:
        return TypeAdapter(CaseProfile).validate_python(stated)
    except ValidationError as error:
        raise InputError(first_fault(error), "a profile of a case: intensity, steps, embedding") from error


@dataclass(frozen=True)
class Drift:
    """How far a case lies from the validation cases in one quantity.

    Attributes
    ----------
    distance
        Mahalanobis distance from the validation cases, so in their standard deviations.
    p
        Share of cases, this one among them, that lie as far from the others: a conformal p-value for this look alone.
    corrected
        The same over all looks at once: the share whose farthest quantity lies as far. Flags go by this.
    sentence
        What was found, for a reader.
    """

    name: Quantity
    distance: float
    p: float
    corrected: float
    sentence: str


def patients_needed(level: float) -> int:
    """Validation patients without whom no case can be flagged at a level, since ``1 / (n + 1)`` is the smallest p-value.

    >>> patients_needed(0.01), patients_needed(0.05)
    (99, 19)
    """
    return math.ceil(1 / level - 1e-9) - 1


def one_per_patient(patients: Sequence[str], seed: int = 0) -> NDArray[np.int64]:
    """The place of one case of each patient, drawn by lot, in the order of the patients' first cases.

    Cases of one patient are alike, and a patient of many cases must not weigh more than one of few. An incoming case is
    exchangeable with cases drawn by a lot that knows nothing of them; with averages of a patient's cases it is not, since they
    vary less than a single case does.
    """
    random = np.random.default_rng(seed)
    places: dict[str, list[int]] = {}
    for place, patient in enumerate(patients):
        places.setdefault(patient, []).append(place)
    return np.array([random.choice(mine) for mine in places.values()], dtype=np.int64)


class DriftReference(BaseModel):
    """The cases of a validation that incoming ones are compared with, one of each patient.

    Row i of each quantity is of the same case; a quantity that no validation case had is empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal["srh-clinic drift reference 1"] = "srh-clinic drift reference 1"
    level: float = Field(gt=0, lt=1)
    """Share of exchangeable cases that may be flagged."""
    made_with: dict[str, str]
    """What profiles depend on, such as ``weights_sha256``: an incoming case must be made with the same."""
    left_out: int = Field(ge=0)
    """Validation cases that took no part because they lack one of the quantities, for want of tissue."""
    intensity: tuple[tuple[float, ...], ...]
    """Quantiles of CH2, then of CH3, in counts: ``(n, 10)``."""
    steps: tuple[tuple[float, float], ...]
    """Median and 90 % quantile, ``(n, 2)``."""
    embedding: tuple[tuple[float, ...], ...]
    """``(n, D)``."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        held = {name: getattr(self, name) for name in self.quantities}
        if len({len(rows) for rows in held.values()}) != 1:
            raise ValueError("found quantities of different numbers of cases, or none; needed the same cases in each")
        for name, rows in held.items():
            if len({len(row) for row in rows}) != 1 or not rows[0]:
                raise ValueError(f"found rows of different lengths in {name}; needed one length")
        if self.intensity and len(self.intensity[0]) != len(CHANNELS) * len(SHARES):
            raise ValueError(f"found {len(self.intensity[0])} quantiles instead of {len(CHANNELS) * len(SHARES)}")
        return self

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Those that the validation cases have."""
        return tuple(name for name in QUANTITIES if getattr(self, name))

    @property
    def patients(self) -> int:
        """Validation patients, n."""
        return len(getattr(self, self.quantities[0]))

    @property
    def fewest_cases(self) -> int:
        """Patients that the reference's level needs: with fewer, no case however strange could be flagged."""
        return patients_needed(self.level)

    def require(self, made_with: Mapping[str, str], path: str | Path | None = None) -> None:
        """Make sure that incoming cases are made as the reference's were.

        Raises
        ------
        InputError
            When they are not.
        """
        for name, value in self.made_with.items():
            if made_with.get(name) != value:
                raise InputError(f"a drift reference made with {name} {value}", f"one made with {made_with.get(name)}", path)

    def check(self, profile: CaseProfile) -> tuple[Drift, ...]:
        """How far a case lies from the validation cases, in each quantity that both have.

        Raises
        ------
        InputError
            When its embedding is of another length than the reference's.
        """
        distances, sentences = {}, {}
        for name in self.quantities:
            stated = getattr(profile, name)
            if stated is None:
                continue
            others, own = np.array(getattr(self, name)), np.ravel(stated)
            if own.shape != others.shape[1:]:
                raise InputError(f"a profile with {len(own)} values of {name}", f"{others.shape[1]}, as in the reference")
            # The case joins the others before anything is fitted, so that nothing tells it from them if it is like them.
            distances[name] = _DISTANCES[name](np.vstack([others, own]))
            sentences[name] = _SENTENCES[name](others, own, self.patients)
        if not distances:
            return ()
        farthest = np.max([_in_common_units(distance) for distance in distances.values()], axis=0)
        drifts = []
        for name, distance in distances.items():
            p = _share_as_far(distance, distance[-1])
            corrected = _share_as_far(farthest, _in_common_units(distance)[-1])
            sentence = f"{sentences[name]} (p = {corrected:.2g})"
            drifts.append(Drift(name, float(distance[-1]), p, corrected, sentence))
        return tuple(drifts)

    def unlike(self, drifts: Sequence[Drift], level: float | None = None) -> tuple[Drift, ...]:
        """Those that tell a case from the validation cases at a level.

        Parameters
        ----------
        drifts
            What :meth:`check` says of the case.
        level
            Largest share of exchangeable cases that are told apart in any quantity; the reference's own if None. It is a share
            in the long run, over validations and cases, of cases of new patients that have every quantity.

        Raises
        ------
        InputError
            When the reference has too few patients for the level.
        """
        wanted = self.level if level is None else level
        _enough(self.patients, wanted)
        # 99 patients make a smallest p-value of 0.01, whatever its last binary digit.
        return tuple(drift for drift in drifts if drift.corrected <= wanted * (1 + 1e-9))

    def flags(self, drifts: Sequence[Drift], level: float | None = None) -> tuple[str, ...]:
        """What a reader must know: in what the case is unlike the validation (:meth:`unlike`), and what was not compared."""
        found = [f"drift: {drift.sentence}" for drift in self.unlike(drifts, level)]
        compared = {drift.name for drift in drifts}
        absent = [name for name in self.quantities if name not in compared]
        if absent:
            found.append(f"drift-unchecked: the case has no {' and no '.join(absent)} to compare with the validation")
        return tuple(found)

    def write(self, path: str | Path) -> Path:
        """Write the reference as JSON, whole or not at all.

        Raises
        ------
        InputError
            When the file cannot be written.
        """
        return write_whole(path, self.model_dump_json() + "\n", "a drift reference")


def fit_reference(
    profiles: Sequence[CaseProfile],
    patients: Sequence[str],
    *,
    made_with: Mapping[str, str],
    level: float = LEVEL,
    seed: int = 0,
) -> DriftReference:
    """A reference from the cases of a validation.

    Parameters
    ----------
    profiles
        Of the cases. Quantities that none of them has are not compared; cases that lack one that others have are left out.
    patients
        Whose each case is; of each patient one case, drawn by lot, enters (:func:`one_per_patient`).
    made_with
        What the profiles depend on, by name: at least the sha256 of the weights.
    level
        Share of exchangeable cases that may be flagged.
    seed
        Of the lot.

    Raises
    ------
    InputError
        When there are too few patients for the level (:class:`TooFewPatientsError`), or embeddings of different lengths.
    """
    if len(profiles) != len(patients):
        raise ValueError(f"found {len(profiles)} profiles and {len(patients)} patients; needed one patient for each profile.")
    held = [name for name in QUANTITIES if any(getattr(profile, name) is not None for profile in profiles)]
    whole = [place for place, one in enumerate(profiles) if all(getattr(one, name) is not None for name in held)]
    drawn = one_per_patient([patients[place] for place in whole], seed)
    chosen = [profiles[whole[place]] for place in drawn]
    _enough(len(chosen) if held else 0, level)
    rows: dict[str, Any] = {name: [np.ravel(getattr(one, name)).tolist() for one in chosen] for name in held}
    stated = {name: rows.get(name, []) for name in QUANTITIES}
    left_out = len(profiles) - len(whole)
    try:
        return DriftReference.model_validate({"level": level, "made_with": dict(made_with), "left_out": left_out, **stated})
    except ValidationError as error:
        raise InputError(first_fault(error), "profiles of cases that were all made in the same way") from error


def load_reference(path: str | Path) -> DriftReference:
    """The reference that :meth:`DriftReference.write` wrote.

    Raises
    ------
    InputError
        When the file cannot be read, is no reference, or has too few patients for its level.
    """
    needed = "a drift reference, as the validation writes it"
    try:
        reference = DriftReference.model_validate(parsed_json(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(error.strerror or str(error), needed, path) from error
    except ValidationError as error:
        raise InputError(first_fault(error), needed, path) from error
    except ValueError as error:  # not JSON, or not text
        raise InputError(f"a file that is not valid JSON ({error})", needed, path) from error
    _enough(reference.patients, reference.level, path)
    return reference


def _enough(patients: int, level: float, path: str | Path | None = None) -> None:
    if not 0 < level < 1:
        raise InputError(f"a level of {level:g}", "a value between 0 and 1", path)
    if patients < patients_needed(level):
        possible = f", or a level of {1 / (patients + 1):.2g} or more" if patients else ""
        needed = f"{patients_needed(level)} or more to warn at a level of {level:g}{possible}"
        raise TooFewPatientsError(f"{patients} validation patients", needed, path)


def _leave_one_out(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mahalanobis distance of each row from the mean of the other rows under their covariance, ``(m, d)`` to ``(m,)``.

    The covariance is shrunk towards the identity, in standardised columns; how far is determined once, from
    all rows (Ledoit and Wolf 2004, J. Multivariate Analysis 88:365), so that taking a row out is an update of rank one:
    with v the row less the mean, ``B = (1 - s) A / (m - 1) + s I`` of the scatter A and ``c = (1 - s) m / (m - 1)^2``, the
    others' shrunk covariance is ``B - c v v'``. Columns that do not vary say nothing.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    spread = values.std(axis=0)
    varying = spread > 1e-9 * np.abs(values).max(initial=0.0)
    count, width = len(values), int(varying.sum())
    if not width:
        return np.zeros(count)
    z = (values[:, varying] - values[:, varying].mean(axis=0)) / spread[varying]
    s = float(ledoit_wolf_shrinkage(z, assume_centered=True))
    scatter = z.T @ z
    b = (1 - s) * scatter / (count - 1) + s * np.eye(width)
    q = np.einsum("ij,ij->i", z, np.linalg.solve(b, z.T).T)
    c = (1 - s) * count / (count - 1) ** 2
    # 1 - c q is 0 where the others do not vary at all in the direction of a row: it lies infinitely far from them.
    left = np.maximum(1 - c * q, 1e-12)
    return np.asarray(count / (count - 1) * np.sqrt(q / left))


def _of_logarithms(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances where a change of gain is the same for dark and bright slides, and few steps count as much as many."""
    return _leave_one_out(np.log1p(values))


def _of_embedding(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances in as many principal components as the cases carry, and in how much of a case lies outside of these."""
    centred = values - values.mean(axis=0)
    components = min(max(len(values) // PATIENTS_PER_COMPONENT, 1), values.shape[1])
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    inside = centred @ axes[:components].T
    outside = np.linalg.norm(centred - inside @ axes[:components], axis=1)
    return _leave_one_out(np.column_stack([inside, outside]))


_DISTANCES: dict[Quantity, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "intensity": _of_logarithms,
    "steps": _of_logarithms,
    "embedding": _of_embedding,
}


def _share_as_far(distances: NDArray[np.float64], own: float) -> float:
    """Share of the cases that lie as far, up to rounding: a tie counts against the case being strange."""
    return float(np.mean(distances >= own * (1 - 1e-9)))


def _in_common_units(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances in units of what is common, so that the looks weigh alike."""
    usual = float(np.quantile(distance, COMMON))
    return distance / usual if usual > 0 else np.where(distance > 0, np.inf, 0.0)


def _brightness(others: NDArray[np.float64], own: NDArray[np.float64], patients: int) -> str:
    """Names the channel that stands out the more."""
    log, mine = np.log1p(others), np.log1p(own)
    off = np.abs(mine - log.mean(axis=0)) / np.maximum(log.std(axis=0), 1e-12)
    channel = int(off.reshape(len(CHANNELS), -1).mean(axis=1).argmax())
    middle = channel * len(SHARES) + SHARES.index(0.50)
    counts = f"median {own[middle]:,.0f} counts against {np.median(others[:, middle]):,.0f}"
    return f"brightness of {CHANNELS[channel]} unlike that of the {patients} validation patients: {counts}"


def _steps(others: NDArray[np.float64], own: NDArray[np.float64], patients: int) -> str:
    usual = f"median {own[0]:.0f} and 90 % quantile {own[1]:.0f} against {np.median(others[:, 0]):.0f} and"
    return f"steps asked for unlike those of the {patients} validation patients: {usual} {np.median(others[:, 1]):.0f}"


def _seen(others: NDArray[np.float64], own: NDArray[np.float64], patients: int) -> str:
    return f"what the classifier sees unlike what it saw in the {patients} validation patients"


_SENTENCES: dict[Quantity, Callable[[NDArray[np.float64], NDArray[np.float64], int], str]] = {
    "intensity": _brightness,
    "steps": _steps,
    "embedding": _seen,
}

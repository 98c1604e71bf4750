"""When a slide's restored diagnosis is used, when the original is kept, and when neither stands: a rule with a bound."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from srh_clinic.diagnosis import USES, Use
from srh_clinic.errors import InputError, first_fault
from srh_clinic.files import parsed_json
from srh_clinic.trust.conformal import CONFIDENCE

NONDIAGNOSTIC = "nondiagnostic"

Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Decision:
    """Whose word stands, the class that follows, and the reason in one clause."""

    use: Use
    said: str
    why: str


@dataclass(frozen=True, eq=False)
class Observations:
    """What is known of N cases when it is decided; not their truth.

    Attributes
    ----------
    restored, original
        Class said of each image, str ``(N,)``.
    p_restored, p_original
        Probability of that class, ``(N,)``: of a slide its support, the mean over its patches.
    trust
        The strongest word of the guards against the restoration, in thresholds, ``(N,)``; NaN where nobody examined it.
    steps
        Median of the steps that the calibrator asked for, ``(N,)``; NaN where it was not asked.
    agreement
        Share of further restorations that say the same class, ``(N,)``; NaN where none was made.
    """

    restored: NDArray[np.str_]
    p_restored: NDArray[np.float64]
    original: NDArray[np.str_]
    p_original: NDArray[np.float64]
    trust: NDArray[np.float64]
    steps: NDArray[np.float64]
    agreement: NDArray[np.float64]

    def __post_init__(self) -> None:
        if len({np.shape(column) for column in vars(self).values()}) != 1 or np.ndim(self.restored) != 1:
            shapes = ", ".join(f"{name} {np.shape(column)}" for name, column in vars(self).items())
            raise ValueError(f"found {shapes}; needed one value a case, all of shape (N,).")

    def __len__(self) -> int:
        return len(self.restored)

    def take(self, places: NDArray[np.bool_] | NDArray[np.int64]) -> Observations:
        """Those of the cases."""
        return Observations(**{name: column[places] for name, column in vars(self).items()})

    @property
    def unchanged(self) -> NDArray[np.bool_]:
        """Where the restored image says just what the original does, ``(N,)``: clean tiles are left as they are."""
        return (self.restored == self.original) & (self.p_restored == self.p_original)


class Bound(BaseModel):
    """What patients that had no part in the choice of a policy say of its wrong diagnoses.

    The rate is that of a case drawn at random of a patient drawn at random: each patient counts once, however many cases they
    have, for cases of one patient are not independent. With probability ``confidence`` over the calibration it is at most
    ``upper`` among further patients exchangeable with these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: Probability
    """Mean over the patients of the share of their cases that got a wrong diagnosis."""
    upper: Probability
    patients: int = Field(ge=1)
    confidence: float = Field(gt=0, lt=1)


class SelectivePolicy(BaseModel):
    """Whose word stands, slide by slide.

    The restored class is used where it is sure enough and, unless the original says the same, the guards are quiet enough,
    the image was not too poor and further restorations agree; otherwise the original's class is kept where it is diagnostic
    and sure enough; otherwise the case is non-diagnostic.

    A probability of None is never reached; a limit of None is not asked for. What a limit asks for and nobody measured does
    not pass it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    p_restored: Probability | None
    """Least probability of the restored class where the original is non-diagnostic."""
    p_agreeing: Probability | None
    """The same where the original says that class too: at most ``p_restored``. No limit is asked for then, since what the
    scan itself shows was not invented."""
    p_contradicted: Probability | None
    """The same where the original says the other class: at least ``p_restored``."""
    p_original: Probability | None
    """Least probability at which the original's class is kept where the restored one is not used."""
    trust_limit: float | None = Field(default=None, ge=0)
    """Strongest word of the guards, in thresholds: 1 is just flagged."""
    steps_limit: float | None = Field(default=None, ge=0)
    """Largest median of the steps asked for."""
    agreement_limit: Probability | None = None
    """Least share of further restorations that say the same class."""
    bound: Bound | None = None
    """None when nothing is promised."""
    calibration: dict[str, str | int | float] = Field(default_factory=dict)
    """Cases, patients, seed, weights' sha256, level (slide or patch), and rates of the choice."""

    @model_validator(mode="after")
    def _monotone(self) -> Self:
        never = float("inf")
        demands = [never if p is None else p for p in (self.p_agreeing, self.p_restored, self.p_contradicted)]
        if demands != sorted(demands):
            raise ValueError(
                f"found p_agreeing {self.p_agreeing}, p_restored {self.p_restored} and p_contradicted {self.p_contradicted}; "
                "needed demands that do not fall as the original speaks more against the restored class"
            )
        return self

    def uses(self, observations: Observations) -> NDArray[np.int64]:
        """Place in :data:`USES` of each case's decision, ``(N,)``.

        A word of non-diagnostic stands on its own when nothing better does: where the restored image is non-diagnostic and the
        original is not kept, the restored image's word stands, and the other way round.
        """
        restored_diagnostic = observations.restored != NONDIAGNOSTIC
        original_diagnostic = observations.original != NONDIAGNOSTIC
        agreeing = restored_diagnostic & (observations.restored == observations.original)
        passes = agreeing | np.all(list(self._limits(observations).values()), axis=0)
        sure = np.select(
            [agreeing, restored_diagnostic & ~original_diagnostic, restored_diagnostic],
            [
                _at_least(observations.p_restored, self.p_agreeing),
                _at_least(observations.p_restored, self.p_restored),
                _at_least(observations.p_restored, self.p_contradicted),
            ],
            default=False,
        )
        kept = original_diagnostic & _at_least(observations.p_original, self.p_original)
        word_of_restored = ~restored_diagnostic & (self.p_restored is not None)
        return np.select(
            [sure & passes, kept, word_of_restored, ~original_diagnostic],
            [USES.index("restored"), USES.index("original"), USES.index("restored"), USES.index("original")],
            default=USES.index("nondiagnostic"),
        ).astype(np.int64)

    def said(self, observations: Observations) -> NDArray[np.str_]:
        """The class that follows for each case, ``(N,)``."""
        words = [observations.restored, observations.original, np.full(len(observations), NONDIAGNOSTIC)]
        return np.asarray(np.choose(self.uses(observations), words), dtype=np.str_)

    def decide(
        self,
        restored: tuple[str, float],
        original: tuple[str, float],
        *,
        trust: float | None = None,
        steps: float | None = None,
        agreement: float | None = None,
    ) -> Decision:
        """Decide one case.

        Parameters
        ----------
        restored, original
            Class said of each image, and its probability: of a patch that of the classifier, of a slide its support
            (:class:`srh_clinic.classifiers.SlideDiagnosis`).
        trust, steps, agreement
            See :class:`Observations`; None where nobody measured it.
        """
        measured = [np.nan if value is None else value for value in (trust, steps, agreement)]
        words = [restored[0], restored[1], original[0], original[1], *measured]
        observations = Observations(*(np.array([value]) for value in words))
        use = USES[int(self.uses(observations)[0])]
        said = {"restored": restored[0], "original": original[0], "nondiagnostic": NONDIAGNOSTIC}[use]
        return Decision(use, said, self._why(use, observations))

    def in_words(self) -> str:
        """The rule in one sentence."""

        def least(p: float | None) -> str:
            return "never" if p is None else f"from a probability of {p:g}" if p else "whatever its probability"

        limits = [
            f"{what} {limit:g}"
            for what, limit in (
                ("guards up to", self.trust_limit),
                ("a median of steps up to", self.steps_limit),
                ("agreement from", self.agreement_limit),
            )
            if limit is not None
        ]
        asked = f", with {' and '.join(limits)} unless the original agrees" if limits else ""
        return (
            f"The restored class is used {least(self.p_restored)} where the original is non-diagnostic, "
            f"{least(self.p_agreeing)} where it agrees and {least(self.p_contradicted)} where it contradicts{asked}; "
            f"otherwise the original's is kept {least(self.p_original)}; otherwise the case is non-diagnostic."
        )

    @property
    def preference(self) -> tuple[int, float, int]:
        """What is preferred among policies of equal utility, the smallest first: few limits, then caution, then simplicity."""
        limits = sum(limit is not None for limit in (self.trust_limit, self.steps_limit, self.agreement_limit))
        caution = -1.0 if self.p_restored is None else self.p_restored
        extra = (self.p_agreeing != self.p_restored) + (self.p_contradicted != self.p_restored)
        return limits, -caution, int(extra) + (self.p_original is not None)

    def _limits(self, observations: Observations) -> dict[str, NDArray[np.bool_]]:
        """Which cases keep each limit, by what is said of those that do not; a comparison with NaN is false."""
        everyone = np.ones(len(observations), dtype=bool)
        return {
            "the guards speak against it": everyone if self.trust_limit is None else observations.trust <= self.trust_limit,
            "the image is too poor": everyone if self.steps_limit is None else observations.steps <= self.steps_limit,
            "further restorations do not agree": everyone
            if self.agreement_limit is None
            else observations.agreement >= self.agreement_limit,
        }

    def _why(self, use: Use, observations: Observations) -> str:
        restored, original = str(observations.restored[0]), str(observations.original[0])
        if use == "restored":
            if restored == NONDIAGNOSTIC:
                return "the restored image is non-diagnostic"
            said = {restored: "the original says the same", NONDIAGNOSTIC: "the original is non-diagnostic"}.get(
                original, "surer than its contradiction by the original asks for"
            )
            return f"the restored class is sure enough (p = {observations.p_restored[0]:.2f}); {said}"
        if restored == NONDIAGNOSTIC:
            rejected = "the restored image is non-diagnostic"
        elif loud := [what for what, held in self._limits(observations).items() if not held[0]]:
            rejected = f"the restored class is not used: {' and '.join(loud)}"
            if original == restored:
                rejected = f"the restored class is not sure enough (p = {observations.p_restored[0]:.2f})"
        else:
            against = f", as the original says {original}" if original not in (NONDIAGNOSTIC, restored) else ""
            rejected = f"the restored class is not sure enough (p = {observations.p_restored[0]:.2f}){against}"
        if use == "nondiagnostic":
            return f"{rejected}; nor is the original's (p = {observations.p_original[0]:.2f})"
        kept = "the original is non-diagnostic" if original == NONDIAGNOSTIC else "the original's class is sure enough"
        return f"{rejected}; {kept}"


ALWAYS = SelectivePolicy(p_restored=0, p_agreeing=0, p_contradicted=0, p_original=None)
"""Whatever is restored is used."""

NEVER = SelectivePolicy(p_restored=None, p_agreeing=None, p_contradicted=None, p_original=0)
"""The original is kept, whatever it says."""


def load_policy(path: str | Path) -> SelectivePolicy:
    """Read a policy from the JSON that ``policy.model_dump_json()`` writes.

    Raises
    ------
    InputError
        When the file cannot be read or holds no policy.
    """
    needed = "a selective policy, the JSON that srh-clinic validate writes"
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = (error.strerror or str(error)) if isinstance(error, OSError) else "a file that is not text"
        raise InputError(found[0].lower() + found[1:], needed, path) from error
    try:
        return SelectivePolicy.model_validate(parsed_json(text))
    except ValidationError as error:
        raise InputError(first_fault(error), needed, path) from error
    except ValueError as error:
        raise InputError("a file that is not valid JSON", needed, path) from error


def policy_named(name: str | None) -> SelectivePolicy | Literal["bundle"] | None:
    """The policy of ``--policy``: that of a file, none by ``"none"``, and the bundle's own where nothing is said.

    Raises
    ------
    InputError
        As :func:`load_policy`.
    """
    if name is None:
        return "bundle"
    return None if name == "none" else load_policy(name)


def bounded_rate(rates: ArrayLike, confidence: float = CONFIDENCE) -> Bound:
    """An upper confidence bound on the mean of values in [0, 1] of exchangeable patients.

    Inverts the Hoeffding-Bentkus p-value of Learn then Test (Angelopoulos et al. 2021, arXiv:2110.01052; Bates et al. 2021,
    J. ACM 68:43): ``p(a) = min(exp(-n kl(r, a)), e P(Bin(n, a) <= ceil(n r)))`` for a mean ``r < a``. It holds for any n and
    any distribution on [0, 1] of independent patients. Without a wrong diagnosis it is the exact binomial (Clopper-Pearson)
    bound ``1 - delta ** (1 / n)``.

    Parameters
    ----------
    rates
        For each patient the share of their cases that got a wrong diagnosis, ``(n,)``.
    confidence
        ``1 - delta``.

    Raises
    ------
    InputError
        When there is no patient.
    """
    values = np.asarray(rates, dtype=np.float64)
    if not 0 < confidence < 1:
        raise InputError(f"a confidence of {confidence}", "a value between 0 and 1")
    if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"rates of shape {values.shape}", "a rate from 0 to 1 for each of one or more patients")
    from scipy.optimize import brentq

    n, rate, delta = len(values), float(values.mean()), 1 - confidence

    def excess(a: float) -> float:
        return _p_value(rate, a, n) - delta

    upper = 1.0 if rate >= 1 or excess(1 - 1e-12) > 0 else float(brentq(excess, rate, 1 - 1e-12))
    return Bound(rate=rate, upper=min(upper, 1.0), patients=n, confidence=confidence)


def choose_policy(
    observations: Observations,
    truth: Sequence[str],
    patients: Sequence[object],
    *,
    alpha: float | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    calibration: Mapping[str, str | int | float] | None = None,
) -> SelectivePolicy:
    """The best policy of a small grid, and a bound on its wrong diagnoses by patients who had no part in the choice.

    Half of the patients, drawn by ``seed``, choose: of the policies that make at least as many correct diagnoses as using
    whatever is restored, the one with the fewest wrong ones; among equals the one with more correct ones, then the one with
    the fewest limits, then the most cautious: caution that costs nothing here may save a patient elsewhere. The other half
    bound it (:func:`bounded_rate`), so that the bound holds although the policy was chosen.

    Parameters
    ----------
    observations
        Of N calibration cases. A limit is tried where all cases that were changed have the value that it asks for.
    truth, patients
        Class and patient of each, ``(N,)``.
    alpha
        Promised rate of wrong diagnoses, in (0, 1): then, of the policies that the choosing half bounds by it, the one with
        the most correct diagnoses is taken, and the other half has to confirm it.
    calibration
        What else the policy says of its calibration: ``weights_sha256``, ``level``, ``restorer``.

    Raises
    ------
    InputError
        When there are fewer than two patients, or no policy keeps ``alpha``.
    """
    true, owner = np.asarray(truth, dtype=np.str_), np.unique(np.asarray(patients, dtype=np.str_), return_inverse=True)[1]
    if not len(true) == len(owner) == len(observations):
        raise ValueError(
            f"found {len(observations)} cases, {len(true)} truths and {len(owner)} patients; needed one for each."
        )
    if alpha is not None and not 0 < alpha < 1:
        raise InputError(f"a rate of wrong diagnoses of {alpha}", "a value between 0 and 1")
    choosing = halves(owner, seed)
    if choosing.all() or not choosing.any():
        raise InputError("fewer than two calibration patients", "two or more: one half chooses, the other tests")
    seen, known, whose = observations.take(choosing), true[choosing], owner[choosing]

    def utility(policy: SelectivePolicy) -> tuple[float, float]:
        said = policy.said(seen)
        return float((said == known).mean()), float(_wrong(said, known).mean())

    grid = list(candidates(seen))
    utilities = [utility(policy) for policy in grid]
    if alpha is None:
        floor = utility(ALWAYS)[0]
        ranked = [(wrong, -right, *policy.preference) for policy, (right, wrong) in zip(grid, utilities, strict=True)]
        fit = [place for place, (right, _) in enumerate(utilities) if right >= floor]
    else:
        ranked = [(-right, wrong, *policy.preference) for policy, (right, wrong) in zip(grid, utilities, strict=True)]
        rates = [_by_patient(_wrong(policy.said(seen), known), whose) for policy in grid]
        fit = [i for i, values in enumerate(rates) if _p_value(values.mean(), alpha, len(values)) <= 1 - confidence]
        if not fit:
            least = bounded_rate(min(rates, key=np.mean), confidence)
            found = f"no policy for which {least.patients} patients show a rate of wrong diagnoses of at most {alpha:g}"
            raise InputError(found, f"a larger rate, {least.upper:.3f} or more, or more calibration patients")
    chosen = grid[min(fit, key=lambda place: ranked[place])]
    others = ~choosing
    wrong = _wrong(chosen.said(observations.take(others)), true[others])
    bound = bounded_rate(_by_patient(wrong, owner[others]), confidence)
    if alpha is not None and bound.upper > alpha:
        found = f"a policy whose wrong diagnoses may reach a rate of {bound.upper:.3f} in the other half of the patients"
        raise InputError(found, f"at most {alpha:g} (more calibration patients, or a larger rate)")
    right, wrong_share = utility(chosen)
    stated: dict[str, str | int | float] = {
        "cases": len(observations),
        "patients": int(owner.max()) + 1,
        "seed": seed,
        "policies": len(grid),
        "choosing_correct": round(right, 6),
        "choosing_wrong": round(wrong_share, 6),
        "choosing_always_correct": round(utility(ALWAYS)[0], 6),
        "choosing_always_wrong": round(utility(ALWAYS)[1], 6),
        **({} if alpha is None else {"alpha": alpha}),
        **(calibration or {}),
    }
    return chosen.model_copy(update={"bound": bound, "calibration": stated})


def candidates(observations: Observations) -> Iterator[SelectivePolicy]:
    """The grid: demands on probabilities, and limits at quantiles of what the cases show and at 1, 1.5 and 2 thresholds.

    :data:`ALWAYS` is the first and :data:`NEVER` the last.
    """
    changed = observations.take(~observations.unchanged)
    limits = {
        "trust_limit": _quantiles(changed.trust, (0.5, 0.75, 0.9), (2.0, 1.5, 1.0)),
        "steps_limit": _quantiles(changed.steps, (0.75, 0.9)),
        "agreement_limit": (None,) if not len(changed) or np.isnan(changed.agreement).any() else (None, 0.6, 1.0),
    }
    for p_restored in (0.0, 0.7, 0.8, 0.9, 0.95, 0.99):
        for p_agreeing in dict.fromkeys((p_restored, 0.0)):
            for p_contradicted in dict.fromkeys((p_restored, max(p_restored, 0.95), None)):
                for p_original in (None, 0.0, 0.9):
                    for trust, steps, agreement in itertools.product(*limits.values()):
                        yield SelectivePolicy(
                            p_restored=p_restored,
                            p_agreeing=p_agreeing,
                            p_contradicted=p_contradicted,
                            p_original=p_original,
                            trust_limit=trust,
                            steps_limit=steps,
                            agreement_limit=agreement,
                        )
    yield NEVER


def halves(patients: ArrayLike, seed: int, proportion: float = 0.5) -> NDArray[np.bool_]:
    """Which cases are of the patients drawn by ``seed``, bool ``(N,)``: a ``proportion`` of them, whole patients."""
    owner = np.unique(np.asarray(patients), return_inverse=True)[1]
    count = int(owner.max()) + 1 if len(owner) else 0
    drawn = np.random.default_rng(seed).permutation(count)[: round(proportion * count)]
    return np.isin(owner, drawn)


def _quantiles(values: NDArray[np.float64], at: Sequence[float], fixed: Sequence[float] = ()) -> tuple[float | None, ...]:
    """No limit, and limits at quantiles of the values and fixed ones; no limit alone where a value is missing."""
    if not len(values) or np.isnan(values).any():
        return (None,)
    quantiles = (round(float(np.quantile(values, q)), 2) for q in sorted(at, reverse=True))
    return (None, *dict.fromkeys((*quantiles, *fixed)))


def _at_least(values: NDArray[np.float64], demand: float | None) -> NDArray[np.bool_]:
    return np.zeros(len(values), dtype=bool) if demand is None else np.asarray(values >= demand)


def _wrong(said: NDArray[np.str_], truth: NDArray[np.str_]) -> NDArray[np.bool_]:
    """A diagnosis that is not the truth; a case called non-diagnostic has none."""
    return np.asarray((said != truth) & (said != NONDIAGNOSTIC))


def _by_patient(values: NDArray[np.bool_], owner: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of the values of each patient who has any, ``(n,)``."""
    counts = np.bincount(owner)
    return np.asarray((np.bincount(owner, weights=values) / np.maximum(counts, 1))[counts > 0])


def _p_value(rate: float, a: float, n: int) -> float:
    """Hoeffding-Bentkus p-value of the hypothesis that the mean is above ``a``."""
    if rate >= a:
        return 1.0
    from scipy.stats import binom

    kl = (rate * np.log(rate / a) if rate > 0 else 0.0) + (1 - rate) * np.log((1 - rate) / (1 - a))
    # The sum of shares such as 1/3 may lie a rounding error above a whole number.
    hits = np.ceil(n * rate - 1e-9)
    return float(min(np.exp(-n * kl), np.e * binom.cdf(hits, n, a), 1.0))

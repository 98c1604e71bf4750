"""What a reader must know before trusting a result: sentences that begin with a code and a colon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from srh_clinic.case.classifying import ClassifiedSlide
from srh_clinic.case.record import RescanRegion
from srh_clinic.case.restoring import Overview, RestoredSlide
from srh_clinic.case.scrutiny import Scrutiny
from srh_clinic.intensity import Counts

if TYPE_CHECKING:
    from srh_clinic.bundles import Bundle
    from srh_clinic.restorers import Restorer
    from srh_clinic.trust import Decision, GuardPolicy, SelectivePolicy

LITTLE_TISSUE = 0.1
"""A slide of which less than this fraction was taken for tissue is flagged: it is small, or the mask has lost it."""


NOTES = frozenset({"reading", "resampled", "rescan", "withheld", "channels-shifted", "policy-unused"})
"""Codes of flags that say how the image was read and treated: nothing is wrong."""

DOUBTS = frozenset(
    {
        *("diagnosis-changed", "policy", "unsure", "few-patches", "guards"),
        *("channels-swapped", "channels-of-two-fields", "channels-same", "channels-unequal", "channel-dark", "channel-noise"),
    }
)
"""Codes of flags that speak against the diagnosis; all others are warnings."""

SURE = 0.6
"""Support below which a diagnosis is doubtful: a tenth from even."""

FEW_PATCHES = 4
"""A diagnosis that rests on fewer patches is doubtful."""

MANY_FLAGGED = 0.1
"""Where the guards speak in this share of the restored tiles, the diagnosis is doubtful."""


def code_of(flag: str) -> str:
    """The code that a flag begins with."""
    return flag.partition(":")[0]


def doubt_flags(after: ClassifiedSlide, scrutiny: Scrutiny) -> Iterator[str]:
    """What speaks against the diagnosis itself, beside what :func:`case_flags` and a policy say."""
    said, patches = after.diagnosis, len(after.patches.values)
    if patches and said.support < SURE:
        yield f"unsure: over the patches the probability of {said.diagnosis} is {said.support:.2f} in the mean, near even"
    if 0 < patches < FEW_PATCHES:
        yield f"few-patches: the diagnosis rests on {patches} {'patch' if patches == 1 else 'patches'} with tissue"
    flagged, examined = len(scrutiny.failed), len(scrutiny.index)
    if flagged and flagged >= MANY_FLAGGED * examined:
        yield f"guards: they speak in {flagged} of {examined} restored tiles"


def case_flags(
    restored: RestoredSlide,
    before: ClassifiedSlide,
    after: ClassifiedSlide,
    regions: tuple[RescanRegion, ...],
    seen: Overview,
) -> tuple[str, ...]:
    """What a reader must know before trusting the result."""
    flags = []
    if not seen.mask.cells.any():
        flags.append("no-tissue: nothing on the slide gives a signal")
    elif seen.mask.fraction < LITTLE_TISSUE:
        flags.append(f"little-tissue: {seen.mask.fraction:.1%} of the slide was taken for tissue, the rest for empty glass")
    flags += [f"{name}: {said}" for name, said in _channel_flags(seen.picture)]
    if min(restored.slide.shape) < after.patches.edge:
        flags.append(f"small: the slide is smaller than the {after.patches.edge} pixels that the classifier looks at")
    if before.diagnosis.diagnosis != after.diagnosis.diagnosis:
        flags.append(
            f"diagnosis-changed: {before.diagnosis.diagnosis} as scanned, {after.diagnosis.diagnosis} after restoration"
        )
    if capped := restored.counts.capped:
        flags.append(f"capped: {capped} of {len(restored.index)} tiles are worse than what the restorer was trained for")
    if unknown := sum("no-estimate" in said for said in restored.flags):
        flags.append(f"no-estimate: the noise estimator had no answer for {unknown} of {len(restored.index)} tiles")
    if regions:
        flags.append(f"rescan: {len(regions)} {'region' if len(regions) == 1 else 'regions'} of poor image quality")
    return tuple(flags)


def promised_for(policy: GuardPolicy, restorer: Restorer) -> bool:
    """Whether the guards' promise was calibrated on what this restorer makes: RSCD with the settings that it had then.

    Bundles that do not state them were calibrated with the defaults of RSCD and no exposure.
    """
    from srh_clinic.rscd.settings import ROUNDING, RSCDSettings

    stated = policy.calibration.get("settings")
    settings = RSCDSettings(exposure=None).model_dump() if stated is None else json.loads(str(stated))
    ours = {name: value for name, value in restorer.settings.items() if name not in ROUNDING}
    return restorer.name == "rscd" and ours == {name: value for name, value in settings.items() if name not in ROUNDING}


def trust_flags(scrutiny: Scrutiny, withheld: int, restored: int, promised: bool = True) -> Iterator[str]:
    """What the guards have to say in the result's flags; ``promised`` is what :func:`promised_for` says."""
    if scrutiny.threshold is None:
        if restored:
            yield "unexamined: no thresholds for these weights and guards, so nobody looked for what was invented"
        return
    if restored and not scrutiny.patterns:
        yield "pattern-unexamined: the bundle states no limit for patterns of a grid, so nobody listened for them"
    if places := len(scrutiny.regions):
        yield f"differs: restored image differs from its input at {places} {'place' if places == 1 else 'places'}, see trust"
    if withheld:
        yield f"withheld: {withheld} flagged {'tile shows' if withheld == 1 else 'tiles show'} the original"
    if not promised and restored:
        yield "beyond-calibration: the guards' promise was calibrated on what rscd makes with its defaults, not on this"
    if scrutiny.outside:
        of = f"{scrutiny.outside} of {len(scrutiny.index)} tiles"
        yield f"beyond-calibration: {of} asked for more or fewer steps than the guards' promise was calibrated on"


def policy_flags(
    selective: SelectivePolicy | None, decision: Decision | None, bundle: Bundle, restorer: Restorer
) -> Iterator[str]:
    """What a selective policy decided against the restored image, and whether it was calibrated for what made that."""
    if selective is None or decision is None:
        return
    if decision.use == "original":
        yield f"policy: the original's diagnosis stands, {decision.said}, not that of the restored image; {decision.why}"
    elif decision.use == "nondiagnostic":
        yield f"policy: the case is called non-diagnostic; {decision.why}"
    stated = selective.calibration.get("weights_sha256")
    if stated is None:
        yield "policy-of-other-weights: the policy does not say which weights it was calibrated with"
    elif stated != bundle.weights_sha256:
        yield f"policy-of-other-weights: the policy was calibrated with {str(stated)[:12]}, not {bundle.weights_sha256[:12]}"
    if (name := selective.calibration.get("restorer", restorer.name)) != restorer.name:
        yield f"policy-of-other-restorer: the policy was calibrated on what {name} makes, not {restorer.name}"


def _channel_flags(picture: Counts) -> Iterator[tuple[str, str]]:
    """A channel in which nothing was measured, which a classifier would take for tissue of a strange kind."""
    if not picture.any():
        return
    for name, channel in zip(("CH2 (2845 cm-1)", "CH3 (2930 cm-1)"), picture, strict=True):
        if channel.min() == channel.max():
            yield "dead-channel", f"{name} is {int(channel.min())} everywhere"
    if picture.shape[1] * picture.shape[2] > 1 and np.array_equal(picture[0], picture[1]):
        yield "same-channels", "CH2 and CH3 are the same image"

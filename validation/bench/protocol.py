"""The protocol by which everything reported on phantoms is made: ``protocol.yaml`` beside this module, typed."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from srh_clinic.errors import InputError, on_one_line
from srh_clinic.intensity import Counts
from srh_clinic.simulation import CLASSES, DIAGNOSIS_OF_KIND, Phantom, simulate_patch

SEVERITIES = ("mild", "moderate", "severe")
"""Severity bins, in the order of ``phantom index mod 3``."""

SEVERITY_STREAM, EDIT_STREAM, COIN_STREAM = 3, 5, 6
"""Streams of a test phantom's seed beside the simulation's own: for its severity, edits of its nuclei, and which is judged."""

Severity = Literal["mild", "moderate", "severe"]
Share = Annotated[float, Field(ge=0, le=1)]


class ProtocolSection(BaseModel):
    """A part of the protocol; an entry that it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PhantomSection(ProtocolSection):
    """Which test phantoms there are."""

    count: int = Field(gt=0)
    first_seed: int = Field(ge=0)
    size: int = Field(gt=0)
    um_per_px: float = Field(gt=0)
    kinds: tuple[str, ...]


class SeveritySection(ProtocolSection):
    """Lowest and highest strength of the leading source in each bin."""

    mild: tuple[Share, Share]
    moderate: tuple[Share, Share]
    severe: tuple[Share, Share]


class TruthSection(ProtocolSection):
    """The kinds of tissue by their true class."""

    tumor: tuple[str, ...]
    normal: tuple[str, ...]
    nondiagnostic: tuple[str, ...]


class TrainingSection(ProtocolSection):
    """Seeds and budgets of everything that is trained."""

    validation_first_seed: int = Field(ge=0)
    unreadable_severity: Share
    budget_minutes: dict[str, int]


class SSIMSection(ProtocolSection):
    """Window of the structural similarity."""

    window: Literal["gaussian"]
    sigma: float = Field(gt=0)
    size: int = Field(gt=0)


class IntervalSection(ProtocolSection):
    """How intervals of means are made."""

    level: float = Field(gt=0, lt=1)
    method: Literal["bootstrap over phantoms"]
    resamples: int = Field(gt=0)
    seed: int = Field(ge=0)


class RestorationSection(ProtocolSection):
    """What is restored and by what it is judged."""

    reference: Literal["clean"]
    ssim: SSIMSection
    samplers: tuple[Literal["ddim", "mean", "ancestral"], ...]
    classical: tuple[Literal["median-5", "median-3", "gaussian-1", "nlm"], ...]
    interval: IntervalSection


class ReferenceSection(ProtocolSection):
    """High-quality images that restored ones are compared with as a set."""

    count: int = Field(gt=0)
    first_seed: int = Field(ge=0)


class TablesSection(ProtocolSection):
    """The paper's tables: how many images, and which methods see fewer."""

    count: int = Field(gt=0)
    slow: tuple[str, ...]
    slow_count: int = Field(gt=0)
    reference: ReferenceSection
    interval: IntervalSection


class CalibrationSection(ProtocolSection):
    """Phantoms on which thresholds are calibrated."""

    count: int = Field(gt=0)
    first_seed: int = Field(ge=0)


class GuardsSection(ProtocolSection):
    """What the guards are calibrated on and judged by."""

    calibration: CalibrationSection
    alphas: tuple[Annotated[float, Field(gt=0, lt=1)], ...]
    contrast: Literal["faint", "usual", "strong"]
    overlong_steps: int = Field(gt=0)
    overlong_stride: int = Field(gt=0)


class CalibratorSection(ProtocolSection):
    """The calibrator's noise."""

    uniform_t: tuple[int, int]
    two_region_gap: int = Field(gt=0)
    seed: int = Field(ge=0)


class ClassifierSection(ProtocolSection):
    """Conditions under which the classifier is read."""

    report: tuple[Literal["clean", "mild", "moderate", "severe"], ...]


class Protocol(ProtocolSection):
    """The test phantoms and how everything is judged on them; see ``protocol.yaml`` for the meaning of each entry."""

    version: Literal[1]
    phantoms: PhantomSection
    severity: SeveritySection
    sources: tuple[Literal["scattering", "absorption", "autofluorescence", "instrument"], ...]
    truth: TruthSection
    training: TrainingSection
    restoration: RestorationSection
    tables: TablesSection
    guards: GuardsSection
    calibrator: CalibratorSection
    classifier: ClassifierSection
    sha256: str = Field(pattern="[0-9a-f]{64}")
    """Of the file that the protocol was read from; every report carries it."""

    @model_validator(mode="after")
    def _truth_is_that_of_the_simulation(self) -> Protocol:
        ours = {kind: diagnosis for diagnosis in CLASSES for kind in getattr(self.truth, diagnosis)}
        wrong = [kind for kind in self.phantoms.kinds if ours.get(kind) != DIAGNOSIS_OF_KIND.get(kind, "unknown")]
        if wrong:
            raise ValueError(f"the simulation sees {', '.join(sorted(set(wrong)))} otherwise than the truth's table")
        return self

    def seed(self, index: int) -> int:
        """Seed of a test phantom."""
        count = max(self.phantoms.count, self.tables.count)
        if not 0 <= index < count:
            raise IndexError(f"found test phantom {index}; needed one from 0 to {count - 1}.")
        return self.phantoms.first_seed + index

    def bin(self, index: int) -> Severity:
        """Severity bin of a test phantom."""
        return SEVERITIES[index % len(SEVERITIES)]  # type: ignore[return-value]

    def kind(self, index: int) -> str:
        """Tissue of a test phantom."""
        return self.phantoms.kinds[index // len(SEVERITIES) % len(self.phantoms.kinds)]

    def truth_of(self, index: int) -> str:
        """True class of a test phantom, whatever its noise."""
        return DIAGNOSIS_OF_KIND[self.kind(index)]

    def strength(self, index: int) -> float:
        """Severity of a test phantom in [0, 1], uniform in its bin, drawn from a stream of its seed that nothing else uses."""
        low, high = getattr(self.severity, self.bin(index))
        return float(np.random.default_rng([self.seed(index), SEVERITY_STREAM]).uniform(low, high))

    def phantom(self, index: int) -> Phantom:
        """Simulate test phantom ``index``, from 0 to ``phantoms.count - 1``, for the tables to ``tables.count - 1``.

        Raises
        ------
        IndexError
            When there is no such phantom.
        """
        return simulate_patch(self.kind(index), self.strength(index), self.seed(index), self.phantoms.size)

    def reference(self, index: int) -> Counts:
        """Clean image ``index`` of the tables' high-quality set, uint16 counts ``(2, H, W)``."""
        kind = self.phantoms.kinds[index % len(self.phantoms.kinds)]
        return simulate_patch(kind, 0.0, self.tables.reference.first_seed + index, self.phantoms.size).clean

    @property
    def for_calibration(self) -> Protocol:
        """The same with the guards' calibration phantoms in the place of the test phantoms."""
        phantoms = {**self.phantoms.model_dump(), **self.guards.calibration.model_dump()}
        return Protocol.model_validate({**self.model_dump(), "phantoms": phantoms})

    @cached_property
    def slow_indices(self) -> tuple[int, ...]:
        """The tables' phantoms that the slow methods restore, evenly spread."""
        count = self.tables.slow_count
        return tuple(place * self.tables.count // count for place in range(count))

    @cached_property
    def images_sha256(self) -> str:
        """Of everything that the image of a test phantom depends on, and of nothing else that the protocol says."""
        drawn = self.model_dump_json(include={"phantoms": {"first_seed", "size", "um_per_px", "kinds"}, "severity": True})
        return hashlib.sha256(f"{drawn} {self.phantoms_sha256}".encode()).hexdigest()

    @cached_property
    def phantoms_sha256(self) -> str:
        """Of the first test phantom of each kind: it changes when the simulation draws them otherwise."""
        digest = hashlib.sha256()
        first = {self.kind(index): index for index in reversed(range(self.phantoms.count))}
        for kind in sorted(first):
            phantom = self.phantom(first[kind])
            digest.update(phantom.counts.tobytes() + phantom.clean.tobytes())
        return digest.hexdigest()


class _UniqueKeys(yaml.SafeLoader):
    """YAML without objects, in which a table says each of its keys once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(twice)} said twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_protocol(path: str | Path | None = None) -> Protocol:
    """Read the protocol; without a path the one in the package, which all published numbers follow.

    Raises
    ------
    InputError
        When the file cannot be read or is not such a protocol.
    """
    path = Path(__file__).with_name("protocol.yaml") if path is None else Path(path)
    try:
        content = path.read_bytes()
        entries = yaml.load(content, Loader=_UniqueKeys)  # noqa: S506 - a safe loader that refuses a key said twice
    except (OSError, yaml.YAMLError, AttributeError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"a file that is not readable YAML ({on_one_line(error)})", "a protocol", path) from error
    if not isinstance(entries, dict):
        raise InputError(f"a {type(entries).__name__}", "a table of the protocol's entries", path)
    try:
        return Protocol.model_validate({**entries, "sha256": hashlib.sha256(content).hexdigest()})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"a protocol with a wrong entry ({where}: {first['msg']})", "entries as in the protocol of the package", path
        ) from error

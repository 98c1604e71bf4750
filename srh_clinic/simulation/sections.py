"""A block of tissue cut at a depth: what the painters draw at depth 0, and what lies beneath it.

The painters know one plane. A :class:`SectionRng` is the generator of random numbers that they draw that plane from, and tells
those that paint textures and bodies how each has changed some micrometres deeper. It draws the same numbers at every depth,
so that the plan of the tissue (regions, directions, glands, vessels, every parameter) stays, and what is small changes:

* a texture is a plane through a random field in three dimensions;
* a nucleus, a cell or a droplet is a sphere-like body, cut off centre, soft and faint where the cut only grazes it; when the
  section has left it, the next body of its column comes into focus, beside where the first was;
* a fibre leaves the section as its neighbour enters.

No measurement of brain stands behind it: it is the least that makes sections differ as near and correlated planes do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srh_clinic.slide import UM_PER_PX

AXIAL_UM = 1.5
"""Standard deviation of the optical section's thickness: nothing changes much faster with depth than this."""

_SHARP, _GONE = 0.75, 1.2  # heights, in half-thicknesses of a body, up to which it is in focus and beyond which it is not seen
_PITCH = 2.2  # distance of the bodies of a column, in half-thicknesses
_PORE_UM = 3.0  # how deep a pore goes
_FIBRE_UM = (2.0, 7.0)  # half the depth through which a fibre stays in the section
_FIBRE_SHIFT = 15.0  # standard deviation in px of the place where the next fibre lies


def sharpness(height: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """How well a body is in focus, 1 to 0, by the section's height above its centre in half-thicknesses."""
    return np.asarray(np.clip((_GONE - np.abs(height)) / (_GONE - _SHARP), 0, 1))


def _girth(height: float) -> float:
    """Radius of a body in the section; from where it goes out of focus on it fades rather than shrinks."""
    return 1 - 0.4 * min(abs(height), 0.7) ** 2


@dataclass(frozen=True)
class Cut:
    """Where a section goes through the bodies of a column.

    height, start
        Height of the section above the centre of the first body, and what it was at depth 0, in half-thicknesses.
    member, member_height
        The body of the column that is nearest to the section (0 the first) and the section's height above its centre.
    """

    height: float
    start: float = 0.0
    member: int = 0
    member_height: float = 0.0

    def look(self, softness: float, presence: float) -> tuple[float, float, float]:
        """Softness of the outline in px, presence in [0, 1] and scale of the radius, from what they were at depth 0."""
        now, before = float(sharpness(self.height)), float(sharpness(self.start))
        if now < before:
            softness, presence = softness + 1.5 * (before - now), presence * now / before
        elif now > before:
            share = (now - before) / (1 - before)
            softness, presence = softness + share * (0.55 - softness), presence + share * (1 - presence)
        return softness, presence, _girth(self.height) / _girth(self.start)

    @property
    def in_focus(self) -> bool:
        """Whether the first body shows as sharply as one in focus at depth 0."""
        return bool(sharpness(self.height) > 0.8)


@dataclass(frozen=True)
class Column:
    """Bodies one above the other, of which the painters draw the first.

    ``inside`` and ``outside`` are the section's height above its centre at depth 0, in half-thicknesses, when it is in focus
    and when it is not; ``key`` seeds the bodies beneath.
    """

    depth_um: float
    inside: float
    outside: float
    key: tuple[int, ...]

    def cut(self, radius: float, out_of_focus: bool = False) -> Cut:
        """The cut through a column whose first body has a ``radius`` in px."""
        half = radius * UM_PER_PX + AXIAL_UM / 2
        start = self.outside if out_of_focus else self.inside
        height = start + self.depth_um / half
        member = round(height / _PITCH)
        return Cut(height, start, member, height - member * _PITCH)

    def below(self, cut: Cut, radius: float) -> tuple[np.random.Generator, NDArray[np.float64], ColumnMember]:
        """The stream of the body that is nearest to the section, its displacement ``(2,)`` in px, and how it is cut."""
        stream = np.random.default_rng([*self.key, abs(cut.member)])
        return stream, stream.normal(0, 0.8 * radius, 2), ColumnMember(cut.member_height)


@dataclass(frozen=True)
class ColumnMember:
    """A body further down a column, cut at ``height``."""

    height: float

    def cut(self, radius: float, out_of_focus: bool = False) -> Cut:
        """The cut through it; where it lies is known, so neither its ``radius`` nor ``out_of_focus`` matters."""
        return Cut(self.height)


class SectionRng(np.random.Generator):
    """The stream of random numbers of a tissue, cut ``depth_um`` below the plane that a plain generator would paint.

    Parameters
    ----------
    tissue
        Seeds the plan of the tissue: at depth 0 painters draw and paint what they do with a plain generator of this seed.
    block
        Seeds what lies beneath.
    depth_um
        How deep, in micrometres; 0 or more.
    """

    def __init__(self, tissue: np.random.SeedSequence, block: np.random.SeedSequence, depth_um: float) -> None:
        super().__init__(np.random.PCG64(tissue))
        self.depth_um = depth_um
        self._block = tuple(int(word) for word in block.generate_state(4))
        self._asked = 0

    def _key(self) -> tuple[int, ...]:
        """Seeds what lies beneath the next thing painted: the same at every depth, as painters ask in one order."""
        self._asked += 1
        return (*self._block, self._asked)

    def columns(self, n: int) -> list[Column]:
        """A column for each of ``n`` bodies."""
        key = self._key()
        rng = np.random.default_rng(key)
        inside = rng.uniform(-0.7, 0.7, n)
        outside = rng.choice([-1.0, 1.0], n) * rng.uniform(0.85, 1.05, n)
        return [Column(self.depth_um, float(inside[i]), float(outside[i]), (*key, i)) for i in range(n)]

    def turned(self, white: NDArray[np.complexfloating], frequency: NDArray[np.floating]) -> NDArray[np.complexfloating]:
        """The half spectrum ``(H, W // 2 + 1)`` of white noise as it is at this depth, given that of depth 0.

        Each planar ``frequency`` (cycles per px) belongs to a wave whose axial frequency is Gaussian and about as wide, cut
        off by the thickness of the section: a plane through an isotropic field, correlated over a structure's own size.
        """
        rng = np.random.default_rng(self._key())
        planar = 2 * np.pi * frequency / UM_PER_PX
        phase = rng.standard_normal(white.shape) * planar / np.hypot(1, planar * AXIAL_UM) * self.depth_um
        power = np.sqrt(np.mean(np.abs(white) ** 2) / 2)
        other = power * (rng.standard_normal(white.shape) + 1j * rng.standard_normal(white.shape))
        return np.asarray(white * np.cos(phase) + other * np.sin(phase), white.dtype)

    def renewed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Uniform values of independent pixels, each replaced by another every few micrometres."""
        key = self._key()
        layer = (np.random.default_rng(key).random(values.shape) * _PORE_UM + self.depth_um) // _PORE_UM
        for number in np.unique(layer[layer > 0]):
            fresh = np.random.default_rng([*key, int(number)]).random(values.shape)
            values = np.where(layer == number, fresh, values)
        return values

    def layers(self, n: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """For ``n`` fibres the two layers that the section can show, as weights ``(n,)`` and displacements ``(2, n)`` in px.

        The weights of a fibre's layers add up to 1; at depth 0 the first layer has it all, without displacement.
        """
        key = self._key()
        rng = np.random.default_rng(key)
        half = rng.uniform(*_FIBRE_UM, n)
        height = rng.uniform(-0.7, 0.7, n) + self.depth_um / half
        upper = np.floor((height + 1) / 2)
        edge = height - 2 * upper  # -1 where the upper layer begins, 1 where the lower one does
        entering = np.clip((edge - 0.7) / 0.3, 0, 1)
        return [(1 - entering, self._moved(key, upper)), (entering, self._moved(key, upper + 1))]

    @staticmethod
    def _moved(key: tuple[int, ...], layer: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = np.zeros((2, len(layer)))
        for number in np.unique(layer[layer > 0]):
            here = layer == number
            moved[:, here] = np.random.default_rng([*key, int(number)]).normal(0, _FIBRE_SHIFT, moved.shape)[:, here]
        return moved

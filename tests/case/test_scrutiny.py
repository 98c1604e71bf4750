"""What the guards say of a slide, through the pipeline: exact networks for flat tissue, and a nucleus of known place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from flat_case import SCHEDULE, calibrate, denoise
from numpy.typing import NDArray

from srh_clinic.case.flags import promised_for
from srh_clinic.case.pipeline import RestoreThenClassify
from srh_clinic.case.provenance import guard_policy_of
from srh_clinic.case.result import CaseResult
from srh_clinic.errors import InputError
from srh_clinic.guards import NUCLEUS_VERSION
from srh_clinic.intensity import Counts
from srh_clinic.restorers import Restoration, RestoredTile, Tile
from srh_clinic.restorers.diffusion import DiffusionRestorer
from srh_clinic.rscd import RSCD, RSCDSettings
from srh_clinic.slide import ArraySlide
from srh_clinic.trust import GuardPolicy, Promise

TILE, FLAT, NOISE = 128, 20_000, 1_500
POLICY = GuardPolicy(
    scales={"added": 6.0, "removed": 6.0, "brightness": 0.1},
    promises=(Promise(alpha=0.1, threshold=1.0, confidence=0.95), Promise(alpha=0.05, threshold=0.8, confidence=0.95)),
    calibration={"tiles": 100, "weights_sha256": "0" * 64},
    steps=(1, 200),
)


@dataclass(frozen=True)
class FakeBundle:
    name: str = "fake"
    path: Path = Path("fake")
    weights_sha256: str = "0" * 64
    metadata: dict[str, Any] = field(default_factory=lambda: {"um_per_px": 0.47, "tile": TILE})


class BrightIsTumor:
    patch = TILE
    recipe = "opensrh"

    def predict_proba(self, patches: Counts) -> NDArray[np.float64]:
        return np.tile([0.8, 0.1, 0.1], (len(patches), 1))


@dataclass(frozen=True)
class Inventing:
    """Restores flat tissue exactly, but draws nuclei at places (y, x) of the slide; it says that it is RSCD."""

    places: tuple[tuple[int, int], ...]
    batch_size: int = 4
    name: str = "rscd"
    exposure: float | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return RSCDSettings(batch_size=self.batch_size, exposure=self.exposure).model_dump()

    def restore(self, counts: Counts, positions: Any = None, seed: int = 0) -> Restoration:
        raise NotImplementedError

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]:
        corners: dict[int, tuple[int, int]] = {}

        def seen() -> Iterator[Tile]:
            for tile in tiles:
                corners[tile.key] = tile.y, tile.x
                yield tile

        exact = DiffusionRestorer("rscd", RSCD(denoise, calibrate, SCHEDULE, RSCDSettings(batch_size=self.batch_size)))
        for restored in exact.stream(seen(), seed):
            y, x = corners[restored.key]
            image = restored.counts.astype(np.float64)
            rows, columns = np.indices(image.shape[1:])
            for row, column in self.places:
                disc = 1 / (1 + np.exp(np.hypot(rows + y - row, columns + x - column) - 7))
                image *= np.stack([1 - 0.4 * disc, 1 + 0.1 * disc])
            yield replace(restored, counts=np.rint(image).astype(np.uint16))


@pytest.fixture(autouse=True)
def overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three by three tiles of 128 px, sharing 32."""
    monkeypatch.setattr("srh_clinic.case.restoring.OVERLAP", 32)


def noisy(shape: tuple[int, int] = (300, 320), um_per_px: float = 0.47) -> ArraySlide:
    image = FLAT + NOISE * np.random.default_rng(0).standard_normal((2, *shape))
    return ArraySlide(np.clip(image, 1, 65_535).astype(np.uint16), um_per_px)


def diagnose(*places: tuple[int, int], slide: ArraySlide | None = None, **options: Any) -> CaseResult:
    given = {key: options.pop(key) for key in ("conservative", "guard_policy") if key in options}
    settings = {"guard_policy": POLICY, **given}
    restorer = Inventing(places, options.pop("batch_size", 4))
    pipeline = RestoreThenClassify(FakeBundle(), restorer, BrightIsTumor(), **settings)  # type: ignore[arg-type]
    return pipeline(noisy() if slide is None else slide, **options)


def test_the_promise_is_that_of_the_restorer_it_was_calibrated_on() -> None:
    assert promised_for(POLICY, Inventing((), batch_size=2))
    assert not promised_for(POLICY, Inventing((), exposure=24_000.0))
    assert not promised_for(POLICY, Inventing((), name="median"))
    bright = RSCDSettings(exposure=24_000.0).model_dump_json()
    stated = POLICY.model_copy(update={"calibration": {**POLICY.calibration, "settings": bright}})
    assert promised_for(stated, Inventing((), exposure=24_000.0))
    assert not promised_for(stated, Inventing(()))
    pipeline = RestoreThenClassify(FakeBundle(), Inventing((), exposure=24_000.0), BrightIsTumor(), guard_policy=POLICY)  # type: ignore[arg-type]
    assert any(flag.startswith("beyond-calibration: the guards' promise") for flag in pipeline(noisy()).flags)


def test_a_faithful_restoration_raises_no_flag() -> None:
    result = diagnose()
    assert len(result.scrutiny.index) == result.tiles.restored == 9
    assert result.scrutiny.regions == ()
    assert (result.scrutiny.strengths > 0).all()
    assert (result.scrutiny.strengths < 1).all()
    assert not any(flag.startswith(("differs", "unexamined", "beyond")) for flag in result.flags)


def test_an_invented_nucleus_is_flagged_where_it_is_once_though_four_tiles_show_it() -> None:
    place = (112, 112)  # in the overlap of tiles 0, 1, 3 and 4 of a grid of 96 px
    result = diagnose(place)
    (region,) = result.scrutiny.regions
    assert region.kind == "added_nucleus"
    assert region.strength > 1
    assert region.y < place[0] < region.y + region.height
    assert region.x < place[1] < region.x + region.width
    assert (region.y + region.height / 2, region.x + region.width / 2) == pytest.approx(place, abs=3)
    assert region.where == "centre" or "left" in region.where
    assert set(result.scrutiny.failed.tolist()) == {0, 1, 3, 4}
    assert "differs: restored image differs from its input at 1 place, see trust" in result.flags
    assert result.to_dict()["trust"]["regions"][0]["kind"] == "added_nucleus"


def test_the_guard_of_all_evidence_at_a_place_tells_nuclei_by_their_places_too() -> None:
    together = POLICY.model_copy(update={"scales": {"nucleus": 9.0}, "limits": {"brightness": 0.1}})
    place = (112, 112)
    (region,) = diagnose(place, guard_policy=together).scrutiny.regions
    assert region.kind == "added_nucleus"
    assert (region.y + region.height / 2, region.x + region.width / 2) == pytest.approx(place, abs=3)
    assert diagnose(guard_policy=together).scrutiny.regions == ()


def test_regions_are_told_in_pixels_of_the_slide_as_scanned() -> None:
    slide = noisy((240, 256), um_per_px=0.5875)  # resampled to 300 x 320 px of 0.47 um
    (region,) = (r for r in diagnose((60, 200), slide=slide).scrutiny.regions if r.strength > 1.5)
    centre = region.y + region.height / 2, region.x + region.width / 2
    assert centre == pytest.approx((60 * 0.8, 200 * 0.8), abs=3)
    assert (region.y_um, region.x_um) == pytest.approx((region.y * 0.5875, region.x * 0.5875), abs=0.06)


def test_conservative_shows_the_original_and_reads_nothing_there() -> None:
    place = (48, 48)  # in tile 0 alone
    trusting, careful = diagnose(place), diagnose(place, conservative=True)
    scanned = noisy().read(0, 0, 300, 320)
    assert careful.withheld == 1
    inner = np.s_[:, :90, :90]
    np.testing.assert_array_equal(careful.restored.slide.read(0, 0, 300, 320)[inner], scanned[inner])
    far = np.s_[:, 140:, 140:]
    shown = [result.restored.slide.read(0, 0, 300, 320)[far] for result in (trusting, careful)]
    np.testing.assert_array_equal(*shown)
    # Of the 3 x 3 patches, the first lies in the tile and counts as non-diagnostic; its neighbours do not touch it.
    assert careful.maps.classes_after.values[:, 2].tolist() == [1.0] + [pytest.approx(0.1)] * 8
    assert trusting.maps.classes_after.values[0, 0] == pytest.approx(0.8)
    assert "withheld: 1 flagged tile shows the original" in careful.flags
    assert careful.provenance["settings"]["conservative"] is True


def test_when_everything_is_withheld_nothing_is_diagnosed() -> None:
    everywhere = tuple((y, x) for y in (48, 144, 240) for x in (48, 144, 240, 300))
    assert diagnose(*everywhere).diagnosis == "tumor"
    assert diagnose(*everywhere, conservative=True).diagnosis == "nondiagnostic"


def test_batch_size_and_resume_change_no_flag(tmp_path: Path) -> None:
    places = ((48, 48), (200, 250))
    whole = diagnose(*places).to_dict()["trust"]
    regions = whole.pop("regions")
    alone = diagnose(*places, batch_size=1).to_dict()["trust"]

    def cut(stage: str, done: int, total: int) -> None:
        if stage == "restoring" and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        diagnose(*places, work=tmp_path, progress=cut)
    resumed = diagnose(*places, work=tmp_path)
    assert resumed.restored.computed < 9
    assert len(regions) == 2
    for other in (alone, resumed.to_dict()["trust"]):
        # Single counts may be rounded otherwise in a batch of another size; strengths are told to two digits.
        for one, same in zip(regions, other.pop("regions"), strict=True):
            assert {**one, "strength": 0} == {**same, "strength": 0}
            assert one["strength"] == pytest.approx(same["strength"], abs=0.011)
        assert whole == other


def test_a_bundle_without_thresholds_says_that_nothing_was_examined() -> None:
    result = diagnose((48, 48), guard_policy=None)
    assert result.to_dict()["trust"] == {
        "calibrated": False,
        "miss_rate": None,
        "examined": 0,
        "flagged": 0,
        "withheld": 0,
        "outside_calibration": 0,
        "regions": [],
    }
    assert any(flag.startswith("unexamined") for flag in result.flags)


def test_a_bundle_without_a_limit_for_patterns_says_that_nobody_listened_and_with_one_they_are_told() -> None:
    assert any(flag.startswith("pattern-unexamined") for flag in diagnose().flags)
    listening = POLICY.model_copy(update={"limits": {"lattice": 2.0}})
    quiet = diagnose(guard_policy=listening)
    assert not any(flag.startswith("pattern-unexamined") for flag in quiet.flags)
    assert quiet.scrutiny.regions == ()
    patterned = RestoreThenClassify(FakeBundle(), Checkered(()), BrightIsTumor(), guard_policy=listening)(noisy())  # type: ignore[arg-type]
    assert {region.kind for region in patterned.scrutiny.regions} == {"lattice"}
    assert len(patterned.scrutiny.failed) == len(patterned.scrutiny.index) == 9
    assert all(region.strength > 1 and region.height == region.width == TILE for region in patterned.scrutiny.regions[:1])


@dataclass(frozen=True)
class Checkered(Inventing):
    """Leaves a checkerboard of a hundredth of the brightness."""

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]:
        for tile in super().stream(tiles, seed):
            signs = (-1.0) ** np.indices(tile.counts.shape[1:]).sum(axis=0)
            yield replace(tile, counts=np.rint(tile.counts + 0.01 * FLAT * signs).astype(np.uint16))


def test_tiles_beyond_what_the_promise_was_calibrated_on_are_counted() -> None:
    narrow = POLICY.model_copy(update={"steps": (100, 200)})
    result = diagnose(guard_policy=narrow)
    assert result.scrutiny.outside == 9
    assert any(flag.startswith("beyond-calibration: 9 of 9 tiles") for flag in result.flags)


def test_thresholds_hold_for_the_weights_and_the_guard_that_they_were_calibrated_with_alone() -> None:
    stated = {"um_per_px": 0.47, "tile": TILE, "trust": POLICY.model_dump(mode="json")}
    assert guard_policy_of(FakeBundle(metadata=stated)) == POLICY  # type: ignore[arg-type]
    assert guard_policy_of(FakeBundle(metadata=stated, weights_sha256="1" * 64)) is None  # type: ignore[arg-type]
    assert guard_policy_of(FakeBundle()) is None  # type: ignore[arg-type]
    calibrated = {**POLICY.model_dump(mode="json"), "scales": {"nucleus": 6.0}}
    for version, holds in ((None, False), (NUCLEUS_VERSION - 1, False), (NUCLEUS_VERSION, True)):
        told = {} if version is None else {"version of nucleus": version}
        entry = {**calibrated, "calibration": {**POLICY.calibration, **told}}
        found = guard_policy_of(FakeBundle(metadata={**stated, "trust": entry}))  # type: ignore[arg-type]
        assert (found is not None) == holds
    broken = {**stated, "trust": {**stated["trust"], "promises": []}}  # type: ignore[dict-item]
    with pytest.raises(InputError, match=r"metadata.json: found trust.promises: .*needed what srh-clinic bundle calibrate"):
        guard_policy_of(FakeBundle(metadata=broken))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Fickle(Inventing):
    """Draws the second of its nuclei under even seeds alone."""

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]:
        places = self.places if seed % 2 == 0 else self.places[:1]
        yield from Inventing(places, self.batch_size).stream(tiles, seed)


def test_nuclei_that_change_with_the_seed_are_told_and_those_that_do_not_are_not() -> None:
    fickle = Fickle(((48, 48), (200, 250)))
    made = RestoreThenClassify(FakeBundle(), fickle, BrightIsTumor(), seed=1, repeated=fickle, seeds=3)(noisy())  # type: ignore[arg-type]
    assert made.certainty is not None
    (nucleus,) = made.certainty.nuclei
    assert (nucleus.y + nucleus.height / 2, nucleus.x + nucleus.width / 2) == pytest.approx((200, 250), abs=3)
    assert nucleus.persistence == 0.5  # of the seeds 1 to 4, two are even
    squares = made.maps.deviation
    assert squares is not None
    assert squares.edge == 32
    assert squares.values.argmax() in np.flatnonzero((np.abs(squares.positions + 16 - (200, 250)) <= 16).all(axis=1))


def test_flagged_regions_and_uncertain_nuclei_fit_the_schema() -> None:
    fickle = Fickle(((48, 48), (200, 250)))
    settings: dict[str, Any] = {"seed": 1, "guard_policy": POLICY, "repeated": fickle, "seeds": 3}
    result = RestoreThenClassify(FakeBundle(), fickle, BrightIsTumor(), **settings)(noisy()).to_dict()  # type: ignore[arg-type]
    assert result["trust"]["regions"]
    assert result["certainty"]["nuclei"]
    schema = json.loads((files("srh_clinic") / "schemas" / "result.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(json.dumps(result)), schema)


def test_certainty_is_asked_of_what_depends_on_the_seed() -> None:
    with pytest.raises(InputError, match=r"--certainty with the restorer median, which draws no samples; needed .*rscd"):
        RestoreThenClassify.from_bundle("phantom-demo", "median", certainty=2)

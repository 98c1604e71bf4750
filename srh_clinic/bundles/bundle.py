"""Bundles: networks with everything that is needed to use and to judge them, in the layout of a MONAI Bundle.

::

    NAME/configs/metadata.json    version, pixel size, tile, patch, colour recipe, schedule, sha256 of each other file
    NAME/configs/inference.json   each part's description, from which its network is built, and what MONAI runs
    NAME/models/<part>.safetensors
    NAME/docs/README.md           the model card

A part is the ``denoiser``, the ``calibrator``, the ``classifier`` or a learned baseline of the restoration; a bundle may lack
some. Bundles inside the package are found by name. A bundle whose metadata say ``"extends": "phantom-demo"`` (a name, or a
folder as seen from its own) takes the parts that it lacks from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from srh_clinic.bundles.workflow import WORKFLOW, metadata_for_monai
from srh_clinic.errors import InputError
from srh_clinic.files import draft_of, flush, parsed_json, sha256_of
from srh_clinic.slide import UM_PER_PX

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

BASELINES = ("synthetic_noise", "noise2noise", "noise2void", "cyclegan", "conditional_diffusion")
"""Learned restorers that RSCD is compared with; each is a part of a bundle and a restorer of its name."""

PARTS = ("denoiser", "calibrator", "classifier", *BASELINES)
"""Every network that a bundle can hold."""

Storage = Literal["float32", "float16"]
"""How weights are stored; they are computed with in float32."""

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
MODEL_CARD = "docs/README.md"
EMBEDDED = Path(__file__).parent
PACKAGES = {"monai": "monai", "pytorch": "torch", "numpy": "numpy", "timm": "timm"}

DEFAULT_METADATA: dict[str, Any] = {
    "version": "0.1.0",
    "changelog": {"0.1.0": "first weights"},
    "task": "Restoration of stimulated Raman histology and its classification as tumor, normal or non-diagnostic",
    "description": "Denoiser and step calibrator for restorative step-calibrated diffusion, and a patch classifier",
    "demonstration": "demonstration weights, research use only",
    "authors": "srh-clinic contributors",
    "copyright": "srh-clinic contributors",
    "license": "CC-BY-4.0",
    "um_per_px": UM_PER_PX,
    "tile": 256,
    "patch": 256,
    "colour_recipe": "opensrh",
    "schedule": "cosine",
}
"""What a bundle's metadata say unless told otherwise."""

TRAINED_FOR = {"denoiser": ("schedule",), "calibrator": ("schedule",), "classifier": ("colour_recipe", "patch")}
"""What the metadata say, beside ``um_per_px``, that a part was trained for: two bundles must agree on it to share the part."""

UM_PER_PX_RANGE = (0.05, 5.0)
"""Pixel sizes that networks for histology can have been trained at."""

SIZE_RANGE = (16, 4096)
"""Edges of tiles and patches, in pixels."""


LARGEST_WIDTH = 8192
"""Of a layer of a network: beyond it a description is damaged."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk.

    Attributes
    ----------
    path
        Its folder.
    metadata
        ``configs/metadata.json``.
    parent
        The bundle that it extends.
    """

    path: Path
    metadata: dict[str, Any]
    parent: Bundle | None = None

    @property
    def name(self) -> str:
        """The folder's name, also of the working folder (``.``)."""
        return self.path.absolute().name

    @property
    def own_parts(self) -> tuple[str, ...]:
        """The networks in its own folder."""
        return tuple(part for part in PARTS if part in self._inference)

    @property
    def parts(self) -> tuple[str, ...]:
        """The networks that it has, those of the bundles it extends among them."""
        return tuple(part for part in PARTS if (holder := self._find(part)) and not self._disagreement(part, holder))

    @property
    def lineage(self) -> tuple[Bundle, ...]:
        """Itself, the bundle that it extends, the one which that extends, and so on."""
        return (self, *(self.parent.lineage if self.parent else ()))

    @property
    def model_card(self) -> str:
        """The text of its model card; empty where it has none."""
        return self.card_file.read_text(encoding="utf-8") if self.card_file.is_file() else ""

    @property
    def card_file(self) -> Path:
        """Where its model card stands."""
        return self.path / MODEL_CARD

    @property
    def weights_sha256(self) -> str:
        """sha256 of the table of all weights' sha256, wherever they lie: one name for what the networks are."""
        table = "".join(
            f"{self.holder(part).metadata['sha256'][weights_file(part)]}  {weights_file(part)}\n" for part in self.parts
        )
        return hashlib.sha256(table.encode()).hexdigest()

    def holder(self, part: str) -> Bundle:
        """The bundle whose folder holds a part: itself, or one that it extends.

        Raises
        ------
        InputError
            When none does, or the part there was trained for something else than this bundle states.
        """
        holder = self._find(part)
        if holder is None:
            raise InputError(f"no {part} (parts: {', '.join(self.parts) or 'none'})", f"a bundle with a {part}", self.path)
        if key := self._disagreement(part, holder):
            found = f"no {part}, and the one of {holder.name} is for {key} {holder.metadata.get(key)}"
            raise InputError(found, f"one for {key} {self.metadata.get(key)}", self.path)
        return holder

    def config(self, part: str) -> dict[str, Any]:
        """The description from which a part's network is built.

        Raises
        ------
        InputError
            When the bundle has no such part.
        """
        return dict(self.holder(part)._inference[part])

    def load_tensors(self, part: str) -> dict[str, Tensor]:
        """A part's weights on the CPU, float32 however they are stored (integers as they are).

        Raises
        ------
        InputError
            When the bundle has no such part, or its file cannot be read or is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.holder(part).path / weights_file(part)
        try:
            stored = load_file(path)
        except OSError as error:
            raise InputError(f"weights that cannot be read ({error.strerror or error})", "a readable file", path) from error
        except (SafetensorError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"damaged weights of the {part}", "an undamaged bundle", path) from error
        return {key: value.float() if value.is_floating_point() else value for key, value in stored.items()}

    def load_network(self, create: Callable[[dict[str, Any]], nn.Module], part: str, device: torch.device) -> nn.Module:
        """A part's network with its weights, on a device and in evaluation mode.

        Parameters
        ----------
        create
            Makes the network of the part's description.

        Raises
        ------
        InputError
            When the bundle has no such part, or its weights do not fit the description.
        """
        from srh_clinic.inference import made_apart, same_for_any_threads

        holder, tensors = self.holder(part).path, self.load_tensors(part)
        config = self.config(part)
        _check_widths(config, part, holder / INFERENCE)
        try:
            with made_apart():
                network = create(config)
        except InputError:
            raise
        except Exception as error:  # whatever torch, monai and timm make of a description that is none of theirs
            found = f"a description of the {part} from which no network can be built ({error})"
            raise InputError(found.splitlines()[0], "an undamaged bundle", holder / INFERENCE) from error
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            found = f"weights that do not fit the {part}'s configuration"
            raise InputError(found, "an undamaged bundle", holder / weights_file(part)) from error
        network = network.to(device).eval()
        return same_for_any_threads(network) if device.type == "cpu" else network

    def _find(self, part: str) -> Bundle | None:
        return next((bundle for bundle in self.lineage if part in bundle._inference), None)

    def _disagreement(self, part: str, holder: Bundle) -> str | None:
        keys = ("um_per_px", *TRAINED_FOR.get(part, ()))
        return next((key for key in keys if self.metadata.get(key) != holder.metadata.get(key)), None)

    @cached_property
    def _inference(self) -> dict[str, Any]:
        described = _read_json(self.path / INFERENCE)
        for part in PARTS:
            if not isinstance(described.get(part, {}), dict):
                found = f"a description of the {part} that is not a JSON object"
                raise InputError(found, "the settings of its network by name", self.path / INFERENCE)
        return described


def weights_file(part: str) -> str:
    """Path of a part's weights inside a bundle."""
    return f"models/{part}.safetensors"


def bundle_names() -> tuple[str, ...]:
    """Names of the bundles inside the package."""
    return tuple(sorted(path.name for path in EMBEDDED.iterdir() if (path / METADATA).is_file()))


def bundle_exists(path: Path) -> bool:
    """Whether a folder holds a bundle, sound or not."""
    return (path / METADATA).is_file()


def load_bundle(name_or_path: str | Path) -> Bundle:
    """A bundle by the name of an embedded one or by its folder, verified, with those that it extends.

    A :class:`~pathlib.Path` of a bundle, or a text with a separator (``"./phantom-demo"``), is a folder.

    Raises
    ------
    InputError
        When there is none, a name is also that of a folder here that holds another bundle, :func:`verify_bundle` finds it or
        one that it extends wrong, its metadata state no possible size of pixels, tiles or patches, or the bundles extend each
        other in a circle.
    """
    path = Path(name_or_path)
    if str(name_or_path) in bundle_names():
        here = bundle_exists(path)
        if here and isinstance(name_or_path, str) and _differ(path, EMBEDDED / path):
            needed = f"./{path} for the folder, or a working folder without it for the one in the package"
            raise InputError("the name of a bundle in the package, and here a folder with another", needed, path)
        path = path if here and isinstance(name_or_path, Path) else EMBEDDED / path
    if not bundle_exists(path):
        known = ", ".join(bundle_names()) or "none"
        raise InputError("no bundle", f"a bundle's folder, or the name of a bundle in the package ({known})", path)
    return _load_bundle(path, ())


def _differ(one: Path, other: Path) -> bool:
    return (one / METADATA).read_bytes() != (other / METADATA).read_bytes()


def _load_bundle(path: Path, heirs: tuple[Path, ...]) -> Bundle:
    """The bundle in ``path``, which the last of ``heirs`` extends, and so on."""
    verify_bundle(path)
    metadata = _read_json(path / METADATA)
    _check_metadata(metadata, path)
    extends = metadata.get("extends")
    if extends is None:
        return Bundle(path, metadata)
    parent = EMBEDDED / str(extends) if extends in bundle_names() else path / str(extends)
    if not bundle_exists(parent):
        needed = f"a bundle of the package ({', '.join(bundle_names()) or 'none'}) or a bundle's folder as seen from {path}"
        raise InputError(f"a bundle that extends {extends!r}, which does not exist", needed, path / METADATA)
    heirs = (*heirs, path.resolve())
    if parent.resolve() in heirs:
        circle = " extends ".join(heir.name for heir in (*heirs, parent.resolve()))
        raise InputError(f"a circle of bundles ({circle})", "at least one that extends no other", path / METADATA)
    return Bundle(path, metadata, _load_bundle(parent, heirs))


def parent_reference(path: Path, name_or_path: str | Path) -> str:
    """What the metadata of a bundle in ``path`` say to extend another: its name, or its folder as seen from ``path``.

    Raises
    ------
    InputError
        When :func:`load_bundle` refuses the other, or it is, or extends, the bundle in ``path``.
    """
    parent = load_bundle(name_or_path)
    if path.resolve() in (bundle.path.resolve() for bundle in parent.lineage):
        raise InputError(f"a circle of bundles ({path.name} would extend itself)", "another bundle to extend", path)
    if str(name_or_path) in bundle_names():
        return str(name_or_path)
    return Path(os.path.relpath(parent.path.resolve(), path.resolve())).as_posix()


def _check_widths(description: Any, part: str, path: Path) -> None:
    """Refuse a number in a part's description that would have a network take all memory before its weights are looked at."""
    values = description.values() if isinstance(description, dict) else description if isinstance(description, list) else ()
    for value in values:
        if isinstance(value, int | float) and abs(value) > LARGEST_WIDTH:
            found = f"a description of the {part} with the number {value}"
            raise InputError(found, f"a network whose layers are at most {LARGEST_WIDTH} wide", path)
        _check_widths(value, part, path)


def _check_metadata(metadata: dict[str, Any], path: Path) -> None:
    """Refuse metadata that no image could be read by; no sha256 covers the file that holds them all."""
    size, tile, patch = (metadata.get(key) for key in ("um_per_px", "tile", "patch"))
    if not isinstance(size, int | float) or not UM_PER_PX_RANGE[0] <= size <= UM_PER_PX_RANGE[1]:
        needed = "um_per_px from {} to {}".format(*UM_PER_PX_RANGE)
        raise InputError(f"um_per_px {size!r}", needed, path / METADATA)
    for key, value in (("tile", tile), ("patch", patch)):
        if not isinstance(value, int) or not SIZE_RANGE[0] <= value <= SIZE_RANGE[1]:
            raise InputError(f"{key} {value!r}", "{} from {} to {} pixels".format(key, *SIZE_RANGE), path / METADATA)


def _is_file(path: Path) -> bool:
    """Whether a file lies at a path; a name that none can have, being too long, is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def verify_bundle(path: Path) -> dict[str, str]:
    """Compare each file of a bundle with the sha256 in its metadata; bundles that it extends are not looked at.

    Returns
    -------
    sha256 by file, as verified.

    Raises
    ------
    InputError
        When a file is missing, differs from its sha256, or is a network's weights and not in the table.
    """
    table = _read_json(path / METADATA).get("sha256")
    if not isinstance(table, dict) or not table:
        raise InputError("no table of sha256 sums", "a bundle whose metadata lists the sha256 of its files", path / METADATA)
    for file, expected in table.items():
        # A link, as in the cache of a hub, may lead anywhere: what it leads to has the sum that is asked for.
        inside = path / file
        if Path(file).is_absolute() or ".." in Path(file).parts or not _is_file(inside):
            raise InputError("no such file", f"the file that {METADATA} lists", path / file)
        found = sha256_of(inside)
        if found != expected:
            raise InputError(f"sha256 {found}", f"{expected}, which {METADATA} lists", path / file)
    unlisted = {str(file.relative_to(path).as_posix()) for file in path.glob("models/[!.]*.safetensors")} - set(table)
    for part in set(PARTS) & set(_read_json(path / INFERENCE)):
        unlisted |= {weights_file(part), INFERENCE} - set(table)
    if unlisted:
        raise InputError(
            f"no sha256 of {', '.join(sorted(unlisted))}", "the sha256 of every file in the metadata", path / METADATA
        )
    return dict(table)


def save_bundle(
    path: Path,
    parts: dict[str, tuple[dict[str, Any], dict[str, Tensor]]],
    metadata: dict[str, Any] | None = None,
    model_card: str | None = None,
    *,
    storage: Storage = "float32",
) -> Bundle:
    """Write a bundle: all of it or nothing.

    Files that an older bundle at ``path`` has beside the bundle's own (logs, checkpoints) stay.

    Parameters
    ----------
    path
        Folder of the bundle.
    parts
        Description and weights of each part.
    metadata
        Replaces and extends ``DEFAULT_METADATA``.
    model_card
        Markdown; None writes one from the metadata.
    storage
        ``"float16"`` halves the size; a weight beyond its range is refused.

    Raises
    ------
    InputError
        When a part is unknown, or does not fit in float16.
    """
    from safetensors.torch import save

    unknown = sorted(set(parts) - set(PARTS))
    if unknown or not parts:
        raise InputError(f"the parts {unknown or 'none'}", "one or more of " + ", ".join(PARTS), path)
    description: dict[str, Any] = {**DEFAULT_METADATA, **(metadata or {})}
    description |= metadata_for_monai(description, parts)
    description["weights_storage"] = storage
    description |= {f"{key}_version": version(package) for key, package in PACKAGES.items()}
    inference = {part: config for part, (config, _) in parts.items()} | WORKFLOW
    files = [INFERENCE, MODEL_CARD, *(weights_file(part) for part in parts)]
    draft = draft_of(path.absolute())
    try:
        for file in (*files, METADATA):
            (draft / file).parent.mkdir(parents=True, exist_ok=True)
        for part, (_, weights) in parts.items():
            # Not safetensors' save_file, whose files are for their owner alone whatever the umask says.
            (draft / weights_file(part)).write_bytes(save(_stored(weights, part, storage), metadata={"format": "pt"}))
        (draft / INFERENCE).write_text(json.dumps(inference, indent=2) + "\n", encoding="utf-8")
        (draft / MODEL_CARD).write_text(model_card or default_model_card(path.name, description, parts), encoding="utf-8")
        description["sha256"] = {file: sha256_of(draft / file) for file in files}
        (draft / METADATA).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        for file in (*files, METADATA):
            flush(draft / file)
        _put_in_place(draft, path, files)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return load_bundle(path)


def _put_in_place(draft: Path, path: Path, files: Sequence[str]) -> None:
    """Move a bundle's files into its folder, the metadata last: a cut before leaves one that does not verify, never one
    that seems whole."""
    for stale in path.glob("models/*.safetensors"):
        stale.unlink()
    for file in (*files, METADATA):
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        if file == METADATA:
            for folder in {(path / moved).parent for moved in files}:
                flush(folder)
        (draft / file).replace(path / file)
    flush((path / METADATA).parent)


def update_bundle(
    path: Path,
    parts: dict[str, tuple[dict[str, Any], dict[str, Tensor]]],
    metadata: dict[str, Any] | None = None,
    *,
    storage: Storage | None = None,
) -> Bundle:
    """Add or replace parts of the bundle at ``path``, which is begun if it is not there; what it extends stays where it is.

    Weights are stored as those that it has, unless told otherwise: float32 in one that is begun.
    """
    if not bundle_exists(path):
        return save_bundle(path, parts, metadata, storage=storage or "float32")
    old = load_bundle(path)
    storage = storage or _storage(old)
    kept = {part: (old.config(part), old.load_tensors(part)) for part in old.own_parts}
    description = {key: value for key, value in old.metadata.items() if key not in ("sha256", "weights_storage")}
    return save_bundle(path, {**kept, **parts}, {**description, **(metadata or {})}, storage=storage)


def annotate_bundle(bundle: Bundle, metadata: dict[str, Any] | None = None, *, model_card: str | None = None) -> Bundle:
    """Write a bundle anew with the networks that it has, further metadata, and another model card; None keeps its own.

    Raises
    ------
    InputError
        When its folder cannot be read.
    """
    parts = {part: (bundle.config(part), bundle.load_tensors(part)) for part in bundle.own_parts}
    kept = {key: value for key, value in bundle.metadata.items() if key != "sha256"}
    card = bundle.model_card if model_card is None else model_card
    return save_bundle(bundle.path, parts, {**kept, **(metadata or {})}, card, storage=_storage(bundle))


def _storage(bundle: Bundle) -> Storage:
    """How a bundle stores its weights."""
    return "float16" if bundle.metadata.get("weights_storage") == "float16" else "float32"


def default_model_card(name: str, metadata: dict[str, Any], parts: dict[str, tuple[dict[str, Any], dict[str, Tensor]]]) -> str:
    """A model card in Markdown that says what the metadata say, and what the weights must not be used for."""
    rows = "\n".join(
        f"| {part} | `{json.dumps(config)}` | {sum(value.numel() for value in weights.values()):,} |"
        for part, (config, weights) in parts.items()
    )
    parent = metadata.get("extends")
    extends = f"\n| Extends | {parent}, from which come the networks that are not listed below |" if parent else ""
    return f"""# {name}

{metadata["description"]}. **{metadata["demonstration"]}.** Not a medical device: never use it to decide about a patient.

| | |
|---|---|
| Version | {metadata["version"]} |
| Licence of the weights | {metadata["license"]} |
| Pixel size | {metadata["um_per_px"]} um |
| Tile of the restorer, patch of the classifier | {metadata["tile"]} px, {metadata["patch"]} px |
| Colour recipe of the classifier | {metadata["colour_recipe"]} |
| Noise schedule | {metadata["schedule"]}, 1,000 steps |
| Channels | CH2 (2845 cm-1, lipid), CH3 (2930 cm-1, protein) |{extends}

## Networks
| part | description | numbers stored |
|---|---|---|
{rows}

## Training data
Simulated tissue only: phantoms with known truth and random textures. No patient's image was used.

## Limits
Phantoms are cruder than tissue. The restorer takes noise away; it must not be trusted to bring back what was not measured.
"""


def _stored(weights: dict[str, Tensor], part: str, storage: Storage) -> dict[str, Tensor]:
    import torch

    kept = {}
    for key, value in weights.items():
        if value.is_floating_point():
            value = value.to(torch.float16 if storage == "float16" else torch.float32)
            if not bool(torch.isfinite(value).all()):
                raise InputError(
                    f"numbers in {part}.{key} that {storage} cannot hold", f"finite weights within the range of {storage}"
                )
        kept[key] = value.detach().cpu().contiguous()
    return kept


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = parsed_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"a file that is not readable JSON ({error})", "a bundle's configuration", path) from error
    if not isinstance(content, dict):
        raise InputError(f"a {type(content).__name__}", "a JSON object", path)
    return content

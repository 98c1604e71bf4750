"""What this installation has and what it lacks."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, metadata

from srh_clinic import __version__

LIBRARIES = {
    "torchvision": "pip install torch torchvision, both in one call, so that they match",
    "monai": "pip install monai",
    "timm": "pip install timm",
    "pydicom": "pip install pydicom",
    "highdicom": "pip install highdicom",
    "jpeg_ls": "pip install pyjpegls",
    "openjpeg": "pip install pylibjpeg-openjpeg",
    "skimage": "pip install scikit-image",
    "tifffile": "pip install tifffile",
}
"""Libraries by the name they are imported under, and how to get them."""

NAMES = {"jpeg_ls": "pyjpegls", "openjpeg": "pylibjpeg-openjpeg", "skimage": "scikit-image"}
ROOM_GB = 2.0
"""Restored tiles of a slide of 20,000 x 20,000 pixels."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; ``needed`` says whether srh-clinic works without, ``remedy`` how to get it."""

    name: str
    good: bool
    found: str
    remedy: str = ""
    needed: bool = True


def check_health() -> tuple[Check, ...]:
    """Look at Python, libraries, device, weights, room on the disk, and the DICOM validator."""
    return (
        Check("srh-clinic", True, __version__),
        Check("Python", sys.version_info >= (3, 11), platform.python_version(), "install Python 3.11 or newer"),
        _tried("torch", _torch, "pip install torch torchvision"),
        _tried("device", _device, "pip install torch torchvision"),
        _tried("precision", _precision, "pip install torch torchvision"),
        *(_tried(NAMES.get(module, module), _library(module), remedy) for module, remedy in LIBRARIES.items()),
        _bundles(),
        _room(),
        _validator(),
    )


def _tried(name: str, look: Callable[[], str], remedy: str) -> Check:
    """A library that is there but does not import is as good as missing, whatever it raises."""
    try:
        return Check(name, True, look())
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}", remedy)


def _library(module: str) -> Callable[[], str]:
    def look() -> str:
        import_module(module)
        return metadata.version(NAMES.get(module, module))

    return look


def _torch() -> str:
    import torch

    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    from srh_clinic.engine import processor_name

    return f"cpu: {processor_name()}, {os.cpu_count()} cores (no CUDA device: slower, but works)"


def _precision() -> str:
    from srh_clinic.engine import choose_precision
    from srh_clinic.inference import choose_device

    return f"{choose_precision('auto', choose_device('auto'))}, the faster one here"


def _bundles() -> Check:
    from srh_clinic.bundles import bundle_names, load_bundle
    from srh_clinic.errors import InputError

    remedy = "pip install --force-reinstall --no-deps srh-clinic, or name a bundle's folder with --bundle"
    names = bundle_names()
    if not names:
        return Check("weights", False, "no bundle inside the package", remedy)
    try:
        found = ", ".join(f"{name} {load_bundle(name).weights_sha256[:12]}" for name in names)
    except InputError as error:
        return Check("weights", False, str(error), remedy)
    return Check("weights", True, found)


def _room() -> Check:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free / 1e9
    return Check("room", free > ROOM_GB, f"{free:.0f} GB free in {folder}", "set TMPDIR to a larger disk", needed=False)


def _validator() -> Check:
    path = shutil.which("dciodvfy")
    remedy = "apt-get install dicom3tools (only to check DICOM files, and for some tests)"
    return Check("dciodvfy", path is not None, path or "not found", remedy, needed=False)

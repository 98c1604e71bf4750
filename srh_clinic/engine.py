"""The engine that runs trained networks: one image to a thread on a processor, and in bfloat16 where that is faster.

A convolution's kernel is chosen by the size of the batch, the layout and the number of threads, and kernels round differently.
Here a processor sees every image alone and in one thread, while as many threads as torch may use see as many images: nothing
has to wait for another thread between two layers, an image's intermediate features stay in the core's cache, and what a
network says of an image depends on nothing but the image.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srh_clinic.concurrency import begin
from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint, parsed_json, write_whole
from srh_clinic.inference import inference

T = TypeVar("T")
R = TypeVar("R")

Precision = Literal["float32", "bf16"]
"""What a network's convolutions are computed in: whole float32, or bfloat16 (sums stay float32)."""

FASTER = 1.2
"""bfloat16 is used where one image takes float32 this many times as long: a busy machine does not turn the choice around."""

ROUNDS = 5
"""Times that both are measured, one after the other; the fastest of each counts."""

TOGETHER = 16
"""Items to a thread that :func:`side_by_side` works on before it hands them on: few wait at the end for the last of them."""

MALLOC = {-3: 32 << 20, -1: 256 << 20}
"""Options of glibc's ``mallopt``: bytes from which on memory is the system's own (M_MMAP_THRESHOLD, at its largest), and free
bytes at the top of a heap that are kept (M_TRIM_THRESHOLD)."""

MEASUREMENT = 1
"""Version of :func:`bf16_speed`: what an older one found is not remembered."""


class Engine:
    """A trained network, run alike for every image: a callable of batches.

    Parameters
    ----------
    network
        In evaluation mode on ``device``, called with one or more tensors ``(N, ...)`` and answering with one. It is kept, and
        its weights are laid out anew (channels last); of one that has a method ``in_bfloat16`` a copy is kept for ``bf16``.
    device
        Where it is. On a processor each image of a batch goes through alone, see :func:`each_alone`; on a card all of them
        go together.
    precision
        ``bf16`` runs what ``in_bfloat16`` gives, or the network under autocast; the answer is float32 in any case.
    """

    def __init__(self, network: nn.Module, device: torch.device, precision: Precision = "float32") -> None:
        halved = getattr(network, "in_bfloat16", None) if precision == "bf16" else None
        self.network: nn.Module = (network if halved is None else halved()).to(memory_format=torch.channels_last)
        self.device = device
        self.precision = precision
        self._autocast = precision == "bf16" and halved is None
        if device.type == "cpu":
            keep_freed_memory()

    @property
    def size_multiple(self) -> int:
        """The network takes heights and widths that are multiples of this."""
        return int(getattr(self.network, "size_multiple", 1))

    @inference()
    def __call__(self, *batch: Tensor) -> Tensor:
        """What the network makes of a batch, float32."""
        return each_alone(self._forward, *batch) if self.device.type == "cpu" else self._forward(*batch)

    def _forward(self, *batch: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
            answer: Tensor = self.network(*map(_channels_last, batch))
        return answer.float()


def each_alone(forward: Callable[..., Tensor], *batch: Tensor) -> Tensor:
    """What ``forward`` makes of each image of a batch on the processor, ``(N, ...)``: one image a call, one thread a call.

    Calls run beside each other in as many threads as torch may use here. The result is the same to the bit for any batch and
    any number of threads.

    Parameters
    ----------
    forward
        Called without gradients with tensors ``(1, ...)``, in any thread.
    batch
        Tensors with one length N, at least 1.
    """
    threads = torch.get_num_threads()
    images = [tuple(part[i : i + 1] for part in batch) for i in range(len(batch[0]))]
    with _one_thread():
        made = begin(partial(_without_gradients, forward), images, threads=threads)()
    return torch.cat(made)


def side_by_side(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What ``work`` makes of each item on the processor, in their order: one item a call, one thread a call.

    Calls run beside each other in as many threads as torch may use here, :data:`TOGETHER` for each of them at a time, and
    none while the caller works with what it was given. What :func:`each_alone` promises of an image holds of an item here,
    when ``work`` asks networks by way of an :class:`Engine`: and between two looks of a network no thread waits for another.

    Parameters
    ----------
    work
        Called in any thread.
    """
    source, threads = iter(items), torch.get_num_threads()
    failed: Exception | None = None
    while failed is None:
        some: list[T] = []
        try:
            some.extend(islice(source, TOGETHER * threads if threads > 1 else 1))
        except Exception as error:  # what came before it is worked on first
            failed = error
        if not some:
            break
        with inference(), _one_thread():
            made = begin(work, some, threads=threads)()
        yield from made
    if failed is not None:
        raise failed


@torch.inference_mode()
def _without_gradients(forward: Callable[..., Tensor], image: tuple[Tensor, ...]) -> Tensor:
    return forward(*image)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let an operation of torch use one thread, in this thread and in any whose first operation this is."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@cache
def keep_freed_memory() -> bool:
    """Let this process keep memory that it has freed, up to some hundred megabytes, instead of giving it back at once.

    A network frees megabytes after every layer and asks for as many. Given back and fetched again, each page of them is
    cleared by the system: that takes a tenth of a denoiser's time, in float32 a fifth. Where the C library is not glibc
    nothing happens, and False is said.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(option, size) == 1 for option, size in MALLOC.items())


def give_back_memory() -> bool:
    """Give the system back what this process has freed and kept, see :func:`keep_freed_memory`: between two stages of a case.

    What one stage kept in pieces is of no use to the next, which would be given more. Where the C library is not glibc
    nothing happens, and False is said.
    """
    try:
        return bool(ctypes.CDLL("libc.so.6").malloc_trim(0))
    except (OSError, AttributeError):
        return False


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def choose_precision(name: str, device: torch.device) -> Precision:
    """A precision by name; ``auto`` is bfloat16 where it is faster: on cards that have it, and on processors as measured.

    A processor without instructions for it (see :func:`has_bf16`) computes in float32. On one with them both are timed, once:
    what was found is remembered by the processor's name and torch's version, see :func:`remembered_choice`.

    Raises
    ------
    InputError
        When there is no such precision.
    """
    if name in get_args(Precision):
        return name  # type: ignore[return-value]
    if name != "auto":
        raise InputError(f"the precision {name!r}", f"auto, {' or '.join(get_args(Precision))}")
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "float32"
    return remembered_choice(_cache_file()) if device.type == "cpu" and has_bf16(device) else "float32"


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 by instructions: CUDA, and a processor with AVX512-BF16 or AMX.

    There it is about twice as fast as float32 or more; on other processors it is many times slower.
    """
    if device.type != "cpu":
        return device.type == "cuda"
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # newer than the oldest torch that serves
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def processor_name() -> str:
    """What the processor calls itself; what it is a kind of where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]


@cache
def remembered_choice(file: Path | None) -> Precision:
    """The faster precision of this processor as ``file`` says, measured and written there where it says nothing of it.

    A file that cannot be read, says something else or is of another processor, torch or measurement counts as none, and one
    that cannot be written is left: then every process measures for itself, in some tenths of a second. None is no file.
    """
    machine = {"processor": processor_name(), "torch": torch.__version__, "measurement": MEASUREMENT}
    key = fingerprint(**machine)
    known: dict[str, Any] = {}
    try:
        known = parsed_json(file.read_bytes()) if file is not None else {}
        known = known if isinstance(known, dict) else {}
    except (OSError, ValueError):
        pass
    entry = known.get(key)
    said = entry.get("bf16_speed") if isinstance(entry, dict) and machine.items() <= entry.items() else None
    if isinstance(said, float) and 0 < said < float("inf"):
        return _faster(said)
    speed = bf16_speed()
    if file is not None:
        with suppress(InputError):
            write_whole(file, json.dumps({**known, key: {**machine, "bf16_speed": round(speed, 3)}}, indent=2) + "\n")
    return _faster(speed)


def _faster(bf16_speed: float) -> Precision:
    return "bf16" if bf16_speed >= FASTER else "float32"


@inference()
def bf16_speed() -> float:
    """How many times as long as in bfloat16 three convolutions take in float32: one image, one thread, both in turn."""
    weights = torch.linspace(-1, 1, 32 * 32 * 9).reshape(32, 32, 3, 3).contiguous(memory_format=torch.channels_last)
    image = torch.linspace(-1, 1, 32 * 128 * 128).reshape(1, 32, 128, 128).contiguous(memory_format=torch.channels_last)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with _one_thread():
        for _ in range(ROUNDS + 1):  # the first plans kernels
            for bf16, taken in seconds.items():
                began = time.perf_counter()
                features = image
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    for _ in range(3):
                        features = F.silu(F.conv2d(features, weights, padding=1))
                taken.append(time.perf_counter() - began)
    return min(seconds[False][1:]) / min(seconds[True][1:])


def _cache_file() -> Path | None:
    """Where measurements are remembered: in ``$XDG_CACHE_HOME`` or ``~/.cache``; None without a home."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return root / "srh-clinic" / "precision.json"

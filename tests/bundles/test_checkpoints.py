"""Checkpoints of others are read, not run: what is no tensor is refused in one sentence, and nothing has happened by then."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from srh_clinic.bundles.checkpoints import DTYPES, TENSORS, read_checkpoint, state_dict
from srh_clinic.errors import InputError


def of_tensors(name: str) -> bool:
    return name in TENSORS or name in DTYPES


def of_modules(name: str) -> bool:
    return of_tensors(name) or name.startswith("torch.nn.modules.") or name in ("builtins.set", "__builtin__.set")


def test_a_state_dict_is_what_torch_says_it_is(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 4),
        "half": torch.randn(5).half(),
        "bf16": torch.randn(2, 2).bfloat16(),
        "number": torch.tensor(7),
        "part": torch.randn(6, 4)[2:4],
        "empty": torch.zeros(0, 3),
        "parameter": nn.Parameter(torch.randn(2)),
    }
    on_cards = {f"module.{name}": tensor for name, tensor in tensors.items()}
    for content in (tensors, OrderedDict(tensors), {"state_dict": tensors, "epoch": 3}, on_cards):
        torch.save(content, tmp_path / "a.pt")
        read = state_dict(read_checkpoint(tmp_path / "a.pt", of_tensors))
        assert list(read) == list(tensors)
        for name, tensor in tensors.items():
            torch.testing.assert_close(read[name], tensor.detach(), rtol=0, atol=0)
            assert read[name].dtype == tensor.dtype


@pytest.mark.parametrize("name", ["state_dict", "model", "ema"])
def test_a_state_dict_may_have_a_name_of_its_own(name: str, tmp_path: Path) -> None:
    weights = {f"_orig_mod.module.{key}": tensor for key, tensor in nn.Linear(2, 3).state_dict().items()}
    torch.save({"step": 5, name: weights, "opt": {"state": {0: {"exp_avg": torch.zeros(2)}}}}, tmp_path / "X.pt")
    tensors = state_dict(read_checkpoint(tmp_path / "X.pt", of_tensors))
    assert {key: tensor.tolist() for key, tensor in tensors.items()} == {
        key.removeprefix("_orig_mod.module."): tensor.tolist() for key, tensor in weights.items()
    }


@pytest.mark.parametrize("other", ["ema", "state_dict", "ema_state_dict"])
def test_of_several_state_dicts_none_is_guessed(other: str, tmp_path: Path) -> None:
    """A network and the average of its weights fit each other's names."""
    torch.save({"model": nn.Linear(2, 3).state_dict(), other: nn.Linear(2, 3).state_dict()}, tmp_path / "X.pt")
    with pytest.raises(InputError, match=rf"several state dicts \('model', '{other}'\); needed a checkpoint with one of them"):
        state_dict(read_checkpoint(tmp_path / "X.pt", of_tensors))


def test_a_module_that_was_pickled_whole_gives_its_state_dict(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Sequential(nn.Linear(3, 1)))
    torch.save(network, tmp_path / "a.pt")
    read = state_dict(read_checkpoint(tmp_path / "a.pt", of_modules))
    assert set(read) == set(network.state_dict())
    assert all(torch.equal(read[name], tensor) for name, tensor in network.state_dict().items())


class Calls:
    """Is pickled as a call; a harmless one, which leaves a file behind if it is made."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def checkpoint(path: Path, pickled: bytes, entries: dict[str, bytes] | None = None, **more: Any) -> Path:
    with zipfile.ZipFile(path, "w", **more) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")
        for name, content in (entries or {}).items():
            archive.writestr(f"archive/{name}", content)
    return path


class Claims(pickle.Pickler):
    """Pickles a tensor whose storage claims so many values."""

    def __init__(self, file: Any, count: Any) -> None:
        super().__init__(file, 2)
        self.count = count

    def persistent_id(self, value: Any) -> Any:
        return ("storage", torch.FloatStorage, "0", "cpu", self.count) if value is Ellipsis else None


def claiming(path: Path, count: Any, size: Any, stride: Any, offset: Any = 0) -> Path:
    raw = io.BytesIO()
    rebuild = Calls(torch._utils._rebuild_tensor_v2, ..., offset, size, stride, False, OrderedDict())
    Claims(raw, count).dump({"w": rebuild})
    return checkpoint(path, raw.getvalue(), {"data/0": bytes(16)})


def marker(folder: Path) -> Path:
    return folder / "it-was-run"


HOSTILE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "system call": (lambda d: pickle.dumps({"w": Calls(os.system, f"touch {marker(d)}")}, 2), "names 'posix.system'"),
    "written file": (lambda d: pickle.dumps({"w": Calls(open, str(marker(d)), "w")}, 2), "names '(io|_io|__builtin__).open'"),
    "exec": (lambda d: pickle.dumps({"w": Calls(exec, f"open({str(marker(d))!r}, 'w')")}, 4), "names 'builtins.exec'"),
    "method of a path": (
        lambda d: pickle.dumps({"w": Calls(Path.touch, marker(d))}, 4),
        "names '(builtins|pathlib)",
    ),
    "unknown module": (lambda d: b"\x80\x02cevil_module\nThing\n)\x81.", "names 'evil_module.Thing'"),
    "submodule of torch": (lambda d: b"\x80\x02ctorch.hub\nload\nX\x01\x00\x00\x00a\x85R.", "names 'torch.hub.load'"),
    "instance": (lambda d: b"(S'echo'\nios\nsystem\n.", "the instruction"),
    "object": (lambda d: b"(cos\nsystem\nS'echo'\no.", "names 'os.system'"),
    "extension": (lambda d: b"\x80\x02\x82\x01.", "the instruction EXT1"),
    "text of a persistent object": (lambda d: b"Pposix\n.", "the instruction PERSID"),
    "call of a number": (lambda d: b"\x80\x02K\x01)R.", "a damaged pickle"),
    "call of a record": (lambda d: b"\x80\x02ccollections\nOrderedDict\n)R)R.", "a damaged pickle"),
    "state of a name": (lambda d: b"\x80\x02ccollections\nOrderedDict\n}b.", "a damaged pickle"),
    "key of tuples": (lambda d: b"\x80\x02}K\x01K\x02\x86K\x01s.", "a damaged pickle"),
    "endless memo": (lambda d: b"\x80\x02}r\xff\xff\xff\x7fj\x00\x00\x00\x01.", "a damaged pickle"),
    "no end": (lambda d: b"\x80\x02}", "a damaged pickle"),
    "empty": (lambda d: b"", "a damaged pickle"),
    "nothing": (lambda d: pickle.dumps({}, 2), "without tensors"),
    "a number": (lambda d: pickle.dumps(3, 2), "without tensors"),
    "texts": (lambda d: pickle.dumps({"w": "x"}, 2), "a str in place of a tensor"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_and_not_run(name: str, tmp_path: Path) -> None:
    make, says = HOSTILE[name]
    path = checkpoint(tmp_path / "a.pt", make(tmp_path))
    with pytest.raises(InputError, match=says) as caught:
        state_dict(read_checkpoint(path, of_tensors))
    assert "\n" not in str(caught.value)
    assert not marker(tmp_path).exists()


@pytest.mark.parametrize(
    ("count", "size", "stride", "offset", "says"),
    [
        (2_500_000_000, (50_000, 50_000), (50_000, 1), 0, "claims 10000000000 bytes where the file has 16"),
        (4, (50_000, 50_000), (0, 0), 0, "do not lie row by row"),
        (4, (2, 4), (4, 1), 0, "8 values in a storage of 4"),
        (4, (4,), (1,), 1, "4 values in a storage of 4"),
        (4, (4,), (-1,), 3, "does not say its values"),
        (4, (-4,), (1,), 0, "does not say its values"),
        (4, (2.0, 2), (2, 1), 0, "does not say its values"),
        (-4, (4,), (1,), 0, "a damaged pickle"),
        ("4", (4,), (1,), 0, "a damaged pickle"),
    ],
)
def test_a_tensor_that_claims_what_is_not_there_is_refused(
    count: Any, size: Any, stride: Any, offset: int, says: str, tmp_path: Path
) -> None:
    path = claiming(tmp_path / "a.pt", count, size, stride, offset)
    with pytest.raises(InputError, match=says):
        state_dict(read_checkpoint(path, of_tensors))


def test_an_honest_claim_is_read(tmp_path: Path) -> None:
    path = claiming(tmp_path / "a.pt", 4, (2, 2), (2, 1))
    assert state_dict(read_checkpoint(path, of_tensors))["w"].tolist() == [[0, 0], [0, 0]]


def test_other_files_are_told(tmp_path: Path) -> None:
    tensors = {"w": torch.zeros(3)}
    torch.save(tensors, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "text.pt").write_text("no")
    checkpoint(tmp_path / "deflated.pt", pickle.dumps({}, 2), compression=zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("a/b", b"")
    torch.save(tensors, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:-30])
    for name, says in {
        "old.pt": "no zip archive",
        "text.pt": "no zip archive",
        "deflated.pt": "a compressed or encrypted entry",
        "other.pt": "a zip archive without a pickle",
        "cut.pt": "no zip archive",
        "gone.pt": "cannot be read",
    }.items():
        with pytest.raises(InputError, match=says):
            read_checkpoint(tmp_path / name, of_tensors)


def test_an_entry_that_claims_more_than_the_file_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(4)}, tmp_path / "a.pt")
    raw = bytearray((tmp_path / "a.pt").read_bytes())
    at = raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"data/0"))
    raw[at + 20 : at + 28] = (2**31).to_bytes(4, "little") * 2
    (tmp_path / "a.pt").write_bytes(raw)
    with pytest.raises(InputError, match="claims 2147483648 bytes in a file of"):
        read_checkpoint(tmp_path / "a.pt", of_tensors)


def test_modules_within_modules_without_end_are_refused(tmp_path: Path) -> None:
    network = nn.Sequential(nn.ReLU())
    network._modules["0"] = network
    torch.save(network, tmp_path / "a.pt")
    with pytest.raises(InputError, match="modules within modules without end"):
        state_dict(read_checkpoint(tmp_path / "a.pt", of_modules))

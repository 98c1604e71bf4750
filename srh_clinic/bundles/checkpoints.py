"""Checkpoints of others (``torch.save``) read as plain records: nothing in a pickle is ever called.

A pickle is a program. This one is not run: its instructions are read one by one, those that build numbers, texts, lists and
tables are followed, and where it names a class or a function and calls it, a :class:`Record` of that is kept. Only names on an
exact list are admitted. Tensors are made from the records afterwards, when the bytes that they claim are there.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srh_clinic.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

NEEDED = "a checkpoint of torch.save (torch 1.6 or later) that holds tensors, lists and tables"

LARGEST_PICKLE = 2**26
"""Bytes of a checkpoint's pickle, which holds names and sizes; tensors lie beside it."""

LARGEST_CHECKPOINT = 2**33
"""Bytes of a checkpoint."""

MOST_INSTRUCTIONS = 2_000_000

TENSORS = frozenset({"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "collections.OrderedDict"})
"""What the pickle of a state dict names."""

DTYPES = {
    "torch.FloatStorage": ("float32", 4),
    "torch.HalfStorage": ("float16", 2),
    "torch.BFloat16Storage": ("bfloat16", 2),
    "torch.DoubleStorage": ("float64", 8),
    "torch.LongStorage": ("int64", 8),
    "torch.IntStorage": ("int32", 4),
    "torch.ShortStorage": ("int16", 2),
    "torch.CharStorage": ("int8", 1),
    "torch.ByteStorage": ("uint8", 1),
    "torch.BoolStorage": ("bool", 1),
}
"""Kinds of storage: torch's dtype, and bytes of a value."""


@dataclass(frozen=True)
class Name:
    """A class or a function that a pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """What a pickle would have made by calling something: what it names, with what, and what it would have set."""

    of: Name
    arguments: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    """What it would have put into a table."""


@dataclass(frozen=True)
class Storage:
    """Values that lie beside the pickle in the file."""

    dtype: str
    key: str
    count: int
    value_bytes: int


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's content, whose tensors are still records."""

    path: Path
    content: Any
    _entries: dict[str, tuple[int, int]] = field(repr=False)
    """First byte and size of each entry of the file."""
    little_endian: bool = True

    def tensor(self, record: Any) -> Tensor:
        """The tensor of a record, in memory of its own.

        Raises
        ------
        InputError
            When it claims more values than the file holds, or lies in them otherwise than row by row.
        """
        import numpy as np
        import torch

        while isinstance(record, Record) and str(record.of) == "torch._utils._rebuild_parameter":
            record = record.arguments[0] if record.arguments else None
        if not isinstance(record, Record) or str(record.of) != "torch._utils._rebuild_tensor_v2" or len(record.arguments) < 4:
            raise InputError(f"{_kind(record)} in place of a tensor", NEEDED, self.path)
        storage, offset, size, stride = record.arguments[:4]
        if not isinstance(storage, Storage) or not _are_counts(size, stride) or not _are_counts((offset,)):
            raise InputError("a tensor that does not say its values", NEEDED, self.path)
        start, n_bytes = self._entries.get(f"data/{storage.key}", (0, -1))
        if n_bytes != storage.count * storage.value_bytes:
            found = f"a tensor that claims {storage.count * storage.value_bytes} bytes where the file has {max(n_bytes, 0)}"
            raise InputError(found, "an undamaged checkpoint", self.path)
        count = 1
        for edge, step in zip(reversed(size), reversed(stride), strict=True):
            if edge > 1 and step != count:
                raise InputError("a tensor whose values do not lie row by row", "contiguous tensors", self.path)
            count *= edge
        if offset + count > storage.count:
            found = f"a tensor of {count} values in a storage of {storage.count}"
            raise InputError(found, "an undamaged checkpoint", self.path)
        with self.path.open("rb") as file:
            file.seek(start + offset * storage.value_bytes)
            raw = bytearray(file.read(count * storage.value_bytes))
        if not self.little_endian:
            raise InputError("a checkpoint of a big-endian machine", "one of a little-endian machine", self.path)
        if len(raw) != count * storage.value_bytes:
            raise InputError("a file that ends within a tensor", "an undamaged checkpoint", self.path)
        if not raw:
            return torch.zeros(tuple(size), dtype=getattr(torch, storage.dtype))
        plain = torch.from_numpy(np.frombuffer(raw, dtype=np.uint8))
        return plain.view(getattr(torch, storage.dtype)).reshape(tuple(size))


def read_checkpoint(path: Path, admitted: Callable[[str], bool]) -> Checkpoint:
    """Read a checkpoint; nothing is called, and no tensor is read.

    Parameters
    ----------
    path
        A file of ``torch.save``.
    admitted
        Whether a name (``"collections.OrderedDict"``) may stand in its pickle.

    Raises
    ------
    InputError
        When it is none, is damaged, too large or compressed, or its pickle names something that is not admitted or does
        anything but build tensors, lists and tables.
    """
    try:
        n_bytes = path.stat().st_size
        if n_bytes > LARGEST_CHECKPOINT:
            raise InputError(f"a file of {n_bytes} bytes", f"a checkpoint of at most {LARGEST_CHECKPOINT}", path)
        with zipfile.ZipFile(path) as archive:
            entries = _entries(archive, n_bytes, path)
            if "data.pkl" not in entries:
                raise InputError("a zip archive without a pickle", NEEDED, path)
            pickle = _bytes_at(path, *entries["data.pkl"])
            order = _bytes_at(path, *entries["byteorder"]) if "byteorder" in entries else b"little"
    except zipfile.BadZipFile as error:
        raise InputError("a file that is no zip archive, or a damaged one", NEEDED, path) from error
    except OSError as error:
        raise InputError(f"a file that cannot be read ({error.strerror or error})", "a readable checkpoint", path) from error
    return Checkpoint(path, read_pickle(pickle, admitted, path), entries, order.strip() != b"big")


def _entries(archive: zipfile.ZipFile, n_bytes: int, path: Path) -> dict[str, tuple[int, int]]:
    """First byte and size of each entry, by its name below the archive's own folder."""
    found: dict[str, tuple[int, int]] = {}
    for entry in archive.infolist():
        name = entry.filename.partition("/")[2]
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise InputError(f"a compressed or encrypted entry {entry.filename[:60]!r}", NEEDED, path)
        if entry.file_size != entry.compress_size or entry.header_offset + entry.file_size > n_bytes:
            claimed = f"an entry {entry.filename[:60]!r} that claims {entry.file_size} bytes in a file of {n_bytes}"
            raise InputError(claimed, "an undamaged checkpoint", path)
        if name in found:
            raise InputError(f"two entries {name[:60]!r}", "an undamaged checkpoint", path)
        found[name] = (_first_byte(path, entry.header_offset), entry.file_size)
    if found.get("data.pkl", (0, 0))[1] > LARGEST_PICKLE:
        raise InputError(f"a pickle of {found['data.pkl'][1]} bytes", f"one of at most {LARGEST_PICKLE}", path)
    return found


def _first_byte(path: Path, header_offset: int) -> int:
    """Where an entry's bytes begin, behind its local header."""
    header = _bytes_at(path, header_offset, 30)
    if len(header) != 30 or header[:4] != b"PK\x03\x04":
        raise InputError("a zip archive whose entries do not lie where it says", "an undamaged checkpoint", path)
    return header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _bytes_at(path: Path, start: int, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(count)


def read_pickle(pickle: bytes, admitted: Callable[[str], bool], path: Path) -> Any:
    """What a pickle describes; see :func:`read_checkpoint`."""
    reader = _Reader(admitted, path)
    try:
        return reader.read(pickletools.genops(io.BytesIO(pickle)))
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        raise InputError("a damaged pickle", "an undamaged checkpoint", path) from error


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"}
)
_SILENT = frozenset({"PROTO", "FRAME"})
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()
_WRAPPED = ("module.", "_orig_mod.")


class _Reader:
    """Follows the instructions of a pickle that build data."""

    def __init__(self, admitted: Callable[[str], bool], path: Path) -> None:
        self.admitted, self.path = admitted, path
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self, instructions: Iterator[tuple[Any, Any, int | None]]) -> Any:
        for count, (instruction, value, _) in enumerate(instructions):
            if count > MOST_INSTRUCTIONS:
                raise InputError(f"a pickle of more than {MOST_INSTRUCTIONS} instructions", NEEDED, self.path)
            name = instruction.name
            if name == "STOP":
                return self.stack.pop()
            if name in _SILENT:
                continue
            if name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _VALUES:
                self.stack.append(value)
            elif name in _TUPLES:
                self.stack.append(tuple(self._pop(_TUPLES[name])))
            else:
                follow = getattr(self, f"_{name.lower()}", None)
                if follow is None:
                    found = f"a pickle with the instruction {name}, which a checkpoint of tensors does not need"
                    raise InputError(found, NEEDED, self.path)
                follow(value)
        raise ValueError("no end")

    def _pop(self, count: int) -> list[Any]:
        if not count:
            return []
        if len(self.stack) < count:
            raise ValueError("an empty stack")
        taken, self.stack[-count:] = self.stack[-count:], []
        return taken

    def _to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        taken = self.stack[at + 1 :]
        del self.stack[at:]
        return taken

    def _mark(self, value: Any) -> None:
        self.stack.append(_MARK)

    def _tuple(self, value: Any) -> None:
        self.stack.append(tuple(self._to_mark()))

    def _empty_list(self, value: Any) -> None:
        self.stack.append([])

    def _empty_dict(self, value: Any) -> None:
        self.stack.append({})

    def _empty_set(self, value: Any) -> None:
        self.stack.append([])

    def _append(self, value: Any) -> None:
        (item,) = self._pop(1)
        self._list().append(item)

    def _appends(self, value: Any) -> None:
        items = self._to_mark()
        self._list().extend(items)

    _additems = _appends

    def _list(self) -> list[Any]:
        if not isinstance(self.stack[-1], list):
            raise ValueError("no list")
        return self.stack[-1]

    def _setitem(self, value: Any) -> None:
        self._set(self._pop(2))

    def _setitems(self, value: Any) -> None:
        self._set(self._to_mark())

    def _set(self, items: list[Any]) -> None:
        table = self.stack[-1].items if isinstance(self.stack[-1], Record) else self.stack[-1]
        if not isinstance(table, dict) or len(items) % 2:
            raise ValueError("no table")
        for key, item in zip(items[::2], items[1::2], strict=True):
            # A tuple that holds a tuple twice, and so on, takes for ever to be hashed.
            if not isinstance(key, str | int | float | None):
                raise ValueError("a key that is no text or number")
            table[key] = item

    def _global(self, value: str) -> None:
        module, _, name = value.partition(" ")
        self._name(module, name)

    def _stack_global(self, value: Any) -> None:
        module, name = self._pop(2)
        self._name(module, name)

    def _name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or not self.admitted(f"{module}.{name}"):
            found = f"a pickle that names {f'{module}.{name}'[:80]!r}; it was not run"
            raise InputError(found, "a checkpoint of tensors and of the networks that are known", self.path)
        self.stack.append(Name(module, name))

    def _reduce(self, value: Any) -> None:
        of, arguments = self._pop(2)
        if not isinstance(of, Name) or not isinstance(arguments, tuple):
            raise ValueError("a call of what is no name")
        self.stack.append(Record(of, arguments))

    _newobj = _reduce

    def _build(self, value: Any) -> None:
        (state,) = self._pop(1)
        if isinstance(self.stack[-1], Record):
            self.stack[-1].state = state
        else:
            raise ValueError("a state of what is no object")

    def _binpersid(self, value: Any) -> None:
        (said,) = self._pop(1)
        if not isinstance(said, tuple) or len(said) < 5 or said[0] != "storage" or not isinstance(said[1], Name):
            raise ValueError("no storage")
        _, kind, key, _, count = said[:5]
        if str(kind) not in DTYPES:
            raise InputError(f"values of {kind}", "tensors of numbers", self.path)
        if not isinstance(key, str) or not _are_counts((count,)):
            raise ValueError("no storage")
        dtype, value_bytes = DTYPES[str(kind)]
        self.stack.append(Storage(dtype, key, count, value_bytes))

    def _binput(self, value: int) -> None:
        self.memo[value] = self.stack[-1]

    _long_binput = _binput

    def _memoize(self, value: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _binget(self, value: int) -> None:
        self.stack.append(self.memo[value])

    _long_binget = _binget


def _are_counts(*groups: Any) -> bool:
    """Whether tuples hold nothing but whole numbers from 0 on, and as many each."""
    return all(isinstance(group, tuple | list) for group in groups) and all(
        isinstance(number, int) and not isinstance(number, bool) and number >= 0 for group in groups for number in group
    )


def _kind(value: Any) -> str:
    return str(value.of) if isinstance(value, Record) else f"a {type(value).__name__}"


def state_dict(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Tensors by name of a state dict, alone or under a name of its own (``state_dict``, ``model``, ``ema``), or of a module.

    ``module.`` and ``_orig_mod.``, which training on several cards and compilation put before every name, are taken off.

    Raises
    ------
    InputError
        When it is none of these, or there are several state dicts, as of a network and of the average of its weights.
    """
    content = checkpoint.content
    table = _table(content)
    inner = {
        name: one for name, value in (table or {}).items() if (one := _table(value)) and all(map(_is_tensor, one.values()))
    }
    if len(inner) > 1:
        found = f"several state dicts ({', '.join(map(ascii, list(inner)[:4]))})"
        raise InputError(found, "a checkpoint with one of them", checkpoint.path)
    if inner:
        (table,) = inner.values()
    records = dict(_of_module(content, "", 0, checkpoint.path)) if _is_module(content) else table
    if not records:
        raise InputError(
            f"{_kind(content)} without tensors", "a state dict, or a network that was saved whole", checkpoint.path
        )
    tensors = {}
    for name, record in records.items():
        if not isinstance(name, str):
            raise InputError("a tensor whose name is no text", "a state dict", checkpoint.path)
        tensors[name] = checkpoint.tensor(record)
    while prefix := next((one for one in _WRAPPED if all(name.startswith(one) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _is_tensor(record: Any) -> bool:
    return isinstance(record, Record) and str(record.of) in TENSORS - {"collections.OrderedDict"}


def _table(content: Any) -> dict[Any, Any] | None:
    if isinstance(content, Record) and str(content.of) == "collections.OrderedDict":
        pairs = content.arguments[0] if content.arguments else []
        given = [tuple(pair) for pair in pairs if isinstance(pair, tuple | list)] if isinstance(pairs, list | tuple) else []
        return {pair[0]: pair[1] for pair in given if len(pair) == 2 and isinstance(pair[0], str)} | content.items
    return content if isinstance(content, dict) else None


def _is_module(content: Any) -> bool:
    return isinstance(content, Record) and isinstance(content.state, dict) and "_parameters" in content.state


def _of_module(module: Any, prefix: str, depth: int, path: Path) -> Iterator[tuple[str, Any]]:
    """Parameters and persistent buffers of a pickled module and all below it."""
    if depth > 32:
        raise InputError("modules within modules without end", "a network that was saved whole", path)
    if not _is_module(module):
        raise InputError(f"{_kind(module)} in place of a module", "a network that was saved whole", path)
    passing: Collection[Any] = _members(module.state.get("_non_persistent_buffers_set"))
    for part in ("_parameters", "_buffers"):
        for name, record in (_table(module.state.get(part)) or {}).items():
            if record is not None and name not in passing:
                yield f"{prefix}{name}", record
    for name, child in (_table(module.state.get("_modules")) or {}).items():
        if child is not None:
            yield from _of_module(child, f"{prefix}{name}.", depth + 1, path)


def _members(content: Any) -> list[Any]:
    """What a pickled set holds."""
    if isinstance(content, Record):
        content = content.arguments[0] if content.arguments else []
    return list(content) if isinstance(content, list | tuple) else []

"""Looks at a PyTorch checkpoint's pickle without running it, and refuses what a state dict does not need.

PyTorch's own ``weights_only`` unpickler stops code from running, but not a few kilobytes from filling the memory:
copying a large container once per two bytes, or claiming tensors larger than their storage. So the opcodes are read
here first (``pickletools``), with a symbolic stack that knows which function each call meets.
"""

from __future__ import annotations

import mmap
import pickletools
import re
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from dosimeter.core.errors import InputError
from dosimeter.loading.archives import Archive
from dosimeter.loading.sources import MIB, open_regular, refusing, shown

_WHAT = "PyTorch weights"
_MOST_PICKLE_BYTES = 64 * MIB
_MOST_COPYING_CALLS = 64
_MOST_TUPLE_ITEMS = 64
# A tuple is hashed by recursion in C, which no limit of Python's stops before the stack overflows.
_MOST_TUPLE_DEPTH = 64
_LEGACY_PICKLES = 5
_LEGACY_START = re.compile(rb"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.")

_REBUILDS = re.compile(r"torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|parameter)")
_ALLOWED = re.compile(
    rf"{_REBUILDS.pattern}|collections OrderedDict|torch Size|torch device|torch\.storage UntypedStorage"
    r"|torch [A-Z][A-Za-z0-9]*Storage|torch (u?int|float|bfloat|complex|bool)[a-z0-9_]*"
)
_REFUSED_OPCODES = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}
_MARK = object()
_EMPTY_TUPLE = object()


def check_checkpoint(path: Path) -> None:
    """Raise ``InputError`` unless ``path`` is a PyTorch checkpoint made of tensors, containers and plain values.

    Reads the ZIP format (PyTorch 1.6 and later) and the stream of pickles before it.
    """
    with open_regular(path, what=_WHAT) as file:
        start = file.read(16)
        if start[:4] == b"PK\x03\x04":
            _check_archive(path)
        elif _LEGACY_START.match(start):
            file.seek(0)
            _check_legacy(path, file)
        elif start[:1] == b"\x80" or b"ustar" in start + file.read(512):
            raise _needs_trust(path, "it is a pickle or tar file of another kind than torch.save writes")
        else:
            raise InputError(
                f"expected {shown(path)} to be {_WHAT}, but it is not a file that torch.save writes. "
                "Save the state dict with safetensors.torch.save_file and give that file."
            )


def _check_archive(path: Path) -> None:
    with Archive(path, what=_WHAT) as archive:
        roots = {name.partition("/")[0] for name in archive.members}
        pickled = f"{next(iter(roots))}/data.pkl" if len(roots) == 1 else ""
        if pickled not in archive.members:
            raise InputError(
                f"expected {shown(path)} to be {_WHAT}, but it is not a ZIP archive with one folder that holds data.pkl. "
                "Save the state dict with safetensors.torch.save_file and give that file."
            )
        if pickled.replace("data.pkl", "constants.pkl") in archive.members:
            raise _needs_trust(path, "it is a TorchScript program")
        if any(info.compress_size != info.file_size for info in archive.members.values()):
            raise InputError(
                f"refused {shown(path)}: it is a compressed ZIP archive, which torch.save never writes."
            )
        data = archive.read(pickled, max_bytes=_MOST_PICKLE_BYTES)
    _Inspection(path).read(BytesIO(data))


def _check_legacy(path: Path, file: BinaryIO) -> None:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        for _ in range(_LEGACY_PICKLES):
            _Inspection(path).read(stream)


def _needs_trust(path: Path, reason: str) -> InputError:
    return InputError(
        f"refused {shown(path)}: {reason}, so loading it could run code. Convert it to safetensors where it was made, "
        "or pass --trust (trust=True) if you trust its author as you trust a program."
    )


def _not_weights(path: Path, reason: str) -> InputError:
    return InputError(
        f"refused {shown(path)}: {reason}, which no state dict does and which could fill the memory or crash the process. "
        "Convert it to safetensors where it was made."
    )


class _Inspection:
    """One pickle, followed symbolically: globals by name, marks, the empty tuple; the rest as the depth of its tuples."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._copying_calls = 0

    def read(self, stream: BytesIO | mmap.mmap) -> None:
        with refusing(self._path, _WHAT):
            opcodes = pickletools.genops(stream)  # type: ignore[arg-type]
            for opcode, argument, _ in opcodes:
                self._step(opcode, argument)

    def _step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        name = opcode.name
        if name in _REFUSED_OPCODES:
            raise _needs_trust(self._path, f"its pickle uses {name}, which no state dict needs")
        if name == "GLOBAL":
            if not _ALLOWED.fullmatch(argument):
                raise _needs_trust(self._path, f"its pickle calls for {shown(argument.replace(' ', '.'))}")
            self._stack.append(argument)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name == "EMPTY_TUPLE":
            self._stack.append(_EMPTY_TUPLE)
        else:
            self._call_or_move(name, opcode)

    def _call_or_move(self, name: str, opcode: pickletools.OpcodeInfo) -> None:
        popped = self._pop(opcode)
        if name == "TUPLE" and len(popped) > _MOST_TUPLE_ITEMS:
            raise _not_weights(self._path, f"its pickle holds a tuple of {len(popped)} items")
        depth = 0
        if name.startswith("TUPLE"):
            depth = 1 + max((item for item in popped if isinstance(item, int)), default=0)
            if depth > _MOST_TUPLE_DEPTH:
                raise _not_weights(self._path, f"its pickle nests tuples deeper than {_MOST_TUPLE_DEPTH}")
        if name == "REDUCE":
            function, arguments = popped
            cheap = function == "collections OrderedDict" and arguments is _EMPTY_TUPLE
            if not cheap and not (isinstance(function, str) and _REBUILDS.fullmatch(function)):
                self._copying_calls += 1
        self._copying_calls += name == "BUILD"
        if self._copying_calls > _MOST_COPYING_CALLS:
            raise _not_weights(
                self._path, f"its pickle copies containers more than {_MOST_COPYING_CALLS} times"
            )
        self._stack.extend(_MARK if item is pickletools.markobject else depth for item in opcode.stack_after)

    def _pop(self, opcode: pickletools.OpcodeInfo) -> list[Any]:
        """The items that ``opcode`` takes off the stack, without the mark."""
        before = opcode.stack_before
        if pickletools.markobject in before:
            mark = len(self._stack) - 1
            while mark >= 0 and self._stack[mark] is not _MARK:
                mark -= 1
            popped = self._stack[mark + 1 :]
            # ``before`` is [what lies under the mark..., mark, stackslice].
            bottom = mark - before.index(pickletools.markobject)
        else:
            bottom = len(self._stack) - len(before)
            popped = self._stack[max(bottom, 0) :]
        if bottom < 0:
            raise ValueError("its pickle takes more from the stack than there is")
        del self._stack[bottom:]
        return popped

"""Hostile and broken model weights."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import tarfile
from pathlib import Path
from typing import Any

from dosimeter.selftest.crafting import Case, Member, deflated_zeros, exec_pickle, system_pickle, zip_bytes

_LEGACY_START = (
    pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
)
_HUGE = 1 << 50


def cases() -> list[Case]:
    """Checkpoints first, then safetensors."""
    return [*_pickled(), *_lying_checkpoints(), *_broken_checkpoints(), *_safetensors()]


def checkpoint(pickled: bytes, storage: bytes = bytes(16), *, root: str = "archive") -> bytes:
    """A file as ``torch.save`` writes it, around ``pickled`` and one storage called ``0``."""
    return zip_bytes(
        [
            Member(f"{root}/data.pkl", pickled),
            Member(f"{root}/byteorder", b"little"),
            Member(f"{root}/data/0", storage),
            Member(f"{root}/version", b"3\n"),
        ]
    )


def tensor_pickle(
    shape: tuple[int, ...] = (2, 2), stride: tuple[int, ...] = (2, 1), *, numel: int = 4, legacy: bool = False
) -> bytes:
    """The pickle of ``OrderedDict(weight=<float32 tensor>)`` over storage ``0`` of ``numel`` elements."""
    storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu") + _number(numel)
    storage += b"NtQ" if legacy else b"tQ"
    sizes = b"".join(b"(" + b"".join(map(_number, numbers)) + b"t" for numbers in (shape, stride))
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _number(0) + sizes + b"\x89h\x00)RtR"
    return b"\x80\x02ccollections\nOrderedDict\nq\x00)R(" + _text("weight") + tensor + b"u."


def legacy_checkpoint(pickled: bytes) -> bytes:
    """A file as ``torch.save`` wrote it before version 1.6."""
    return _LEGACY_START + pickled + pickle.dumps(["0"], 2) + struct.pack("<q", 4) + bytes(16)


def safetensors(header: Any, data: bytes = bytes(16), *, length: int | None = None) -> bytes:
    """A safetensors file; ``header`` is JSON bytes or a value to be written as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor(start: int = 0, end: float = 16, *, shape: Any = (2, 2), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def _number(value: int) -> bytes:
    data = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _tar(canary: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("storages", "tensors", "pickle"):
            data = system_pickle(canary)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _copies(function: bytes, arguments: bytes, calls: int) -> bytes:
    """Calls ``function`` with one large tuple of ``arguments`` again and again; a call takes a few bytes."""
    return b"\x80\x02](" + arguments + b"q\x01" + (b"c" + function + b"\nh\x01R") * calls + b"e."


def _pickled() -> list[Case]:
    pairs = b"](" + b"".join(_number(i) + b"N\x86" for i in range(20_000)) + b"e"
    nested = b"\x80\x02}(" + b")" + b"\x85" * 2_000_000 + b"Nu."
    return [
        Case("system.pt", "calls os.system", "weights", lambda _, canary: checkpoint(system_pickle(canary))),
        Case("exec.pth", "runs Python code", "weights", lambda *_: checkpoint(exec_pickle())),
        Case(
            "protocol4.bin",
            "calls os.system, protocol 4",
            "weights",
            lambda _, c: checkpoint(system_pickle(c, 4)),
        ),
        Case(
            "protocol0.bin",
            "calls os.system, protocol 0",
            "weights",
            lambda _, c: checkpoint(system_pickle(c, 0)),
        ),
        Case(
            "bare.pt",
            "a bare pickle that calls os.system",
            "weights",
            lambda _, canary: system_pickle(canary),
        ),
        Case("bare5.pth", "a bare pickle, protocol 5", "weights", lambda _, canary: system_pickle(canary, 5)),
        Case(
            "legacy.pt", "code in the old format", "weights", lambda _, c: legacy_checkpoint(system_pickle(c))
        ),
        Case(
            "legacy-first.pt",
            "code in the first of the old pickles",
            "weights",
            lambda *_: exec_pickle() + _LEGACY_START,
        ),
        Case("tar.pt", "code in the oldest (tar) format", "weights", lambda _, canary: _tar(canary)),
        Case(
            "getattr.pt",
            "reaches code through getattr",
            "weights",
            lambda *_: checkpoint(b"\x80\x02c__builtin__\ngetattr\n(cos\nenviron\nX\x03\0\0\0poptR."),
        ),
        Case(
            "hub.pt",
            "has torch fetch a repository",
            "weights",
            lambda *_: checkpoint(b"\x80\x02ctorch.hub\nload\n(X\x03\0\0\0a/bX\x01\0\0\0ctR."),
        ),
        Case(
            "program.pt",
            "a TorchScript program",
            "weights",
            zip_bytes(
                [
                    Member("m/data.pkl", b"\x80\x02N."),
                    Member("m/constants.pkl", b"\x80\x02)."),
                    Member("m/code/m.py", b""),
                ]
            ),
        ),
        Case(
            "model.ckpt",
            "code under a suffix that needs trust",
            "weights",
            lambda _, canary: system_pickle(canary),
        ),
        Case("model.pkl", "code under a suffix that needs trust", "weights", lambda *_: exec_pickle()),
        Case(
            "copied-bytes.pt",
            "copies a megabyte 100,000 times",
            "weights",
            lambda *_: checkpoint(
                _copies(b"_codecs\nencode", _text("x" * (1 << 20)) + _text("latin1") + b"\x86", 100_000)
            ),
        ),
        Case(
            "copied-dicts.pt",
            "copies a dictionary 100,000 times",
            "weights",
            lambda *_: checkpoint(_copies(b"collections\nOrderedDict", pairs + b"\x85", 100_000)),
        ),
        Case(
            "nested.pt", "a tuple two million levels deep as a key", "weights", lambda *_: checkpoint(nested)
        ),
        Case(
            "long-shape.pt",
            "a shape of 100,000 axes",
            "weights",
            lambda *_: checkpoint(tensor_pickle((1,) * 100_000, (1,) * 100_000)),
        ),
    ]


def _lying_checkpoints() -> list[Case]:
    return [
        Case(
            "larger-than-storage.pt",
            "a tensor of a petabyte over 16 bytes",
            "weights",
            lambda *_: checkpoint(tensor_pickle((_HUGE,), (1,))),
        ),
        Case(
            "made-up-memory.pt",
            "a tensor of 400 MB over 16 bytes",
            "weights",
            lambda *_: checkpoint(tensor_pickle((10**8,), (1,))),
        ),
        Case(
            "repeated.pt",
            "one value repeated a petabyte long",
            "weights",
            lambda *_: checkpoint(tensor_pickle((_HUGE,), (0,))),
        ),
        Case(
            "storage-claim.pt",
            "a storage that claims a petabyte",
            "weights",
            lambda *_: checkpoint(tensor_pickle(numel=_HUGE)),
        ),
        Case(
            "legacy-claim.pt",
            "the old format, claiming a petabyte",
            "weights",
            lambda *_: legacy_checkpoint(tensor_pickle(numel=_HUGE, legacy=True)),
        ),
        Case("negative.pt", "a negative shape", "weights", lambda *_: checkpoint(tensor_pickle((-2, 2)))),
        Case(
            "bomb.pt",
            "a storage deflated a thousandfold",
            "weights",
            lambda *_: zip_bytes(
                [
                    Member("a/data.pkl", tensor_pickle()),
                    Member("a/data/0", deflated_zeros(4096), 8, 4 << 30, 0),
                ]
            ),
        ),
        Case(
            "two-roots.pt",
            "two pickles, one for the check",
            "weights",
            lambda _, c: zip_bytes(
                [Member("a/data.pkl", tensor_pickle()), Member("b/data.pkl", system_pickle(c))]
            ),
        ),
        Case(
            "no-storage.pt",
            "a storage that is not in the file",
            "weights",
            lambda *_: zip_bytes([Member("a/data.pkl", tensor_pickle()), Member("a/version", b"3\n")]),
        ),
        Case(
            "list.pt",
            "a list instead of a state dict",
            "weights",
            lambda *_: checkpoint(pickle.dumps([1, 2], 2)),
        ),
        Case(
            "numbers.pt",
            "numbers instead of tensors",
            "weights",
            lambda *_: checkpoint(pickle.dumps({"weight": 1.0}, 2)),
        ),
        Case("number-keys.pt", "no names", "weights", lambda *_: checkpoint(pickle.dumps({1: {2: 3}}, 2))),
        Case(
            "memo.pt",
            "a memo index of four billion",
            "weights",
            lambda *_: checkpoint(b"\x80\x02}r\xff\xff\xff\xff."),
        ),
        Case(
            "long-string.pt",
            "a string that claims 4 GiB",
            "weights",
            lambda *_: checkpoint(b"\x80\x02X\xff\xff\xff\xffabc."),
        ),
        Case(
            "underflow.pt",
            "takes more from the stack than there is",
            "weights",
            lambda *_: checkpoint(b"\x80\x02RRRR."),
        ),
    ]


def _mkdir(path: Path, _: Path) -> None:
    path.mkdir()


def _mkfifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _broken_checkpoints() -> list[Case]:
    return [
        Case("noise.pt", "random bytes", "weights", random.Random(0).randbytes(4096)),
        Case("cut.pt", "cut off", "weights", checkpoint(tensor_pickle())[:-40]),
        Case(
            "legacy-cut.pt",
            "the old format, cut off",
            "weights",
            legacy_checkpoint(tensor_pickle(legacy=True))[:-12],
        ),
        Case("empty.pt", "no bytes", "weights", b""),
        Case("folder.pt", "a folder", "weights", _mkdir),
        Case("pipe.pt", "a pipe that nobody writes to", "weights", _mkfifo),
        Case("missing.pt", "no file", "weights", lambda *_: None),
        Case(
            "link.pt", "a link to an endless device", "weights", lambda path, _: path.symlink_to("/dev/zero")
        ),
        Case("page.pt", "an HTML page", "weights", b"<!doctype html><title>404</title>"),
        Case("sound.pt", "nothing", "weights", checkpoint(tensor_pickle()), "loaded"),
        Case(
            "sound-legacy.pth",
            "nothing (old format)",
            "weights",
            legacy_checkpoint(tensor_pickle(legacy=True)),
            "loaded",
        ),
    ]


def _safetensors() -> list[Case]:
    two = {"a": _tensor(0, 16), "b": _tensor(16, 32)}
    bad: list[tuple[str, str, bytes | Any]] = [
        ("renamed-pickle", "a pickle under another name", lambda _, canary: system_pickle(canary)),
        (
            "renamed-checkpoint",
            "a checkpoint under another name",
            lambda _, canary: checkpoint(system_pickle(canary)),
        ),
        ("header-length", "a header of 2^63 bytes", safetensors({"a": _tensor()}, length=1 << 63)),
        ("header-negative", "a header of -1 bytes", safetensors({"a": _tensor()}, length=(1 << 64) - 1)),
        ("header-long", "a header longer than the file", safetensors({"a": _tensor()}, length=4096)),
        ("header-none", "seven bytes", bytes(7)),
        ("header-json", "a header that is not JSON", safetensors(b"{'a': 1}")),
        ("header-list", "a header that is a list", safetensors([1, 2])),
        ("header-utf8", "a header that is not UTF-8", safetensors(b'{"\xff\xfe": 1}')),
        ("header-deep", "a header 100,000 levels deep", safetensors(b"[" * 100_000)),
        ("header-number", "a number of 100,000 digits", safetensors(b'{"a": ' + b"9" * 100_000 + b"}")),
        (
            "twice",
            "a tensor named twice",
            safetensors(b'{"a": %b, "a": %b}' % ((json.dumps(_tensor()).encode(),) * 2)),
        ),
        (
            "overlap",
            "tensors that overlap",
            safetensors({"a": _tensor(0, 16), "b": _tensor(8, 24)}, bytes(24)),
        ),
        (
            "hole",
            "a hole between tensors",
            safetensors({"a": _tensor(0, 16), "b": _tensor(20, 36)}, bytes(36)),
        ),
        ("beyond", "a tensor beyond the end", safetensors({"a": _tensor(0, 1 << 40, shape=(1 << 38,))})),
        ("backwards", "a tensor that ends before it starts", safetensors({"a": _tensor(16, 0)})),
        ("offset-negative", "a negative offset", safetensors({"a": _tensor(-16, 0)})),
        ("offset-fraction", "a fraction as offset", safetensors({"a": _tensor(0, 16.5)})),
        ("dtype-lie", "float64 in the space of float32", safetensors({"a": _tensor(dtype="F64")})),
        ("dtype-unknown", "an unknown type", safetensors({"a": _tensor(dtype="OBJECT")})),
        (
            "shape-overflow",
            "a shape whose product overflows",
            safetensors({"a": _tensor(shape=(1 << 61, 1 << 61, 16))}),
        ),
        ("shape-negative", "a negative shape", safetensors({"a": _tensor(shape=(-2, -2))})),
        ("cut", "cut off", safetensors(two, bytes(20))),
        ("appended", "bytes after the last tensor", safetensors(two, bytes(4096))),
        ("metadata", "metadata that is a number", safetensors({"__metadata__": 5, "a": _tensor()})),
    ]
    return [
        *(Case(f"{name}.safetensors", what, "weights", content) for name, what, content in bad),
        Case("sound.safetensors", "nothing", "weights", safetensors(two, bytes(32)), "loaded"),
    ]

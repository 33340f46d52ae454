"""Hostile and broken NumPy files and ZIP archives."""

from __future__ import annotations

import io
import os
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np

from dosimeter.selftest.crafting import (
    Case,
    Member,
    deflated_zeros,
    system_pickle,
    zip_bytes,
)
from dosimeter.selftest.sandbox import CANARY_VARIABLE

_PETABYTE = 1 << 50


def npy(header: str | bytes | dict[str, Any], data: bytes = b"", *, length: int | None = None) -> bytes:
    """A ``.npy`` file (format 2.0) with any header, and any claim of its length."""
    text = header if isinstance(header, bytes) else str(header).encode()
    return b"\x93NUMPY\2\0" + struct.pack("<I", len(text) if length is None else length) + text + data


def saved(array: np.ndarray) -> bytes:
    """``array`` as ``numpy.save`` writes it."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npz(*members: Member) -> bytes:
    """An archive with one sound array and ``members``."""
    return zip_bytes([Member("sound.npy", saved(np.arange(3))), *members])


def _header(shape: Any, descr: Any = "<f8", *, fortran_order: Any = False) -> dict[str, Any]:
    return {"descr": descr, "fortran_order": fortran_order, "shape": shape}


def cases() -> list[Case]:
    """Single arrays first, then archives of arrays."""
    return [*_single(), *_lying_archives(), *_escaping_archives()]


def _objects(_: Path, canary: Path) -> bytes:
    return npy(_header((1,), "|O"), system_pickle(canary))


def _single() -> list[Case]:
    code = f"__import__('os').environ.__setitem__({CANARY_VARIABLE!r}, '1')"
    record = [("a", "<f8"), ("b", "|O")]
    bad: list[tuple[str, str, Any]] = [
        ("objects", "pickled objects that call os.system", _objects),
        ("bare-pickle", "a bare pickle that calls os.system", lambda _, canary: system_pickle(canary)),
        (
            "record",
            "a record with an object in it",
            lambda _, c: npy(_header((1,), record), system_pickle(c)),
        ),
        ("code", "a header that is a call", npy(code)),
        (
            "code-shape",
            "a call for a shape",
            npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({code},)}}"),
        ),
        ("petabyte", "a shape of eight petabytes", npy(_header((_PETABYTE,)), bytes(64))),
        ("overflow", "a shape whose product overflows", npy(_header((1 << 32, 1 << 32, 1 << 32)), bytes(64))),
        ("huge", "an axis of 1000 digits", npy(_header((10**1000,)), bytes(64))),
        ("empty-huge", "no elements on an endless axis", npy(_header((0, 10**30)))),
        ("negative", "a negative shape", npy(_header((-1,)), bytes(8))),
        ("boolean", "booleans for a shape", npy(_header((True, True)), bytes(8))),
        ("fraction", "a fraction for a shape", npy(_header((1.0,)), bytes(8))),
        ("axes", "40 axes", npy(_header((1,) * 40), bytes(8))),
        ("fortran", "a word for the order", npy(_header((1,), fortran_order="yes"), bytes(8))),
        ("zero-width", "strings of no width, without end", npy(_header((1 << 60,), "<U0"))),
        ("wide", "a string of four gigabytes", npy(_header((1,), "<U999999999"), bytes(64))),
        ("dates", "a type that is not a number", npy(_header((1,), "<M8[ns]"), bytes(8))),
        ("keys", "a header with other keys", npy({"descr": "<f8"}, bytes(8))),
        ("header-length", "a header of four gigabytes", npy(_header((1,)), bytes(8), length=0xFFFFFFFF)),
        ("header-cut", "a header that is cut off", npy(_header((1,)), length=4096)),
        ("header-deep", "a header 4,000 brackets deep", npy("(" * 4000)),
        ("header-signs", "a header of 9,000 minus signs", npy("-" * 9000 + "1")),
        ("header-nul", "a header with a NUL", npy("{'descr': '<f8\0'}", bytes(8))),
        ("version", "version 9 of the format", b"\x93NUMPY\x09\0" + bytes(64)),
        ("cut", "cut off", saved(np.arange(100))[:-8]),
        ("appended", "bytes after the array", saved(np.arange(100)) + bytes(8)),
        ("noise", "random bytes", random.Random(1).randbytes(512)),
        ("empty", "no bytes", b""),
        ("pipe", "a pipe that nobody writes to", lambda path, _: os.mkfifo(path)),
    ]
    return [
        *(Case(f"{name}.npy", what, "arrays", content) for name, what, content in bad),
        Case(
            "sound.npy",
            "nothing (Fortran order)",
            "arrays",
            npy(_header((2, 2), fortran_order=True), bytes(32)),
            "loaded",
        ),
    ]


def _bomb(gibibytes: int) -> bytes:
    """Zeros that unpack as their header says."""
    start = npy(_header(((gibibytes << 30) // 8,)))
    return npz(
        Member("x.npy", deflated_zeros(gibibytes << 10, start=start), 8, (gibibytes << 30) + len(start), 0)
    )


def _overlapping(count: int) -> bytes:
    kernel = saved(np.zeros(1 << 17))
    first = Member("0.npy", kernel)
    return zip_bytes([first, *(Member(f"{i}.npy", kernel, offset=0) for i in range(1, count))])


def _nested(depth: int) -> bytes:
    data = saved(np.arange(3))
    for level in range(depth):
        data = zip_bytes([Member(f"{level}.npz", data)])
    return data


def _lying_archives() -> list[Case]:
    array = saved(np.arange(3))
    bad: list[tuple[str, str, Any]] = [
        (
            "member-objects",
            "a member of pickled objects",
            lambda *paths: npz(Member("x.npy", _objects(*paths))),
        ),
        (
            "member-pickle",
            "a pickle as member",
            lambda _, canary: npz(Member("x.pkl", system_pickle(canary))),
        ),
        (
            "member-petabyte",
            "a member that claims a petabyte",
            npz(Member("x.npy", npy(_header((_PETABYTE,))))),
        ),
        ("bomb", "9 GiB of zeros in 9 MB", lambda *_: _bomb(9)),
        (
            "claim",
            "a member that claims more than DEFLATE can hold",
            npz(Member("x.npy", bytes(99), 8, 10 << 30)),
        ),
        (
            "hidden",
            "a member longer than it claims",
            lambda *_: npz(Member("x.npy", deflated_zeros(64, start=array), 8, len(array))),
        ),
        ("overlap", "1,000 members that share their bytes", lambda *_: _overlapping(1000)),
        ("nested", "archives in archives, 10 deep", lambda *_: _nested(10)),
        ("twice", "two members of one name", npz(Member("sound.npy", array))),
        ("checksum", "a wrong checksum", npz(Member("x.npy", array, crc=1))),
        ("encrypted", "an encrypted member", npz(Member("x.npy", array, flags=1))),
        ("method", "an unknown compression", npz(Member("x.npy", array, 99))),
        (
            "directory",
            "a table of contents of 4 GB",
            zip_bytes([Member("x.npy", array)], directory_bytes=(1 << 32) - 2),
        ),
        (
            "directory-cut",
            "a table of contents that starts too early",
            zip_bytes([Member("x.npy", array)], directory_bytes=9999),
        ),
        ("cut", "cut off", npz(Member("x.npy", array))[:-30]),
        ("none", "no members", zip_bytes([])),
        ("noise", "random bytes", b"PK\3\4" + random.Random(2).randbytes(512)),
        ("empty", "no bytes", b""),
    ]
    return [
        *(Case(f"{name}.npz", what, "arrays", content) for name, what, content in bad),
        Case("sound.npz", "nothing", "arrays", npz(), "loaded"),
    ]


def _escaping_archives() -> list[Case]:
    array = saved(np.arange(3))

    def named(name: str, mode: int = 0o100644) -> bytes:
        return npz(Member(name, array, mode=mode))

    bad: list[tuple[str, str, Any]] = [
        ("parent", "a path to the folder above", named("../canary")),
        ("parent-deep", "a path that climbs inside", named("a/../../canary")),
        ("absolute", "an absolute path", lambda _, canary: named(str(canary))),
        ("backslash", "a Windows path to the folder above", named("..\\canary")),
        ("drive", "a Windows drive", named("C:canary.npy")),
        ("nul", "a name with a NUL", named("x.npy\0.txt")),
        ("symlink", "a symbolic link", npz(Member("x.npy", b"/etc/passwd", mode=0o120777))),
        ("terminal", "a name that commands a terminal", named("\x1b[2J\nx.txt")),
    ]
    return [Case(f"name-{name}.npz", what, "arrays", content) for name, what, content in bad]

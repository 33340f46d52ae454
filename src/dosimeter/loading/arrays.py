"""NumPy files, read from their headers up: ``.npy`` and ``.npz``, never a pickle.

The format is NEP 1 (R. Kern, 2007). The header is parsed here rather than by NumPy, so that a size is known, and
checked against the bytes that are there, before anything is allocated.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from dosimeter.core.errors import InputError
from dosimeter.loading.archives import Archive
from dosimeter.loading.sources import GIB, MIB, check_fits, open_regular, refusing, shown, size_text

_WHAT = "NumPy arrays"
_MAGIC = b"\x93NUMPY"
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16|[SU][1-9]\d{0,7})")
_FIELD = re.compile(r"""['"](\w+)['"]\s*:\s*('[^']*'|"[^"]*"|\w+|\([^()]*\))""")
_HEADER = re.compile(rf"\s*\{{\s*(?:{_FIELD.pattern}\s*(?:,\s*)?)+\}}\s*")
_SHAPE = re.compile(r"\(\s*(\d+\s*,\s*)*(\d+\s*)?\)")
_MOST_HEADER_BYTES = 10_000
_MOST_AXES = 32
_CHUNK = 16 * MIB


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran_order: bool
    nbytes_header: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def load_arrays(path: Path, *, max_bytes: int = 8 * GIB) -> dict[str, np.ndarray]:
    """The arrays of ``path`` by name; a ``.npy`` file holds one, called ``array``.

    Numbers, booleans and fixed-width strings are read; objects and records are refused.

    Args:
        max_bytes: most memory all arrays together may take; free memory is a further limit.

    Raises:
        InputError: not such a file, damaged, pickled, or larger than the limit.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        with open_regular(path, what="a NumPy array") as file:
            return {"array": _read_npy(path, file, max_bytes)}
    if suffix == ".npz":
        with Archive(path, what=_WHAT) as archive:
            return _read_npz(path, archive, max_bytes)
    raise InputError(
        f"expected {shown(path)} to be NumPy arrays (.npy or .npz), but it ends in '{shown(suffix)}'. "
        "Save it with numpy.savez."
    )


def _read_npy(path: Path, file: BinaryIO, max_bytes: int) -> np.ndarray:
    header = _read_header(path, file)
    _check_size(path, header, file.seek(0, 2))
    check_fits(path, header.nbytes, max_bytes)
    file.seek(header.nbytes_header)
    return _read_data(path, file, header)


def _read_npz(path: Path, archive: Archive, max_bytes: int) -> dict[str, np.ndarray]:
    headers: dict[str, _Header] = {}
    for name, info in archive.members.items():
        if not name.endswith(".npy"):
            raise InputError(
                f"expected {shown(path)} to hold NumPy arrays alone, but it holds '{shown(name)}'. "
                "Save it with numpy.savez."
            )
        with archive.open(name) as stream:
            headers[name] = _read_header(f"{path}:{name}", stream)
        _check_size(f"{path}:{name}", headers[name], info.file_size)
    if not headers:
        raise InputError(f"expected {shown(path)} to hold NumPy arrays, but it holds none.")
    check_fits(path, sum(header.nbytes for header in headers.values()), max_bytes)
    arrays = {}
    for name, header in headers.items():
        with archive.open(name) as stream, refusing(f"{path}:{name}", _WHAT):
            stream.read(header.nbytes_header)
            arrays[name.removesuffix(".npy")] = _read_data(f"{path}:{name}", stream, header)
    return arrays


def _check_size(where: Path | str, header: _Header, size: int) -> None:
    expected = header.nbytes_header + header.nbytes
    if size != expected:
        raise InputError(
            f"refused {shown(where)}: its header claims an array of shape {shown(header.shape)} and type "
            f"{header.dtype} ({size_text(expected)}), but it has {size_text(size)}. Make or download it again."
        )


def _read_header(where: Path | str, stream: IO[bytes]) -> _Header:
    with refusing(where, _WHAT):
        start = stream.read(8)
        if start[:6] != _MAGIC or start[6:7] not in (b"\1", b"\2", b"\3"):
            hint = " (it looks like a pickle, which is never loaded)" if start[:1] == b"\x80" else ""
            raise InputError(
                f"expected {shown(where)} to start like a NumPy array, but it does not{hint}. Save it with numpy.save."
            )
        width = 2 if start[6] == 1 else 4
        length = int.from_bytes(stream.read(width), "little")
        text = stream.read(length) if length <= _MOST_HEADER_BYTES else b""
        if len(text) != length:
            raise InputError(
                f"refused {shown(where)}: its header is cut off or {length} bytes long. Save it again."
            )
        return _parse_header(where, text.decode("utf-8" if start[6] == 3 else "latin-1"), 8 + width + length)


def _parse_header(where: Path | str, text: str, nbytes_header: int) -> _Header:
    fields = dict(_FIELD.findall(text)) if _HEADER.fullmatch(text) else {}
    if fields.keys() != {"descr", "fortran_order", "shape"} or fields["fortran_order"] not in (
        "True",
        "False",
    ):
        raise InputError(
            f"refused {shown(where)}: its header is not that of a plain NumPy array. Save numbers, not records, "
            "with numpy.save."
        )
    descr = fields["descr"][1:-1]
    if not _DTYPE.fullmatch(descr):
        kind = "pickled Python objects" if "O" in descr else f"the type '{shown(descr)}'"
        raise InputError(
            f"refused {shown(where)}: it holds {kind}. Save numbers, booleans or fixed-width strings "
            "(numpy.asarray with a plain dtype)."
        )
    shape = tuple(int(length) for length in re.findall(r"\d+", fields["shape"]))
    if not _SHAPE.fullmatch(fields["shape"]) or len(shape) > _MOST_AXES or max(shape, default=0) >= 1 << 62:
        raise InputError(
            f"refused {shown(where)}: its header gives the shape {shown(fields['shape'])}. Save it again."
        )
    return _Header(np.dtype(descr), shape, fields["fortran_order"] == "True", nbytes_header)


def _read_data(where: Path | str, stream: IO[bytes], header: _Header) -> np.ndarray:
    with refusing(where, _WHAT):
        data = np.empty(header.nbytes, dtype=np.uint8)
        view = data.data
        done = 0
        while done < header.nbytes:
            part = stream.read(min(_CHUNK, header.nbytes - done))
            if not part:
                raise InputError(f"refused {shown(where)}: it ends after {done} of {header.nbytes} bytes.")
            view[done : done + len(part)] = part
            done += len(part)
        # The end of the stream is where a ZIP member's checksum is compared.
        if stream.read(1):
            raise InputError(f"refused {shown(where)}: it goes on after the end of its array. Save it again.")
        flat = data.view(header.dtype)
        return flat.reshape(header.shape[::-1]).T if header.fortran_order else flat.reshape(header.shape)

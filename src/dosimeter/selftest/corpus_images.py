"""Hostile and broken images, image folders and image archives."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dosimeter.selftest.corpus_arrays import npz, saved
from dosimeter.selftest.crafting import Case, Member, deflated_zeros, system_pickle, zip_bytes


def picture(format: str = "PNG", *, size: tuple[int, int] = (16, 16), mode: str = "RGB") -> bytes:
    """A sound picture."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new(mode, size, 128).save(buffer, format)
    return buffer.getvalue()


def png(width: int, height: int, *, before: bytes = b"", data: bytes = b"") -> bytes:
    """A PNG that claims any size, with chunks ``before`` its (zlib) ``data``."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + before
        + _chunk(b"IDAT", data or zlib.compress(bytes(99)))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _tiff(entries: list[tuple[int, int, int, int]], tail: bytes = b"") -> bytes:
    """A little-endian TIFF of raw directory entries (tag, type, count, value)."""
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + body + bytes(4) + tail


def _plain_tiff(width: int, height: int, *, offset: int = 200, count: int = 1, nbytes: int = 256) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, count, offset), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, count, nbytes)]
    return _tiff(entries, bytes(400))


def _folder(name: str, put: Callable[[Path, Path], object]) -> Callable[[Path, Path], None]:
    """An image folder with one sound picture beside what ``put`` makes at ``<folder>/<name>``."""

    def make(path: Path, canary: Path) -> None:
        path.mkdir()
        (path / "0-sound.png").write_bytes(picture())
        put(path / name, canary)

    return make


def _bytes(data: bytes) -> Callable[[Path, Path], object]:
    return lambda path, _: path.write_bytes(data)


def cases() -> list[Case]:
    """One hostile picture in each folder, then archives, then arrays."""
    return [*_folders(), *_archives(), *_arrays()]


def _postscript(path: Path, canary: Path) -> None:
    path.write_bytes(
        b"%%!PS-Adobe-3.0 EPSF-3.0\n%%%%BoundingBox: 0 0 9 9\n(%%pipe%%touch %b) (w) file\n"
        % str(canary).encode()
    )


def _text_bomb(path: Path, _: Path) -> None:
    comment = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 << 20), 1))
    path.write_bytes(png(16, 16, before=comment))


def _folders() -> list[Case]:
    jpeg = picture("JPEG", size=(64, 64))
    bad: list[tuple[str, str, Callable[[Path, Path], object]]] = [
        ("bomb.png", "60,000 x 60,000 pixels in a hundred bytes", _bytes(png(60_000, 60_000))),
        ("bomb-2.png", "2^31 pixels in a row", _bytes(png((1 << 31) - 1, 1))),
        ("text.png", "a comment of 200 MB", _text_bomb),
        ("short.png", "fewer pixels than it claims", _bytes(png(4000, 4000))),
        ("cut.png", "cut off", _bytes(picture()[:50])),
        ("checksum.png", "a wrong checksum", _bytes(picture().replace(b"IHDR", b"IHDQ"))),
        ("deep.png", "16 bits a channel", _bytes(picture(mode="I;16"))),
        (
            "bomb.gif",
            "65,535 x 65,535 pixels",
            _bytes(b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;"),
        ),
        ("cut.jpg", "cut off", _bytes(jpeg[: len(jpeg) // 2])),
        (
            "bomb.jpg",
            "65,500 x 65,500 pixels",
            _bytes(jpeg.replace(b"\0\x40\0\x40\x03", b"\xff\xdc\xff\xdc\x03")),
        ),
        ("strips.tif", "strips beyond the end", _bytes(_plain_tiff(16, 16, offset=1 << 31))),
        ("count.tif", "four billion strips", _bytes(_plain_tiff(16, 16, count=0xFFFFFFFF))),
        ("bomb.tif", "65,000 x 65,000 pixels", _bytes(_plain_tiff(65_000, 65_000))),
        ("cycle.tif", "a directory that points at itself", _bytes(b"II*\0\x08\0\0\0\0\0\x08\0\0\0")),
        ("noise.bmp", "a BMP header of four gigabytes", _bytes(b"BM" + b"\xff" * 60)),
        ("noise.webp", "a WebP of noise", _bytes(b"RIFF\xff\xff\xff\x7fWEBPVP8 " + b"\xff" * 60)),
        (
            "svg.png",
            "an SVG with a script",
            _bytes(b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>"),
        ),
        ("page.jpg", "an HTML page", _bytes(b"<!doctype html><title>404</title>")),
        (
            "pickle.png",
            "a pickle that calls os.system",
            lambda path, canary: path.write_bytes(system_pickle(canary)),
        ),
        ("postscript.png", "PostScript that starts a program", _postscript),
        ("other-size.png", "another size", _bytes(picture(size=(17, 16)))),
        ("empty.png", "no bytes", _bytes(b"")),
        ("pipe.png", "a pipe that nobody writes to", lambda path, _: os.mkfifo(path)),
        ("device.png", "a link to an endless device", lambda path, _: path.symlink_to("/dev/zero")),
        ("gone.png", "a link to nothing", lambda path, _: path.symlink_to("/nowhere/at/all.png")),
    ]
    return [
        *(
            Case(f"with-{name}", f"a folder with a picture: {what}", "images", _folder(name, put))
            for name, what, put in bad
        ),
        Case("no-pictures", "a folder without pictures", "images", lambda path, _: path.mkdir()),
        Case("sound-pictures", "nothing", "images", _folder("1.png", _bytes(picture())), "loaded"),
    ]


def _archives() -> list[Case]:
    def with_member(name: str, data: bytes, **claims: Any) -> bytes:
        return zip_bytes([Member("a/0.png", picture()), Member(name, data, **claims)])

    bad: list[tuple[str, str, Any]] = [
        ("pictures-parent", "a path to the folder above", lambda *_: with_member("../canary", picture())),
        ("pictures-link", "a symbolic link", lambda *_: with_member("1.png", b"/etc/passwd", mode=0o120777)),
        (
            "pictures-bomb",
            "a picture of 10 GiB of zeros",
            lambda *_: with_member("1.png", deflated_zeros(10 << 10), method=8, size=10 << 30, crc=0),
        ),
        (
            "pictures-pixels",
            "a picture of 60,000 x 60,000",
            lambda *_: with_member("1.png", png(60_000, 60_000)),
        ),
        ("pictures-none", "no pictures", lambda *_: zip_bytes([Member("a.txt", b"text")])),
        (
            "pictures-nested",
            "an archive of archives",
            lambda *_: zip_bytes([Member("a.zip", zip_bytes([Member("a.png", picture())]))]),
        ),
        ("pictures-cut", "cut off", lambda *_: with_member("1.png", picture())[:-40]),
    ]
    return [
        *(Case(f"{name}.zip", what, "images", content) for name, what, content in bad),
        Case("sound.zip", "nothing", "images", lambda *_: with_member("b/1.png", picture()), "loaded"),
    ]


def _arrays() -> list[Case]:
    images = Member("x.npy", saved(np.zeros((4, 8, 8, 3), dtype=np.uint8)))
    bad: list[tuple[str, str, bytes]] = [
        ("images-nan", "NaN among the pixels", npz(Member("x.npy", saved(np.full((2, 8, 8, 3), np.nan))))),
        ("images-range", "floats in 0..255", npz(Member("x.npy", saved(np.full((2, 8, 8, 3), 255.0))))),
        ("images-none", "no images", npz()),
        ("images-scalar", "one number for images", npz(Member("x.npy", saved(np.array(1.0))))),
        (
            "images-empty",
            "an empty array",
            npz(Member("x.npy", saved(np.zeros((0, 8, 8, 3), dtype=np.uint8)))),
        ),
        ("labels-few", "fewer labels than images", npz(images, Member("y.npy", saved(np.arange(3))))),
        (
            "labels-huge",
            "a class number of 2^60",
            npz(images, Member("y.npy", saved(np.array([0, 1, 2, 1 << 60])))),
        ),
        ("labels-nan", "NaN as a label", npz(images, Member("y.npy", saved(np.array([0, 1, 2, np.nan]))))),
    ]
    return [
        *(Case(f"{name}.npz", what, "images", content) for name, what, content in bad),
        Case("sound-images.npz", "nothing", "images", npz(images), "loaded"),
    ]

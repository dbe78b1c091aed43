"""Reading the marker structure of a JPEG stream, without decoding it.

libjpeg decodes damaged data without complaint and fills in grey. A stream that was cut short or
written over is told by its markers: inside the entropy-coded part every ``FF`` byte is followed by
``00`` or a restart marker, until ``FFD9`` ends the image.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np

__all__ = ["JpegHeader", "end_of_image", "exif_orientation", "read_header", "scan_is_whole"]

_SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_ALONE = {0x01, *range(0xD0, 0xD9)}
_MARK = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
#: bytes that may follow the end of the image inside a tile (padding to a word, seen in the wild)
_PADDING = 16


@dataclass(frozen=True)
class JpegHeader:
    """Figures of a JPEG stream before its first scan."""

    width: int
    height: int
    components: int
    bits: int
    #: several scans follow, with tables between them
    progressive: bool
    #: offset of the entropy-coded data
    scan_start: int
    #: Exif orientation, 1 where none is stated
    orientation: int
    #: the ICC profile, joined from its parts
    icc: bytes | None
    #: JFIF density as (unit: 1 inch, 2 cm; along x; along y), None where none is stated
    density: tuple[int, int, int] | None = None


def read_header(data: bytes) -> JpegHeader | None:
    """Return the header of a JPEG stream, or None where there is none that can be followed."""
    if data[:2] != b"\xff\xd8":
        return None
    at, frame, orientation, density = 2, None, 1, None
    icc: dict[int, bytes] = {}
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        mark = data[at + 1]
        if mark == 0xFF or mark in _ALONE:
            at += 1 if mark == 0xFF else 2
            continue
        size = struct.unpack_from(">H", data, at + 2)[0]
        body = data[at + 4 : at + 2 + size]
        if mark in _SOF and len(body) >= 6:
            frame = (*struct.unpack_from(">BHHB", body), mark in (0xC2, 0xC6, 0xCA, 0xCE))
        elif mark == 0xE1 and body[:6] == b"Exif\0\0":
            orientation = exif_orientation(body[6:])
        elif mark == 0xE0 and body[:5] == b"JFIF\0" and len(body) >= 12:
            density = struct.unpack_from(">BHH", body, 7)
        elif mark == 0xE2 and body[:12] == b"ICC_PROFILE\0" and len(body) > 14:
            icc[body[12]] = body[14:]
        at += 2 + size
        if mark == 0xDA:
            if frame is None:
                return None
            bits, height, width, components, progressive = frame
            profile = b"".join(icc[k] for k in sorted(icc)) or None
            return JpegHeader(
                width, height, components, bits, progressive, at, orientation, profile, density
            )
    return None


def end_of_image(data: bytes, scan_start: int) -> int | None:
    """Return where a picture's own end marker ends, or None where it is cut short.

    What follows it is no part of the picture: previews, further pictures (MPO), maker's notes.
    """
    at = scan_start
    while (found := _MARK.search(data, at)) is not None:
        mark, at = data[found.start() + 1], found.start() + 2
        if mark == 0xD9:
            return at
        if at + 2 > len(data) or mark in _ALONE or mark == 0xD8:
            return None
        at += struct.unpack_from(">H", data, at)[0]  # tables between the scans
    return None


def scan_is_whole(data: bytes, needs_end: bool = True) -> bool:
    """Tell whether the stream of one JPEG tile is whole, as far as its markers show.

    Parameters
    ----------
    data : bytes
        One tile: header, one or more scans, end.
    needs_end : bool
        Whether a missing end-of-image marker counts as damage.
    """
    start = _first_scan(data)
    if start is None:
        return False
    end = data.rfind(b"\xff\xd9", max(start, len(data) - _PADDING - 2))
    if end < 0:
        if needs_end:
            return False
        end = len(data)
    body = np.frombuffer(data, np.uint8)[start:end]
    after = body[np.flatnonzero(body[:-1] == 0xFF) + 1]
    if not after.any():  # the usual case: every FF is an escaped one
        return True
    found = _MARK.search(data, start, end)
    # a second scan of a progressive stream begins with its own tables
    return found is None or data[found.start() + 1] in (0xC4, 0xDA, 0xDB, 0xDD, 0xFE)


def _first_scan(data: bytes) -> int | None:
    """Return where the entropy-coded data begin."""
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        mark = data[at + 1]
        if mark == 0xFF or mark in _ALONE:
            at += 1 if mark == 0xFF else 2
            continue
        at += 2 + (data[at + 2] << 8 | data[at + 3])
        if mark == 0xDA:
            return at if at <= len(data) else None
    return None


def exif_orientation(tiff: bytes) -> int:
    """Return the Exif orientation (tag 274) of the first directory, 1 where there is none."""
    try:
        order = {b"II": "<", b"MM": ">"}[tiff[:2]]
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for k in range(min(count, 200)):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, at + 2 + 12 * k)
            if tag == 274 and kind == 3:
                return int(value) if 1 <= value <= 8 else 1
    except (KeyError, struct.error):
        return 1
    return 1

"""Makers of small slide files for the tests of the slide door."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

DESCRIPTION = (
    "Aperio Image Library v12.0\n{w}x{h} [0,0 {w}x{h}] ({t}x{t}) JPEG/RGB Q=80|AppMag = 40"
)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth coloured noise with sharp edges: a hard case for chroma upsampling."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 250, (height // 8 + 2, width // 8 + 2, 3))
    fine = np.kron(coarse, np.ones((8, 8, 1), np.int64))[:height, :width]
    return np.clip(fine + rng.normal(0, 6, fine.shape), 0, 255).astype(np.uint8)


def write_svs(path: Path, pixels: np.ndarray, mpp: float | None = 0.25, **options: Any) -> Path:
    """Write an Aperio-style SVS; options go to tifffile."""
    h, w = pixels.shape[:2]
    text = DESCRIPTION.format(w=w, h=h, t=256) + ("" if mpp is None else f"|MPP = {mpp}")
    settings: dict[str, Any] = {
        "tile": (256, 256),
        "photometric": "ycbcr",
        "compression": "jpeg",
        "compressionargs": {"level": 80},
        "metadata": None,
        "description": text,
    }
    settings.update(options)
    if settings["photometric"] == "rgb":
        settings["compressionargs"] = {"level": 80, "outcolorspace": "rgb"}
        settings.pop("subsampling", None)
    tifffile.imwrite(path, pixels, **settings)
    return path


def tile_table(path: Path) -> tuple[list[int], list[int]]:
    """Return offsets and byte counts of the first image's tiles."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        return list(page.dataoffsets), list(page.databytecounts)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Write over a part of a file."""
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(data)] = data
    path.write_bytes(raw)


def drop_tile(path: Path, index: int) -> None:
    """Make a tile zero bytes long in the directory, as scanners do for what they left out."""
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags["TileByteCounts"]
        size = {3: 2, 4: 4, 16: 8}[int(tag.dtype)]
        offset = tag.valueoffset + size * index
        order = tiff.byteorder
    overwrite(path, offset, struct.pack(order + {2: "H", 4: "I", 8: "Q"}[size], 0))

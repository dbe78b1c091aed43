"""Phantoms as files: an Aperio-style pyramidal SVS, truth tables, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import tifffile
from numpy.typing import NDArray

from her2path.core.schema import PATTERNS
from her2path.phantom.make import Phantom, make_phantom
from her2path.phantom.spec import PhantomSpec

RGB = NDArray[np.uint8]

TILE_PX = 256
LEVEL_STEP = 4
SMALLEST_LEVEL_PX = 512
SOFTWARE = "her2path phantom"


def encode_decode(rgb: RGB, quality: int, subsampling: str) -> RGB:
    """Return the image (H, W, 3) after one pass through JPEG.

    Parameters
    ----------
    rgb : (H, W, 3) uint8 array
    quality : int
        JPEG quality, 1-100.
    subsampling : {"4:4:4", "4:2:2", "4:2:0"}
    """
    decoded: RGB = imagecodecs.jpeg8_decode(_encode(rgb, quality, subsampling))
    return decoded


def _encode(rgb: RGB, quality: int, subsampling: str) -> bytes:
    data = imagecodecs.jpeg8_encode(
        np.ascontiguousarray(rgb),
        level=quality,
        colorspace="RGB",
        outcolorspace="YCBCR",
        subsampling=subsampling.replace(":", ""),
    )
    return bytes(data)


class _Level:
    """One pyramid level: a plane that repeats, cut into JPEG tiles."""

    def __init__(self, plane: RGB, shape: tuple[int, int], spec: PhantomSpec, tile: int) -> None:
        self.plane, self.shape, self.spec, self.tile = plane, shape, spec, tile
        self.encoded: dict[tuple[int, int], bytes] = {}

    def tiles(self) -> Iterator[bytes]:
        """Yield the encoded tiles by rows; tiles that look the same are encoded once."""
        for top in range(0, self.shape[0], self.tile):
            for left in range(0, self.shape[1], self.tile):
                yield self._encoded(top, left)

    def _encoded(self, top: int, left: int) -> bytes:
        height, width = self.plane.shape[:2]
        cut = top + self.tile > self.shape[0], left + self.tile > self.shape[1]
        key = (top if cut[0] else top % height, left if cut[1] else left % width)
        if key not in self.encoded:
            rows = np.minimum(np.arange(top, top + self.tile), self.shape[0] - 1) % height
            cols = np.minimum(np.arange(left, left + self.tile), self.shape[1] - 1) % width
            part = self.plane[rows[:, None], cols]
            self.encoded[key] = _encode(part, self.spec.jpeg_quality, self.spec.subsampling)
        return self.encoded[key]


def write_slide(
    phantom: Phantom,
    path: Path,
    *,
    tile: int = TILE_PX,
    tile_repeat: tuple[int, int] = (1, 1),
) -> None:
    """Write a phantom as a pyramidal, tiled SVS that OpenSlide reads as Aperio's.

    Parameters
    ----------
    phantom : Phantom
    path : Path
        The file to write (.svs).
    tile : int
        Side of the tiles in pixels, a multiple of 16.
    tile_repeat : tuple of int
        How often the image is repeated down and across: large slides whose
        tiles are encoded once. Above 1 the image must be whole tiles.

    Raises
    ------
    ValueError
        Where the tile size or the repetition does not fit.
    """
    spec = phantom.spec
    height, width = phantom.rgb.shape[:2]
    if tile < 16 or tile % 16:
        raise ValueError("tile: a multiple of 16 is needed")
    if min(tile_repeat) < 1:
        raise ValueError("tile_repeat: counts of 1 or more are needed")
    if max(tile_repeat) > 1 and (height % tile or width % tile):
        raise ValueError(f"tile_repeat: the image must be a multiple of the tile ({tile} px)")
    full = (height * tile_repeat[0], width * tile_repeat[1])
    with tifffile.TiffWriter(path, bigtiff=full[0] * full[1] > 2**31) as tiff:
        for number, level in enumerate(_levels(phantom.rgb, full, spec, tile)):
            _write_level(tiff, level, _description(spec, full, level.shape, tile), number)
            if number == 0:
                _write_thumbnail(tiff, phantom.rgb)


def _levels(rgb: RGB, full: tuple[int, int], spec: PhantomSpec, tile: int) -> Iterator[_Level]:
    plane, shape = rgb, full
    while True:
        yield _Level(plane, shape, spec, tile)
        smaller = (shape[0] // LEVEL_STEP, shape[1] // LEVEL_STEP)
        if max(shape) <= SMALLEST_LEVEL_PX or min(smaller) < 1 or min(plane.shape[:2]) < 8:
            return
        size = (max(1, plane.shape[1] // LEVEL_STEP), max(1, plane.shape[0] // LEVEL_STEP))
        plane = np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.uint8)
        shape = smaller


def _write_level(tiff: Any, level: _Level, description: str, number: int) -> None:
    tiff.write(
        level.tiles(),
        shape=(*level.shape, 3),
        dtype=np.uint8,
        photometric="ycbcr",
        subsampling=_SUBSAMPLING[level.spec.subsampling],
        compression="jpeg",
        tile=(level.tile, level.tile),
        description=description,
        metadata=None,
        subfiletype=1 if number else 0,
        software=False,
        datetime=False,
    )


_SUBSAMPLING = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}


def _write_thumbnail(tiff: Any, rgb: RGB) -> None:
    """Write the stripped small image that Aperio puts after the first level."""
    scale = min(1.0, 512 / max(rgb.shape[:2]))
    size = (max(1, int(rgb.shape[1] * scale)), max(1, int(rgb.shape[0] * scale)))
    small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    tiff.write(
        small,
        photometric="rgb",
        compression="lzw",
        rowsperstrip=small.shape[0],
        description="Aperio Image Library\nthumbnail",
        metadata=None,
        software=False,
        datetime=False,
    )


def _description(
    spec: PhantomSpec, full: tuple[int, int], shape: tuple[int, int], tile: int
) -> str:
    power = 40 if spec.mpp < 0.35 else 20 if spec.mpp < 0.75 else 10
    size = f"{full[1]}x{full[0]} [0,0 {full[1]}x{full[0]}] ({tile}x{tile})"
    if shape != full:
        size += f" -> {shape[1]}x{shape[0]}"
    return (
        f"Aperio Image Library ({SOFTWARE})\n{size} JPEG/YCC Q={spec.jpeg_quality}"
        f"|AppMag = {power}|MPP = {spec.mpp:.10g}"
    )


def make_files(spec: PhantomSpec, out: Path) -> dict[str, Path]:
    """Make a phantom and write slide, truth tables and area truths.

    Parameters
    ----------
    spec : PhantomSpec
    out : Path
        The folder to write to; made where it is missing.

    Returns
    -------
    dict of str to Path
        `slide` (phantom.svs), `truth` (truth.parquet), `truth_csv`
        (truth.csv), `regions` (regions.csv) and `summary` (truth.json); with
        control areas `annotations` (annotations.geojson), with artefacts `artefacts`
        (artefacts.npz: a mask each, 2 um per sample).
    """
    out.mkdir(parents=True, exist_ok=True)
    phantom = make_phantom(spec)
    paths = {
        "slide": out / "phantom.svs",
        "truth": out / "truth.parquet",
        "truth_csv": out / "truth.csv",
        "regions": out / "regions.csv",
        "summary": out / "truth.json",
    }
    write_slide(phantom, paths["slide"])
    pq.write_table(phantom.truth, paths["truth"])
    pa_csv.write_csv(phantom.truth, paths["truth_csv"])
    pa_csv.write_csv(phantom.regions, paths["regions"])
    text = json.dumps(summary(phantom), indent=2, allow_nan=False)
    if phantom.annotations:
        paths["annotations"] = out / "annotations.geojson"
        paths["annotations"].write_text(phantom.annotations, encoding="utf-8")
    paths["summary"].write_text(text + "\n", encoding="utf-8")
    drawn = {n: m for n, m in phantom.covers.masks.items() if m.any()}
    if drawn:
        paths["artefacts"] = out / "artefacts.npz"
        np.savez_compressed(paths["artefacts"], **{n: np.asarray(m > 0) for n, m in drawn.items()})  # type: ignore[arg-type]
    return paths


def summary(phantom: Phantom) -> dict[str, Any]:
    """Return spec, area truths, pattern counts and fields of view as JSON-ready data."""
    tumour = _tumour(phantom.truth)
    pattern = tumour["pattern"].to_pylist()
    return {
        "spec": phantom.spec.model_dump(mode="json"),
        "areas": phantom.areas,
        "pattern_counts": {name: pattern.count(name) for name in PATTERNS},
        "tumour_cells_with_nucleus": int(sum(tumour["has_nucleus"].to_pylist())),
        "regions": phantom.regions.to_pylist(),
    }


def _tumour(truth: pa.Table) -> pa.Table:
    return truth.filter(pa.array(np.array(truth["cell_type"]) == "tumour"))

"""Synthetic runs for the what people see' tests.

Nothing here is measured on tissue: cells are drawn at random, and everything else (fractions,
score, regions, heterogeneity) is counted from those cells, so that a run is consistent in itself.
The optional slide shows the same cells: a blue nucleus, and a ring along the cell's outline.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import shapely
import tifffile
from PIL import Image, ImageDraw

from her2path.core.intervals import area_class, wilson
from her2path.core.results import Result
from her2path.core.schema import INTENSITY, OUTLINE_PER_UM, OUTLINE_RAYS, PATTERNS
from her2path.core.settings import Settings
from her2path.io.store import RunStore, write_gallery, write_maps
from her2path.space import heterogeneity

MPP = 0.25
SETTINGS = Settings().replace(
    {"regions.size_um": 250.0, "heterogeneity.permutations": 99, "heterogeneity.biopsy_draws": 20}
)
CURVE = {"measure": "membrane_od", "od": [0.02, 0.1, 0.5], "receptors": [2e4, 1e5, 5e5],
         "relative_error": [0.1, 0.1, 0.1], "residuals": [None, 0.05, None]}  # fmt: skip
CALIBRATION = {
    "source": "settings", "measure": "membrane_od", "cutoffs": SETTINGS.membrane.cutoffs,
    "cutoffs_relative_error": 0.6, "curve": CURVE, "date": "2026-01-02",
    "assay": {"clone": "4B5", "stainer": None, "scanner": None},
    "controls": [{"name": "control 3+ <a>", "level": "3+", "cells": 200, "median": 0.41,
                  "stained": 0.98}],
}  # fmt: skip
RECEPTORS = {"median": 61000.0, "low": 52000.0, "high": None, "range": [2e4, 5e5], "below": 0.2,
             "above": 0.01}  # fmt: skip
#: shares of the seven patterns, in the order of PATTERNS: background and positive clone
MIXES = {
    "zero": ([0.97, 0.03, 0, 0, 0, 0, 0], [0.97, 0.03, 0, 0, 0, 0, 0]),
    "low": ([0.60, 0.35, 0.03, 0.02, 0, 0, 0], [0.60, 0.35, 0.03, 0.02, 0, 0, 0]),
    "two_plus": ([0.2, 0.2, 0.1, 0.15, 0.33, 0.01, 0.01], [0.2, 0.2, 0.1, 0.15, 0.33, 0.01, 0.01]),
    "clustered": ([0.6, 0.3, 0.05, 0.03, 0.02, 0, 0], [0.02, 0.02, 0, 0.03, 0.08, 0.05, 0.8]),
    "not_evaluable": ([1.0, 0, 0, 0, 0, 0, 0], [1.0, 0, 0, 0, 0, 0, 0]),
}


@dataclass(frozen=True)
class Plane:
    """Size of the synthetic slide, level-0 px."""

    width_px: int = 4096
    height_px: int = 3072


def cells_table(kind: str, plane: Plane, spacing_px: int, seed: int) -> pa.Table:
    """Draw cells on a jittered lattice; the clone fills the left 40 % of the slide."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[
        spacing_px : plane.height_px - spacing_px : spacing_px,
        spacing_px : plane.width_px - spacing_px : spacing_px,
    ]
    jitter = spacing_px * 0.12
    x = (xs.ravel() + rng.uniform(-jitter, jitter, xs.size)).astype(np.float32)
    y = (ys.ravel() + rng.uniform(-jitter, jitter, ys.size)).astype(np.float32)
    if kind == "not_evaluable":
        x, y = x[:40], y[:40]
    n = x.size
    tumour = rng.random(n) < 0.85
    clone = x < plane.width_px * 0.4
    code = np.empty(n, np.int8)
    for inside, mix in zip((False, True), MIXES[kind], strict=True):
        at = clone == inside
        code[at] = rng.choice(7, size=int(at.sum()), p=np.array(mix) / np.sum(mix))
    code[~tumour] = 0
    intensity = np.array([INTENSITY[p] for p in PATTERNS], np.int8)[code]
    complete = np.isin(code, (2, 4, 6))
    stained = intensity > 0
    od = np.where(
        stained, rng.normal([0, 0.15, 0.38, 0.8], 0.03, (n, 4))[np.arange(n), intensity], 0
    )
    whole = np.where(complete, rng.uniform(0.82, 1, n), rng.uniform(0.15, 0.78, n)) * stained
    angle = np.arange(OUTLINE_RAYS) * 2 * np.pi / OUTLINE_RAYS
    base = spacing_px * MPP * 0.40
    wobble = 1 + 0.08 * np.sin(2 * angle[None, :] + rng.uniform(0, 6, n)[:, None])
    outline = np.round(base * wobble * OUTLINE_PER_UM).astype(np.int16)
    region = (y // 1000).astype(np.int32) * -(-plane.width_px // 1000) + (x // 1000).astype(
        np.int32
    )
    score = np.where(code == 5, 2, intensity).astype(np.int8)
    f32 = {
        "x_um": x * MPP,
        "y_um": y * MPP,
        "x_px": x,
        "y_px": y,
        "tumour_probability": np.where(tumour, 0.95, 0.1),
        "kind_certainty": np.where(tumour, 0.93, 0.88),
        "nucleus_area_um2": rng.normal(35, 5, n),
        "nucleus_hematoxylin_od": rng.normal(0.5, 0.05, n),
        "nucleus_dab_od": np.abs(rng.normal(0.05, 0.02, n)),
        "nucleus_elongation": 1 + rng.random(n),
        "cell_area_um2": np.pi * base**2 * np.ones(n),
        "membrane_od": od,
        "membrane_od_ring": od * whole,
        "membrane_mass": od * 1.2,
        "completeness": whole,
        "membrane_width_um": np.where(stained, 0.6 + 0.5 * intensity, 0),
        "cytoplasm_od": od * 0.1,
        "shared_fraction": rng.uniform(0.2, 0.9, n),
    }
    columns = {k: pa.array(v.astype(np.float32)) for k, v in f32.items()}
    columns["cell_id"] = pa.array(
        (np.round(y * 16).astype(np.int64) << 32) | np.round(x * 16).astype(np.int64)
    )
    columns["cell_type"] = pa.array(np.where(tumour, "tumour", "other"))
    columns["pattern"] = pa.array(np.array(PATTERNS)[code])
    columns["intensity"], columns["score"] = pa.array(intensity), pa.array(score)
    columns["uncertain"] = pa.array((intensity == 1) & (rng.random(n) < 0.05))
    columns["region_id"] = pa.array(region)
    columns["receptors"] = pa.nulls(n, pa.float32())
    for name, radii in (("outline", outline), ("nucleus_outline", outline // 2)):
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(radii.ravel()), OUTLINE_RAYS)
    return pa.table(columns)


def _ihc(counts: dict[str, int]) -> tuple[str, str | None, str]:
    n = max(1, sum(counts.values()))
    strong = counts["intense_complete"] / n
    moderate = strong + counts["moderate_complete"] / n
    anything = 1 - counts["none"] / n
    if strong > 0.1:
        return "3+", None, "intense complete in > 10 %"
    if strong > 0.01 or moderate > 0.1:
        return "2+", None, "moderate complete in > 10 %"
    if anything > 0.1:
        return "1+", None, "any membrane staining in > 10 %"
    return "0", "ultralow" if anything > 0.01 else "null", "any membrane staining in <= 10 %"


CATEGORY = {"3+": "positive", "2+": "equivocal", "1+": "low"}


def regions_table(cells: pa.Table, plane: Plane) -> pa.Table:
    """Count the 250 µm squares of `cells_table`."""
    ids = cells["region_id"].to_numpy()
    tumour = cells["cell_type"].to_numpy(zero_copy_only=False) == "tumour"
    pattern = cells["pattern"].to_numpy(zero_copy_only=False)
    side, across = 1000 * MPP, -(-plane.width_px // 1000)
    rows = []
    for rid in range(across * -(-plane.height_px // 1000)):
        mine = pattern[(ids == rid) & tumour]
        counts = {p: int((mine == p).sum()) for p in PATTERNS}
        n, k = len(mine), counts["intense_complete"]
        low, high = wilson(k, n)
        klass, certain = area_class(k, n)
        ihc, substate, _ = _ihc(counts)
        few = n < 50
        x, y = (rid % across) * side, (rid // across) * side
        rows.append(
            {
                "region_id": rid,
                "kind": "grid",
                "name": f"square {rid}",
                "polygon": shapely.to_wkb(shapely.box(x, y, x + side, y + side)),
                "tissue_area_mm2": side * side / 1e6,
                "tumour_area_mm2": 0.85 * side * side / 1e6,
                "tumour_cells": n,
                **{f"fraction_{p}": counts[p] / n if n else None for p in PATTERNS},
                "score": None if few else ihc,
                "substate": None if few else substate,
                "category": None if few else CATEGORY.get(ihc, substate),
                "h_score": 100 * sum(INTENSITY[p] * c for p, c in counts.items()) / n
                if n
                else None,
                "receptors_median": None,
                "positive_cells": k,
                "positive_fraction": k / n if n else None,
                "positive_low": low,
                "positive_high": high,
                "area_class": klass,
                "area_class_certain": certain,
                "gi_z": None,
                "gi_q": None,
            }
        )
    fractions = np.array([r["positive_fraction"] or 0 for r in rows])
    spread = fractions.std()
    for row, f in zip(rows, fractions, strict=True):
        # stands in for Gi*: a plain z of the square's own fraction
        row["gi_z"] = float((f - fractions.mean()) / spread) if spread > 0 else None
    return pa.Table.from_pylist(rows)


def _heterogeneity(cells: pa.Table, regions: pa.Table, ihc: str) -> dict:
    """Measure it for real: cheap on a few thousand cells."""
    tumour = cells.filter(pa.compute.equal(cells["cell_type"], "tumour"))
    found = heterogeneity.measure(
        tumour, ["intense_complete"], SETTINGS, regions=regions, score=ihc
    )
    return found.model_dump(mode="json")


def result_of(
    kind: str, cells: pa.Table, regions: pa.Table, plane: Plane, slide: str | None
) -> Result:
    """Count a result from the tables."""
    tumour = cells["cell_type"].to_numpy(zero_copy_only=False) == "tumour"
    pattern = cells["pattern"].to_numpy(zero_copy_only=False)[tumour]
    counts = {p: int((pattern == p).sum()) for p in PATTERNS}
    n = max(1, len(pattern))
    fractions = {p: c / n for p, c in counts.items()}
    ihc, substate, rule = _ihc(counts)
    dead = kind == "not_evaluable"
    flags = [
        {
            "code": "IN_SITU_NOT_EXCLUDED",
            "severity": "warning",
            "message": "Tumour cells were selected by morphology, which cannot tell invasive "
            "tumour from in-situ carcinoma or normal ducts.",
        }
    ]
    if dead:
        flags.append(
            {
                "code": "FEW_TUMOUR_CELLS",
                "severity": "fail",
                "message": "There are too few tumour cells for a score. 34 of 100 needed.",
            }
        )
    other = dict.fromkeys(("0", "1+", "2+", "3+"), 0.0)
    score = {
        "guideline": "asco_cap_2018",
        "ihc": ihc,
        "substate": substate,
        "rule": rule,
        "trace": [f"intense complete {100 * fractions['intense_complete']:.1f} %", rule],
        "flags": [],
        "probability": other | {ihc: 1.0},
        "reflex_ish": ihc == "2+",
        "category": CATEGORY.get(ihc, substate),
        "fractions": fractions,
    }
    return Result.model_validate(
        {
            "her2path_version": "0.1.0",
            "status": "not_evaluable" if dead else "complete",
            "slide": {
                "path": slide,
                "id": f"synthetic <{kind}>",
                "vendor": "aperio",
                "mpp": MPP,
                "width_px": plane.width_px,
                "height_px": plane.height_px,
                "sha256_quick": "0" * 64,
            },
            "settings_sha256": SETTINGS.sha256(),
            "stain": {
                "white_point": [243, 243, 242],
                "hematoxylin": [0.65, 0.70, 0.29],
                "dab": [0.27, 0.57, 0.78],
                "method": "fixed",
                "calibration": "uncalibrated",
            },
            "qc": {"flags": flags, "tissue_area_mm2": 0.75, "analysed_area_mm2": 0.74},
            "counts": {"tumour": int(tumour.sum()), "other": int((~tumour).sum())},
            "tumour_selection": "morphology",
            "fractions": fractions,
            "score": None if dead else score,
            "h_score": None if dead else 100 * sum(INTENSITY[p] * f for p, f in fractions.items()),
            "heterogeneity": None if dead else _heterogeneity(cells, regions, ihc),
            "calibration": None if dead else CALIBRATION,
            "receptors": None if dead else RECEPTORS,
            "cnn": None,
            "provenance": {
                "started": "2025-01-01T00:00:00Z",
                "seconds": 1.0,
                "tiles": 4,
                "workers": 1,
                "packages": {"numpy": np.__version__},
                "model_sha256": None,
            },
        }
    )


def draw_slide(cells: pa.Table, plane: Plane) -> np.ndarray:
    """Draw the cells: nuclei blue, rings brown by intensity."""
    image = Image.new("RGB", (plane.width_px, plane.height_px), (243, 243, 242))
    pen = ImageDraw.Draw(image)
    angle = np.arange(OUTLINE_RAYS) * 2 * np.pi / OUTLINE_RAYS
    radii = np.array(cells["outline"].to_pylist()) / OUTLINE_PER_UM / MPP
    browns = [None, (225, 200, 170), (190, 140, 90), (110, 60, 20)]
    x, y = cells["x_px"].to_numpy(), cells["y_px"].to_numpy()
    xs, ys = x[:, None] + radii * np.cos(angle), y[:, None] + radii * np.sin(angle)
    for i, level in enumerate(cells["intensity"].to_pylist()):
        ring = [*zip(xs[i], ys[i], strict=True)]
        if browns[level]:
            pen.line([*ring, ring[0]], fill=browns[level], width=4)
        r = radii[i].min() * 0.5
        pen.ellipse((x[i] - r, y[i] - r, x[i] + r, y[i] + r), fill=(110, 100, 170))
    return np.asarray(image)


def write_slide(path: Path, rgb: np.ndarray) -> None:
    """Write an uncompressed tiled pyramid that OpenSlide takes for an Aperio file."""
    options = {
        "tile": (256, 256),
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": 92},
    }
    with tifffile.TiffWriter(path) as tif:
        text = f"Aperio Image Library v11\n{rgb.shape[1]}x{rgb.shape[0]}|MPP = {MPP}|AppMag = 40"
        tif.write(rgb, description=text, metadata=None, **options)
        small = np.asarray(Image.fromarray(rgb).reduce(4))
        tif.write(small, subfiletype=1, metadata=None, **options)


def make_run(
    out: Path,
    kind: str = "clustered",
    *,
    plane: Plane | None = None,
    spacing_px: int = 52,
    seed: int = 1,
    slide: bool = False,
) -> RunStore:
    """Write a complete synthetic run and, when asked for, the slide beside it."""
    plane = plane or Plane()
    cells = cells_table(kind, plane, spacing_px, seed)
    regions = regions_table(cells, plane)
    rgb = draw_slide(cells, plane)
    path = None
    if slide:
        out.parent.mkdir(parents=True, exist_ok=True)
        path = out.parent / f"{out.name}.svs"
        write_slide(path, rgb)
    store = RunStore(out).create()
    store.write_settings(SETTINGS)
    store.write_cells([cells], rows=cells.num_rows)
    store.write_regions(regions)
    thumb = np.asarray(Image.fromarray(rgb).reduce(4))
    store.write_thumbnail(thumb)
    grey = thumb[::8, ::8].astype(np.float32).mean(2)
    od = -np.log10(np.maximum(grey, 1) / 243)
    maps = {"hematoxylin": od, "dab": od, "score_density": od, "tissue": od > 0.02, "qc": od > 9}
    write_maps(store.maps_path, maps, MPP * 32)
    _write_gallery(store, cells, rgb)
    result = result_of(kind, cells, regions, plane, str(path) if path else None)
    store.write_result(result)
    return store


def _write_gallery(store: RunStore, cells: pa.Table, rgb: np.ndarray) -> None:
    patterns = cells["pattern"].to_numpy(zero_copy_only=False)
    x, y = (
        np.round(cells["x_px"].to_numpy()).astype(int),
        np.round(cells["y_px"].to_numpy()).astype(int),
    )
    picked = np.concatenate([np.flatnonzero(patterns == p)[:6] for p in PATTERNS])
    inside = (x[picked] >= 32) & (y[picked] >= 32)
    picked = picked[inside]
    patches = np.stack([rgb[y[i] - 32 : y[i] + 32, x[i] - 32 : x[i] + 32] for i in picked])
    table = pa.table(
        {
            "cell_id": cells["cell_id"].take(picked),
            "pattern": patterns[picked],
            "borderline": np.arange(len(picked)) % 6 == 0,
            "x_px": x[picked].astype(np.float32),
            "y_px": y[picked].astype(np.float32),
            "mpp": np.full(len(picked), MPP, np.float32),
        }
    )
    write_gallery(store.gallery_path, patches, table)

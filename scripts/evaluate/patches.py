"""Patches of real fields whose cells were read by eye: judges of the CNN, never its teachers.

A patch's truth is the score that the rules give to the grades of one reader; both readers judge.
Image-reading models read, two for each field; no person did, and they are no diagnoses.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from her2path import cnn
from her2path.cnn import metrics
from her2path.core.schema import PATTERNS
from scripts.fit.read_fields import (
    AROUND_UM,
    LEVELS,
    READS,
    cached_image,
    read_cells,
    real_stain,
)

__all__ = ["judge_reads"]

Voice = dict[str, str]
Reads = dict[tuple[float, float], list[Voice]]


def _pattern(voice: Voice) -> str:
    level = int(LEVELS[voice["membrane"]])
    return PATTERNS[2 * level - (voice["complete"] != "yes")] if level else PATTERNS[0]


def _truth(reads: Reads, turn: int, corner: tuple[int, int], mpp: float) -> pa.Table:
    """Return the tumour cells that both readers graded, with the grades of one of them."""
    rows = []
    for n, (place, voices) in enumerate(sorted(reads.items())):
        two = sorted(voices, key=lambda v: v["reader"])
        if len(two) == 2 and all(v["kind"] == "tumour" and v["membrane"] in LEVELS for v in two):
            x, y = ((p - c + 0.5) * mpp for p, c in zip(place, corner, strict=True))
            rows.append((n, x, y, "tumour", _pattern(two[turn])))
    names = ("cell_id", "x_um", "y_um", "cell_type", "pattern")
    return pa.table({k: [r[i] for r in rows] for i, k in enumerate(names)})


def _field(folder: Path, field: Voice, reads: Reads, turn: int, recipe: cnn.Recipe) -> cnn.Patches:
    rgb, mpp = cached_image(folder, field["image"])
    x0, y0, side = (int(field[k]) for k in ("x0", "y0", "side"))
    pad = round(AROUND_UM / mpp)
    left, top = max(x0 - pad, 0), max(y0 - pad, 0)
    cut = np.ascontiguousarray(rgb[top : y0 + side + pad, left : x0 + side + pad])
    truth = _truth(reads, turn, (left, top), mpp)
    model = real_stain(folder, field["image"], "as_is")
    return cnn.from_phantom_pixels(cut, mpp, truth, (field["image"], field["image"]), recipe, model)


def judge_reads(model: Path, folder: Path, recipe: cnn.Recipe) -> dict[str, Any]:
    """Measure a CNN on the read fields below a folder of real images, with each reader's grades."""
    scorer, every = cnn.Scorer.load(model, device="cpu"), read_cells()
    with (READS / "fields.csv").open(encoding="utf-8") as file:
        fields = [f for f in csv.DictReader(file) if f["look"] == "as_is" and f["field"] in every]
    found: dict[str, Any] = {}
    for turn, reader in enumerate(("the_one", "the_other")):
        said, truth = [], []
        for field in fields:
            patches = _field(folder, field, every[field["field"]], turn, recipe)
            if len(patches):
                said.append(scorer.score_patches(patches.rgb, patches.stains[0]))
                truth.append(patches.label)
        found[reader] = metrics.summary(np.concatenate(said), np.concatenate(truth))
    return found

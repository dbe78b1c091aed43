"""Folds: where the section lies double, so that densities add up and detail drowns in stain."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from her2path.cells.qc.field import (
    F32,
    Field,
    Mask,
    Usual,
    grown,
    mean,
    morph,
    patches,
    visibility,
)
from her2path.core.settings import QcSettings

__all__ = ["folds"]

#: nuclear OD over the usual where nuclei lie over each other
NUCLEAR_TWICE = 2.0
#: length of the piece of a line that is looked at, and how far off it its sides lie, map cells
LENGTH, ASIDE = 7, 3
#: directions that are looked along
DIRECTIONS = 12
#: share of a piece that is tissue without gaps, at least
COVERED = 0.5
#: along a fold: visibility below this part of the usual (twice the stain would be a quarter where
#: all detail is the lower layer's), beside a core below the second
UNSEEN, NEARLY_UNSEEN = 0.55, 0.72
#: hematoxylin along a fold over that of one of its sides, at least
STEP = 1.15
#: DAB over hematoxylin OD along a fold, at most: brown clones and blush are dense by their stain
BROWN = 0.9
#: 90 % of the pixels exceed this OD in a fold, part of `max_floor_od`
CLOSED = 0.6
#: less visibility is none
LEAST_SEEN = 0.02


def folds(field: Field, settings: QcSettings, usual: Usual, known: Mask) -> Mask:
    """Return where the section lies double.

    A ridge along which detail is hardly visible, bluer than the tissue on one of its sides; or an
    area denser than the usual; or nuclei darker than usual because they lie over each other.
    ``known`` is what another artefact explains: smudges, pen, blur.
    """
    there = field.tissue & (field["glass"] < 0.4) & ~known
    blue = field["dab"] < 1.2 * np.maximum(field["hematoxylin"], 0.01)
    closed = mean(field["floor"], 3) > max(0.6 * settings.max_floor_od, 2.0 * usual.floor)
    veiled = mean(visibility(field), 3) < 0.7 * usual.visibility
    dense = mean(field["hematoxylin"], 3) > settings.fold_density * usual.hematoxylin
    found = patches(morph(there & blue & closed & veiled & dense, cv2.MORPH_CLOSE, 3), 6)
    # two dark nuclei over each other
    twice = there & blue & (field["nuclear"] > NUCLEAR_TWICE * usual.nuclear)
    twice &= field["hematoxylin"] > 1.8 * usual.hematoxylin
    return found | grown(patches(twice, 4)) | _ridges(field, settings, usual, ~known)


def _ridges(field: Field, settings: QcSettings, usual: Usual, free: Mask) -> Mask:
    """Return pieces of lines that are less visible and bluer than what lies beside them."""
    there = field.tissue & (field["glass"] < 0.5) & free
    seen = np.log(np.maximum(visibility(field) / max(usual.visibility, 1e-6), LEAST_SEEN))
    core = np.zeros(there.shape, bool)
    weak = np.zeros(there.shape, bool)
    for line in _directions(there):
        blue = line.mean(field["hematoxylin"])
        fold = line.mean(field["floor"]) > CLOSED * settings.max_floor_od
        fold &= (blue > STEP * line.lesser_side(blue)) & (line.mean(field["dab"]) < BROWN * blue)
        fold &= there
        along = line.mean(seen)
        core |= fold & (along < math.log(UNSEEN))
        weak |= fold & (along < math.log(NEARLY_UNSEEN))
    core = patches(core, 4)
    for _ in range(2):
        core |= grown(core) & weak
    return core


class _Line:
    """A piece of a line of one direction through every map cell."""

    def __init__(self, there: F32, angle: float) -> None:
        self.there, self.kernel = there, _kernel(angle)
        self.aside = -math.sin(angle) * ASIDE, math.cos(angle) * ASIDE
        self.cover = self._along(there)
        self.none = self.cover < COVERED

    def _along(self, plane: F32) -> F32:
        made = cv2.filter2D(plane, -1, self.kernel, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(made, np.float32)

    def mean(self, plane: F32) -> F32:
        """Return the mean over tissue; NaN where there is too little of it."""
        made = self._along(np.asarray(plane * self.there, np.float32))
        made /= np.maximum(self.cover, 0.01)
        made[self.none] = np.nan
        return made

    def lesser_side(self, along: F32) -> F32:
        """Return the lesser of the means beside the line; NaN where there is no tissue beside."""
        x, y = self.aside
        sides = [
            cv2.warpAffine(along, np.array([[1, 0, s * x], [0, 1, s * y]], np.float32),
                           along.shape[::-1], flags=cv2.INTER_NEAREST, borderValue=math.nan)
            for s in (1, -1)
        ]  # fmt: skip
        return np.asarray(np.fmin(*sides), np.float32)


def _directions(there: Mask) -> Iterator[_Line]:
    for k in range(DIRECTIONS):
        yield _Line(there.astype(np.float32), math.pi * k / DIRECTIONS)


def _kernel(angle: float) -> F32:
    """Return the shares of map cells in a piece of a line (LENGTH, LENGTH), summing to 1."""
    fine = 8
    drawn = np.zeros((LENGTH * fine, LENGTH * fine), np.float32)
    middle, reach = LENGTH * fine / 2, (LENGTH - 1) / 2 * fine
    x, y = reach * math.cos(angle), reach * math.sin(angle)
    ends = [(round(middle + s * x), round(middle + s * y)) for s in (-1, 1)]
    cv2.line(drawn, ends[0], ends[1], 1.0, fine)
    made = drawn.reshape(LENGTH, fine, LENGTH, fine).mean(axis=(1, 3))
    return np.asarray(made / made.sum(), np.float32)

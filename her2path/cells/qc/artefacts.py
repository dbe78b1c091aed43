"""Where artefacts lie: features of 16 µm cells in, codes of the quality map out.

Decided once on the whole slide's grid, so that neighbours are at hand and no cut between blocks
can show. Every rule names the physics it rests on; the limits are settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from her2path.cells.qc.assessment import GREY_PER_OD, LEAST_CONTRAST
from her2path.cells.qc.codes import CODES
from her2path.core.settings import QcSettings

__all__ = ["Field", "classify"]

Mask = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]

#: grey levels of stain below which there is nothing to be sharp
LEAST_GREY = 8.0
#: fewer touching map cells than this are chance: a patch is larger than 30 µm
LEAST_CELLS = 3
#: side of the window in which nuclei are counted, and of a field of view, map cells
WINDOW, VIEW = 5, 13
#: surely tumour cells that a field with epithelium has: a small gland
GLAND = 8
#: nuclear OD over the usual where nuclei lie over each other
NUCLEAR_TWICE = 2.0
#: nuclear OD, part of the usual, below which there is none
FAINT = 0.3
#: mean DAB OD of a place without brown
LITTLE_DAB = 0.03
#: debris: nuclear OD below, and fine over coarse contrast above, these parts of the usual
DIM, GRANULAR = 0.8, 1.12
#: sharpness at the border of a blurred patch, over the limit inside it
FADING = 1.5
#: blurred is what has less than this part of the slide's usual fine over coarse contrast, or less
#: than any scan in focus
SOFTER, BLURRED = 0.6, 0.10
#: finds of the map cells around one at the border of necrosis
NEAR = 0.8
#: share of glass around a crack, at most
LOOSE = 0.6
#: share of glass in a crack
CRACK = 0.70
#: share of grey pixels in the rim of a bubble
RIM = 0.02
#: less visible than this part of the usual is veiled
VEILED = 0.3
#: emptier than this is lumen or glass, and nothing is to be said of it (share)
EMPTY = 0.9


@dataclass(frozen=True)
class Field:
    """What `classify` sees, all (rows, columns) of map cells.

    ``maps`` are the block's means and `features.FEATURES`, ``nuclei`` and ``epithelium`` counts of
    finds and of sure tumour cells, ``tissue`` and ``pen`` masks.
    """

    maps: Mapping[str, F32]
    tissue: Mask
    pen: Mask

    def __getitem__(self, name: str) -> F32:
        return self.maps[name]


def classify(field: Field, settings: QcSettings) -> npt.NDArray[np.uint16]:
    """Return the codes of every map cell.

    Parameters
    ----------
    field : Field
        Features, finds and masks.
    settings : QcSettings
        Limits.

    Returns
    -------
    uint16 (rows, columns)
        Sums of `CODES` values; 0 in clean tissue and outside tissue (but for pen).
    """
    tissue = field.tissue
    usual = _usual(field)
    found: dict[str, Mask] = {"pen_markings": field.pen}
    found["compression"] = _patches(_mean(field["blocks"], 3) > settings.max_blocks)
    found["saturation"] = _clipped(field, settings)
    coded = found["compression"] | found["saturation"]
    vague = _vague(field, settings, usual) & ~coded
    found["background"] = _background(field, settings)
    found["dust"] = _dust(field, settings, vague, usual) & ~coded
    rest = vague & ~found["dust"] & ~_grown(found["background"])
    found["bubbles"] = _bubbles(field, rest)
    blurry = _patches(rest & ~found["bubbles"])
    # at its border a patch fades out: half as sharp again is still blurred there
    fading = np.nan_to_num(field["focus"]) < FADING * _least_sharp(settings, usual)
    fading |= _visibility(field) < FADING * _least_visible(settings, usual)
    found["blurry"] = blurry | (_grown(blurry) & fading)
    found["folds"] = _folds(field, settings, usual)
    found["edges"] = _edges(field, settings)
    found["pale"], found["necrosis"] = _without_nuclei(field, settings, usual)
    found["pale"] &= ~coded
    found["necrosis"] &= ~coded & ~found["pale"] & ~found["bubbles"]
    codes = np.zeros(tissue.shape, np.uint16)
    for name, mask in found.items():
        here = mask if name == "pen_markings" else mask & tissue
        codes[here] |= np.uint16(CODES[name].value)
    view = cv2.boxFilter(
        np.asarray(field["epithelium"], np.float32), -1, (VIEW, VIEW), normalize=False,
        borderType=cv2.BORDER_CONSTANT,
    )  # fmt: skip
    codes[tissue & (np.asarray(view) < GLAND)] |= np.uint16(CODES["no_epithelium"].value)
    return codes


@dataclass(frozen=True)
class _Usual:
    """What is usual in this slide's tissue: medians over map cells that hold a nucleus."""

    hematoxylin: float
    nuclear: float
    visibility: float
    ratio: float
    floor: float


def _visibility(field: Field) -> F32:
    """Return what differs at 1 µm, beside the stain's square."""
    stain = np.maximum(_stain(field), LEAST_GREY)
    seen = np.nan_to_num(field["focus"]) * field["contrast"] / (stain * stain)
    return np.asarray(seen, np.float32)


def _usual(field: Field) -> _Usual:
    cells = field.tissue & (field["nuclei"] > 0) & (field["glass"] < 0.5)
    if not cells.any():
        return _Usual(0.05, 0.15, 0.5, 0.5, 0.02)
    seen = _visibility(field)
    return _Usual(
        float(np.median(field["hematoxylin"][cells])),
        float(np.median(field["nuclear"][cells])),
        float(np.median(seen[cells])),
        float(np.median(np.nan_to_num(field["focus"])[cells])),
        float(np.median(field["floor"][cells])),
    )


# -- neighbourhoods ------------------------------------------------------------------------------


def _mean(plane: npt.NDArray[np.generic], side: int) -> F32:
    made = cv2.boxFilter(
        np.asarray(plane, np.float32), -1, (side, side), borderType=cv2.BORDER_REFLECT
    )
    return np.asarray(made, np.float32)


def _morph(mask: Mask, op: int, side: int) -> Mask:
    made = cv2.morphologyEx(mask.astype(np.uint8), op, np.ones((side, side), np.uint8))
    return np.asarray(made > 0)


def _grown(mask: Mask) -> Mask:
    """Add the map cells around: a cell reaches 8 µm beyond its nucleus."""
    return _morph(mask, cv2.MORPH_DILATE, 3)


def _patches(mask: Mask, least: int = LEAST_CELLS) -> Mask:
    """Keep what is at least so many touching map cells."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= least
    keep[0] = False
    return np.asarray(keep[labels])


# -- what cannot be seen through -------------------------------------------------------------------


def _stain(field: Field) -> F32:
    both = field["hematoxylin"] + field["dab"]
    return np.asarray(np.maximum(both, 0.0) * GREY_PER_OD, np.float32)


def _vague(field: Field, settings: QcSettings, usual: _Usual) -> Mask:
    """Return where there is stain without detail.

    Either what differs at 1 µm is small beside what differs at 4 µm (blur), or beside the stain
    itself (something vague lies over the tissue, or all its coarse detail is gone too).
    """
    fine = np.nan_to_num(field["focus"]) * field["contrast"]
    near, far = _mean(fine, 3), _mean(field["contrast"], 3)
    stain = np.maximum(_mean(_stain(field), 3), LEAST_GREY)
    soft = (near < _least_sharp(settings, usual) * far) & (far > LEAST_CONTRAST)
    # a soft scan shows less everywhere: what is veiled shows far less than the rest of it
    veiled = near < _least_visible(settings, usual) * stain * stain
    there = (stain > 2 * LEAST_GREY) & (field["glass"] < EMPTY)
    return np.asarray((soft | veiled) & there & field.tissue)


def _least_sharp(settings: QcSettings, usual: _Usual) -> float:
    """Return the limit of fine over coarse contrast: a soft scan, or much brown, has less of it."""
    return min(settings.min_sharpness, max(BLURRED, SOFTER * usual.ratio))


def _least_visible(settings: QcSettings, usual: _Usual) -> float:
    return min(settings.min_visibility, VEILED * usual.visibility)


def _background(field: Field, settings: QcSettings) -> Mask:
    """Return where nearly every pixel is brown: between membranes, in nuclei, in stroma."""
    brown = field["dab_floor"] > settings.max_background_od
    brown &= _mean(field["dab_floor"], 3) > 0.8 * settings.max_background_od
    return _grown(_patches(brown & field.tissue))


def _dust(field: Field, settings: QcSettings, vague: Mask, usual: _Usual) -> Mask:
    """Return smudges (dark, vague, not brown), precipitate (bluer than nuclei) and specks."""
    blue = field["hematoxylin"]
    smudge = vague & (_mean(field["floor"], 3) > settings.max_floor_od)
    smudge &= (_mean(blue, 3) > 1.8 * usual.hematoxylin) & (field["dab_floor"] < blue)
    smudge = _grown(_patches(smudge))
    # beside brown membranes sharpening leaves the same colour in nuclei
    crumbs = (field["blue"] > settings.max_blue) & (_mean(field["dab"], 3) < LITTLE_DAB)
    crumbs |= _grown(crumbs) & (field["blue"] > 0.3 * settings.max_blue)
    specks = field["grey"] > settings.max_grey
    return np.asarray(smudge | crumbs | specks)


def _clipped(field: Field, settings: QcSettings) -> Mask:
    """Return where detail is lost at white or black; glass may be white all over the slide."""
    glass = ~field.tissue & (field["glass"] > EMPTY)
    white = bool(glass.any()) and float(np.median(field["bright"][glass])) > 0.5
    bright = _mean(field["bright"], 3) > settings.max_clipped
    clipped = (field["dark"] > settings.max_clipped) | (bright & (not white))
    return _patches(clipped)


# -- shapes ----------------------------------------------------------------------------------------


def _bubbles(field: Field, vague: Mask) -> Mask:
    """Return vague patches behind a rim of neither stain's colour: light bent at the air."""
    closed = _morph(vague, cv2.MORPH_CLOSE, 3)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed.astype(np.uint8))
    found = np.zeros(vague.shape, bool)
    for k in range(1, count):
        x, y, w, h, area = (int(v) for v in stats[k])
        if area < 12:
            continue
        here = np.s_[max(y - 2, 0) : y + h + 2, max(x - 2, 0) : x + w + 2]
        piece = labels[here] == k
        rim = _grown(piece) & ~_morph(piece, cv2.MORPH_ERODE, 3)
        if float(field["grey"][here][rim].mean()) > RIM:
            found[here] |= _grown(piece)
    return found


def _thin(mask: Mask, long: int) -> Mask:
    """Keep what is narrower than three map cells, in pieces of at least ``long`` of them."""
    narrow = mask & ~_morph(mask, cv2.MORPH_OPEN, 3)
    kept = _patches(narrow, long)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(kept.astype(np.uint8))
    side = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    keep = side >= long
    keep[0] = False
    return np.asarray(keep[labels])


def _folds(field: Field, settings: QcSettings, usual: _Usual) -> Mask:
    """Return where the section lies double.

    Denser than the tissue around, nuclei darker than usual because they lie over each other or
    no bright gap left; brown clones are left alone: they are dense by their stain.
    """
    there = field.tissue & (field["glass"] < 0.4)
    blue = field["dab"] < 1.2 * np.maximum(field["hematoxylin"], 0.01)
    floor = _mean(field["floor"], 3)
    closed = floor > max(0.6 * settings.max_floor_od, 2.0 * usual.floor)
    veiled = _mean(_visibility(field), 3) < 0.7 * usual.visibility
    dense = _mean(field["hematoxylin"], 3) > settings.fold_density * usual.hematoxylin
    found = _patches(_morph(there & blue & closed & veiled & dense, cv2.MORPH_CLOSE, 3), 6)
    # two dark nuclei over each other
    twice = there & blue & (field["nuclear"] > NUCLEAR_TWICE * usual.nuclear)
    twice &= field["hematoxylin"] > 1.8 * usual.hematoxylin
    return _grown(found | _patches(twice, 4))


def _edges(field: Field, settings: QcSettings) -> Mask:
    """Return cracks, and stain piled up along the tissue's border."""
    whole = _morph(_morph(field.tissue, cv2.MORPH_CLOSE, 5), cv2.MORPH_ERODE, 5)
    # in loose tissue glass is everywhere: a crack has tissue on either side
    gap = (field["glass"] > CRACK) & (_mean(field["glass"], 5) < LOOSE)
    cracks = _thin(gap & whole, 8)
    inner = _morph(field.tissue, cv2.MORPH_ERODE, 7)
    piled = field.tissue & ~inner & (field["dab_floor"] > settings.max_edge_od)
    return np.asarray(_grown(cracks) | _patches(piled))


# -- what has no nuclei ----------------------------------------------------------------------------


def _without_nuclei(field: Field, settings: QcSettings, usual: _Usual) -> tuple[Mask, Mask]:
    """Return what is hardly counterstained, and necrosis, fibrin, blood, mucus, debris.

    Few finds, or nothing there as dark as a nucleus. With membranes or finds the stain is weak;
    without, nothing lives. Where DAB is strong nuclei may be hidden under it: nothing is said.
    """
    there = field.tissue & (field["glass"] < EMPTY)
    cover = np.maximum(_mean(there, WINDOW), 0.2)
    density = _mean(np.where(there, field["nuclei"], 0), WINDOW) / cover
    dark = _mean(np.where(there, field["nuclear"], 0), 3) / np.maximum(_mean(there, 3), 0.2)
    limit = max(settings.min_hematoxylin_od, FAINT * usual.nuclear)
    faint = _patches(np.asarray(there & (dark < limit)), 9)
    lives = density >= 2 * settings.min_nuclei
    edge = there & (field["nuclear"] < 1.4 * limit)
    pale = _patches(faint & lives, 9)
    pale |= _morph(pale, cv2.MORPH_DILATE, 5) & edge
    empty = density < settings.min_nuclei
    # debris is granular: finer than tissue, with few finds, and paler than nuclei
    close = _mean(np.where(there, field["nuclei"], 0), 3) / np.maximum(_mean(there, 3), 0.2)
    fine = _mean(np.nan_to_num(field["focus"]) * field["contrast"], 3)
    fine /= np.maximum(_mean(field["contrast"], 3), LEAST_CONTRAST)
    dim = _mean(field["nuclear"], 3) < DIM * usual.nuclear
    few = empty | dim & (fine > GRANULAR * usual.ratio) & (close < 3 * settings.min_nuclei)
    bare = _patches(there & few & (field["dab"] < 0.08), 6)
    dead = faint & ~lives
    dead |= _morph(_patches(dead, 6), cv2.MORPH_DILATE, 5) & edge
    # the window blurs the border by two map cells: it is given back where no find lies
    core = _patches(np.asarray(there & empty & bare), 9)
    near = _morph(core, cv2.MORPH_DILATE, 7) & there & (field["nuclei"] < 0.5)
    near &= _mean(field["nuclei"], 3) < NEAR
    return pale & there, (bare | near | dead) & there

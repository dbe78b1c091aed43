"""Where artefacts lie: features of 16 µm cells in, codes of the quality map out.

Decided once on the whole slide's grid, so that neighbours are at hand and no cut between blocks
can show. Every rule names the physics it rests on; the limits are settings.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from her2path.cells.qc.assessment import LEAST_CONTRAST
from her2path.cells.qc.codes import CODES
from her2path.cells.qc.field import (
    EMPTY,
    LEAST_GREY,
    Field,
    Mask,
    Usual,
    grown,
    mean,
    morph,
    patches,
    stain_grey,
    thin,
    usual_of,
    visibility,
)
from her2path.cells.qc.folds import folds
from her2path.cells.qc.lifeless import without_nuclei
from her2path.core.settings import QcSettings

__all__ = ["Field", "classify"]

#: side of a field of view, map cells
VIEW = 13
#: surely tumour cells that a field with epithelium has: a small gland
GLAND = 8
#: mean DAB OD of a place without brown
LITTLE_DAB = 0.03
#: DAB OD of precipitate, negative, over its hematoxylin OD: marked crumbs 0.13-0.23, nuclei 0.01
ALL_BLUE = 0.05
#: sharpness at the border of a blurred patch, over the limit inside it
FADING = 1.5
#: blurred is what has less than this part of the slide's usual fine over coarse contrast, or less
#: than any scan in focus
SOFTER, BLURRED = 0.6, 0.10
#: share of glass around a crack, at most
LOOSE = 0.6
#: share of glass in a crack
CRACK = 0.70
#: share of grey pixels in the rim of a bubble
RIM = 0.02
#: less visible than this part of the usual is veiled
VEILED = 0.3


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
    usual = usual_of(field)
    found: dict[str, Mask] = {"pen_markings": field.pen}
    found["compression"] = patches(mean(field["blocks"], 3) > settings.max_blocks)
    found["saturation"] = _clipped(field, settings)
    coded = found["compression"] | found["saturation"]
    vague = _vague(field, settings, usual) & ~coded
    found["background"] = _background(field, settings)
    found["dust"] = _dust(field, settings, vague, usual) & ~coded
    rest = vague & ~found["dust"] & ~grown(found["background"])
    found["bubbles"] = _bubbles(field, rest)
    blurry = patches(rest & ~found["bubbles"])
    # at its border a patch fades out: half as sharp again is still blurred there
    fading = np.nan_to_num(field["focus"]) < FADING * _least_sharp(settings, usual)
    fading |= visibility(field) < FADING * _least_visible(settings, usual)
    found["blurry"] = blurry | (grown(blurry) & fading)
    found["folds"] = folds(field, settings, usual, field.pen | found["dust"] | vague)
    found["edges"] = _edges(field, settings)
    found["pale"], found["necrosis"] = without_nuclei(field, settings, usual)
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


# -- what cannot be seen through -------------------------------------------------------------------


def _vague(field: Field, settings: QcSettings, usual: Usual) -> Mask:
    """Return where there is stain without detail.

    Either what differs at 1 µm is small beside what differs at 4 µm (blur), or beside the stain
    itself (something vague lies over the tissue, or all its coarse detail is gone too).
    """
    fine = np.nan_to_num(field["focus"]) * field["contrast"]
    near, far = mean(fine, 3), mean(field["contrast"], 3)
    stain = np.maximum(mean(stain_grey(field), 3), LEAST_GREY)
    soft = (near < _least_sharp(settings, usual) * far) & (far > LEAST_CONTRAST)
    # a soft scan shows less everywhere: what is veiled shows far less than the rest of it
    veiled = near < _least_visible(settings, usual) * stain * stain
    there = (stain > 2 * LEAST_GREY) & (field["glass"] < EMPTY)
    return np.asarray((soft | veiled) & there & field.tissue)


def _least_sharp(settings: QcSettings, usual: Usual) -> float:
    """Return the limit of fine over coarse contrast: a soft scan, or much brown, has less of it."""
    return min(settings.min_sharpness, max(BLURRED, SOFTER * usual.ratio))


def _least_visible(settings: QcSettings, usual: Usual) -> float:
    return min(settings.min_visibility, VEILED * usual.visibility)


def _background(field: Field, settings: QcSettings) -> Mask:
    """Return where nearly every pixel is brown: between membranes, in nuclei, in stroma."""
    brown = field["dab_floor"] > settings.max_background_od
    brown &= mean(field["dab_floor"], 3) > 0.8 * settings.max_background_od
    return grown(patches(brown & field.tissue))


def _dust(field: Field, settings: QcSettings, vague: Mask, usual: Usual) -> Mask:
    """Return smudges (dark, vague, not brown), precipitate (bluer than nuclei) and specks."""
    blue = field["hematoxylin"]
    smudge = vague & (mean(field["floor"], 3) > settings.max_floor_od)
    smudge &= (mean(blue, 3) > 1.8 * usual.hematoxylin) & (field["dab_floor"] < blue)
    smudge = grown(patches(smudge))
    # beside brown membranes sharpening leaves the same colour in nuclei; dense nuclei are as blue
    # here and there, and not all over
    bluer = field["dab"] < -ALL_BLUE * blue
    crumbs = (field["blue"] > settings.max_blue) & (mean(field["dab"], 3) < LITTLE_DAB) & bluer
    crumbs |= grown(crumbs) & (field["blue"] > 0.3 * settings.max_blue) & (field["dab"] < 0)
    specks = field["grey"] > settings.max_grey
    # a thread runs on into the next map cell
    specks |= grown(specks) & (field["grey"] > settings.max_grey / 3)
    return np.asarray(smudge | crumbs | specks)


def _clipped(field: Field, settings: QcSettings) -> Mask:
    """Return where detail is lost at white or black; glass may be white all over the slide."""
    glass = ~field.tissue & (field["glass"] > EMPTY)
    white = bool(glass.any()) and float(np.median(field["bright"][glass])) > 0.5
    bright = mean(field["bright"], 3) > settings.max_clipped
    clipped = (field["dark"] > settings.max_clipped) | (bright & (not white))
    return patches(clipped)


# -- shapes ----------------------------------------------------------------------------------------


def _bubbles(field: Field, vague: Mask) -> Mask:
    """Return vague patches behind a rim of neither stain's colour: light bent at the air."""
    closed = morph(vague, cv2.MORPH_CLOSE, 3)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed.astype(np.uint8))
    found = np.zeros(vague.shape, bool)
    for k in range(1, count):
        x, y, w, h, area = (int(v) for v in stats[k])
        if area < 12:
            continue
        here = np.s_[max(y - 2, 0) : y + h + 2, max(x - 2, 0) : x + w + 2]
        piece = labels[here] == k
        rim = grown(piece) & ~morph(piece, cv2.MORPH_ERODE, 3)
        if float(field["grey"][here][rim].mean()) > RIM:
            found[here] |= grown(piece)
    return found


def _edges(field: Field, settings: QcSettings) -> Mask:
    """Return cracks, and stain piled up along the tissue's border."""
    whole = morph(morph(field.tissue, cv2.MORPH_CLOSE, 5), cv2.MORPH_ERODE, 5)
    # in loose tissue glass is everywhere: a crack has tissue on either side
    gap = (field["glass"] > CRACK) & (mean(field["glass"], 5) < LOOSE)
    cracks = thin(gap & whole, 8)
    inner = morph(field.tissue, cv2.MORPH_ERODE, 7)
    piled = field.tissue & ~inner & (field["dab_floor"] > settings.max_edge_od)
    return np.asarray(grown(cracks) | patches(piled))

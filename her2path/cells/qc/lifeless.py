"""Tissue without living cells: hardly counterstained, or necrosis, fibrin, blood, debris."""

from __future__ import annotations

import cv2
import numpy as np

from her2path.cells.qc.assessment import LEAST_CONTRAST
from her2path.cells.qc.field import EMPTY, F32, Field, Mask, Usual, grown, mean, patches
from her2path.core.settings import QcSettings

__all__ = ["without_nuclei"]

#: side of the window in which nuclei are counted, map cells
WINDOW = 5
#: nuclear OD, part of the usual, below which there is none
FAINT = 0.3
#: nuclear OD over mean hematoxylin OD, below which nothing stands out
EVEN = 2.0
#: DAB over hematoxylin OD of what took neither: marked debris has 0.6-1.1, bare stroma 0.15-0.2
GREY, LITTLE_DAB = 0.4, 0.05
#: hematoxylin OD, part of the usual, that debris does not reach
PALE = 0.75
#: sure tumour cells a map cell around, below which a find is a mistake
ALONE = 0.5
#: debris: fine over coarse contrast, over the usual
GRANULAR = 1.12
#: least map cells of a patch
LEAST_FAINT, LEAST_DEBRIS = 9, 4


def without_nuclei(field: Field, settings: QcSettings, usual: Usual) -> tuple[Mask, Mask]:
    """Return what is hardly counterstained, and necrosis, fibrin, blood, debris.

    Stroma without nuclei takes hematoxylin and is tissue: it is neither. Where DAB is strong nuclei
    may be hidden under it: nothing is said.
    """
    there = field.tissue & (field["glass"] < EMPTY)
    faint, dead = _faint(field, settings, usual, there)
    return faint, (dead | _grey(field, settings, usual, there)) & ~faint


def _faint(field: Field, settings: QcSettings, usual: Usual, there: Mask) -> tuple[Mask, Mask]:
    """Return patches in which nothing is as dark as a nucleus: of tissue, and of dead matter.

    In tissue that took little of the stain nuclei are found and stand out of the rest.
    """
    limit = max(settings.min_hematoxylin_od, FAINT * usual.nuclear)
    faint = patches(there & (_over(field["nuclear"], there, 3) < limit), LEAST_FAINT)
    # unstained stroma is as clear as glass: it belongs to the patch around it, a lumen to none
    core, clear = faint, faint | field.tissue & ~there
    faint = faint | _mostly(clear, faint)
    faint |= grown(faint) & there & (field["nuclear"] < 1.4 * limit)
    nuclear, all_over = (_over(field[n], there, WINDOW) for n in ("nuclear", "hematoxylin"))
    lives = _over(field["nuclei"], there, WINDOW) >= 2 * settings.min_nuclei
    pale = _mostly(faint, faint & lives & (nuclear > EVEN * all_over))
    # a cell reaches 8 µm beyond its nucleus
    return pale | (grown(pale & core) & there), faint & ~pale


def _mostly(mask: Mask, part: Mask) -> Mask:
    """Keep the patches of a mask that are a part of it by half or more."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    share = np.bincount(labels.ravel(), part.ravel(), count) / np.bincount(labels.ravel())
    keep = share >= 0.5
    keep[0] = False
    return np.asarray(keep[labels])


def _grey(field: Field, settings: QcSettings, usual: Usual, there: Mask) -> Mask:
    """Return what took neither stain and shows by its refraction: grey, pale, without nuclei."""
    blue, brown = (_over(field[n], there, 3) for n in ("hematoxylin", "dab"))
    grey = _looks_grey(blue, brown, usual)
    fine = mean(np.nan_to_num(field["focus"]) * field["contrast"], 3)
    fine /= np.maximum(mean(field["contrast"], 3), LEAST_CONTRAST)
    granular = fine > GRANULAR * usual.ratio
    few = _over(field["nuclei"], there, WINDOW) < settings.min_nuclei
    few |= granular & (_over(field["epithelium"], there, 3) < ALONE)
    found = patches(there & grey & few, LEAST_DEBRIS)
    # windows blur the border: two map cells of it are judged each by itself
    own = there & (field["epithelium"] < 1)
    own &= _looks_grey(field["hematoxylin"], field["dab"], usual)
    for _ in range(2):
        found |= grown(found) & own
    return found


def _looks_grey(blue: F32, brown: F32, usual: Usual) -> Mask:
    """Tell what is pale, and as much of one stain as of the other."""
    pale = (blue < PALE * usual.hematoxylin) & (brown < LITTLE_DAB)
    return np.asarray(pale & (brown > GREY * blue))


def _over(plane: F32, there: Mask, side: int) -> F32:
    """Return the mean over a window, glass left out."""
    cover = np.maximum(mean(there, side), 0.2)
    return np.asarray(mean(np.where(there, plane, 0), side) / cover, np.float32)

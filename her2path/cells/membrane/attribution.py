"""Pass 2: how much of a shared line is whose, and the columns of the membrane.

Every place of a border reads the sum of two membranes: the cell's own and, where another cell's
border lies on the same line, that cell's. The reader has said for both how likely the own one is
stained there. The line is shared in proportion to what each cell is expected to bring: that
likelihood times the root of the cell's strength, in a fixed number of synchronous rounds. Two like
cells have half of their line each; beside an unstained cell a stained one keeps all of it. With the
root, a cell's noise moves its neighbours' shares half as much as with the strength itself; a faint
cell beside a strong one reads somewhat too dark instead.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells.membrane import _joint
from her2path.cells.membrane.columns import SCALES
from her2path.cells.reading.inputs import PLACES
from her2path.cells.rings import RAYS, sort_first
from her2path.core.geometry import FIXED

__all__ = ["LINK_UM", "REACH_UM", "ROUNDS", "resolve"]

F64 = NDArray[np.float64]
Links = NDArray[np.void]
BOOL = NDArray[np.bool_]
Raw = dict[str, NDArray[Any]]

#: neighbours' centres farther apart than this share no line, µm
LINK_UM = 30.0
#: rounds in which shares and strengths settle
ROUNDS = 5
#: a cell depends on cells within this: one link a round, and the links of the last ones, µm
REACH_UM = LINK_UM * (ROUNDS + 1)
#: by how much a line's weight falls where three cells meet
JUNCTION_DISCOUNT = 0.6
#: what keeps shares defined where neither cell brings anything, root of OD
SHARE_FLOOR = 0.02
#: strengths count as at least this, OD
STRENGTH_FLOOR_OD = 0.005
#: a cell's line is as dark as this share of a wholly stained ring exceeds
CREST_SHARE = 0.4
#: share of the cytoplasm's OD that stays in the line's: blur carries a line's stain into what is
#: read as cytoplasm, and an eye grades the line as it lies on its blush
CYTOPLASM_SHARE = 0.4
#: log odds from which a cell counts as stained: a false membrane weighs 1.6 missed ones
STAINED_LOG_ODDS = 0.5
#: a cell is uncertain where its log odds lie nearer to that than this
UNCERTAIN_LOG_ODDS = 1.1
#: or where the neighbours' stronger lines cover more than this share of its border
COVERED_SHARE = 0.3
#: stronger: so many times the cell's own
COVERED_RATIO = 3.0


class Summary(IntEnum):
    """Figures of one cell's membrane."""

    MEMBRANE_OD = 0
    RING_OD = 1
    MASS_OD_UM = 2
    COMPLETENESS = 3
    WIDTH_UM = 4
    SHARED_FRACTION = 5
    COVERED_SHARE = 6


#: the cell table's column of each figure; an unstained cell's are 0, but for the last
COLUMNS = {
    "membrane_od": Summary.MEMBRANE_OD,
    "membrane_od_ring": Summary.RING_OD,
    "membrane_mass": Summary.MASS_OD_UM,
    "completeness": Summary.COMPLETENESS,
    "membrane_width_um": Summary.WIDTH_UM,
    "shared_fraction": Summary.SHARED_FRACTION,
}


def resolve(raw: Raw, mpp_a: float, core: BOOL) -> dict[str, NDArray[np.generic]]:
    """Attribute shared lines and return the membrane columns.

    Parameters
    ----------
    raw : dict
        `RAW_COLUMNS` and ``evidence`` (log odds of any staining) of the cells of a block and of
        all cells within `REACH_UM` around it, with `cell_id`, `x_fx`, `y_fx` (int64, absolute,
        1/16 analysis px).
    mpp_a : float
        µm per analysis pixel.
    core : (N,) bool
        The cells wanted.

    Returns
    -------
    dict
        For the core cells in their given order, float32 but for `uncertain`: membrane_od,
        membrane_od_ring (OD), membrane_mass (OD µm), completeness, membrane_width_um,
        cytoplasm_od, shared_fraction, uncertain (bool). An unstained cell's are 0.
    """
    order = np.argsort(raw["cell_id"], kind="stable")
    ordered = {k: v[order] for k, v in raw.items()}
    table = _solve(ordered, mpp_a) if len(order) else np.zeros((0, len(Summary)))
    back = np.empty_like(table)
    back[order] = table
    evidence = np.asarray(raw["evidence"], np.float64)
    unstained = evidence < STAINED_LOG_ODDS
    back[unstained, : Summary.SHARED_FRACTION] = 0.0
    found: dict[str, NDArray[np.generic]] = {
        name: back[core, figure].astype(np.float32) for name, figure in COLUMNS.items()
    }
    found["cytoplasm_od"] = raw["cytoplasm_od"][core].astype(np.float32)
    doubtful = np.abs(evidence - STAINED_LOG_ODDS) < UNCERTAIN_LOG_ODDS
    found["uncertain"] = (doubtful | (back[:, Summary.COVERED_SHARE] > COVERED_SHARE))[core]
    return found


def _solve(raw: Raw, mpp_a: float) -> F64:
    """Return the figures (N, `Summary`) of cells sorted by cell_id."""
    n = len(raw["cell_id"])
    radius, mass, crest, width = (np.empty((n, PLACES)) for _ in range(4))
    for name, plane in zip(
        ("line_r", "line_mass", "line_crest", "line_width"), (radius, mass, crest, width),
        strict=True,
    ):  # fmt: skip
        thin(raw[name].astype(np.float64), SCALES[name], plane)
    own = raw["line_own"].astype(np.float64) * SCALES["line_own"]
    links = np.empty(radius.shape, _joint.LINK)
    at = np.stack([raw["x_fx"], raw["y_fx"]]).astype(np.int64)
    _joint.link_places(at, mpp_a / FIXED, radius, LINK_UM, links)
    length = _joint.ring_lengths(radius)
    # lines near the meeting of three cells read too much: they say less of a cell's strength
    trust = length * (1.0 - JUNCTION_DISCOUNT * links["junction"])
    strength = np.zeros(n)
    settle(crest, own, trust, links, strength)
    out = np.zeros((n, len(Summary)))
    summarise(mass, width, own, length, trust, links, strength, out)
    out[:, Summary.MEMBRANE_OD] += CYTOPLASM_SHARE * np.maximum(
        np.asarray(raw["cytoplasm_od"], np.float64), 0.0
    )
    out[:, Summary.RING_OD] = out[:, Summary.MEMBRANE_OD] * out[:, Summary.COMPLETENESS]
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def thin(counts: F64, worth: float, out: F64) -> None:
    """Write the means over three rays (1/4, 1/2, 1/4) round every second one.

    `counts` (N, RAYS) is a raw column in fixed point, `worth` what one count is worth; `out`
    (N, PLACES).
    """
    for i in range(counts.shape[0]):
        row = counts[i]
        for q in range(PLACES):
            k = 2 * q
            total = 0.5 * row[k] + 0.25 * (row[(k + RAYS - 1) % RAYS] + row[k + 1])
            out[i, q] = worth * total


@njit(cache=True, nogil=True, error_model="numpy")
def share_of(i: int, k: int, own: F64, links: Links, strength: F64) -> tuple[float, float]:
    """Return the cell's share of the line at its place, and how much stronger the partner is."""
    link = links[i, k]
    if link.partner < 0:
        return 1.0, 0.0
    j, s = link.partner // PLACES, link.partner % PLACES
    overlap = link.overlap
    mine = own[i, k] * np.sqrt(max(strength[i], STRENGTH_FLOOR_OD)) + SHARE_FLOOR
    other = overlap * own[j, s] * np.sqrt(max(strength[j], STRENGTH_FLOOR_OD))
    brought = own[i, k] * max(strength[i], STRENGTH_FLOOR_OD)
    return mine / (mine + other), overlap * own[j, s] * strength[j] / max(brought, 1e-3)


@njit(cache=True, nogil=True, error_model="numpy")
def exceeded(crest: F64, stained: float, ordered: F64) -> float:
    """Return the crest that a share of the ring exceeds, the larger the more of it is stained.

    `crest` and the workspace `ordered` are (PLACES,).
    """
    for k in range(PLACES):
        ordered[k] = crest[k]
    sort_first(ordered, PLACES)
    place = (1.0 - CREST_SHARE * (0.5 + 0.5 * stained)) * (PLACES - 1)
    low = int(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, PLACES - 1)] - ordered[low])


@njit(cache=True, nogil=True, error_model="numpy")
def settle(crest: F64, own: F64, trust: F64, links: Links, strength: F64) -> None:
    """Write every cell's strength, OD: the crest of its line times its mean share of it.

    Parameters
    ----------
    crest, own, trust : (N, PLACES)
        OD of the line's crest, probability that the own membrane is stained, weight.
    links : (N, PLACES) `_joint.LINK`
    strength : (N,), written
    """
    n = crest.shape[0]
    crest_od, old, ordered = np.empty(n), np.empty(n), np.empty(PLACES)
    for i in range(n):
        stained = 0.0
        for k in range(PLACES):
            stained += own[i, k] / PLACES
        crest_od[i] = exceeded(crest[i], stained, ordered)
        strength[i] = 0.5 * crest_od[i]
    for _ in range(ROUNDS):
        for i in range(n):
            old[i] = strength[i]
        for i in range(n):
            total, count = 0.0, 1e-6
            for k in range(PLACES):
                weight = trust[i, k] * own[i, k] * own[i, k]
                share, _ = share_of(i, k, own, links, old)
                total += weight * share
                count += weight
            strength[i] = crest_od[i] * (total + 5e-7) / count


@njit(cache=True, nogil=True, error_model="numpy")
def summarise(
    mass: F64, width: F64, own: F64, length: F64, trust: F64, links: Links, strength: F64,
    out: F64,
) -> None:  # fmt: skip
    """Write the figures of every cell's membrane, (N, `Summary`), but for the mean of its ring.

    `mass` (OD µm), `width` and `length` of the border (µm) are (N, PLACES); the others are those
    of `settle`.
    """
    for i in range(mass.shape[0]):
        mass_sum, weight_sum, width_sum, width_weight = 0.0, 1e-6, 0.0, 1e-9
        around, stained, shared, covered = 1e-9, 0.0, 0.0, 0.0
        for k in range(PLACES):
            share, other = share_of(i, k, own, links, strength)
            w = trust[i, k] * own[i, k] * own[i, k]
            mass_sum += w * share * mass[i, k]
            weight_sum += w
            # where most of a line is the neighbour's, its shape tells little of this one
            width_sum += w * share * share * width[i, k]
            width_weight += w * share * share
            around += length[i, k]
            stained += length[i, k] * own[i, k]
            shared += length[i, k] if links[i, k].partner >= 0 else 0.0
            if other > COVERED_RATIO:
                covered += length[i, k]
        out[i, Summary.MEMBRANE_OD] = strength[i]
        out[i, Summary.MASS_OD_UM] = mass_sum / weight_sum
        out[i, Summary.COMPLETENESS] = min(stained / around, 1.0)
        out[i, Summary.WIDTH_UM] = width_sum / width_weight
        out[i, Summary.SHARED_FRACTION] = shared / around
        out[i, Summary.COVERED_SHARE] = covered / around

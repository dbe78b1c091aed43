"""Pass 2: whose is a shared line? The joint solution over neighbouring cells, and the columns.

Every ray reads the sum of two membranes: the cell's own and, where another cell's border lies on
the same line, that cell's. A cell's own membrane is either stained, with about the same mass all
along (`a`), or not, and changes seldom around the ring. Given its neighbours' expected parts, a
cell's stained rays are the posterior of a closed two-state chain, and `a` is a robust mean of what
its neighbours leave over. All cells are updated at the same time, a fixed number of times; trust
in single rays rises from sweep to sweep, so that a closed ring wins over six arcs of its
neighbours before details are read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.membrane import _joint
from her2path.membrane.columns import unpack
from her2path.settings import MembraneSettings

__all__ = ["LINK_UM", "REACH_UM", "resolve"]

F64 = NDArray[np.float64]
Raw = dict[str, NDArray[Any]]

#: neighbours' centres farther apart than this share no line
LINK_UM = 24.0
#: how much one ray counts, sweep by sweep
HEAT = (0.10, 0.20, 0.27, 0.27)
#: lines of one cell vary by this share of themselves (grains, breaks, slant cuts)
SPREAD = 0.30
#: probability that staining begins or ends between two rays
SWITCH = 0.08
#: a cell depends on cells within this: one link a sweep, one for the first guess, and one for the
#: links of the cells that the first guess looks at
REACH_UM = LINK_UM * (len(HEAT) + 2)
#: log odds of any staining against none, from which a cell is stained
EVIDENCE = 6.0
#: by how much of themselves EVIDENCE and the smallest mass fall in the company of cells that are
#: stained alike: faint cells come together, false ones alone
RELIEF, EASE = 0.9, 0.6
#: smallest mass (OD µm) of a stained line, and how far it must stand out of the texture
LEAST, TEXTURE, BLUSH_UM = 0.035, 2.6, 1.5
#: share of a Gaussian's peak times its full width that is its integral
GAUSS = 1.0645
#: full width of the blur that is taken out of the lines (scanner, nominal), µm
BLUR_UM = 0.47


def resolve(
    raw: Raw, mpp_a: float, core: NDArray[np.bool_], settings: MembraneSettings
) -> dict[str, NDArray[np.generic]]:
    """Attribute shared lines and return the membrane columns.

    Parameters
    ----------
    raw : dict
        `RAW_COLUMNS` of the cells of a block and of all cells within `REACH_UM` around it, with
        `cell_id`, `x_fx`, `y_fx` (int64, absolute, 1/16 analysis px).
    mpp_a : float
        µm per analysis pixel.
    core : (N,) bool
        The cells wanted.
    settings : MembraneSettings
        Its cut-offs are not used: stained means a significant line.

    Returns
    -------
    dict
        For the core cells in their given order, float32 but for the last: membrane_od,
        membrane_od_ring (OD), membrane_mass (OD µm), completeness, membrane_width_um,
        cytoplasm_od, shared_fraction, junction_fraction, uncertain (bool).
    """
    del settings
    ids = raw["cell_id"]
    if ids.size == 0:
        return _columns(np.zeros((0, 10)))
    order = np.argsort(ids, kind="stable")
    table = _solve({name: values[order] for name, values in raw.items()}, mpp_a)
    back = np.empty_like(table)
    back[order] = table
    return _columns(back[core])


def _columns(table: F64) -> dict[str, NDArray[np.generic]]:
    names = (
        "membrane_od",
        "membrane_od_ring",
        "membrane_mass",
        "completeness",
        "membrane_width_um",
        "cytoplasm_od",
        "shared_fraction",
        "junction_fraction",
    )
    found: dict[str, NDArray[np.generic]] = {
        name: table[:, c].astype(np.float32) for c, name in enumerate(names)
    }
    found["uncertain"] = table[:, 8] > 0.5
    found["membrane_evidence"] = table[:, 9].astype(np.float32)
    return found


def _solve(raw: Raw, mpp_a: float) -> F64:
    """Return the table of results (N, 10) of cells sorted by cell_id."""
    r = unpack("line_r", raw["line_r"])
    n = r.shape[0]
    partner = np.full(r.shape, -1, np.int32)
    junction, overlap = np.zeros(r.shape), np.zeros(r.shape)
    um = mpp_a / 16.0
    x, y = raw["x_fx"].astype(np.int64), raw["y_fx"].astype(np.int64)
    _joint.link_rays(x, y, um, r, LINK_UM, (partner, junction, overlap))
    m, weight, sd, ghost, least = _evidence(raw, partner, junction, overlap)
    state = np.empty(r.shape), np.empty(n), np.empty(n)
    known, evidence, floor = np.empty(r.shape), np.empty(n), np.empty(n)
    data = (m, weight, sd, partner, overlap, ghost, least)
    _joint.first_guess(data, unpack("line_mass", raw["line_mass"]), *state)
    before = state
    for heat in HEAT:
        before = state
        new = np.empty(r.shape), np.empty(n), np.empty(n)
        rule = (heat, SPREAD, SWITCH, EVIDENCE * heat / HEAT[-1], RELIEF, EASE)
        _joint.sweep(data, state, rule, (*new, known, evidence, floor))
        state = new
    lines = (unpack("line_crest", raw["line_crest"]), unpack("line_width", raw["line_width"]))
    out = np.zeros((n, 10))
    _joint.summarise(
        data,
        (before, state),
        (known, floor),
        lines,
        (_joint.ring_lengths(r), junction),
        (BLUR_UM, GAUSS),
        out,
    )
    out[:, 5] = raw["cytoplasm_od"]
    out[:, 9] = evidence
    return out


def _evidence(
    raw: Raw, partner: NDArray[np.int32], junction: F64, overlap: F64
) -> tuple[F64, F64, F64, F64, F64]:
    """Return mass, weight, standard deviation, ghost marks (N, 48); least stained mass (N,)."""
    m = np.maximum(unpack("line_mass", raw["line_mass"]), -0.02)
    m = _joint.share_reading(m, partner, overlap)
    crest, edge = unpack("line_crest", raw["line_crest"]), unpack("line_edge", raw["line_edge"])
    mpp = np.asarray(raw["line_mpp"], np.float64)[:, None]
    noise = np.asarray(raw["line_noise"], np.float64)
    # chroma subsampling paints nuclear edges brown, over two pixels
    doubtful = (edge < np.clip(2.0 * mpp, 0.4, 1.0)) & (crest < 0.15)
    weight = np.where(doubtful, 0.0, np.where(junction > 0, 0.35, 1.0))
    sd = np.sqrt(noise[:, None] ** 2 + 0.012**2) * np.ones(m.shape)
    ghost = ((raw["line_kind"] >= 4) & (partner < 0)).astype(np.float64)
    cytoplasm = np.asarray(raw["cytoplasm_od"], np.float64)
    least = np.maximum(np.maximum(LEAST, TEXTURE * noise), BLUSH_UM * cytoplasm)
    return m, weight, sd, ghost, least

"""Pass 2: whose is a shared line? The joint solution over neighbouring cells, and the columns.

Every ray reads the sum of two membranes: the cell's own and, where another cell's border lies on
the same line, that cell's. Which is which is told by the rest of both rings: a stained cell shows
its line on its other sides too, an unstained one does not. Places along the rings and their
partners on the same line exchange what they hold to be true in a fixed number of rounds
(`_network`), by rules that were fitted to phantoms; no slide's own scale enters but through the
readings around.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.membrane import _inputs, _joint, _looks, _network
from her2path.membrane.columns import RAW_COLUMNS, SCALES
from her2path.membrane.weights import Weights, weights
from her2path.settings import MembraneSettings

__all__ = ["LINK_UM", "REACH_UM", "resolve"]

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
BOOL = NDArray[np.bool_]
Raw = dict[str, NDArray[Any]]
Links = tuple[I32, F64, F64, F64]

_USED = ("x_fx", "y_fx", *(column.name for column in RAW_COLUMNS))

#: neighbours' centres farther apart than this share no line
LINK_UM = 24.0
#: how common staining is around a cell is told by the cells within this, by no fewer than so many,
#: and never taken for rarer or more common than this
CONTEXT_UM, CONTEXT_CELLS = 30.0, 4
RARE, COMMON = 0.2, 0.98
#: from this share on common staining asks for weaker evidence, as if a false membrane weighed as
#: much as share / (1 - share) missed ones
MOSTLY = 0.8
#: parts in which probabilities are added up, whole numbers
PARTS = 1 << 20
#: a cell depends on cells within this: one link a round, one for what the partners' rings hold,
#: one for the links of those, and the cells that tell how common staining is
REACH_UM = LINK_UM * (_network.ROUNDS + 2) + CONTEXT_UM
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
        For the core cells in their given order, float32 but for `uncertain`: membrane_od,
        membrane_od_ring (OD), membrane_mass (OD µm), completeness, membrane_width_um,
        cytoplasm_od, shared_fraction, junction_fraction, uncertain (bool), membrane_evidence
        (log odds of any staining).
    """
    del settings
    ids = raw["cell_id"]
    if ids.size == 0:
        return _columns(np.zeros((0, 10)))
    order = np.argsort(ids, kind="stable")
    ordered = {name: raw[name][order] for name in _USED}
    table = _solve(ordered, mpp_a, weights(), core[order])
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


def _solve(raw: Raw, mpp_a: float, fitted: Weights, core: BOOL) -> F64:
    """Return the table of results (N, 10) of cells sorted by cell_id; 0 off the core."""
    read = read_rings(raw)
    links = link(raw, mpp_a, read.radius)
    partner, junction, overlap, _ = links
    at = raw["x_fx"].astype(np.int64), raw["y_fx"].astype(np.int64), mpp_a / 16.0, CONTEXT_UM
    everyone = np.ones(core.size, np.bool_)
    judged = core | (_joint.company(*at, everyone, core.astype(np.int64))[1] > 0)
    # a round needs the partners' states of the round before: fewer cells from round to round
    seen = [judged]
    for _ in range(_network.ROUNDS - 1):
        seen.insert(0, _with_partners(seen[0], partner))
    m, place, cell = describe(raw, read, links, seen[0])
    length = _joint.ring_lengths(read.radius)
    length /= _row_sums(length)[:, None]
    fixed = np.empty((m.shape[0], _network.HIDDEN, m.shape[1]), np.float32)
    _network.fixed_part(place, cell, fitted.first, seen[0], fixed)
    _looks.add_looks(raw["line_look"], partner, fitted.seen, seen[0], fixed)
    noise = np.asarray(raw["line_noise"], np.float64)
    sd = np.sqrt(noise**2 + _inputs.FLOOR**2)
    data = (np.maximum(m, 0.0), length, sd, partner, overlap, fixed)
    before, after = pass_messages(data, fitted, seen)
    out = np.zeros((m.shape[0], 10))
    lines, optics, cells = (read.crest, read.width), (BLUR_UM, GAUSS), (cell, judged)
    _network.verdicts(data, (before, after), lines, cells, optics, fitted.verdict, out)
    blind = cell[:, _network.DOUBTS] > _network.BLIND
    out[~_stained(out[:, 9], at, core) | blind, :5] = 0.0
    out[:, 5] = raw["cytoplasm_od"]
    out[:, 7] = _row_sums(length * junction)
    return out


def _stained(evidence: F64, at: tuple[Any, ...], core: BOOL) -> BOOL:
    """Tell which core cells (N,) are stained: by their own evidence, and by how common it is.

    The evidence weighs stained and unstained alike, so the odds of a stained cell are its own
    times those of staining around it (Bayes' rule). Rare staining asks for stronger evidence,
    common staining for weaker only above `MOSTLY`: between them a false membrane counts more.
    """
    likely = np.rint(PARTS / (1.0 + np.exp(-evidence))).astype(np.int64)
    count, total = _joint.company(*at, core, likely)
    share = total / (PARTS * np.maximum(count, 1).astype(np.float64))
    share = np.where(count >= CONTEXT_CELLS, np.clip(share, RARE, COMMON), 0.5)
    odds, enough = np.log(share / (1.0 - share)), np.log(MOSTLY / (1.0 - MOSTLY))
    common = np.minimum(odds, 0.0) + np.maximum(odds - enough, 0.0)
    return core & (evidence + common >= 0.0)


def _with_partners(cells: BOOL, partner: I32) -> BOOL:
    """Return the cells (N,) and those that share a line with one of them."""
    links = partner[cells]
    both = cells.copy()
    both[links[links >= 0] // partner.shape[1]] = True
    return both


@dataclass(frozen=True)
class Read:
    """What pass 1 read of N cells, thinned to `PLACES` along the rings; all (N, PLACES) float64.

    ``mass`` (OD µm), ``crest`` (OD), ``radius`` and ``width`` and ``edge`` (µm), ``ridge`` 0..1;
    ``line``, ``limit``, ``behind``: shares of the rays' kinds; ``doubtful`` 0 or 1.
    """

    radius: F64
    mass: F64
    crest: F64
    width: F64
    ridge: F64
    edge: F64
    line: F64
    limit: F64
    behind: F64
    doubtful: F64


def read_rings(raw: Raw) -> Read:
    """Return the raw columns in their units, thinned; see `resolve` for ``raw``."""
    planes = [np.empty((raw["line_r"].shape[0], _inputs.PLACES)) for _ in range(10)]
    names = ("line_r", "line_mass", "line_crest", "line_width", "line_ridge", "line_edge")
    for name, plane in zip(names, planes, strict=False):
        least = _inputs.LEAST if name == "line_mass" else -1e9
        # one type for all columns: compiled once
        _inputs.thin(raw[name].astype(np.float64), SCALES[name], least, plane)
    mpp = np.asarray(raw["line_mpp"], np.float64)
    _inputs.thin_marks(raw["line_kind"], planes[5], planes[2], mpp, tuple(planes[6:]))
    return Read(*planes)


def link(raw: Raw, mpp_a: float, radius: F64) -> Links:
    """Return partner, junction, overlap and gap of `_joint.link_places`."""
    partner = np.full(radius.shape, -1, np.int32)
    junction, overlap, gap = (np.zeros(radius.shape) for _ in range(3))
    x, y = raw["x_fx"].astype(np.int64), raw["y_fx"].astype(np.int64)
    links = partner, junction, overlap, gap
    _joint.link_places(x, y, mpp_a / 16.0, radius, LINK_UM, links)
    return links


def describe(
    raw: Raw, read: Read, links: Links, wanted: BOOL | None = None
) -> tuple[F64, F32, F32]:
    """Return the readings (N, PLACES; OD µm) and the inputs of every place and every cell.

    Parameters
    ----------
    raw : dict
        See `resolve`.
    read, links
        Of `read_rings` and `link`.
    wanted : (N,) bool, optional
        Cells whose inputs are needed (all by default); the others' are 0.
    """
    partner, _, overlap, _ = links
    m = _joint.share_reading(read.mass, partner, overlap)
    mpp, noise, cytoplasm = (
        np.asarray(raw[name], np.float64) for name in ("line_mpp", "line_noise", "cytoplasm_od")
    )
    if wanted is None:
        wanted = np.ones(m.shape[0], np.bool_)
    cell = np.zeros((m.shape[0], _inputs.CELL_INPUTS), np.float32)
    place = np.zeros((*m.shape, _inputs.PLACE_INPUTS), np.float32)
    rays = read.width, read.ridge, read.doubtful, read.line, read.behind
    cells = noise, cytoplasm, mpp
    _inputs.describe_cells(m, read.radius, partner, rays, cells, wanted, cell)
    lines = read.mass, read.crest, read.width, read.ridge, read.edge
    marks = read.doubtful, read.line, read.limit, read.behind
    _inputs.describe_places(m, read.radius, links, (*lines, *marks), noise, wanted, place)
    return m, place, cell


def pass_messages(
    data: tuple[Any, ...], fitted: Weights, seen: list[BOOL]
) -> tuple[tuple[Any, ...], ...]:
    """Run the rounds; return the states (h, a, mean h) before the last and (h, a) after it.

    `seen` holds the cells (N,) that take part in each round; the others stay empty.
    """
    m = data[0]
    shape = (m.shape[0], _network.STATES, m.shape[1])
    state = np.zeros(shape, np.float32), _row_sums(m) / m.shape[1] + 0.01
    before = state
    for number in range(_network.ROUNDS):
        before = state
        state = np.zeros(shape, np.float32), np.zeros(m.shape[0])
        _network.take_round(number, data, before, fitted.step, seen[number], state)
    mean = np.empty((m.shape[0], _network.STATES), np.float32)
    _network.ring_means(before[0], mean)
    return (*before, mean), state


def _row_sums(values: F64) -> F64:
    """Return sums along the rays, in the same order whatever the number of cells."""
    total = np.zeros(values.shape[0])
    for k in range(values.shape[1]):
        total += values[:, k]
    return total

"""Which pattern each tumour cell has, and the stain along its own outline."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from her2path.core.schema import PATTERNS
from her2path.phantom.layout import LUMEN
from her2path.phantom.noise import Field
from her2path.phantom.outline import Bodies
from her2path.phantom.spec import INTENSITY_OF_CODE, PhantomSpec

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

FWHM = 2.354820045
MAX_GAPS = 4
COMPLETE_AT = 0.80
"""Own stained share of the outline from which a pattern is complete."""


@dataclass(frozen=True)
class Kinds:
    """Pattern code, population and groups of n tumour cells."""

    pattern: I64
    second: Bool
    nest: I64
    clone: I64


@dataclass(frozen=True)
class Stain:
    """Stain of the cells' own membranes.

    Per point of the outlines: `od` (crest, 0 where unstained) and `sigma_um`.
    Per cell: `od_crest`, `completeness`, `width_um` (FWHM), `shared_fraction`.
    """

    od: F64
    sigma_um: F64
    od_crest: F64
    completeness: F64
    width_um: F64
    shared_fraction: F64


def assign_kinds(spec: PhantomSpec, bodies: Bodies) -> Kinds:
    """Return populations and patterns; shares are met to the nearest cell.

    Cells outside the image are drawn apart from those inside, so that the
    truth table's shares are exact.
    """
    rng = spec.rng("kinds")
    inside = inside_image(spec, bodies.centre)
    pairs = _pairs(bodies)
    nest = _components(pairs, np.ones(bodies.count, bool))
    second = _second_population(spec, rng, bodies, nest, inside)
    pattern = np.zeros(bodies.count, np.int64)
    for where in (inside, ~inside):
        for population, weights in ((~second, spec.mixture), (second, spec.second)):
            chosen = np.nonzero(where & population)[0]
            pattern[chosen] = _quota(rng, chosen.size, weights or spec.mixture)
    clone = np.where(second, 1 + _components(pairs, second), 0)
    return Kinds(pattern=pattern, second=second, nest=nest, clone=clone)


def inside_image(spec: PhantomSpec, centre: F64) -> Bool:
    """Return which of the points (n, 2) lie in the image."""
    x, y = centre[:, 0], centre[:, 1]
    inside: Bool = (x >= 0) & (y >= 0) & (x < spec.width_um) & (y < spec.height_um)
    return inside


def _quota(rng: np.random.Generator, count: int, weights: dict[str, float]) -> I64:
    """Return `count` pattern codes in random order, shares by largest remainder."""
    share = np.array([weights.get(name, 0.0) for name in PATTERNS])
    exact = share / share.sum() * count
    number = np.floor(exact).astype(np.int64)
    rest = np.argsort(-(exact - number), kind="stable")[: count - int(number.sum())]
    number[rest] += 1
    return rng.permutation(np.repeat(np.arange(len(PATTERNS)), number))


def _pairs(bodies: Bodies) -> tuple[I64, I64]:
    """Return the pairs of cells that have a border in common (own < other)."""
    own = np.repeat(np.arange(bodies.count), np.diff(bodies.start))
    use = bodies.neighbour > own
    code = np.unique(own[use] * bodies.count + bodies.neighbour[use])
    return code // max(bodies.count, 1), code % max(bodies.count, 1)


def _components(pairs: tuple[I64, I64], member: Bool) -> I64:
    """Number the connected groups of member cells."""
    use = member[pairs[0]] & member[pairs[1]] if pairs[0].size else np.zeros(0, bool)
    n = member.size
    ones = np.ones(int(use.sum()))
    graph = coo_matrix((ones, (pairs[0][use], pairs[1][use])), shape=(n, n))
    label = connected_components(graph, directed=False)[1] if n else np.empty(0)
    _, compact = np.unique(np.where(member, label, -1), return_inverse=True)
    return compact.astype(np.int64)


def _second_population(
    spec: PhantomSpec, rng: np.random.Generator, bodies: Bodies, nest: I64, inside: Bool
) -> Bool:
    second = np.zeros(bodies.count, bool)
    wanted = round(spec.second_fraction * int(inside.sum()))
    if spec.layout == "homogeneous" or wanted == 0:
        return second
    if spec.layout == "clustered":
        return _clones(spec, rng, bodies, nest, inside)
    if spec.layout == "scattered":
        return _scattered(rng, bodies, inside, wanted)
    second[~inside] = rng.random(int((~inside).sum())) < spec.second_fraction
    second[rng.permutation(np.nonzero(inside)[0])[:wanted]] = True
    return second


def _clones(
    spec: PhantomSpec, rng: np.random.Generator, bodies: Bodies, nest: I64, inside: Bool
) -> Bool:
    """Contiguous areas: the cells above a quantile of a smooth field."""
    size = min(spec.clone_um, 0.6 * min(spec.width_um, spec.height_um))
    extent = max(spec.width_um, spec.height_um) + 100.0
    field = Field(rng, 1.6 * size, extent)
    value = field.at(bodies.centre[:, 0], bodies.centre[:, 1])
    if spec.clones_by_nest:
        number = np.maximum(np.bincount(nest), 1)
        value = (np.bincount(nest, value) / number)[nest] + 1e-9 * nest
    if not inside.any():
        return np.zeros(bodies.count, bool)
    above: Bool = value > np.quantile(value[inside], 1.0 - spec.second_fraction)
    return above


def _scattered(rng: np.random.Generator, bodies: Bodies, inside: Bool, wanted: int) -> Bool:
    """Single cells, none beside another of its kind as long as that is possible."""
    second, blocked = np.zeros(bodies.count, bool), np.zeros(bodies.count, bool)
    order = rng.permutation(np.nonzero(inside)[0])
    for strict in (True, False):
        for cell in order:
            if wanted == 0:
                return second
            if second[cell] or (strict and blocked[cell]):
                continue
            second[cell] = True
            wanted -= 1
            beside = bodies.neighbour[bodies.start[cell] : bodies.start[cell + 1]]
            blocked[beside[beside >= 0]] = True
    return second


def stain_membranes(spec: PhantomSpec, bodies: Bodies, pattern: I64) -> Stain:
    """Lay each cell's own stain along its own outline."""
    rng = spec.rng("stain")
    n, points = bodies.count, bodies.x.size
    od, width = _classes(spec, rng, pattern)
    wanted = _completeness(spec, rng, pattern)
    cuts = np.sort(rng.random((n, 2, MAX_GAPS)), axis=2)
    gaps = rng.integers(1, MAX_GAPS + 1, n)
    apical = bodies.neighbour == LUMEN
    grain = rng.standard_normal((2, points), dtype=np.float32)
    chance = rng.random(points, dtype=np.float32)
    habits = np.array([spec.granularity, 0.035 * spec.broken, 0.006 * spec.tangential])
    aim = (wanted, od, width / FWHM)
    line, broad, reached = _lay(
        bodies.start, bodies.piece_um, apical, aim, (gaps, cuts), (grain, chance), habits
    )
    sigma = np.repeat(width / FWHM, np.diff(bodies.start)) * broad
    stained = pattern > 0
    return Stain(
        od=line,
        sigma_um=sigma,
        od_crest=np.where(stained, od, 0.0),
        completeness=reached,
        width_um=np.where(stained, width, 0.0),
        shared_fraction=_shared(bodies),
    )


def settle_completeness(kinds: Kinds, stain: Stain) -> Kinds:
    """Return the kinds with each pattern as the completeness reached says.

    Only with `knife_edge` does this change anything: an outline is made of
    pieces, so that a share wanted just above 0.80 may end just below.
    """
    intensity = np.array(INTENSITY_OF_CODE)[kinds.pattern]
    complete = stain.completeness >= COMPLETE_AT
    pattern = np.where(intensity > 0, 2 * intensity - 1 + complete, 0)
    return replace(kinds, pattern=pattern)


def _classes(spec: PhantomSpec, rng: np.random.Generator, pattern: I64) -> tuple[F64, F64]:
    """Return crest OD and width of each cell by its intensity class."""
    intensity = np.array(INTENSITY_OF_CODE)[pattern]
    ranges = np.array([(0, 0), spec.od_faint, spec.od_moderate, spec.od_intense], np.float64)
    widths = np.array(
        [(0.64, 0), spec.width_faint_um, spec.width_moderate_um, spec.width_intense_um]
    )
    low, high = ranges[intensity].T
    mean, sd = widths[intensity].T
    deviate = np.clip(rng.standard_normal(pattern.size), -2, 2)
    od = spec.strength * (low + (high - low) * rng.random(pattern.size))
    return od, np.maximum(0.3, mean + sd * deviate)


def _completeness(spec: PhantomSpec, rng: np.random.Generator, pattern: I64) -> F64:
    """Draw the own stained share; away from 0.80 unless `knife_edge`."""
    u = rng.random(pattern.size)
    whole = rng.random(pattern.size) < 0.35
    least, most = (COMPLETE_AT, COMPLETE_AT) if spec.knife_edge else (0.86, 0.71)
    complete = np.where(whole, 1.0, least + (1.0 - least) * u)
    incomplete = 0.22 + (most - 0.22) * u
    code = np.array([0, 1, 2, 1, 2, 1, 2])[pattern]
    return np.choose(code, [np.zeros(pattern.size), incomplete, complete])


def _shared(bodies: Bodies) -> F64:
    """Return the share of each outline that touches a neighbour."""
    own = np.repeat(np.arange(bodies.count), np.diff(bodies.start))
    beside = np.maximum(bodies.neighbour, 0)
    inset = bodies.inset_um if bodies.count else np.zeros(1)
    touching = (bodies.neighbour >= 0) & (inset[own] + inset[beside] < 0.5)
    shared = np.bincount(own, touching * bodies.piece_um, bodies.count)
    return shared / np.maximum(bodies.perimeter_um, 1e-9)


@njit(cache=True, nogil=True)
def _lay(
    start: I64,
    piece: F64,
    apical: Bool,
    aim: tuple[F64, F64, F64],
    gaps: tuple[I64, F64],
    noise: tuple[F32, F32],
    habits: F64,
) -> tuple[F64, F64, F64]:
    """Return OD and broadening of every point, and the completeness reached."""
    wanted, od, sigma = aim
    line, broad = np.zeros(piece.size), np.ones(piece.size)
    reached = np.zeros(wanted.size)
    for c in range(wanted.size):
        a, b = start[c], start[c + 1]
        if wanted[c] <= 0 or b <= a:
            continue
        on = _arcs(piece[a:b], apical[a:b], wanted[c], gaps[0][c], gaps[1][c])
        _grain(line[a:b], broad[a:b], noise[0][:, a:b], noise[1][a:b], (habits, sigma[c]))
        total = part = weighed = 0.0
        for k in range(b - a):
            total += piece[a + k]
            if on[k]:
                part += piece[a + k]
                weighed += piece[a + k] * line[a + k]
            else:
                line[a + k] = 0.0
        reached[c] = part / total
        for k in range(a, b):
            line[k] *= od[c] * part / max(weighed, 1e-12)
    return line, broad, reached


@njit(cache=True, nogil=True)
def _arcs(piece: F64, apical: Bool, wanted: float, gaps: int, cuts: F64) -> Bool:
    """Mark the stained points: `gaps` gaps, the first at the lumen if there is one."""
    n = piece.size
    on = np.ones(n, np.bool_)
    total = longest = 0.0
    for k in range(n):
        total += piece[k]
        longest = max(longest, piece[k])
    bare = (1.0 - wanted) * total
    if bare < 0.4 * longest:
        return on
    gaps = max(1, min(gaps, int(bare / 1.2), int(wanted * total / 2.0)))
    # each gap and each arc gets at least half of an even share
    origin = cuts[0, 0] * total
    middle = along = 0.0
    found = 0
    for k in range(n):
        if apical[k]:
            middle += along
            found += 1
        along += piece[k]
    if found > 0:
        first_gap = bare * 0.5 / gaps + bare * 0.5 * (cuts[1, 0] if gaps > 1 else 1.0)
        origin = middle / found - first_gap / 2
    k, position = 0, 0.0
    while position + piece[k] / 2 < origin % total and k < n - 1:
        position += piece[k]
        k += 1
    for g in range(gaps):
        for stained in range(2):
            share = bare if stained == 0 else total - bare
            last = 1.0 if g == gaps - 1 else cuts[1 - stained, g]
            before = 0.0 if g == 0 else cuts[1 - stained, g - 1]
            left = share * (0.5 / gaps + 0.5 * (last - before))
            while left > piece[k] / 2:
                on[k] = stained == 1
                left -= piece[k]
                k = (k + 1) % n
    return on


@njit(cache=True, nogil=True)
def _grain(line: F64, broad: F64, normal: F32, chance: F32, kind: tuple[F64, float]) -> None:
    """Write relative OD (about 1) and broadening along one outline.

    `kind`: habits (grain, chance of a dip, chance of a slant cut) and the
    line's sigma (um); grains are about as long as the line is wide.
    """
    habits, sigma = kind
    n = line.size
    half = 1 + int(sigma / 0.4)
    root = np.sqrt(2.0 * half + 1.0)
    slow = 0.0
    for k in range(2 * n):
        slow = 0.93 * slow + 0.367 * normal[0, k % n]
        fine = 0.0
        for d in range(-half, half + 1):
            fine += normal[1, (k + d) % n]
        if k >= n:
            line[k - n] = np.exp(0.22 * slow + habits[0] * 0.95 * fine / root)
            broad[k - n] = np.exp(habits[0] * (0.16 * slow + 0.2 * fine / root))
    for k in range(n):
        if chance[k] < habits[1]:
            for d in range(2 + int(chance[k] * 7919) % 2):
                line[(k + d) % n] *= 0.3
        elif chance[k] > 1 - habits[2]:
            for d in range(6 + int(chance[k] * 7919) % 8):
                line[(k + d) % n] *= 0.5
                broad[(k + d) % n] *= 1.9

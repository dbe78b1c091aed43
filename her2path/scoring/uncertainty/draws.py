"""Drawing the tissue again and again; the method stands at the head of `bootstrap`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri, stdtrit

from her2path.core.results import Sensitivity
from her2path.core.schema import INTENSITY, PATTERNS
from her2path.core.settings import Settings
from her2path.scoring.guidelines import RuleSet, cluster_levels, largest_clusters
from her2path.scoring.guidelines.grammar import GROUPS, Compare
from her2path.scoring.guidelines.mix import Limits
from her2path.scoring.uncertainty import unseen
from her2path.scoring.uncertainty._kernels import draw_counts
from her2path.scoring.uncertainty.cells import Cells, Gridded, grid_cells
from her2path.scoring.uncertainty.correlation import Lags, Spread, spread

__all__ = ["Draws", "compared", "make_draws", "quantities", "wilson_levels"]

#: grid squares along a block, and the most along the tumour
SQUARES_PER_BLOCK = 8
MOST_SQUARES = 768
#: blocks are halved until at least this many hold cells
LEAST_BLOCKS = 16
LEAST_BLOCK_UM = 25.0
LEVELS = np.array([INTENSITY[p] for p in PATTERNS])


#: every draw's factor of the cut-offs, and its share of uncertain cells that are faint
Moves = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Draws:
    """The draws of a bootstrap, and what they rest on.

    ``counts`` (draws, 7) of the resampled tissue, ``whole`` (draws, 7) of the whole tissue at the
    same cut-offs, ``clusters`` (draws, 4) or None, ``nominal`` (7,) the counts as read,
    ``largest`` (4,) or None the clusters as read, ``spreads`` by quantity,
    ``levels`` (draws,) stratified levels 0..1 of the confidence distributions, ``blocks`` the
    blocks that hold cells, ``decisive`` the quantity that set the number of blocks drawn.
    """

    counts: np.ndarray
    whole: np.ndarray
    clusters: np.ndarray | None
    nominal: np.ndarray
    largest: np.ndarray | None
    spreads: dict[str, Spread]
    levels: np.ndarray
    block_um: float
    pitch_um: float
    blocks: int
    relative_error: float
    decisive: str


def make_draws(
    cells: Cells, rules: RuleSet, settings: Settings, measured: Sensitivity | None = None
) -> Draws:
    """Draw the tissue; see the head of this module.

    ``measured`` is the slide's detection limit; where there is one, it stands for what the
    ``uncertain`` cells may be, but under rules that look for clusters.
    """
    limited = measured is not None and (measured.faint_found is not None or measured.tried)
    if limited and not rules.needs_clusters:
        cells = replace(cells, rank=np.full_like(cells.rank, -1.0))
    rng = np.random.Generator(np.random.PCG64(settings.seed))
    count = settings.score.bootstrap_draws
    moved = cells.measure is not None
    error = settings.membrane.cutoffs_relative_error if moved else 0.0
    factors = np.exp(np.log1p(error) / 1.959963984540054 * ndtri(_strata(rng, count)))
    shares, levels = _strata(rng, count), _strata(rng, count)
    widest = max(float(factors.max()), 1 / float(factors.min())) * (1 + 1e-6)
    block_um, pitch = _block(cells, settings.score.bootstrap_block_um)
    grid = grid_cells(cells, pitch, settings.membrane, widest)
    spreads = _spreads(cells, rules, pitch, block_um)
    decisive = _decisive(rules, spreads, settings)
    side = max(1, round(block_um / pitch))
    counts, blocks = _resample(grid, settings, (factors, shares), side, spreads[decisive], rng)
    whole = _whole(grid, settings, (factors, shares))
    counts = _in_truth(counts, cells, settings, factors, measured if limited else None)
    clusters = largest = None
    if rules.needs_clusters:
        clusters = _clusters(cells, rules, settings, (factors, shares))
        level, link = LEVELS[cells.pattern], settings.score.cluster_link_um
        largest = largest_clusters(cells.x, cells.y, level, link)
    return Draws(
        counts=counts,
        whole=whole,
        clusters=clusters,
        nominal=np.bincount(cells.pattern, minlength=7).astype(np.int64),
        largest=largest,
        spreads=spreads,
        levels=levels,
        block_um=block_um,
        pitch_um=pitch,
        blocks=blocks,
        relative_error=error,
        decisive=decisive,
    )


def _in_truth(
    counts: np.ndarray, cells: Cells, settings: Settings, factors: np.ndarray,
    measured: Sensitivity | None,
) -> np.ndarray:  # fmt: skip
    """Return the counts as they may be in truth: cells of doubtful kind, and faint ones unseen."""
    rng = np.random.Generator(np.random.PCG64([settings.seed, 1]))
    of = [_strata(rng, len(counts)) for _ in range(7)]
    selected = _strata(rng, len(counts))
    counts = unseen.keep_tumour(counts, cells.pattern, cells.certainty, of[0])
    if measured is not None:
        found = unseen.faint_shares(measured, settings.membrane, factors, of[1], of[2])
        blank = unseen.blank_rates(measured, of[3], of[4])
        counts = unseen.reveal(counts, found, blank, *of[5:])
    return unseen.mistaken(counts, cells.pattern, cells.certainty, selected)


def _strata(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return one number from each of ``count`` equal parts of 0..1, in random order."""
    return np.asarray((rng.permutation(count) + 0.5) / count)


def _block(cells: Cells, wanted: float) -> tuple[float, float]:
    """Return the block's side and the grid's pitch, µm."""
    x, y = cells.x - cells.x.min(), cells.y - cells.y.min()
    extent = max(float(x.max()), float(y.max()), 1.0)
    block = wanted
    while block > LEAST_BLOCK_UM and _occupied(x, y, block) < LEAST_BLOCKS:
        block = max(block / 2, LEAST_BLOCK_UM)
    pitch = max(block / SQUARES_PER_BLOCK, extent / MOST_SQUARES)
    return max(block, pitch), pitch


def _occupied(x: np.ndarray, y: np.ndarray, side: float) -> int:
    key = np.floor(y / side).astype(np.int64) * (1 << 31) + np.floor(x / side).astype(np.int64)
    return len(np.unique(key))


def quantities(rules: RuleSet) -> dict[str, np.ndarray]:
    """Return the weights of the patterns (0..1) in every quantity that gets an interval."""
    sets: dict[str, tuple[str, ...]] = {p: (p,) for p in PATTERNS}
    sets |= {
        "any": GROUPS["any"],
        "moderate_or_more": GROUPS["moderate"] + GROUPS["intense"],
        "intense": GROUPS["intense"],
        "positive": rules.positive,
    }
    sets |= {c.name: c.patterns for c in compared(rules)}
    weights = {n: np.array([float(p in s) for p in PATTERNS]) for n, s in sets.items()}
    return weights | {"h_score": np.array([INTENSITY[p] / 3 for p in PATTERNS])}


def compared(rules: RuleSet) -> list[Compare]:
    """Return every share that the rules compare with a limit, once each."""
    found = (c for cond in rules.conditions for clause in cond for c in clause if not c.cluster)
    return list(dict.fromkeys(found))


def _spreads(cells: Cells, rules: RuleSet, pitch: float, block_um: float) -> dict[str, Spread]:
    col = np.floor((cells.x - cells.x.min()) / pitch).astype(np.int64)
    row = np.floor((cells.y - cells.y.min()) / pitch).astype(np.int64)
    shape = (int(row.max()) + 1, int(col.max()) + 1)
    flat = (row * shape[1] + col) * 7 + cells.pattern
    tally = np.bincount(flat, minlength=shape[0] * shape[1] * 7).reshape(*shape, 7)
    lags, total = Lags(tally.sum(axis=2)), tally.sum(axis=(0, 1))
    out: dict[str, Spread] = {}
    known: dict[tuple[float, ...], Spread] = {}
    for name, weights in quantities(rules).items():
        if tuple(weights) in known:
            out[name] = known[tuple(weights)]
            continue
        mean = float(total @ weights) / len(cells.x)
        one = max(float(total @ weights**2) / len(cells.x) - mean**2, 0.0)
        out[name] = spread(lags, tally @ weights, one, block_um / pitch)
        known[tuple(weights)] = out[name]
    return out


def _decisive(rules: RuleSet, spreads: dict[str, Spread], settings: Settings) -> str:
    """Return the quantity that is nearest to one of its limits, in standard errors."""
    limits = Limits.of(settings.score)
    nearest = "any", np.inf
    for compare in compared(rules):
        found = spreads[compare.name]
        gap = abs(found.mean - float(limits.of_compare(compare)))
        away = gap / np.sqrt(found.variance) if found.variance > 0 else np.inf
        if away < nearest[1]:
            nearest = compare.name, away
    return nearest[0]


def _resample(
    grid: Gridded, settings: Settings, moves: Moves, side: int, decisive: Spread,
    rng: np.random.Generator,
) -> tuple[np.ndarray, int]:  # fmt: skip
    """Return the counts of every draw (draws, 7), and the number of blocks."""
    limits = np.asarray(settings.membrane.cutoffs, dtype=np.float64)
    out = np.zeros((len(moves[0]), 7), dtype=np.int64)
    target = decisive.variance * decisive.inflation**2
    ratio = min(1.0, decisive.block_variance / target) if target > 0 else 1.0
    most = 0
    for d, (factor, share) in enumerate(zip(*moves, strict=True)):
        member, names = _blocks(grid, side, rng)
        most = max(most, len(names))
        # fewer blocks than there are widen the spread to what the correlogram shows
        size = len(names) * ratio
        size = max(1, int(size) + int(rng.random() < size - int(size)))
        times = np.zeros(int(member.max()) + 1, dtype=np.int64)
        times[names] = rng.multinomial(size, np.full(len(names), 1 / len(names)))
        cut = (limits * factor).astype(np.float32)
        draw_counts(times[member], grid.fixed, grid.start, grid.kind, grid.value, cut, share,
                    out[d])  # fmt: skip
    return out, most


def _blocks(grid: Gridded, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Shift the blocks at random; return each square's block and the blocks that hold cells."""
    dy, dx = (int(v) for v in rng.integers(0, side, 2))
    rows, cols = int(grid.row.max()) + 1, int(grid.col.max()) + 1
    down, across = (np.arange(rows) + dy) // side, (np.arange(cols) + dx) // side
    member = down[grid.row] * (int(across[-1]) + 1) + across[grid.col]
    return member, np.flatnonzero(np.bincount(member))


def _whole(grid: Gridded, settings: Settings, moves: Moves) -> np.ndarray:
    """Return the counts of the whole tissue at every draw's cut-offs, shape (draws, 7)."""
    out = np.repeat(grid.fixed.sum(axis=0)[None], len(moves[0]), axis=0)
    ranks = np.sort(grid.value[grid.kind == 2])
    faint = np.searchsorted(ranks, moves[1].astype(np.float32), side="left")
    out[:, 1] += faint
    out[:, 0] += len(ranks) - faint
    cutoffs = np.asarray(settings.membrane.cutoffs)[None] * moves[0][:, None]
    for complete in (0, 1):
        values = np.sort(grid.value[grid.kind == complete])
        below = np.searchsorted(values, cutoffs.astype(np.float32), side="left")
        edges = np.hstack(
            [np.zeros((len(out), 1), int), below, np.full((len(out), 1), len(values))]
        )
        level = np.diff(edges, axis=1)
        out[:, 0] += level[:, 0]
        for k in (1, 2, 3):
            out[:, 2 * k - 1 + complete] += level[:, k]
    return out


def _clusters(cells: Cells, rules: RuleSet, settings: Settings, moves: Moves) -> np.ndarray:
    """Return cluster sizes of every draw, as far as the rules ask, shape (draws, 4)."""
    limits = Limits.of(settings.score)
    asked = [c for cond in rules.conditions for clause in cond for c in clause if c.cluster]
    sizes = sorted({int(limits.of_compare(c)) for c in asked})
    cutoffs = np.array([0.0, *settings.membrane.cutoffs])
    # a cell whose pattern the cut-offs do not explain stands at the cut-off of its own intensity
    values = cutoffs[LEVELS[cells.pattern]]
    if cells.measure is not None:
        values = np.where(cells.follows, cells.measure, values)
    out = np.zeros((len(moves[0]), 4), dtype=np.int64)
    link = settings.score.cluster_link_um
    for doubtful in (True, False):
        kept = values if doubtful else np.where(cells.rank >= 0, 0.0, values)
        stained = kept > 0
        chosen = moves[1] >= 0.5 if doubtful else moves[1] < 0.5
        for need in sizes:
            top = cluster_levels(cells.x[stained], cells.y[stained], kept[stained], link, need)
            highest = float(top.max()) if len(top) else -np.inf
            for k in (1, 2, 3):
                at = highest >= cutoffs[k] * moves[0] * (1 - 1e-12)
                out[chosen & at, k] = need
    out[:, 0] = len(cells.x)
    return out


def wilson_levels(draws: Draws, name: str, weights: np.ndarray) -> np.ndarray:
    """Return one value of the fraction's confidence distribution for every draw, sorted."""
    found = draws.spreads[name]
    means = draws.whole @ weights / draws.whole.sum(axis=1)
    t = stdtrit(found.freedom, draws.levels)
    n = max(found.cells, 1e-9)
    root = np.sqrt(np.maximum(means * (1 - means), 0) / n + t * t / (4 * n * n))
    values = (means + t * t / (2 * n) + t * root) / (1 + t * t / n)
    return np.sort(np.clip(values, 0, 1))

"""The classic detector: blobs over scales, a star-convex contour each, the best of rivals kept.

1. Blobs: hematoxylin, less what leaks from DAB ridges, is reduced to about 1 µm per pixel and
   blurred at rising scales; maxima of the differences over position and scale are candidates, and
   at the coarse scales those over position alone. A pale place inside a brown ring adds to the
   response.
2. Contours: on rays around each candidate, dynamic programming finds the closed path of strongest
   H drop that encloses dark pixels and crosses neither an earlier edge nor a brown line cheaply.
3. Score: boosted trees on ratios, fitted on drawings and on hand-marked real tissue.
4. Rivals: of contours that share much of their area, the best is kept (a fixed number of rounds,
   so that no outcome reaches farther than the halo).
5. Twins: two sure ones that read as halves of one nucleus are traced once more from between them.
6. The kept ones are traced again around their centroid, on 48 rays.

Blob detection by scale-space maxima: Lindeberg, Int J Comput Vis 30:79 (1998). Star-convex
outlines of nuclei: Schmidt et al., MICCAI 2018.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from her2path._scratch import scratch
from her2path.nuclei import (
    SURE,
    _contours,
    _hash,
    _joining,
    _outlines,
    _planes,
    _rivals,
    _score,
    _seeds,
    _twins,
    good_enough,
)
from her2path.nuclei._contours import DRAFT_RAYS
from her2path.nuclei._drafts import FIXED_POINT, Drafts, Planes
from her2path.nuclei.table import RAYS, Nuclei
from her2path.nuclei.weights import scoring, twins
from her2path.settings import NucleiSettings

__all__ = ["ClassicDetector"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

#: the plane on which blobs are sought has about this many µm per pixel
COARSE_UM = 1.0
#: blur of the finest blob scale, µm, and the ratio of neighbouring scales
SCALE_UM, SCALE_RATIO, SCALES = 1.1, 2.0**0.5, 6
#: kernels end at this many standard deviations: their reach is part of the halo
CUT = 2.6
#: the scales that stand for a nucleus and for its neighbourhood
NEAR, WIDE = 2, 5
#: a blob's response must exceed this share of (neighbourhood H + PALE), OD
BLOB_SHARE, PALE = 0.05, 0.03
#: a blob of the finest scale must exceed so many times that; from this scale on, maxima over
#: position alone are candidates too, above so many times that: a pale vesicular nucleus is little
#: but a rim
FINE_SHARE, COARSE, COARSE_SHARE = 1.5, 2, 0.4
#: DAB: what counts as wide for a ridge (µm); share of a ridge's height taken off H; weight and
#: greatest depth (OD) of a hollow
RIDGE_UM, RIDGE_LEAK, RING, RING_CAP = 2.5, 0.3, 0.15, 0.1
#: hematoxylin under a DAB ridge cannot be read: a ridge of this height (OD) is replaced wholly by
#: the mean of what lies around, weighted over this blur (µm)
KNEE, BRIDGE_UM = 0.15, 1.5
#: OD is clipped to this range before it is averaged
LOWEST, HIGHEST = np.float32(-0.05), np.float32(3.0)
#: blur of the plane on which contours are traced, µm
FINE_UM = 0.5
#: contour: step along a ray (µm), smallest radius (µm),
#: weight of earlier edges, of brown ridges, cost of a step between 24 rays, weight of growth, and
#: where the level lies between neighbourhood (0) and blob (1)
STEP_UM, FIRST_UM = 0.5, 1.5
EARLIER, BARRIER, BEND, GROWTH, LEVEL = 0.5, 1.0, 0.04, 0.1, 0.3
#: an edge, and a pixel's distance from the level, count at most nucleus - neighbourhood + floor, OD
EDGE_CAP, CAP_FLOOR = 1.0, 0.01
#: width of the ring outside that a contour is compared with, µm
MARGIN_UM = 1.5
#: rivals: farthest centres (µm), common share of area, rounds
RIVAL_UM, RIVAL_SHARE, ROUNDS = 8.0, 0.35, 2
#: halves of one nucleus: the whole is larger than the larger half by this factor
TWIN_GROWTH = 1.1
#: a candidate counts above this score; up to `nuclei.SURE` it is doubtful
MIN_SCORE = 0.05
#: a slide's contrast: this percentile of its candidates' (inside - outside), from this many at
#: least, within these limits, OD
STRONG, FEWEST, CONTRAST_RANGE = 90.0, 50, (0.02, 1.0)


@lru_cache(64)
def _taps(sigma_px: float) -> F32:
    reach = max(int(np.ceil(CUT * sigma_px)), 1)
    g = np.exp(-0.5 * (np.arange(reach + 1) / sigma_px) ** 2)
    return np.asarray(g / (g[0] + 2 * g[1:].sum()), np.float32)


@lru_cache(16)
def _rays(count: int) -> F32:
    a = 2 * np.pi * np.arange(count) / count
    return np.stack([np.sin(a), np.cos(a)]).astype(np.float32)


@lru_cache(16)
def _ray_steps(count: int, steps: int, step_px: float) -> I32:
    """Return the pixel offsets (y, x) nearest to every step of every ray, (2, steps, count)."""
    a = 2 * np.pi * np.arange(count) / count
    r = np.arange(steps)[:, None] * step_px
    return np.rint(np.stack([np.sin(a) * r, np.cos(a) * r])).astype(np.int32)


@lru_cache(16)
def _angles(reach_px: float, count: int) -> npt.NDArray[np.int16]:
    """Return the nearest ray of every offset, on a grid of half pixels."""
    half = int(np.ceil(reach_px * 2)) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    turn = np.rint(np.arctan2(y, x) / (2 * np.pi) * count).astype(np.int64)
    return (turn % count).astype(np.int16)


def _blurs(plane: F32, mpp: float, name: str) -> F32:
    """Return the plane at rising scales, each from the one before, in scratch memory."""
    out = scratch(name, (SCALES, *plane.shape))
    done = 0.0
    for k in range(SCALES):
        sigma = SCALE_UM * SCALE_RATIO**k / mpp
        _planes.blur(out[k - 1] if k else plane, _taps((sigma**2 - done**2) ** 0.5), out[k])
        done = sigma
    return out


class ClassicDetector:
    """Find nuclei without a learned model of pixels."""

    def find(
        self, h: F32, d: F32, mpp: float, settings: NucleiSettings, origin: tuple[int, int]
    ) -> Nuclei:
        """Return the nuclei of a block; see `her2path.nuclei.find_nuclei`."""
        planes, drafts = self.draft(h, d, mpp, settings, origin)
        score = self.score(drafts, mpp, settings.contrast_od)
        best = _best_of_rivals(drafts, score, mpp, settings, origin, MIN_SCORE)
        sure = good_enough(score[best], settings)
        kept, doubtful = best[sure], best[~sure]
        pairs, odds = self.twins(planes, drafts, score, kept, mpp)
        mate = np.empty(len(kept), np.int32)
        _twins.mates(pairs, odds, _hash.keys(drafts.at[kept], origin[0], origin[1]), mate)
        drafts, score, kept = self._join(planes, drafts, score, (kept, mate), mpp, settings)
        kept = np.concatenate([kept, doubtful])
        kept = kept[np.lexsort((drafts.at[kept, 1], drafts.at[kept, 0]))]
        return _finish(planes, drafts, score, kept, mpp, settings)

    def draft(
        self, h: F32, d: F32, mpp: float, settings: NucleiSettings, origin: tuple[int, int]
    ) -> tuple[Planes, Drafts]:
        """Return every candidate with its contour, good or bad.

        The planes lie in scratch memory: they hold until the next draft of this thread.
        """
        at, near, wide, planes = _blobs(h, d, mpp, settings, origin)
        return planes, _trace(planes, at, near, wide, mpp, settings)

    def score(self, drafts: Drafts, mpp: float, contrast_od: float | None) -> F32:
        """Return how nucleus-like each candidate reads, 0..1."""
        out = np.empty(len(drafts.at), np.float32)
        features = _features(drafts, mpp, contrast_od)
        odds = scoring(contrast_od is not None).odds(features)
        _score.probability(features, odds, out)
        return out

    def twins(
        self, planes: Planes, drafts: Drafts, score: F32, kept: npt.NDArray[np.intp], mpp: float
    ) -> tuple[I32, npt.NDArray[np.float64]]:
        """Return pairs of kept candidates, and the log odds that both are one nucleus."""
        pairs, table = _joining.describe_pairs(planes, drafts, score, kept, mpp)
        return pairs, twins().odds(table)

    def _join(
        self, planes: Planes, drafts: Drafts, score: F32,
        found: tuple[npt.NDArray[np.intp], I32], mpp: float, settings: NucleiSettings,
    ) -> tuple[Drafts, F32, npt.NDArray[np.intp]]:  # fmt: skip
        """Put one contour in the place of two halves: the whole, or else the better half."""
        kept, mate = found
        first = np.flatnonzero(mate > np.arange(len(kept)))
        if not len(first):
            return drafts, score, kept
        a, b = kept[first], kept[mate[first]]
        twice = _joining.sixteenths(drafts, a) + _joining.sixteenths(drafts, b)
        middle = twice // (2 * FIXED_POINT)
        last = np.array(planes.smooth.shape) - 1
        middle = np.clip(middle, 0, last).astype(np.int32)
        half = np.float32(0.5)
        near, wide = (half * (v[a] + v[b]) for v in (drafts.near, drafts.wide))
        whole = _trace(planes, middle, near, wide, mpp, settings)
        whole_score = self.score(whole, mpp, settings.contrast_od)
        larger = np.maximum(drafts.centre[a, 2], drafts.centre[b, 2])
        good = whole.centre[:, 2] > np.float32(TWIN_GROWTH) * larger
        good &= good_enough(whole_score, settings)
        better = np.where(score[a] >= score[b], a, b)
        alone = kept[mate < 0]
        drafts = Drafts(
            *(np.concatenate([getattr(drafts, f.name), getattr(whole, f.name)])
              for f in fields(Drafts))
        )  # fmt: skip
        joined = np.where(good, len(score) + np.arange(len(first)), better)
        return drafts, np.concatenate([score, whole_score]), np.concatenate([alone, joined])

    def contrast(self, planes: Iterable[tuple[F32, F32]], mpp: float) -> float | None:
        """Return the strong contrast of candidates; see `her2path.nuclei.typical_contrast`."""
        settings = NucleiSettings.model_validate({})
        drops = []
        for h, d in planes:
            m = self.draft(h, d, mpp, settings, (0, 0))[1].measures
            drops.append(m[:, 1] - m[:, 4])
        found = np.concatenate(drops) if drops else np.empty(0, np.float32)
        if len(found) < FEWEST:
            return None
        return float(np.clip(np.percentile(found, STRONG), *CONTRAST_RANGE))


def _blobs(
    h: F32, d: F32, mpp: float, settings: NucleiSettings, origin: tuple[int, int]
) -> tuple[I32, F32, F32, Planes]:
    """Return candidate pixels, H at two scales there, and the planes to trace them on."""
    q = max(round(COARSE_UM / mpp), 1)
    top, left = -origin[0] % q, -origin[1] % q
    shape = ((h.shape[0] - top) // q, (h.shape[1] - left) // q)
    coarse_h, coarse_d = scratch("nuclei.coarse", (2, *shape))
    _planes.reduce_mean(h, q, top, left, LOWEST, HIGHEST, coarse_h)
    _planes.reduce_mean(d, q, top, left, LOWEST, HIGHEST, coarse_d)
    ridge, mean = _ridges(coarse_h, coarse_d, mpp * q)
    hidden = scratch("nuclei.hidden", shape)
    _planes.hide(coarse_h, ridge, mean, np.float32(KNEE), np.float32(RIDGE_LEAK), hidden)
    scales = _blurs(hidden, mpp * q, "nuclei.h")
    stack = scratch("nuclei.stack", (SCALES - 1, *shape))
    browns = _blurs(coarse_d, mpp * q, "nuclei.d")
    _planes.response(scales, browns, np.float32(RING), np.float32(RING_CAP), stack)
    found = np.empty((stack[0].size // 4 + 16, 3), np.int32)
    share = np.float32(BLOB_SHARE / settings.sensitivity)
    start = ((origin[0] + top) // q, (origin[1] + left) // q)
    how = (stack, scales[WIDE], share, np.float32(PALE), *start)
    n = _planes.scale_maxima(*how, found)
    n = _seeds.add_coarse(*how, np.float32(FINE_SHARE), COARSE, np.float32(COARSE_SHARE), found, n)
    found = found[:n][np.lexsort((found[:n, 1], found[:n, 0]))]
    y, x = found[:, 0], found[:, 1]
    at = np.stack([y * q + top + q // 2, x * q + left + q // 2], axis=1).astype(np.int32)
    # the scales of DAB have served
    smooth = scratch("nuclei.d", h.shape)
    taps = _taps(FINE_UM / mpp)
    _planes.bridge(h, ridge, mean, np.float32(KNEE), q, top, left, taps, smooth)
    planes = Planes(smooth, ridge, d, (q, top, left))
    return at, scales[NEAR][y, x], scales[WIDE][y, x], planes


def _ridges(h: F32, d: F32, mpp: float) -> tuple[F32, F32]:
    """Return the height of DAB ridges, and H around every pixel with the ridges left out."""
    wide, ridge, sharp, mean, weight = scratch("nuclei.ridges", (5, *d.shape))
    _planes.blur(d, _taps(RIDGE_UM / mpp), wide)
    _planes.rise(d, wide, ridge)
    _planes.weigh(h, ridge, np.float32(KNEE), sharp, wide)
    taps = _taps(BRIDGE_UM / mpp)
    _planes.blur(sharp, taps, mean)
    _planes.blur(wide, taps, weight)
    _planes.divide(mean, weight, sharp)
    return ridge, sharp


def _trace(
    planes: Planes, at: I32, near: F32, wide: F32, mpp: float, settings: NucleiSettings
) -> Drafts:
    """Return the candidates' contours and what is measured on them."""
    first, last = round(FIRST_UM / STEP_UM), round(settings.max_radius_um / STEP_UM)
    rings = round(MARGIN_UM / STEP_UM)
    side = _contours.SIDE
    shape = np.array([first, last, side, EARLIER, BARRIER, BEND, GROWTH, EDGE_CAP], np.float32)
    n = len(at)
    radii, edges, walls = (np.empty((n, DRAFT_RAYS), np.float32) for _ in range(3))
    gain, centre = np.empty(n, np.float32), np.empty((n, 3), np.float32)
    measures = np.empty((n, _contours.MEASURES), np.float32)
    level = wide + np.float32(LEVEL) * (near - wide)
    cap = np.maximum(near - wide, np.float32(0)) + np.float32(CAP_FLOOR)
    q, top, left = planes.grid
    steps = _ray_steps(DRAFT_RAYS, last + max(rings, side) + 1, STEP_UM / mpp)
    # candidates lie in the middle of a coarse pixel
    coarse = (at - np.array([top, left], np.int32)) // np.int32(q)
    _contours.draft_all(
        (planes.smooth, planes.dab, at, steps),
        (planes.brown, coarse, (steps + np.int32(q // 2)) // np.int32(q)),
        level, cap, np.float32(STEP_UM / mpp), rings, shape, _rays(DRAFT_RAYS),
        radii, edges, walls, gain, centre, measures,
    )
    return Drafts(at, near, wide, radii, edges, walls, gain, centre, measures)


def _features(drafts: Drafts, mpp: float, contrast_od: float | None) -> F32:
    """Return every candidate's features; those relative to the slide only where it is known."""
    extra = 0 if contrast_od is None else len(_score.SLIDE_FEATURES)
    out = np.empty((len(drafts.at), len(_score.FEATURES) + extra), np.float32)
    _score.describe_all(
        drafts.radii, drafts.edges, drafts.walls, drafts.gain, drafts.centre, drafts.measures,
        drafts.near, drafts.wide, np.float32(mpp), np.float32(contrast_od or 0.0), out,
    )
    return out


def _best_of_rivals(
    drafts: Drafts, score: F32, mpp: float, settings: NucleiSettings, origin: tuple[int, int],
    least: float = SURE,
) -> npt.NDArray[np.intp]:  # fmt: skip
    """Return the candidates that are good enough and beat all that claim the same place."""
    good = np.flatnonzero(good_enough(score, settings, least))
    where = drafts.at[good] + np.rint(drafts.centre[good, :2]).astype(np.int32)
    order = np.lexsort((where[:, 1], where[:, 0]))
    good, where = good[order], where[order]
    radii = drafts.radii[good]
    rays = _rays(DRAFT_RAYS)
    angle = _angles((settings.max_radius_um + MARGIN_UM) / mpp + 2, DRAFT_RAYS)
    reach = round(RIVAL_UM / mpp)
    pairs = _rivals.near_pairs(where.astype(np.int64), reach * reach)
    n = _rivals.claims(drafts.at[good], radii, np.float32(RIVAL_SHARE), rays, angle, pairs)
    state = np.zeros(len(good), np.int8)
    key = _hash.keys(drafts.at[good], origin[0], origin[1])
    _rivals.suppress(pairs[:n], score[good], key, ROUNDS, state)
    return good[state == 1]


def _finish(
    planes: Planes, drafts: Drafts, score: F32, kept: npt.NDArray[np.intp], mpp: float,
    settings: NucleiSettings,
) -> Nuclei:
    """Describe the kept ones by 48 rays around their centroid."""
    at, offset, move = _fixed_point(drafts, kept)
    rays, n = _rays(RAYS), len(kept)
    radii = np.empty((n, RAYS), np.float32)
    centre, elongation = np.empty((n, 3), np.float32), np.empty(n, np.float32)
    _outlines.recast_all(
        drafts.radii[kept], _rays(DRAFT_RAYS), move, rays, radii, centre, elongation
    )
    perimeter, area, m = _outlines.perimeters(radii, rays), centre[:, 2], drafts.measures[kept]
    nuclei = Nuclei(
        y=(at[:, 0] + offset[:, 0]).astype(np.float32),
        x=(at[:, 1] + offset[:, 1]).astype(np.float32),
        radii=radii,
        area_px=area,
        hematoxylin=m[:, 1],
        dab=m[:, 3],
        contrast=_outlines.row_means(drafts.edges[kept]),
        elongation=elongation,
        irregularity=np.float32(1) - np.float32(4 * np.pi) * area / (perimeter * perimeter),
        texture=(m[:, 2] / np.maximum(m[:, 1], np.float32(0.01))).astype(np.float32),
        confidence=score[kept],
    )
    limit = np.float32(np.pi / mpp**2)
    small, large = settings.min_radius_um**2 * limit, settings.max_radius_um**2 * limit
    h, w = planes.smooth.shape
    inside = (nuclei.y >= -0.5) & (nuclei.y < h - 0.5) & (nuclei.x >= -0.5) & (nuclei.x < w - 0.5)
    return nuclei.take(inside & (area >= small) & (area <= large))


def _fixed_point(drafts: Drafts, kept: npt.NDArray[np.intp]) -> tuple[I32, F32, F32]:
    """Return the centroids as whole pixel and offset (sixteenths), and the move from the seed."""
    sixteenths = np.rint(drafts.centre[kept, :2] * np.float32(FIXED_POINT)).astype(np.int32)
    whole = (sixteenths + FIXED_POINT // 2) // FIXED_POINT
    offset = (sixteenths - whole * FIXED_POINT).astype(np.float32) / np.float32(FIXED_POINT)
    move = sixteenths.astype(np.float32) / np.float32(FIXED_POINT)
    return (drafts.at[kept] + whole).astype(np.int32), offset.astype(np.float32), move

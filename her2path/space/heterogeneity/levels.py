"""How diversity splits over samples, areas and cells (Rao 1982), with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.settings import Settings
from her2path.space.heterogeneity.between import partition_intervals
from her2path.space.heterogeneity.diversity import intraclass, rao
from her2path.space.heterogeneity.samples import Sample
from her2path.space.heterogeneity.table import intensity_counts
from her2path.space.spatial.blocks import Blocks, make_blocks, widening

__all__ = ["nested_partition"]

Int = NDArray[np.int64]
Float = NDArray[np.float64]
PARTS = ("between_samples", "between_areas", "within_areas")


def nested_partition(samples: Sequence[Sample], settings: Settings) -> dict[str, Any] | None:
    """Split Rao's Q of the intensities over cells, areas and samples; None without cells in areas.

    ``total`` = ``between_samples`` + ``between_areas`` + ``within_areas``; ``icc_samples`` and
    ``icc_areas`` are ICC(1) of the intensities over samples, and over all areas. The intervals of
    the shares come from drawing blocks of areas within each sample: they hold for these samples,
    not for others that might have been taken.
    """
    used = [
        (s, intensity_counts(s.area_patterns[s.areas.evaluable]).astype(np.int64)) for s in samples
    ]
    used = [(s, counts) for s, counts in used if counts.sum() > 0]
    if not used:
        return None
    areas = [counts for _, counts in used]
    own, every = np.stack([a.sum(axis=0) for a in areas]), np.concatenate(areas)
    inner = np.array([float(a.sum(axis=1) @ rao(a)) for a in areas])
    parts = {k: float(v[0]) for k, v in _split(own[None].astype(float), inner[None]).items()}
    total = sum(parts.values())
    shares = {f"{k}_share": v / total if total > 1e-15 else None for k, v in parts.items()}
    return {
        "total": total, **parts, **shares,
        "icc_samples": intraclass(own), "icc_areas": intraclass(every),
        "samples": len(areas), "areas": int(every.shape[0]),
        **_intervals(used, shares, settings),
    }  # fmt: skip


def _split(own: Float, inner: Float) -> dict[str, Float]:
    """Return the three parts, (d,), from class counts (d, samples, 4) and sums n Q of areas."""
    cells = own.sum(axis=2)
    whole = cells.sum(axis=1)
    total = rao(own.sum(axis=1))
    by_sample = (cells * np.nan_to_num(rao(own))).sum(axis=1) / whole
    by_area = inner.sum(axis=1) / whole
    parts = (np.maximum(0, total - by_sample), np.maximum(0, by_sample - by_area), by_area)
    return dict(zip(PARTS, parts, strict=True))


def _intervals(
    used: list[tuple[Sample, Int]], shares: dict[str, float | None], settings: Settings
) -> dict[str, Any]:
    draws = settings.heterogeneity.interval_draws
    blocks = []
    for i, (s, _) in enumerate(used):
        seed = int(np.random.SeedSequence([settings.seed, 3, i]).generate_state(1)[0])
        blocks.append(make_blocks(_labels(s), draws, seed, s.leak))
    names = [f"{part}_share_interval" for part in PARTS]
    reason = next((b.reason for b in blocks if b.reason is not None), None)
    if reason is not None:
        return {**dict.fromkeys([*names, "icc_areas_interval"]), "interval_reason": reason}
    own, inner = _drawn(blocks, [counts for _, counts in used])
    parts = _split(own, inner)
    whole = np.sum(list(parts.values()), axis=0)
    out: dict[str, Any] = {"interval_reason": None}
    widen = widening(min(b.count for b in blocks), max(b.leak for b in blocks))
    for name, part in zip(names, PARTS, strict=True):
        share = parts[part][whole > 1e-15] / whole[whole > 1e-15]
        told = shares[f"{part}_share"]
        enough = share.size >= 0.9 * draws
        out[name] = _ends(share, told, widen) if enough and told is not None else None
    every = np.concatenate([counts for _, counts in used])
    label = np.concatenate([b.block + 1_000_000 * i for i, b in enumerate(blocks)])
    over = make_blocks(label, draws, settings.seed, max(b.leak for b in blocks))
    out["icc_areas_interval"] = partition_intervals(every, over)["icc_interval"]
    return out


def _labels(s: Sample) -> Int:
    label = s.area_block if s.area_block is not None else np.arange(len(s.areas.names))
    return label[s.areas.evaluable]


def _drawn(blocks: list[Blocks], areas: list[Int]) -> tuple[Float, Float]:
    """Return drawn class counts (d, samples, 4), and drawn sums n Q of the areas (d, samples)."""
    own, inner = [], []
    for b, counts in zip(blocks, areas, strict=True):
        size = counts.sum(axis=1)
        own.append(b.drawn(b.sums(counts.astype(float))))
        inner.append(b.drawn(b.sums(size * np.nan_to_num(rao(counts)))))
    return np.stack(own, axis=1), np.stack(inner, axis=1)


def _ends(values: Float, told: float, widen: float) -> tuple[float, float]:
    """Return the drawn values' interval, widened about the estimate, which it always holds."""
    low, high = (float(told + (v - told) * widen) for v in np.quantile(values, [0.025, 0.975]))
    return max(0.0, min(low, told)), min(1.0, max(high, told))

"""The optional CNN's second look at a slide whose cells are known. It changes no score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path import cnn
from her2path.cells.analysis import Optics
from her2path.core._optional import available, require
from her2path.core.geometry import Box
from her2path.core.results import CnnRegions, CnnResult, Score
from her2path.core.schema import CNN_CELLS, CNN_REGIONS, SCORES, arrow_schema
from her2path.core.settings import CnnSettings

__all__ = [
    "PATCHES_PER_REGION",
    "CnnReview",
    "check_asked",
    "look_again",
    "make_ready",
    "model_sha256",
    "region_features",
    "review_by_cnn",
]

#: patches that a region's probabilities rest on, at most
PATCHES_PER_REGION = 16

Read = Callable[[Box], NDArray[np.uint8]]
#: called with (stage, done, total, megapixels done)
Progress = Callable[[str, int, int, float], None]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CnnReview:
    """What the CNN says.

    ``result`` goes into ``result.json`` as ``cnn``; ``regions`` has the columns
    `schema.CNN_REGIONS`, one row a region; ``cells`` those of `schema.CNN_CELLS`, one row a tumour
    cell (null where nothing is known); ``model_sha256`` belongs to the provenance; ``features``
    (``region_id``, ``features``) is there where it was asked for.
    """

    result: CnnResult
    regions: pa.Table
    cells: pa.Table
    model_sha256: str | None
    features: pa.Table | None = None


def model_sha256(settings: CnnSettings, mpp: float) -> str | None:
    """Return the fingerprint of the model that is asked for; None where none is. Needs no torch.

    It is asked before any work, so that a wrong model does not cost a slide's time.

    Raises
    ------
    UsageError, InputError
        Where there is no such model, it is damaged, or ``mpp`` is too coarse for it.
    """
    if settings.model is None:
        return None
    _, card = cnn.check_model(settings.model)
    cnn.Window(card.patch_px, card.mpp).source_px(mpp)
    return card.sha256


def check_asked(settings: CnnSettings) -> None:
    """Refuse a model that is not there or damaged, and a missing torch, without loading torch.

    Raises
    ------
    MissingExtra, UsageError, InputError
    """
    if settings.model is None:
        return
    cnn.check_model(settings.model)
    if not available("torch"):
        require("torch", "The CNN scorer (--cnn, train)")


def make_ready(settings: CnnSettings) -> None:
    """Load the model once, where one is asked for, so that what is missing is said at once.

    Raises
    ------
    MissingExtra
        Without torch; the message says what to install.
    UsageError, InputError
        Where the model or the device cannot be used.
    """
    if settings.model is not None:
        # an ONNX export takes a second: where it is not insisted on, the weights say as much
        plain = "torch" if settings.runtime == "auto" else settings.runtime
        cnn.Scorer.load(settings.model, settings.device, 1, "fp32", plain)


def review_by_cnn(
    read: Read,
    tumour: pa.Table,
    regions: pa.Table,
    optics: Optics,
    settings: CnnSettings,
    score: Score | None,
    progress: Progress | None = None,
    threads: int | None = None,
) -> CnnReview:
    """Let the CNN look at regions, tumour cells and slide.

    Parameters
    ----------
    read : callable
        ``Slide.read``: level-0 pixels of a box.
    tumour : pyarrow.Table
        Tumour cells with ``cell_id x_px y_px region_id``.
    regions : pyarrow.Table
        Regions with ``region_id tumour_cells``, and ``score`` to be set beside.
    optics : Optics
        Pixel size and stain of the slide.
    settings : CnnSettings
        ``model`` is set.
    score : Score or None
        The rule-based score that it is set beside.
    progress : callable, optional
    threads : int, optional
        Threads of the network on a CPU.

    Returns
    -------
    CnnReview

    Raises
    ------
    MissingExtra
        Without torch; the message says what to install.
    UsageError, InputError
        Where there is no such model, it is damaged, or the slide is too coarse for it.
    """
    ids, region = _numbers(tumour, "cell_id"), _numbers(tumour, "region_id")
    sampled = cnn.sample_by_region(ids, region, PATCHES_PER_REGION)
    every = len(ids) <= settings.cells
    rows = np.arange(len(ids)) if every else sampled

    def tick(done: int, total: int) -> None:
        if progress is not None:
            progress("second look (CNN)", done, total, 0.0)

    with cnn.limited_threads(threads):
        scorer = _scorer(settings)
        seen = scorer.look(read, _centres(tumour, rows), optics.mpp, optics.stain, tick)
    p = np.full((len(ids), len(SCORES)), np.nan, np.float32)
    p[rows] = seen.p
    first = CnnResult(
        model=f"{scorer.card.name} {scorer.card.version}", score=None, probability=None,
        agrees=None, flag=None, guideline=scorer.card.guideline, share=scorer.card.share,
        patches=len(rows), cells="own" if every else "region", device=scorer.device,
        runtime=scorer.engine.name, precision=scorer.engine.precision,
    )  # fmt: skip
    result, of_region = _conclude(first, p, ids, region, regions, score)
    if not every:
        p = _spread(of_region, region, _numbers(regions, "region_id"))
    features = None
    if settings.features:
        at = np.searchsorted(rows, sampled)
        features = _feature_table(seen.features[at], region[sampled], regions)
    return CnnReview(
        result=result,
        regions=_region_columns(of_region, result.share),
        cells=_cell_columns(p),
        model_sha256=scorer.sha256,
        features=features,
    )


def look_again(
    old: CnnResult, tumour: pa.Table, regions: pa.Table, score: Score | None
) -> CnnReview:
    """Set stored probabilities of cells beside a new score and new regions. Needs no network.

    Parameters
    ----------
    old : CnnResult
        Of the run that made the probabilities.
    tumour : pyarrow.Table
        Tumour cells with ``cell_id region_id`` and the columns `schema.CNN_CELLS`.
    regions, score
        As in `review_by_cnn`.
    """
    columns = [tumour.column(c.name).to_numpy() for c in CNN_CELLS]
    p = np.stack(columns, axis=1).astype(np.float32)
    ids, region = _numbers(tumour, "cell_id"), _numbers(tumour, "region_id")
    result, of_region = _conclude(old, p, ids, region, regions, score)
    return CnnReview(result, _region_columns(of_region, result.share), _cell_columns(p), None)


def region_features(
    read: Read, tumour: pa.Table, regions: pa.Table, optics: Optics, settings: CnnSettings
) -> pa.Table:
    """Return the network's features of every region, for research pipelines.

    Parameters are those of `review_by_cnn`.

    Returns
    -------
    pyarrow.Table
        ``region_id``, and ``features``: float32 list, the mean over the region's sampled cells;
        null for a region without any.
    """
    region = _numbers(tumour, "region_id")
    rows = cnn.sample_by_region(_numbers(tumour, "cell_id"), region, PATCHES_PER_REGION)
    found = _scorer(settings).embed(read, _centres(tumour, rows), optics.mpp, optics.stain)
    return _feature_table(found, region[rows], regions)


def _scorer(settings: CnnSettings) -> cnn.Scorer:
    return cnn.Scorer.load(
        settings.model or "builtin", settings.device, settings.batch, settings.precision,
        settings.runtime,
    )  # fmt: skip


def _numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    return np.asarray(table.column(name).to_numpy(), np.int64)


def _centres(tumour: pa.Table, rows: NDArray[np.int64]) -> Floats:
    return np.stack([tumour.column(n).to_numpy()[rows] for n in ("x_px", "y_px")], axis=1)


def _conclude(
    first: CnnResult,
    p: NDArray[np.float32],
    ids: NDArray[np.int64],
    region: NDArray[np.int64],
    regions: pa.Table,
    score: Score | None,
) -> tuple[CnnResult, Floats]:
    """Return the verdict, and the regions' probabilities (R, 4), from those of cells (N, 4)."""
    known = np.flatnonzero(~np.isnan(p[:, 0]))
    rows = known[cnn.sample_by_region(ids[known], region[known], PATCHES_PER_REGION)]
    of_region = cnn.region_probabilities(p[rows], region[rows], _numbers(regions, "region_id"))
    of_slide = cnn.slide_probabilities(of_region, _numbers(regions, "tumour_cells"))
    said = cnn.verdict(of_slide, score, first.model, first.share)
    facts = {
        **{k: getattr(said, k) for k in ("score", "probability", "agrees", "flag")},
        "note": _note(first.guideline, score),
        "regions": _compared(of_region, first.share, regions),
    }
    return first.model_copy(update=facts), of_region


def _note(guideline: str | None, score: Score | None) -> str | None:
    """Say where the score follows another rule set than the model learnt."""
    if score is None or guideline is None or score.guideline == guideline:
        return None
    return f"The model learnt {guideline}; the rule-based score follows {score.guideline}."


def _compared(of_region: Floats, share: float, regions: pa.Table) -> CnnRegions | None:
    """Return in how many regions both scores are the same, or a class apart at most."""
    if "score" not in regions.column_names:
        return None
    words = regions.column("score").to_pylist()
    ruled = np.array([-1 if w is None else SCORES.index(w) for w in words], np.int64)
    seen = cnn.decide(of_region, share)
    both = (ruled >= 0) & (seen >= 0)
    apart = np.abs(ruled - seen)[both]
    return CnnRegions(
        compared=int(both.sum()), same=int((apart == 0).sum()), within_one=int((apart <= 1).sum())
    )


def _feature_table(
    features: NDArray[np.float32], region: NDArray[np.int64], regions: pa.Table
) -> pa.Table:
    """Return the mean features of every region; null for a region without a patch."""
    mean = cnn.region_probabilities(features, region, _numbers(regions, "region_id"))
    values = [None if np.isnan(row).any() else row.astype(np.float32) for row in mean]
    return pa.table({
        "region_id": regions.column("region_id"),
        "features": pa.array(values, pa.list_(pa.float32())),
    })  # fmt: skip


def _spread(
    of_region: Floats, region: NDArray[np.int64], ids: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return every cell's region's probabilities, float32 (N, 4); NaN without a region."""
    row_of = {int(r): i for i, r in enumerate(ids)}
    at = np.array([row_of.get(int(r), -1) for r in region], np.int64)
    out = np.full((len(region), len(SCORES)), np.nan, np.float32)
    out[at >= 0] = of_region[at[at >= 0]].astype(np.float32)
    return out


def _region_columns(p: Floats, share: float) -> pa.Table:
    decided = cnn.decide(p, share)
    columns = [pa.array([SCORES[k] if k >= 0 else None for k in decided], pa.string())]
    columns += [pa.array(p[:, k], pa.float64(), from_pandas=True) for k in range(len(SCORES))]
    return pa.Table.from_arrays(columns, schema=arrow_schema(CNN_REGIONS))


def _cell_columns(p: NDArray[np.float32]) -> pa.Table:
    columns = [pa.array(p[:, k], pa.float32(), from_pandas=True) for k in range(len(SCORES))]
    return pa.Table.from_arrays(columns, schema=arrow_schema(CNN_CELLS))

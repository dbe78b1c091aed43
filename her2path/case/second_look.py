"""The optional CNN's second look at a slide whose cells are known. It changes no score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path import cnn
from her2path.analysis import Optics
from her2path.geometry import Box
from her2path.results import CnnResult, Score
from her2path.schema import CNN_CELLS, CNN_REGIONS, SCORES, arrow_schema
from her2path.settings import CnnSettings

__all__ = [
    "PATCHES_PER_REGION", "SCORED_CELLS", "SecondLook", "region_features", "second_look",
]

#: up to so many tumour cells each gets its own patch; beyond, a cell carries its region's value
SCORED_CELLS = 20_000
#: patches that a region's probabilities rest on, at most
PATCHES_PER_REGION = 16

Read = Callable[[Box], NDArray[np.uint8]]
#: called with (stage, done, total, megapixels done)
Progress = Callable[[str, int, int, float], None]


@dataclass(frozen=True)
class SecondLook:
    """What the CNN says.

    ``result`` goes into ``result.json`` as ``cnn``; ``regions`` has the columns
    `schema.CNN_REGIONS`, one row a region; ``cells`` those of `schema.CNN_CELLS`, one row a tumour
    cell (null where nothing is known); ``model_sha256`` belongs to the provenance.
    """

    result: CnnResult
    regions: pa.Table
    cells: pa.Table
    model_sha256: str


def second_look(
    read: Read,
    tumour: pa.Table,
    regions: pa.Table,
    optics: Optics,
    settings: CnnSettings,
    score: Score | None,
    progress: Progress | None = None,
) -> SecondLook:
    """Let the CNN look at regions, tumour cells and slide.

    Parameters
    ----------
    read : callable
        ``Slide.read``: level-0 pixels of a box.
    tumour : pyarrow.Table
        Tumour cells with ``cell_id x_px y_px region_id``.
    regions : pyarrow.Table
        Regions with ``region_id tumour_cells``.
    optics : Optics
        Pixel size and stain of the slide.
    settings : CnnSettings
        ``model`` is set.
    score : Score or None
        The rule-based score that it is set beside.
    progress : callable, optional

    Returns
    -------
    SecondLook

    Raises
    ------
    MissingExtra
        Without torch; the message says what to install.
    UsageError, InputError
        Where there is no such model, it is damaged, or the slide is too coarse for it.
    """
    scorer = cnn.Scorer.load(settings.model or "builtin", settings.device, settings.batch)
    ids = tumour.column("cell_id").to_numpy()
    region = tumour.column("region_id").to_numpy()
    sampled = cnn.sample_by_region(ids, region, PATCHES_PER_REGION)
    every = len(ids) <= SCORED_CELLS
    rows = np.arange(len(ids)) if every else sampled
    centres = np.stack([tumour.column(n).to_numpy()[rows] for n in ("x_px", "y_px")], axis=1)

    def tick(done: int, total: int) -> None:
        if progress is not None:
            progress("second look (CNN)", done, total, 0.0)

    found = scorer.score_points(read, centres, optics.mpp, optics.stain, tick)
    p = np.full((len(ids), len(SCORES)), np.nan, np.float32)
    p[rows] = found
    region_ids = regions.column("region_id").to_numpy()
    of_region = cnn.region_probabilities(p[sampled], region[sampled], region_ids)
    of_slide = cnn.slide_probabilities(of_region, regions.column("tumour_cells").to_numpy())
    share = scorer.card.share
    name = f"{scorer.card.name} {scorer.card.version}"
    result = cnn.verdict(of_slide, score, name, share)
    return SecondLook(
        result=_with_facts(result, scorer.card, score),
        regions=_region_columns(of_region, share),
        cells=_cell_columns(p if every else _spread(of_region, region, region_ids)),
        model_sha256=scorer.sha256,
    )


def region_features(
    read: Read, tumour: pa.Table, regions: pa.Table, optics: Optics, settings: CnnSettings
) -> pa.Table:
    """Return the network's features of every region, for research pipelines.

    Parameters are those of `second_look`.

    Returns
    -------
    pyarrow.Table
        ``region_id``, and ``features``: float32 list, the mean over the region's sampled cells;
        null for a region without any.
    """
    scorer = cnn.Scorer.load(settings.model or "builtin", settings.device, settings.batch)
    region = tumour.column("region_id").to_numpy()
    rows = cnn.sample_by_region(tumour.column("cell_id").to_numpy(), region, PATCHES_PER_REGION)
    centres = np.stack([tumour.column(n).to_numpy()[rows] for n in ("x_px", "y_px")], axis=1)
    found = scorer.embed(read, centres, optics.mpp, optics.stain)
    mean = cnn.region_probabilities(found, region[rows], regions.column("region_id").to_numpy())
    values = [None if np.isnan(row).any() else row.astype(np.float32) for row in mean]
    features = pa.array(values, pa.list_(pa.float32()))
    return pa.table({"region_id": regions.column("region_id"), "features": features})


def _with_facts(result: CnnResult, card: cnn.Card, score: Score | None) -> CnnResult:
    """Add which rule set the model learnt, and a note where the score follows another one."""
    facts: dict[str, str | None] = {"guideline": card.guideline, "note": None}
    if score is not None and score.guideline != card.guideline:
        facts["note"] = (
            f"The model learnt {card.guideline}; the rule-based score follows {score.guideline}."
        )
    return CnnResult(**{**result.model_dump(), **facts})


def _spread(
    of_region: NDArray[np.float64], region: NDArray[np.int32], ids: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Return every cell's region's probabilities, float32 (N, 4); NaN without a region."""
    row_of = {int(r): i for i, r in enumerate(ids)}
    at = np.array([row_of.get(int(r), -1) for r in region], np.int64)
    out = np.full((len(region), len(SCORES)), np.nan, np.float32)
    out[at >= 0] = of_region[at[at >= 0]].astype(np.float32)
    return out


def _region_columns(p: NDArray[np.float64], share: float) -> pa.Table:
    decided = cnn.decide(p, share)
    columns = [pa.array([SCORES[k] if k >= 0 else None for k in decided], pa.string())]
    columns += [pa.array(p[:, k], pa.float64(), from_pandas=True) for k in range(len(SCORES))]
    return pa.Table.from_arrays(columns, schema=arrow_schema(CNN_REGIONS))


def _cell_columns(p: NDArray[np.float32]) -> pa.Table:
    columns = [pa.array(p[:, k], pa.float32(), from_pandas=True) for k in range(len(SCORES))]
    return pa.Table.from_arrays(columns, schema=arrow_schema(CNN_CELLS))

"""What a cell is judged by: its nucleus, the rings around it, and its neighbours.

Stain enters only as ratios within the cell or against its neighbours, because its strength differs
from laboratory to laboratory; sizes and distances are absolute. Membrane stain takes no part:
unstained tumour must be found as well as stained tumour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from her2path.tumour._kernels import (
    NEAREST,
    Buckets,
    bucket,
    neighbour_means,
    neighbour_ranks,
    neighbourhood,
)

__all__ = ["CONTEXT_UM", "FIRST", "SECOND", "WIDE_UM", "Table", "first_features", "second_features"]

F64 = npt.NDArray[np.float64]
Columns = Mapping[str, npt.NDArray]

#: reaches of the crowd, the close neighbourhood and the wide one, µm
CROWD_UM, NEAR_UM, WIDE_UM = 20.0, 40.0, 60.0
#: reaches over which the first stage's verdicts are averaged for the second, µm
CONTEXT_UM = (16.0, 40.0)
#: DAB in the ring counts above this OD, and not beyond the second
DAB_FROM, DAB_TO = 0.08, 0.23

#: the net's verdicts: what of its output for a tumour nucleus, and for no nucleus, is ahead
LOOK = ("look_tumour", "look_false")
OWN = (
    "log_area", "log_elongation", "contrast", "irregularity", "texture", "confidence",
    "ring_h_low", "ring_h", "ring_h_high", "outer_h", "inside_low", "inside_high",
    "ring_dab", "dab_inside", "ring_spread", "ring_outward", *LOOK,
)  # fmt: skip
#: what a cell is held against others by: log hematoxylin of nucleus and ring, DAB of the ring, log
#: area, texture, log hematoxylin of the ring's palest fifth
ALIKE = ("h", "ring_h", "dab", "area", "texture", "ring_low")
#: of these, the share of the neighbours that lie below the cell
RANKED = ("h", "ring_h", "area", "texture")
#: the net's outputs count up to here
CERTAIN = 6.0
#: a cell against its slide's usual nuclei: log area against their middle and against the large
#: ones, log hematoxylin against their middle
SLIDE = ("slide_area_mid", "slide_area_high", "slide_h_mid")
#: what stands for it where too few nuclei are seen
USUAL = (29.0, 67.0, 0.32)
#: names of the first stage's features, in order
FIRST: tuple[str, ...] = (
    *OWN,
    *(f"near_{n}" for n in OWN),
    *(f"against_{n}" for n in ALIKE), "spread_h", "spread_area", *(f"rank_{n}" for n in RANKED),
    *NEAREST,
    "near_nearest", "near_pressed", *(f"against_{n}" for n in LOOK), *SLIDE,
    "closeness", "crowding", "density",
)  # fmt: skip
#: names of the second stage's features, in order
SECOND: tuple[str, ...] = (
    "first", "context_small", "context_large", "against_context", *OWN, *NEAREST, "density",
    *(f"beside_tumour_{n}" for n in ALIKE), *(f"beside_others_{n}" for n in ALIKE),
    "tumour_near", "others_near", "tumour_close", "others_close",
    "spread_h", "spread_area", *(f"rank_{n}" for n in RANKED), *SLIDE, *(f"near_{n}" for n in LOOK),
)  # fmt: skip
#: reaches over which tumour-like and other neighbours are counted, and compared (the second), µm
ALIKE_UM = (20.0, 40.0)
#: the comparison fades to 0 where tumour-like neighbours, or others, weigh less than about this
FEW = 0.3


@dataclass(frozen=True)
class Table:
    """Features of the first stage (n, len(FIRST)), and the neighbourhoods they were taken in.

    ``alike`` (n, len(ALIKE)) is what the second stage holds a cell against its neighbours by.
    """

    values: F64
    near: Buckets
    alike: F64


def first_features(
    columns: Columns, usual: tuple[float, float, float] | None = None
) -> Table:
    """Return the features of every cell for the first stage.

    Parameters
    ----------
    columns : mapping of arrays (n,)
        ``cell_id, x_um, y_um``, the ``nucleus_*`` measures and the columns of `surroundings`.
    usual : (float, float, float), optional
        `usual_nuclei` of the slide; `USUAL` without it.

    Returns
    -------
    Table
        Right for cells whose neighbours within `WIDE_UM` are all among the columns.
    """
    x, y = (np.asarray(columns[n], dtype=np.float64) for n in ("x_um", "y_um"))
    ids = np.asarray(columns["cell_id"], dtype=np.int64)
    near = bucket(x, y, ids, WIDE_UM)
    own, compared = _own(columns)
    radius = np.sqrt(np.exp(own[:, 0]) / np.pi)
    beside = neighbourhood(near, ids, radius, own[:, 5])
    spacing = beside[:, [NEAREST.index("nearest"), NEAREST.index("pressed")]]
    squares = compared[:, [ALIKE.index("h"), ALIKE.index("area")]] ** 2
    both = np.column_stack([own, spacing, compared, squares])
    k, last = len(OWN), len(OWN) + 2 + len(ALIKE)
    looks = [OWN.index(n) for n in LOOK]
    means, weight = neighbour_means(
        near, both, (CROWD_UM, NEAR_UM, WIDE_UM), ((0, 0), (0, k + 2), (k + 2, last + 2))
    )
    lonely = weight == 0
    close = np.where(lonely[1][:, None], both, means[1])[:, : k + 2]
    against = np.where(lonely[2][:, None], 0.0, compared - means[2][:, k + 2 : last])
    ranked = compared[:, [ALIKE.index(n) for n in RANKED]]
    ranks = neighbour_ranks(near, ranked, WIDE_UM)
    spread = np.column_stack([_spread(means[2], k + 2, last), ranks])
    crowd, dense, far = np.log(weight + 0.5)
    values = np.column_stack(
        [own, close[:, :k], against, spread, beside, close[:, k:],
         own[:, looks] - close[:, looks], _slide(compared, usual),
         dense - far, crowd - dense, dense]
    )  # fmt: skip
    return Table(values, near, compared)


def _slide(compared: F64, usual: tuple[float, float, float] | None) -> F64:
    """Hold every cell against the slide's usual nuclei (n, len(SLIDE))."""
    h, area = (compared[:, ALIKE.index(n)] for n in ("h", "area"))
    middle, large, grey = np.log(usual or USUAL)
    return np.column_stack([area - middle, area - large, h - grey])


def _spread(means: F64, first: int, squares: int) -> F64:
    """Return how widely stain and size differ among the neighbours (n, 2)."""
    columns = [first + ALIKE.index("h"), first + ALIKE.index("area")]
    variance = means[:, squares : squares + 2] - means[:, columns] ** 2
    return np.sqrt(np.maximum(variance, 0.0))


def second_features(table: Table, odds: F64) -> F64:
    """Return the features of every cell for the second stage.

    Parameters
    ----------
    table : Table
        Of the first stage.
    odds : float64 (n,)
        Log odds of the first stage, for all cells.

    Returns
    -------
    float64 (n, len(SECOND))
        Right for cells whose neighbours within the largest `CONTEXT_UM` have right odds.
    """
    odds = np.clip(odds, -6.0, 6.0)
    means, weight = neighbour_means(table.near, odds[:, None], CONTEXT_UM)
    around = np.where(weight == 0, odds, means[:, :, 0])
    first = 2 * len(OWN) + len(ALIKE)
    last = first + 2 + len(RANKED)
    beside = table.values[:, last : last + len(NEAREST)]
    return np.column_stack(
        [odds, around[0], around[1], odds - around[1], table.values[:, : len(OWN)], beside,
         table.values[:, -1], _against_likes(table, odds), table.values[:, first:last],
         table.values[:, -3 - len(SLIDE) : -3],
         table.values[:, [FIRST.index(f"near_{n}") for n in LOOK]]]
    )  # fmt: skip


def _against_likes(table: Table, odds: F64) -> F64:
    """Hold every cell against its tumour-like neighbours and against the others.

    A lymphocyte in a nest is darker and smaller than the tumour nuclei beside it, and like the
    lymphocytes in the stroma; neighbours count by the first stage's probability.
    """
    share = 1.0 / (1.0 + np.exp(-odds))
    like, k = table.alike, len(ALIKE)
    values = np.column_stack([share[:, None] * like, like, share])
    means, weight = neighbour_means(
        table.near, values, ALIKE_UM, ((2 * k, 2 * k + 1), (0, 2 * k + 1))
    )
    count = means[:, :, 2 * k] * weight
    rest = weight - count
    of_tumour, of_all = means[1, :, :k], means[1, :, k : 2 * k]
    total = weight[1][:, None]
    tumour = like * count[1][:, None] - of_tumour * total
    others = like * rest[1][:, None] - (of_all - of_tumour) * total
    return np.column_stack(
        [tumour / (count[1] + FEW)[:, None], others / (rest[1] + FEW)[:, None],
         *np.log(np.stack([count[1], rest[1], count[0], rest[0]]) + 0.5)]
    )  # fmt: skip


def _own(columns: Columns) -> tuple[F64, F64]:
    """Return a cell's own features (n, len(OWN)), and what it is compared by (n, len(ALIKE)).

    In the latter, DAB of the ring is clipped, so that no membrane decides: tumour cytoplasm holds
    a little more than stroma and lymphocytes.
    """
    get = {n: np.asarray(columns[n], dtype=np.float64) for n in _USED}
    h = np.maximum(get["nucleus_hematoxylin_od"], 0.02)
    rings = [
        np.log(np.clip(get[n] / h, 0.05, 2.0))
        for n in ("ring_h20", "ring_h50", "ring_h80", "outer_h50")
    ]
    own = np.column_stack(
        [
            np.log(np.maximum(get["nucleus_area_um2"], 1.0)),
            np.log(np.maximum(get["nucleus_elongation"], 1.0)),
            get["nucleus_contrast"] / h,
            get["nucleus_irregularity"],
            np.minimum(get["nucleus_texture"], 0.5),
            get["nucleus_confidence"],
            *rings,
            np.clip(get["inside_h10"] / h, -0.5, 1.5),
            np.clip(get["inside_h90"] / h, 0.5, 3.0),
            (np.clip(get["ring_d80"], DAB_FROM, DAB_TO) - DAB_FROM) / (DAB_TO - DAB_FROM),
            np.clip(get["nucleus_dab_od"] / (h + 0.05), -0.5, 2.0),
            np.clip((get["ring_h80"] - get["ring_h20"]) / h, 0.0, 1.5),
            np.clip((get["ring_h50"] - get["outer_h50"]) / h, -1.0, 1.0),
            np.clip(get["look_tumour"], -CERTAIN, CERTAIN),
            np.clip(get["look_false"], -CERTAIN, CERTAIN),
        ]
    )
    ring, low = (np.log(np.maximum(get[n], 0.01)) for n in ("ring_h50", "ring_h20"))
    dab = np.clip(get["ring_d30"], -0.05, 0.10)
    return own, np.column_stack([np.log(h), ring, dab, own[:, 0], own[:, 4], low])


_USED = (
    "nucleus_hematoxylin_od", "nucleus_dab_od", "nucleus_area_um2", "nucleus_elongation",
    "nucleus_contrast", "nucleus_irregularity", "nucleus_texture", "nucleus_confidence",
    "ring_h20", "ring_h50", "ring_h80", "ring_d30", "ring_d80", "outer_h50",
    "inside_h10", "inside_h90", "look_tumour", "look_false",
)  # fmt: skip

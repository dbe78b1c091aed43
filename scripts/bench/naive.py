"""The straightforward way, for comparison: OpenSlide, scikit-image, tile by tile, in threads.

What a careful user would write with the usual tools: read a tile, ``rgb2hed``, smooth, threshold
the nuclei, split them by watershed, expand the labels into cells, and take the mean DAB of a ring.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openslide
from scipy import ndimage as ndi
from skimage import color, feature, filters, measure, segmentation
from skimage.morphology import disk, opening

TILE = 1024


def score_tile(rgb: np.ndarray) -> list[tuple[float, float, float]]:
    """Return (x, y, ring DAB) of every cell of one RGB tile."""
    hed = color.rgb2hed(rgb)
    smooth = filters.gaussian(hed[..., 0], 2)
    mask = smooth > filters.threshold_otsu(smooth)
    mask = opening(mask, disk(3))
    distance = ndi.distance_transform_edt(mask)
    peaks = feature.peak_local_max(distance, min_distance=8, labels=measure.label(mask))
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = segmentation.watershed(-distance, markers, mask=mask)
    cells = segmentation.expand_labels(labels, 12)
    ring = np.where(segmentation.find_boundaries(cells, mode="inner"), cells, 0)
    dab = filters.gaussian(hed[..., 2], 1)
    table = measure.regionprops_table(ring, dab, properties=("centroid", "mean_intensity"))
    return list(zip(table["centroid-1"], table["centroid-0"], table["mean_intensity"], strict=True))


def score_box(path: str, box: tuple[int, int, int, int], threads: int) -> int:
    """Score a level-0 box (x, y, width, height) tile by tile; return the number of cells."""
    x0, y0, width, height = box
    corners = [(x, y) for y in range(y0, y0 + height, TILE) for x in range(x0, x0 + width, TILE)]
    with openslide.OpenSlide(path) as slide, ThreadPoolExecutor(threads) as pool:

        def one(corner: tuple[int, int]) -> int:
            rgb = slide.read_region(corner, 0, (TILE, TILE)).convert("RGB")
            return len(score_tile(np.asarray(rgb)))

        return sum(pool.map(one, corners))
